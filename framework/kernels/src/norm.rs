//! Batch normalisation over slices of channels-last memory: moments, application fused with a residual sum and relu, gradients of both.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use crate::memory::written;
use crate::real::Real;
use crate::vectorised;

/// About this many numbers are summed in their own precision before the sums go on in double precision, whatever the number of threads.
const CHUNK: usize = 1 << 14;

/// Numbers after which channels repeat in the arrays of [`repeat`]: whole pixels, several vectors long.
fn period(channels: usize) -> usize {
    channels * 128usize.div_ceil(channels.max(1))
}

/// One number for each channel, repeated so that loops over memory need no index of the channel.
fn repeat<T: Real>(values: impl Iterator<Item = f64> + Clone, channels: usize) -> Vec<T> {
    values.map(T::of).cycle().take(period(channels)).collect()
}

/// Numbers of a chunk: whole pixels.
fn chunk(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1) * channels.max(1)
}

/// Sums each channel of what has [`period`] numbers.
fn fold<T: Real>(sums: &[T], channels: usize) -> Vec<f64> {
    (0..channels).map(|c| sums[c..].iter().step_by(channels).map(|v| v.wide()).sum()).collect()
}

/// Pixels, mean and spread of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Pixels.
    pub count: usize,
    /// Means.
    pub mean: Vec<f64>,
    /// Sums of squared distances from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Biased variances.
    pub fn variance(&self) -> impl Iterator<Item = f64> + Clone + '_ {
        let count = self.count.max(1) as f64;
        self.squares.iter().map(move |s| s / count)
    }

    /// Moments of `pixels` = `[pixels, channels]`.
    pub fn over<T: Real>(pixels: &[T], channels: usize) -> Self {
        let parts: Vec<Self> = pixels.par_chunks(chunk(channels)).map(|part| Self::of(part, channels)).collect();
        let mut total = Self { count: 0, mean: vec![0.0; channels], squares: vec![0.0; channels] };
        for part in &parts {
            total.merge(part);
        }
        total
    }

    /// Moments of a chunk; the second pass over it finds it in cache.
    fn of<T: Real>(pixels: &[T], channels: usize) -> Self {
        let count = pixels.len() / channels.max(1);
        let mut sums = vec![T::zero(); period(channels)];
        vectorised!(|| {
            for pixels in pixels.chunks(sums.len()) {
                for (sum, x) in sums.iter_mut().zip(pixels) {
                    *sum += *x;
                }
            }
        });
        let mean: Vec<f64> = fold(&sums, channels).into_iter().map(|s| s / count.max(1) as f64).collect();
        let centre: Vec<T> = repeat(mean.iter().copied(), channels);
        sums.fill(T::zero());
        vectorised!(|| {
            for pixels in pixels.chunks(sums.len()) {
                for ((sum, centre), x) in sums.iter_mut().zip(&centre).zip(pixels) {
                    let distance = *x - *centre;
                    *sum += distance * distance;
                }
            }
        });
        // These squares are about the rounded mean; those about the exact one are never larger.
        let squares = fold(&sums, channels).into_iter().zip(mean.iter().zip(&centre));
        let squares = squares.map(|(s, (m, c))| (s - count as f64 * (m - c.wide()).powi(2)).max(0.0)).collect();
        Self { count, mean, squares }
    }

    /// Takes in the moments of further pixels (Chan, Golub and LeVeque 1979).
    fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if other.count == 0 {
            return;
        }
        let (share, weight) = (other.count as f64 / count as f64, self.count as f64 * other.count as f64 / count as f64);
        for c in 0..self.mean.len() {
            let distance = other.mean[c] - self.mean[c];
            self.mean[c] += distance * share;
            self.squares[c] += other.squares[c] + distance * distance * weight;
        }
        self.count = count;
    }
}

/// y = (x - centre) scale + shift for each channel: batch normalisation with everything but x known.
#[derive(Clone, Debug)]
pub struct Affine<T> {
    centre: Vec<T>,
    scale: Vec<T>,
    shift: Vec<T>,
    channels: usize,
}

impl<T: Real> Affine<T> {
    /// gamma (x - mean) / sqrt(variance + epsilon) + beta.
    pub fn new(mean: &[f64], variance: impl Iterator<Item = f64> + Clone, gamma: &[T], beta: &[T], epsilon: f64) -> Self {
        let channels = mean.len();
        let scale = gamma.iter().zip(variance).map(|(g, v)| g.wide() / (v + epsilon).sqrt());
        Self {
            centre: repeat(mean.iter().copied(), channels),
            scale: repeat(scale, channels),
            shift: repeat(beta.iter().map(|b| b.wide()), channels),
            channels,
        }
    }

