//! The Inception-v3 network of published Fréchet distances, evaluated with weights from a safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData, activation};
use ibhost_framework::storage::tensors::{HostData, HostTensor};
use ibhost_kernels::{ConvGeometry, conv2d};

/// Added to the variance by batch normalisation.
const EPSILON: f64 = 1e-3;
/// Rows and columns images are brought to.
const SIDE: usize = 299;
/// Features of an image.
pub const FEATURES: usize = 2048;

/// A convolution and the batch normalisation after it, as one convolution with a bias.
struct Layer {
    /// `[out, in, rows, columns]`.
    weight: Tensor<4>,
    /// `[out]`.
    bias: Tensor<1>,
}

/// Features before the last layer, `[batch, 2048]`.
pub struct Inception {
    layers: BTreeMap<String, Layer>,
}

/// Why weights cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(String);

/// Channels in and out and kernel of a layer.
type LayerShape = (String, [usize; 2], [usize; 2]);

impl Inception {
    /// The network with `tensors` under the names of PyTorch's `inception_v3` (`Mixed_5b.branch1x1.conv.weight`, `...bn.running_var`);
    /// tensors of the last layer and of the auxiliary one are ignored.
    ///
    /// # Errors
    /// [`WeightsError`] naming the first tensor that is missing or has another shape.
    pub fn new(tensors: &BTreeMap<String, HostTensor>, device: &Device) -> Result<Self, WeightsError> {
        let read = |name: String, shape: &[usize]| -> Result<Vec<f64>, WeightsError> {
            let tensor = tensors.get(&name).ok_or_else(|| WeightsError(format!("the tensor `{name}` is missing")))?;
            if tensor.shape != shape {
                return Err(WeightsError(format!("`{name}` has shape {:?}, expected {shape:?}", tensor.shape)));
            }
            match &tensor.data {
                HostData::F32(values) => Ok(values.iter().map(|&v| f64::from(v)).collect()),
                HostData::F64(values) => Ok(values.clone()),
                _ => Err(WeightsError(format!("`{name}` holds no floating-point numbers"))),
            }
        };
        let mut layers = BTreeMap::new();
        for (name, [inputs, outputs], [rows, columns]) in layer_shapes() {
            let mut weight = read(format!("{name}.conv.weight"), &[outputs, inputs, rows, columns])?;
            let part = |part: &str| read(format!("{name}.bn.{part}"), &[outputs]);
            let (gamma, beta, mean, variance) = (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
            let scales: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + EPSILON).sqrt()).collect();
            for (kernel, scale) in weight.chunks_exact_mut(inputs * rows * columns).zip(&scales) {
                for w in kernel {
                    *w *= scale;
                }
            }
            let bias: Vec<f64> = beta.iter().zip(mean.iter().zip(&scales)).map(|(b, (m, s))| b - m * s).collect();
            let layer = Layer {
                weight: Tensor::from_data(TensorData::new(weight, [outputs, inputs, rows, columns]), device),
                bias: Tensor::from_data(TensorData::new(bias, [outputs]), device),
            };
            layers.insert(name, layer);
        }
        Ok(Self { layers })
    }

    /// The network with the weights in a safetensors file.
    ///
    /// # Errors
    /// [`WeightsError`] when the file cannot be read or lacks a tensor.
    pub fn open(path: &Path, device: &Device) -> Result<Self, WeightsError> {
        let failed = |problem: String| WeightsError(format!("cannot use `{}`: {problem}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let tensors = ibhost_framework::storage::tensors::from_bytes(&bytes).map_err(|error| failed(error.clone()))?;
        Self::new(&tensors, device).map_err(|error| failed(error.0))
    }

    /// Features of images `[batch, 1 or 3, height, width]` with values from 0 to 255; `[batch, 2048]`. Grey is repeated, images are resized
    /// to 299 x 299 as TensorFlow 1 did and shifted to -1..1.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let images = if images.dims()[1] == 1 { images.repeat_dim(1, 3) } else { images };
        let mut x = resized(images, SIDE).sub_scalar(128.0).div_scalar(128.0).permute([0, 2, 3, 1]);
        x = self.layer("Conv2d_1a_3x3", x, 2, false);
        x = self.layer("Conv2d_2a_3x3", x, 1, false);
        x = largest(self.layer("Conv2d_2b_3x3", x, 1, true), 2);
        x = self.layer("Conv2d_3b_1x1", x, 1, true);
        x = largest(self.layer("Conv2d_4a_3x3", x, 1, false), 2);
        for block in ["Mixed_5b", "Mixed_5c", "Mixed_5d"] {
            let dbl = self.chain(block, &["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], x.clone());
            let five = self.chain(block, &["branch5x5_1", "branch5x5_2"], x.clone());
            let pool = self.chain(block, &["branch_pool"], averaged(x.clone()));
            x = Tensor::cat(vec![self.chain(block, &["branch1x1"], x), five, dbl, pool], 3);
        }
        let dbl = self.chain("Mixed_6a", &["branch3x3dbl_1", "branch3x3dbl_2"], x.clone());
        let dbl = self.layer("Mixed_6a.branch3x3dbl_3", dbl, 2, false);
        x = Tensor::cat(vec![self.layer("Mixed_6a.branch3x3", x.clone(), 2, false), dbl, largest(x, 2)], 3);
        for block in ["Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"] {
            let seven = self.chain(block, &["branch7x7_1", "branch7x7_2", "branch7x7_3"], x.clone());
            let dbl = ["branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"];
            let dbl = self.chain(block, &dbl, x.clone());
            let pool = self.chain(block, &["branch_pool"], averaged(x.clone()));
            x = Tensor::cat(vec![self.chain(block, &["branch1x1"], x), seven, dbl, pool], 3);
        }
        let three = self.layer("Mixed_7a.branch3x3_2", self.chain("Mixed_7a", &["branch3x3_1"], x.clone()), 2, false);
        let seven = self.chain("Mixed_7a", &["branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3"], x.clone());
        let seven = self.layer("Mixed_7a.branch7x7x3_4", seven, 2, false);
        x = Tensor::cat(vec![three, seven, largest(x, 2)], 3);
        for block in ["Mixed_7b", "Mixed_7c"] {
            let fork =
                |start: Tensor<4>, ends: [&str; 2]| Tensor::cat(ends.map(|end| self.chain(block, &[end], start.clone())).to_vec(), 3);
            let three = fork(self.chain(block, &["branch3x3_1"], x.clone()), ["branch3x3_2a", "branch3x3_2b"]);
            let dbl = self.chain(block, &["branch3x3dbl_1", "branch3x3dbl_2"], x.clone());
            let dbl = fork(dbl, ["branch3x3dbl_3a", "branch3x3dbl_3b"]);
            // The published weights were trained with a maximum in the last block.
            let pooled = if block == "Mixed_7c" { largest(x.clone(), 1) } else { averaged(x.clone()) };
            let pool = self.chain(block, &["branch_pool"], pooled);
            x = Tensor::cat(vec![self.chain(block, &["branch1x1"], x), three, dbl, pool], 3);
        }
        let [batch, rows, columns, features] = x.dims();
        x.reshape([batch, rows * columns, features]).mean_dim(1).reshape([batch, features])
    }

    fn chain(&self, block: &str, names: &[&str], x: Tensor<4>) -> Tensor<4> {
        names.iter().fold(x, |x, name| self.layer(&format!("{block}.{name}"), x, 1, true))
    }

    /// relu(conv(x)) on channels-last images; `padded` keeps the size at stride 1.
    fn layer(&self, name: &str, x: Tensor<4>, stride: usize, padded: bool) -> Tensor<4> {
        // Every name used here is in `layer_shapes`, without all of which the network is not built.
        let Some(layer) = self.layers.get(name) else { return x };
        let [_, _, rows, columns] = layer.weight.dims();
        let padding = [rows, columns].map(|kernel| if padded { [kernel / 2; 2] } else { [0; 2] });
        let geometry = ConvGeometry { stride: [stride; 2], padding };
        activation::relu(conv2d(x, layer.weight.clone(), Some(layer.bias.clone()), geometry))
    }
}

/// Largest of 3 x 3 positions of channels-last images; padded at stride 1.
fn largest(x: Tensor<4>, stride: usize) -> Tensor<4> {
    let options = MaxPoolOptions::new([3, 3]).with_stride([stride; 2]).with_padding([usize::from(stride == 1); 2]);
    max_pool2d(x.permute([0, 3, 1, 2]), options).permute([0, 2, 3, 1])
}

/// Mean of the positions of 3 x 3 that lie inside the image, of channels-last images.
fn averaged(x: Tensor<4>) -> Tensor<4> {
    let options = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]).with_count_include_pad(false);
    avg_pool2d(x.permute([0, 3, 1, 2]), options).permute([0, 2, 3, 1])
}

