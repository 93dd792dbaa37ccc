//! Batch normalisation with the moving statistics of TensorFlow.

use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_kernels::{batch_norm, batch_norm_train};

/// Added to the variance.
const EPSILON: f64 = 1e-3;

/// y = gamma (x - mean) / sqrt(variance + 0.001) + beta for each channel.
///
/// A training model normalises with the mean and the biased variance of the batch and moves the statistics by
/// `moving = momentum * moving + (1 - momentum) * batch`, where the batch variance is the unbiased one, n / (n - 1) times the biased.
/// An evaluation copy (see burn's `Module::valid`) and a frozen model normalise with the moving statistics. burn's own layer differs in
/// two ways: it feeds the biased variance to the moving one, and the newest statistics are not part of the module until the next pass.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`, initially 1.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[channels]`, initially 0.
    pub beta: Param<Tensor<1>>,
    /// Moving mean, `[channels]`, initially 0.
    pub moving_mean: RunningState<Tensor<1>>,
    /// Moving variance, `[channels]`, initially 1.
    pub moving_variance: RunningState<Tensor<1>>,
    training: Param<Flag>,
    momentum: f64,
    epsilon: f64,
}

impl BatchNorm {
    /// Layer for `channels` channels; `momentum` is the share of the moving statistics kept at each step.
    pub fn new(channels: usize, momentum: f64, context: &BuildContext) -> Self {
        Self::with_epsilon(channels, momentum, EPSILON, context)
    }

    /// As [`BatchNorm::new`] with another number added to the variance.
    pub fn with_epsilon(channels: usize, momentum: f64, epsilon: f64, context: &BuildContext) -> Self {
        Self {
            gamma: context.constant([channels], 1.0),
            beta: context.constant([channels], 0.0),
            moving_mean: RunningState::new(Tensor::zeros([channels], &context.device)),
            moving_variance: RunningState::new(Tensor::ones([channels], &context.device)),
            training: Param::from_bool(true),
            momentum,
            epsilon,
        }
    }

    /// As [`BatchNorm::forward`] for `[batch, channels, height, width]`, without a residual.
    pub fn forward_channels_first(&self, input: Tensor<4>, relu: bool) -> Tensor<4> {
        self.forward(input.permute([0, 2, 3, 1]), None, relu).permute([0, 3, 1, 2])
    }

    /// Normalises `[batch, height, width, channels]`, adds the residual of that shape, if any, and cuts off below 0 if `relu`.
    pub fn forward(&self, input: Tensor<4>, residual: Option<Tensor<4>>, relu: bool) -> Tensor<4> {
        let (mean, variance) = (self.moving_mean.value_sync(), self.moving_variance.value_sync());
        // The layer's own side decides, not the input's: gradients with respect to the input of an evaluation copy need its statistics.
        if !(mean.device().is_autodiff() && self.training.is_enabled()) {
            return batch_norm(input, [self.gamma.val(), self.beta.val(), mean, variance], residual, self.epsilon, relu);
        }
        let [batch, height, width, _] = input.dims();
        let n = (batch * height * width) as f64;
        let result = batch_norm_train(input, self.gamma.val(), self.beta.val(), residual, self.epsilon, relu);
        let unbiased = n / (n - 1.0).max(1.0);
        let moved = |moving: Tensor<1>, new: Tensor<1>, factor: f64| {
            moving.detach().mul_scalar(self.momentum) + new.detach().mul_scalar((1.0 - self.momentum) * factor)
        };
        self.moving_mean.update(moved(mean, result.mean, 1.0));
        self.moving_variance.update(moved(variance, result.variance, unbiased));
        // A pending update would be missing from what visitors see, and with it from checkpoints.
        self.moving_mean.value_sync();
        self.moving_variance.value_sync();
        result.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    fn images(device: &Device) -> Tensor<4> {
        Tensor::<1>::from_floats([1.0, 3.0, 10.0, 30.0, 5.0, 7.0, 20.0, 20.0], device).reshape([2, 2, 1, 2]).permute([0, 2, 3, 1])
    }

    /// Channels first again, so that the values of a channel follow each other.
    fn plain(norm: &BatchNorm, images: Tensor<4>) -> Tensor<4> {
        norm.forward(images, None, false).permute([0, 3, 1, 2])
    }

    #[test]
    fn training_normalises_with_the_batch_and_moves_the_statistics_by_the_unbiased_variance() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(2, 0.9, &BuildContext::new(device.clone(), 1));
        let y = values(plain(&norm, images(&device)).inner());
        // Channel 0 holds 1, 3, 5, 7: mean 4, biased variance 5, unbiased 20/3.
        let expected = [-3.0, -1.0, 1.0, 3.0].map(|d: f32| d / 5.001f32.sqrt());
        for (found, expected) in [y[0], y[1], y[4], y[5]].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5);
        }
        let (mean, variance) = (values(norm.moving_mean.value().inner()), values(norm.moving_variance.value().inner()));
        assert!((mean[0] - 0.4).abs() < 1e-6 && (mean[1] - 2.0).abs() < 1e-6, "{mean:?}");
        assert!((variance[0] - (0.9 + 0.1 * 20.0 / 3.0)).abs() < 1e-5, "{variance:?}");
    }

    #[test]
    fn evaluation_copies_and_frozen_layers_use_the_moving_statistics_and_leave_them() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(2, 0.5, &BuildContext::new(device.clone(), 1));
        plain(&norm, images(&device));
        let mean = values(norm.moving_mean.value().inner());
        let evaluation = norm.valid();
        let y = values(plain(&evaluation, images(&Device::flex())));
        let variance = values(evaluation.moving_variance.value());
        assert!((y[0] - (1.0 - mean[0]) / (variance[0] + 1e-3).sqrt()).abs() < 1e-5);
        let frozen = norm.freeze();
        assert_eq!(values(plain(&frozen, images(&device)).inner()), y);
        assert_eq!(values(frozen.moving_mean.value().inner()), mean);
    }

    #[test]
    fn a_single_value_per_channel_stays_finite() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(1, 0.9, &BuildContext::new(device.clone(), 1));
        let y = plain(&norm, Tensor::full([1, 1, 1, 1], 3.0, &device));
        assert_eq!(values(y.inner()), [0.0]);
        assert!((values(norm.moving_variance.value().inner())[0] - 0.9).abs() < 1e-6);
    }
}
