//! The open part of an optimiser: what one update does to one parameter.

use std::fmt::Debug;

use burn::tensor::Tensor;
use ibhost_kernels::vectorised;
use num_traits::Float;
use rayon::prelude::*;

use super::average::average_chunk;

/// Elements below which splitting a pass over threads costs more than it saves.
pub(super) const PARALLEL_FROM: usize = 1 << 16;

/// A parameter in host memory with what belongs to it, all flat and of one length.
#[derive(Debug)]
pub struct HostParameter<'a, T> {
    /// Shape in the model, for rules that see rows or matrices.
    pub shape: &'a [usize],
    /// The values, changed in place.
    pub values: &'a mut [T],
    /// Gradient of the phase's loss.
    pub gradient: &'a [T],
    /// What the rule keeps of the parameter: [`Rule::buffers`] slices, zeros before the first update.
    pub buffers: Vec<&'a mut [T]>,
    /// Moving average of the values with its decay. A rule that takes it folds the new values in while they are in the cache
    /// (a = decay a + (1 - decay) p); one that leaves it here has that done afterwards.
    pub average: Option<(&'a mut [T], f64)>,
}

/// The update of one step with every constant worked out. It is called once a parameter, never once an element.
///
/// A rule that treats all elements alike is an [`Elementwise`] inside [`elementwise`], which brings threads, wide vectors and the moving average;
/// one that sees whole parameters (a norm, a matrix) implements this trait itself.
pub trait Rule: Debug + Send + Sync {
    /// How many numbers it keeps for each element between updates. They are part of a checkpoint, numbered from 1.
    fn buffers(&self) -> usize;

    /// Updates a parameter in single precision; whether its gradient was finite.
    fn update_f32(&self, parameter: &mut HostParameter<'_, f32>) -> bool;

    /// Updates a parameter in double precision; whether its gradient was finite.
    fn update_f64(&self, parameter: &mut HostParameter<'_, f64>) -> bool;

    /// The same as tensor operations, for devices whose memory the host cannot reach: the new values of a flat parameter that has `shape` in the
    /// model. `buffers` are replaced by the new ones.
    fn update_tensors(&self, parameter: Tensor<1>, gradient: Tensor<1>, shape: &[usize], buffers: &mut [Tensor<1>]) -> Tensor<1>;
}

/// A rule that treats every element alike and keeps `N` numbers of each.
pub trait Elementwise<const N: usize>: Debug + Send + Sync {
    /// Updates `values` and `buffers` by `gradient`, slices of one length; whether the gradient was finite. Mark the implementation
    /// `#[inline(always)]`: only what is inlined is compiled for wide vectors.
    fn update<T: Float>(&self, values: &mut [T], gradient: &[T], buffers: [&mut [T]; N]) -> bool;

    /// The same as tensor operations: new values and new buffers.
    fn update_tensors(&self, values: Tensor<1>, gradient: Tensor<1>, buffers: [Tensor<1>; N]) -> (Tensor<1>, [Tensor<1>; N]);
}

/// `rule` for whole parameters: one pass over memory, on several threads where that pays.
pub fn elementwise<R: Elementwise<N> + 'static, const N: usize>(rule: R) -> Box<dyn Rule> {
    Box::new(Each::<R, N>(rule))
}

/// `x` in the precision of the parameter.
#[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
#[inline(always)]
pub fn real<T: Float>(x: f64) -> T {
    T::from(x).unwrap_or_else(T::zero)
}

#[derive(Debug)]
struct Each<R, const N: usize>(R);

impl<R: Elementwise<N>, const N: usize> Each<R, N> {
    fn pass<T: Float + Send + Sync>(&self, parameter: &mut HostParameter<'_, T>) -> bool {
        let HostParameter { values, gradient, buffers, average, .. } = parameter;
        assert_eq!(buffers.len(), N, "a rule finds the buffers it asked for");
        let mut kept = std::mem::take(buffers).into_iter();
        let buffers: [&mut [T]; N] = std::array::from_fn(|_| kept.next().unwrap_or_default());
        let (n, average) = (values.len(), average.take());
        if n < PARALLEL_FROM {
            return vectorised!(|| chunk(&self.0, values, gradient, buffers, average));
        }
        let size = n.div_ceil(rayon::current_num_threads() * 4).max(1 << 14);
        let mut buffers = buffers.map(|buffer| buffer.chunks_mut(size));
        let mut averages = average.map(|(average, decay)| (average.chunks_mut(size), decay));
        let part = |(p, g)| {
            let buffers: [&mut [T]; N] = std::array::from_fn(|at| buffers[at].next().unwrap_or_default());
            (p, g, buffers, averages.as_mut().and_then(|(chunks, decay)| Some((chunks.next()?, *decay))))
        };
        let parts: Vec<_> = values.chunks_mut(size).zip(gradient.chunks(size)).map(part).collect();
        let finite = parts.into_par_iter().map(|(p, g, buffers, average)| vectorised!(|| chunk(&self.0, p, g, buffers, average)));
        finite.reduce(|| true, |a, b| a & b)
    }
}

impl<R: Elementwise<N>, const N: usize> Rule for Each<R, N> {
    fn buffers(&self) -> usize {
        N
    }

    fn update_f32(&self, parameter: &mut HostParameter<'_, f32>) -> bool {
        self.pass(parameter)
    }

    fn update_f64(&self, parameter: &mut HostParameter<'_, f64>) -> bool {
        self.pass(parameter)
    }

    fn update_tensors(&self, parameter: Tensor<1>, gradient: Tensor<1>, _shape: &[usize], buffers: &mut [Tensor<1>]) -> Tensor<1> {
        assert_eq!(buffers.len(), N, "a rule finds the buffers it asked for");
        let (values, new) = self.0.update_tensors(parameter, gradient, std::array::from_fn(|at| buffers[at].clone()));
        for (buffer, new) in buffers.iter_mut().zip(new) {
            *buffer = new;
        }
        values
    }
}

#[allow(clippy::inline_always)] // As above.
#[inline(always)]
fn chunk<R: Elementwise<N>, T: Float, const N: usize>(
    rule: &R,
    p: &mut [T],
    g: &[T],
    mut buffers: [&mut [T]; N],
    average: Option<(&mut [T], f64)>,
) -> bool {
    /// Elements after which the average follows, while they are in the first-level cache.
    const BLOCK: usize = 2048;
    let Some((a, decay)) = average else { return rule.update(p, g, buffers) };
    let mut finite = true;
    for start in (0..p.len()).step_by(BLOCK) {
        let block = start..p.len().min(start + BLOCK);
        let now = buffers.each_mut().map(|buffer| &mut buffer[block.clone()]);
        finite &= rule.update(&mut p[block.clone()], &g[block.clone()], now);
        average_chunk(&mut a[block.clone()], &p[block], decay);
    }
    finite
}