    /// y of `pixels`, plus `residual` if any, then cut off below 0 if `relu`.
    #[allow(unsafe_code)] // Memory for the result is not zeroed first.
    pub fn apply(&self, pixels: &[T], residual: Option<&[T]>, relu: bool) -> Vec<T> {
        let size = chunk(self.channels);
        let part = |(): &mut (), n: usize, out: &mut [MaybeUninit<T>]| {
            let range = n * size..n * size + out.len();
            let (pixels, residual) = (&pixels[range.clone()], residual.map(|r| &r[range]));
            vectorised!(|| {
                for (n, out) in out.chunks_mut(self.centre.len()).enumerate() {
                    let range = n * self.centre.len()..n * self.centre.len() + out.len();
                    let rows = out.iter_mut().zip(pixels[range.clone()].iter().copied());
                    self.apply_rows(rows, residual.map(|r| &r[range]), relu, put);
                }
            });
        };
        // SAFETY: every number of a part has its pixel.
        unsafe { written(pixels.len(), size, || (), part) }
    }

    /// [`Affine::apply`] with y in the place of x.
    pub fn apply_in_place(&self, pixels: &mut [T], residual: Option<&[T]>, relu: bool) {
        let (size, part) = (self.centre.len().max(1), chunk(self.channels));
        pixels.par_chunks_mut(part).enumerate().for_each(|(n, pixels)| {
            let residual = residual.map(|r| &r[n * part..n * part + pixels.len()]);
            vectorised!(|| {
                for (n, pixels) in pixels.chunks_mut(size).enumerate() {
                    let residual = residual.map(|r| &r[n * size..n * size + pixels.len()]);
                    let rows = pixels.iter_mut().map(|y| {
                        let x = *y;
                        (y, x)
                    });
                    self.apply_rows(rows, residual, relu, |y, value| *y = value);
                }
            });
        });
    }

    /// Puts to every place what its x and the next number of `residual` make.
    #[inline(always)]
    fn apply_rows<Y>(&self, rows: impl Iterator<Item = (Y, T)>, residual: Option<&[T]>, relu: bool, put: impl Fn(Y, T)) {
        let rows = rows.zip(self.centre.iter().zip(&self.scale).zip(&self.shift));
        match (residual, relu) {
            (None, false) => rows.for_each(|((y, x), ((m, a), b))| put(y, (x - *m) * *a + *b)),
            (None, true) => rows.for_each(|((y, x), ((m, a), b))| put(y, cut((x - *m) * *a + *b))),
            (Some(r), false) => rows.zip(r).for_each(|(((y, x), ((m, a), b)), r)| put(y, (x - *m) * *a + *b + *r)),
            (Some(r), true) => rows.zip(r).for_each(|(((y, x), ((m, a), b)), r)| put(y, cut((x - *m) * *a + *b + *r))),
        }
    }
}

/// Writes `value` to memory that may hold nothing yet.
#[inline(always)]
fn put<T>(place: &mut MaybeUninit<T>, value: T) {
    place.write(value);
}

/// max(x, 0) that lets NaN through.
#[inline(always)]
fn cut<T: Real>(x: T) -> T {
    if x < T::zero() { T::zero() } else { x }
}

/// g where a relu's output is above 0, else 0.
#[inline(always)]
fn open<T: Real>(output: T, g: T) -> T {
    if output > T::zero() { g } else { T::zero() }
}

/// What comes back to a normalisation: the gradient with respect to its output, and that output if a relu made it; g, the gradient before
/// the relu, is the former where the latter is above 0.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a, T> {
    /// Gradient with respect to the output.
    pub gradient: &'a [T],
    /// Output, if a relu made it.
    pub output: Option<&'a [T]>,
}

impl<T: Real> Incoming<'_, T> {
    fn part(&self, range: Range<usize>) -> Self {
        Self { gradient: &self.gradient[range.clone()], output: self.output.map(|o| &o[range]) }
    }
}

/// Sums over the pixels from which all gradients of a normalisation follow.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientSums {
    /// Sum of g for each channel.
    pub plain: Vec<f64>,
    /// Sum of g (x - mean) for each channel.
    pub weighted: Vec<f64>,
}

impl GradientSums {
    /// Sums over x = `pixels`.
    pub fn over<T: Real>(incoming: Incoming<'_, T>, pixels: &[T], mean: &[f64]) -> Self {
        let (size, centre) = (chunk(mean.len()), repeat(mean.iter().copied(), mean.len()));
        let parts: Vec<[Vec<f64>; 2]> = pixels
            .par_chunks(size)
            .enumerate()
            .map(|(n, part)| Self::of(incoming.part(n * size..n * size + part.len()), part, &centre, mean.len()))
            .collect();
        let total = |which: usize| (0..mean.len()).map(|c| parts.iter().map(|part| part[which][c]).sum()).collect();
        Self { plain: total(0), weighted: total(1) }
    }

