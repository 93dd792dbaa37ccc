//! Pictures as data (figures made of layers, mosaics of images) and their rendering to PNG and SVG.

pub mod colour;
pub mod figure;
pub mod means;
pub mod mosaic;
mod render;
pub mod space;

use std::sync::LazyLock;

use plotters::style::{FontStyle, register_font};

pub use colour::Colour;
pub use figure::{Figure, Layer, Mark, Stroke};
pub use mosaic::{Mosaic, Tile};
pub use render::{panels_png, png, svg};
pub use space::{Shape, Solid, Space, SpaceAxis, spaces_png};

/// Name every text is drawn under.
const FONT: &str = "sans-serif";

/// Why a picture could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlotError(pub String);

/// Makes the embedded font known; pictures look the same on machines without any font.
fn load_font() -> Result<(), PlotError> {
    static LOADED: LazyLock<bool> =
        LazyLock::new(|| register_font(FONT, FontStyle::Normal, include_bytes!("../../../assets/DejaVuSans.ttf")).is_ok());
    if *LOADED { Ok(()) } else { Err(PlotError("the embedded font cannot be read".to_owned())) }
}

/// RGB pixels, row by row, as a PNG file.
pub(crate) fn encode_png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, PlotError> {
    let failed = |e: png::EncodingError| PlotError(e.to_string());
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Size and RGB pixels of a PNG, for tests that look at what was drawn.
#[cfg(test)]
pub(crate) fn decode_png(bytes: &[u8]) -> ((u32, u32), Vec<[u8; 3]>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    ((info.width, info.height), pixels.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect())
}

/// Shows a picture to people who set `IBHOST_SHOW_PLOTS` to a folder.
#[cfg(test)]
pub(crate) fn show(name: &str, bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("IBHOST_SHOW_PLOTS") {
        std::fs::write(std::path::Path::new(&folder).join(name), bytes).unwrap();
    }
}
