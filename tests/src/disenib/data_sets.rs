//! The factor subsets, the shapes and the sprites.

use std::path::PathBuf;

use ibhost_datasets::factors::{Factor, Subset};
use ibhost_datasets::shapes::{SIDE, draw};
use ibhost_datasets::sprites::{SIZES, SpritesConfig};
use ibhost_framework::dataset::{DataRoot, DatasetConfig, Split};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Outcome;
use super::data::tolerance;
use crate::golden::{self, at, close, count, list, member, object, text};

/// Names of the factors of dSprites, which the vectors keep values of.
const SHAPES: [&str; 5] = ["shape", "scale", "orientation", "pos_x", "pos_y"];

pub(super) fn factor_subset(file: &Value) -> Outcome {
    let output = member(file, "outputs")?;
    let sizes: Vec<usize> = golden::tensor(at(file, &["inputs", "sizes"])?)?.1.into_iter().map(|n| n as usize).collect();
    let kept = object(at(file, &["inputs", "kept"])?)?;
    if sizes.len() != SHAPES.len() {
        return Err(format!("{} factors, expected {SHAPES:?}", sizes.len()));
    }
    let mut factors = Vec::new();
    for (&name, &size) in SHAPES.iter().zip(&sizes) {
        let listed: Vec<usize> = match kept.get(name) {
            Some(values) => golden::numbers(values)?.into_iter().map(|n| n as usize).collect(),
            None => Vec::new(),
        };
        factors.push(Factor::new("golden", name, size, &listed).map_err(|e| e.to_string())?);
    }
    if let Some(unknown) = kept.keys().find(|name| !SHAPES.contains(&name.as_str())) {
        return Err(format!("`{unknown}` is not one of {SHAPES:?}"));
    }
    let subset = Subset::new(&factors);
    let exact = |name: &str, found: &[f64], key: &str| close(name, found, &golden::tensor(member(output, key)?)?.1, 0.0, 0.0);
    exact("count", &[subset.len() as f64], "count")?;
    let numbers = |values: &[usize]| values.iter().map(|v| *v as f64).collect::<Vec<_>>();
    let thinned: Vec<usize> = subset.positions.iter().step_by(17).copied().collect();
    exact("positions", &numbers(&thinned), "flat_index_every_17th")?;
    let labels: Vec<f64> =
        (0..subset.len()).step_by(17).flat_map(|i| subset.factors.of(i).iter().map(|v| f64::from(*v)).collect::<Vec<_>>()).collect();
    exact("labels", &labels, "labels_every_17th")?;
    exact("sum of positions", &[subset.positions.iter().sum::<usize>() as f64], "sum_of_flat_indices")?;
    exact("sizes", &numbers(&subset.factors.sizes), "factor_sizes")?;
    // The fixed images of the debugging grid, at the largest scale: positions of (shape, orientation, x, y).
    let fixed = [
        (0, 3, 8, 8),
        (0, 3, 24, 24),
        (0, 36, 8, 8),
        (0, 36, 24, 24),
        (1, 3, 8, 8),
        (1, 3, 24, 24),
        (1, 36, 8, 8),
        (1, 36, 24, 24),
        (2, 3, 8, 8),
        (2, 36, 24, 24),
    ];
    let (_, want) = golden::tensor(member(output, "debug_grid_flat_indices")?)?;
    let scale = kept.get("scale").and_then(|v| v.get(0)).and_then(Value::as_u64).unwrap_or(5) as usize;
    let found: Vec<f64> =
        fixed.iter().map(|&(s, o, x, y)| ((((s * sizes[1] + scale) * sizes[2] + o) * sizes[3] + x) * sizes[4] + y) as f64).collect();
    close("debug_grid", &found, &want, 0.0, 0.0)?;
    match found.iter().find(|position| !subset.positions.contains(&(**position as usize))) {
        Some(missing) => Err(format!("image {missing} of the debugging grid is not in the subset")),
        None => Ok(()),
    }
}

