//! Rendering of figures, alone or in a grid of panels.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Colour, FONT, Figure, Layer, Mark, PlotError, Stroke, encode_png, load_font};

type Axes<'a, DB> = ChartContext<'a, DB, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// PNG pictures are drawn this much larger and averaged down: the renderer rounds every corner to a whole pixel.
const OVERSAMPLING: u32 = 2;
/// Pixels of a legend line.
const LEGEND_LINE: i32 = 22;
/// Size of the title in pixels, unless it has to be smaller to fit.
const TITLE: f64 = 19.0;

/// One figure of `size` = (width, height) pixels as a PNG file.
///
/// # Errors
/// [`PlotError`] when the renderer refuses.
pub fn png(figure: &Figure, size: (u32, u32)) -> Result<Vec<u8>, PlotError> {
    panels_png(std::slice::from_ref(figure), 1, size)
}

/// Figures in a grid with `columns` columns, together of `size` = (width, height) pixels, as a PNG file.
///
/// # Errors
/// [`PlotError`] when the renderer refuses.
pub fn panels_png(figures: &[Figure], columns: usize, size: (u32, u32)) -> Result<Vec<u8>, PlotError> {
    load_font()?;
    let (mut pixels, large) = enlarged(size);
    {
        let root = BitMapBackend::with_buffer(&mut pixels, large).into_drawing_area();
        panels(&root, figures, columns, OVERSAMPLING).and_then(|()| root.present()).map_err(|e| PlotError(e.to_string()))?;
    }
    encode_png(&shrink(&pixels, size), size.0, size.1)
}

/// One figure of `size` = (width, height) pixels as an SVG document.
///
/// # Errors
/// [`PlotError`] when the renderer refuses.
pub fn svg(figure: &Figure, size: (u32, u32)) -> Result<String, PlotError> {
    load_font()?;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        panels(&root, std::slice::from_ref(figure), 1, 1).and_then(|()| root.present()).map_err(|e| PlotError(e.to_string()))?;
    }
    Ok(text)
}

/// White pixels to draw a picture of `size` on before [`shrink`], and their size.
pub(super) fn enlarged(size: (u32, u32)) -> (Vec<u8>, (u32, u32)) {
    let large = (OVERSAMPLING * size.0, OVERSAMPLING * size.1);
    (vec![255; 3 * large.0 as usize * large.1 as usize], large)
}

/// Averages squares of pixels down to `size`.
pub(super) fn shrink(pixels: &[u8], size: (u32, u32)) -> Vec<u8> {
    let (factor, width) = (OVERSAMPLING as usize, size.0 as usize);
    let mut small = Vec::with_capacity(3 * width * size.1 as usize);
    for y in 0..size.1 as usize {
        for x in 0..width {
            for c in 0..3 {
                let at = |i: usize| 3 * ((y * factor + i / factor) * width * factor + x * factor + i % factor) + c;
                let sum: usize = (0..factor * factor).map(|i| usize::from(pixels[at(i)])).sum();
                small.push(((sum + factor * factor / 2) / (factor * factor)) as u8);
            }
        }
    }
    small
}

/// `scale` multiplies everything that is measured in pixels.
fn panels<DB: DrawingBackend>(root: &DrawingArea<DB, Shift>, figures: &[Figure], columns: usize, scale: u32) -> Drawn<DB> {
    root.fill(&WHITE)?;
    let columns = columns.max(1);
    let areas = root.split_evenly((figures.len().div_ceil(columns).max(1), columns));
    figures.iter().zip(&areas).try_for_each(|(figure, area)| draw(area, figure, scale))
}

/// Width of a text in pixels at a font size.
fn text_width<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    text: &str,
    size: f64,
) -> Result<u32, DrawingAreaErrorKind<DB::ErrorType>> {
    Ok(area.estimate_text_size(text, &(FONT, size).into_font().into())?.0)
}

/// The font size, at most `size`, at which `text` is at most `width` pixels wide.
pub(super) fn fitting_size<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    text: &str,
    size: f64,
    width: f64,
) -> Result<f64, DrawingAreaErrorKind<DB::ErrorType>> {
    let wanted = f64::from(text_width(area, text, size)?);
    Ok(if wanted > width { size * width / wanted } else { size })
}

