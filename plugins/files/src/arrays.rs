//! Arrays of numbers or words as containers hold them, how rows become inputs of a shape, and reading of a container by its ending.

use std::path::Path;

use ibhost_datasets::mat::{MatValues, read_all};
use ibhost_framework::dataset::DataError;
use safetensors::{Dtype, SafeTensors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bytes::{read, refuse};
use crate::column::Column;
use crate::{idx, numpy};

/// Values of an array, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    /// Bytes, as pictures are kept.
    U8(Vec<u8>),
    /// Any other numbers, in single precision.
    F32(Vec<f32>),
    /// Numbers that single precision might not hold exactly.
    F64(Vec<f64>),
    /// Words.
    Words(Vec<String>),
}

/// An array with the sizes of its dimensions, slowest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes; the first is the number of records.
    pub dims: Vec<usize>,
    /// As many values as the product of the sizes.
    pub buffer: Buffer,
}

/// How the dimensions of pictures are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// By the sizes: the dimension of 1 or 3 holds the channels.
    #[default]
    Auto,
    /// `[n, channels, height, width]`.
    ChannelsFirst,
    /// `[n, height, width, channels]`.
    ChannelsLast,
}

impl Array {
    /// Number of records.
    pub fn rows(&self) -> usize {
        self.dims.first().copied().unwrap_or(0)
    }

    /// The only value of each record.
    ///
    /// # Errors
    /// The sizes, where records have more than one.
    pub fn into_column(self) -> Result<Column, String> {
        if self.dims.iter().skip(1).product::<usize>() != 1 {
            return Err(format!("{:?}, which is not one value for each record", self.dims));
        }
        Ok(match self.buffer {
            Buffer::U8(values) => Column::Numbers(values.into_iter().map(f64::from).collect()),
            Buffer::F32(values) => Column::Numbers(values.into_iter().map(f64::from).collect()),
            Buffer::F64(values) => Column::Numbers(values),
            Buffer::Words(words) => Column::Words(words),
        })
    }

    /// The records as inputs, and their shape `[channels, height, width]`; vectors are `[1, 1, d]`.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn into_inputs(self, layout: Layout) -> Result<(Buffer, [usize; 3]), String> {
        let buffer = match self.buffer {
            Buffer::Words(_) => return Err("it holds words".to_owned()),
            Buffer::F64(values) => Buffer::F32(values.into_iter().map(|value| value as f32).collect()),
            other => other,
        };
        let sizes = |problem: &str| Err(format!("{problem}, its sizes are {:?}", self.dims));
        let shape = match self.dims[..] {
            [_] => [1, 1, 1],
            [_, d] => [1, 1, d],
            [_, h, w] => [1, h, w],
            [_, a, b, c] => match layout {
                Layout::ChannelsFirst => [a, b, c],
                Layout::ChannelsLast => return Ok((channels_first(buffer, [a, b, c]), [c, a, b])),
                Layout::Auto => match (matches!(a, 1 | 3), matches!(c, 1 | 3)) {
                    (true, false) => [a, b, c],
                    (false, true) => return Ok((channels_first(buffer, [a, b, c]), [c, a, b])),
                    (true, true) => return sizes("the channels could be the first or the last dimension"),
                    (false, false) => return sizes("no dimension has the 1 or 3 channels of a picture"),
                },
            },
            _ => return sizes("records have one to three dimensions"),
        };
        if shape.contains(&0) {
            return sizes("its records are empty");
        }
        Ok((buffer, shape))
    }
}

/// `[n, height, width, channels]` as `[n, channels, height, width]`.
fn channels_first(buffer: Buffer, [h, w, c]: [usize; 3]) -> Buffer {
    fn turned<T: Copy>(values: &[T], pixels: usize, c: usize) -> Vec<T> {
        let picture = |picture: &[T]| {
            (0..c).flat_map(|channel| (0..pixels).map(move |at| at * c + channel)).map(|at| picture[at]).collect::<Vec<T>>()
        };
        values.chunks_exact((pixels * c).max(1)).flat_map(picture).collect()
    }
    match buffer {
        Buffer::U8(values) => Buffer::U8(turned(&values, h * w, c)),
        Buffer::F32(values) => Buffer::F32(turned(&values, h * w, c)),
        other => other,
    }
}

/// Endings of containers that [`read_arrays`] opens.
pub const ENDINGS: [&str; 5] = [".npz", ".npy", ".safetensors", ".mat", "idx?-ubyte"];

/// The named arrays of the container at `path`; the only one of a `.npy` or IDX file has no name. `None` where the name is of no container.
///
/// # Errors
/// [`DataError`] naming the file and the place in it.
pub fn read_arrays(path: &Path) -> Result<Option<Vec<(String, Array)>>, DataError> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let wrong = |problem: String| refuse(path, problem, "write the file once more with the program that made it");
    match plain.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "npz" => numpy::read_npz(&read(path)?).map(Some).map_err(wrong),
        "npy" => Ok(Some(vec![(String::new(), numpy::parse(&read(path)?).map_err(wrong)?)])),
        "safetensors" => tensors(&read(path)?).map(Some).map_err(wrong),
        "mat" => matlab(path).map(Some),
        _ if plain.ends_with("-ubyte") || plain.contains("-idx") || plain.contains(".idx") => {
            Ok(Some(vec![(String::new(), idx::parse(&read(path)?).map_err(wrong)?)]))
        }
        _ => Ok(None),
    }
}

