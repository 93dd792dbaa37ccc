//! Omniglot: handwritten characters of fifty alphabets, from the published picture archives.

use std::path::Path;
use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Values};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::Place;
use crate::image::ImageDataset;
use crate::locate::all_located;
use crate::pictures;
use crate::scaling::{GreyScale, to_scaling};
use crate::view::View;

const NAME: &str = "omniglot";
/// Archives of the two splits.
const ARCHIVES: [&str; 2] = ["omniglot/images_background.zip", "omniglot/images_evaluation.zip"];
/// md5 of the published archives, and of their pictures, which archives that were packed anew share.
const PUBLISHED: [[&str; 2]; 2] = [
    ["68d2efa1b9178cc56df9314c21c6e718", "537272e60f044aa0e5ad226c7b37bc54"],
    ["6b91aef0f799c5bb55b94e3f2daec811", "e84ea0118d500ac5dcb4177fbbb1a36c"],
];
const ORIGIN: &str = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/";
/// Side of an image after reduction.
const SIDE: usize = 28;

/// Omniglot: 32,460 handwritten characters of 50 alphabets, reduced to 28x28 grey, ink bright.
///
/// The original split by alphabets: 30 `background` alphabets (19,280 images) to train on, 20 `evaluation` alphabets (13,180) to test on,
/// in the order of their paths; read from the two archives in the folder `omniglot`, or from the folders they unpack to. Labels are alphabets, because there are more characters (1,623) than labels can tell apart. Each 28x28
/// pixel is the mean ink of the part of the 105x105 drawing it covers. The 28x28 selection of Burda et al. 2015 is the data set `omniglot_chardata`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OmniglotConfig {
    /// How bytes become model inputs.
    pub scale: GreyScale,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

/// Most pixels along a side of a picture; the published ones have 105.
const MOST_SIDE: u32 = 1024;

/// Images of one archive: alphabet and pixels.
type Drawings = Vec<(String, Vec<u8>)>;

#[typetag::serde(name = "omniglot")]
impl DatasetConfig for OmniglotConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let paths = all_located(NAME, &self.files(), root)?;
        let splits: Vec<Drawings> = paths.iter().map(|path| drawings(root, path)).collect::<Result<_, _>>()?;
        let mut classes: Vec<String> = splits.iter().flatten().map(|(alphabet, _)| alphabet.clone()).collect();
        classes.sort();
        classes.dedup();
        if classes.len() > 256 {
            return Err(DataError::Inconsistent(format!(
                "data set `{NAME}`: {} alphabets are more than the 256 that labels can tell apart",
                classes.len()
            )));
        }
        let mut built = Vec::with_capacity(2);
        for split in splits {
            let labels = split.iter().map(|(alphabet, _)| classes.binary_search(alphabet).unwrap_or(0) as u8).collect();
            let pixels = split.into_iter().flat_map(|(_, pixels)| pixels).collect();
            built.push(Samples::new(Values::U8(Arc::new(pixels)), labels, [1, SIDE, SIDE], to_scaling(&[self.scale.affine()]))?);
        }
        let info = DataInfo { name: NAME.to_owned(), classes, shape: [1, SIDE, SIDE], note: None, class_entropy: None };
        match <[Samples; 2]>::try_from(built) {
            Ok([train, test]) => Ok(Box::new(ImageDataset::new(info, train, test, &self.view)?)),
            Err(_) => Err(DataError::Inconsistent(format!("data set `{NAME}` has two splits"))),
        }
    }

    fn files(&self) -> Vec<DataFile> {
        let file = |(path, [md5, contents]): (&str, [&str; 2])| DataFile {
            path: path.to_owned(),
            md5: Some(md5.to_owned()),
            contents: Some(contents.to_owned()),
            mirrors: vec![format!("{ORIGIN}{}", path.trim_start_matches("omniglot/"))],
            ..DataFile::default()
        };
        ARCHIVES.into_iter().zip(PUBLISHED).map(file).collect()
    }
}

ibhost_framework::register! { Dataset: OmniglotConfig as DatasetConfig, aliases: [], paper: "Lake et al. 2015", example: "omniglot/scale:unit" }

/// Every drawing of the archive or folder at `path`, in order of path.
fn drawings(root: &DataRoot, path: &Path) -> Result<Drawings, DataError> {
    let one = |(name, picture): &pictures::Picture| {
        let pixels = ink(picture).map_err(|e| Place::new(NAME, root, path).damaged(0, "a readable picture", format!("`{name}`: {e}")))?;
        // <alphabet>/<character>/<drawing>.png
        let alphabet = name.rsplit('/').nth(2).unwrap_or("unknown").to_owned();
        Ok((alphabet, pixels))
    };
    pictures::read(path).map_err(|wrong| wrong.of(NAME, root))?.par_iter().map(one).collect()
}

