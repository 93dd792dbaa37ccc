//! Dense layers: matrix product, bias and activation in one operation.

use burn::tensor::Tensor;
use burn::tensor::activation::{leaky_relu, relu, softplus};

use rayon::prelude::*;

use crate::array::Array;
use crate::matmul::{Layout, product, product_then};
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::{PARALLEL_FROM, combine};
use crate::vectorised;

/// Element-wise function after a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// y = x.
    #[default]
    Identity,
    /// y = max(x, 0).
    Relu,
    /// y = x for x >= 0 and slope x below, with a positive slope.
    LeakyRelu(f64),
    /// y = tanh x.
    Tanh,
    /// y = ln(1 + e^x).
    Softplus,
}

impl Activation {
    /// The function as a tensor operation.
    fn plain<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
            Self::LeakyRelu(slope) => leaky_relu(x, slope),
            Self::Tanh => x.tanh(),
            Self::Softplus => softplus(x, 1.0),
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

/// `layer` applied to x `[batch, inputs]`, then the activation; result `[batch, outputs]`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn dense(layer: &burn::nn::Linear, x: Tensor<2>, activation: Activation) -> Tensor<2> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(burn::module::Param::val), activation)
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
        let none = vec![T::zero(); if inputs.get(2).is_some() { 0 } else { fan_out }];
        let bias = inputs.get(2).map_or(&none[..], Array::as_slice);
        assert_eq!(bias.len(), fan_out, "bias of a dense layer with {fan_out} outputs");
        let out = product_then(x.as_slice(), Layout::Rows, weight.as_slice(), Layout::Rows, [batch, fan_in, fan_out], |column, row| {
            finish(row, &bias[column..], self.activation);
        });
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
        let one = T::one();
        match self.activation {
            Activation::Identity => {}
            // By the output, which is a NaN where the input was.
            Activation::Relu => combine(gradient.make_mut(), out.as_slice(), |g, y| if y == T::zero() { T::zero() } else { g }),
            // A positive slope keeps the sign.
            Activation::LeakyRelu(slope) => {
                let slope = T::of(slope);
                combine(gradient.make_mut(), out.as_slice(), |g, y| if y < T::zero() { slope * g } else { g });
            }
            Activation::Tanh => combine(gradient.make_mut(), out.as_slice(), |g, y| g * (one - y * y)),
            // The output tells the sigmoid of the input: 1 - e^-y, without loss where y is small.
            Activation::Softplus => combine(gradient.make_mut(), out.as_slice(), |g, y| g * one_minus_exp(y)),
        }
        std::array::from_fn(|input| {
            if !wanted[input] {
                return None;
            }
            let g = gradient.as_slice();
            Some(match input {
                0 => {
                    let dx = product(g, Layout::Rows, weight.as_slice(), Layout::Transposed, [batch, fan_out, fan_in]);
                    Array::new(dx, &[batch, fan_in])
                }
                1 => {
                    let dw = product(x.as_slice(), Layout::Transposed, g, Layout::Rows, [fan_in, batch, fan_out]);
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

/// Adds the bias to a piece of a row and applies the activation.
#[inline(always)]
fn finish<T: Real>(row: &mut [T], bias: &[T], activation: Activation) {
    let zero = T::zero();
    match activation {
        Activation::Identity => each_pair(row, bias, |x| x),
        // A comparison, not `max`, so that a NaN stays one.
        Activation::Relu => each_pair(row, bias, |x| if x < zero { zero } else { x }),
        Activation::LeakyRelu(slope) => {
            let slope = T::of(slope);
            each_pair(row, bias, |x| if x < zero { slope * x } else { x });
        }
        Activation::Tanh => each_pair(row, bias, Real::hyperbolic_tangent),
        Activation::Softplus => each_pair(row, bias, Real::softplus),
    }
}

/// Replaces y by f(y + bias).
#[inline(always)]
fn each_pair<T: Real>(row: &mut [T], bias: &[T], f: impl Fn(T) -> T) {
    row.iter_mut().zip(bias).for_each(|(y, &b)| *y = f(*y + b));
}

/// 1 - e^-y for y >= 0, exact to rounding also near 0.
#[inline(always)]
pub(crate) fn one_minus_exp<T: Real>(y: T) -> T {
    // Below a tenth by its series, where the difference would lose digits.
    let series = [11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0].iter().fold(T::one(), |sum, &n| T::one() - y / T::of(n) * sum);
    if y < T::of(0.1) { y * series } else { T::one() - (-y).exponential() }
}

/// Sum of each column; a column is summed by one thread, row after row.
fn column_sums<T: Real>(rows: &[T], columns: usize) -> Vec<T> {
    const PART: usize = 256;
    let mut sums = vec![T::zero(); columns];
    let sum = |(part, sums): (usize, &mut [T])| {
        vectorised!(|| {
            for row in rows.chunks_exact(columns) {
                let row = &row[part * PART..][..sums.len()];
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
        });
    };
    if rows.len() < PARALLEL_FROM {
        sums.chunks_mut(PART).enumerate().for_each(sum);
    } else {
        sums.par_chunks_mut(PART).enumerate().for_each(sum);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn values_and_gradients_are_those_of_the_plain_formula() {
        for [batch, inputs, outputs] in [[1, 1, 1], [1, 7, 5], [3, 17, 33], [100, 129, 65], [5, 300, 1]] {
            // Saturated units would compare rounding errors.
            let spread = 2.0 / (inputs as f64).sqrt();
            for activation in [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh, Activation::Softplus] {
                let shapes = [vec![batch, inputs], vec![inputs, outputs], vec![outputs]];
                check::<2>(
                    &Case::new(&shapes).range(1, -spread, spread),
                    |t| linear(t.get(0), t.get(1), Some(t.get(2)), activation).into_dispatch(),
                    |t| plain(t.get(0), t.get(1), Some(t.get(2)), activation).into_dispatch(),
                );
                check::<2>(
                    &Case::new(&shapes[..2]).range(1, -spread, spread),
                    |t| linear(t.get(0), t.get(1), None, activation).into_dispatch(),
                    |t| plain(t.get(0), t.get(1), None, activation).into_dispatch(),
                );
            }
        }
    }
}
