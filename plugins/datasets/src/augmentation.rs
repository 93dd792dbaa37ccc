//! Random shift and mirror of images, as the CIFAR-10 generator of the variational deficiency bottleneck does it.

use ibhost_framework::dataset::Augmentation;
use ibhost_framework::noise::Stream;

/// Fraction of the height and of the width an image is shifted by at most, either way.
pub const MAX_SHIFT: f64 = 0.1;

/// One image of `shape` = `[channels, height, width]`, shifted and then mirrored.
///
/// `out[r, c]` is the bilinear sample of `values` at `(r + tx, c + ty)` with coordinates clamped to the image, so edge pixels
/// repeat; `tx` counts rows, `ty` columns, both may be fractions; `flip` mirrors the columns afterwards.
pub fn shift_and_flip(values: &[f64], shape: [usize; 3], tx: f64, ty: f64, flip: bool) -> Vec<f64> {
    let mut out = vec![0.0; values.len()];
    resample(values, &mut out, shape, tx, ty, flip, blend);
    out
}

/// Shift by U(-0.1, 0.1) of the height and of the width and a mirror with probability 1/2, drawn anew for every image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShiftAndFlip;

impl Augmentation for ShiftAndFlip {
    /// Draws row shift, column shift and mirror of each image in this order.
    fn apply(&self, values: &mut [f32], shape: [usize; 3], noise: &mut Stream) {
        each_image(values, shape, |source, image| {
            let tx = (2.0 * noise.uniform() - 1.0) * MAX_SHIFT * shape[1] as f64;
            let ty = (2.0 * noise.uniform() - 1.0) * MAX_SHIFT * shape[2] as f64;
            let flip = noise.uniform() < 0.5;
            resample(source, image, shape, tx, ty, flip, |corners, weights| blend(corners.map(f64::from), weights) as f32);
        });
    }
}

/// Calls `change` with a copy of each image of `shape` in `values` and the place of the image itself.
pub(crate) fn each_image(values: &mut [f32], shape: [usize; 3], mut change: impl FnMut(&[f32], &mut [f32])) {
    let size: usize = shape.iter().product();
    if size == 0 {
        return;
    }
    let mut source = vec![0.0; size];
    for image in values.chunks_exact_mut(size) {
        source.copy_from_slice(image);
        change(&source, image);
    }
}

/// Two neighbouring positions and the weight of the second one.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f64,
}

impl Tap {
    /// Where `position`, clamped to `0..=size - 1`, falls between whole positions.
    fn at(position: f64, size: usize) -> Self {
        let clamped = position.clamp(0.0, (size - 1) as f64);
        let low = clamped.floor() as usize;
        Self { low, high: (low + 1).min(size - 1), weight: clamped - low as f64 }
    }
}

/// Bilinear mean of top left, top right, bottom left, bottom right with the weights of the bottom row and the right column.
fn blend([tl, tr, bl, br]: [f64; 4], [bottom, right]: [f64; 2]) -> f64 {
    let top_row = tl * (1.0 - right) + tr * right;
    let bottom_row = bl * (1.0 - right) + br * right;
    top_row * (1.0 - bottom) + bottom_row * bottom
}

/// Writes the shifted and mirrored `values` to `out`; `mix` is the bilinear mean in the element type.
fn resample<T: Copy>(
    values: &[T],
    out: &mut [T],
    [_, height, width]: [usize; 3],
    tx: f64,
    ty: f64,
    flip: bool,
    mix: impl Fn([T; 4], [f64; 2]) -> T,
) {
    let plane = height * width;
    if plane == 0 {
        return;
    }
    let mut columns: Vec<Tap> = (0..width).map(|c| Tap::at(c as f64 + ty, width)).collect();
    if flip {
        columns.reverse();
    }
    for (source, target) in values.chunks_exact(plane).zip(out.chunks_exact_mut(plane)) {
        for (r, row) in target.chunks_exact_mut(width).enumerate() {
            let tap = Tap::at(r as f64 + tx, height);
            let (low, high) = (&source[tap.low * width..], &source[tap.high * width..]);
            for (pixel, column) in row.iter_mut().zip(&columns) {
                let corners = [low[column.low], low[column.high], high[column.low], high[column.high]];
                *pixel = mix(corners, [tap.weight, column.weight]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ibhost_framework::noise::Noise;

    use super::*;

    const SHAPE: [usize; 3] = [1, 2, 3];
    const IMAGE: [f64; 6] = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0];

    #[test]
    fn no_shift_keeps_the_image_and_flip_mirrors_columns() {
        assert_eq!(shift_and_flip(&IMAGE, SHAPE, 0.0, 0.0, false), IMAGE);
        assert_eq!(shift_and_flip(&IMAGE, SHAPE, 0.0, 0.0, true), [2.0, 1.0, 0.0, 12.0, 11.0, 10.0]);
    }

    #[test]
    fn fractions_blend_and_edges_repeat() {
        assert_eq!(shift_and_flip(&IMAGE, SHAPE, 0.5, 0.0, false), [5.0, 6.0, 7.0, 10.0, 11.0, 12.0]);
        assert_eq!(shift_and_flip(&IMAGE, SHAPE, 0.0, -0.25, false), [0.0, 0.75, 1.75, 10.0, 10.75, 11.75]);
        assert_eq!(shift_and_flip(&IMAGE, SHAPE, 9.0, 9.0, true), [12.0; 6]);
    }

    #[test]
    fn channels_move_together() {
        let two: Vec<f64> = IMAGE.iter().chain(&IMAGE).copied().collect();
        let out = shift_and_flip(&two, [2, 2, 3], 0.3, 1.5, true);
        assert_eq!(out[..6], out[6..]);
    }

    #[test]
    fn batches_are_reproducible_and_stay_in_range() {
        let shape = [3, 32, 32];
        let batch: Vec<f32> = (0..8 * 3072).map(|i| (i * 7919 % 1000) as f32 / 1000.0).collect();
        let run = |seed| {
            let mut values = batch.clone();
            ShiftAndFlip.apply(&mut values, shape, &mut Noise::new(seed).stream("augmentation", 3));
            values
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_ne!(run(1), batch);
        assert!(run(1).iter().all(|x| (0.0..=1.0).contains(x)));
    }

    #[test]
    fn half_of_the_images_are_mirrored() {
        // A horizontal ramp keeps its direction unless it is mirrored.
        let ramp: Vec<f32> = (0..32 * 32).map(|i| (i % 32) as f32).collect();
        let mut values = ramp.repeat(2000);
        ShiftAndFlip.apply(&mut values, [1, 32, 32], &mut Noise::new(5).stream("augmentation", 0));
        let mirrored = values.chunks_exact(1024).filter(|image| image[0] > image[31]).count();
        assert!((900..1100).contains(&mirrored), "{mirrored} of 2000 mirrored");
    }
}