    fn of<T: Real>(incoming: Incoming<'_, T>, pixels: &[T], centre: &[T], channels: usize) -> [Vec<f64>; 2] {
        let size = centre.len();
        let (mut plain, mut weighted) = (vec![T::zero(); size], vec![T::zero(); size]);
        vectorised!(|| {
            for (n, pixels) in pixels.chunks(size).enumerate() {
                let Incoming { gradient, output } = incoming.part(n * size..n * size + pixels.len());
                let sums = plain.iter_mut().zip(weighted.iter_mut()).zip(centre);
                let rows = sums.zip(pixels.iter().zip(gradient));
                match output {
                    None => rows.for_each(|(((plain, weighted), m), (x, g))| {
                        *plain += *g;
                        *weighted += *g * (*x - *m);
                    }),
                    Some(output) => rows.zip(output).for_each(|((((plain, weighted), m), (x, g)), o)| {
                        let g = open(*o, *g);
                        *plain += g;
                        *weighted += g * (*x - *m);
                    }),
                }
            }
        });
        [fold(&plain, channels), fold(&weighted, channels)]
    }
}

/// Gradient with respect to x of a normalisation by the batch's own moments, the sums being known:
/// scale (g - mean of g - (x - mean) (mean of g (x - mean)) / (variance + epsilon)).
#[derive(Clone, Debug)]
pub struct BackwardAffine<T> {
    centre: Vec<T>,
    scale: Vec<T>,
    offset: Vec<T>,
    slope: Vec<T>,
    channels: usize,
}

impl<T: Real> BackwardAffine<T> {
    /// From the moments of x, gamma, epsilon and the sums over the batch.
    pub fn new(moments: &Moments, gamma: &[T], epsilon: f64, sums: &GradientSums) -> Self {
        let (channels, count) = (gamma.len(), moments.count.max(1) as f64);
        let inverse = moments.variance().map(|v| 1.0 / (v + epsilon));
        Self {
            centre: repeat(moments.mean.iter().copied(), channels),
            scale: repeat(gamma.iter().zip(inverse.clone()).map(|(g, i)| g.wide() * i.sqrt()), channels),
            offset: repeat(sums.plain.iter().map(|s| s / count), channels),
            slope: repeat(sums.weighted.iter().zip(inverse).map(|(s, i)| s / count * i), channels),
            channels,
        }
    }

    /// The gradient with respect to x = `pixels`.
    #[allow(unsafe_code)] // Memory for the result is not zeroed first.
    pub fn apply(&self, incoming: Incoming<'_, T>, pixels: &[T]) -> Vec<T> {
        let size = chunk(self.channels);
        let part = |(): &mut (), n: usize, out: &mut [MaybeUninit<T>]| {
            let range = n * size..n * size + out.len();
            self.apply_part(incoming.part(range.clone()), &pixels[range], out);
        };
        // SAFETY: every number of a part has its pixel.
        unsafe { written(pixels.len(), size, || (), part) }
    }

    fn apply_part(&self, incoming: Incoming<'_, T>, pixels: &[T], out: &mut [MaybeUninit<T>]) {
        let Self { centre, scale, offset, slope, .. } = self;
        let size = centre.len();
        vectorised!(|| {
            for (n, out) in out.chunks_mut(size).enumerate() {
                let range = n * size..n * size + out.len();
                let Incoming { gradient, output } = incoming.part(range.clone());
                let factors = centre.iter().zip(scale).zip(offset.iter().zip(slope));
                let rows = out.iter_mut().zip(&pixels[range]).zip(gradient).zip(factors);
                match output {
                    None => rows.for_each(|(((dx, x), g), ((m, a), (b, d)))| put(dx, (*g - *b - (*x - *m) * *d) * *a)),
                    Some(output) => rows.zip(output).for_each(|((((dx, x), g), ((m, a), (b, d))), o)| {
                        put(dx, (open(*o, *g) - *b - (*x - *m) * *d) * *a);
                    }),
                }
            }
        });
    }
}

/// g, multiplied by one number for each channel if any: the gradient with respect to a residual, and to x when the moments are given.
#[allow(unsafe_code)] // Memory for the result is not zeroed first.
pub fn scaled<T: Real>(incoming: Incoming<'_, T>, scale: Option<Vec<f64>>, channels: usize) -> Vec<T> {
    let scale = scale.unwrap_or_else(|| vec![1.0; channels]);
    let scale: Vec<T> = repeat(scale.iter().copied(), channels);
    let size = chunk(channels);
    let part = |(): &mut (), n: usize, out: &mut [MaybeUninit<T>]| {
        let incoming = incoming.part(n * size..n * size + out.len());
        vectorised!(|| {
            for (n, out) in out.chunks_mut(scale.len()).enumerate() {
                let Incoming { gradient, output } = incoming.part(n * scale.len()..n * scale.len() + out.len());
                let rows = out.iter_mut().zip(&scale).zip(gradient);
                match output {
                    None => rows.for_each(|((y, a), g)| put(y, *a * *g)),
                    Some(output) => rows.zip(output).for_each(|(((y, a), g), o)| put(y, *a * open(*o, *g))),
                }
            }
        });
    };
    // SAFETY: every number of a part has its gradient.
    unsafe { written(incoming.gradient.len(), size, || (), part) }
}