fn draw<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, figure: &Figure, scale: u32) -> Drawn<DB> {
    let width = area.dim_in_pixel().0;
    let font = |size: u32| (FONT, size * scale);
    let mut axes_area = area.clone();
    if !figure.legend.is_empty() {
        let mut texts = 0;
        for (label, ..) in &figure.legend {
            texts = texts.max(text_width(area, label, f64::from(15 * scale))?);
        }
        let (left, right) = area.split_horizontally(width - (texts + 46 * scale).min(width / 2));
        legend(&right, figure, scale)?;
        axes_area = left;
    }
    let [x, y] = figure.ranges();
    let room = f64::from(axes_area.dim_in_pixel().0) - f64::from(24 * scale);
    let title = fitting_size(area, &figure.title, TITLE * f64::from(scale), room)?;
    let mut axes = ChartBuilder::on(&axes_area)
        .caption(&figure.title, (FONT, title))
        .margin(12 * scale)
        .x_label_area_size(48 * scale)
        .y_label_area_size(70 * scale)
        .build_cartesian_2d(x[0]..x[1], y[0]..y[1])?;
    axes.configure_mesh()
        .x_labels(8)
        .y_labels(8)
        .max_light_lines(0)
        .axis_style(BLACK.stroke_width(scale))
        .bold_line_style(BLACK.mix(0.12).stroke_width(scale))
        .set_all_tick_mark_size(5 * scale)
        .x_desc(&figure.x_label)
        .y_desc(&figure.y_label)
        .axis_desc_style(font(16))
        .label_style(font(14))
        .x_label_formatter(&|v| tick(*v, x[1] - x[0]))
        .y_label_formatter(&|v| tick(*v, y[1] - y[0]))
        .draw()?;
    let inside = |p: &[f64; 2]| p[0] >= x[0] && p[0] <= x[1] && p[1] >= y[0] && p[1] <= y[1];
    figure.layers.iter().try_for_each(|each| layer(&mut axes, each, inside, scale))
}

