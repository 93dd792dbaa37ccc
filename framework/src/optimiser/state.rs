//! What an optimiser remembers between steps, in host memory where the parameters are and on the device otherwise.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use ibhost_kernels::vectorised;
use num_traits::Float;
use rayon::prelude::*;

use super::Rule;
use crate::storage::{HostData, HostTensor};

/// A flat buffer of one scalar per parameter element.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one per parameter; a box would only add an indirection.
pub enum Buffer {
    /// Host memory, single precision.
    F32(Vec<f32>),
    /// Host memory, double precision.
    F64(Vec<f64>),
    /// A rank-1 tensor on a device whose memory the host cannot reach.
    Device(Tensor<1>),
}

impl Buffer {
    /// Zeros shaped like `like`, on the host if `host`.
    pub fn zeros(like: &Tensor<1>, host: bool) -> Self {
        let n = like.dims()[0];
        match (host, like.dtype()) {
            (true, DType::F64) => Self::F64(vec![0.0; n]),
            (true, _) => Self::F32(vec![0.0; n]),
            (false, _) => Self::Device(like.zeros_like()),
        }
    }

    /// Host copy for a checkpoint.
    pub fn to_host(&self) -> HostTensor {
        let data = match self {
            Self::F32(v) => HostData::F32(v.clone()),
            Self::F64(v) => HostData::F64(v.clone()),
            Self::Device(t) => match t.dtype() {
                DType::F64 => HostData::F64(t.to_data().iter::<f64>().collect()),
                _ => HostData::F32(t.to_data().iter::<f32>().collect()),
            },
        };
        let len = match &data {
            HostData::F32(v) => v.len(),
            HostData::F64(v) => v.len(),
            HostData::I64(v) => v.len(),
            HostData::U8(v) => v.len(),
        };
        HostTensor { shape: vec![len], data }
    }

    /// The buffer a checkpoint holds, on the side `like` lives; `None` when its length or type does not fit.
    pub fn from_host(host_tensor: &HostTensor, like: &Tensor<1>, host: bool) -> Option<Self> {
        let n = like.dims()[0];
        match (&host_tensor.data, host) {
            (HostData::F32(v), true) if v.len() == n && like.dtype() != DType::F64 => Some(Self::F32(v.clone())),
            (HostData::F64(v), true) if v.len() == n && like.dtype() == DType::F64 => Some(Self::F64(v.clone())),
            (HostData::F32(v), false) if v.len() == n => {
                Some(Self::Device(Tensor::from_data(TensorData::new(v.clone(), [n]), (&like.device(), like.dtype()))))
            }
            (HostData::F64(v), false) if v.len() == n => {
                Some(Self::Device(Tensor::from_data(TensorData::new(v.clone(), [n]), (&like.device(), like.dtype()))))
            }
            _ => None,
        }
    }
}

/// What an optimiser keeps of one parameter.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Mean gradient or velocity.
    pub first: Buffer,
    /// Mean squared gradient or surprise, for rules that use one.
    pub second: Option<Buffer>,
}

/// State of one optimiser: its update count and the two moments of every parameter it has moved.
#[derive(Clone, Debug, Default)]
pub struct OptimiserState {
    /// Updates made.
    pub step: u64,
    /// Moments by parameter path.
    pub moments: BTreeMap<String, Moments>,
}

/// Elements below which splitting the pass over threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 16;

