//! Figures of a two-dimensional code: images at their codes, densities, means, samples and mosaics.

use std::f64::consts::TAU;

use ibhost_framework::analysis::AnalysisContext;
use ibhost_framework::dataset::Samples;
use ibhost_framework::noise::Noise;

use crate::figures::ellipse::tutorial_axes;
use crate::figures::plot::colour::{blues, tab10};
use crate::figures::plot::{Colour, Figure, Layer, Mark, Mosaic, Stroke, Tile};
use crate::model::Codes;

/// Cells per axis of a density.
const GRID: usize = 150;
/// Codes drawn from each of two posteriors.
const SAMPLES: usize = 128;

/// Raw images mapped to `[0, 1]` by the range of the split.
pub(crate) struct Images<'a> {
    pub(crate) samples: &'a Samples,
    low: f32,
    span: f32,
}

impl<'a> Images<'a> {
    pub(crate) fn new(samples: &'a Samples) -> Self {
        let (low, high) = samples.value_range();
        Self { samples, low, span: if high > low { high - low } else { 1.0 } }
    }

    pub(crate) fn unit(&self, index: usize) -> Vec<f32> {
        let mut values = Vec::new();
        self.samples.gather(&[index], &mut values);
        values.iter().map(|v| (v - self.low) / self.span).collect()
    }

    /// The image at `centre` with the given size; brightness becomes opacity, so that the paper shines through dark pixels.
    fn layer(&self, index: usize, centre: [f64; 2], size: [f64; 2], colour: Colour, opacity: f64) -> Layer {
        let [channels, height, width] = self.samples.shape();
        let values = self.unit(index);
        let plane = height * width;
        let grey = |i: usize| (0..channels).map(|c| f64::from(values[c * plane + i])).sum::<f64>() / channels as f64;
        let extent = [centre[0] - size[0] / 2.0, centre[0] + size[0] / 2.0, centre[1] - size[1] / 2.0, centre[1] + size[1] / 2.0];
        Layer::Cells { cells: (0..plane).map(|i| (colour, opacity * grey(i))).collect(), columns: width, extent }
    }
}

fn tutorial_ellipse(mean: [f64; 2], covariance: [[f64; 2]; 2]) -> Vec<[f64; 2]> {
    let axes = tutorial_axes(covariance);
    let (sin, cos) = axes.angle.sin_cos();
    (0..=64)
        .map(|i| {
            let t = TAU * f64::from(i) / 64.0;
            let (u, v) = (0.5 * axes.width * t.cos(), 0.5 * axes.height * t.sin());
            [mean[0] + cos * u - sin * v, mean[1] + sin * u + cos * v]
        })
        .collect()
}

/// Every ellipse in the colour of its class and every tenth image at its mean.
pub(crate) fn digits_figure(title: &str, context: &AnalysisContext<'_>, images: &Images<'_>, indices: &[usize], codes: &Codes) -> Figure {
    let limit = codes.means.iter().fold(1e-6f64, |limit, x| limit.max(x.abs()));
    let mut figure = Figure::new(title, "z 1", "z 2").within(1.05 * limit);
    for (i, &index) in indices.iter().enumerate() {
        let colour = tab10(usize::from(images.samples.label(index)));
        let points = tutorial_ellipse(codes.point(i), codes.covariances[i]);
        figure.layers.push(Layer::Curve { points, colour, opacity: 0.4, width: 2, stroke: Stroke::Solid });
    }
    // The published figure has digits of size 0.2 on axes of about 2.5.
    let size = 0.08 * limit;
    for (i, &index) in indices.iter().enumerate().step_by(10) {
        figure.layers.push(images.layer(index, codes.point(i), [size, size], [0, 0, 0], 0.6));
    }
    for (class, name) in context.data.info().classes.iter().enumerate() {
        figure.entry(name.as_str(), tab10(class), Mark::Swatch);
    }
    figure
}

