//! A figure as data: axes with labels and the layers drawn over each other.

use super::Colour;

/// How a curve is stroked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Without gaps.
    Solid,
    /// Interrupted.
    Dashed,
}

/// How an entry of the legend looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A filled square.
    Swatch,
    /// A piece of curve.
    Curve(Stroke),
}

/// One thing drawn in data coordinates. Points that are not finite interrupt a curve and are otherwise left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Filled discs.
    Points {
        /// Centres.
        points: Vec<[f64; 2]>,
        /// Colour.
        colour: Colour,
        /// Between 0 and 1.
        opacity: f64,
        /// In pixels.
        radius: u32,
    },
    /// An open or closed curve.
    Curve {
        /// Corners.
        points: Vec<[f64; 2]>,
        /// Colour.
        colour: Colour,
        /// Between 0 and 1.
        opacity: f64,
        /// In pixels.
        width: u32,
        /// Stroke.
        stroke: Stroke,
    },
    /// The region between two curves over the same x.
    Band {
        /// x, lower y, upper y.
        points: Vec<[f64; 3]>,
        /// Colour.
        colour: Colour,
        /// Between 0 and 1.
        opacity: f64,
    },
    /// A grid of coloured cells, first row at the top.
    Cells {
        /// Colour and opacity of each cell, row by row; cells of opacity 0 are not drawn.
        cells: Vec<(Colour, f64)>,
        /// Cells in a row.
        columns: usize,
        /// Left, right, bottom, top.
        extent: [f64; 4],
    },
}

impl Layer {
    /// Corners of everything in the layer, for automatic axes.
    fn corners(&self) -> Vec<[f64; 2]> {
        match self {
            Self::Points { points, .. } | Self::Curve { points, .. } => points.clone(),
            Self::Band { points, .. } => points.iter().flat_map(|p| [[p[0], p[1]], [p[0], p[2]]]).collect(),
            Self::Cells { extent: [left, right, bottom, top], .. } => vec![[*left, *bottom], [*right, *top]],
        }
    }
}

/// Axes, title, legend and layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Above the axes.
    pub title: String,
    /// Below the horizontal axis, with unit.
    pub x_label: String,
    /// Beside the vertical axis, with unit.
    pub y_label: String,
    /// Fixed horizontal range; what lies outside is left out.
    pub x_range: Option<[f64; 2]>,
    /// Fixed vertical range; what lies outside is left out.
    pub y_range: Option<[f64; 2]>,
    /// From back to front.
    pub layers: Vec<Layer>,
    /// Right of the axes, from top to bottom.
    pub legend: Vec<(String, Colour, Mark)>,
}

impl Figure {
    /// A figure without layers.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), ..Self::default() }
    }

    /// Both axes from `-limit` to `limit`.
    #[must_use]
    pub fn within(mut self, limit: f64) -> Self {
        self.x_range = Some([-limit, limit]);
        self.y_range = Some([-limit, limit]);
        self
    }

    /// Adds a legend entry.
    pub fn entry(&mut self, label: impl Into<String>, colour: Colour, mark: Mark) {
        self.legend.push((label.into(), colour, mark));
    }

    /// Horizontal and vertical range: the fixed ones, or what holds every layer with a margin of 4 %.
    pub fn ranges(&self) -> [[f64; 2]; 2] {
        let corners: Vec<[f64; 2]> = self.layers.iter().flat_map(Layer::corners).collect();
        [(self.x_range, 0), (self.y_range, 1)].map(|(fixed, axis)| fixed.unwrap_or_else(|| span(corners.iter().map(|c| c[axis]))))
    }
}

fn span(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (low, high) = values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return [0.0, 1.0];
    }
    // A single value still needs an axis around it.
    let margin = if high > low { 0.04 * (high - low) } else { 0.5 * low.abs().max(1.0) };
    [low - margin, high + margin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_the_finite_points_or_are_fixed() {
        let mut figure = Figure::new("t", "x", "y");
        assert_eq!(figure.ranges(), [[0.0, 1.0], [0.0, 1.0]]);
        let points = vec![[0.0, 5.0], [10.0, 5.0], [f64::NAN, 7.0], [3.0, f64::INFINITY]];
        figure.layers.push(Layer::Points { points, colour: [0; 3], opacity: 1.0, radius: 2 });
        let [x, y] = figure.ranges();
        assert_eq!(x, [-0.4, 10.4]);
        assert!(y[0] < 5.0 && y[1] > 5.0);
        assert_eq!(figure.within(3.0).ranges(), [[-3.0, 3.0]; 2]);
    }
}