impl Rule {
    /// Applies the rule in one pass over memory and folds the new parameter into `average` = (buffer, decay) on the way.
    ///
    /// Returns whether every gradient element was finite.
    pub fn update<T: Float + Send + Sync>(&self, p: &mut [T], g: &[T], m: &mut [T], s: &mut [T], average: Option<(&mut [T], f64)>) -> bool {
        let n = p.len();
        if let Self::NormalisedAdam { rate, beta1, beta2, epsilon, weight_decay } = *self {
            // The norm needs a pass of its own before anything can be updated; a gradient that is not finite is reported as it came.
            let scale = inverse_norm(g);
            let adjusted: Vec<T> = p.iter().zip(g).map(|(&p, &g)| g * cast(scale) + cast::<T>(weight_decay) * p).collect();
            let finite = g.iter().all(|g| g.is_finite());
            return Self::Adam { rate, beta1, beta2, epsilon, root: 1.0 }.update(p, &adjusted, m, s, average) && finite;
        }
        if n < PARALLEL_FROM {
            return vectorised!(|| self.update_chunk(p, g, m, s, average));
        }
        let chunk = n.div_ceil(rayon::current_num_threads() * 4).max(1 << 14);
        let count = n.div_ceil(chunk);
        let seconds: Vec<&mut [T]> = if self.has_second_moment() {
            s.chunks_mut(chunk).collect()
        } else {
            std::iter::repeat_with(Default::default).take(count).collect()
        };
        let averages: Vec<Option<(&mut [T], f64)>> = match average {
            Some((a, decay)) => a.chunks_mut(chunk).map(|a| Some((a, decay))).collect(),
            None => std::iter::repeat_with(|| None).take(count).collect(),
        };
        let parts = p.par_chunks_mut(chunk).zip(g.par_chunks(chunk)).zip(m.par_chunks_mut(chunk)).zip(seconds).zip(averages);
        parts.map(|((((p, g), m), s), a)| vectorised!(|| self.update_chunk(p, g, m, s, a))).reduce(|| true, |a, b| a & b)
    }

    /// Whether the rule keeps a second moment.
    pub fn has_second_moment(&self) -> bool {
        !matches!(self, Self::Sgd { .. })
    }

    #[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
    #[inline(always)]
    fn update_chunk<T: Float>(&self, p: &mut [T], g: &[T], m: &mut [T], s: &mut [T], average: Option<(&mut [T], f64)>) -> bool {
        /// Elements after which the average follows, while they are in the first-level cache.
        const BLOCK: usize = 2048;
        let Some((a, decay)) = average else { return self.update_block(p, g, m, s) };
        let mut finite = true;
        for start in (0..p.len()).step_by(BLOCK) {
            let block = start..p.len().min(start + BLOCK);
            let second = if self.has_second_moment() { block.clone() } else { 0..0 };
            finite &= self.update_block(&mut p[block.clone()], &g[block.clone()], &mut m[block.clone()], &mut s[second]);
            average_chunk(&mut a[block.clone()], &p[block], decay);
        }
        finite
    }

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn update_block<T: Float>(&self, p: &mut [T], g: &[T], m: &mut [T], s: &mut [T]) -> bool {
        let real = |x: f64| T::from(x).unwrap_or_else(T::zero);
        let mut finite = true;
        match *self {
            Self::Adam { rate, beta1, beta2, epsilon, root } => {
                let (rate, b1, b2, epsilon, root) = (real(rate), real(beta1), real(beta2), real(epsilon), real(root));
                let (c1, c2) = (real(1.0 - beta1), real(1.0 - beta2));
                for ((p, &g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s.iter_mut())) {
                    finite &= g.is_finite();
                    *m = b1 * *m + c1 * g;
                    *s = b2 * *s + c2 * g * g;
                    *p = *p - rate * *m / (s.sqrt() * root + epsilon);
                }
            }
            Self::NormalisedAdam { .. } => unreachable!("`update` turns it into Adam on the normalised gradient"),
            Self::AdaBelief { rate, beta1, beta2, epsilon, root_epsilon, scale } => {
                let (rate, b1, b2, epsilon, scale) = (real(rate), real(beta1), real(beta2), real(epsilon), real(scale));
                let (c1, c2, root_epsilon) = (real(1.0 - beta1), real(1.0 - beta2), real(root_epsilon));
                for ((p, &g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s.iter_mut())) {
                    finite &= g.is_finite();
                    let surprise = g - *m;
                    *m = b1 * *m + c1 * g;
                    *s = b2 * *s + c2 * surprise * surprise;
                    *p = *p - rate * *m / ((*s * scale + root_epsilon).sqrt() + epsilon);
                }
            }
            Self::Sgd { rate, momentum, weight_decay } => {
                let (rate, momentum, weight_decay) = (real(rate), real(momentum), real(weight_decay));
                for ((p, &g), m) in p.iter_mut().zip(g).zip(m.iter_mut()) {
                    finite &= g.is_finite();
                    *m = momentum * *m + (g + weight_decay * *p);
                    *p = *p - rate * *m;
                }
            }
            Self::Adadelta { rate, decay, epsilon } => {
                let (rate, rho, rest, epsilon) = (real(rate), real(decay), real(1.0 - decay), real(epsilon));
                for ((p, &g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s.iter_mut())) {
                    finite &= g.is_finite();
                    *s = rho * *s + rest * g * g;
                    let step = g * (*m + epsilon).sqrt() / (*s + epsilon).sqrt();
                    *m = rho * *m + rest * step * step;
                    *p = *p - rate * step;
                }
            }
        }
        finite
    }

