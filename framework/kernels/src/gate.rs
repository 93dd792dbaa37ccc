//! Gated linear units: one half of the features times the sigmoid of the other.

use std::mem::MaybeUninit;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use crate::array::Array;
use crate::memory::written;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::vectorised;

/// About this many numbers are computed by one thread at a time; they stay in its cache.
const TOGETHER: usize = 1 << 14;
/// Numbers computed before any of them is written: rows are short, and in pieces as wide as a vector they leave no remainder to single numbers.
const WIDTH: usize = 16;

/// a sigmoid(b), where a and b are the first and the second half of `x` along its last dimension (Dauphin et al. 2017, equation 1).
///
/// # Panics
/// When that dimension is odd.
pub fn gated<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dims = x.dims();
    assert!(dims[D - 1].is_multiple_of(2), "an odd number of features, {dims:?}, has no halves");
    match apply(Gated, [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => {
            #[cfg(feature = "tch")]
            let x = match crate::libtorch::gated(x) {
                Ok(y) => return Tensor::from_dispatch(y),
                Err(x) => x,
            };
            plain::<D>(Tensor::from_dispatch(x))
        }
    }
}

fn plain<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let half = x.dims()[D - 1] / 2;
    x.clone().narrow(D - 1, 0, half) * sigmoid(x.narrow(D - 1, half, half))
}

/// [`gated`] as a graph node.
#[derive(Clone, Debug)]
pub(crate) struct Gated;

/// Half of the last dimension.
fn half<T: Real>(x: &Array<T>) -> usize {
    x.shape().last().map_or(0, |features| features / 2)
}

/// Writes to the rows of `half` numbers in `out` the gated rows of twice as many in `values`.
pub(crate) fn gate_rows<T: Real>(values: &[T], half: usize, out: &mut [MaybeUninit<T>]) {
    vectorised!(|| for (out, x) in out.chunks_exact_mut(half.max(1)).zip(values.chunks_exact(2 * half.max(1))) {
        let (value, gate) = x.split_at(half);
        let ((out, out_end), (value, value_end), (gate, gate_end)) =
            (out.as_chunks_mut::<WIDTH>(), value.as_chunks::<WIDTH>(), gate.as_chunks::<WIDTH>());
        for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
            let mut y = [T::zero(); WIDTH];
            open(&mut y, value, gate);
            *out = y.map(MaybeUninit::new);
        }
        for ((out, &value), &gate) in out_end.iter_mut().zip(value_end).zip(gate_end) {
            out.write(value * gate.sigmoid());
        }
    });
}

/// Writes to the rows of `out` the gradients of those of `values`, from the gradients of what [`gate_rows`] makes of them.
fn gate_back_rows<T: Real>(values: &[T], half: usize, gradient: &[T], out: &mut [MaybeUninit<T>]) {
    let width = 2 * half.max(1);
    let rows = values.chunks_exact(width).zip(gradient.chunks_exact(half.max(1)));
    vectorised!(|| for (out, (x, g)) in out.chunks_exact_mut(width).zip(rows) {
        let ((value, gate), (to_value, to_gate)) = (x.split_at(half), out.split_at_mut(half));
        let ((value, value_end), (gate, gate_end), (g, g_end)) =
            (value.as_chunks::<WIDTH>(), gate.as_chunks::<WIDTH>(), g.as_chunks::<WIDTH>());
        let ((to_value, to_value_end), (to_gate, to_gate_end)) = (to_value.as_chunks_mut::<WIDTH>(), to_gate.as_chunks_mut::<WIDTH>());
        for ((to_value, to_gate), ((value, gate), g)) in to_value.iter_mut().zip(to_gate).zip(value.iter().zip(gate).zip(g)) {
            let (mut a, mut b) = ([T::zero(); WIDTH], [T::zero(); WIDTH]);
            back(&mut a, &mut b, value, gate, g);
            (*to_value, *to_gate) = (a.map(MaybeUninit::new), b.map(MaybeUninit::new));
        }
        for ((to_value, to_gate), ((&value, &gate), &g)) in
            to_value_end.iter_mut().zip(to_gate_end).zip(value_end.iter().zip(gate_end).zip(g_end))
        {
            let open = gate.sigmoid();
            to_value.write(g * open);
            to_gate.write(g * value * open * (T::one() - open));
        }
    });
}

impl Operation<1> for Gated {
    #[allow(unsafe_code)] // Memory for the result is not zeroed first.
    fn forward<T: Real>(&self, [x]: [Array<T>; 1], [tracked]: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let half = half(&x);
        let values = x.as_slice();
        let together = (TOGETHER / half.max(1)).max(1) * half;
        let part = |(): &mut (), part: usize, out: &mut [MaybeUninit<T>]| {
            gate_rows(&values[2 * part * together..][..2 * out.len()], half, out);
        };
        // SAFETY: every row of a part is written.
        let out = unsafe { written(values.len() / 2, together, || (), part) };
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = half;
        }
        (Array::new(out, &shape), if tracked { vec![x] } else { Vec::new() })
    }

    #[allow(unsafe_code)] // As above.
    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let half = half(&saved[0]);
        let (values, g) = (saved[0].as_slice(), gradient.as_slice());
        let together = (TOGETHER / (2 * half).max(1)).max(1) * half;
        let part = |(): &mut (), part: usize, out: &mut [MaybeUninit<T>]| {
            let (values, g) = (&values[2 * part * together..], &g[part * together..]);
            gate_back_rows(&values[..out.len()], half, &g[..out.len() / 2], out);
        };
        // SAFETY: every row of a part is written.
        let out = unsafe { written(values.len(), 2 * together, || (), part) };
        [Some(Array::new(out, saved[0].shape()))]
    }
}

/// y = a sigmoid(b).
#[inline(always)]
fn open<T: Real>(y: &mut [T], a: &[T], b: &[T]) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = a * b.sigmoid();
    }
}

/// The gradients of a and b from that of a sigmoid(b).
#[inline(always)]
fn back<T: Real>(to_a: &mut [T], to_b: &mut [T], a: &[T], b: &[T], g: &[T]) {
    for ((to_a, to_b), ((&a, &b), &g)) in to_a.iter_mut().zip(to_b).zip(a.iter().zip(b).zip(g)) {
        let open = b.sigmoid();
        *to_a = g * open;
        *to_b = g * a * open * (T::one() - open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn gates_are_those_of_the_plain_formula() {
        for shape in [vec![1, 1, 2], vec![3, 5, 12], vec![2, 3, 64], vec![7, 80, 130]] {
            let case = Case::new(&[shape]).range(0, -6.0, 6.0);
            check::<3>(&case, |t| gated::<3>(t.get(0)).into_dispatch(), |t| plain::<3>(t.get(0)).into_dispatch());
        }
    }

    #[test]
    #[should_panic(expected = "no halves")]
    fn odd_features_are_refused() {
        let _ = gated(Tensor::<2>::zeros([2, 3], &burn::tensor::Device::flex()));
    }
}
