//! Log-likelihoods of class labels and sums of exponentials, without a tensor for every step on the way.

use std::sync::Arc;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use crate::array::{Array, integers};
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::each_row;

/// ln softmax(logits) at the labels: logits `[samples, batch, classes]`, labels `[batch]`, result `[samples, batch]` in nats.
pub fn label_log_likelihood(logits: Tensor<3>, labels: &Tensor<1, Int>) -> Tensor<2> {
    let [_, batch, classes] = logits.dims();
    let known =
        integers(labels).filter(|labels| labels.len() == batch && labels.iter().all(|&l| usize::try_from(l).is_ok_and(|l| l < classes)));
    // Labels elsewhere, or outside the classes, are for the plain formula, which computes or refuses as any tensor operation does.
    let Some(known) = known else { return plain_log_likelihood(logits, labels) };
    let operation = LogLikelihood { labels: known.into_iter().map(|l| l as usize).collect() };
    match apply(operation, [logits.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([logits]) => plain_log_likelihood(Tensor::from_dispatch(logits), labels),
    }
}

fn plain_log_likelihood(logits: Tensor<3>, labels: &Tensor<1, Int>) -> Tensor<2> {
    let [samples, batch, _] = logits.dims();
    let index = labels.clone().reshape([1, batch, 1]).expand([samples, batch, 1]);
    log_softmax(logits, 2).gather(2, index).reshape([samples, batch])
}

#[derive(Clone, Debug)]
struct LogLikelihood {
    labels: Arc<[usize]>,
}

/// ln of the sum of exponentials of a row.
#[inline(always)]
fn row_log_sum<T: Real>(row: &[T]) -> T {
    let largest = row.iter().fold(T::neg_infinity(), |a, &b| if b > a || b.is_nan() { b } else { a });
    row.iter().map(|&x| (x - largest).exponential()).sum::<T>().logarithm() + largest
}

impl Operation<1> for LogLikelihood {
    fn forward<T: Real>(&self, [logits]: [Array<T>; 1], [tracked]: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let [samples, batch, classes] = [logits.shape()[0], logits.shape()[1], logits.shape()[2]];
        let values = logits.as_slice();
        let mut out = vec![T::zero(); samples * batch];
        each_row(&mut out, 1, values.len(), |i, y| {
            let row = &values[i * classes..(i + 1) * classes];
            y[0] = row[self.labels[i % batch]] - row_log_sum(row);
        });
        let out = Array::new(out, &[samples, batch]);
        (out.clone(), if tracked { vec![logits, out] } else { Vec::new() })
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let (logits, out, g) = (&saved[0], saved[1].as_slice(), gradient.as_slice());
        let [batch, classes] = [logits.shape()[1], logits.shape()[2]];
        let mut values = logits.as_slice().to_vec();
        let work = values.len();
        each_row(&mut values, classes, work, |i, row| {
            let label = self.labels[i % batch];
            // The likelihood tells the log-sum: row[label] - log-sum = out.
            let log_sum = row[label] - out[i];
            for x in row.iter_mut() {
                *x = -g[i] * (*x - log_sum).exponential();
            }
            row[label] += g[i];
        });
        [Some(Array::new(values, logits.shape()))]
    }
}

/// ln of the sum of exponentials over dimension `dim`, which keeps size 1. Finite for every finite input.
pub fn log_sum_exp<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    match apply(LogSumExp { dim }, [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => plain_log_sum_exp::<D>(Tensor::from_dispatch(x), dim),
    }
}

fn plain_log_sum_exp<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    // The maximum is a constant shift: detaching it leaves the gradient exact and spares its backward pass.
    let shift = x.clone().detach().max_dim(dim);
    (x - shift.clone()).exp().sum_dim(dim).log() + shift
}

#[derive(Clone, Debug)]
struct LogSumExp {
    dim: usize,
}

impl LogSumExp {
    /// Numbers summed together, and the distance between them.
    fn sizes(&self, shape: &[usize]) -> [usize; 2] {
        [shape[self.dim], shape[self.dim + 1..].iter().product()]
    }
}

