//! Noisy codes: several draws an input, the number of the draw running fastest.

use burn::tensor::{Int, Tensor};

/// Codes z[b n + k] = mean[b] + std noise[b, k] for means `[batch, latent]` and noise `[batch, n, latent]`, result `[batch n, latent]`.
pub fn spread(mean: Tensor<2>, std: f64, noise: Tensor<3>) -> Tensor<2> {
    let [batch, draws, latent] = noise.dims();
    (mean.reshape([batch, 1, latent]) + noise.mul_scalar(std)).reshape([batch * draws, latent])
}

/// As [`spread`], with a standard deviation `[batch, latent]` of every entry.
pub fn spread_each(mean: Tensor<2>, std: Tensor<2>, noise: Tensor<3>) -> Tensor<2> {
    let [batch, draws, latent] = noise.dims();
    (mean.reshape([batch, 1, latent]) + std.reshape([batch, 1, latent]) * noise).reshape([batch * draws, latent])
}

/// Every row `n` times in a row, `[batch, width]` to `[batch n, width]`.
pub fn repeat_rows(rows: Tensor<2>, n: usize) -> Tensor<2> {
    let [batch, width] = rows.dims();
    rows.reshape([batch, 1, width]).expand([batch, n, width]).reshape([batch * n, width])
}

/// Every label `n` times in a row, `[batch]` to `[batch n]`.
pub fn repeat_labels(labels: &Tensor<1, Int>, n: usize) -> Tensor<1, Int> {
    let [batch] = labels.dims();
    labels.clone().reshape([batch, 1]).expand([batch, n]).reshape([batch * n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn draws_of_one_input_stay_together() {
        let device = Device::flex();
        let mean = Tensor::<2>::from_floats([[1.0], [10.0]], &device);
        let noise = Tensor::<3>::from_floats([[[0.0], [1.0], [2.0]], [[-1.0], [0.0], [1.0]]], &device);
        let values = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(values(spread(mean.clone(), 0.5, noise.clone())), [1.0, 1.5, 2.0, 9.5, 10.0, 10.5]);
        let std = Tensor::<2>::from_floats([[1.0], [2.0]], &device);
        assert_eq!(values(spread_each(mean.clone(), std, noise)), [1.0, 2.0, 3.0, 8.0, 10.0, 12.0]);
        assert_eq!(values(repeat_rows(mean, 2)), [1.0, 1.0, 10.0, 10.0]);
        let labels: Vec<i64> = repeat_labels(&Tensor::from_ints([3, 5], &device), 2).into_data().iter::<i64>().collect();
        assert_eq!(labels, [3, 3, 5, 5]);
    }
}
