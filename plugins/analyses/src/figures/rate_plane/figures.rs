//! Figures of a grid of models over the plane of the two rates.

use super::colour::{bytes, pair_colour, value_colour};
use super::frontier::{Edge, frontier};
use super::grid::{BetaGrid, Evaluated};
use crate::figures::plot::{Colour, Figure, Layer, Mark, PlotError, Shape, Solid, Space, SpaceAxis, Stroke, panels_png, spaces_png};
use crate::information::accuracy_bound::AccuracyBound;

/// A picture and the name of its file.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Without folder, e.g. `rate-plane.png`.
    pub name: &'static str,
    /// A PNG file.
    pub bytes: Vec<u8>,
}

/// A measured value: key, label, and which edge of it is good.
pub(super) struct Metric {
    pub(super) key: &'static str,
    pub(super) label: &'static str,
    edge: Edge,
    /// Whether the accuracy bound of the top level limits it.
    bounded: bool,
}

const fn metric(key: &'static str, label: &'static str, edge: Edge, bounded: bool) -> Metric {
    Metric { key, label, edge, bounded }
}

/// In the order of the panels.
pub(super) const METRICS: [Metric; 20] = [
    metric("fid", "Frechet distance", Edge::Lower, false),
    metric("inception_score", "inception score", Edge::Upper, false),
    metric("diversity", "diversity", Edge::Upper, false),
    metric("sharpness", "sharpness", Edge::Upper, false),
    metric("psnr", "PSNR / dB", Edge::Upper, false),
    metric("reconstruction_accuracy", "accuracy on reconstructions", Edge::Upper, false),
    metric("recons_entropy", "entropy on reconstructions / nats", Edge::Lower, false),
    metric("information_top", "I(z;label), top level / nats", Edge::Upper, false),
    metric("logistic_top_mean", "logistic, top means", Edge::Upper, true),
    metric("svm_rbf_top_mean", "RBF SVM, top means", Edge::Upper, true),
    metric("svm_linear_top_mean", "linear SVM, top means", Edge::Upper, true),
    metric("knn_top_mean", "5-NN, top means", Edge::Upper, true),
    metric("logistic_top_sample", "logistic, top samples", Edge::Upper, true),
    metric("svm_rbf_top_sample", "RBF SVM, top samples", Edge::Upper, true),
    metric("svm_linear_top_sample", "linear SVM, top samples", Edge::Upper, true),
    metric("knn_top_sample", "5-NN, top samples", Edge::Upper, true),
    metric("logistic_lower_mean", "logistic, lower means", Edge::Upper, false),
    metric("svm_rbf_lower_mean", "RBF SVM, lower means", Edge::Upper, false),
    metric("svm_linear_lower_mean", "linear SVM, lower means", Edge::Upper, false),
    metric("knn_lower_mean", "5-NN, lower means", Edge::Upper, false),
];

const COLUMNS: usize = 4;
const RED: Colour = [214, 39, 40];
const BLACK: Colour = [0, 0, 0];
const PURPLE: Colour = [148, 0, 211];
const GREY: Colour = [150, 150, 150];
/// Largest weight of the colour key.
const LARGEST_BETA: f64 = 12.0;
/// Guides of equal total rate.
const GUIDES: usize = 15;
pub(super) const TOP_RATE: &str = "R(top) / nats";
pub(super) const LOWER_RATE: &str = "R(lower | top) / nats";

/// Colour of a ring: a frontier model, an ordinary evidence lower bound, another model with equal weights, or none.
fn ring(model: &Evaluated, on_frontier: bool) -> Option<Colour> {
    match (model.is_plain(), model.is_diagonal(), on_frontier) {
        (true, ..) => Some(BLACK),
        (_, true, _) => Some(RED),
        (_, _, true) => Some(PURPLE),
        _ => None,
    }
}

/// Models that have the value, with its colour and their ring.
fn seen<'a>(models: &'a [Evaluated], metric: &Metric) -> Vec<(&'a Evaluated, f64, Colour, Option<Colour>)> {
    let models: Vec<&Evaluated> = models.iter().filter(|m| m.value(metric.key).is_finite()).collect();
    let points: Vec<[f64; 2]> = models.iter().map(|m| [m.total_rate(), m.value(metric.key)]).collect();
    let on_edge = frontier(&points, metric.edge);
    let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p[1]), high.max(p[1])));
    let position = |value: f64| if high > low { (value - low) / (high - low) } else { 0.5 };
    let each = |(i, model): (usize, &&'a Evaluated)| {
        (*model, points[i][1], value_colour(position(points[i][1])), ring(model, on_edge.contains(&i)))
    };
    models.iter().enumerate().map(each).collect()
}