/// The density of code `i` over the plane, relative to its peak, with the image at its mean.
pub(crate) fn density_figure(images: &Images<'_>, index: usize, i: usize, codes: &Codes) -> Figure {
    let limit = codes.means.iter().fold(2.0f64, |limit, x| limit.max(1.05 * x.abs()));
    let (mean, c) = (codes.point(i), codes.covariances[i]);
    let mut figure = Figure::new(format!("p(z|x), class {}", images.samples.label(index)), "z 1", "z 2").within(limit);
    let det = c[0][0] * c[1][1] - c[0][1] * c[1][0];
    let step = 2.0 * limit / GRID as f64;
    let height = |cell: usize| {
        let d = [(cell % GRID) as f64 * step + step / 2.0 - limit - mean[0], limit - step / 2.0 - (cell / GRID) as f64 * step - mean[1]];
        // Relative to the peak; a point has no density.
        if det > 0.0 { (-(c[1][1] * d[0] * d[0] - 2.0 * c[0][1] * d[0] * d[1] + c[0][0] * d[1] * d[1]) / (2.0 * det)).exp() } else { 0.0 }
    };
    let cells = (0..GRID * GRID).map(height).map(|h| (blues(h), if h > 1e-3 { (20.0 * h).min(1.0) } else { 0.0 })).collect();
    figure.layers.push(Layer::Cells { cells, columns: GRID, extent: [-limit, limit, -limit, limit] });
    figure.layers.push(images.layer(index, mean, [0.25 * limit, 0.25 * limit], [180, 30, 30], 0.8));
    figure
}

/// Means of many images in the colours of their classes.
pub(crate) fn means_figure(title: &str, context: &AnalysisContext<'_>, images: &Images<'_>, indices: &[usize], codes: &Codes) -> Figure {
    let mut figure = Figure::new(title, "z 1", "z 2");
    for (class, name) in context.data.info().classes.iter().enumerate() {
        let of_class = indices.iter().enumerate().filter(|(_, index)| usize::from(images.samples.label(**index)) == class);
        let points = of_class.map(|(i, _)| codes.point(i)).collect();
        figure.layers.push(Layer::Points { points, colour: tab10(class), opacity: 0.3, radius: 3 });
        figure.entry(name.as_str(), tab10(class), Mark::Swatch);
    }
    figure
}

/// Codes drawn from two posteriors, with the posteriors' ellipses.
pub(crate) fn samples_figure(title: &str, images: &Images<'_>, indices: &[usize], codes: &Codes, seed: u64) -> Figure {
    let mut figure = Figure::new(title, "z 1", "z 2");
    for (i, &index) in indices.iter().take(2).enumerate() {
        let (mean, c, label) = (codes.point(i), codes.covariances[i], images.samples.label(index));
        let mut stream = Noise::new(seed).stream("latent samples", i as u64);
        let first = c[0][0].max(0.0).sqrt();
        let below = if first > 0.0 { c[1][0] / first } else { 0.0 };
        let second = (c[1][1] - below * below).max(0.0).sqrt();
        let sample = |_| {
            let (u, v) = (stream.normal(), stream.normal());
            [mean[0] + first * u, mean[1] + below * u + second * v]
        };
        let colour = tab10(i);
        figure.layers.push(Layer::Points { points: (0..SAMPLES).map(sample).collect(), colour, opacity: 0.5, radius: 3 });
        let points = tutorial_ellipse(mean, c);
        figure.layers.push(Layer::Curve { points, colour, opacity: 1.0, width: 2, stroke: Stroke::Solid });
        figure.entry(format!("class {label}"), colour, Mark::Swatch);
    }
    figure
}

/// Images in a square of ten columns.
pub(crate) fn mosaic_of(title: &str, images: &Images<'_>, indices: impl Iterator<Item = usize>) -> Mosaic {
    let shape = images.samples.shape();
    let zoom = (56 / shape[1].max(shape[2]).max(1)).max(1);
    let tiles = indices.map(|index| Tile { values: images.unit(index), caption: String::new() }).collect();
    Mosaic { title: title.to_owned(), shape, columns: 10, zoom, tiles }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tutorial_ellipse_has_its_axes() {
        let points = tutorial_ellipse([1.0, 1.0], [[4.0, 0.0], [0.0, 1.0]]);
        let far = points.iter().map(|p| (p[0] - 1.0).abs()).fold(0.0, f64::max);
        let high = points.iter().map(|p| (p[1] - 1.0).abs()).fold(0.0, f64::max);
        assert!((far - 5.991f64.sqrt()).abs() < 1e-9 && (high - 0.5 * 5.991f64.sqrt()).abs() < 1e-9);
    }
}