/// A tick label of an axis of length `span`: at most four decimals, without the rounding noise of `0.1 * 3` or of a zero.
pub(super) fn tick(value: f64, span: f64) -> String {
    if value.abs() < 1e-9 * span.abs() {
        return "0".to_owned();
    }
    if value != 0.0 && value.abs() < 1e-3 || value.abs() >= 1e6 {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

pub(super) fn rgba(colour: Colour, opacity: f64) -> RGBAColor {
    RGBAColor(colour[0], colour[1], colour[2], opacity)
}

fn layer<DB: DrawingBackend>(axes: &mut Axes<'_, DB>, layer: &Layer, inside: impl Fn(&[f64; 2]) -> bool, scale: u32) -> Drawn<DB> {
    match layer {
        Layer::Points { points, colour, opacity, radius } => {
            let style = rgba(*colour, *opacity).filled();
            axes.draw_series(points.iter().filter(|p| inside(p)).map(|p| Circle::new((p[0], p[1]), *radius * scale, style)))?;
        }
        Layer::Curve { points, colour, opacity, width, stroke } => {
            let style = rgba(*colour, *opacity).stroke_width(*width * scale);
            for piece in points.split(|p| !inside(p)).filter(|piece| piece.len() > 1) {
                let corners: Vec<(f64, f64)> = piece.iter().map(|p| (p[0], p[1])).collect();
                match stroke {
                    Stroke::Solid => axes.draw_series(std::iter::once(PathElement::new(corners, style)))?,
                    Stroke::Dashed => axes.draw_series(DashedLineSeries::new(corners, 7 * scale, 5 * scale, style))?,
                };
            }
        }
        Layer::Band { points, colour, opacity } => {
            let points: Vec<&[f64; 3]> = points.iter().filter(|p| p.iter().all(|v| v.is_finite())).collect();
            let lower = points.iter().map(|p| (p[0], p[1]));
            let upper = points.iter().rev().map(|p| (p[0], p[2]));
            let outline: Vec<(f64, f64)> = lower.chain(upper).collect();
            if outline.len() > 2 {
                axes.draw_series(std::iter::once(Polygon::new(outline, rgba(*colour, *opacity).filled())))?;
            }
        }
        Layer::Cells { cells, columns, extent: [left, right, bottom, top] } => {
            let columns = (*columns).max(1);
            let rows = cells.len().div_ceil(columns);
            let (w, h) = ((right - left) / columns as f64, (top - bottom) / rows.max(1) as f64);
            let visible = cells.iter().enumerate().filter(|(_, (_, opacity))| *opacity > 0.0).filter_map(|(i, (colour, opacity))| {
                let (x, y) = (left + w * (i % columns) as f64, top - h * (i / columns) as f64);
                let whole = inside(&[x.max(*left), y.min(*top)]) && inside(&[x + w * 0.999, y - h * 0.999]);
                whole.then(|| Rectangle::new([(x, y), (x + w, y - h)], rgba(*colour, *opacity).filled()))
            });
            axes.draw_series(visible)?;
        }
    }
    Ok(())
}

fn legend<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, figure: &Figure, scale: u32) -> Drawn<DB> {
    let text = TextStyle::from((FONT, 15 * scale).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    let s = scale as i32;
    for (line, (label, colour, mark)) in figure.legend.iter().enumerate() {
        let y = s * (52 + LEGEND_LINE * line as i32);
        let colour = rgba(*colour, 1.0);
        let stroke = colour.stroke_width(2 * scale);
        match mark {
            Mark::Swatch => area.draw(&Rectangle::new([(4 * s, y - 6 * s), (16 * s, y + 6 * s)], colour.filled()))?,
            Mark::Curve(Stroke::Solid) => area.draw(&PathElement::new([(2 * s, y), (24 * s, y)], stroke))?,
            Mark::Curve(Stroke::Dashed) => {
                for start in [2, 11, 20] {
                    area.draw(&PathElement::new([(start * s, y), ((start + 5) * s, y)], stroke))?;
                }
            }
        }
        // The renderer centres a box that is higher than the letters.
        area.draw(&Text::new(label.as_str(), (30 * s, y + 2 * s), text.clone()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{decode_png, show};
    use super::*;
    use crate::figures::plot::colour::tab10;

    fn sample() -> Figure {
        let mut figure = Figure::new("Loss: 3 runs, β=1e-3", "epoch", "loss / bits");
        for (i, name) in ["train", "test"].iter().enumerate() {
            let curve: Vec<[f64; 2]> = (1..=40).map(|e| [f64::from(e), (1.0 + i as f64) / f64::from(e)]).collect();
            let stroke = if i == 0 { Stroke::Dashed } else { Stroke::Solid };
            let band = curve.iter().map(|p| [p[0], p[1] * 0.8, p[1] * 1.2]).collect();
            figure.layers.push(Layer::Band { points: band, colour: tab10(i), opacity: 0.2 });
            figure.layers.push(Layer::Curve { points: curve, colour: tab10(i), opacity: 1.0, width: 2, stroke });
            figure.entry(*name, tab10(i), Mark::Curve(stroke));
        }
        figure
    }

    #[test]
    fn every_layer_leaves_its_colour() {
        let mut figure = sample();
        figure.layers.push(Layer::Points { points: vec![[20.0, 1.5]], colour: [1, 2, 250], opacity: 1.0, radius: 6 });
        figure.layers.push(Layer::Cells { cells: vec![([250, 2, 1], 1.0); 4], columns: 2, extent: [30.0, 34.0, 1.0, 1.4] });
        let bytes = png(&figure, (900, 700)).unwrap();
        show("figure.png", &bytes);
        let (size, pixels) = decode_png(&bytes);
        assert_eq!(size, (900, 700));
        let count = |c: Colour| pixels.iter().filter(|p| **p == c).count();
        assert!(count([1, 2, 250]) > 60 && count([250, 2, 1]) > 500);
        assert!(count(tab10(0)) > 100 && count(tab10(1)) > 100);
        assert!(count([255; 3]) > 300_000, "a plot is mostly paper");
    }

    #[test]
    fn svg_holds_the_texts() {
        let text = svg(&sample(), (900, 700)).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for part in ["Loss: 3 runs, β=1e-3", "loss / bits", "epoch", "train"] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn empty_constant_and_broken_data_are_drawn() {
        let mut broken = Figure::new("", "", "");
        let points = vec![[f64::NAN, 1.0], [1.0, 1.0], [f64::INFINITY, 0.0]];
        broken.layers.push(Layer::Curve { points: points.clone(), colour: [0; 3], opacity: 1.0, width: 1, stroke: Stroke::Dashed });
        broken.layers.push(Layer::Points { points, colour: [0; 3], opacity: 1.0, radius: 3 });
        broken.layers.push(Layer::Cells { cells: Vec::new(), columns: 0, extent: [0.0, 1.0, 0.0, 1.0] });
        let bytes = panels_png(&[Figure::default(), broken, sample()], 2, (1000, 800)).unwrap();
        show("panels.png", &bytes);
        assert_eq!(decode_png(&bytes).0, (1000, 800));
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([0.1 * 3.0, -0.0, 2.0, 1e-5, 2e7, 12.5].map(|v| tick(v, 10.0)), ["0.3", "0", "2", "1.0e-5", "2.0e7", "12.5"]);
        assert_eq!(tick(-2.2e-16, 1.0), "0");
    }
}