    /// The same rule as tensor operations, for devices whose memory the host cannot reach; also the reference in tests.
    ///
    /// A rule without a second moment ignores `s` and returns it.
    pub fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, m: Tensor<1>, s: Tensor<1>) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        match *self {
            Self::Adam { rate, beta1, beta2, epsilon, root } => {
                let m = m.mul_scalar(beta1) + g.clone().mul_scalar(1.0 - beta1);
                let s = s.mul_scalar(beta2) + g.powi_scalar(2).mul_scalar(1.0 - beta2);
                (p - m.clone().mul_scalar(rate) / (s.clone().sqrt().mul_scalar(root) + epsilon), m, s)
            }
            Self::NormalisedAdam { rate, beta1, beta2, epsilon, weight_decay } => {
                let norm = g.clone().powi_scalar(2).sum().sqrt().add_scalar(NORM_FLOOR);
                let adjusted = g / norm + p.clone().mul_scalar(weight_decay);
                Self::Adam { rate, beta1, beta2, epsilon, root: 1.0 }.update_tensors(p, adjusted, m, s)
            }
            Self::AdaBelief { rate, beta1, beta2, epsilon, root_epsilon, scale } => {
                let surprise = g.clone() - m.clone();
                let m = m.mul_scalar(beta1) + g.mul_scalar(1.0 - beta1);
                let s = s.mul_scalar(beta2) + surprise.powi_scalar(2).mul_scalar(1.0 - beta2);
                (p - m.clone().mul_scalar(rate) / ((s.clone().mul_scalar(scale) + root_epsilon).sqrt() + epsilon), m, s)
            }
            Self::Sgd { rate, momentum, weight_decay } => {
                let m = m.mul_scalar(momentum) + g + p.clone().mul_scalar(weight_decay);
                (p - m.clone().mul_scalar(rate), m, s)
            }
            Self::Adadelta { rate, decay, epsilon } => {
                let s = s.mul_scalar(decay) + g.clone().powi_scalar(2).mul_scalar(1.0 - decay);
                let step = g * m.clone().add_scalar(epsilon).sqrt() / s.clone().add_scalar(epsilon).sqrt();
                let m = m.mul_scalar(decay) + step.clone().powi_scalar(2).mul_scalar(1.0 - decay);
                (p - step.mul_scalar(rate), m, s)
            }
        }
    }
}

/// Added to the norm of a gradient that is divided by it.
const NORM_FLOOR: f64 = 1e-7;

fn cast<T: Float>(x: f64) -> T {
    T::from(x).unwrap_or_else(T::zero)
}

