//! Data set `pca`: the principal components of another data set, with the published random transform of training images.

use std::sync::Arc;

use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::noise::{Noise, Stream};
use ibhost_framework::registry::Kind;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Samples whose products a task sums; fixed, so that rounding does not depend on the number of threads.
const CHUNK: usize = 4096;
/// Most rounds of orthogonal iteration.
const ROUNDS: usize = 300;
/// Extra directions carried along, which speeds convergence up.
const EXTRA: usize = 10;

/// The first k principal components of another data set (centred, not whitened).
///
/// Images are taken with scale:unit where the data set has that option, everything else as it is by default. Test samples are pixels/255, projected. Training samples are drawn anew each step when `augment` is set, with probability 1/2 after
/// a random affine map (rotation ±10°, translation ±10 %, scale 0.8 to 1.2, shear ±5°, nearest pixel), then dequantised,
/// clamp((255 p + u)/256, 0.001, 0.999) with u uniform, then projected. The components are those of the training images for both splits;
/// `per_split:true` fits the test split on its own, as the published curves did: its axes and signs then do not belong to the model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PcaConfig {
    /// Data set.
    pub of: String,
    /// Components kept.
    #[schemars(range(min = 1, max = 4096))]
    pub k: usize,
    /// Transform training images at random in every step; for values from 0 to 1.
    pub augment: bool,
    /// Fit the test split separately.
    pub per_split: bool,
}

impl Default for PcaConfig {
    fn default() -> Self {
        Self { of: "fashion_mnist".to_owned(), k: 20, augment: true, per_split: false }
    }
}

/// An affine map onto principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Mean of the fitted samples.
    pub mean: Vec<f64>,
    /// Orthonormal directions, one after the other, by falling variance; the largest entry of each is positive.
    pub directions: Vec<Vec<f64>>,
    /// Variance along each direction, with the divisor n - 1.
    pub variances: Vec<f64>,
}

