//! Random crop of padded images and mirror, the usual augmentation of CIFAR-10 classifiers.

use ibhost_framework::dataset::Augmentation;
use ibhost_framework::noise::Stream;

use crate::augmentation::each_image;

/// Every image is padded on all sides with raw value 0, cut at a uniformly random place to its own size, and mirrored with probability 1/2.
#[derive(Clone, Debug, PartialEq)]
pub struct CropAndFlip {
    /// Pixels added on each side.
    pub padding: usize,
    /// What raw value 0 is after scaling, per channel.
    pub blank: Vec<f32>,
}

impl Augmentation for CropAndFlip {
    /// Draws row, column and mirror of each image in this order.
    fn apply(&self, values: &mut [f32], shape: [usize; 3], noise: &mut Stream) {
        let [_, height, width] = shape;
        each_image(values, shape, |source, image| {
            let places = (2 * self.padding + 1) as f64;
            let [top, left] = [0, 1].map(|_| ((noise.uniform() * places) as usize).min(2 * self.padding));
            let flip = noise.uniform() < 0.5;
            for (channel, (from, to)) in source.chunks_exact(height * width).zip(image.chunks_exact_mut(height * width)).enumerate() {
                let blank = self.blank.get(channel).copied().unwrap_or(0.0);
                for (at, pixel) in to.iter_mut().enumerate() {
                    let (row, column) = (at / width, at % width);
                    let column = if flip { width - 1 - column } else { column };
                    let (row, column) = ((row + top).wrapping_sub(self.padding), (column + left).wrapping_sub(self.padding));
                    *pixel = if row < height && column < width { from[row * width + column] } else { blank };
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use ibhost_framework::noise::Noise;

    use super::*;

    #[test]
    fn every_place_and_both_directions_occur_equally_often() {
        // One marked pixel in the middle tells place and direction.
        let mut marked = [0.0; 9];
        (marked[4], marked[3]) = (1.0, 2.0);
        let crop = CropAndFlip { padding: 1, blank: vec![-1.0] };
        let mut values = marked.repeat(9000);
        crop.apply(&mut values, [1, 3, 3], &mut Noise::new(3).stream("crop", 0));
        let mut places = [[0; 2]; 9];
        for image in values.chunks_exact(9) {
            let at = image.iter().position(|&x| x == 1.0).unwrap();
            let mirrored = at % 3 < 2 && image[at + 1] == 2.0;
            places[at][usize::from(mirrored)] += 1;
        }
        assert!(places.iter().all(|[a, b]| (850..1150).contains(&(a + b))), "{places:?}");
        let flips: usize = places.iter().map(|[_, mirrored]| mirrored).sum();
        // Mirrored images show it unless the second mark is cut off, which happens in a third of the places.
        assert!((2800..3200).contains(&flips), "{flips}");
    }

    #[test]
    fn no_padding_leaves_the_mirror_alone_and_blanks_fill_the_rest() {
        let image: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut values = image.clone();
        CropAndFlip { padding: 0, blank: vec![0.0; 2] }.apply(&mut values, [2, 2, 3], &mut Noise::new(1).stream("crop", 1));
        let mirror = [2.0, 1.0, 0.0, 5.0, 4.0, 3.0, 8.0, 7.0, 6.0, 11.0, 10.0, 9.0];
        assert!(values == image || values == mirror);
        let mut far = vec![5.0; 200];
        CropAndFlip { padding: 9, blank: vec![-7.0] }.apply(&mut far, [1, 1, 1], &mut Noise::new(1).stream("crop", 2));
        assert!(far.contains(&-7.0) && far.iter().all(|&x| x == 5.0 || x == -7.0));
    }
}
