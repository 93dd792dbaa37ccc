//! Pictures: decoding of one file, and how pictures of several sizes and colours become inputs of one shape.

use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrays::Buffer;

/// Endings of the files that are taken for pictures.
pub const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];

/// How a picture is brought to `size` by `size` pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side becomes `size`, and the middle is kept.
    #[default]
    Crop,
    /// The longer side becomes `size`, with black beside it.
    Pad,
    /// Each side becomes `size`.
    Stretch,
}

/// Which channels inputs have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// One where all pictures are grey, else three.
    #[default]
    Auto,
    /// One: luma of Rec. 601, as Pillow computes it.
    Grey,
    /// Three: red, green, blue.
    Rgb,
}

/// Whether `path` has the ending of a picture.
pub fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.contains(&ending.to_string_lossy().to_ascii_lowercase().as_str()))
}

/// A picture that was decoded, turned as its EXIF says, without its alpha channel, brought to its size.
#[derive(Clone, Debug)]
pub struct Picture {
    image: DynamicImage,
}

impl Picture {
    /// Decodes the file at `path`; of several pictures in it, the first.
    ///
    /// # Errors
    /// Why it is no picture, in words.
    pub fn open(path: &Path, size: Option<u32>, resize: Resize) -> Result<Self, String> {
        let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|error| error.to_string())?;
        let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
        let orientation = decoder.orientation().map_err(|error| error.to_string())?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        image.apply_orientation(orientation);
        let image = without_alpha(image);
        Ok(Self { image: size.map_or_else(|| image.clone(), |size| resized(&image, size, resize)) })
    }

    /// Height and width in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.image.height() as usize, self.image.width() as usize]
    }

    /// Whether it has one channel.
    pub fn is_grey(&self) -> bool {
        !self.image.color().has_color()
    }

    /// Whether it has 16 bits a channel.
    pub fn is_deep(&self) -> bool {
        self.image.color().bytes_per_pixel() / self.image.color().channel_count() > 1
    }

    /// Appends its values, channels first, to `bytes`; of 0 to 255 with fractions to `floats` where that is given.
    fn append(&self, grey: bool, into: &mut Buffer) {
        let planes = |values: &[u8], channels: usize, into: &mut Vec<u8>| {
            (0..channels).for_each(|channel| into.extend(values.iter().skip(channel).step_by(channels)));
        };
        match into {
            Buffer::U8(bytes) if grey => bytes.extend_from_slice(grey_of(&self.image).as_bytes()),
            Buffer::U8(bytes) => planes(self.image.to_rgb8().as_raw(), 3, bytes),
            Buffer::F32(floats) => {
                let (values, channels) = if grey { (self.image.to_luma16().into_raw(), 1) } else { (self.image.to_rgb16().into_raw(), 3) };
                for channel in 0..channels {
                    // 65535 / 257 = 255.
                    floats.extend(values.iter().skip(channel).step_by(channels).map(|&value| f32::from(value) / 257.0));
                }
            }
            Buffer::F64(_) | Buffer::Words(_) => {}
        }
    }
}

/// Grey as Pillow makes it: `(19595 r + 38470 g + 7471 b + 32768) / 65536`.
fn grey_of(image: &DynamicImage) -> DynamicImage {
    if !image.color().has_color() {
        return DynamicImage::ImageLuma8(image.to_luma8());
    }
    let rgb = image.to_rgb8();
    let luma = |p: &image::Rgb<u8>| ((19_595 * u32::from(p[0]) + 38_470 * u32::from(p[1]) + 7_471 * u32::from(p[2]) + 32_768) >> 16) as u8;
    let values = rgb.pixels().map(luma).collect();
    let grey = image::GrayImage::from_raw(rgb.width(), rgb.height(), values);
    grey.map_or_else(|| DynamicImage::ImageLuma8(image.to_luma8()), DynamicImage::ImageLuma8)
}

/// The colours as they are stored, whatever their alpha: what `convert("RGB")` of Pillow, and so torchvision's loader, gives.
fn without_alpha(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLumaA8(_) => DynamicImage::ImageLuma8(image.to_luma8()),
        DynamicImage::ImageRgba8(_) => DynamicImage::ImageRgb8(image.to_rgb8()),
        DynamicImage::ImageLumaA16(_) => DynamicImage::ImageLuma16(image.to_luma16()),
        DynamicImage::ImageRgba16(_) => DynamicImage::ImageRgb16(image.to_rgb16()),
        other => other,
    }
}

fn resized(image: &DynamicImage, size: u32, resize: Resize) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    if (width, height) == (size, size) {
        return image.clone();
    }
    // Bilinear over the area that a pixel covers, as Pillow's.
    let to = |width: u32, height: u32| image.resize_exact(width.max(1), height.max(1), FilterType::Triangle);
    let scaled = |side: u32, by: u32| (f64::from(side) * f64::from(size) / f64::from(by.max(1))).round() as u32;
    match resize {
        Resize::Stretch => to(size, size),
        Resize::Crop => {
            let short = width.min(height);
            let (w, h) = (scaled(width, short).max(size), scaled(height, short).max(size));
            to(w, h).crop_imm((w - size) / 2, (h - size) / 2, size, size)
        }
        Resize::Pad => {
            let long = width.max(height);
            let (w, h) = (scaled(width, long).clamp(1, size), scaled(height, long).clamp(1, size));
            let mut whole = DynamicImage::new(size, size, image.color());
            image::imageops::overlay(&mut whole, &to(w, h), i64::from((size - w) / 2), i64::from((size - h) / 2));
            // Laying one picture over another may add an alpha channel.
            if image.color().has_color() { without_alpha(whole) } else { DynamicImage::ImageLuma8(whole.to_luma8()) }
        }
    }
}

