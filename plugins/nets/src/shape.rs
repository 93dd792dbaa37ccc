//! Images as rows of features, for encoders of dense layers.

use burn::tensor::Tensor;
use ibhost_framework::build::BuildError;

/// Number of features of images of `shape` = `[channels, height, width]`.
///
/// # Errors
/// [`BuildError`] in the name of `component` when an image holds nothing.
pub fn features(component: &str, shape: [usize; 3]) -> Result<usize, BuildError> {
    match shape.iter().product() {
        0 => Err(BuildError::new(component, format!("images of shape {shape:?} hold no pixel; every size must be at least 1"))),
        n => Ok(n),
    }
}

/// `[batch, channels, height, width]` to `[batch, features]`.
pub fn flatten(images: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = images.dims();
    images.reshape([batch, channels * height * width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn images_become_rows() {
        assert_eq!(features("net", [3, 4, 5]).unwrap(), 60);
        assert!(features("net", [3, 0, 5]).is_err());
        assert_eq!(flatten(Tensor::zeros([2, 3, 4, 5], &Device::flex())).dims(), [2, 60]);
    }
}
