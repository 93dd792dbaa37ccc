//! Channels first and channels last: from one order in memory to the other, a transposed matrix an image, over all threads.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use crate::array::Array;
use crate::memory::filled;
use crate::operation::{Operation, apply};
use crate::real::Real;

/// Rows that are transposed at a time, so that what is read stays in cache from column to column.
const TILE: usize = 64;

/// Maps `[batch, height, width, channels]` as `[batch, channels, height, width]`.
pub fn channels_first(maps: Tensor<4>) -> Tensor<4> {
    match apply(ChannelsFirst, [maps.into_dispatch()]) {
        Ok(images) => Tensor::from_dispatch(images),
        Err([maps]) => Tensor::<4>::from_dispatch(maps).permute([0, 3, 1, 2]),
    }
}

#[derive(Clone, Debug)]
struct ChannelsFirst;

impl Operation<1> for ChannelsFirst {
    fn forward<T: Real>(&self, [maps]: [Array<T>; 1], _tracked: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let &[batch, height, width, channels] = maps.shape() else { unreachable!("maps of four dimensions") };
        let out = transposed(maps.as_slice(), [height * width, channels]);
        (Array::new(out, &[batch, channels, height, width]), Vec::new())
    }

    fn backward<T: Real>(&self, _saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let &[batch, channels, height, width] = gradient.shape() else { unreachable!("images of four dimensions") };
        let out = transposed(gradient.as_slice(), [channels, height * width]);
        [Some(Array::new(out, &[batch, height, width, channels]))]
    }
}

/// The numbers of `tensor` in row-major order, when it is the view of a whole buffer that holds images with channels first as channels last,
/// or the reverse.
pub(crate) fn reordered<T: Real>(tensor: &FlexTensor) -> Option<Vec<T>> {
    let layout = tensor.layout();
    let (&[_, a, b, c], &[image, by_a, by_b, by_c]) = (&layout.shape()[..], layout.strides()) else { return None };
    let values = tensor.storage::<T>();
    if layout.start_offset() != 0 || values.len() != layout.num_elements() || image != (a * b * c) as isize {
        return None;
    }
    match [by_a, by_b, by_c].map(|stride| usize::try_from(stride).ok()) {
        [Some(1), Some(by_b), Some(by_c)] if [by_b, by_c] == [c * a, a] => Some(transposed(values, [b * c, a])),
        [Some(by_a), Some(1), Some(by_c)] if [by_a, by_c] == [b, a * b] => Some(transposed(values, [c, a * b])),
        _ => None,
    }
}

/// The transposes of matrices of `rows` and `columns` that lie one after the other.
fn transposed<T: Real>(values: &[T], [rows, columns]: [usize; 2]) -> Vec<T> {
    let size = rows * columns;
    filled(values.len(), size, || (), |(), matrix, out| transpose(&values[matrix * size..][..size], out, [rows, columns]))
}

/// Writes the transpose of the matrix `from` of `rows` and `columns` to `out`.
pub(crate) fn transpose<T: Real>(from: &[T], out: &mut [T], [rows, columns]: [usize; 2]) {
    for row in (0..rows).step_by(TILE) {
        let row_end = (row + TILE).min(rows);
        for column in 0..columns {
            let out = &mut out[column * rows + row..column * rows + row_end];
            out.iter_mut().zip(from[row * columns + column..].iter().step_by(columns)).for_each(|(y, &x)| *y = x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};
    use burn::tensor::Device;

    #[test]
    fn maps_with_channels_first_are_those_of_the_plain_formula() {
        for shape in [vec![1, 1, 1, 1], vec![2, 3, 5, 7], vec![3, 16, 9, 3], vec![2, 2, 2, 130]] {
            check::<4>(
                &Case::new(&[shape]),
                |t| channels_first(t.get(0)).into_dispatch(),
                |t| t.get::<4>(0).permute([0, 3, 1, 2]).into_dispatch(),
            );
        }
    }

    #[test]
    fn views_in_the_other_order_are_read_as_they_are() {
        let images = || Tensor::<1, burn::tensor::Int>::arange(0..240, &Device::flex()).float();
        for (shape, axes) in
            [([2, 4, 5, 6], [0, 2, 3, 1]), ([2, 4, 5, 6], [0, 3, 1, 2]), ([2, 4, 5, 6], [0, 1, 3, 2]), ([5, 1, 8, 6], [0, 2, 3, 1])]
        {
            let view = images().reshape(shape).permute(axes);
            let expected: Vec<f32> = view.clone().into_data().iter().collect();
            // A sum with zeros would go through burn's own copy; a rectifier of ours reads the view.
            let read: Vec<f32> = crate::relu(view).into_data().iter().collect();
            assert_eq!(read, expected, "{axes:?}");
        }
    }
}