/// A picture whose size is not that of the first, with both sizes.
pub type OddOne = (usize, [[usize; 2]; 2]);

/// All of `pictures` in one buffer, and the shape of each.
///
/// # Errors
/// The first picture whose size is another.
pub fn stacked(pictures: &[Picture], colour: Colour) -> Result<(Buffer, [usize; 3]), OddOne> {
    let [height, width] = pictures.first().map_or([0, 0], Picture::size);
    if let Some(odd) = pictures.iter().position(|picture| picture.size() != [height, width]) {
        return Err((odd, [[height, width], pictures[odd].size()]));
    }
    let grey = colour == Colour::Grey || (colour == Colour::Auto && pictures.iter().all(Picture::is_grey));
    let channels = if grey { 1 } else { 3 };
    let count = pictures.len() * channels * height * width;
    let mut buffer =
        if pictures.iter().any(Picture::is_deep) { Buffer::F32(Vec::with_capacity(count)) } else { Buffer::U8(Vec::with_capacity(count)) };
    for picture in pictures {
        picture.append(grey, &mut buffer);
    }
    Ok((buffer, [channels, height, width]))
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn saved(image: &DynamicImage, name: &str, format: ImageFormat) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        image.save_with_format(&path, format).unwrap();
        (folder, path)
    }

    fn values(path: &Path, size: Option<u32>, resize: Resize, colour: Colour) -> (Buffer, [usize; 3]) {
        stacked(&[Picture::open(path, size, resize).unwrap()], colour).unwrap()
    }

    #[test]
    fn channels_come_first_and_alpha_is_left_out() {
        let image = RgbaImage::from_fn(2, 1, |x, _| Rgba([x as u8, 10 + x as u8, 20 + x as u8, 7]));
        let (_folder, path) = saved(&image.into(), "a.png", ImageFormat::Png);
        assert_eq!(values(&path, None, Resize::Crop, Colour::Auto), (Buffer::U8(vec![0, 1, 10, 11, 20, 21]), [3, 1, 2]));
    }

    #[test]
    fn grey_is_what_pillow_makes_of_colours() {
        let image = RgbImage::from_fn(4, 1, |x, _| [Rgb([255, 0, 0]), Rgb([0, 255, 0]), Rgb([0, 0, 255]), Rgb([200, 100, 50])][x as usize]);
        let (_folder, path) = saved(&image.into(), "a.bmp", ImageFormat::Bmp);
        assert_eq!(values(&path, None, Resize::Crop, Colour::Grey).0, Buffer::U8(vec![76, 150, 29, 124]));
    }

    #[test]
    fn sixteen_bits_keep_their_fractions() {
        let image = image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_raw(2, 1, vec![65_535, 257 * 3 + 128]).unwrap();
        let (_folder, path) = saved(&image.into(), "a.png", ImageFormat::Png);
        let (Buffer::F32(found), [1, 1, 2]) = values(&path, None, Resize::Crop, Colour::Auto) else { panic!("no floats") };
        assert!((found[0] - 255.0).abs() < 1e-4 && (found[1] - 3.498).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn every_rule_gives_the_size_and_keeps_what_it_says() {
        // A white left half, and black.
        let image = GrayImage::from_fn(8, 4, |x, _| image::Luma([if x < 4 { 255 } else { 0 }]));
        let (_folder, path) = saved(&image.into(), "a.png", ImageFormat::Png);
        let of = |resize| match values(&path, Some(4), resize, Colour::Auto) {
            (Buffer::U8(values), [1, 4, 4]) => values,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(Resize::Crop)[..4], [255, 255, 0, 0]);
        let padded = of(Resize::Pad);
        assert!(padded[..4].iter().all(|&x| x == 0) && padded[12..].iter().all(|&x| x == 0), "{padded:?}");
        assert!(padded[4] == 255 && padded[7] == 0, "{padded:?}");
        let stretched = of(Resize::Stretch);
        assert!(stretched[0] == 255 && stretched[3] == 0 && stretched[12] == 255, "{stretched:?}");
    }

    #[test]
    fn pictures_of_two_sizes_are_named() {
        let picture = |w, h| Picture { image: DynamicImage::new_luma8(w, h) };
        assert_eq!(stacked(&[picture(2, 3), picture(2, 3), picture(3, 2)], Colour::Auto).unwrap_err(), (2, [[3, 2], [2, 3]]));
    }

    #[test]
    fn a_picture_that_is_none_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, b"not a picture").unwrap();
        assert!(!Picture::open(&path, None, Resize::Crop).unwrap_err().is_empty());
    }
}
