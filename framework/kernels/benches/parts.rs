//! Times of the parts of a training step, beside the tensor operations they replace: `cargo bench -p ibhost-kernels`.
//!
//! Sizes are those of a dense classifier of small images: batch 100, 784-1024-1024-512, 256 latent dimensions.

use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use divan::{Bencher, black_box};
use ibhost_kernels::{
    Activation, Allocator, ConvGeometry, Layout, conv2d, gated, keep_freed_memory, label_log_likelihood, linear, noise, product,
    reparameterise, softplus, standard_normal_rate, tanh,
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() {
    keep_freed_memory();
    divan::main();
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + 1) as f32 * 0.618_034).fract() - 0.5).collect()
}

fn tensor<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product()), shape), device)
}

/// Layers as [batch, inputs, outputs].
const LAYERS: [[usize; 3]; 5] = [[100, 784, 1024], [100, 1024, 1024], [100, 1024, 512], [100, 256, 10], [640, 1024, 1024]];

#[divan::bench(args = LAYERS)]
fn product_forward(bencher: Bencher<'_, '_>, [batch, inputs, outputs]: [usize; 3]) {
    let (x, w) = (numbers(batch * inputs), numbers(inputs * outputs));
    bencher.bench_local(|| product(&x, Layout::Rows, &w, Layout::Rows, [batch, inputs, outputs]));
}

#[divan::bench(args = LAYERS)]
fn product_input_gradient(bencher: Bencher<'_, '_>, [batch, inputs, outputs]: [usize; 3]) {
    let (g, w) = (numbers(batch * outputs), numbers(inputs * outputs));
    bencher.bench_local(|| product(&g, Layout::Rows, &w, Layout::Transposed, [batch, outputs, inputs]));
}

#[divan::bench(args = LAYERS)]
fn product_weight_gradient(bencher: Bencher<'_, '_>, [batch, inputs, outputs]: [usize; 3]) {
    let (x, g) = (numbers(batch * inputs), numbers(batch * outputs));
    bencher.bench_local(|| product(&x, Layout::Transposed, &g, Layout::Rows, [inputs, batch, outputs]));
}

/// Forward and backward of a dense layer with rectified units.
fn layer(bencher: Bencher<'_, '_>, [batch, inputs, outputs]: [usize; 3], f: impl Fn(Tensor<2>, Tensor<2>, Tensor<1>) -> Tensor<2>) {
    let device = Device::flex().autodiff();
    let x = tensor([batch, inputs], &device).require_grad();
    let (w, b) = (tensor([inputs, outputs], &device).require_grad(), tensor([outputs], &device).require_grad());
    bencher.bench_local(|| f(x.clone(), w.clone(), b.clone()).sum().backward());
}

#[divan::bench(args = LAYERS)]
fn layer_fused(bencher: Bencher<'_, '_>, sizes: [usize; 3]) {
    layer(bencher, sizes, |x, w, b| linear(x, w, Some(b), Activation::Relu));
}

#[divan::bench(args = LAYERS)]
fn layer_plain(bencher: Bencher<'_, '_>, sizes: [usize; 3]) {
    layer(bencher, sizes, |x, w, b| relu(burn::tensor::module::linear(x, w, Some(b))));
}

#[divan::bench]
fn normal_noise(bencher: Bencher<'_, '_>) {
    let mut out = vec![0.0; 25_600];
    bencher.bench_local(|| noise::normal_f32(black_box(&[7; 32]), 3, &mut out));
}

#[divan::bench]
fn tanh_fused(bencher: Bencher<'_, '_>) {
    let x = tensor([100, 256], &Device::flex());
    bencher.bench_local(|| tanh(x.clone()));
}

#[divan::bench]
fn tanh_plain(bencher: Bencher<'_, '_>) {
    let x = tensor([100, 256], &Device::flex());
    bencher.bench_local(|| x.clone().tanh());
}

