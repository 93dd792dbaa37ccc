//! Tensors as plain host data and their bytes in the safetensors format.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, View};

/// The one name the format keeps for itself.
const RESERVED_NAME: &str = "__metadata__";

/// A tensor in host memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values, as many as the product of `shape`.
    pub data: HostData,
}

/// Values of one element type.
#[derive(Clone, Debug, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 64-bit signed integers.
    I64(Vec<i64>),
    /// Bytes and flags.
    U8(Vec<u8>),
}

impl HostData {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U8(v) => v.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl View for &HostTensor {
    fn dtype(&self) -> Dtype {
        match self.data {
            HostData::F32(_) => Dtype::F32,
            HostData::F64(_) => Dtype::F64,
            HostData::I64(_) => Dtype::I64,
            HostData::U8(_) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.data {
            HostData::F32(v) => Cow::Owned(v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            HostData::F64(v) => Cow::Owned(v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            HostData::I64(v) => Cow::Owned(v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            HostData::U8(v) => Cow::Borrowed(v),
        }
    }

    fn data_len(&self) -> usize {
        self.data.len() * View::dtype(self).bitsize() / 8
    }
}

/// The file content for a group of tensors; the same tensors give the same bytes.
///
/// # Errors
/// Names the tensor whose shape and values disagree or whose name the format reserves.
pub fn to_bytes(tensors: &BTreeMap<String, HostTensor>) -> Result<Vec<u8>, String> {
    for (name, tensor) in tensors {
        let expected = tensor.shape.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis));
        if expected != Some(tensor.data.len()) {
            return Err(format!("tensor `{name}` has shape {:?} but {} values", tensor.shape, tensor.data.len()));
        }
        if name == RESERVED_NAME {
            return Err(format!("no tensor can be called `{RESERVED_NAME}`"));
        }
    }
    safetensors::serialize(tensors, None).map_err(|e| e.to_string())
}

/// The tensors of a file's content; every size the header states is checked against the bytes that are there.
///
/// # Errors
/// Says what is wrong with the header, or which tensor has an element type other than those of [`HostData`].
pub fn from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, HostTensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a valid safetensors file: {e}"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let raw = view.data();
        let data = match view.dtype() {
            Dtype::F32 => HostData::F32(values(raw, f32::from_le_bytes)),
            Dtype::F64 => HostData::F64(values(raw, f64::from_le_bytes)),
            Dtype::I64 => HostData::I64(values(raw, i64::from_le_bytes)),
            Dtype::U8 => HostData::U8(raw.to_vec()),
            other => return Err(format!("tensor `{name}` has element type {other:?}; F32, F64, I64 and U8 are read")),
        };
        tensors.insert(name.to_owned(), HostTensor { shape: view.shape().to_vec(), data });
    }
    Ok(tensors)
}

/// Numbers of `N` little-endian bytes each.
fn values<T, const N: usize>(raw: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|chunk| decode(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(tensors: Vec<(&str, Vec<usize>, HostData)>) -> BTreeMap<String, HostTensor> {
        tensors.into_iter().map(|(name, shape, data)| (name.to_owned(), HostTensor { shape, data })).collect()
    }

    #[test]
    fn every_kind_scalars_and_empty_tensors_come_back() {
        let tensors = group(vec![
            ("f32", vec![2, 3], HostData::F32(vec![1.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, 1e-45])),
            ("f64", vec![2], HostData::F64(vec![0.1, f64::NEG_INFINITY])),
            ("i64", vec![1, 1, 3], HostData::I64(vec![i64::MIN, 0, i64::MAX])),
            ("u8", vec![4], HostData::U8(vec![0, 1, 128, 255])),
            ("scalar f32", vec![], HostData::F32(vec![7.25])),
            ("scalar i64", vec![], HostData::I64(vec![-1])),
            ("empty", vec![0, 5], HostData::F32(vec![])),
            ("empty.u8 ü", vec![0], HostData::U8(vec![])),
        ]);
        let bytes = to_bytes(&tensors).unwrap();
        assert_eq!(from_bytes(&bytes).unwrap(), tensors);
        assert_eq!(to_bytes(&tensors).unwrap(), bytes);
        let none = to_bytes(&BTreeMap::new()).unwrap();
        assert!(from_bytes(&none).unwrap().is_empty());
    }

    #[test]
    fn the_bits_of_nan_are_kept() {
        let odd = f32::from_bits(0x7fc0_1234);
        let read = from_bytes(&to_bytes(&group(vec![("nan", vec![1], HostData::F32(vec![odd]))])).unwrap()).unwrap();
        let HostData::F32(values) = &read["nan"].data else { panic!("another element type") };
        assert_eq!(values[0].to_bits(), odd.to_bits());
    }

    #[test]
    fn disagreeing_shapes_and_reserved_names_are_refused() {
        let short = to_bytes(&group(vec![("w", vec![2, 2], HostData::F32(vec![0.0; 3]))])).unwrap_err();
        assert!(short.contains("`w`") && short.contains("[2, 2]") && short.contains('3'), "{short}");
        let huge = to_bytes(&group(vec![("w", vec![usize::MAX, 2], HostData::U8(vec![]))]));
        assert!(huge.is_err());
        assert!(to_bytes(&group(vec![(RESERVED_NAME, vec![0], HostData::U8(vec![]))])).is_err());
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let file = |header: &str, data: &[u8]| [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        let lies = [
            file(r#"{"w":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,16000000000]}}"#, &[0; 16]),
            file(r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#, &[0; 8]),
            file(r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,0]}}"#, &[]),
            file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &[0; 8]),
            [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat(),
            vec![1, 2, 3],
        ];
        for lie in &lies {
            assert!(from_bytes(lie).unwrap_err().contains("safetensors"));
        }
        let other = file(r#"{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]);
        assert!(from_bytes(&other).unwrap_err().contains("BF16"));
    }
}
