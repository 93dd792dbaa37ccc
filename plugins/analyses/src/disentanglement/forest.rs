//! A small forest of classification trees, for the importances the DCI scores are made of.

use ibhost_framework::noise::Stream;

/// Trees of a forest, levels of a tree and samples a node needs to be split.
const TREES: usize = 10;
const DEPTH: usize = 8;
const SPLIT_ABOVE: usize = 4;

/// Inner node: dimension, threshold and the children; leaf: its most frequent label.
enum Node {
    Split { dimension: usize, threshold: f64, low: Box<Node>, high: Box<Node> },
    Leaf(u16),
}

/// Trees grown on bootstrap samples by Gini impurity, every dimension considered at every node.
pub(super) struct Forest {
    trees: Vec<Node>,
    /// Impurity decrease by dimension, summing to 1 unless nothing was split.
    pub(super) importance: Vec<f64>,
}

struct Grower<'a> {
    rows: &'a [f64],
    labels: &'a [u16],
    dims: usize,
    classes: usize,
    importance: Vec<f64>,
}

impl Forest {
    /// Forest on rows `[n, dims]` with labels below `classes`.
    pub(super) fn grow(rows: &[f64], labels: &[u16], dims: usize, classes: usize, stream: &mut Stream) -> Self {
        let mut grower = Grower { rows, labels, dims, classes, importance: vec![0.0; dims] };
        let trees = (0..TREES)
            .map(|_| {
                let sample = (0..labels.len()).map(|_| stream.below(labels.len())).collect();
                grower.node(sample, DEPTH)
            })
            .collect();
        let total: f64 = grower.importance.iter().sum();
        let scale = if total > 0.0 { total } else { 1.0 };
        Self { trees, importance: grower.importance.into_iter().map(|x| x / scale).collect() }
    }

    /// The label most trees give.
    pub(super) fn predict(&self, row: &[f64], classes: usize) -> u16 {
        let mut votes = vec![0; classes];
        for tree in &self.trees {
            let mut node = tree;
            let label = loop {
                match node {
                    Node::Leaf(label) => break *label,
                    Node::Split { dimension, threshold, low, high } => node = if row[*dimension] <= *threshold { low } else { high },
                }
            };
            votes[usize::from(label)] += 1;
        }
        most_frequent(&votes)
    }
}

fn most_frequent(counts: &[usize]) -> u16 {
    counts.iter().enumerate().max_by_key(|(label, count)| (**count, usize::MAX - label)).map_or(0, |(label, _)| label as u16)
}

/// n times the Gini impurity of `counts`.
fn impurity(counts: &[usize], n: usize) -> f64 {
    let squares: f64 = counts.iter().map(|&c| (c * c) as f64).sum();
    n as f64 - squares / (n.max(1)) as f64
}

impl Grower<'_> {
    fn counts(&self, sample: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &i in sample {
            counts[usize::from(self.labels[i])] += 1;
        }
        counts
    }

    fn node(&mut self, sample: Vec<usize>, depth: usize) -> Node {
        let counts = self.counts(&sample);
        let leaf = Node::Leaf(most_frequent(&counts));
        if depth == 0 || sample.len() <= SPLIT_ABOVE || impurity(&counts, sample.len()) <= 0.0 {
            return leaf;
        }
        let Some((gain, dimension, threshold)) = self.best_split(&sample, &counts) else { return leaf };
        self.importance[dimension] += gain;
        let (low, high) = sample.into_iter().partition(|&i| self.rows[i * self.dims + dimension] <= threshold);
        Node::Split { dimension, threshold, low: Box::new(self.node(low, depth - 1)), high: Box::new(self.node(high, depth - 1)) }
    }

    /// The split that lowers the impurity most.
    fn best_split(&self, sample: &[usize], counts: &[usize]) -> Option<(f64, usize, f64)> {
        let whole = impurity(counts, sample.len());
        let mut best: Option<(f64, usize, f64)> = None;
        for dimension in 0..self.dims {
            let mut sorted: Vec<(f64, usize)> = sample.iter().map(|&i| (self.rows[i * self.dims + dimension], i)).collect();
            sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let (mut low, mut high) = (vec![0; self.classes], counts.to_vec());
            for at in 1..sorted.len() {
                let label = usize::from(self.labels[sorted[at - 1].1]);
                low[label] += 1;
                high[label] -= 1;
                if sorted[at].0 > sorted[at - 1].0 {
                    let gain = whole - impurity(&low, at) - impurity(&high, sorted.len() - at);
                    if gain > best.map_or(1e-9, |(g, _, _)| g) {
                        best = Some((gain, dimension, f64::midpoint(sorted[at].0, sorted[at - 1].0)));
                    }
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn the_dimension_that_decides_is_found_and_predicts() {
        let mut stream = Noise::new(1).stream("forest", 0);
        let rows: Vec<f64> = (0..600).map(|_| stream.normal()).collect();
        let labels: Vec<u16> = rows.chunks_exact(3).map(|row| u16::from(row[1] > 0.2) + u16::from(row[1] > 1.0)).collect();
        let forest = Forest::grow(&rows, &labels, 3, 3, &mut stream);
        assert!(forest.importance[1] > 0.95 && (forest.importance.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!([-1.0, 0.6, 2.0].map(|x| forest.predict(&[9.0, x, -9.0], 3)), [0, 1, 2]);
        assert_eq!(Forest::grow(&rows, &[0; 200], 3, 1, &mut stream).importance, [0.0; 3]);
    }
}