pub(super) fn shapes(file: &Value) -> Outcome {
    let allowed = tolerance(file).0;
    for image in list(at(file, &["outputs", "images"])?)? {
        let factor = |name| count(image, name);
        let factors = [factor("shape")?, factor("scale")?, factor("orientation")?, factor("pos_x")?, factor("pos_y")?];
        let drawn = draw(factors);
        let rows = list(member(image, "rows_hex")?)?;
        if rows.len() != SIDE {
            return Err(format!("{} rows, expected {SIDE}", rows.len()));
        }
        let mut off = 0;
        for (y, row) in rows.iter().enumerate() {
            let bits = row.as_str().and_then(|hex| u64::from_str_radix(hex, 16).ok()).ok_or("a row is not a hexadecimal number")?;
            off += (0..SIDE).filter(|x| (bits >> (SIDE - 1 - x) & 1 == 1) != (drawn[y * SIDE + x] == 1)).count();
        }
        if off as f64 > allowed {
            return Err(format!("{factors:?} differs in {off} pixels, at most {allowed} are allowed"));
        }
        close("area", &[drawn.iter().map(|b| f64::from(*b)).sum()], &[count(image, "area")? as f64], allowed, 0.0)?;
    }
    Ok(())
}

/// The folder of real data, if the sheets are there.
fn data_root() -> Option<DataRoot> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    std::env::var_os("IBHOST_DATA").map(PathBuf::from).into_iter().chain([own]).find(|root| root.join("sprites").is_dir()).map(DataRoot)
}

pub(super) fn sprites(file: &Value) -> Outcome {
    let Some(root) = data_root() else {
        println!("golden disenib: the sprites are not compared, there is no folder `sprites` in IBHOST_DATA");
        return Ok(());
    };
    let output = member(file, "outputs")?;
    let data = SpritesConfig::default().load(&root).map_err(|e| e.to_string())?;
    let samples = data.split(Split::Train);
    let exact = |name: &str, found: &[f64], want: &Value| close(name, found, &golden::tensor(want)?.1, 0.0, 0.0);
    exact("num_images", &[samples.len() as f64], member(output, "num_images")?)?;
    let shape = samples.shape();
    exact("image_shape", &shape.map(|n| n as f64), member(output, "image_shape")?)?;
    let mut values = Vec::new();
    samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut values);
    // Unit scaling divides bytes by 255.
    let bytes: Vec<u8> = values.into_iter().map(|v| (255.0 * v).round() as u8).collect();
    let size: usize = shape.iter().product();
    let sums: Vec<f64> = bytes.chunks_exact(size).map(|image| image.iter().map(|b| f64::from(*b)).sum()).collect();
    exact("sums", &sums, member(output, "sum_of_bytes_per_image")?)?;
    let digest: String = Sha256::digest(&bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    if digest != text(output, "sha256_of_all_bytes_NCHW")? {
        return Err(format!("the SHA-256 of all bytes is {digest}"));
    }
    for (key, want) in object(member(output, "pixel_rows")?)? {
        let words: Vec<usize> = key.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        let [image, from, to, channel] = words[..] else { return Err(format!("`{key}` names no rows")) };
        let start = image * size + channel * shape[1] * shape[2];
        let rows: Vec<f64> = bytes[start + from * shape[2]..start + to * shape[2]].iter().map(|b| f64::from(*b)).collect();
        exact(key, &rows, want)?;
    }
    for (key, want) in object(output)? {
        let Some(indices) = key.strip_prefix("labels_of_indices_") else { continue };
        let factors = data.factors().ok_or("no factors")?;
        let mut found = Vec::new();
        for index in indices.split('_') {
            let index: usize = index.parse().map_err(|_| format!("`{key}` names no image"))?;
            found.extend(factors.of(index).iter().map(|v| f64::from(*v)));
        }
        exact(key, &found, want)?;
    }
    let fixed = [(0, 3, 3), (1, 3, 1), (2, 3, 46), (3, 1, 64), (4, 1, 30), (5, 3, 33), (6, 0, 65), (7, 2, 6)];
    let found: Vec<f64> = fixed.iter().map(|(i, v, f)| ((i * SIZES[1] + v) * SIZES[2] + f) as f64).collect();
    exact("debug_grid", &found, member(output, "debug_grid_flat_indices")?)?;
    Ok(())
}