fn disc(figure: &mut Figure, at: [f64; 2], colour: Colour, ring: Option<Colour>) {
    if let Some(ring) = ring {
        figure.layers.push(Layer::Points { points: vec![at], colour: ring, opacity: 1.0, radius: 8 });
    }
    figure.layers.push(Layer::Points { points: vec![at], colour, opacity: 1.0, radius: 5 });
}

/// Metric over the plane of both rates, with guides of equal total rate.
fn plane(models: &[Evaluated], metric: &Metric) -> Figure {
    let mut figure = Figure::new(metric.label, TOP_RATE, LOWER_RATE);
    let seen = seen(models, metric);
    let most = |part: usize| seen.iter().map(|(m, ..)| m.rate[part]).fold(0.0, f64::max);
    let (right, up) = (1.05 * most(1).max(1e-3), 1.05 * most(0).max(1e-3));
    (figure.x_range, figure.y_range) = (Some([-0.05 * right, right]), Some([-0.05 * up, up]));
    for guide in 0..GUIDES {
        // Two points of a line inside the axes; the renderer leaves out what is not.
        let total = (right + up) * (guide as f64 + 1.0) / GUIDES as f64;
        let (from, to) = ((total - up).max(0.0), total.min(right));
        if from < to {
            let points = vec![[from, total - from], [to, total - to]];
            figure.layers.push(Layer::Curve { points, colour: GREY, opacity: 0.5, width: 1, stroke: Stroke::Dashed });
        }
    }
    let (low, high) = seen.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(s.1), high.max(s.1)));
    for (model, _, colour, ring) in &seen {
        disc(&mut figure, [model.rate[1], model.rate[0]], *colour, *ring);
    }
    for (position, value) in [(1.0, high), (0.5, 0.5 * (low + high)), (0.0, low)] {
        figure.entry(format!("{value:.3}"), value_colour(position), Mark::Swatch);
    }
    figure
}

/// Metric over the total rate; the accuracy bound from the top level's information beside it where it applies.
fn over_total(models: &[Evaluated], metric: &Metric, bound: Option<AccuracyBound>) -> Figure {
    let mut figure = Figure::new(metric.label, "R = R(top) + R(lower | top) / nats", metric.label);
    if let (true, Some(bound)) = (metric.bounded, bound) {
        let mut points: Vec<[f64; 2]> = models
            .iter()
            .filter(|m| m.value("information_top").is_finite())
            .map(|m| [m.total_rate(), bound.accuracy(m.value("information_top"))])
            .collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        figure.layers.push(Layer::Curve { points, colour: BLACK, opacity: 0.7, width: 1, stroke: Stroke::Dashed });
    }
    for (model, value, colour, ring) in seen(models, metric) {
        disc(&mut figure, [model.total_rate(), value], colour, ring);
    }
    figure
}

/// Sampled-code accuracy over the information of the top level, under the curve of the bound.
fn against_bound(models: &[Evaluated], metric: &Metric, bound: AccuracyBound) -> Figure {
    let mut figure = Figure::new(metric.label, "I(z;label) / nats", "accuracy");
    let points = (0..=200).map(|i| f64::from(i) / 200.0 * bound.entropy).map(|i| [i, bound.accuracy(i)]).collect();
    figure.layers.push(Layer::Curve { points, colour: BLACK, opacity: 1.0, width: 2, stroke: Stroke::Dashed });
    for (model, value, _, ring) in seen(models, metric) {
        let colour = bytes(pair_colour(model.beta.map(f64::ln), LARGEST_BETA));
        disc(&mut figure, [model.value("information_top"), value], colour, ring);
    }
    figure.x_range = Some([-0.05 * bound.entropy, 1.05 * bound.entropy]);
    figure.y_range = Some([0.0, 1.05]);
    figure
}