impl Projection {
    /// Fits `k` components of all samples.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when there are fewer values or samples than components.
    pub fn fit(samples: &Samples, k: usize) -> Result<Self, DataError> {
        let (n, dim) = (samples.len(), samples.shape().iter().product::<usize>());
        if k > dim || k >= n {
            return Err(DataError::Inconsistent(format!(
                "data set `pca`: k:{k} components cannot be found in {n} samples of {dim} values; use a smaller k"
            )));
        }
        let (mean, covariance) = moments(samples, dim);
        let width = (k + EXTRA).min(dim);
        let mut noise = Noise::new(0).stream("principal components", 0);
        let mut basis: Vec<Vec<f64>> = (0..width).map(|_| (0..dim).map(|_| noise.normal()).collect()).collect();
        orthonormalise(&mut basis);
        let mut last = vec![0.0; k];
        for _ in 0..ROUNDS {
            basis = basis.par_iter().map(|v| (0..dim).map(|row| dot(&covariance[row * dim..(row + 1) * dim], v)).collect()).collect();
            let lengths: Vec<f64> = orthonormalise(&mut basis);
            let settled = lengths.iter().zip(&last).all(|(a, b)| (a - b).abs() <= 1e-10 * a.abs());
            last = lengths[..k].to_vec();
            if settled {
                break;
            }
        }
        let mut found: Vec<(f64, Vec<f64>)> = basis
            .into_iter()
            .map(|v| {
                let image: Vec<f64> = (0..dim).map(|row| dot(&covariance[row * dim..(row + 1) * dim], &v)).collect();
                let largest = v.iter().copied().fold(0.0, |m: f64, x| if x.abs() > m.abs() { x } else { m });
                let sign = if largest < 0.0 { -1.0 } else { 1.0 };
                (dot(&v, &image), v.into_iter().map(|x| sign * x).collect())
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.truncate(k);
        let (variances, directions) = found.into_iter().unzip();
        Ok(Self { mean, directions, variances })
    }

    /// Components of one sample, appended to `out`.
    pub fn project(&self, values: &[f32], out: &mut Vec<f32>) {
        let centred: Vec<f64> = values.iter().zip(&self.mean).map(|(x, m)| f64::from(*x) - m).collect();
        out.extend(self.directions.iter().map(|direction| dot(direction, &centred) as f32));
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums side by side let the compiler use vector instructions.
    let mut sums = [0.0; 4];
    let (heads, tails) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = heads.remainder().iter().zip(tails.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in heads.zip(tails) {
        for lane in 0..4 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Gram-Schmidt, twice for precision; returns the lengths before normalising.
fn orthonormalise(basis: &mut [Vec<f64>]) -> Vec<f64> {
    let mut lengths = Vec::with_capacity(basis.len());
    for i in 0..basis.len() {
        let (done, rest) = basis.split_at_mut(i);
        let v = &mut rest[0];
        for _ in 0..2 {
            for other in done.iter() {
                let along = dot(other, v);
                v.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let length = dot(v, v).sqrt();
        for x in v.iter_mut() {
            *x /= length.max(f64::MIN_POSITIVE);
        }
        lengths.push(length);
    }
    lengths
}

/// Mean and covariance `[dim, dim]` of all samples.
fn moments(samples: &Samples, dim: usize) -> (Vec<f64>, Vec<f64>) {
    let n = samples.len();
    let indices: Vec<usize> = (0..n).collect();
    let parts: Vec<(Vec<f64>, Vec<f64>)> = indices
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut values = Vec::new();
            samples.gather(chunk, &mut values);
            let (mut sum, mut products) = (vec![0.0; dim], vec![0f32; dim * dim]);
            for row in values.chunks_exact(dim) {
                for (i, &x) in row.iter().enumerate() {
                    sum[i] += f64::from(x);
                    // Most pixels of most images are 0.
                    if x != 0.0 {
                        products[i * dim + i..(i + 1) * dim].iter_mut().zip(&row[i..]).for_each(|(p, y)| *p += x * y);
                    }
                }
            }
            (sum, products.into_iter().map(f64::from).collect())
        })
        .collect();
    let (mut mean, mut covariance) = (vec![0.0; dim], vec![0.0; dim * dim]);
    for (sum, products) in parts {
        mean.iter_mut().zip(sum).for_each(|(m, s)| *m += s / n as f64);
        covariance.iter_mut().zip(products).for_each(|(c, p)| *c += p);
    }
    for i in 0..dim {
        for j in i..dim {
            let value = (covariance[i * dim + j] - n as f64 * mean[i] * mean[j]) / (n - 1).max(1) as f64;
            (covariance[i * dim + j], covariance[j * dim + i]) = (value, value);
        }
    }
    (mean, covariance)
}

/// Every sample's components.
fn projected(samples: &Samples, projection: &Projection) -> Result<Samples, DataError> {
    let indices: Vec<usize> = (0..samples.len()).collect();
    let parts: Vec<Vec<f32>> = indices
        .par_chunks(256)
        .map(|chunk| {
            let (mut values, mut out) = (Vec::new(), Vec::new());
            samples.gather(chunk, &mut values);
            values.chunks_exact(projection.mean.len()).for_each(|row| projection.project(row, &mut out));
            out
        })
        .collect();
    components(parts.concat(), samples.labels(), projection.directions.len())
}

fn components(values: Vec<f32>, labels: Vec<u8>, k: usize) -> Result<Samples, DataError> {
    Samples::new(Values::F32(Arc::new(values)), labels, [1, 1, k], Scaling::uniform(1, 1.0, 0.0))
}

/// A random affine map of one channel of `height` x `width` pixels; what comes from outside is 0.
fn transformed(image: &[f32], height: usize, width: usize, noise: &mut Stream) -> Vec<f32> {
    let mut within = |limit: f64| (2.0 * noise.uniform() - 1.0) * limit;
    let (turn, shear) = (within(10f64.to_radians()), within(5f64.to_radians()));
    let (dx, dy) = ((within(0.1) * width as f64).round(), (within(0.1) * height as f64).round());
    let scale = 1.0 + within(0.2);
    // Output to input: undo the translation, then rotation with shear, then the scale, about the centre.
    let (cx, cy) = (width as f64 / 2.0 - 0.5, height as f64 / 2.0 - 0.5);
    let determinant = scale * shear.cos();
    let matrix =
        [[(turn + shear).cos() / determinant, (turn + shear).sin() / determinant], [-turn.sin() / determinant, turn.cos() / determinant]];
    let mut out = vec![0.0; image.len()];
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64 - cx - dx, y as f64 - cy - dy);
            let source = matrix.map(|row| row[0] * u + row[1] * v);
            let (sx, sy) = ((source[0] + cx).round(), (source[1] + cy).round());
            if (0.0..width as f64).contains(&sx) && (0.0..height as f64).contains(&sy) {
                out[y * width + x] = image[sy as usize * width + sx as usize];
            }
        }
    }
    out
}

/// The data set behind the name `of`, images scaled to 0..1.
fn inner(of: &str) -> Result<Box<dyn DatasetConfig>, DataError> {
    let named = |text: &str| resolve::<dyn DatasetConfig>(Kind::Dataset, text).map(|(_, config)| config);
    let plain = named(of).map_err(|error| {
        DataError::Inconsistent(format!("data set `pca`: of:{of} is no data set\n{error}\n  hint: `ibhost list` shows them"))
    })?;
    Ok(named(&format!("{of}/scale:unit")).unwrap_or(plain))
}

/// Refuses a random transform of values it is not made for.
fn check_augmentable(of: &str, samples: &Samples) -> Result<(), DataError> {
    let mut values = Vec::new();
    for chunk in (0..samples.len()).collect::<Vec<_>>().chunks(CHUNK) {
        values.clear();
        samples.gather(chunk, &mut values);
        if let Some(outside) = values.iter().find(|x| !(0.0..=1.0).contains(*x)) {
            return Err(DataError::Inconsistent(format!(
                "data set `pca`: augment:true transforms and dequantises images of values from 0 to 1, but of:{of} has the value {outside}; use augment:false"
            )));
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Pca {
    info: DataInfo,
    images: Samples,
    projection: Projection,
    train: Samples,
    test: Samples,
    augment: bool,
}

#[typetag::serde(name = "pca")]
impl DatasetConfig for PcaConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let inner = inner(&self.of)?.load(root)?;
        let (images, test) = (inner.split(Split::Train).clone(), inner.split(Split::Test));
        if self.augment {
            check_augmentable(&self.of, &images)?;
        }
        let projection = Projection::fit(&images, self.k)?;
        let of_test = if self.per_split { Some(Projection::fit(test, self.k)?) } else { None };
        let (train, test) = (projected(&images, &projection)?, projected(test, of_test.as_ref().unwrap_or(&projection))?);
        let info = inner.info();
        let info = DataInfo {
            name: format!("pca-{}{}", info.name, self.k),
            classes: info.classes.clone(),
            shape: [1, 1, self.k],
            note: info.note.clone(),
            class_entropy: None,
        };
        Ok(Box::new(Pca { info, images, projection, train, test, augment: self.augment }))
    }

    fn files(&self) -> Vec<DataFile> {
        inner(&self.of).map(|inner| inner.files()).unwrap_or_default()
    }
}

ibhost_framework::register! { Dataset: PcaConfig as DatasetConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "pca/of:mnist|k:10" }

impl Dataset for Pca {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    fn fresh_batch(&self, indices: &[usize], noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        if !self.augment {
            return Ok(None);
        }
        let [channels, height, width] = self.images.shape();
        let (mut values, mut out) = (Vec::new(), Vec::new());
        self.images.gather(indices, &mut values);
        for image in values.chunks_exact_mut(channels * height * width) {
            if noise.uniform() < 0.5 {
                // One map for all channels: every channel starts from the same draws.
                let start = noise.clone();
                for channel in image.chunks_exact_mut(height * width) {
                    *noise = start.clone();
                    channel.copy_from_slice(&transformed(channel, height, width, noise));
                }
            }
            for x in image.iter_mut() {
                *x = ((255.0 * f64::from(*x) + noise.uniform()) / 256.0).clamp(0.001, 0.999) as f32;
            }
            self.projection.project(image, &mut out);
        }
        components(out, indices.iter().map(|&i| self.images.label(i)).collect(), self.projection.directions.len()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(config: &PcaConfig) -> Box<dyn Dataset> {
        config.load(&DataRoot("/nowhere".into())).unwrap()
    }

    #[test]
    fn directions_are_orthonormal_and_variances_are_those_of_the_components() {
        let data = inner("digits").unwrap().load(&DataRoot("/nowhere".into())).unwrap();
        let samples = data.split(Split::Train);
        let projection = Projection::fit(samples, 6).unwrap();
        for (i, a) in projection.directions.iter().enumerate() {
            for (j, b) in projection.directions.iter().enumerate() {
                assert!((dot(a, b) - if i == j { 1.0 } else { 0.0 }).abs() < 1e-8);
            }
        }
        assert!(projection.variances.is_sorted_by(|a, b| a >= b));
        let components = projected(samples, &projection).unwrap();
        let mut values = Vec::new();
        components.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut values);
        for (k, variance) in projection.variances.iter().enumerate() {
            let column: Vec<f64> = values.iter().skip(k).step_by(6).map(|&x| f64::from(x)).collect();
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            let found = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (column.len() - 1) as f64;
            assert!(mean.abs() < 1e-4 && (found / variance - 1.0).abs() < 1e-3, "{k}: {mean} {found} {variance}");
        }
        assert!(Projection::fit(samples, 65).is_err());
    }

    #[test]
    fn training_samples_vary_around_the_stored_ones_and_test_axes_can_be_their_own() {
        let config = PcaConfig { of: "digits".to_owned(), k: 5, ..PcaConfig::default() };
        let data = load(&config);
        let draw = |step| data.fresh_batch(&[3, 4], &mut Noise::new(1).stream("step", step)).unwrap().unwrap();
        assert_eq!((draw(0).len(), draw(0).shape()), (2, [1, 1, 5]));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let own = load(&PcaConfig { per_split: true, ..config.clone() });
        assert_ne!(own.split(Split::Test), data.split(Split::Test));
        assert_eq!(own.split(Split::Train), data.split(Split::Train));
        assert!(load(&PcaConfig { augment: false, ..config }).fresh_batch(&[0], &mut Noise::new(1).stream("step", 0)).unwrap().is_none());
    }

    #[test]
    fn data_sets_without_a_scale_are_taken_as_they_are() {
        let toy = PcaConfig { of: "toy".to_owned(), k: 2, augment: false, per_split: false };
        assert_eq!(load(&toy).split(Split::Train).shape(), [1, 1, 2]);
        let refused = PcaConfig { augment: true, ..toy }.load(&DataRoot("/nowhere".into())).unwrap_err().to_string();
        assert!(refused.contains("augment:false"), "{refused}");
        let binary = PcaConfig { of: "binary_digits".to_owned(), k: 3, ..PcaConfig::default() };
        assert!(load(&binary).fresh_batch(&[0], &mut Noise::new(1).stream("step", 0)).unwrap().is_some());
        let unknown =
            PcaConfig { of: "digit".to_owned(), ..PcaConfig::default() }.load(&DataRoot("/nowhere".into())).unwrap_err().to_string();
        assert!(unknown.contains("digits"), "{unknown}");
    }

    #[test]
    fn a_transform_moves_the_image_but_keeps_most_of_it() {
        let image: Vec<f32> =
            (0..28 * 28).map(|i| if (10..18).contains(&(i / 28)) && (10..18).contains(&(i % 28)) { 1.0 } else { 0.0 }).collect();
        let mut noise = Noise::new(2).stream("map", 0);
        for _ in 0..20 {
            let moved: f32 = transformed(&image, 28, 28, &mut noise).iter().sum();
            assert!((30.0..110.0).contains(&moved), "{moved}");
        }
    }
}
