//! Neighbour averaging of codes, applied to the estimator's product-of-marginals samples.

use burn::tensor::Tensor;

/// Replaces every code of `[batch, latent]` by the mean of all codes nearer than `factor`, itself included.
///
/// The distance is the mean over dimensions of the absolute difference, and must be strictly smaller than `factor`.
pub fn clustered(codes: Tensor<2>, factor: f64) -> Tensor<2> {
    let [batch, latent] = codes.dims();
    let difference = codes.clone().reshape([batch, 1, latent]) - codes.clone().reshape([1, batch, latent]);
    let near = difference.abs().mean_dim(2).reshape([batch, batch]).lower_scalar(factor).float().cast(codes.dtype());
    near.clone().matmul(codes) / near.sum_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn only_strict_neighbours_are_averaged() {
        let codes = Tensor::<2>::from_floats([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 9.0]], &Device::flex());
        let found: Vec<f32> = clustered(codes.clone(), 0.75).into_data().try_to_vec().unwrap();
        assert_eq!(found, [0.5, 0.0, 1.0, 0.0, 1.5, 0.0, 9.0, 9.0]);
        // A distance of exactly the factor does not count.
        let found: Vec<f32> = clustered(codes, 0.5).into_data().try_to_vec().unwrap();
        assert_eq!(found, [0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 9.0, 9.0]);
    }
}