fn tensors(bytes: &[u8]) -> Result<Vec<(String, Array)>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("it is no safetensors file: {error}"))?;
    let mut arrays = Vec::new();
    for (name, view) in file.iter() {
        let item = view.dtype().bitsize() / 8;
        let items = || view.data().chunks_exact(item.max(1));
        macro_rules! numbers {
            ($kind:ty, $buffer:ident, $to:expr) => {{
                let parse = |item: &[u8]| <[u8; size_of::<$kind>()]>::try_from(item).map(<$kind>::from_le_bytes).unwrap_or_default();
                Buffer::$buffer(items().map(parse).map($to).collect())
            }};
        }
        let buffer = match view.dtype() {
            Dtype::U8 | Dtype::BOOL => Buffer::U8(view.data().to_vec()),
            Dtype::I8 => numbers!(i8, F32, f32::from),
            Dtype::I16 => numbers!(i16, F32, f32::from),
            Dtype::U16 => numbers!(u16, F32, f32::from),
            Dtype::I32 => numbers!(i32, F64, f64::from),
            Dtype::U32 => numbers!(u32, F64, f64::from),
            Dtype::I64 => numbers!(i64, F64, |x| x as f64),
            Dtype::U64 => numbers!(u64, F64, |x| x as f64),
            Dtype::F16 => numbers!(u16, F32, |x| half::f16::from_bits(x).to_f32()),
            Dtype::BF16 => numbers!(u16, F32, |x| half::bf16::from_bits(x).to_f32()),
            Dtype::F32 => numbers!(f32, F32, |x| x),
            Dtype::F64 => numbers!(f64, F64, |x| x),
            other => return Err(format!("`{name}` is of the type {other:?}, which is not read")),
        };
        arrays.push((name.to_owned(), Array { dims: view.shape().to_vec(), buffer }));
    }
    arrays.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(arrays)
}

/// Variables of a MATLAB file. The order of dimensions is theirs, the first is that of the records, as SciPy reads it.
fn matlab(path: &Path) -> Result<Vec<(String, Array)>, DataError> {
    let turned = |dims: &[usize], at: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let total: usize = dims.iter().product();
        let mut values = Vec::with_capacity(total);
        for mut index in 0..total {
            // Position in rows first, the last dimension fastest, to that in the file, the first fastest.
            let (mut place, mut stride) = (0, total);
            for &size in dims.iter().rev() {
                stride /= size.max(1);
                place += (index % size) * stride;
                index /= size;
            }
            values.push(at(place));
        }
        values
    };
    let one = |array: ibhost_datasets::mat::MatArray| {
        let values = turned(&array.dims, &|place| array.at(place));
        let buffer = match array.values {
            MatValues::U8(_) => Buffer::U8(values.into_iter().map(|value| value as u8).collect()),
            MatValues::F64(_) => Buffer::F64(values),
        };
        // MATLAB has no vectors: a row of labels is [1, n].
        let dims = if array.dims.len() == 2 && array.dims[0] == 1 { vec![array.dims[1]] } else { array.dims };
        (array.name, Array { dims, buffer })
    };
    Ok(read_all("file", path)?.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dims: &[usize]) -> Array {
        let count: usize = dims.iter().product();
        Array { dims: dims.to_vec(), buffer: Buffer::U8((0..count).map(|i| i as u8).collect()) }
    }

    #[test]
    fn pictures_in_either_order_have_the_same_channels() {
        let (first, shape) = array(&[2, 3, 2, 2]).into_inputs(Layout::Auto).unwrap();
        assert_eq!((shape, &first), ([3, 2, 2], &array(&[24]).buffer));
        let last = Array { dims: vec![1, 2, 2, 3], buffer: Buffer::U8(vec![0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23]) };
        let expected = Buffer::U8(vec![0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]);
        assert_eq!(last.into_inputs(Layout::Auto).unwrap(), (expected, [3, 2, 2]));
        assert!(array(&[1, 3, 2, 3]).into_inputs(Layout::Auto).unwrap_err().contains("first or the last"));
        assert_eq!(array(&[1, 3, 2, 3]).into_inputs(Layout::ChannelsFirst).unwrap().1, [3, 2, 3]);
        assert_eq!(array(&[2, 5]).into_inputs(Layout::Auto).unwrap().1, [1, 1, 5]);
        assert_eq!(array(&[2, 4, 5]).into_inputs(Layout::Auto).unwrap().1, [1, 4, 5]);
        assert!(array(&[1, 2, 2, 2]).into_inputs(Layout::Auto).unwrap_err().contains("no dimension has the 1 or 3 channels"));
    }

    #[test]
    fn a_column_has_one_value_a_record() {
        assert_eq!(array(&[3, 1]).into_column(), Ok(Column::Numbers(vec![0.0, 1.0, 2.0])));
        assert!(array(&[3, 2]).into_column().unwrap_err().contains("[3, 2]"));
    }

    #[test]
    fn tensors_of_every_kind_are_read() {
        use safetensors::tensor::{TensorView, serialize};
        let halves: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        let longs: Vec<u8> = [3_i64, -4].iter().flat_map(|x| x.to_le_bytes()).collect();
        let views = [
            ("x", TensorView::new(Dtype::F16, vec![2, 1], &halves).unwrap()),
            ("y", TensorView::new(Dtype::I64, vec![2], &longs).unwrap()),
        ];
        let arrays = tensors(&serialize(views, None).unwrap()).unwrap();
        assert_eq!(arrays[0], ("x".to_owned(), Array { dims: vec![2, 1], buffer: Buffer::F32(vec![1.5, -2.0]) }));
        assert_eq!(arrays[1], ("y".to_owned(), Array { dims: vec![2], buffer: Buffer::F64(vec![3.0, -4.0]) }));
    }
}