/// Ink of a picture at 28x28, 255 where a pixel is all ink (dark).
fn ink(picture: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(picture));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    // The sizes of a header may lie, and memory is taken for them before any pixel is read.
    let (width, height) = (reader.info().width, reader.info().height);
    if width.max(height) > MOST_SIDE {
        return Err(format!("it is {width}x{height} and more than {MOST_SIDE} pixels wide or high"));
    }
    let mut buffer = vec![0; reader.output_buffer_size().ok_or("it is too large")?];
    let info = reader.next_frame(&mut buffer).map_err(|e| e.to_string())?;
    let (width, height, samples) = (info.width as usize, info.height as usize, info.color_type.samples());
    if width == 0 || height == 0 {
        return Err("it holds no pixel".to_owned());
    }
    let dark = |x: usize, y: usize| 255.0 - f64::from(buffer[(y * width + x) * samples]);
    let (rows, columns) = (shares(height), shares(width));
    let mut out = Vec::with_capacity(SIDE * SIDE);
    for row in &rows {
        for column in &columns {
            let total: f64 =
                row.iter().flat_map(|&(y, v)| column.iter().map(move |&(x, h)| (x, y, h * v))).map(|(x, y, w)| w * dark(x, y)).sum();
            out.push(total.round().clamp(0.0, 255.0) as u8);
        }
    }
    Ok(out)
}

/// For each of the 28 places along a side of `size` pixels, the pixels it covers and their shares.
fn shares(size: usize) -> Vec<Vec<(usize, f64)>> {
    let step = size as f64 / SIDE as f64;
    let place = |i: usize| {
        let (from, to) = (i as f64 * step, (i + 1) as f64 * step);
        let pixels = from as usize..(to.ceil() as usize).min(size);
        pixels.map(|p| (p, ((to.min(p as f64 + 1.0) - from.max(p as f64)) / step).max(0.0))).collect()
    };
    (0..SIDE).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::real_data;
    use crate::verify::{Verdict, verify};
    use crate::zip::tests::archive;
    use ibhost_framework::dataset::Split;

    fn picture(side: u32, dark: impl Fn(u32, u32) -> bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let pixels: Vec<u8> = (0..side * side).map(|i| if dark(i % side, i / side) { 0 } else { 255 }).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        bytes
    }

    #[test]
    fn pictures_are_reduced_by_area_with_bright_ink() {
        assert_eq!(ink(&picture(105, |_, _| true)).unwrap(), vec![255; 784]);
        let half = ink(&picture(105, |x, _| x < 52)).unwrap();
        assert!(half[..13].iter().all(|&v| v == 255) && half[15..28].iter().all(|&v| v == 0));
        let total: f64 = half.iter().map(|&v| f64::from(v) / 255.0).sum();
        assert!((total / 784.0 - 52.0 / 105.0).abs() < 0.01, "{total}");
        assert!(ink(b"no picture").is_err());
        let mut lying = picture(4, |_, _| true);
        // The header chunk begins with the width.
        lying[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        assert!(ink(&lying).is_err());
        assert!(ink(&picture(1025, |_, _| true)).unwrap_err().contains("1024"));
    }

    #[test]
    fn archives_become_splits_labelled_by_alphabet() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("omniglot")).unwrap();
        let write = |name: &str, files: &[(&str, Vec<u8>)]| std::fs::write(folder.path().join(name), archive(files)).unwrap();
        let p = || picture(105, |x, y| x > y);
        write(
            ARCHIVES[0],
            &[("images_background/Latin/character02/0002_01.png", p()), ("images_background/Greek/character01/0001_01.png", p())],
        );
        write(ARCHIVES[1], &[("images_evaluation/Tibetan/character01/0003_01.png", p())]);
        let data = OmniglotConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap();
        assert_eq!(data.info().classes, ["Greek", "Latin", "Tibetan"]);
        assert_eq!((data.split(Split::Train).labels(), data.split(Split::Test).labels()), (vec![0, 1], vec![2]));
        // Unpacked archives are read as well, and have to agree with packed ones.
        let unpacked = folder.path().join("omniglot/images_background");
        for (name, content) in [("Latin/character02/0002_01.png", p()), ("Greek/character01/0001_01.png", p())] {
            std::fs::create_dir_all(unpacked.join(name).parent().unwrap()).unwrap();
            std::fs::write(unpacked.join(name), content).unwrap();
        }
        let both = OmniglotConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap();
        std::fs::rename(folder.path().join(ARCHIVES[0]), folder.path().join("aside.zip")).unwrap();
        let plain = OmniglotConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap();
        for other in [&both, &plain] {
            assert_eq!((other.split(Split::Train), other.info()), (data.split(Split::Train), data.info()));
        }
        std::fs::rename(folder.path().join("aside.zip"), folder.path().join(ARCHIVES[0])).unwrap();
        std::fs::write(unpacked.join("Latin/character02/0002_02.png"), p()).unwrap();
        let error = OmniglotConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("images_background.zip`") && error.contains("images_background`") && error.contains("differ"), "{error}");
        std::fs::remove_file(folder.path().join(ARCHIVES[0])).unwrap();
        std::fs::write(folder.path().join(ARCHIVES[1]), b"PK").unwrap();
        let error = OmniglotConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("images_evaluation.zip") && error.contains("damaged"), "{error}");
    }

    #[test]
    fn the_published_images_are_read() {
        let Some(root) = real_data("omniglot") else { return };
        let data = OmniglotConfig { scale: GreyScale::Unit, ..OmniglotConfig::default() }.load(&root).unwrap();
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len()), (19_280, 13_180));
        assert_eq!(data.info().classes.len(), 50);
        // Whoever packed the archives: their pictures are the published ones.
        let verdicts = verify(&OmniglotConfig::default().files(), &root.0);
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Ok), "{verdicts:?}");
        let mut values = Vec::new();
        data.split(Split::Train).gather(&(0..500).collect::<Vec<_>>(), &mut values);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((0.02..0.2).contains(&mean), "{mean}");
    }
}
