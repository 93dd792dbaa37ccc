//! Closed forms of diagonal Gaussians: reparameterised samples, rate against the standard normal prior, log-density.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::rows::{each_row, sum_terms};
use crate::vectorised;

pub(crate) const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;
/// Rows below this length are shorter than a vector.
const SHORT: usize = 32;

/// Samples mean + scale noise (Kingma & Welling 2014, section 2.4): mean and scale `[batch, latent]`, noise and result
/// `[samples, batch, latent]`.
pub fn reparameterise(mean: Tensor<2>, scale: Tensor<2>, noise: Tensor<3>) -> Tensor<3> {
    match apply(Reparameterise, [mean.into_dispatch(), scale.into_dispatch(), noise.into_dispatch()]) {
        Ok(z) => Tensor::from_dispatch(z),
        Err([mean, scale, noise]) => {
            plain_reparameterise(Tensor::from_dispatch(mean), Tensor::from_dispatch(scale), Tensor::from_dispatch(noise))
        }
    }
}

/// A sample mean + scale noise of each distribution, all `[batch, latent]`.
pub fn normal_sample(mean: Tensor<2>, scale: Tensor<2>, noise: Tensor<2>) -> Tensor<2> {
    match apply(Reparameterise, [mean.into_dispatch(), scale.into_dispatch(), noise.into_dispatch()]) {
        Ok(z) => Tensor::from_dispatch(z),
        Err([mean, scale, noise]) => plain_sample(Tensor::from_dispatch(mean), Tensor::from_dispatch(scale), Tensor::from_dispatch(noise)),
    }
}

fn plain_sample(mean: Tensor<2>, scale: Tensor<2>, noise: Tensor<2>) -> Tensor<2> {
    mean + scale * noise
}

fn plain_reparameterise(mean: Tensor<2>, scale: Tensor<2>, noise: Tensor<3>) -> Tensor<3> {
    let [batch, latent] = mean.dims();
    scale.reshape([1, batch, latent]) * noise + mean.reshape([1, batch, latent])
}

#[derive(Clone, Debug)]
struct Reparameterise;

impl Operation<3> for Reparameterise {
    fn forward<T: Real>(&self, [mean, scale, mut noise]: [Array<T>; 3], tracked: [bool; 3]) -> (Array<T>, Vec<Array<T>>) {
        assert!(mean.shape() == scale.shape() && noise.shape().ends_with(mean.shape()), "mean, scale and noise of samples");
        let saved = if tracked == [false; 3] { Vec::new() } else { vec![scale.clone(), noise.clone()] };
        let (n, m, s) = (mean.len(), mean.as_slice(), scale.as_slice());
        let work = noise.len();
        let columns = mean.shape()[1];
        each_row(noise.make_mut(), columns, work, |i, row| {
            let at = i * columns % n.max(1);
            let rows = m[at..at + columns].iter().zip(&s[at..at + columns]);
            row.iter_mut().zip(rows).for_each(|(z, (&m, &s))| *z = m + s * *z);
        });
        (noise, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 3]) -> [Option<Array<T>>; 3] {
        let (scale, noise, g) = (&saved[0], saved[1].as_slice(), gradient.as_slice());
        let (n, columns) = (scale.len(), scale.shape()[1]);
        // Sum over the samples of the gradient times `factor`.
        let summed = |weighted: bool| {
            let mut out = vec![T::zero(); n];
            each_row(&mut out, columns, g.len(), |i, row| {
                for start in (0..g.len() / n.max(1)).map(|sample| sample * n + i * columns) {
                    let (g, e) = (&g[start..start + columns], &noise[start..start + columns]);
                    if weighted {
                        row.iter_mut().zip(g.iter().zip(e)).for_each(|(y, (&g, &e))| *y += g * e);
                    } else {
                        row.iter_mut().zip(g).for_each(|(y, &g)| *y += g);
                    }
                }
            });
            Array::new(out, scale.shape())
        };
        let to_noise = || {
            let mut out = g.to_vec();
            let s = scale.as_slice();
            each_row(&mut out, columns, g.len(), |i, row| {
                let at = i * columns % n.max(1);
                row.iter_mut().zip(&s[at..at + columns]).for_each(|(y, &s)| *y *= s);
            });
            Array::new(out, gradient.shape())
        };
        // One sample needs no sum: its gradient is that of the mean.
        let to_mean = || if g.len() == n { gradient.clone().reshaped(scale.shape()) } else { summed(false) };
        [wanted[0].then(to_mean), wanted[1].then(|| summed(true)), wanted[2].then(to_noise)]
    }
}