/// `[batch, channels, height, width]` to `side` x `side`: out\[i\] is the linear blend of rows floor(s) and floor(s) + 1 at s = i height / side
/// (no half-pixel centres), columns alike.
fn resized(images: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let blend = |from: usize| {
        let mut matrix = vec![0.0; from * side];
        for i in 0..side {
            let at = i as f64 * from as f64 / side as f64;
            let (low, share) = ((at.floor() as usize).min(from - 1), at.fract());
            matrix[low * side + i] += 1.0 - share;
            matrix[(low + 1).min(from - 1) * side + i] += share;
        }
        Tensor::<2>::from_data(TensorData::new(matrix, [from, side]), &images.device())
    };
    let (rows, columns) = (blend(height), blend(width));
    let wide = images.clone().matmul(columns.unsqueeze());
    wide.swap_dims(2, 3).matmul(rows.unsqueeze()).swap_dims(2, 3)
}

/// Every layer with its channels and kernel.
fn layer_shapes() -> Vec<LayerShape> {
    let mut shapes: Vec<LayerShape> = Vec::new();
    let mut put = |name: String, channels: [usize; 2], kernel: [usize; 2]| shapes.push((name, channels, kernel));
    for (name, channels, kernel) in [
        ("Conv2d_1a_3x3", [3, 32], 3),
        ("Conv2d_2a_3x3", [32, 32], 3),
        ("Conv2d_2b_3x3", [32, 64], 3),
        ("Conv2d_3b_1x1", [64, 80], 1),
        ("Conv2d_4a_3x3", [80, 192], 3),
    ] {
        put(name.to_owned(), channels, [kernel; 2]);
    }
    for (block, inputs, pool) in [("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)] {
        for (name, channels, kernel) in [
            ("branch1x1", [inputs, 64], 1),
            ("branch5x5_1", [inputs, 48], 1),
            ("branch5x5_2", [48, 64], 5),
            ("branch3x3dbl_1", [inputs, 64], 1),
            ("branch3x3dbl_2", [64, 96], 3),
            ("branch3x3dbl_3", [96, 96], 3),
            ("branch_pool", [inputs, pool], 1),
        ] {
            put(format!("{block}.{name}"), channels, [kernel; 2]);
        }
    }
    for (name, channels, kernel) in
        [("branch3x3", [288, 384], 3), ("branch3x3dbl_1", [288, 64], 1), ("branch3x3dbl_2", [64, 96], 3), ("branch3x3dbl_3", [96, 96], 3)]
    {
        put(format!("Mixed_6a.{name}"), channels, [kernel; 2]);
    }
    for (block, c) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        for (name, channels, kernel) in [
            ("branch1x1", [768, 192], [1, 1]),
            ("branch7x7_1", [768, c], [1, 1]),
            ("branch7x7_2", [c, c], [1, 7]),
            ("branch7x7_3", [c, 192], [7, 1]),
            ("branch7x7dbl_1", [768, c], [1, 1]),
            ("branch7x7dbl_2", [c, c], [7, 1]),
            ("branch7x7dbl_3", [c, c], [1, 7]),
            ("branch7x7dbl_4", [c, c], [7, 1]),
            ("branch7x7dbl_5", [c, 192], [1, 7]),
            ("branch_pool", [768, 192], [1, 1]),
        ] {
            put(format!("{block}.{name}"), channels, kernel);
        }
    }
    for (name, channels, kernel) in [
        ("branch3x3_1", [768, 192], [1, 1]),
        ("branch3x3_2", [192, 320], [3, 3]),
        ("branch7x7x3_1", [768, 192], [1, 1]),
        ("branch7x7x3_2", [192, 192], [1, 7]),
        ("branch7x7x3_3", [192, 192], [7, 1]),
        ("branch7x7x3_4", [192, 192], [3, 3]),
    ] {
        put(format!("Mixed_7a.{name}"), channels, kernel);
    }
    for (block, inputs) in [("Mixed_7b", 1280), ("Mixed_7c", 2048)] {
        for (name, channels, kernel) in [
            ("branch1x1", [inputs, 320], [1, 1]),
            ("branch3x3_1", [inputs, 384], [1, 1]),
            ("branch3x3_2a", [384, 384], [1, 3]),
            ("branch3x3_2b", [384, 384], [3, 1]),
            ("branch3x3dbl_1", [inputs, 448], [1, 1]),
            ("branch3x3dbl_2", [448, 384], [3, 3]),
            ("branch3x3dbl_3a", [384, 384], [1, 3]),
            ("branch3x3dbl_3b", [384, 384], [3, 1]),
            ("branch_pool", [inputs, 192], [1, 1]),
        ] {
            put(format!("{block}.{name}"), channels, kernel);
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_parameters_as_published() {
        let each = |(_, [inputs, outputs], [rows, columns]): &LayerShape| inputs * outputs * rows * columns + 2 * outputs;
        let total: usize = layer_shapes().iter().map(each).sum();
        // 23,834,568 with the last layer from 2048 features to 1000 classes.
        assert_eq!(total, 23_834_568 - 2049 * 1000);
    }

    #[test]
    fn images_become_features_and_missing_tensors_are_named() {
        let mut tensors = BTreeMap::new();
        for (name, [inputs, outputs], [rows, columns]) in layer_shapes() {
            let size = inputs * outputs * rows * columns;
            let limit = (6.0 / (inputs * rows * columns) as f64).sqrt();
            let values = (0..size).map(|i| (((i * 7919 + outputs) % 1009) as f64 / 504.0 - 1.0) * limit).map(|w| w as f32).collect();
            tensors.insert(
                format!("{name}.conv.weight"),
                HostTensor { shape: vec![outputs, inputs, rows, columns], data: HostData::F32(values) },
            );
            for (part, value) in [("weight", 1.0), ("bias", 0.1), ("running_mean", 0.0), ("running_var", 1.0)] {
                let data = HostData::F32(vec![value; outputs]);
                tensors.insert(format!("{name}.bn.{part}"), HostTensor { shape: vec![outputs], data });
            }
        }
        let device = Device::flex();
        let network = Inception::new(&tensors, &device).unwrap();
        let images = Tensor::<1, burn::tensor::Int>::arange(0..64, &device).float().mul_scalar(4.0).reshape([1, 1, 8, 8]);
        let features = network.features(images);
        assert_eq!(features.dims(), [1, FEATURES]);
        let values: Vec<f32> = features.into_data().try_to_vec().unwrap();
        assert!(values.iter().all(|v| v.is_finite() && *v >= 0.0) && values.iter().any(|v| *v > 0.0));
        tensors.remove("Mixed_6c.branch7x7_2.bn.running_var");
        let error = Inception::new(&tensors, &device).err().unwrap().to_string();
        assert!(error.contains("`Mixed_6c.branch7x7_2.bn.running_var` is missing"), "{error}");
    }

    #[test]
    fn rows_are_blended_without_half_pixel_centres() {
        let device = Device::flex();
        let images = Tensor::<4>::from_floats([[[[0.0, 10.0], [20.0, 30.0]]]], &device);
        let found: Vec<f32> = resized(images, 4).into_data().try_to_vec().unwrap();
        let row = [0.0, 5.0, 10.0, 10.0];
        let expected: Vec<f32> = [0.0, 10.0, 20.0, 20.0].iter().flat_map(|down| row.map(|x| x + down)).collect();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }
}
