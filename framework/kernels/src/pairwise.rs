//! Divergences between all pairs of the diagonal Gaussians of a batch, without a tensor for every pair.

// A dimension is one place in several arrays at once.
#![allow(clippy::needless_range_loop)]

use burn::tensor::Tensor;

use crate::array::Array;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::vectorised;

/// Mean over all pairs (i, j), equal ones included, of KL(N(mean_i, scale_i^2) || N(mean_j, scale_j^2)) for `[batch, latent]`, scales
/// positive; `[1]` in nats (the pairwise bound of Kolchinsky and Tracey 2017, arXiv:1706.02419, with the mean outside of the logarithm).
///
/// The sum over pairs of sum_k [ln s_j - ln s_i + ((m_i - m_j)^2 + s_i^2) / (2 s_j^2) - 1/2] splits into means over one index: the
/// logarithms cancel, and with p = 1 / s^2 and angle brackets for means over the batch each dimension gives
/// (<m^2 + s^2> <p> + <m^2 p>) / 2 - <m> <m p> - 1/2. Means are taken about their own mean, which no divergence depends on; the squares of
/// far-away means would cancel badly.
pub fn mean_pairwise_kl(mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    match apply(MeanPairwise, [mean.into_dispatch(), scale.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([mean, scale]) => plain(Tensor::from_dispatch(mean), Tensor::from_dispatch(scale)),
    }
}

fn plain(mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    let latent = mean.dims()[1] as f64;
    let shift = mean.clone().detach().mean_dim(0);
    let mean = mean - shift;
    let precision = scale.clone().powi_scalar(2).recip();
    let square = mean.clone().powi_scalar(2);
    let first = (square.clone() + scale.powi_scalar(2)).mean_dim(0) * precision.clone().mean_dim(0);
    let cross = mean.clone().mean_dim(0) * (mean * precision.clone()).mean_dim(0);
    let last = (square * precision).mean_dim(0);
    ((first + last).mul_scalar(0.5) - cross).sum().sub_scalar(latent / 2.0)
}

#[derive(Clone, Debug)]
struct MeanPairwise;

/// Means over the batch for each dimension: m itself, and with m moved by it: m, m^2 + s^2, p, m p, m^2 p.
fn moments<T: Real>(mean: &[T], scale: &[T], [batch, latent]: [usize; 2]) -> [Vec<T>; 6] {
    let mut sums: [Vec<T>; 6] = std::array::from_fn(|_| vec![T::zero(); latent]);
    let share = T::of(1.0 / batch as f64);
    let [shift, centre, spread, precision, cross, last] = &mut sums;
    vectorised!(|| {
        for row in mean.chunks_exact(latent) {
            shift.iter_mut().zip(row).for_each(|(sum, &m)| *sum += m);
        }
        for sum in shift.iter_mut() {
            *sum *= share;
        }
        for (row, scales) in mean.chunks_exact(latent).zip(scale.chunks_exact(latent)) {
            for k in 0..latent {
                let (m, s) = (row[k] - shift[k], scales[k] * scales[k]);
                let p = s.recip();
                centre[k] += m;
                spread[k] += m * m + s;
                precision[k] += p;
                cross[k] += m * p;
                last[k] += m * m * p;
            }
        }
        for sum in [centre, spread, precision, cross, last].into_iter().flatten() {
            *sum *= share;
        }
    });
    sums
}

impl Operation<2> for MeanPairwise {
    fn forward<T: Real>(&self, [mean, scale]: [Array<T>; 2], tracked: [bool; 2]) -> (Array<T>, Vec<Array<T>>) {
        assert_eq!(mean.shape(), scale.shape(), "mean and scale");
        let sizes = [mean.shape()[0], mean.shape()[1]];
        let mut value = T::of(-0.5 * sizes[1] as f64);
        let mut means = Vec::new();
        if mean.is_empty() {
            // The mean over no pair.
            value = if sizes[0] == 0 { T::nan() } else { value };
        } else {
            let sums = moments(mean.as_slice(), scale.as_slice(), sizes);
            let [_, centre, spread, precision, cross, last] = &sums;
            for k in 0..sizes[1] {
                value += T::of(0.5) * (spread[k] * precision[k] + last[k]) - centre[k] * cross[k];
            }
            means = sums.concat();
        }
        let value = Array::new(vec![value], &[1]);
        if tracked == [false; 2] {
            return (value, Vec::new());
        }
        let count = means.len();
        (value, vec![mean, scale, Array::new(means, &[count])])
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 2]) -> [Option<Array<T>>; 2] {
        let (mean, scale, means) = (&saved[0], &saved[1], saved[2].as_slice());
        let latent = mean.shape()[1].max(1);
        let weight = gradient.as_slice()[0] / T::of(mean.shape()[0].max(1) as f64);
        let half = T::of(0.5);
        let of = |f: &dyn Fn(usize, T, T) -> T| {
            let mut out = mean.as_slice().to_vec();
            for (row, scales) in out.chunks_exact_mut(latent).zip(scale.as_slice().chunks_exact(latent)) {
                for k in 0..latent {
                    row[k] = weight * f(k, row[k] - means[k], scales[k]);
                }
            }
            Array::new(out, mean.shape())
        };
        let [centre, spread, precision, cross] = [1, 2, 3, 4].map(|i| &means[(i * latent).min(means.len())..]);
        let to_mean = |k: usize, m: T, s: T| m * precision[k] - cross[k] + (m - centre[k]) / (s * s);
        // d p / d s = -2 p / s.
        let to_scale = |k: usize, m: T, s: T| s * precision[k] - (spread[k] + m * m - (centre[k] * m) / half) / (s * s * s);
        [wanted[0].then(|| of(&to_mean)), wanted[1].then(|| of(&to_scale))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};
    use burn::tensor::Device;

    #[test]
    fn value_and_gradients_are_those_of_the_plain_formula() {
        for shape in [vec![2, 1], vec![7, 3], vec![100, 16], vec![33, 65]] {
            check::<1>(
                &Case::new(&[shape.clone(), shape]).range(0, 98.0, 102.0).range(1, 0.3, 2.0),
                |t| mean_pairwise_kl(t.get(0), t.get(1)).into_dispatch(),
                |t| plain(t.get(0), t.get(1)).into_dispatch(),
            );
        }
    }

    #[test]
    fn one_distribution_does_not_diverge_from_itself() {
        let (device, shape) = (Device::flex().autodiff(), [1, 5]);
        let [mean, scale] = [3.0, 0.7].map(|value| Tensor::<2>::full(shape, value, &device).require_grad());
        let divergence = mean_pairwise_kl(mean.clone(), scale.clone());
        let gradients = divergence.clone().backward();
        let of = |x: Tensor<2>| x.grad(&gradients).unwrap().abs().max().into_scalar::<f32>();
        assert!(divergence.into_scalar::<f32>().abs() < 1e-6 && of(mean) < 1e-6 && of(scale) < 1e-6);
    }

    #[test]
    fn no_pair_has_no_mean_and_no_dimension_no_divergence() {
        let of = |shape: [usize; 2]| {
            let x = Tensor::<2>::ones(shape, &Device::flex().autodiff()).require_grad();
            let y = mean_pairwise_kl(x.clone(), x.clone());
            assert_eq!(x.grad(&y.clone().backward()).unwrap().dims(), shape);
            y.into_scalar::<f32>()
        };
        assert!(of([0, 3]).is_nan());
        assert_eq!(of([2, 0]), 0.0);
    }
}
