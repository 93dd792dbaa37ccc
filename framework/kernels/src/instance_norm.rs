//! Instance normalisation of channels-last images with a rectifier in the same pass.

use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

use crate::array::Array;
use crate::memory::filled;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::vectorised;

/// (x - mean) / sqrt(variance + epsilon), with the mean and the biased variance of every channel of every image over its own pixels, then
/// multiplied by `slope` where it is below 0: 0 for relu, 1 to leave it (Ulyanov et al. 2016, equation 1, without scale and shift).
///
/// x `[batch, height, width, channels]`.
pub fn instance_norm(x: Tensor<4>, epsilon: f64, slope: f64) -> Tensor<4> {
    match apply(InstanceNorm { epsilon, slope }, [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => plain(Tensor::from_dispatch(x), epsilon, slope),
    }
}

fn plain(x: Tensor<4>, epsilon: f64, slope: f64) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let flat = x.reshape([batch, height * width, channels]);
    let centred = flat.clone() - flat.mean_dim(1);
    let deviation = centred.clone().powi_scalar(2).mean_dim(1).add_scalar(epsilon).sqrt();
    leaky_relu((centred / deviation).reshape([batch, height, width, channels]), slope)
}

#[derive(Clone, Debug)]
struct InstanceNorm {
    epsilon: f64,
    slope: f64,
}

/// Adds `term(number, place in the pixel)` of every number of `image` to the sum of its channel.
#[inline(always)]
fn channel_sums<T: Real>(image: &[T], sums: &mut [T], term: impl Fn(T, usize) -> T) {
    sums.fill(T::zero());
    for pixel in image.chunks_exact(sums.len()) {
        for (c, (sum, &x)) in sums.iter_mut().zip(pixel).enumerate() {
            *sum += term(x, c);
        }
    }
}

/// Mean and 1 / sqrt(variance + epsilon) of every channel of an image.
#[inline(always)]
fn moments<T: Real>(image: &[T], epsilon: T, [mean, inverse]: [&mut [T]; 2]) {
    let share = T::of(mean.len() as f64 / image.len() as f64);
    channel_sums(image, mean, |x, _| x);
    for m in mean.iter_mut() {
        *m *= share;
    }
    channel_sums(image, inverse, |x, c| (x - mean[c]) * (x - mean[c]));
    for v in inverse.iter_mut() {
        *v = (*v * share + epsilon).sqrt().recip();
    }
}

impl Operation<1> for InstanceNorm {
    fn forward<T: Real>(&self, [x]: [Array<T>; 1], [tracked]: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let channels = x.shape()[3];
        let image = x.shape()[1] * x.shape()[2] * channels;
        let (epsilon, slope, values) = (T::of(self.epsilon), T::of(self.slope), x.as_slice());
        let scratch = || [vec![T::zero(); channels], vec![T::zero(); channels]];
        let y = filled(values.len(), image, scratch, |[mean, inverse], n, out| {
            let image = &values[n * image..(n + 1) * image];
            vectorised!(|| {
                moments(image, epsilon, [mean, inverse]);
                for (out, pixel) in out.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
                    for (((y, &x), &mean), &inverse) in out.iter_mut().zip(pixel).zip(&*mean).zip(&*inverse) {
                        let standard = (x - mean) * inverse;
                        *y = if standard > T::zero() { standard } else { standard * slope };
                    }
                }
            });
        });
        let y = Array::new(y, x.shape());
        (y, if tracked { vec![x] } else { Vec::new() })
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let x = &saved[0];
        let channels = x.shape()[3];
        let image = x.shape()[1] * x.shape()[2] * channels;
        let (epsilon, slope, values, gradient) = (T::of(self.epsilon), T::of(self.slope), x.as_slice(), gradient.as_slice());
        let share = T::of(channels as f64 / image as f64);
        let scratch = || [(); 4].map(|()| vec![T::zero(); channels]);
        let to_x = filled(values.len(), image, scratch, |[mean, inverse, plain, weighted], n, out| {
            let range = n * image..(n + 1) * image;
            let (image, gradient) = (&values[range.clone()], &gradient[range]);
            vectorised!(|| {
                moments(image, epsilon, [mean, inverse]);
                plain.fill(T::zero());
                weighted.fill(T::zero());
                // All of one length, so that no index needs a check.
                let [mean, inverse, plain, weighted] = [mean, inverse, plain, weighted].map(|v| &mut v[..channels]);
                // The gradient of the normalised values goes to `out` for now; its means are needed before the rest.
                let pixels = image.chunks_exact(channels).zip(gradient.chunks_exact(channels));
                for (out, (pixel, gradient)) in out.chunks_exact_mut(channels).zip(pixels) {
                    let (out, pixel, gradient) = (&mut out[..channels], &pixel[..channels], &gradient[..channels]);
                    for c in 0..channels {
                        let standard = (pixel[c] - mean[c]) * inverse[c];
                        let passed = if standard > T::zero() { gradient[c] } else { gradient[c] * slope };
                        out[c] = passed;
                        plain[c] += passed;
                        weighted[c] += passed * standard;
                    }
                }
                for (out, pixel) in out.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
                    let (out, pixel) = (&mut out[..channels], &pixel[..channels]);
                    for c in 0..channels {
                        let standard = (pixel[c] - mean[c]) * inverse[c];
                        out[c] = (out[c] - plain[c] * share - standard * weighted[c] * share) * inverse[c];
                    }
                }
            });
        });
        [Some(Array::new(to_x, x.shape()))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn instances_are_normalised_as_by_the_plain_formula() {
        for shape in [[1, 5, 1, 1], [3, 5, 4, 7], [2, 13, 11, 33]] {
            for slope in [0.0, 0.2, 1.0] {
                // The cube, because the gradient of a plain sum of normalised values is 0 and what remains of it is rounding.
                let cubed = |y: Tensor<4>| (y.clone() * y.clone() * y).into_dispatch();
                check::<4>(
                    &Case::new(&[shape.to_vec()]),
                    |t| cubed(instance_norm(t.get(0), 0.1, slope)),
                    |t| cubed(plain(t.get(0), 0.1, slope)),
                );
            }
        }
    }
    #[test]
    fn each_channel_of_each_image_is_centred_and_scaled() {
        let x = Tensor::<1>::from_floats([1.0, 10.0, 3.0, 30.0, 5.0, 0.0, 5.0, 8.0], &burn::tensor::Device::flex()).reshape([2, 1, 2, 2]);
        let y: Vec<f32> = instance_norm(x, 1e-5, 1.0).into_data().iter().collect();
        for (found, expected) in y.iter().zip([-1.0, -1.0, 1.0, 1.0, 0.0, -1.0, 0.0, 1.0]) {
            assert!((found - expected).abs() < 1e-4, "{y:?}");
        }
    }
}
