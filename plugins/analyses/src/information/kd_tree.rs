//! Exact k-d tree for few dimensions: distance of the k-th neighbour, and counts of points inside a ball without listing them.
//!
//! Counting takes whole subtrees at once, which tree crates that return lists of neighbours cannot do; the estimators of mutual
//! information count hundreds of points around every sample.

/// How far two points are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Largest difference.
    Max,
    /// Root of the sum of squares.
    Euclidean,
}

impl Norm {
    /// One difference as it enters [`Norm::combine`].
    #[inline]
    pub(crate) fn part(self, difference: f64) -> f64 {
        match self {
            Self::Max => difference.abs(),
            Self::Euclidean => difference * difference,
        }
    }

    /// Adds one part; comparisons are made on these sums, of which the Euclidean one is squared.
    #[inline]
    pub(crate) fn combine(self, sum: f64, part: f64) -> f64 {
        match self {
            Self::Max => sum.max(part),
            Self::Euclidean => sum + part,
        }
    }

    /// The distance a sum of parts stands for.
    pub(crate) fn finish(self, sum: f64) -> f64 {
        match self {
            Self::Max => sum,
            Self::Euclidean => sum.sqrt(),
        }
    }
}

/// Whether a ball contains its surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ball {
    /// Closer than the radius.
    Open,
    /// At most the radius away.
    Closed,
}

impl Ball {
    #[inline]
    pub(crate) fn holds(self, distance: f64, radius: f64) -> bool {
        match self {
            Self::Open => distance < radius,
            Self::Closed => distance <= radius,
        }
    }
}

/// Points in a leaf.
const LEAF: usize = 12;

#[derive(Clone, Debug)]
struct Node<const D: usize> {
    low: [f64; D],
    high: [f64; D],
    start: u32,
    end: u32,
    /// The right child; the left one comes right after its parent. 0 in leaves.
    right: u32,
}

/// A balanced tree over points of `D` dimensions.
#[derive(Clone, Debug)]
pub struct Tree<const D: usize> {
    /// In tree order, so that neighbours lie side by side in memory.
    points: Vec<[f64; D]>,
    order: Vec<u32>,
    nodes: Vec<Node<D>>,
}

impl<const D: usize> Tree<D> {
    /// A tree over `rows`, at most 2^32 points of finite coordinates.
    pub fn new(rows: &[[f64; D]]) -> Self {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        let mut nodes = Vec::with_capacity(2 * rows.len() / LEAF + 1);
        if !rows.is_empty() {
            build(rows, &mut order, 0, &mut nodes);
        }
        Self { points: order.iter().map(|&i| rows[i as usize]).collect(), order, nodes }
    }

    /// Row numbers in the order that visits neighbouring points one after the other.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The point at `position` of [`Tree::order`].
    pub fn point(&self, position: usize) -> &[f64; D] {
        &self.points[position]
    }

    /// Distance, as a sum of parts, from the point at `position` to its `k`-th nearest other point; infinite when there are fewer.
    pub fn kth(&self, position: usize, k: usize, norm: Norm) -> f64 {
        let mut best = Best::new(k);
        if !self.nodes.is_empty() && k > 0 {
            self.search(0, position, norm, &mut best);
        }
        best.worst()
    }

    fn search(&self, at: usize, position: usize, norm: Norm, best: &mut Best) {
        let (node, query) = (&self.nodes[at], &self.points[position]);
        if node.right == 0 {
            for i in node.start as usize..node.end as usize {
                let distance = between(query, &self.points[i], norm);
                if i != position && distance < best.worst() {
                    best.insert(distance);
                }
            }
            return;
        }
        let children = [at + 1, node.right as usize].map(|child| (nearest(query, &self.nodes[child], norm), child));
        let (first, second) = if children[0].0 <= children[1].0 { (children[0], children[1]) } else { (children[1], children[0]) };
        for (bound, child) in [first, second] {
            if bound < best.worst() {
                self.search(child, position, norm, best);
            }
        }
    }

    /// How many points, the query among them if it is one, lie in the ball of `radius` (a sum of parts) around `query`.
    pub fn count(&self, query: &[f64; D], radius: f64, ball: Ball, norm: Norm) -> usize {
        if self.nodes.is_empty() {
            return 0;
        }
        let (mut total, mut stack) = (0, [0u32; 64]);
        let mut depth = 1;
        while depth > 0 {
            depth -= 1;
            let at = stack[depth] as usize;
            let node = &self.nodes[at];
            if !ball.holds(nearest(query, node, norm), radius) {
                continue;
            }
            if ball.holds(farthest(query, node, norm), radius) {
                total += (node.end - node.start) as usize;
            } else if node.right == 0 {
                let points = &self.points[node.start as usize..node.end as usize];
                total += points.iter().filter(|point| ball.holds(between(query, point, norm), radius)).count();
            } else {
                (stack[depth], stack[depth + 1]) = (at as u32 + 1, node.right);
                depth += 2;
            }
        }
        total
    }
}

