//! Figures of three axes, drawn as an orthographic view of a box, with faces, lines and marks in data coordinates.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::render::{enlarged, fitting_size, rgba, shrink, tick};
use super::{Colour, FONT, PlotError, encode_png, load_font};

/// Where the viewer stands: turned about the upward axis and raised above the floor, in radians.
const VIEW: [f64; 2] = [-0.9, 0.45];
/// A place along an edge of the box.
type Edge<'a> = &'a dyn Fn(f64) -> [f64; 3];

/// Ticks of an axis.
const TICKS: usize = 4;
/// Size of the title in pixels, unless it has to be smaller to fit.
const TITLE: f64 = 17.0;

/// An axis with its range.
#[derive(Clone, Debug, PartialEq)]
pub struct SpaceAxis {
    /// With unit.
    pub label: String,
    /// Smallest and largest value.
    pub range: [f64; 2],
}

impl SpaceAxis {
    /// An axis that holds all finite `values` with a margin of 4 %.
    pub fn around(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let finite = values.into_iter().filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let range = if low > high {
            [0.0, 1.0]
        } else {
            let margin = if high > low { 0.04 * (high - low) } else { 0.5 * low.abs().max(1.0) };
            [low - margin, high + margin]
        };
        Self { label: label.into(), range }
    }
}

/// Outline of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Round.
    Disc,
    /// With three corners.
    Triangle,
    /// With five corners.
    Pentagon,
    /// With four corners, one on top.
    Diamond,
}

impl Shape {
    fn corners(self) -> usize {
        match self {
            Self::Disc => 24,
            Self::Triangle => 3,
            Self::Pentagon => 5,
            Self::Diamond => 4,
        }
    }
}

/// One thing in the box. What is not finite is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Solid {
    /// A filled polygon.
    Face {
        /// Corners in order.
        corners: Vec<[f64; 3]>,
        /// Colour.
        colour: Colour,
        /// Between 0 and 1.
        opacity: f64,
    },
    /// A broken line.
    Dashed {
        /// From and to.
        ends: [[f64; 3]; 2],
        /// Colour.
        colour: Colour,
    },
    /// A symbol of fixed size, with a ring of another colour around it if there is one.
    Mark {
        /// Centre.
        at: [f64; 3],
        /// Colour inside.
        colour: Colour,
        /// Colour around.
        ring: Option<Colour>,
        /// In pixels, without the ring.
        radius: f64,
        /// Outline.
        shape: Shape,
    },
}

/// A box with what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// Above the box.
    pub title: String,
    /// To the right, into the depth and upwards.
    pub axes: [SpaceAxis; 3],
    /// In any order; what is farther away is drawn first.
    pub solids: Vec<Solid>,
}

/// Spaces in a grid with `columns` columns, together of `size` = (width, height) pixels, as a PNG file.
///
/// # Errors
/// [`PlotError`] when the renderer refuses.
pub fn spaces_png(spaces: &[Space], columns: usize, size: (u32, u32)) -> Result<Vec<u8>, PlotError> {
    load_font()?;
    let (mut pixels, large) = enlarged(size);
    {
        let root = BitMapBackend::with_buffer(&mut pixels, large).into_drawing_area();
        let columns = columns.max(1);
        let drawn = root.fill(&WHITE).and_then(|()| {
            let areas = root.split_evenly((spaces.len().div_ceil(columns).max(1), columns));
            spaces.iter().zip(&areas).try_for_each(|(space, area)| draw(area, space, f64::from(large.0 / size.0.max(1))))
        });
        drawn.and_then(|()| root.present()).map_err(|e| PlotError(e.to_string()))?;
    }
    encode_png(&shrink(&pixels, size), size.0, size.1)
}

/// Picture coordinates and depth (larger is nearer) of points of the unit box.
#[derive(Clone, Copy, Debug)]
struct Camera {
    centre: [f64; 2],
    scale: f64,
}

impl Camera {
    fn project(self, unit: [f64; 3]) -> ([f64; 2], f64) {
        let [x, y, z] = unit.map(|u| u - 0.5);
        let ((sin_turn, cos_turn), (sin_rise, cos_rise)) = (VIEW[0].sin_cos(), VIEW[1].sin_cos());
        let (right, away) = (x * cos_turn - y * sin_turn, x * sin_turn + y * cos_turn);
        let up = z * cos_rise + away * sin_rise;
        ([self.centre[0] + self.scale * right, self.centre[1] - self.scale * up], z * sin_rise - away * cos_rise)
    }
}