impl Operation<1> for LogSumExp {
    fn forward<T: Real>(&self, [x]: [Array<T>; 1], [tracked]: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let ([n, inner], values) = (self.sizes(x.shape()), x.as_slice());
        let mut shape = x.shape().to_vec();
        shape[self.dim] = 1;
        let mut out = vec![T::neg_infinity(); shape.iter().product()];
        each_row(&mut out, inner, values.len(), |outer, row| {
            let block = &values[outer * n * inner..(outer + 1) * n * inner];
            if inner == 1 {
                row[0] = row_log_sum(block);
                return;
            }
            let largest = |row: &mut [T], x: &[T]| row.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > *y || x.is_nan() { x } else { *y });
            block.chunks_exact(inner).for_each(|x| largest(row, x));
            // A few columns at a time, so that the sums fit beside them.
            for (start, part) in row.chunks_mut(64).enumerate().map(|(i, part)| (i * 64, part)) {
                let mut sums = [T::zero(); 64];
                for x in block.chunks_exact(inner) {
                    for ((sum, &x), &largest) in sums.iter_mut().zip(&x[start..]).zip(&*part) {
                        *sum += (x - largest).exponential();
                    }
                }
                part.iter_mut().zip(&sums).for_each(|(y, sum)| *y += sum.logarithm());
            }
        });
        let out = Array::new(out, &shape);
        (out.clone(), if tracked { vec![x, out] } else { Vec::new() })
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let (x, out, g) = (&saved[0], saved[1].as_slice(), gradient.as_slice());
        let [n, inner] = self.sizes(x.shape());
        let mut values = x.as_slice().to_vec();
        let work = values.len();
        each_row(&mut values, n * inner, work, |outer, block| {
            let at = outer * inner..(outer + 1) * inner;
            for row in block.chunks_exact_mut(inner) {
                let kept = out[at.clone()].iter().zip(&g[at.clone()]);
                row.iter_mut().zip(kept).for_each(|(x, (&y, &g))| *x = g * (*x - y).exponential());
            }
        });
        [Some(Array::new(values, x.shape()))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};
    use burn::tensor::{Device, TensorData};

    #[test]
    fn likelihoods_of_labels_are_those_of_the_plain_formula() {
        for [samples, batch, classes] in [[1, 1, 2], [1, 5, 10], [4, 33, 7], [12, 300, 10]] {
            let labels = TensorData::new((0..batch).map(|i| (i * 7 % classes) as i64).collect::<Vec<_>>(), [batch]);
            let labels = Tensor::<1, Int>::from_data(labels, &Device::flex().autodiff());
            check::<2>(
                &Case::new(&[vec![samples, batch, classes]]).range(0, -9.0, 9.0),
                |t| label_log_likelihood(t.get(0), &labels).into_dispatch(),
                |t| plain_log_likelihood(t.get(0), &labels).into_dispatch(),
            );
        }
    }

    #[test]
    fn sums_of_exponentials_are_those_of_the_plain_formula() {
        for shape in [vec![1, 1, 1], vec![4, 3, 5], vec![12, 70, 10], vec![3, 2, 129]] {
            for dim in 0..3 {
                check::<3>(
                    &Case::new(std::slice::from_ref(&shape)).range(0, -9.0, 9.0),
                    |t| log_sum_exp::<3>(t.get(0), dim).into_dispatch(),
                    |t| plain_log_sum_exp::<3>(t.get(0), dim).into_dispatch(),
                );
            }
        }
    }

    #[test]
    fn extreme_logits_give_finite_values_and_gradients() {
        let device = Device::flex().autodiff();
        let x = Tensor::<3>::from_floats([[[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([1, 2], &device);
        let y = label_log_likelihood(x.clone(), &labels).sum() + log_sum_exp(x.clone(), 2).sum();
        let gradients = y.clone().backward();
        assert!(y.into_data().iter::<f64>().all(f64::is_finite));
        assert!(x.grad(&gradients).unwrap().into_data().iter::<f64>().all(f64::is_finite));
    }
}
