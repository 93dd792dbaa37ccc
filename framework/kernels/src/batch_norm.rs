//! Batch normalisation of channels-last images as a tensor function, with a residual sum and relu in the same pass.

use std::sync::{Arc, OnceLock};

use burn::tensor::activation::relu as plain_relu;
use burn::tensor::module::{batch_norm as plain_evaluation, batch_norm_train as plain_training};
use burn::tensor::{Tensor, TensorData};

use crate::array::Array;
use crate::norm::{Affine, BackwardAffine, GradientSums, Incoming, Moments, scaled};
use crate::operation::{Operation, apply};
use crate::real::Real;

#[cfg(feature = "tch")]
mod libtorch;

/// What [`batch_norm_train`] gives.
#[derive(Clone, Debug)]
pub struct Normalised {
    /// `[batch, height, width, channels]`.
    pub output: Tensor<4>,
    /// Mean of the batch, `[channels]`, detached.
    pub mean: Tensor<1>,
    /// Biased variance of the batch, `[channels]`, detached.
    pub variance: Tensor<1>,
}

/// gamma (x - mean) / sqrt(variance + epsilon) + beta + residual, cut off below 0 if `relu`, with the mean and the biased variance over
/// batch and positions, through which gradients flow.
///
/// x and residual `[batch, height, width, channels]`, gamma and beta `[channels]`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn batch_norm_train(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    epsilon: f64,
    relu: bool,
) -> Normalised {
    let moments = Arc::new(OnceLock::new());
    let operation = Training { epsilon, relu, moments: Arc::clone(&moments) };
    let (device, dtype) = (x.device(), x.dtype());
    let [x, gamma, beta] = [x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
    let result = match residual {
        Some(residual) => apply(operation, [x, gamma, beta, residual.into_dispatch()])
            .map_err(|[x, gamma, beta, residual]| ([x, gamma, beta], Some(Tensor::from_dispatch(residual)))),
        None => apply(operation, [x, gamma, beta]).map_err(|inputs| (inputs, None)),
    };
    match (result, moments.get()) {
        (Ok(y), Some(moments)) => {
            let vector = |values: Vec<f64>| Tensor::from_data(TensorData::from(values.as_slice()), (&device, dtype));
            let (mean, variance) = (vector(moments.mean.clone()), vector(moments.variance().collect()));
            Normalised { output: Tensor::from_dispatch(y), mean, variance }
        }
        (Ok(_), None) => unreachable!("the forward pass leaves its moments"),
        (Err((inputs, residual)), _) => {
            let [x, gamma, beta] = inputs;
            let (x, gamma, beta) = (Tensor::from_dispatch(x), Tensor::from_dispatch(gamma), Tensor::from_dispatch(beta));
            #[cfg(feature = "tch")]
            let (x, gamma, beta, residual) = match libtorch::train((x, gamma, beta, residual), epsilon, relu) {
                Ok(normalised) => return normalised,
                Err(inputs) => inputs,
            };
            plain_train(x, gamma, beta, residual, epsilon, relu)
        }
    }
}

/// [`batch_norm_train`] with a given mean and variance, `[channels]`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn batch_norm(x: Tensor<4>, parameters: [Tensor<1>; 4], residual: Option<Tensor<4>>, epsilon: f64, relu: bool) -> Tensor<4> {
    let operation = Evaluation { epsilon, relu };
    let (x, [gamma, beta, mean, variance]) = (x.into_dispatch(), parameters.map(Tensor::into_dispatch));
    let result = match residual {
        Some(residual) => apply(operation, [x, gamma, beta, mean, variance, residual.into_dispatch()]).map_err(
            |[x, gamma, beta, mean, variance, residual]| (x, [gamma, beta, mean, variance], Some(Tensor::from_dispatch(residual))),
        ),
        None => apply(operation, [x, gamma, beta, mean, variance])
            .map_err(|[x, gamma, beta, mean, variance]| (x, [gamma, beta, mean, variance], None)),
    };
    match result {
        Ok(y) => Tensor::from_dispatch(y),
        Err((x, parameters, residual)) => {
            let (x, parameters) = (Tensor::from_dispatch(x), parameters.map(Tensor::from_dispatch));
            #[cfg(feature = "tch")]
            let (x, parameters, residual) = match libtorch::evaluate((x, parameters, residual), epsilon, relu) {
                Ok(y) => return y,
                Err(inputs) => inputs,
            };
            plain(x, parameters, residual, epsilon, relu)
        }
    }
}