/// 1 / (|g|_2 + 1e-7), accumulated in double precision.
fn inverse_norm<T: Float>(g: &[T]) -> f64 {
    let squares: f64 = g.iter().filter_map(num_traits::ToPrimitive::to_f64).map(|g| g * g).sum();
    1.0 / (squares.sqrt() + NORM_FLOOR)
}

/// a = decay a + (1 - decay) p.
pub(super) fn average_into<T: Float + Send + Sync>(a: &mut [T], p: &[T], decay: f64) {
    let chunk = PARALLEL_FROM / 4;
    if a.len() < PARALLEL_FROM {
        vectorised!(|| average_chunk(a, p, decay));
    } else {
        a.par_chunks_mut(chunk).zip(p.par_chunks(chunk)).for_each(|(a, p)| vectorised!(|| average_chunk(a, p, decay)));
    }
}

#[allow(clippy::inline_always)] // As above.
#[inline(always)]
fn average_chunk<T: Float>(a: &mut [T], p: &[T], decay: f64) {
    let real = |x: f64| T::from(x).unwrap_or_else(T::zero);
    let (keep, take) = (real(decay), real(1.0 - decay));
    for (a, &p) in a.iter_mut().zip(p) {
        *a = keep * *a + take * p;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimiser::{AdaBelief, Adadelta, Adam, AdamForm, AdamNormGrad, OptimiserConfig, Sgd};
    use burn::tensor::Device;

    #[test]
    fn the_one_pass_update_equals_the_tensor_formula() {
        let device = Device::flex();
        let rules: [Box<dyn OptimiserConfig>; 6] = [
            Box::new(AdamNormGrad { weight_decay: 0.1, ..AdamNormGrad::default() }),
            Box::new(Adam::default()),
            Box::new(Adam { form: AdamForm::Tensorflow, beta1: 0.5, ..Adam::default() }),
            Box::new(AdaBelief { epsilon: 1e-8, ..AdaBelief::default() }),
            Box::new(Sgd { momentum: 0.9, weight_decay: 0.01 }),
            Box::new(Adadelta::default()),
        ];
        for (odd, rule) in rules.iter().enumerate() {
            for n in [1, 7, PARALLEL_FROM + 13 + odd] {
                let mut p: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
                let (mut m, mut s) = (vec![0.0; n], vec![0.0; n]);
                let tensor = |v: &[f32]| Tensor::<1>::from_data(TensorData::new(v.to_vec(), [n]), &device);
                let (mut tp, mut tm, mut ts) = (tensor(&p), tensor(&m), tensor(&s));
                for step in 1..=3 {
                    let g: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7 + step as f32).cos()).collect();
                    let rule = rule.rule(step, 1e-2);
                    assert!(rule.update(&mut p, &g, &mut m, &mut s, None));
                    (tp, tm, ts) = rule.update_tensors(tp, tensor(&g), tm, ts);
                }
                let expected: Vec<f32> = tp.into_data().try_to_vec().unwrap();
                let worst = p.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-6, "n {n}: {worst}");
            }
        }
    }

    #[test]
    fn a_bad_gradient_is_reported_wherever_it_sits() {
        let n = PARALLEL_FROM + 5;
        for bad in [0, n / 2, n - 1] {
            let mut g = vec![0.1f32; n];
            g[bad] = f32::NAN;
            let (mut p, mut m, mut s) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
            assert!(!Adam::default().rule(1, 0.1).update(&mut p, &g, &mut m, &mut s, None));
        }
    }

    #[test]
    fn the_average_follows_the_new_parameter() {
        let (mut p, mut m, mut s, mut a) = ([1.0f64], [0.0], [0.0], [1.0]);
        Sgd::default().rule(1, 1.0).update(&mut p, &[0.5], &mut m, &mut s, Some((&mut a, 0.9)));
        assert!((p[0] - 0.5).abs() < 1e-12 && (a[0] - 0.95).abs() < 1e-12);
    }
}
