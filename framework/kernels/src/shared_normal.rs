//! Log-density of normals that share one standard deviation: a sum of squares, without a logarithm or a division for each variable.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::gaussian::HALF_LN_2PI;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::{each_row, sum_terms};

/// ln N(x; mean, scale^2 I) in nats, summed over the last dimension: -|x - mean|^2 / (2 scale^2) - n (ln scale + ln(2 pi)/2).
/// Points and means `[batch, n]`, scale `[1]` and positive; result `[batch]`.
pub fn shared_normal_log_density(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<1>) -> Tensor<1> {
    match apply(SharedNormal, [x.into_dispatch(), mean.into_dispatch(), scale.into_dispatch()]) {
        Ok(density) => Tensor::from_dispatch(density),
        Err(inputs) => {
            #[cfg(feature = "tch")]
            let inputs = match crate::libtorch::apply(inputs, crate::libtorch::Reads::Inputs, on_libtorch) {
                Ok(density) => return Tensor::from_dispatch(density),
                Err(inputs) => inputs,
            };
            let [x, mean, scale] = inputs;
            plain(Tensor::from_dispatch(x), Tensor::from_dispatch(mean), Tensor::from_dispatch(scale))
        }
    }
}

/// The squares as LibTorch's loss, whose gradient is one pass where that of a power is several.
#[cfg(feature = "tch")]
fn on_libtorch([x, mean, scale]: [tch::Tensor; 3]) -> tch::Tensor {
    let variables = x.size()[1];
    let squares = mean.mse_loss(&x, tch::Reduction::None).sum_dim_intlist([1i64].as_slice(), false, None);
    squares / (scale.square() * -2.0) - (scale.log() + HALF_LN_2PI) * variables as f64
}

fn plain(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<1>) -> Tensor<1> {
    let [batch, variables] = x.dims();
    let squares = (x - mean).powi_scalar(2).sum_dim(1).reshape([batch]);
    squares / scale.clone().powi_scalar(2).mul_scalar(-2.0) - (scale.log() + HALF_LN_2PI).mul_scalar(variables as f64)
}

#[derive(Clone, Debug)]
struct SharedNormal;

impl Operation<3> for SharedNormal {
    fn forward<T: Real>(&self, [x, mean, scale]: [Array<T>; 3], tracked: [bool; 3]) -> (Array<T>, Vec<Array<T>>) {
        assert!(x.shape() == mean.shape() && scale.len() == 1, "points {:?}, means {:?}, one scale", x.shape(), mean.shape());
        let [batch, n] = [x.shape()[0], x.shape()[1]];
        let (points, means, s) = (x.as_slice(), mean.as_slice(), scale.as_slice()[0]);
        let mut squares = vec![T::zero(); batch];
        each_row(
            &mut squares,
            1,
            batch * n,
            #[inline(always)]
            |i, sum| sum[0] = sum_terms([&points[i * n..(i + 1) * n], &means[i * n..(i + 1) * n]], |[x, m]| (x - m) * (x - m)),
        );
        let (factor, constant) = (T::of(-0.5) / (s * s), (T::of(HALF_LN_2PI) + s.logarithm()) * T::of(n as f64));
        let densities = squares.iter().map(|&sum| factor * sum - constant).collect();
        let saved = if tracked == [false; 3] { Vec::new() } else { vec![x, mean, scale, Array::new(squares, &[batch])] };
        (Array::new(densities, &[batch]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 3]) -> [Option<Array<T>>; 3] {
        let [x, mean, scale, squares] = [0, 1, 2, 3].map(|i| &saved[i]);
        let (n, s, g) = (x.shape()[1], scale.as_slice()[0], gradient.as_slice());
        // The gradient of the means; that of the points has the other sign.
        let differences = |sign: f64| {
            let (mut out, means, factor) = (x.as_slice().to_vec(), mean.as_slice(), T::of(sign) / (s * s));
            each_row(&mut out, n, x.len(), |i, row| {
                let factor = factor * g[i];
                row.iter_mut().zip(&means[i * n..]).for_each(|(y, &m)| *y = factor * (*y - m));
            });
            Array::new(out, x.shape())
        };
        let to_scale = || {
            let terms = g.iter().zip(squares.as_slice()).map(|(&g, &sum)| g * (sum / (s * s) - T::of(n as f64)) / s);
            Array::new(vec![terms.fold(T::zero(), |sum, term| sum + term)], &[1])
        };
        [wanted[0].then(|| differences(-1.0)), wanted[1].then(|| differences(1.0)), wanted[2].then(to_scale)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn value_and_gradients_are_those_of_the_plain_formula() {
        for [batch, n] in [[1, 1], [3, 33], [7, 3072]] {
            check::<1>(
                &Case::new(&[vec![batch, n], vec![batch, n], vec![1]]).range(2, 0.3, 2.0),
                |t| shared_normal_log_density(t.get(0), t.get(1), t.get(2)).into_dispatch(),
                |t| plain(t.get(0), t.get(1), t.get(2)).into_dispatch(),
            );
        }
    }
}
