//! Characters of the Liberated Pixel Cup in four views and 73 poses, cut from their sheets.

use std::io::BufReader;

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::factors::{Factor, FactorDataset, ImageRange, Subset};
use crate::file::Place;
use crate::locate::{located, missing};

/// Characters, views and poses.
pub const SIZES: [usize; 3] = [8, 4, 73];
/// `[channels, height, width]` of an image.
pub const SHAPE: [usize; 3] = [3, 60, 60];
/// Edge of a cell of a sheet, and the sheet in cells.
const CELL: usize = 64;
const SHEET: [usize; 2] = [13, 21];
/// Weapons, in the order of the sheets of a character.
const WEAPONS: [&str; 2] = ["bow", "spear"];
/// Bytes and md5 of the sheets of each character, in the order of the weapons.
const PUBLISHED: [[(u64, &str); 2]; 8] = [
    [(131_095, "5324680b4bf691de365e419fbf2697fe"), (128_424, "6aa28a85069e3aa5aa6a2b63ed02beaf")],
    [(139_321, "491af9b2afcc31ac91c411da279559e5"), (136_654, "b26b9e22766f4deaee0e3490972283c9")],
    [(135_738, "03bc61378ea4e35609e4f050bb9795ee"), (133_021, "1166d614096b647956311bf73d6e4ad2")],
    [(137_696, "d35a8c956bd183642c7a0cb9cb65c8e8"), (135_376, "92e8b97f5c245caa743335bfdd29b678")],
    [(131_765, "1ee57766a1bfc552b32cb5230113130e"), (129_458, "68309f3f8927b1a596c294fd38b679d0")],
    [(135_064, "448e80abf9d764641a5cfc64d3ba3e90"), (133_026, "89861959f2f2a05b74b9e7a51477ba3a")],
    [(132_862, "56527a97a7ec2bfbfdb3450c5b888e8a"), (130_436, "ea941220b5965d7cb7b406ecdd392b50")],
    [(136_329, "7a32f9addc2bdf7f7186b2f4d92ef210"), (133_584, "a0e8a501777fb3682f50b581ab02995c")],
];
const MIRROR: &str = "https://raw.githubusercontent.com/PanZiqiAI/disentangled-information-bottleneck/master/datasets/sprites/";

/// Poses in order: first row of the action (its four rows are the views), number of its poses, weapon.
const ACTIONS: [(usize, usize, usize); 8] = [(0, 7, 0), (4, 8, 0), (4, 8, 1), (8, 9, 0), (8, 9, 1), (12, 6, 1), (16, 13, 1), (16, 13, 0)];

/// Sprites: 8 characters in 4 views and 73 poses, 2,336 images of 60x60, colour; the class is the character.
///
/// Cut from the 16 sheets `sprites/instance[i]-bow.png` and `-spear.png` of 832x1344 pixels: of each 64x64 cell rows 8 to 63 and columns
/// 2 to 61, four black rows below, transparency dropped. Factors instance, view (up, left, down, right) and frame; listed values are kept
/// in the order listed. There is no test split: test quantities are measured on the training images. The art is that of the Liberated
/// Pixel Cup (GPL 3.0 and CC-BY-SA 3.0, credit to its artists).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SpritesConfig {
    /// Characters kept, 0 to 7.
    #[schemars(length(max = 8))]
    pub instance: Vec<usize>,
    /// Views kept, 0 to 3.
    #[schemars(length(max = 4))]
    pub view: Vec<usize>,
    /// Poses kept, 0 to 72.
    #[schemars(length(max = 73))]
    pub frame: Vec<usize>,
    /// Range of the inputs.
    pub range: ImageRange,
}

/// Row and column of the cell of a pose in a view, and the weapon's sheet.
fn cell_of(view: usize, frame: usize) -> (usize, usize, usize) {
    let mut rest = frame;
    for (row, poses, weapon) in ACTIONS {
        if rest < poses {
            return (row + view, rest, weapon);
        }
        rest -= poses;
    }
    unreachable!("the poses of all actions are 73, and {frame} is not among them")
}

fn path_of(instance: usize, weapon: usize) -> String {
    format!("sprites/instance[{instance}]-{}.png", WEAPONS[weapon])
}

/// RGBA pixels of a sheet.
fn read_sheet(place: Place<'_>) -> Result<Vec<u8>, DataError> {
    let damaged = |expected: &str, found: String| place.damaged(0, expected, found);
    let (file, _) = place.open()?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(|e| damaged("a PNG image", e.to_string()))?;
    let info = reader.info();
    let expected = ((SHEET[0] * CELL) as u32, (SHEET[1] * CELL) as u32);
    if (info.width, info.height) != expected || info.color_type != png::ColorType::Rgba || info.bit_depth != png::BitDepth::Eight {
        let found = format!("{}x{} {:?} {:?}", info.width, info.height, info.color_type, info.bit_depth);
        return Err(damaged("832x1344 pixels of 8-bit RGBA", found));
    }
    let mut pixels = vec![0; SHEET[0] * SHEET[1] * CELL * CELL * 4];
    reader.next_frame(&mut pixels).map_err(|e| damaged("a complete PNG image", e.to_string()))?;
    Ok(pixels)
}

/// The image in the cell (row, column) of a sheet, channels first.
fn cut(sheet: &[u8], row: usize, column: usize, out: &mut Vec<u8>) {
    let [channels, height, width] = SHAPE;
    for channel in 0..channels {
        for y in 0..height {
            for x in 0..width {
                let (line, at) = (row * CELL + y + 8, column * CELL + x + 2);
                // Cells end 56 rows below the cut's first one.
                out.push(if y < CELL - 8 { sheet[(line * SHEET[0] * CELL + at) * 4 + channel] } else { 0 });
            }
        }
    }
}