/// Rate KL(N(mean, scale^2) || N(0, I)) in nats (Kingma & Welling 2014, appendix B): sum over latents of
/// (scale^2 + mean^2 - 1)/2 - ln scale. Inputs `[batch, latent]`, scales positive; result `[batch]`.
pub fn standard_normal_rate(mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    match apply(Rate, [mean.into_dispatch(), scale.into_dispatch()]) {
        Ok(rate) => Tensor::from_dispatch(rate),
        Err([mean, scale]) => plain_rate(Tensor::from_dispatch(mean), Tensor::from_dispatch(scale)),
    }
}

fn plain_rate(mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    let [batch, latent] = mean.dims();
    let energy = mean.powi_scalar(2) + scale.clone().powi_scalar(2);
    (energy.mul_scalar(0.5) - scale.log()).sum_dim(1).reshape([batch]) - 0.5 * latent as f64
}

#[derive(Clone, Debug)]
struct Rate;

impl Operation<2> for Rate {
    fn forward<T: Real>(&self, [mean, scale]: [Array<T>; 2], tracked: [bool; 2]) -> (Array<T>, Vec<Array<T>>) {
        assert_eq!(mean.shape(), scale.shape(), "mean and scale");
        let [batch, n] = [mean.shape()[0], mean.shape()[1]];
        let (m, s, half) = (mean.as_slice(), scale.as_slice(), T::of(0.5));
        let mut rates = vec![T::zero(); batch];
        each_row(
            &mut rates,
            1,
            batch * n,
            #[inline(always)]
            |i, rate| {
                let rows = [&m[i * n..(i + 1) * n], &s[i * n..(i + 1) * n]];
                rate[0] = sum_terms(rows, |[m, s]| half * (m * m + s * s - T::one()) - s.logarithm());
            },
        );
        let saved = if tracked == [false; 2] { Vec::new() } else { vec![mean, scale] };
        (Array::new(rates, &[batch]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 2]) -> [Option<Array<T>>; 2] {
        let (n, g) = (saved[0].shape()[1], gradient.as_slice());
        let scaled = |input: usize| {
            let mut out = saved[input].as_slice().to_vec();
            let work = out.len();
            each_row(&mut out, n, work, |i, row| match input {
                0 => row.iter_mut().for_each(|m| *m *= g[i]),
                _ => row.iter_mut().for_each(|s| *s = g[i] * (*s - s.recip())),
            });
            Array::new(out, saved[input].shape())
        };
        [wanted[0].then(|| scaled(0)), wanted[1].then(|| scaled(1))]
    }
}

/// ln N(x; mean, scale^2) in nats, summed over the last dimension: sum of -((x - mean)/scale)^2/2 - ln scale - ln(2 pi)/2.
/// All `[batch, variables]`, scales positive; result `[batch]`.
pub fn normal_log_density(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    match apply(Density, [x.into_dispatch(), mean.into_dispatch(), scale.into_dispatch()]) {
        Ok(density) => Tensor::from_dispatch(density),
        Err([x, mean, scale]) => plain_density(Tensor::from_dispatch(x), Tensor::from_dispatch(mean), Tensor::from_dispatch(scale)),
    }
}

fn plain_density(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    let [batch, variables] = x.dims();
    let distance = (x - mean) / scale.clone();
    (distance.powi_scalar(2).mul_scalar(-0.5) - scale.log()).sum_dim(1).reshape([batch]) - HALF_LN_2PI * variables as f64
}

#[derive(Clone, Debug)]
struct Density;

impl Operation<3> for Density {
    fn forward<T: Real>(&self, inputs: [Array<T>; 3], tracked: [bool; 3]) -> (Array<T>, Vec<Array<T>>) {
        assert!(inputs[0].shape() == inputs[1].shape() && inputs[0].shape() == inputs[2].shape(), "point, mean and scale");
        let [batch, n] = [inputs[0].shape()[0], inputs[0].shape()[1]];
        let slices = inputs.each_ref().map(Array::as_slice);
        let (half, constant) = (T::of(-0.5), T::of(HALF_LN_2PI));
        let term = |[x, m, s]: [T; 3]| {
            let distance = (x - m) / s;
            half * distance * distance - s.logarithm() - constant
        };
        let mut densities = vec![T::zero(); batch];
        if (1..SHORT).contains(&n) {
            // Vectors span rows that are shorter than they are.
            let mut terms = slices[0].to_vec();
            vectorised!(|| {
                let others = slices[1].iter().zip(slices[2]);
                terms.iter_mut().zip(others).for_each(|(x, (&m, &s))| *x = term([*x, m, s]));
            });
            densities.iter_mut().zip(terms.chunks_exact(n)).for_each(|(density, row)| *density = row.iter().copied().sum());
        } else {
            each_row(
                &mut densities,
                1,
                batch * n,
                #[inline(always)]
                |i, density| {
                    density[0] = sum_terms(slices.map(|values| &values[i * n..(i + 1) * n]), term);
                },
            );
        }
        let saved = if tracked == [false; 3] { Vec::new() } else { inputs.to_vec() };
        (Array::new(densities, &[batch]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 3]) -> [Option<Array<T>>; 3] {
        let g = gradient.as_slice();
        [
            wanted[0].then(|| scaled_terms(&saved, g, |x, m, s| (m - x) / (s * s))),
            wanted[1].then(|| scaled_terms(&saved, g, |x, m, s| (x - m) / (s * s))),
            wanted[2].then(|| {
                scaled_terms(&saved, g, |x, m, s| {
                    let distance = (x - m) / s;
                    (distance * distance - T::one()) / s
                })
            }),
        ]
    }
}

/// `term` of point, mean and scale, each row times its entry of `g`.
fn scaled_terms<T: Real>(saved: &[Array<T>], g: &[T], term: impl Fn(T, T, T) -> T + Sync + Send) -> Array<T> {
    let n = saved[0].shape()[1];
    let [x, m, s] = [saved[0].as_slice(), saved[1].as_slice(), saved[2].as_slice()];
    let mut out = x.to_vec();
    if n < SHORT {
        vectorised!(|| out.iter_mut().zip(m.iter().zip(s)).for_each(|(y, (&m, &s))| *y = term(*y, m, s)));
        out.chunks_exact_mut(n.max(1)).zip(g).for_each(|(row, &g)| row.iter_mut().for_each(|y| *y *= g));
    } else {
        each_row(&mut out, n, x.len(), |i, row| {
            let others = m[i * n..(i + 1) * n].iter().zip(&s[i * n..(i + 1) * n]);
            row.iter_mut().zip(others).for_each(|(y, (&m, &s))| *y = g[i] * term(*y, m, s));
        });
    }
    Array::new(out, saved[0].shape())
}

/// ln N(x; 0, scale^2 I) in nats, summed over the last dimension; x `[batch, variables]`, scale positive; result `[batch]`.
pub fn centred_log_density(x: Tensor<2>, scale: f64) -> Tensor<1> {
    match apply(Centred { scale }, [x.into_dispatch()]) {
        Ok(density) => Tensor::from_dispatch(density),
        Err([x]) => plain_centred(Tensor::from_dispatch(x), scale),
    }
}

fn plain_centred(x: Tensor<2>, scale: f64) -> Tensor<1> {
    let [batch, variables] = x.dims();
    let squares = x.powi_scalar(2).sum_dim(1).reshape([batch]);
    squares.mul_scalar(-0.5 / (scale * scale)) - (HALF_LN_2PI + scale.ln()) * variables as f64
}

#[derive(Clone, Debug)]
struct Centred {
    scale: f64,
}

impl Operation<1> for Centred {
    fn forward<T: Real>(&self, [x]: [Array<T>; 1], [tracked]: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let [batch, n] = [x.shape()[0], x.shape()[1]];
        let (factor, constant) = (T::of(-0.5 / (self.scale * self.scale)), T::of((HALF_LN_2PI + self.scale.ln()) * n as f64));
        let values = x.as_slice();
        let mut densities = vec![T::zero(); batch];
        each_row(
            &mut densities,
            1,
            batch * n,
            #[inline(always)]
            |i, density| {
                let row = &values[i * n..(i + 1) * n];
                let squares = if n < SHORT { row.iter().map(|&x| x * x).sum() } else { sum_terms([row], |[x]| x * x) };
                density[0] = factor * squares - constant;
            },
        );
        (Array::new(densities, &[batch]), if tracked { vec![x] } else { Vec::new() })
    }

