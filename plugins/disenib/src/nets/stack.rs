//! Dense layers with rectified linear units between them.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, Initial};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How fresh weights of dense layers are drawn; biases start at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenseInit {
    /// Glorot uniform with the gain sqrt(2) of rectified linear units: the fully connected networks of the paper.
    #[default]
    GlorotRelu,
    /// Normal with standard deviation 0.05: the convolutional networks of the paper.
    Normal,
}

impl DenseInit {
    /// The framework's name for it.
    pub fn initial(self) -> Initial {
        match self {
            Self::GlorotRelu => Initial::GlorotUniformRelu,
            Self::Normal => Initial::Normal(0.05),
        }
    }
}

/// Slope of leaky units for negative inputs.
pub const SLOPE: f64 = 0.2;

/// Dense layers, the last one without activation.
#[derive(Module, Debug)]
pub struct DenseStack {
    /// From inputs to outputs.
    pub layers: Vec<Linear>,
    leaky: bool,
}

impl DenseStack {
    /// Layers of `inputs`, the `hidden` sizes and `outputs`; `leaky` units have slope [`SLOPE`] below 0. Without `bias` the last layer has
    /// none.
    pub fn new(inputs: usize, hidden: &[usize], outputs: usize, leaky: bool, bias: bool, init: DenseInit, context: &BuildContext) -> Self {
        let sizes: Vec<usize> = std::iter::once(inputs).chain(hidden.iter().copied()).chain([outputs]).collect();
        let mut layers: Vec<Linear> = sizes.windows(2).map(|pair| context.linear(pair[0], pair[1], init.initial())).collect();
        if let (false, Some(last)) = (bias, layers.last_mut()) {
            last.bias = None;
        }
        Self { layers, leaky }
    }

    /// `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let hidden = if self.leaky { Activation::LeakyRelu(SLOPE) } else { Activation::Relu };
        let last = self.layers.len().saturating_sub(1);
        let activation = |index| if index < last { hidden } else { Activation::Identity };
        self.layers.iter().enumerate().fold(inputs, |x, (index, layer)| dense(layer, x, activation(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn hidden_layers_are_rectified_and_the_last_is_not() {
        let context = BuildContext::new(Device::flex(), 1);
        for leaky in [false, true] {
            let mut stack = DenseStack::new(1, &[1], 1, leaky, false, DenseInit::GlorotRelu, &context);
            for layer in &mut stack.layers {
                layer.weight = layer.weight.clone().map(|w| w.ones_like());
            }
            let out: Vec<f32> = stack.forward(Tensor::from_floats([[-5.0], [2.0]], &Device::flex())).into_data().try_to_vec().unwrap();
            assert_eq!(out, if leaky { [-1.0, 2.0] } else { [0.0, 2.0] });
            assert!(stack.layers[0].bias.is_some() && stack.layers[1].bias.is_none());
        }
        assert_eq!(DenseStack::new(7, &[], 3, true, true, DenseInit::Normal, &context).num_params(), 24);
    }
}