/// Metric as height over the plane of both rates.
fn scatter(models: &[Evaluated], metric: &Metric) -> Space {
    let seen = seen(models, metric);
    let mark = |(model, value, colour, ring): &(&Evaluated, f64, Colour, Option<Colour>)| {
        let at = [model.rate[1], model.rate[0], *value];
        Solid::Mark { at, colour: *colour, ring: *ring, radius: 4.0, shape: Shape::Disc }
    };
    Space {
        title: metric.label.to_owned(),
        axes: [
            SpaceAxis::around(TOP_RATE, seen.iter().map(|(m, ..)| m.rate[1])),
            SpaceAxis::around(LOWER_RATE, seen.iter().map(|(m, ..)| m.rate[0])),
            SpaceAxis::around(metric.label, seen.iter().map(|s| s.1)),
        ],
        solids: seen.iter().map(mark).collect(),
    }
}

/// A matrix over both weights, rows from the largest weight of the lower level.
fn heat_map(models: &[Evaluated], grid: &BetaGrid, title: &str, value: impl Fn(&Evaluated) -> f64) -> Figure {
    let matrix = grid.matrix(models, value);
    let finite = || matrix.iter().copied().filter(|v| v.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let cell = |value: &f64| {
        let position = if high > low { (value - low) / (high - low) } else { 0.5 };
        (value_colour(position), if value.is_finite() { 1.0 } else { 0.0 })
    };
    let mut figure = Figure::new(title, "log10 beta of the top level", "log10 beta of the lower level");
    // Weights are spaced evenly on a logarithmic axis; a single one still needs a width.
    let span = |values: &[f64]| {
        let (first, last) = (values.first().copied().unwrap_or(1.0).log10(), values.last().copied().unwrap_or(1.0).log10());
        let half = if values.len() > 1 { 0.5 * (last - first) / (values.len() - 1) as f64 } else { 0.5 };
        [first - half, last + half]
    };
    let ([left, right], [bottom, top]) = (span(&grid.top), span(&grid.lower));
    (figure.x_range, figure.y_range) = (Some([left, right]), Some([bottom, top]));
    let cells = matrix.iter().map(cell).collect();
    figure.layers.push(Layer::Cells { cells, columns: grid.top.len(), extent: [left, right, bottom, top] });
    for (position, value) in [(1.0, high), (0.5, 0.5 * (low + high)), (0.0, low)] {
        figure.entry(format!("{value:.3}"), value_colour(position), Mark::Swatch);
    }
    figure
}

/// Optima of the three values, with their outline.
fn optima(models: &[Evaluated], keys: [&str; 3]) -> Vec<(usize, Shape)> {
    let shapes = [Shape::Triangle, Shape::Pentagon, Shape::Diamond];
    let best = |key: &str| {
        let finite = models.iter().enumerate().filter(|(_, m)| m.value(key).is_finite());
        finite.max_by(|(_, a), (_, b)| a.value(key).total_cmp(&b.value(key))).map(|(i, _)| i)
    };
    keys.iter().zip(shapes).filter_map(|(key, shape)| best(key).map(|i| (i, shape))).collect()
}

/// PSNR, inception score and RBF-SVM accuracy on the top level as a surface over the grid, coloured by the pair of weights, with grey
/// projections on the walls.
fn surface(models: &[Evaluated], grid: &BetaGrid) -> Space {
    let keys = ["psnr", "inception_score", "svm_rbf_top_mean"];
    let at = |m: &Evaluated| keys.map(|key| m.value(key));
    let complete = |m: &&Evaluated| at(m).iter().all(|v| v.is_finite());
    let known: Vec<&Evaluated> = models.iter().filter(complete).collect();
    let axis = |part: usize, label: &str| SpaceAxis::around(label, known.iter().map(|m| at(m)[part]));
    let mut axes = [axis(0, "PSNR / dB"), axis(1, "inception score"), axis(2, "RBF SVM accuracy, top means")];
    axes[2].range = [0.0, 0.9f64.max(axes[2].range[1])];
    let colour = |m: &Evaluated| bytes(pair_colour(m.beta.map(f64::ln), LARGEST_BETA));
    let cell = |row: usize, column: usize| known.iter().copied().find(|m| grid.cell(m.beta) == Some(row * grid.top.len() + column));
    let mut solids = Vec::new();
    for row in 1..grid.lower.len() {
        for column in 1..grid.top.len() {
            let corners = [cell(row - 1, column - 1), cell(row - 1, column), cell(row, column), cell(row, column - 1)];
            let corners: Vec<&Evaluated> = corners.into_iter().flatten().collect();
            if corners.len() < 3 {
                continue;
            }
            let face: Vec<[f64; 3]> = corners.iter().map(|m| at(m)).collect();
            for (part, end) in [(0, 0), (1, 1), (2, 0)] {
                let mut flat = face.clone();
                for corner in &mut flat {
                    corner[part] = axes[part].range[end];
                }
                solids.push(Solid::Face { corners: flat, colour: GREY, opacity: 0.25 });
            }
            let mean = corners.iter().fold([0.0; 2], |sum, m| [0, 1].map(|i| sum[i] + m.beta[i].ln() / corners.len() as f64));
            solids.push(Solid::Face { corners: face, colour: bytes(pair_colour(mean, LARGEST_BETA)), opacity: 0.85 });
        }
    }
    for model in &known {
        let ring = model.is_plain().then_some(BLACK);
        solids.push(Solid::Mark { at: at(model), colour: colour(model), ring, radius: 2.5, shape: Shape::Disc });
    }
    for (i, shape) in optima(models, keys) {
        let from = at(&models[i]);
        solids.push(Solid::Mark { at: from, colour: colour(&models[i]), ring: Some(BLACK), radius: 6.0, shape });
        solids.push(Solid::Dashed { ends: [from, [from[0], from[1], axes[2].range[0]]], colour: BLACK });
    }
    Space { title: "PSNR, inception score and accuracy".to_owned(), axes, solids }
}

/// Which colour is which pair of weights.
fn colour_key(models: &[Evaluated]) -> Figure {
    const CELLS: usize = 60;
    let limit = LARGEST_BETA.ln();
    let mut figure = Figure::new("colour key", "ln beta of the top level", "ln beta of the lower level").within(limit);
    let at = |i: usize| limit * (2.0 * (i as f64 + 0.5) / CELLS as f64 - 1.0);
    let cells =
        (0..CELLS).rev().flat_map(|row| (0..CELLS).map(move |column| (bytes(pair_colour([at(row), at(column)], LARGEST_BETA)), 1.0)));
    figure.layers.push(Layer::Cells { cells: cells.collect(), columns: CELLS, extent: [-limit, limit, -limit, limit] });
    let points = vec![[-limit, -limit], [limit, limit]];
    figure.layers.push(Layer::Curve { points, colour: RED, opacity: 1.0, width: 2, stroke: Stroke::Dashed });
    let dots = models.iter().map(|m| [m.beta[1].ln(), m.beta[0].ln()]).collect();
    figure.layers.push(Layer::Points { points: dots, colour: [255; 3], opacity: 0.8, radius: 2 });
    figure.layers.push(Layer::Points { points: vec![[0.0, 0.0]], colour: BLACK, opacity: 1.0, radius: 5 });
    for ((i, _), colour) in
        optima(models, ["psnr", "inception_score", "svm_rbf_top_mean"]).into_iter().zip([RED, [31, 119, 180], [44, 160, 44]])
    {
        figure.layers.push(Layer::Points {
            points: vec![[models[i].beta[1].ln(), models[i].beta[0].ln()]],
            colour,
            opacity: 1.0,
            radius: 7,
        });
    }
    figure.entry("best PSNR", RED, Mark::Swatch);
    figure.entry("best inception score", [31, 119, 180], Mark::Swatch);
    figure.entry("best accuracy", [44, 160, 44], Mark::Swatch);
    figure
}

/// Every figure of a set of models: values over the rate plane, as heights over it, over the total rate with the accuracy bound, accuracy
/// against the bound, heat maps over the weights, and the surface of three values with its colour key. Values nobody has are left out.
///
/// # Errors
/// [`PlotError`] when the renderer refuses.
pub fn pictures(models: &[Evaluated], bound: Option<AccuracyBound>) -> Result<Vec<Picture>, PlotError> {
    let grid = BetaGrid::new(&models.iter().map(|m| m.beta).collect::<Vec<_>>());
    let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| models.iter().any(|m| m.value(metric.key).is_finite())).collect();
    let size = |panels: usize, columns: usize| (460 * columns as u32, 380 * panels.div_ceil(columns).max(1) as u32);
    let columns = metrics.len().clamp(1, COLUMNS);
    let panels = size(metrics.len(), columns);
    let mut drawn = Vec::new();
    let mut put = |name, bytes| drawn.push(Picture { name, bytes });
    let planes: Vec<Figure> = metrics.iter().map(|metric| plane(models, metric)).collect();
    put("rate-plane.png", panels_png(&planes, columns, panels)?);
    let totals: Vec<Figure> = metrics.iter().map(|metric| over_total(models, metric, bound)).collect();
    put("total-rate.png", panels_png(&totals, columns, panels)?);
    let spaces: Vec<Space> = metrics.iter().map(|metric| scatter(models, metric)).collect();
    put("rate-space.png", spaces_png(&spaces, columns, panels)?);
    if let Some(bound) = bound {
        let probes = metrics.iter().filter(|metric| metric.bounded);
        let figures: Vec<Figure> = probes.map(|metric| against_bound(models, metric, bound)).collect();
        if !figures.is_empty() {
            put("accuracy-bound.png", panels_png(&figures, COLUMNS.min(figures.len()), size(figures.len(), COLUMNS.min(figures.len())))?);
        }
    }
    let maps = [
        heat_map(models, &grid, "distortion -ln p(x|z) / nats", |m| m.value("distortion")),
        heat_map(models, &grid, "I(z;label), top level / nats", |m| m.value("information_top")),
        heat_map(models, &grid, TOP_RATE, |m| m.rate[1]),
        heat_map(models, &grid, LOWER_RATE, |m| m.rate[0]),
    ];
    put("heat-maps.png", panels_png(&maps, 2, size(4, 2))?);
    if metrics.iter().any(|m| m.key == "psnr") && metrics.iter().any(|m| m.key == "inception_score") {
        put("three-values.png", spaces_png(&[surface(models, &grid)], 1, (760, 680))?);
    }
    put("colour-key.png", panels_png(&[colour_key(models)], 1, (760, 560))?);
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::figures::plot::{decode_png, show};

    fn models() -> Vec<Evaluated> {
        let betas = [0.1, 1.0, 10.0];
        let pairs = betas.iter().flat_map(|&lower| betas.iter().map(move |&top| [lower, top]));
        let one = |(i, beta): (usize, [f64; 2])| {
            let value = |shift: f64| (i as f64 * 1.7 + shift).sin().abs();
            let values = [("psnr", 10.0 + 8.0 * value(0.0)), ("inception_score", 1.0 + 8.0 * value(1.0)), ("svm_rbf_top_mean", value(2.0))];
            let mut values: BTreeMap<String, f64> = values.iter().map(|(key, v)| ((*key).to_owned(), *v)).collect();
            values.insert("information_top".to_owned(), 2.3 * value(0.5));
            values.insert("svm_rbf_top_sample".to_owned(), 0.9 * value(0.4));
            values.insert("distortion".to_owned(), if i == 4 { f64::NAN } else { 80.0 * value(3.0) });
            Evaluated { run: i.to_string(), beta, rate: [50.0 / (1.0 + beta[0]), 20.0 / (0.5 + beta[1])], values }
        };
        pairs.enumerate().map(one).collect()
    }

    #[test]
    fn every_figure_is_drawn_and_shows_its_models() {
        let models = models();
        let pictures = pictures(&models, Some(AccuracyBound::new(&[1.0; 10]))).unwrap();
        let names: Vec<&str> = pictures.iter().map(|p| p.name).collect();
        let expected = [
            "rate-plane.png",
            "total-rate.png",
            "rate-space.png",
            "accuracy-bound.png",
            "heat-maps.png",
            "three-values.png",
            "colour-key.png",
        ];
        assert_eq!(names, expected);
        for picture in &pictures {
            show(picture.name, &picture.bytes);
            let (_, pixels) = decode_png(&picture.bytes);
            assert!(pixels.iter().filter(|p| **p != [255; 3]).count() > 2000, "{}", picture.name);
        }
        let rings = |picture: &Picture, colour: Colour| decode_png(&picture.bytes).1.iter().filter(|p| **p == colour).count();
        assert!(rings(&pictures[0], RED) > 20 && rings(&pictures[0], PURPLE) > 20);
    }

    #[test]
    fn a_single_model_without_values_can_be_drawn() {
        let one = Evaluated { run: "a".to_owned(), beta: [1.0, 1.0], rate: [2.0, 3.0], values: BTreeMap::new() };
        assert!(pictures(&[one], None).unwrap().len() >= 4);
    }
}
