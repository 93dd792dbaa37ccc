//! Layer normalisation as the 2021 VIB tutorial uses it.

use burn::nn::{LayerNorm, LayerNormConfig};
use ibhost_framework::build::BuildContext;

/// Layer normalisation over `width` features with scale 1, bias 0 and epsilon 1e-6.
pub fn layer_norm(width: usize, context: &BuildContext) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(1e-6).init(&context.device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn rows_get_mean_0_and_variance_1() {
        let norm = layer_norm(4, &BuildContext::new(Device::flex(), 1));
        let y: Vec<f32> = norm.forward(Tensor::<2>::from_floats([[1.0, 2.0, 4.0, 9.0]], &Device::flex())).into_data().try_to_vec().unwrap();
        assert!(y.iter().sum::<f32>().abs() < 1e-5);
        assert!((y.iter().map(|v| v * v).sum::<f32>() / 4.0 - 1.0).abs() < 1e-4);
    }
}