/// Scale, sample, rate and class term with their gradients, from raw outputs `[100, 512]` and logits `[4, 100, 10]`.
#[divan::bench]
fn terms_fused(bencher: Bencher<'_, '_>) {
    let device = Device::flex().autodiff();
    let (raw, noise) = (tensor([100, 512], &device).require_grad(), tensor([4, 100, 256], &device));
    let logits = tensor([4, 100, 10], &device).require_grad();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(vec![3i64; 100], [100]), &device);
    bencher.bench_local(|| {
        let (mean, scale) = (raw.clone().narrow(1, 0, 256), softplus(raw.clone().narrow(1, 256, 256), 5.0));
        let rate = standard_normal_rate(mean.clone(), scale.clone()).mean();
        let codes = reparameterise(mean, scale, noise.clone()).sum();
        (rate + codes - label_log_likelihood(logits.clone(), &labels).mean()).backward()
    });
}

#[divan::bench]
fn terms_plain(bencher: Bencher<'_, '_>) {
    let device = Device::flex().autodiff();
    let (raw, noise) = (tensor([100, 512], &device).require_grad(), tensor([4, 100, 256], &device));
    let logits = tensor([4, 100, 10], &device).require_grad();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(vec![3i64; 100], [100]), &device);
    bencher.bench_local(|| {
        let scale = burn::tensor::activation::softplus(raw.clone().narrow(1, 256, 256).sub_scalar(5.0), 1.0);
        let mean = raw.clone().narrow(1, 0, 256);
        let energy = mean.clone().powi_scalar(2) + scale.clone().powi_scalar(2);
        let rate = (energy.mul_scalar(0.5) - scale.clone().log()).sum_dim(1).mean();
        let codes = (scale.reshape([1, 100, 256]) * noise.clone() + mean.reshape([1, 100, 256])).sum();
        let index = labels.clone().reshape([1, 100, 1]).expand([4, 100, 1]);
        let class = burn::tensor::activation::log_softmax(logits.clone(), 2).gather(2, index).mean();
        (rate + codes - class).backward()
    });
}

/// Convolutions of the gated image models as [batch, size, channels in, channels out, kernel, stride].
const CONVOLUTIONS: [[usize; 6]; 5] =
    [[50, 28, 64, 128, 3, 1], [100, 14, 32, 128, 5, 1], [100, 28, 1, 64, 7, 1], [100, 28, 32, 64, 3, 2], [100, 14, 64, 128, 3, 2]];

fn convolution(bencher: Bencher<'_, '_>, sizes: [usize; 6], tracked: [bool; 2]) {
    let [batch, size, inputs, outputs, kernel, stride] = sizes;
    let device = Device::flex().autodiff();
    let x = tensor([batch, size, size, inputs], &device).set_require_grad(tracked[0]);
    let w = tensor([outputs, inputs, kernel, kernel], &device).set_require_grad(tracked[1]);
    let geometry = ConvGeometry::even(stride, kernel / 2);
    if tracked == [false; 2] {
        bencher.bench_local(|| conv2d(x.clone(), w.clone(), None, geometry));
    } else {
        bencher
            .with_inputs(|| conv2d(x.clone(), w.clone(), None, geometry).slice([0..1, 0..1, 0..1, 0..1]).sum())
            .bench_local_refs(|loss: &mut Tensor<1>| loss.backward());
    }
}

#[divan::bench(args = CONVOLUTIONS)]
fn convolution_forward(bencher: Bencher<'_, '_>, sizes: [usize; 6]) {
    convolution(bencher, sizes, [false, false]);
}

#[divan::bench(args = CONVOLUTIONS)]
fn convolution_input_gradient(bencher: Bencher<'_, '_>, sizes: [usize; 6]) {
    convolution(bencher, sizes, [true, false]);
}

#[divan::bench(args = CONVOLUTIONS)]
fn convolution_weight_gradient(bencher: Bencher<'_, '_>, sizes: [usize; 6]) {
    convolution(bencher, sizes, [false, true]);
}

#[divan::bench]
fn gates(bencher: Bencher<'_, '_>) {
    let device = Device::flex().autodiff();
    let x = tensor::<4>([50, 28, 28, 128], &device).require_grad();
    bencher.bench_local(|| gated(x.clone()).sum().backward());
}