fn draw<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, space: &Space, scale: f64) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (f64::from(width), f64::from(height));
    let camera = Camera { centre: [0.5 * width, 0.52 * height], scale: 0.56 * width.min(height) };
    let pixel = |p: [f64; 2]| (p[0].round() as i32, p[1].round() as i32);
    let unit = |at: [f64; 3]| {
        let mut unit = [0.0; 3];
        for (axis, (u, value)) in space.axes.iter().zip(unit.iter_mut().zip(at)) {
            *u = (value - axis.range[0]) / (axis.range[1] - axis.range[0]);
        }
        unit
    };
    let line = |from: [f64; 3], to: [f64; 3], opacity: f64| {
        let corners = vec![pixel(camera.project(from).0), pixel(camera.project(to).0)];
        area.draw(&PathElement::new(corners, BLACK.mix(opacity).stroke_width(scale as u32)))
    };
    // The floor and the two walls behind everything.
    for t in 0..=TICKS {
        let t = t as f64 / TICKS as f64;
        for (from, to) in [
            ([t, 0.0, 0.0], [t, 1.0, 0.0]),
            ([0.0, t, 0.0], [1.0, t, 0.0]),
            ([t, 1.0, 0.0], [t, 1.0, 1.0]),
            ([0.0, 1.0, t], [1.0, 1.0, t]),
            ([0.0, t, 0.0], [0.0, t, 1.0]),
            ([0.0, 0.0, t], [0.0, 1.0, t]),
        ] {
            line(from, to, 0.15)?;
        }
    }
    let text = |at: [f64; 2], words: &str, size: f64, anchor: HPos| {
        let style = (FONT, size).into_font().color(&BLACK).pos(Pos::new(anchor, VPos::Center));
        area.draw(&Text::new(words.to_owned(), pixel(at), style))
    };
    // Labels stand outside the edges nearest to the viewer.
    let edges: [(Edge<'_>, [f64; 2], HPos); 3] = [
        (&|t| [t, 0.0, 0.0], [-6.0, 14.0], HPos::Right),
        (&|t| [1.0, t, 0.0], [8.0, 10.0], HPos::Left),
        (&|t| [0.0, 0.0, t], [-8.0, 0.0], HPos::Right),
    ];
    for (number, (axis, (edge, shift, anchor))) in space.axes.iter().zip(edges).enumerate() {
        line(edge(0.0), edge(1.0), 1.0)?;
        for t in 0..=TICKS {
            let t = t as f64 / TICKS as f64;
            let at = camera.project(edge(t)).0;
            let value = axis.range[0] + t * (axis.range[1] - axis.range[0]);
            let label = tick(three_digits(value), axis.range[1] - axis.range[0]);
            text([at[0] + scale * shift[0], at[1] + scale * shift[1]], &label, 11.0 * scale, anchor)?;
        }
        let names = ["x", "y", "z"];
        let words = format!("{}: {}", names[number], axis.label);
        let row = height - scale * (14.0 * (3 - number) as f64);
        text([scale * 8.0, row], &words, fitting_size(area, &words, 12.0 * scale, width - 16.0 * scale)?, HPos::Left)?;
        let end = camera.project(edge(1.0)).0;
        let beside = [[0.0, 30.0], [30.0, -8.0], [0.0, -14.0]][number];
        text([end[0] + scale * beside[0], end[1] + scale * beside[1]], names[number], 13.0 * scale, HPos::Center)?;
    }
    let title = fitting_size(area, &space.title, TITLE * scale, width - 16.0 * scale)?;
    text([0.5 * width, 14.0 * scale], &space.title, title, HPos::Center)?;

    let centre = |solid: &Solid| match solid {
        Solid::Face { corners, .. } => {
            let n = corners.len().max(1) as f64;
            corners.iter().fold([0.0; 3], |sum, c| [sum[0] + c[0] / n, sum[1] + c[1] / n, sum[2] + c[2] / n])
        }
        Solid::Dashed { ends, .. } => ends[1],
        Solid::Mark { at, .. } => *at,
    };
    let depth = |solid: &Solid| camera.project(unit(centre(solid))).1;
    let mut order: Vec<(f64, &Solid)> = space.solids.iter().map(|solid| (depth(solid), solid)).filter(|(d, _)| d.is_finite()).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, solid) in order {
        match solid {
            Solid::Face { corners, colour, opacity } => {
                let outline: Vec<(i32, i32)> = corners.iter().map(|c| pixel(camera.project(unit(*c)).0)).collect();
                area.draw(&Polygon::new(outline, rgba(*colour, *opacity).filled()))?;
            }
            Solid::Dashed { ends, colour } => {
                let [from, to] = ends.map(|end| camera.project(unit(end)).0);
                let length = (to[0] - from[0]).hypot(to[1] - from[1]);
                let pieces = (length / (6.0 * scale)).ceil().clamp(1.0, 400.0) as usize;
                for piece in (0..pieces).step_by(2) {
                    let at = |i: usize| [0, 1].map(|c| from[c] + (to[c] - from[c]) * i as f64 / pieces as f64);
                    let style = rgba(*colour, 1.0).stroke_width(scale as u32);
                    area.draw(&PathElement::new(vec![pixel(at(piece)), pixel(at(piece + 1))], style))?;
                }
            }
            Solid::Mark { at, colour, ring, radius, shape } => {
                let centre = camera.project(unit(*at)).0;
                let polygon = |radius: f64, colour: Colour| {
                    let corner = |i: usize| {
                        let angle = std::f64::consts::TAU * i as f64 / shape.corners() as f64;
                        pixel([centre[0] + scale * radius * angle.sin(), centre[1] - scale * radius * angle.cos()])
                    };
                    area.draw(&Polygon::new((0..shape.corners()).map(corner).collect::<Vec<_>>(), rgba(colour, 1.0).filled()))
                };
                if let Some(ring) = ring {
                    polygon(radius + 2.0, *ring)?;
                }
                polygon(*radius, *colour)?;
            }
        }
    }
    Ok(())
}

