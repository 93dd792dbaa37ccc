//! Element-wise functions and the Bernoulli log-likelihood, whose cost is in exponentials.

use burn::tensor::Tensor;
use burn::tensor::activation;

use crate::array::Array;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::{combine, each, each_row, sum_terms};

/// ln(1 + e^(x - shift)), element-wise.
pub fn softplus<const D: usize>(x: Tensor<D>, shift: f64) -> Tensor<D> {
    match apply(Pointwise::Softplus(shift), [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => {
            #[cfg(feature = "tch")]
            let x = match crate::libtorch::apply([x], crate::libtorch::Reads::Inputs, |[x]| (x - shift).softplus()) {
                Ok(y) => return Tensor::from_dispatch(y),
                Err([x]) => x,
            };
            plain_softplus(Tensor::from_dispatch(x), shift)
        }
    }
}

fn plain_softplus<const D: usize>(x: Tensor<D>, shift: f64) -> Tensor<D> {
    activation::softplus(x.sub_scalar(shift), 1.0)
}

/// Hyperbolic tangent, element-wise.
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match apply(Pointwise::Tanh, [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => Tensor::<D>::from_dispatch(x).tanh(),
    }
}

/// The larger of x and 0, element-wise, in place where nobody else holds x.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match apply(Pointwise::Relu, [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => {
            #[cfg(feature = "tch")]
            let x = match crate::libtorch::relu(x) {
                Ok(y) => return Tensor::from_dispatch(y),
                Err(x) => x,
            };
            activation::relu(Tensor::<D>::from_dispatch(x))
        }
    }
}

#[derive(Clone, Debug)]
enum Pointwise {
    Softplus(f64),
    Tanh,
    Relu,
}

impl Operation<1> for Pointwise {
    fn forward<T: Real>(&self, [x]: [Array<T>; 1], [tracked]: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let keeps_input = tracked && matches!(self, Self::Softplus(_));
        let kept = keeps_input.then(|| x.clone());
        let mut y = x;
        let values = y.make_mut();
        match *self {
            Self::Softplus(shift) => {
                let shift = T::of(shift);
                each(
                    values,
                    #[inline(always)]
                    move |x| (x - shift).softplus(),
                );
            }
            Self::Tanh => each(values, Real::hyperbolic_tangent),
            // By comparison: `max` would drop a NaN.
            Self::Relu => each(values, |x| if x < T::zero() { T::zero() } else { x }),
        }
        let saved = if tracked { vec![kept.unwrap_or_else(|| y.clone())] } else { Vec::new() };
        (y, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, mut gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let kept = saved[0].as_slice();
        match *self {
            Self::Softplus(shift) => {
                let shift = T::of(shift);
                combine(
                    gradient.make_mut(),
                    kept,
                    #[inline(always)]
                    move |g, x| g * (x - shift).sigmoid(),
                );
            }
            Self::Tanh => combine(gradient.make_mut(), kept, |g, y| g * (T::one() - y * y)),
            Self::Relu => combine(gradient.make_mut(), kept, |g, y| if y > T::zero() { g } else { T::zero() }),
        }
        [Some(gradient)]
    }
}

/// ln p(x) in nats of independent Bernoulli variables with the given logits, summed over the last dimension:
/// sum of x l - ln(1 + e^l). Targets and logits `[batch, variables]`, targets in [0, 1]; result `[batch]`.
pub fn bernoulli_log_likelihood(targets: Tensor<2>, logits: Tensor<2>) -> Tensor<1> {
    match apply(Bernoulli, [targets.into_dispatch(), logits.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([targets, logits]) => plain_bernoulli(Tensor::from_dispatch(targets), Tensor::from_dispatch(logits)),
    }
}

fn plain_bernoulli(targets: Tensor<2>, logits: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    (targets * logits.clone() - activation::softplus(logits, 1.0)).sum_dim(1).reshape([batch])
}

#[derive(Clone, Debug)]
struct Bernoulli;

impl Operation<2> for Bernoulli {
    fn forward<T: Real>(&self, [targets, logits]: [Array<T>; 2], tracked: [bool; 2]) -> (Array<T>, Vec<Array<T>>) {
        assert_eq!(targets.shape(), logits.shape(), "targets and logits");
        let [batch, n] = [logits.shape()[0], logits.shape()[1]];
        let (x, l) = (targets.as_slice(), logits.as_slice());
        let mut sums = vec![T::zero(); batch];
        each_row(
            &mut sums,
            1,
            batch * n,
            #[inline(always)]
            |i, sum| {
                sum[0] = sum_terms([&x[i * n..(i + 1) * n], &l[i * n..(i + 1) * n]], |[x, l]| x * l - l.softplus());
            },
        );
        let saved = if tracked == [false; 2] { Vec::new() } else { vec![targets, logits] };
        (Array::new(sums, &[batch]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 2]) -> [Option<Array<T>>; 2] {
        let (x, l, g) = (saved[0].as_slice(), saved[1].as_slice(), gradient.as_slice());
        let n = saved[1].shape()[1];
        [wanted[0].then(|| rows_of(l, x, g, n, |l, _| l)), wanted[1].then(|| rows_of(x, l, g, n, |x, l| x - l.sigmoid()))]
    }
}

/// `f` of the rows of `start` and `other`, `n` numbers each, times the row's entry of `g`.
fn rows_of<T: Real>(start: &[T], other: &[T], g: &[T], n: usize, f: impl Fn(T, T) -> T + Sync + Send) -> Array<T> {
    let mut out = start.to_vec();
    each_row(
        &mut out,
        n,
        start.len(),
        #[inline(always)]
        |i, row| {
            let g = g[i];
            for (y, &x) in row.iter_mut().zip(&other[i * n..]) {
                *y = g * f(*y, x);
            }
        },
    );
    Array::new(out, &[g.len(), n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn element_wise_functions_are_those_of_burn() {
        for shape in [vec![1, 1], vec![3, 7], vec![200, 331]] {
            let case = Case::new(&[shape]).range(0, -12.0, 12.0);
            check::<2>(&case, |t| softplus::<2>(t.get(0), 5.0).into_dispatch(), |t| plain_softplus::<2>(t.get(0), 5.0).into_dispatch());
            check::<2>(&case, |t| tanh::<2>(t.get(0)).into_dispatch(), |t| t.get::<2>(0).tanh().into_dispatch());
            check::<2>(&case, |t| relu::<2>(t.get(0)).into_dispatch(), |t| activation::relu(t.get::<2>(0)).into_dispatch());
        }
    }

    #[test]
    fn the_bernoulli_likelihood_is_that_of_the_plain_formula() {
        for shape in [vec![1, 1], vec![4, 33], vec![70, 784]] {
            let case = Case::new(&[shape.clone(), shape]).range(0, 0.0, 1.0).range(1, -8.0, 8.0);
            check::<1>(
                &case,
                |t| bernoulli_log_likelihood(t.get(0), t.get(1)).into_dispatch(),
                |t| plain_bernoulli(t.get(0), t.get(1)).into_dispatch(),
            );
        }
    }
}
