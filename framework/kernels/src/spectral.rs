//! Spectral normalisation of a weight: one power iteration, and the division by the singular value it estimates.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::sum_terms;
use crate::vectorised;

/// Added to the length a vector is divided by.
const FLOOR: f64 = 1e-10;

/// One power iteration for `weight` W `[inputs, outputs]` from `u` `[outputs]`: v = n(W u) `[inputs]`, then n(W^T v) `[outputs]`, with
/// n(a) = a / (|a| + 1e-10) (Miyato et al. 2018, arXiv:1802.05957, algorithm 1). Both are constants for gradients.
///
/// # Panics
/// When the sizes do not fit together.
pub fn power_iteration(weight: Tensor<2>, u: Tensor<1>) -> [Tensor<1>; 2] {
    let [inputs, outputs] = weight.dims();
    // A detached tensor keeps its wish for a gradient.
    let constant = |tensor: Tensor<2>| tensor.detach().set_require_grad(false);
    match apply(PowerIteration, [constant(weight).into_dispatch(), u.detach().into_dispatch()]) {
        Ok(both) => {
            let both = Tensor::<1>::from_dispatch(both);
            [both.clone().narrow(0, 0, inputs), both.narrow(0, inputs, outputs)]
        }
        Err([weight, u]) => plain_iteration(Tensor::from_dispatch(weight), Tensor::from_dispatch(u)),
    }
}

fn plain_iteration(weight: Tensor<2>, u: Tensor<1>) -> [Tensor<1>; 2] {
    let [inputs, outputs] = weight.dims();
    let unit = |a: Tensor<1>| {
        let length = a.clone().powi_scalar(2).sum().sqrt().add_scalar(FLOOR);
        a / length
    };
    let v = unit(weight.clone().matmul(u.reshape([outputs, 1])).reshape([inputs]));
    let u = unit(weight.transpose().matmul(v.clone().reshape([inputs, 1])).reshape([outputs]));
    [v, u]
}

/// `weight` / sigma with sigma = v^T W u, for `weight` W `[inputs, outputs]`, v `[inputs]` and u `[outputs]`, which are constants.
///
/// dL/dW = (G - sum(G * W / sigma) v u^T) / sigma, where G is the gradient of the result.
///
/// # Panics
/// When the sizes do not fit together.
pub fn divided_by_singular_value(weight: Tensor<2>, v: Tensor<1>, u: Tensor<1>) -> Tensor<2> {
    match apply(Divide, [weight.into_dispatch(), v.into_dispatch(), u.into_dispatch()]) {
        Ok(weight) => Tensor::from_dispatch(weight),
        Err([weight, v, u]) => plain_divide(Tensor::from_dispatch(weight), Tensor::from_dispatch(v), Tensor::from_dispatch(u)),
    }
}

fn plain_divide(weight: Tensor<2>, v: Tensor<1>, u: Tensor<1>) -> Tensor<2> {
    let [inputs, outputs] = weight.dims();
    let sigma = (weight.clone() * v.reshape([inputs, 1]) * u.reshape([1, outputs])).sum().reshape([1, 1]);
    weight / sigma
}

/// v and u after one iteration, one after the other.
#[derive(Clone, Debug)]
struct PowerIteration;

impl Operation<2> for PowerIteration {
    fn forward<T: Real>(&self, [weight, u]: [Array<T>; 2], _tracked: [bool; 2]) -> (Array<T>, Vec<Array<T>>) {
        let [inputs, outputs] = [weight.shape()[0], weight.shape()[1]];
        assert_eq!(u.len(), outputs, "vector u of a weight {:?}", weight.shape());
        let (w, start) = (weight.as_slice(), u.as_slice());
        let mut both = vec![T::zero(); inputs + outputs];
        let (v, u) = both.split_at_mut(inputs);
        vectorised!(|| {
            v.iter_mut().zip(w.chunks_exact(outputs.max(1))).for_each(|(v, row)| *v = sum_terms([row, start], |[w, u]| w * u));
            make_unit(v);
            for (row, &v) in w.chunks_exact(outputs.max(1)).zip(v.iter()) {
                u.iter_mut().zip(row).for_each(|(u, &w)| *u += w * v);
            }
            make_unit(u);
        });
        (Array::new(both, &[inputs + outputs]), Vec::new())
    }

    fn backward<T: Real>(&self, _saved: Vec<Array<T>>, _gradient: Array<T>, _wanted: [bool; 2]) -> [Option<Array<T>>; 2] {
        // `power_iteration` passes constants only.
        [None, None]
    }
}

/// a / (|a| + 1e-10).
#[inline(always)]
fn make_unit<T: Real>(a: &mut [T]) {
    let length = sum_terms([&*a], |[a]| a * a).sqrt() + T::of(FLOOR);
    for a in a.iter_mut() {
        *a /= length;
    }
}

#[derive(Clone, Debug)]
struct Divide;

impl Operation<3> for Divide {
    fn forward<T: Real>(&self, [mut weight, v, u]: [Array<T>; 3], tracked: [bool; 3]) -> (Array<T>, Vec<Array<T>>) {
        let [inputs, outputs] = [weight.shape()[0], weight.shape()[1]];
        assert_eq!([v.len(), u.len()], [inputs, outputs], "singular vectors of a weight {:?}", weight.shape());
        let sigma = vectorised!(|| {
            let rows = weight.as_slice().chunks_exact(outputs.max(1)).zip(v.as_slice());
            rows.map(|(row, &v)| v * sum_terms([row, u.as_slice()], |[w, u]| w * u)).sum::<T>()
        });
        vectorised!(|| weight.make_mut().iter_mut().for_each(|w| *w /= sigma));
        let saved = if tracked[0] { vec![weight.clone(), v, u, Array::new(vec![sigma], &[1])] } else { Vec::new() };
        (weight, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, mut gradient: Array<T>, wanted: [bool; 3]) -> [Option<Array<T>>; 3] {
        let ([Some(weight), Some(v), Some(u), Some(sigma)], true) = ([0, 1, 2, 3].map(|i| saved.get(i)), wanted[0]) else {
            return [None, None, None];
        };
        let (u, sigma) = (u.as_slice(), sigma.as_slice()[0]);
        vectorised!(|| {
            let slope = sum_terms([gradient.as_slice(), weight.as_slice()], |[g, w]| g * w);
            for (row, &v) in gradient.make_mut().chunks_exact_mut(u.len().max(1)).zip(v.as_slice()) {
                row.iter_mut().zip(u).for_each(|(g, &u)| *g = (*g - slope * v * u) / sigma);
            }
        });
        [Some(gradient), None, None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn the_iteration_and_the_division_are_those_of_the_plain_formulas() {
        for [inputs, outputs] in [[1, 5], [7, 1], [33, 65], [128, 130]] {
            let case = Case::new(&[vec![inputs, outputs]]).range(0, 0.1, 1.5);
            check::<2>(
                &case,
                |t| {
                    let w: Tensor<2> = t.get(0);
                    let [v, u] = power_iteration(w.clone(), w.clone().detach().set_require_grad(false).sum_dim(0).reshape([outputs]));
                    divided_by_singular_value(w, v, u).into_dispatch()
                },
                |t| {
                    let w: Tensor<2> = t.get(0);
                    let fixed = w.clone().detach().set_require_grad(false);
                    let [v, u] = plain_iteration(fixed.clone(), fixed.sum_dim(0).reshape([outputs]));
                    plain_divide(w, v, u).into_dispatch()
                },
            );
        }
    }
}
