//! Dense layers: matrix product, bias and activation in one operation.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::array::Array;
use crate::matmul::{Layout, matmul};
use crate::operation::{Operation, apply};
use crate::real::{Real, vectorised};

/// Element-wise function after a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// y = x.
    #[default]
    Identity,
    /// y = max(x, 0).
    Relu,
}

impl Activation {
    /// The function as a tensor operation.
    fn plain<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
        }
    }
}

/// activation(x W + b) for x `[batch, inputs]`, W `[inputs, outputs]`, b `[outputs]`; result `[batch, outputs]`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, activation: Activation) -> Tensor<2> {
    let operation = Linear { activation };
    match bias {
        Some(bias) => match apply(operation, [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()]) {
            Ok(y) => Tensor::from_dispatch(y),
            Err([x, weight, bias]) => {
                plain(Tensor::from_dispatch(x), Tensor::from_dispatch(weight), Some(Tensor::from_dispatch(bias)), activation)
            }
        },
        None => match apply(operation, [x.into_dispatch(), weight.into_dispatch()]) {
            Ok(y) => Tensor::from_dispatch(y),
            Err([x, weight]) => plain(Tensor::from_dispatch(x), Tensor::from_dispatch(weight), None, activation),
        },
    }
}

/// The same by tensor operations.
fn plain(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, activation: Activation) -> Tensor<2> {
    activation.plain(burn::tensor::module::linear(x, weight, bias))
}

/// [`linear`] as a graph node, with the bias as third input or without.
#[derive(Clone, Debug)]
struct Linear {
    activation: Activation,
}

impl<const N: usize> Operation<N> for Linear {
    fn forward<T: Real>(&self, inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        let [x, weight] = [&inputs[0], &inputs[1]];
        let ([batch, fan_in], [rows, fan_out]) = (sizes(x), sizes(weight));
        assert_eq!(fan_in, rows, "inputs of a dense layer with weight {:?}", weight.shape());
        let mut out = vec![T::zero(); batch * fan_out];
        matmul(&mut out, x.as_slice(), Layout::Rows, weight.as_slice(), Layout::Rows, [batch, fan_in, fan_out]);
        if let Some(bias) = inputs.get(2) {
            assert_eq!(bias.len(), fan_out, "bias of a dense layer with {fan_out} outputs");
            finish(&mut out, bias.as_slice(), self.activation);
        } else if self.activation != Activation::Identity {
            finish(&mut out, &vec![T::zero(); fan_out], self.activation);
        }
        let out = Array::new(out, &[batch, fan_out]);
        if tracked == [false; N] {
            return (out, Vec::new());
        }
        let saved = vec![x.clone(), weight.clone(), out.clone()];
        (out, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, mut gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        let [x, weight, out] = [&saved[0], &saved[1], &saved[2]];
        let ([batch, fan_in], [_, fan_out]) = (sizes(x), sizes(weight));
        if self.activation == Activation::Relu {
            mask(gradient.make_mut(), out.as_slice());
        }
        std::array::from_fn(|input| {
            if !wanted[input] {
                return None;
            }
            let g = gradient.as_slice();
            Some(match input {
                0 => {
                    let mut dx = vec![T::zero(); batch * fan_in];
                    matmul(&mut dx, g, Layout::Rows, weight.as_slice(), Layout::Transposed, [batch, fan_out, fan_in]);
                    Array::new(dx, &[batch, fan_in])
                }
                1 => {
                    let mut dw = vec![T::zero(); fan_in * fan_out];
                    matmul(&mut dw, x.as_slice(), Layout::Transposed, g, Layout::Rows, [fan_in, batch, fan_out]);
                    Array::new(dw, &[fan_in, fan_out])
                }
                _ => Array::new(column_sums(g, fan_out), &[fan_out]),
            })
        })
    }
}

fn sizes<T: Real>(matrix: &Array<T>) -> [usize; 2] {
    [matrix.shape()[0], matrix.shape()[1]]
}

/// Adds the bias to every row and applies the activation.
fn finish<T: Real>(out: &mut [T], bias: &[T], activation: Activation) {
    vectorised(|| {
        for row in out.chunks_exact_mut(bias.len().max(1)) {
            match activation {
                Activation::Identity => row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b),
                // A comparison, not `max`, so that a NaN stays one.
                Activation::Relu => row.iter_mut().zip(bias).for_each(|(y, &b)| {
                    let x = *y + b;
                    *y = if x < T::zero() { T::zero() } else { x };
                }),
            }
        }
    });
}

/// Zeroes the gradient where the rectified output is zero.
fn mask<T: Real>(gradient: &mut [T], out: &[T]) {
    vectorised(|| {
        for (g, &y) in gradient.iter_mut().zip(out) {
            *g = if y == T::zero() { T::zero() } else { *g };
        }
    });
}

fn column_sums<T: Real>(rows: &[T], columns: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); columns];
    vectorised(|| {
        for row in rows.chunks_exact(columns.max(1)) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn values_and_gradients_are_those_of_the_plain_formula() {
        for [batch, inputs, outputs] in [[1, 1, 1], [1, 7, 5], [3, 17, 33], [100, 129, 65], [5, 300, 1]] {
            for activation in [Activation::Identity, Activation::Relu] {
                let shapes = [vec![batch, inputs], vec![inputs, outputs], vec![outputs]];
                check::<2>(
                    &Case::new(&shapes),
                    |t| linear(t.get(0), t.get(1), Some(t.get(2)), activation).into_dispatch(),
                    |t| plain(t.get(0), t.get(1), Some(t.get(2)), activation).into_dispatch(),
                );
                check::<2>(
                    &Case::new(&shapes[..2]),
                    |t| linear(t.get(0), t.get(1), None, activation).into_dispatch(),
                    |t| plain(t.get(0), t.get(1), None, activation).into_dispatch(),
                );
            }
        }
    }
}
