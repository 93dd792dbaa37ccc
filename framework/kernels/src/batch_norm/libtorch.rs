//! Batch normalisation by LibTorch's own functions.

use burn::tensor::Tensor;

use super::Normalised;
use crate::libtorch::{Reads, apply, constant};

/// Images, gamma, beta, residual.
type Training = (Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>);
/// Images; gamma, beta, mean, variance; residual.
type Evaluation = (Tensor<4>, [Tensor<1>; 4], Option<Tensor<4>>);

/// [`super::batch_norm_train`] on LibTorch.
///
/// # Errors
/// The inputs when they are not LibTorch's.
pub fn train((x, gamma, beta, residual): Training, epsilon: f64, relu: bool) -> Result<Normalised, Training> {
    let tracks = x.is_autodiff();
    let mut moments = None;
    let mut normalise = |x: &tch::Tensor, gamma: &tch::Tensor, beta: &tch::Tensor, residual: Option<&tch::Tensor>| {
        let none = None::<&tch::Tensor>;
        let (y, mean, inverse) =
            x.contiguous().permute([0, 3, 1, 2]).native_batch_norm(Some(gamma), Some(beta), none, none, true, 0.0, epsilon);
        // burn may work in place on what it is given, and LibTorch reads its own mean again.
        moments = Some((mean.detach().copy(), inverse.detach().pow_tensor_scalar(-2) - epsilon));
        // Not in place on the permuted view: its gradient would be copied.
        finish(y, residual.map(|residual| residual.permute([0, 3, 1, 2])), relu).permute([0, 2, 3, 1])
    };
    let inputs = [x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
    let result = match residual {
        Some(residual) => {
            let [x, gamma, beta] = inputs;
            apply([x, gamma, beta, residual.into_dispatch()], Reads::Both, |[x, gamma, beta, residual]| {
                normalise(&x, &gamma, &beta, Some(&residual))
            })
            .map_err(|[x, gamma, beta, residual]| ([x, gamma, beta], Some(Tensor::from_dispatch(residual))))
        }
        None => apply(inputs, Reads::Both, |[x, gamma, beta]| normalise(&x, &gamma, &beta, None)).map_err(|inputs| (inputs, None)),
    };
    match (result, moments) {
        (Ok(y), Some((mean, variance))) => {
            let vector = |values: tch::Tensor| {
                let values = Tensor::from_dispatch(constant(values));
                if tracks { Tensor::from_inner(values) } else { values }
            };
            Ok(Normalised { output: Tensor::from_dispatch(y), mean: vector(mean), variance: vector(variance) })
        }
        (Ok(_), None) => unreachable!("the formula leaves its moments"),
        (Err(([x, gamma, beta], residual)), _) => {
            Err((Tensor::from_dispatch(x), Tensor::from_dispatch(gamma), Tensor::from_dispatch(beta), residual))
        }
    }
}

/// [`super::batch_norm`] on LibTorch.
///
/// # Errors
/// The inputs when they are not LibTorch's.
pub fn evaluate((x, parameters, residual): Evaluation, epsilon: f64, relu: bool) -> Result<Tensor<4>, Evaluation> {
    let normalise = |x: &tch::Tensor, [gamma, beta, mean, variance]: [tch::Tensor; 4]| {
        let scale = gamma / (variance + epsilon).sqrt();
        (beta - mean * &scale).addcmul(x, &scale)
    };
    let (x, [gamma, beta, mean, variance]) = (x.into_dispatch(), parameters.map(Tensor::into_dispatch));
    let result = match residual {
        Some(residual) => {
            apply([x, gamma, beta, mean, variance, residual.into_dispatch()], Reads::Both, |[x, gamma, beta, mean, variance, residual]| {
                finish(normalise(&x, [gamma, beta, mean, variance]), Some(residual), relu)
            })
            .map_err(|[x, gamma, beta, mean, variance, residual]| (x, [gamma, beta, mean, variance], Some(Tensor::from_dispatch(residual))))
        }
        None => apply([x, gamma, beta, mean, variance], Reads::Both, |[x, gamma, beta, mean, variance]| {
            finish(normalise(&x, [gamma, beta, mean, variance]), None, relu)
        })
        .map_err(|[x, gamma, beta, mean, variance]| (x, [gamma, beta, mean, variance], None)),
    };
    result
        .map(Tensor::from_dispatch)
        .map_err(|(x, parameters, residual)| (Tensor::from_dispatch(x), parameters.map(Tensor::from_dispatch), residual))
}

/// Adds the residual and cuts off below 0 if `relu`, in place.
fn finish(mut y: tch::Tensor, residual: Option<tch::Tensor>, relu: bool) -> tch::Tensor {
    if let Some(residual) = residual {
        y += residual;
    }
    if relu { y.relu_() } else { y }
}
