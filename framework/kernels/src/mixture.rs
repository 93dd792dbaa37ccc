//! Log density of a mixture of normals with diagonal covariance, without a tensor over samples, components and dimensions.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::categorical::log_sum_exp;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::each_row;

const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

/// ln sum_k exp(l_k) N(x; mean_k, diag(scale_k^2)) in nats, `[batch]`: x `[batch, dim]`, mean and scale `[components, dim]`, the log weights
/// l `[components]`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn normal_mixture_log_density(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>, log_weights: Tensor<1>) -> Tensor<1> {
    let ([_, dim], [components, _]) = (x.dims(), mean.dims());
    assert_eq!([mean.dims(), scale.dims()], [[components, dim]; 2], "means and scales of the components of a mixture");
    assert_eq!(log_weights.dims(), [components], "log weights of the components of a mixture");
    match apply(Mixture, [x.into_dispatch(), mean.into_dispatch(), scale.into_dispatch(), log_weights.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x, mean, scale, weights]) => {
            plain(Tensor::from_dispatch(x), Tensor::from_dispatch(mean), Tensor::from_dispatch(scale), Tensor::from_dispatch(weights))
        }
    }
}

fn plain(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>, log_weights: Tensor<1>) -> Tensor<1> {
    let ([batch, dim], [components, _]) = (x.dims(), mean.dims());
    let standard = (x.reshape([batch, 1, dim]) - mean.reshape([1, components, dim])) / scale.clone().reshape([1, components, dim]);
    let quadratic = standard.powi_scalar(2).sum_dim(2).reshape([batch, components]).mul_scalar(-0.5);
    let normaliser = scale.log().sum_dim(1).reshape([1, components]).add_scalar(dim as f64 * HALF_LN_2PI);
    log_sum_exp(quadratic - normaliser + log_weights.reshape([1, components]), 1).reshape([batch])
}

#[derive(Clone, Debug)]
struct Mixture;

/// `matrix` = `[rows, columns]` as `[columns, rows]`, every number through `f`.
fn transposed<T: Real>(matrix: &Array<T>, f: impl Fn(T) -> T) -> Vec<T> {
    let [rows, columns] = [matrix.shape()[0], matrix.shape()[1]];
    let values = matrix.as_slice();
    (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| f(values[r * columns + c])).collect()
}

/// Components as rows of one dimension each, for loops that run over components.
struct Components<T> {
    mean: Vec<T>,
    inverse_scale: Vec<T>,
    /// Log weight less the normalisation, one a component.
    constant: Vec<T>,
}

impl<T: Real> Components<T> {
    fn new([mean, scale, weights]: [&Array<T>; 3]) -> Self {
        let dim = mean.shape()[1];
        let constant = weights.as_slice().iter().enumerate().map(|(k, &weight)| {
            let scales = &scale.as_slice()[k * dim..(k + 1) * dim];
            weight - scales.iter().map(|s| s.logarithm()).sum::<T>() - T::of(dim as f64 * HALF_LN_2PI)
        });
        Self { mean: transposed(mean, |m| m), inverse_scale: transposed(scale, T::recip), constant: constant.collect() }
    }

    /// ln(weight density) of every component at `x`.
    #[inline(always)]
    fn joint(&self, x: &[T], joint: &mut [T]) {
        joint.copy_from_slice(&self.constant);
        let half = T::of(0.5);
        let dimensions = self.mean.chunks_exact(joint.len()).zip(self.inverse_scale.chunks_exact(joint.len()));
        for (&x, (mean, inverse)) in x.iter().zip(dimensions) {
            for ((joint, &mean), &inverse) in joint.iter_mut().zip(mean).zip(inverse) {
                let standard = (x - mean) * inverse;
                *joint -= half * standard * standard;
            }
        }
    }
}

/// The largest of `row`, or 0 where no component reaches the point, since there is then nothing to shift by.
#[inline(always)]
fn largest<T: Real>(row: &[T]) -> T {
    let largest = row.iter().fold(T::neg_infinity(), |a, &b| if b > a || b.is_nan() { b } else { a });
    if largest.is_infinite() { T::zero() } else { largest }
}

impl Operation<4> for Mixture {
    fn forward<T: Real>(&self, [x, mean, scale, weights]: [Array<T>; 4], tracked: [bool; 4]) -> (Array<T>, Vec<Array<T>>) {
        let ([batch, dim], count) = ([x.shape()[0], x.shape()[1]], mean.shape()[0]);
        let components = Components::new([&mean, &scale, &weights]);
        let points = x.as_slice();
        let mut joint = vec![T::zero(); batch * count];
        each_row(&mut joint, count, batch * count * dim, |i, joint| components.joint(&points[i * dim..(i + 1) * dim], joint));
        let mut out = vec![T::neg_infinity(); batch];
        if count > 0 {
            each_row(&mut out, 1, joint.len(), |i, y| {
                let row = &joint[i * count..(i + 1) * count];
                let shift = largest(row);
                y[0] = row.iter().map(|&l| (l - shift).exponential()).sum::<T>().logarithm() + shift;
            });
        }
        let out = Array::new(out, &[batch]);
        let saved = if tracked == [false; 4] { Vec::new() } else { vec![x, mean, scale, Array::new(joint, &[batch, count])] };
        (out, saved)
    }

