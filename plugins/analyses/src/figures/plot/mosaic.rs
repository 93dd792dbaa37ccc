//! Images side by side with a caption under each.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::render::fitting_size;
use super::{FONT, PlotError, encode_png, load_font};

/// Pixels between images.
const GAP: usize = 6;
/// Pixels of a caption line.
const CAPTION: usize = 20;
/// Pixels of the title line.
const TITLE: usize = 36;

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// Values in `[0, 1]`, channels first, one (grey) or three (red, green, blue) channels.
    pub values: Vec<f32>,
    /// Text below the image.
    pub caption: String,
}

/// Images of one shape in rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Mosaic {
    /// Above the images.
    pub title: String,
    /// `[channels, height, width]` of every image.
    pub shape: [usize; 3],
    /// Images in a row.
    pub columns: usize,
    /// Screen pixels per image pixel.
    pub zoom: usize,
    /// From left to right and top to bottom.
    pub tiles: Vec<Tile>,
}

impl Mosaic {
    /// The mosaic as a PNG file.
    ///
    /// # Errors
    /// [`PlotError`] when an image does not have the mosaic's shape or the renderer refuses.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        load_font()?;
        let [channels, height, width] = self.shape;
        if !matches!(channels, 1 | 3) {
            return Err(PlotError(format!("images have {channels} channels; 1 or 3 can be shown")));
        }
        if let Some(bad) = self.tiles.iter().position(|t| t.values.len() != channels * height * width) {
            return Err(PlotError(format!(
                "image {bad} has {} values, not the {} of its shape",
                self.tiles[bad].values.len(),
                channels * height * width
            )));
        }
        let (zoom, columns) = (self.zoom.max(1), self.columns.max(1));
        let rows = self.tiles.len().div_ceil(columns);
        let caption = if self.tiles.iter().any(|t| !t.caption.is_empty()) { CAPTION } else { 0 };
        let (cell_w, cell_h) = (width * zoom + GAP, height * zoom + GAP + caption);
        let (total_w, total_h) = (columns * cell_w + GAP, rows * cell_h + GAP + TITLE);
        let mut pixels = vec![255u8; 3 * total_w * total_h];
        let corner = |i: usize| (GAP + (i % columns) * cell_w, TITLE + (i / columns) * cell_h);
        for (i, tile) in self.tiles.iter().enumerate() {
            let (left, top) = corner(i);
            for y in 0..height * zoom {
                for x in 0..width * zoom {
                    let at = y / zoom * width + x / zoom;
                    for c in 0..3 {
                        let plane = if channels == 3 { c } else { 0 };
                        let value = tile.values[plane * height * width + at];
                        pixels[3 * ((top + y) * total_w + left + x) + c] = (255.0 * value.clamp(0.0, 1.0)).round() as u8;
                    }
                }
            }
        }
        let size = (total_w as u32, total_h as u32);
        {
            let failed = |e: DrawingAreaErrorKind<_>| PlotError(e.to_string());
            let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
            let write = |text: &str, at: (usize, usize), size: f64, room: usize| {
                let size = fitting_size(&root, text, size, room as f64)?;
                let style = TextStyle::from((FONT, size).into_font()).pos(Pos::new(HPos::Center, VPos::Center));
                root.draw(&Text::new(text, (at.0 as i32, at.1 as i32), style))
            };
            write(&self.title, (total_w / 2, TITLE / 2), 17.0, total_w - 2 * GAP).map_err(failed)?;
            for (i, tile) in self.tiles.iter().enumerate() {
                let (left, top) = corner(i);
                let below = (left + width * zoom / 2, top + height * zoom + CAPTION / 2);
                write(&tile.caption, below, 13.0, width * zoom).map_err(failed)?;
            }
            root.present().map_err(failed)?;
        }
        encode_png(&pixels, size.0, size.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode_png, show};
    use super::*;

    #[test]
    fn images_keep_their_pixels() {
        let tile = |v: f32| Tile { values: vec![v, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0], caption: "3 as 8".to_owned() };
        let mosaic =
            Mosaic { title: "Two".to_owned(), shape: [3, 2, 2], columns: 2, zoom: 30, tiles: vec![tile(0.2), tile(0.8), tile(0.4)] };
        let bytes = mosaic.png().unwrap();
        show("mosaic.png", &bytes);
        let ((w, h), pixels) = decode_png(&bytes);
        assert_eq!((w as usize, h as usize), (2 * 66 + GAP, 2 * (66 + CAPTION) + GAP + TITLE));
        assert_eq!(pixels[(TITLE + 5) * w as usize + GAP + 5], [51, 128, 0]);
        assert_eq!(pixels[(TITLE + 5) * w as usize + GAP + 66 + 5], [204, 128, 0]);
        assert_eq!(pixels[(TITLE + 35) * w as usize + GAP + 35], [255, 128, 0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let tiles = vec![Tile { values: vec![0.0; 3], caption: String::new() }];
        let mosaic = Mosaic { title: String::new(), shape: [1, 2, 2], columns: 1, zoom: 1, tiles };
        assert!(mosaic.png().unwrap_err().to_string().contains("image 0 has 3 values"));
        assert!(Mosaic { shape: [2, 2, 2], ..mosaic }.png().unwrap_err().to_string().contains("2 channels"));
    }
}