fn plain_train(x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, residual: Option<Tensor<4>>, epsilon: f64, relu: bool) -> Normalised {
    let result = plain_training(x.permute([0, 3, 1, 2]), gamma, beta, epsilon);
    Normalised { output: finish(result.output, residual, relu), mean: result.mean, variance: result.variance }
}

fn plain(x: Tensor<4>, parameters: [Tensor<1>; 4], residual: Option<Tensor<4>>, epsilon: f64, relu: bool) -> Tensor<4> {
    let [gamma, beta, mean, variance] = parameters;
    finish(plain_evaluation(x.permute([0, 3, 1, 2]), gamma, beta, mean, variance, epsilon), residual, relu)
}

fn finish(y: Tensor<4>, residual: Option<Tensor<4>>, relu: bool) -> Tensor<4> {
    let y = y.permute([0, 2, 3, 1]);
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    if relu { plain_relu(y) } else { y }
}

fn check_sizes<T: Real>(inputs: &[Array<T>], vectors: std::ops::Range<usize>) {
    let channels = inputs[0].shape()[3];
    for input in &inputs[vectors.clone()] {
        assert_eq!(input.shape(), [channels], "parameters of a batch normalisation of images {:?}", inputs[0].shape());
    }
    if let Some(residual) = inputs.get(vectors.end) {
        assert_eq!(residual.shape(), inputs[0].shape(), "residual of a batch normalisation");
    }
}

/// The gradient where it passes the relu.
fn passed<T: Real>(incoming: Incoming<'_, T>, gradient: &Array<T>) -> Array<T> {
    match incoming.output {
        None => gradient.clone(),
        Some(_) => Array::new(scaled(incoming, None, gradient.shape()[3]), gradient.shape()),
    }
}

/// [`batch_norm_train`] as a graph node: x, gamma, beta, and the residual as fourth input or not.
#[derive(Clone, Debug)]
struct Training {
    epsilon: f64,
    relu: bool,
    moments: Arc<OnceLock<Moments>>,
}