    fn backward<T: Real>(&self, mut saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 4]) -> [Option<Array<T>>; 4] {
        let [batch, count] = [saved[3].shape()[0], saved[3].shape()[1]];
        let g = gradient.as_slice();
        // The share of each component in the density at each point, times the gradient there.
        let mut shares = saved.swap_remove(3);
        each_row(shares.make_mut(), count, batch * count, |i, row| {
            let shift = largest(row);
            for joint in row.iter_mut() {
                *joint = (*joint - shift).exponential();
            }
            let factor = g[i] / row.iter().copied().sum::<T>();
            for share in row.iter_mut() {
                *share *= factor;
            }
        });
        let (x, mean, scale, shares) = (saved[0].as_slice(), saved[1].as_slice(), saved[2].as_slice(), shares.as_slice());
        let dim = saved[0].shape()[1];
        let work = batch * count * dim;
        let mut to_x = vec![T::zero(); if wanted[0] { batch * dim } else { 0 }];
        each_row(&mut to_x, dim, work, |i, row| {
            let x = &x[i * dim..(i + 1) * dim];
            for (k, &share) in shares[i * count..(i + 1) * count].iter().enumerate() {
                let (mean, scale) = (&mean[k * dim..(k + 1) * dim], &scale[k * dim..(k + 1) * dim]);
                for (((y, &x), &mean), &scale) in row.iter_mut().zip(x).zip(mean).zip(scale) {
                    *y -= share * (x - mean) / (scale * scale);
                }
            }
        });
        // Rows of [gradient of the mean | of the scale], one a component.
        let wants_components = wanted[1] || wanted[2];
        let mut to_components = vec![T::zero(); if wants_components { count * 2 * dim } else { 0 }];
        each_row(&mut to_components, 2 * dim, work, |k, row| {
            let (to_mean, to_scale) = row.split_at_mut(dim);
            let (mean, scale) = (&mean[k * dim..(k + 1) * dim], &scale[k * dim..(k + 1) * dim]);
            let mut total = T::zero();
            for i in 0..batch {
                let share = shares[i * count + k];
                total += share;
                let x = &x[i * dim..(i + 1) * dim];
                for (((to_mean, to_scale), &x), &mean) in to_mean.iter_mut().zip(to_scale.iter_mut()).zip(x).zip(mean) {
                    let distance = x - mean;
                    *to_mean += share * distance;
                    *to_scale += share * distance * distance;
                }
            }
            for ((to_mean, to_scale), &scale) in to_mean.iter_mut().zip(to_scale).zip(scale) {
                let inverse = scale.recip();
                *to_mean *= inverse * inverse;
                *to_scale = (*to_scale * inverse * inverse - total) * inverse;
            }
        });
        let half =
            |second: usize| to_components.chunks_exact(2 * dim).flat_map(|row| row[second * dim..(second + 1) * dim].to_vec()).collect();
        let sums = || {
            let mut sums = vec![T::zero(); count];
            for row in shares.chunks_exact(count) {
                sums.iter_mut().zip(row).for_each(|(sum, &share)| *sum += share);
            }
            sums
        };
        [
            wanted[0].then(|| Array::new(to_x, &[batch, dim])),
            wanted[1].then(|| Array::new(half(0), &[count, dim])),
            wanted[2].then(|| Array::new(half(1), &[count, dim])),
            wanted[3].then(|| Array::new(sums(), &[count])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};
    use burn::tensor::Device;

    #[test]
    fn mixtures_are_those_of_the_plain_formula() {
        for [batch, components, dim] in [[1, 1, 1], [3, 5, 2], [17, 33, 40], [60, 70, 9]] {
            let case = Case::new(&[vec![batch, dim], vec![components, dim], vec![components, dim], vec![components]]).range(2, 0.5, 2.0);
            check::<1>(
                &case,
                |t| normal_mixture_log_density(t.get(0), t.get(1), t.get(2), t.get(3)).into_dispatch(),
                |t| plain(t.get(0), t.get(1), t.get(2), t.get(3)).into_dispatch(),
            );
        }
    }

    #[test]
    fn points_far_from_every_component_have_finite_densities_and_gradients() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1e4, 0.0]], &device).require_grad();
        let (mean, scale) = (Tensor::zeros([3, 2], &device), Tensor::ones([3, 2], &device));
        let y = normal_mixture_log_density(x.clone(), mean, scale, Tensor::from_floats([-1.0, f32::NEG_INFINITY, -1.0], &device));
        let gradients = y.clone().sum().backward();
        let expected = -0.5 * 1e8 - 2.0 * HALF_LN_2PI - 1.0 + 2f64.ln();
        let found = y.into_data().iter::<f64>().next().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        let gradient: Vec<f32> = x.grad(&gradients).unwrap().into_data().iter().collect();
        assert!((gradient[0] + 1e4).abs() < 1.0 && gradient[1] == 0.0, "{gradient:?}");
    }
}
