//! Curves of means: values of many runs against a setting, with error bars of one standard deviation.

use super::{Colour, Figure, Layer, Mark, Stroke};
use crate::figures::tables::mean_and_std;

/// Values that make one curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the legend.
    pub label: String,
    /// Colour.
    pub colour: Colour,
    /// Stroke.
    pub stroke: Stroke,
    /// Place and value; several at one place become a mean.
    pub points: Vec<(f64, f64)>,
}

/// Mean and sample standard deviation of the values at each place, places in ascending order.
pub fn statistics(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, [f64; 2])> {
    let mut at: Vec<(f64, Vec<f64>)> = Vec::new();
    for (x, value) in points {
        match at.iter_mut().find(|(place, _)| *place == x) {
            Some((_, values)) => values.push(value),
            None => at.push((x, vec![value])),
        }
    }
    at.sort_by(|a, b| a.0.total_cmp(&b.0));
    at.into_iter().map(|(x, values)| (x, mean_and_std(&values))).collect()
}

/// `label (n=3)`, or `label (n=2-3)` where places differ: how many of `points` there are at each place. `label` alone without points.
pub fn counted(label: &str, points: impl Iterator<Item = f64>) -> String {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for x in points {
        match counts.iter_mut().find(|(place, _)| *place == x) {
            Some((_, count)) => *count += 1,
            None => counts.push((x, 1)),
        }
    }
    let counts = counts.iter().map(|(_, count)| *count);
    match (counts.clone().min(), counts.max()) {
        (Some(low), Some(high)) if low == high => format!("{label} (n={low})"),
        (Some(low), Some(high)) => format!("{label} (n={low}-{high})"),
        _ => label.to_owned(),
    }
}

/// A curve of two pixels without transparency.
pub fn curve(points: Vec<[f64; 2]>, colour: Colour, stroke: Stroke) -> Layer {
    Layer::Curve { points, colour, opacity: 1.0, width: 2, stroke }
}

/// The mean of each series against a setting, with error bars where there are several values at a place. Places that span more than a factor
/// of 50 and are all positive are drawn as log10.
pub fn means_against(title: &str, setting: &str, y_label: &str, series: &[Series]) -> Figure {
    let places = series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let (low, high) = places.fold((f64::INFINITY, 0f64), |(low, high), x| (low.min(x), high.max(x)));
    let logarithmic = low > 0.0 && high / low > 50.0;
    let place = |x: f64| if logarithmic { x.log10() } else { x };
    let x_label = if logarithmic { format!("log10 {setting}") } else { setting.to_owned() };
    let width = 0.012 * (place(high) - place(low)).abs();
    let mut figure = Figure::new(title, x_label, y_label);
    for Series { label, colour, stroke, points } in series {
        let points = statistics(points.iter().map(|&(x, value)| (place(x), value)));
        if points.is_empty() {
            continue;
        }
        for &(x, [mean, std]) in points.iter().filter(|(_, [_, std])| *std > 0.0) {
            figure.layers.push(curve(vec![[x, mean - std], [x, mean + std]], *colour, Stroke::Solid));
            for end in [mean - std, mean + std] {
                figure.layers.push(curve(vec![[x - width, end], [x + width, end]], *colour, Stroke::Solid));
            }
        }
        let means: Vec<[f64; 2]> = points.iter().map(|&(x, [mean, _])| [x, mean]).collect();
        figure.layers.push(Layer::Points { points: means.clone(), colour: *colour, opacity: 1.0, radius: 3 });
        figure.layers.push(curve(means, *colour, *stroke));
        figure.entry(label.as_str(), *colour, Mark::Curve(*stroke));
    }
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_how_many_values_are_behind_a_mean() {
        let count = |points: &[f64]| counted("a", points.iter().copied());
        assert_eq!([count(&[1.0, 2.0, 1.0, 2.0]), count(&[1.0, 1.0, 2.0]), count(&[])], ["a (n=2)", "a (n=1-2)", "a"]);
    }

    #[test]
    fn places_over_decades_are_logarithmic_and_values_at_one_place_are_averaged() {
        let series =
            |points: &[(f64, f64)]| Series { label: "M=1".to_owned(), colour: [0; 3], stroke: Stroke::Dashed, points: points.to_vec() };
        let figure = means_against("rate", "beta", "bits", &[series(&[(0.1, 2.0), (1e-3, 1.0), (0.1, 4.0)]), series(&[])]);
        assert_eq!((figure.x_label.as_str(), figure.legend.len()), ("log10 beta", 1));
        let Some(Layer::Curve { points, stroke, .. }) = figure.layers.last() else { panic!("the curve comes last") };
        assert_eq!(*stroke, Stroke::Dashed);
        assert!(points.iter().zip([[-3.0, 1.0], [-1.0, 3.0]]).all(|(a, b)| (a[0] - b[0]).abs() < 1e-12 && a[1] == b[1]), "{points:?}");
        // One place has a spread: a bar and its two ends.
        assert_eq!(figure.layers.len(), 5);
        assert_eq!(means_against("", "epochs", "", &[series(&[(1.0, 1.0), (9.0, 2.0)])]).x_label, "epochs");
    }
}
