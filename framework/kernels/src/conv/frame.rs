//! Copies of one image with a border of zeros, for the kernels to read without a thought about edges.

use super::shape::ConvShape;
use crate::real::Real;

/// Where an image lies in its padded copy.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Channels of the image and of the copy; the additional ones are 0.
    pub channels: [usize; 2],
    /// Height and width of the image.
    pub size: [usize; 2],
    /// Height and width of the copy.
    pub padded: [usize; 2],
    /// Row and column of the image's first pixel in the copy.
    pub start: [usize; 2],
}

impl Frame {
    /// The input of a convolution with the padding it asks for.
    pub fn of_input(shape: &ConvShape) -> Self {
        let start = [shape.padding[0][0], shape.padding[1][0]];
        Self { channels: [shape.channels[0]; 2], size: shape.size, padded: shape.padded(), start }
    }

    /// Numbers in the copy.
    pub fn len(&self) -> usize {
        self.padded[0] * self.row()
    }

    /// Numbers in a row of the copy.
    pub fn row(&self) -> usize {
        self.padded[1] * self.channels[1]
    }

    /// Copies `image` into `copy`, which is overwritten, border included.
    pub fn fill<T: Real>(&self, image: &[T], copy: &mut [T]) {
        let ([channels, wide], [height, width]) = (self.channels, self.size);
        let (row, before, inner) = (self.row(), self.start[1] * self.channels[1], self.size[1] * self.channels[1]);
        let (above, rest) = copy.split_at_mut(self.start[0] * row);
        let (rows, below) = rest.split_at_mut(height * row);
        above.fill(T::zero());
        below.fill(T::zero());
        for (y, target) in rows.chunks_exact_mut(row.max(1)).enumerate() {
            let source = &image[y * width * channels..(y + 1) * width * channels];
            target[..before].fill(T::zero());
            target[before + inner..].fill(T::zero());
            let target = &mut target[before..before + inner];
            if channels == wide {
                target.copy_from_slice(source);
                continue;
            }
            for (to, from) in target.chunks_exact_mut(wide).zip(source.chunks_exact(channels)) {
                to[..channels].copy_from_slice(from);
                to[channels..].fill(T::zero());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_zeros_around_the_image_and_behind_its_channels() {
        let frame = Frame { channels: [1, 2], size: [2, 1], padded: [3, 3], start: [1, 1] };
        let mut copy = vec![9.0f32; frame.len()];
        frame.fill(&[5.0, 6.0], &mut copy);
        let mut expected = vec![0.0; 18];
        (expected[8], expected[14]) = (5.0, 6.0);
        assert_eq!(copy, expected);
    }
}