    fn backward<T: Real>(&self, mut saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let (n, work, g) = (saved[0].shape()[1], saved[0].len(), gradient.as_slice());
        let factor = T::of(-1.0 / (self.scale * self.scale));
        let mut x = saved.swap_remove(0);
        each_row(x.make_mut(), n, work, |i, row| row.iter_mut().for_each(|x| *x *= factor * g[i]));
        [Some(x)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn samples_are_those_of_the_plain_formula() {
        for [samples, batch, latent] in [[1, 1, 1], [1, 5, 33], [4, 3, 7], [12, 100, 40]] {
            check::<3>(
                &Case::new(&[vec![batch, latent], vec![batch, latent], vec![samples, batch, latent]]).range(1, 0.01, 2.0),
                |t| reparameterise(t.get(0), t.get(1), t.get(2)).into_dispatch(),
                |t| plain_reparameterise(t.get(0), t.get(1), t.get(2)).into_dispatch(),
            );
            check::<2>(
                &Case::new(&[vec![batch, latent], vec![batch, latent], vec![batch, latent]]).range(1, 0.01, 2.0),
                |t| normal_sample(t.get(0), t.get(1), t.get(2)).into_dispatch(),
                |t| plain_sample(t.get(0), t.get(1), t.get(2)).into_dispatch(),
            );
        }
    }

    #[test]
    fn rates_and_densities_are_those_of_the_plain_formula() {
        for shape in [vec![1, 1], vec![128, 2], vec![7, 31], vec![3, 33], vec![130, 256]] {
            check::<1>(
                &Case::new(std::slice::from_ref(&shape)),
                |t| centred_log_density(t.get(0), 1.25).into_dispatch(),
                |t| plain_centred(t.get(0), 1.25).into_dispatch(),
            );
            check::<1>(
                &Case::new(&[shape.clone(), shape.clone()]).range(1, 0.05, 2.0),
                |t| standard_normal_rate(t.get(0), t.get(1)).into_dispatch(),
                |t| plain_rate(t.get(0), t.get(1)).into_dispatch(),
            );
            check::<1>(
                &Case::new(&[shape.clone(), shape.clone(), shape]).range(2, 0.3, 2.0),
                |t| normal_log_density(t.get(0), t.get(1), t.get(2)).into_dispatch(),
                |t| plain_density(t.get(0), t.get(1), t.get(2)).into_dispatch(),
            );
        }
    }
}
