//! Weighted sums of vectors, which losses are made of.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::vectorised;

/// The sum over i of `weights`\[i\] times `terms`\[i\], all `[n]`.
pub fn weighted_sum<const N: usize>(terms: [Tensor<1>; N], weights: [f64; N]) -> Tensor<1> {
    match apply(WeightedSum { weights }, terms.map(Tensor::into_dispatch)) {
        Ok(sum) => Tensor::from_dispatch(sum),
        Err(terms) => plain(terms.map(Tensor::from_dispatch), weights),
    }
}

fn plain<const N: usize>(terms: [Tensor<1>; N], weights: [f64; N]) -> Tensor<1> {
    let mut scaled = terms.into_iter().zip(weights).map(|(term, weight)| term.mul_scalar(weight));
    match scaled.next() {
        Some(first) => scaled.fold(first, |sum, term| sum + term),
        None => Tensor::zeros([0], &burn::tensor::Device::default()),
    }
}

#[derive(Clone, Debug)]
struct WeightedSum<const N: usize> {
    weights: [f64; N],
}

impl<const N: usize> Operation<N> for WeightedSum<N> {
    fn forward<T: Real>(&self, terms: [Array<T>; N], _tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        let n = terms.first().map_or(0, Array::len);
        assert!(terms.iter().all(|term| term.shape() == [n]), "terms of a weighted sum");
        let mut sum = vec![T::zero(); n];
        vectorised!(|| {
            for (term, &weight) in terms.iter().zip(&self.weights) {
                let weight = T::of(weight);
                sum.iter_mut().zip(term.as_slice()).for_each(|(y, &x)| *y += weight * x);
            }
        });
        (Array::new(sum, &[n]), Vec::new())
    }

    fn backward<T: Real>(&self, _saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        std::array::from_fn(|i| {
            let weight = T::of(self.weights[i]);
            wanted[i].then(|| Array::new(gradient.as_slice().iter().map(|&g| g * weight).collect(), gradient.shape()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn sums_are_those_of_the_plain_formula() {
        for n in [1, 5, 128] {
            let case = Case::new(&[vec![n], vec![n], vec![n]]);
            let weights = [-0.5, 2.0, 0.0];
            check::<1>(
                &case,
                |t| weighted_sum([t.get(0), t.get(1), t.get(2)], weights).into_dispatch(),
                |t| plain([t.get(0), t.get(1), t.get(2)], weights).into_dispatch(),
            );
        }
    }
}
