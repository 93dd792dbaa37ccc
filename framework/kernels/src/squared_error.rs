//! Mean squared difference between several draws and their common source.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::{each_row, sum_terms};

/// Mean over all entries of (draws - sources)^2, `[1]`: draws `[batch n, values]`, sources `[batch, values]`, the n draws of one source
/// after each other.
///
/// # Panics
/// When the draws are no multiple of the sources.
pub fn mean_squared_error(draws: Tensor<2>, sources: Tensor<2>) -> Tensor<1> {
    match apply(SquaredError, [draws.into_dispatch(), sources.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([draws, sources]) => plain(Tensor::from_dispatch(draws), Tensor::from_dispatch(sources)),
    }
}

fn plain(draws: Tensor<2>, sources: Tensor<2>) -> Tensor<1> {
    let ([rows, values], [batch, _]) = (draws.dims(), sources.dims());
    (draws.reshape([batch, rows / batch.max(1), values]) - sources.reshape([batch, 1, values])).powi_scalar(2).mean()
}

#[derive(Clone, Debug)]
struct SquaredError;

impl Operation<2> for SquaredError {
    fn forward<T: Real>(&self, [draws, sources]: [Array<T>; 2], tracked: [bool; 2]) -> (Array<T>, Vec<Array<T>>) {
        let ([rows, values], [batch, width]) = ([draws.shape()[0], draws.shape()[1]], [sources.shape()[0], sources.shape()[1]]);
        let n = rows / batch.max(1);
        assert!(values == width && rows == n * batch, "{rows} draws of {values} values from {batch} sources of {width}");
        let (x, s) = (draws.as_slice(), sources.as_slice());
        let mut sums = vec![T::zero(); rows];
        each_row(
            &mut sums,
            1,
            rows * values,
            #[inline(always)]
            |i, sum| {
                let pair = [&x[i * values..(i + 1) * values], &s[i / n * values..(i / n + 1) * values]];
                sum[0] = sum_terms(pair, |[x, s]| (x - s) * (x - s));
            },
        );
        // Rounding of the sum over rows would show before that of a row's.
        let mean = sums.iter().map(|sum| sum.to_double()).sum::<f64>() / (rows * values) as f64;
        let saved = if tracked == [false; 2] { Vec::new() } else { vec![draws, sources] };
        (Array::new(vec![T::of(mean)], &[1]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 2]) -> [Option<Array<T>>; 2] {
        let (draws, sources) = (&saved[0], &saved[1]);
        let ([rows, values], batch) = ([draws.shape()[0], draws.shape()[1]], sources.shape()[0]);
        let n = rows / batch.max(1);
        let factor = gradient.as_slice()[0] * T::of(2.0 / (rows * values).max(1) as f64);
        let (x, s) = (draws.as_slice(), sources.as_slice());
        let to_draws = || {
            let mut out = vec![T::zero(); x.len()];
            each_row(&mut out, values, x.len(), |i, row| {
                let pairs = x[i * values..(i + 1) * values].iter().zip(&s[i / n * values..]);
                row.iter_mut().zip(pairs).for_each(|(y, (&x, &s))| *y = factor * (x - s));
            });
            Array::new(out, draws.shape())
        };
        let to_sources = || {
            let mut out = vec![T::zero(); s.len()];
            each_row(&mut out, values, x.len(), |i, row| {
                for draw in x[i * n * values..(i + 1) * n * values].chunks_exact(values.max(1)) {
                    let pairs = draw.iter().zip(&s[i * values..]);
                    row.iter_mut().zip(pairs).for_each(|(y, (&x, &s))| *y += factor * (s - x));
                }
            });
            Array::new(out, sources.shape())
        };
        [wanted[0].then(to_draws), wanted[1].then(to_sources)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn value_and_gradients_are_those_of_the_plain_formula() {
        for [batch, n, values] in [[1, 1, 1], [1, 3, 33], [5, 1, 7], [7, 10, 784]] {
            check::<1>(
                &Case::new(&[vec![batch * n, values], vec![batch, values]]),
                |t| mean_squared_error(t.get(0), t.get(1)).into_dispatch(),
                |t| plain(t.get(0), t.get(1)).into_dispatch(),
            );
        }
    }

    #[test]
    fn nothing_has_no_mean() {
        let empty = || Tensor::<2>::zeros([0, 4], &burn::tensor::Device::flex());
        assert!(mean_squared_error(empty(), empty()).into_scalar::<f32>().is_nan());
    }
}