impl<const N: usize> Operation<N> for Training {
    fn forward<T: Real>(&self, inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        check_sizes(&inputs, 1..3);
        let [x, gamma, beta] = [&inputs[0], &inputs[1], &inputs[2]];
        let moments = self.moments.get_or_init(|| Moments::over(x.as_slice(), x.shape()[3]));
        let affine = Affine::new(&moments.mean, moments.variance(), gamma.as_slice(), beta.as_slice(), self.epsilon);
        let y = Array::new(affine.apply(x.as_slice(), inputs.get(3).map(Array::as_slice), self.relu), x.shape());
        if tracked == [false; N] {
            return (y, Vec::new());
        }
        let saved = [x.clone(), gamma.clone()].into_iter().chain(self.relu.then(|| y.clone())).collect();
        (y, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        let [x, gamma] = [&saved[0], &saved[1]];
        let incoming = Incoming { gradient: gradient.as_slice(), output: saved.get(2).map(Array::as_slice) };
        let moments = self.moments.get_or_init(|| Moments::over(x.as_slice(), x.shape()[3]));
        let sums = GradientSums::over(incoming, x.as_slice(), &moments.mean);
        std::array::from_fn(|input| {
            wanted[input].then(|| match input {
                0 => {
                    let affine = BackwardAffine::new(moments, gamma.as_slice(), self.epsilon, &sums);
                    Array::new(affine.apply(incoming, x.as_slice()), x.shape())
                }
                1 => vector(sums.weighted.iter().zip(moments.variance()).map(|(s, v)| s / (v + self.epsilon).sqrt())),
                2 => vector(sums.plain.iter().copied()),
                _ => passed(incoming, &gradient),
            })
        })
    }
}

fn vector<T: Real>(values: impl Iterator<Item = f64>) -> Array<T> {
    let values: Vec<T> = values.map(T::of).collect();
    let channels = values.len();
    Array::new(values, &[channels])
}

/// [`batch_norm`] as a graph node: x, gamma, beta, mean, variance, and the residual as sixth input or not.
#[derive(Clone, Debug)]
struct Evaluation {
    epsilon: f64,
    relu: bool,
}

impl<const N: usize> Operation<N> for Evaluation {
    fn forward<T: Real>(&self, mut inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        check_sizes(&inputs, 1..5);
        let [x, gamma, beta, mean, variance] = [0, 1, 2, 3, 4].map(|i| &inputs[i]);
        let affine = Affine::new(&numbers(mean), numbers(variance).iter().copied(), gamma.as_slice(), beta.as_slice(), self.epsilon);
        if tracked == [false; N] && x.is_unique() {
            let (images, others) = inputs.split_at_mut(1);
            affine.apply_in_place(images[0].make_mut(), others.get(4).map(Array::as_slice), self.relu);
            return (images[0].clone(), Vec::new());
        }
        let y = Array::new(affine.apply(x.as_slice(), inputs.get(5).map(Array::as_slice), self.relu), x.shape());
        if tracked == [false; N] {
            return (y, Vec::new());
        }
        let saved = [x, gamma, mean, variance].into_iter().cloned().chain(self.relu.then(|| y.clone())).collect();
        (y, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        let x = &saved[0];
        let [gamma, mean, variance] = [1, 2, 3].map(|i| numbers(&saved[i]));
        let incoming = Incoming { gradient: gradient.as_slice(), output: saved.get(4).map(Array::as_slice) };
        let inverse: Vec<f64> = variance.iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect();
        let scale = || gamma.iter().zip(&inverse).map(|(g, i)| g * i);
        let any_vector = wanted.iter().take(5).skip(1).any(|w| *w);
        let sums = GradientSums::over(incoming, if any_vector { x.as_slice() } else { &[] }, &mean);
        std::array::from_fn(|input| {
            wanted[input].then(|| match input {
                0 => Array::new(scaled(incoming, Some(scale().collect()), mean.len()), x.shape()),
                1 => vector(sums.weighted.iter().zip(&inverse).map(|(s, i)| s * i)),
                2 => vector(sums.plain.iter().copied()),
                3 => vector(sums.plain.iter().zip(scale()).map(|(s, scale)| -s * scale)),
                4 => vector(sums.weighted.iter().zip(scale()).zip(&inverse).map(|((s, scale), i)| -0.5 * s * scale * i * i)),
                _ => passed(incoming, &gradient),
            })
        })
    }
}

fn numbers<T: Real>(array: &Array<T>) -> Vec<f64> {
    array.as_slice().iter().map(|v| v.wide()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};
    use burn::backend::DispatchTensor;

    const SHAPES: [[usize; 4]; 4] = [[1, 2, 1, 1], [2, 3, 5, 7], [3, 4, 4, 16], [5, 13, 11, 33]];

    /// The cube, because the gradient of a plain sum of normalised values is 0 and what remains of it is rounding.
    fn cubed(y: Tensor<4>) -> DispatchTensor {
        (y.clone() * y.clone() * y).into_dispatch()
    }

    #[test]
    fn training_is_that_of_the_plain_formula() {
        for shape in SHAPES {
            let (images, vector) = (shape.to_vec(), vec![shape[3]]);
            for relu in [false, true] {
                check::<4>(
                    &Case::new(&[images.clone(), vector.clone(), vector.clone()]),
                    |t| cubed(batch_norm_train(t.get(0), t.get(1), t.get(2), None, 0.1, relu).output),
                    |t| cubed(plain_train(t.get(0), t.get(1), t.get(2), None, 0.1, relu).output),
                );
                check::<4>(
                    &Case::new(&[images.clone(), vector.clone(), vector.clone(), images.clone()]),
                    |t| cubed(batch_norm_train(t.get(0), t.get(1), t.get(2), Some(t.get(3)), 0.1, relu).output),
                    |t| cubed(plain_train(t.get(0), t.get(1), t.get(2), Some(t.get(3)), 0.1, relu).output),
                );
            }
        }
    }

    #[test]
    fn evaluation_is_that_of_the_plain_formula() {
        for shape in SHAPES {
            let (images, vector) = (shape.to_vec(), vec![shape[3]]);
            for relu in [false, true] {
                let shapes = [images.clone(), vector.clone(), vector.clone(), vector.clone(), vector.clone(), images.clone()];
                check::<4>(
                    &Case::new(&shapes).range(4, 0.2, 2.0),
                    |t| batch_norm(t.get(0), [1, 2, 3, 4].map(|i| t.get(i)), Some(t.get(5)), 0.1, relu).into_dispatch(),
                    |t| plain(t.get(0), [1, 2, 3, 4].map(|i| t.get(i)), Some(t.get(5)), 0.1, relu).into_dispatch(),
                );
                check::<4>(
                    &Case::new(&shapes[..5]).range(4, 0.2, 2.0),
                    |t| batch_norm(t.get(0), [1, 2, 3, 4].map(|i| t.get(i)), None, 0.1, relu).into_dispatch(),
                    |t| plain(t.get(0), [1, 2, 3, 4].map(|i| t.get(i)), None, 0.1, relu).into_dispatch(),
                );
            }
        }
    }
}
