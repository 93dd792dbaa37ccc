//! The tanh approximation of the Gaussian error linear unit.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn::tensor::Tensor;

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), elementwise.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let root = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    // Two products are far cheaper than a general power, here and in the backward pass.
    let slope = (x.clone() * x.clone()).mul_scalar(0.044_715 * root).add_scalar(root);
    (slope * x.clone()).tanh().add_scalar(1.0) * x.mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn::tensor::activation::gelu_approximate;

    #[test]
    fn equals_the_power_form() {
        let x = Tensor::<1>::from_floats([-6.0, -1.5, -0.1, 0.0, 0.3, 2.0, 50.0], &Device::flex());
        let found: Vec<f32> = gelu(x.clone()).into_data().try_to_vec().unwrap();
        let expected: Vec<f32> = gelu_approximate(x).into_data().try_to_vec().unwrap();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }
}