/// The smallest distances so far, ascending.
pub(crate) struct Best {
    distances: Vec<f64>,
}

impl Best {
    /// Room for the `k` smallest, at least one.
    pub(crate) fn new(k: usize) -> Self {
        Self { distances: vec![f64::INFINITY; k] }
    }

    /// The largest of the smallest; infinite until there are enough.
    #[inline]
    pub(crate) fn worst(&self) -> f64 {
        self.distances.last().copied().unwrap_or(f64::INFINITY)
    }

    /// Takes in a distance below [`Best::worst`].
    pub(crate) fn insert(&mut self, distance: f64) {
        let mut at = self.distances.len() - 1;
        while at > 0 && self.distances[at - 1] > distance {
            self.distances[at] = self.distances[at - 1];
            at -= 1;
        }
        self.distances[at] = distance;
    }
}

#[inline]
fn between<const D: usize>(a: &[f64; D], b: &[f64; D], norm: Norm) -> f64 {
    (0..D).fold(0.0, |sum, d| norm.combine(sum, norm.part(a[d] - b[d])))
}

/// Smallest distance a point of the node's box can have. Rounding is monotone, so this bounds the computed distances too.
#[inline]
fn nearest<const D: usize>(query: &[f64; D], node: &Node<D>, norm: Norm) -> f64 {
    (0..D).fold(0.0, |sum, d| norm.combine(sum, norm.part((node.low[d] - query[d]).max(query[d] - node.high[d]).max(0.0))))
}

#[inline]
fn farthest<const D: usize>(query: &[f64; D], node: &Node<D>, norm: Norm) -> f64 {
    (0..D).fold(0.0, |sum, d| norm.combine(sum, norm.part((query[d] - node.low[d]).abs().max((node.high[d] - query[d]).abs()))))
}

fn build<const D: usize>(rows: &[[f64; D]], order: &mut [u32], start: usize, nodes: &mut Vec<Node<D>>) {
    let (mut low, mut high) = ([f64::INFINITY; D], [f64::NEG_INFINITY; D]);
    for &i in order.iter() {
        for d in 0..D {
            (low[d], high[d]) = (low[d].min(rows[i as usize][d]), high[d].max(rows[i as usize][d]));
        }
    }
    let at = nodes.len();
    nodes.push(Node { low, high, start: start as u32, end: (start + order.len()) as u32, right: 0 });
    if order.len() <= LEAF {
        return;
    }
    let widest = (0..D).max_by(|&a, &b| (high[a] - low[a]).total_cmp(&(high[b] - low[b]))).unwrap_or(0);
    let middle = order.len() / 2;
    order.select_nth_unstable_by(middle, |&a, &b| rows[a as usize][widest].total_cmp(&rows[b as usize][widest]));
    let (left, right) = order.split_at_mut(middle);
    build(rows, left, start, nodes);
    nodes[at].right = nodes.len() as u32;
    build(rows, right, start + middle, nodes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn neighbours_and_counts_equal_brute_force_with_ties_and_copies() {
        let mut stream = Noise::new(2).stream("points", 0);
        // A coarse grid makes many equal distances.
        let rows: Vec<[f64; 3]> = (0..500).map(|_| [0, 1, 2].map(|_| (stream.normal() * 3.0).round() / 2.0)).collect();
        let tree = Tree::new(&rows);
        for norm in [Norm::Max, Norm::Euclidean] {
            for position in (0..500).step_by(7) {
                let query = *tree.point(position);
                assert_eq!(query, rows[tree.order()[position] as usize]);
                let mut all: Vec<f64> = rows.iter().map(|row| between(&query, row, norm)).collect();
                all.sort_by(f64::total_cmp);
                for k in [1, 4, 9] {
                    let kth = tree.kth(position, k, norm);
                    assert_eq!(kth, all[k], "the query itself is the nearest of all");
                    for ball in [Ball::Open, Ball::Closed] {
                        let inside = all.iter().filter(|&&d| ball.holds(d, kth)).count();
                        assert_eq!(tree.count(&query, kth, ball, norm), inside);
                    }
                }
            }
        }
    }

    #[test]
    fn few_points() {
        let tree = Tree::new(&[[1.0], [2.0]]);
        assert_eq!((tree.kth(0, 1, Norm::Max), tree.kth(0, 2, Norm::Max)), (1.0, f64::INFINITY));
        assert_eq!(Tree::<2>::new(&[]).count(&[0.0, 0.0], 1.0, Ball::Closed, Norm::Max), 0);
    }
}