/// Three significant digits: what a tick needs.
fn three_digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 10f64.powf(value.abs().log10().floor() - 2.0);
    (value / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::plot::{decode_png, show};

    #[test]
    fn nearer_things_hide_those_behind_and_what_is_not_finite_is_left_out() {
        let axis = |name: &str| SpaceAxis { label: format!("{name} / nats"), range: [0.0, 1.0] };
        let wall = |y: f64, colour| Solid::Face {
            corners: vec![[0.0, y, 0.0], [1.0, y, 0.0], [1.0, y, 1.0], [0.0, y, 1.0]],
            colour,
            opacity: 1.0,
        };
        let mark = Solid::Mark { at: [f64::NAN, 0.5, 0.5], colour: [1, 2, 3], ring: None, radius: 9.0, shape: Shape::Disc };
        let near = Solid::Mark { at: [0.5, 0.0, 0.5], colour: [10, 20, 30], ring: Some([200, 0, 200]), radius: 9.0, shape: Shape::Diamond };
        let space = |solids| Space { title: "walls".to_owned(), axes: [axis("right"), axis("deep"), axis("up")], solids };
        let walls = space(vec![wall(0.0, [255, 0, 0]), near, wall(0.3, [0, 0, 255]), mark]);
        let bytes = spaces_png(&[walls.clone(), walls], 2, (800, 400)).unwrap();
        show("space.png", &bytes);
        let (size, pixels) = decode_png(&bytes);
        assert_eq!(size, (800, 400));
        let count = |colour: [u8; 3]| pixels.iter().filter(|p| **p == colour).count();
        let counts = [[255, 0, 0], [0, 0, 255], [10, 20, 30], [200, 0, 200], [1, 2, 3]].map(count);
        assert!(counts[0] > counts[1] && counts[1] > 0 && counts[2] > 50 && counts[3] > 10 && counts[4] == 0, "{counts:?}");
        assert_eq!((three_digits(0.123_456), three_digits(-98_765.0), three_digits(0.0)), (0.123, -98_800.0, 0.0));
        let flat = SpaceAxis::around("x", [2.0, f64::NAN, 2.0]);
        assert_eq!(flat.range, [1.0, 3.0]);
    }
}