#[typetag::serde(name = "sprites")]
impl DatasetConfig for SpritesConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let factor = |name, at: usize, listed: &[usize]| Factor::new("sprites", name, SIZES[at], listed);
        let factors = [factor("instance", 0, &self.instance)?, factor("view", 1, &self.view)?, factor("frame", 2, &self.frame)?];
        let subset = Subset::new(&factors);
        let (files, found) = (self.files(), located("sprites", &self.files(), root)?);
        // Characters that are not kept need no sheets.
        let sheet = |instance: usize, weapon: usize| match &found[2 * instance + weapon] {
            Some(path) => read_sheet(Place::new("sprites", root, path)),
            None => Err(missing("sprites", &files[2 * instance + weapon], root)),
        };
        let mut bytes = Vec::with_capacity(subset.len() * SHAPE.iter().product::<usize>());
        let mut labels = Vec::with_capacity(subset.len());
        let mut open: Option<(usize, [Vec<u8>; 2])> = None;
        for values in subset.values.chunks_exact(3) {
            let (instance, view, frame) = (values[0], values[1], values[2]);
            // Samples run through the characters one after the other, so one character's sheets are enough.
            let sheets = match &open {
                Some((known, sheets)) if *known == instance => sheets,
                _ => {
                    let sheets = [sheet(instance, 0)?, sheet(instance, 1)?];
                    &open.insert((instance, sheets)).1
                }
            };
            let (row, column, weapon) = cell_of(view, frame);
            cut(&sheets[weapon], row, column, &mut bytes);
            labels.push(factors[0].kept.iter().position(|kept| *kept == instance).unwrap_or(0) as u8);
        }
        let classes = factors[0].kept.iter().map(|i| format!("character {i}")).collect();
        let info = DataInfo { name: "sprites".to_owned(), classes, shape: SHAPE, note: None, class_entropy: None };
        Ok(Box::new(FactorDataset::new(info, bytes, labels, subset.factors, self.range, 255.0)?))
    }

    fn files(&self) -> Vec<DataFile> {
        let file = |instance: usize, weapon: usize| {
            let (bytes, md5) = PUBLISHED[instance][weapon];
            let mirrors = vec![format!("{MIRROR}instance%5B{instance}%5D-{}.png", WEAPONS[weapon])];
            DataFile { path: path_of(instance, weapon), bytes: Some(bytes), md5: Some(md5.to_owned()), mirrors, ..DataFile::default() }
        };
        (0..SIZES[0]).flat_map(|instance| [0, 1].map(|weapon| file(instance, weapon))).collect()
    }
}

ibhost_framework::register! {
    Dataset: SpritesConfig as DatasetConfig, aliases: [], paper: "Reed et al. 2015; Pan et al. 2021, arXiv:2012.07372",
    example: "sprites/view:[0;2]"
}

#[cfg(test)]
mod tests {
    use ibhost_framework::dataset::Split;

    use super::*;
    use crate::image::real_data;
    use crate::verify::{Verdict, verify};

    #[test]
    fn poses_follow_the_order_of_the_actions() {
        assert_eq!(ACTIONS.iter().map(|(_, poses, _)| poses).sum::<usize>(), SIZES[2]);
        assert_eq!(
            [cell_of(1, 0), cell_of(0, 7), cell_of(3, 15), cell_of(0, 41), cell_of(2, 72)],
            [(1, 0, 0), (4, 0, 0), (7, 0, 1), (12, 0, 1), (18, 12, 0)]
        );
    }

    #[test]
    fn cells_lose_their_margin_and_gain_black_rows() {
        let mut sheet = vec![0; SHEET[0] * SHEET[1] * CELL * CELL * 4];
        let mut set = |y: usize, x: usize, value: u8| sheet[(y * SHEET[0] * CELL + x) * 4 + 1] = value;
        set(CELL + 8, 2 * CELL + 2, 9);
        set(CELL + 63, 2 * CELL + 61, 7);
        set(2 * CELL, 2 * CELL + 10, 5);
        let mut image = Vec::new();
        cut(&sheet, 1, 2, &mut image);
        assert_eq!((image.len(), image[3600], image[3600 + 55 * 60 + 59]), (10_800, 9, 7));
        assert_eq!(image.iter().map(|&b| u32::from(b)).sum::<u32>(), 16, "the rows of the next cell are not taken");
    }

    #[test]
    fn the_sheets_are_read() {
        let Some(root) = real_data("sprites") else { return };
        let data = SpritesConfig::default().load(&root).unwrap();
        let train = data.split(Split::Train);
        assert_eq!((train.len(), train.shape()), (2336, SHAPE));
        assert_eq!(train.value_range(), (0.0, 1.0));
        assert!(verify(&SpritesConfig::default().files(), &root.0).iter().all(|(_, verdict)| *verdict == Verdict::Ok));
        let some = SpritesConfig { instance: vec![7, 2], view: vec![3], frame: vec![72], ..SpritesConfig::default() }.load(&root).unwrap();
        assert_eq!((some.split(Split::Train).labels(), some.info().classes.len()), (vec![0, 1], 2));
    }

    #[test]
    fn a_missing_sheet_is_named() {
        let error = SpritesConfig::default().load(&DataRoot("/nowhere".into())).unwrap_err().to_string();
        assert!(error.contains("instance[0]-bow.png"), "{error}");
    }
}
