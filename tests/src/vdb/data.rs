//! Data sets: `normalisation`, `augmentation`, `two_d_samples`, `stratified_kfold`.

use std::collections::BTreeSet;

use ibhost_datasets::augmentation::shift_and_flip;
use ibhost_datasets::kfold::stratified_folds;
use ibhost_datasets::scaling::{Affine, ColourScale, GreyScale, to_scaling};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataRoot, DatasetConfig, Samples, Split, Values};
use ibhost_framework::registry::Kind;
use serde_json::Value;

use crate::golden::{Array, close, count, list, member, number, numbers, permuted, tensor, tolerance};

pub(super) fn normalisation(file: &Value) -> Result<(), String> {
    let tolerance = tolerance(file);
    let raw = tensor(member(member(file, "inputs")?, "x")?)?;
    let outputs = member(file, "outputs")?;
    let channels = raw.0.last().copied().unwrap_or_default();
    scaled("mnist", &raw, &vec![GreyScale::Symmetric.affine(); channels], member(outputs, "mnist")?, tolerance)?;
    scaled("cifar10", &raw, &ColourScale::Standard.affine(), member(outputs, "cifar10")?, tolerance)
}

/// The maps themselves, and the same through a data set's samples.
fn scaled(name: &str, raw: &Array, maps: &[Affine], want: &Value, (abs, rel): (f64, f64)) -> Result<(), String> {
    let (shape, data) = raw;
    let [batch, height, width, channels] = **shape else { return Err(format!("{name}: images of shape {shape:?}")) };
    if maps.len() != channels {
        return Err(format!("{name}: {} maps for {channels} channels", maps.len()));
    }
    let want = tensor(want)?;
    let direct: Vec<f64> = data.iter().enumerate().map(|(i, &x)| maps[i % channels].apply(x)).collect();
    close(name, &direct, &want.1, abs, rel)?;
    let first = permuted(raw, &[0, 3, 1, 2])?.1;
    let bytes: Vec<u8> = first.iter().map(|&x| x as u8).collect();
    let is_bytes = first.iter().zip(&bytes).all(|(&x, &b)| x == f64::from(b));
    let values = if is_bytes { Values::U8(bytes.into()) } else { Values::F32(first.iter().map(|&x| x as f32).collect::<Vec<_>>().into()) };
    let samples = Samples::new(values, vec![0; batch], [channels, height, width], to_scaling(maps)).map_err(|e| e.to_string())?;
    let mut gathered = Vec::new();
    samples.gather(&(0..batch).collect::<Vec<_>>(), &mut gathered);
    let gathered: Vec<f64> = gathered.into_iter().map(f64::from).collect();
    close(&format!("{name} samples"), &gathered, &permuted(&want, &[0, 3, 1, 2])?.1, abs, rel)
}

pub(super) fn augmentation(file: &Value) -> Result<(), String> {
    let (abs, rel) = tolerance(file);
    let image = tensor(member(member(file, "inputs")?, "x")?)?;
    let (shape, values) = permuted(&image, &[2, 0, 1])?;
    let shape: [usize; 3] = shape.try_into().map_err(|shape| format!("image of shape {shape:?}"))?;
    for (index, case) in list(member(member(file, "outputs")?, "cases")?)?.iter().enumerate() {
        let flip = member(case, "flip")?.as_bool().ok_or("`flip` is neither true nor false")?;
        let found = shift_and_flip(&values, shape, number(case, "tx_rows")?, number(case, "ty_cols")?, flip);
        let want = permuted(&tensor(member(case, "y")?)?, &[2, 0, 1])?.1;
        close(&format!("case {index}"), &found, &want, abs, rel)?;
    }
    Ok(())
}

pub(super) fn two_d_samples(file: &Value) -> Result<(), String> {
    let (abs, rel) = tolerance(file);
    let outputs = member(file, "outputs")?;
    let found = ibhost_datasets::two_d_samples();
    let as_numbers: Vec<f64> = found.iter().map(|&i| i as f64).collect();
    close("indices", &as_numbers, &tensor(member(outputs, "indices")?)?.1, abs, rel)?;
    let unique = found.iter().collect::<BTreeSet<_>>().len();
    if unique == count(outputs, "n_unique")? { Ok(()) } else { Err(format!("{unique} indices are distinct")) }
}

pub(super) fn stratified_kfold(file: &Value) -> Result<(), String> {
    let (abs, rel) = tolerance(file);
    let inputs = member(file, "inputs")?;
    let labels: Vec<i64> = tensor(member(inputs, "labels")?)?.1.into_iter().map(|x| x as i64).collect();
    let folds = stratified_folds(&labels, count(inputs, "n_splits")?);
    let want = list(member(member(file, "outputs")?, "val_folds")?)?;
    if folds.len() != want.len() {
        return Err(format!("{} folds, expected {}", folds.len(), want.len()));
    }
    for (index, (fold, want)) in folds.iter().zip(want).enumerate() {
        let fold: Vec<f64> = fold.iter().map(|&i| i as f64).collect();
        close(&format!("fold {index}"), &fold, &tensor(want)?.1, abs, rel)?;
    }
    let published = file.get("published_folds").and_then(Value::as_object);
    published
        .into_iter()
        .flatten()
        .try_for_each(|(name, want)| published_folds(name, want).map_err(|e| format!("published folds of {name}: {e}")))
}

/// Sums and ends of stored folds, which need the real labels: checked where `IBHOST_DATA` names a folder with the complete data set.
/// Without it only what holds for every partition is.
fn published_folds(name: &str, want: &Value) -> Result<(), String> {
    let (rows, per_fold) = (count(want, "rows")?, count(want, "per_fold")?);
    let sums = numbers(member(want, "sum_of_indices")?)?;
    let n = (rows * per_fold) as f64;
    close("sum over all folds", &[sums.iter().sum()], &[n * (n - 1.0) / 2.0], 0.0, 0.0)?;
    let Some(labels) = labels_of(name, rows * per_fold) else { return Ok(()) };
    for (index, fold) in stratified_folds(&labels, rows).iter().enumerate() {
        let ends = |key: &str| numbers(list(member(want, key)?)?.get(index).ok_or("a fold is missing")?);
        let found: Vec<f64> = fold.iter().map(|&i| i as f64).collect();
        let (first, last) = (ends("first5")?, ends("last5")?);
        if found.len() != per_fold || first.len() > per_fold || last.len() > per_fold {
            return Err(format!("fold {index} has {} samples", found.len()));
        }
        close(&format!("sum of fold {index}"), &[found.iter().sum()], &sums[index..=index], 0.0, 0.0)?;
        close(&format!("start of fold {index}"), &found[..first.len()], &first, 0.0, 0.0)?;
        close(&format!("end of fold {index}"), &found[per_fold - last.len()..], &last, 0.0, 0.0)?;
    }
    Ok(())
}

fn labels_of(name: &str, complete: usize) -> Option<Vec<u8>> {
    let root = std::env::var_os("IBHOST_DATA")?;
    let (_, config) = resolve::<dyn DatasetConfig>(Kind::Dataset, name).ok()?;
    let data = config.load(&DataRoot(root.into())).ok()?;
    let labels = data.split(Split::Train).labels();
    (labels.len() == complete).then_some(labels)
}
