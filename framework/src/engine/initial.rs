//! Weights a new run starts from: a file of this program's checkpoints, or one converted from an original implementation's.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::EngineError;
use crate::objective::BoxedObjective;
use crate::parameters::{for_each, from_host};
use crate::storage::tensors::from_bytes;
use crate::storage::{HostData, HostTensor};

/// `model` with the weights of the safetensors file at `path`. Names are parameter paths, or the original implementation's where the
/// objective knows them ([`published_name`](crate::objective::Objective::published_name)).
///
/// # Errors
/// [`EngineError::Inconsistent`] naming the file and the first parameter without value, value without parameter, or difference of shape.
pub fn with_initial_weights(model: BoxedObjective, path: &Path) -> Result<BoxedObjective, EngineError> {
    let wrong = |reason: String| EngineError::Inconsistent { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("the initial weights cannot be read: {error}")))?;
    let mut tensors = from_bytes(&bytes).map_err(|reason| wrong(format!("the initial weights cannot be read: {reason}")))?;
    let mut values = BTreeMap::new();
    let mut missing = None;
    for_each(&model, |seen| {
        let published = model.published_name(seen.path);
        let found = match (tensors.remove(seen.path), published.as_deref()) {
            (None, Some(name)) => tensors.remove(name).map(|tensor| in_our_layout(tensor, &seen.shape)),
            (found, _) => found.map(|tensor| unflattened(tensor, &seen.shape)),
        };
        match found {
            Some(tensor) => drop(values.insert(seen.path.to_owned(), tensor)),
            None if missing.is_none() => {
                let other = published.map_or_else(String::new, |name| format!(" (`{name}` in the original)"));
                missing = Some(format!(
                    "holds no value for parameter `{}`{other}; the components must be those the weights were trained with",
                    seen.path
                ));
            }
            None => {}
        }
    });
    if let Some(missing) = missing {
        return Err(wrong(missing));
    }
    if let Some(name) = tensors.keys().next() {
        return Err(wrong(format!(
            "holds `{name}`, which the model does not have; the components must be those the weights were trained with"
        )));
    }
    from_host(model, &values, false).map_err(|error| wrong(error.to_string()))
}

/// A tensor of ours that was stored flat, as averages were once, in the `shape` of its parameter.
fn unflattened(tensor: HostTensor, shape: &[usize]) -> HostTensor {
    let HostTensor { shape: stored, data } = tensor;
    let is_flat = stored.len() == 1 && shape.iter().product::<usize>() == data.len();
    HostTensor { shape: if is_flat { shape.to_vec() } else { stored }, data }
}

/// A tensor in the layout of the original as ours of `shape`: dense weights transposed, scalars as one number.
fn in_our_layout(tensor: HostTensor, shape: &[usize]) -> HostTensor {
    let HostTensor { shape: stored, data } = tensor;
    match stored[..] {
        [] => HostTensor { shape: shape.to_vec(), data },
        [rows, columns] => {
            let order = (0..rows * columns).map(|i| i % rows * columns + i / rows);
            let data = match data {
                HostData::F32(v) => HostData::F32(order.map(|i| v[i]).collect()),
                HostData::F64(v) => HostData::F64(order.map(|i| v[i]).collect()),
                other => other,
            };
            HostTensor { shape: vec![columns, rows], data }
        }
        _ => HostTensor { shape: stored, data },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_weights_are_transposed_and_scalars_get_an_axis() {
        let tensor = HostTensor { shape: vec![2, 3], data: HostData::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) };
        let ours = in_our_layout(tensor, &[3, 2]);
        assert_eq!(ours, HostTensor { shape: vec![3, 2], data: HostData::F32(vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]) });
        let scalar = HostTensor { shape: vec![], data: HostData::F32(vec![7.0]) };
        assert_eq!(in_our_layout(scalar, &[1]).shape, [1]);
    }

    #[test]
    fn flat_averages_of_earlier_versions_get_the_shape_of_their_parameter() {
        let flat = |n: usize| HostTensor { shape: vec![n], data: HostData::F32(vec![0.5; n]) };
        assert_eq!(unflattened(flat(6), &[3, 2]).shape, [3, 2]);
        assert_eq!(unflattened(flat(5), &[3, 2]).shape, [5], "another model's value keeps the shape that is refused");
        let square = HostTensor { shape: vec![2, 3], data: HostData::F32(vec![0.5; 6]) };
        assert_eq!(unflattened(square, &[3, 2]).shape, [2, 3]);
    }
}
