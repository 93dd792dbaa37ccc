//! Dense layer whose weight is divided by an estimate of its largest singular value, one power iteration at every call.

use burn::module::{Module, Param, RunningState};
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, Initial};
use ibhost_kernels::{Activation, divided_by_singular_value, linear, power_iteration};

/// y = x W / sigma + b with W `[inputs, outputs]`, or y = x W + b when the layer keeps no vector.
///
/// Every forward pass, in training of whichever network, does v = n(W u), u = n(W^T v), sigma = v^T W u with n(a) = a / (|a| + 1e-10)
/// (Miyato et al. 2018, arXiv:1802.05957, one iteration). u and v are constants of the backward pass, sigma is differentiated:
/// dL/dW = G / sigma - (sum(G * W) / sigma^2) v u^T, where G is the gradient of W / sigma.
#[derive(Module, Debug)]
pub struct SpectralLinear {
    /// W, `[inputs, outputs]`.
    pub weight: Param<Tensor<2>>,
    /// b, `[outputs]`.
    pub bias: Param<Tensor<1>>,
    /// u of the last call, `[outputs]`; absent without normalisation.
    pub u: Option<RunningState<Tensor<1>>>,
}

impl SpectralLinear {
    /// Layer with weights drawn by `initial`, bias 0 and, when `normalised`, u drawn from the standard normal.
    pub fn new(inputs: usize, outputs: usize, normalised: bool, initial: Initial, context: &BuildContext) -> Self {
        let weight = context.weight([inputs, outputs], inputs, outputs, initial);
        let bias = context.constant([outputs], 0.0);
        let start = || context.weight([outputs], outputs, 1, Initial::Normal(1.0)).val().detach().set_require_grad(false);
        Self { weight, bias, u: normalised.then(|| RunningState::new(start())) }
    }

    /// The weight of this call; moves u.
    fn effective_weight(&self) -> Tensor<2> {
        let weight = self.weight.val();
        let Some(state) = &self.u else { return weight };
        let [v, u] = power_iteration(weight.clone(), state.value_sync());
        state.update(u.clone());
        // A pending update would be missing from what visitors see, and with it from checkpoints.
        state.value_sync();
        divided_by_singular_value(weight, v, u)
    }

    /// `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        self.activated(inputs, Activation::Identity)
    }

    /// As [`SpectralLinear::forward`], then the activation.
    pub fn activated(&self, inputs: Tensor<2>, activation: Activation) -> Tensor<2> {
        linear(inputs, self.effective_weight(), Some(self.bias.val()), activation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_largest_singular_value_tends_to_one_and_u_moves_in_every_pass() {
        let device = Device::flex().autodiff();
        let layer = SpectralLinear::new(6, 4, true, Initial::Normal(2.0), &BuildContext::new(device.clone(), 3));
        let u = |layer: &SpectralLinear| layer.u.as_ref().unwrap().value().into_data();
        let start = u(&layer);
        for _ in 0..60 {
            layer.forward(Tensor::zeros([1, 6], &device));
        }
        assert_ne!(start, u(&layer));
        // The gain of the map in the direction it stretches most is 1.
        let gram = layer.effective_weight().detach();
        let gram = gram.clone().transpose().matmul(gram);
        let mut x = Tensor::<2>::ones([4, 1], &device);
        for _ in 0..200 {
            x = gram.clone().matmul(x);
            x = x.clone() / x.powi_scalar(2).sum().sqrt().reshape([1, 1]);
        }
        let largest: f32 = x.clone().transpose().matmul(gram.matmul(x)).into_scalar();
        assert!((largest - 1.0).abs() < 1e-3, "{largest}");
        let frozen = layer.valid();
        frozen.forward(Tensor::zeros([1, 6], &Device::flex()));
        assert!(layer.u.is_some() && frozen.u.is_some());
    }

    #[test]
    fn without_normalisation_it_is_a_dense_layer() {
        let layer = SpectralLinear::new(2, 1, false, Initial::Normal(0.5), &BuildContext::new(Device::flex(), 3));
        let w: Vec<f32> = layer.weight.val().into_data().try_to_vec().unwrap();
        let y: f32 = layer.forward(Tensor::from_floats([[2.0, -1.0]], &Device::flex())).into_scalar();
        assert!((y - (2.0 * w[0] - w[1])).abs() < 1e-6);
    }
}
