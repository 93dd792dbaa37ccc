//! Counter-based random streams: every draw is a function of (run seed, purpose, step), never of what was drawn before.

use std::collections::{BTreeMap, VecDeque};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use ibhost_kernels::noise as kernels;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution as _, StandardNormal};

/// Seed of a run; hands out independent streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// Streams of the run with `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream for `purpose` at `step`. Equal arguments give equal draws on every machine, thread and backend.
    pub fn stream(&self, purpose: &str, step: u64) -> Stream {
        let mut generator = ChaCha8Rng::from_seed(self.key(purpose));
        generator.set_stream(step);
        Stream { generator }
    }

    /// Key of the streams for `purpose`.
    fn key(self, purpose: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("ibhost noise stream, version 1");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// A reproducible sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    generator: ChaCha8Rng,
}

impl Stream {
    /// Uniform on `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform integer below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        // Multiply-shift keeps the bias below n / 2^64, far under anything a sample of this size can show.
        ((u128::from(self.generator.next_u64()) * n as u128) >> 64) as usize
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.generator)
    }

    /// Standard normal in single precision.
    pub fn normal_f32(&mut self) -> f32 {
        StandardNormal.sample(&mut self.generator)
    }

    /// Random order of `0..n` (Fisher-Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// Noise of one step as tensors. Objectives draw through this door only, so tests can pass recorded noise through it.
#[derive(Debug)]
pub struct Draws {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Seeded { noise: Noise, step: u64, scope: String, calls: BTreeMap<String, u32> },
    Recorded(BTreeMap<String, VecDeque<TensorData>>),
}

impl Draws {
    /// Fresh draws of `noise` for `step`; `scope` (e.g. `train/main`, `test`) keeps uses of one step apart.
    pub fn seeded(noise: Noise, step: u64, scope: &str) -> Self {
        Self { source: Source::Seeded { noise, step, scope: scope.to_owned(), calls: BTreeMap::new() } }
    }

    /// Recorded draws, handed out in order per purpose; when a purpose runs dry its last tensor is repeated.
    pub fn recorded(tensors: impl IntoIterator<Item = (String, TensorData)>) -> Self {
        let mut map: BTreeMap<String, VecDeque<TensorData>> = BTreeMap::new();
        for (purpose, data) in tensors {
            map.entry(purpose).or_default().push_back(data);
        }
        Self { source: Source::Recorded(map) }
    }

    /// Standard normal tensor of `shape` for `purpose` on `device`, in the device's own precision. Draws are the same on every machine,
    /// thread and backend up to rounding, but may change between versions of this program.
    pub fn normal<const D: usize>(&mut self, purpose: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
        self.draw(purpose, shape, device, kernels::normal_f32, kernels::normal_f64)
    }

    /// Uniform `[0, 1)` tensor of `shape` for `purpose` on `device`.
    pub fn uniform<const D: usize>(&mut self, purpose: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
        self.draw(purpose, shape, device, kernels::uniform_f32, kernels::uniform_f64)
    }

    /// Key and number of the stream for the next use of `purpose`.
    fn next_stream(&mut self, purpose: &str) -> ([u8; 32], u64) {
        match &mut self.source {
            Source::Seeded { noise, step, scope, calls } => {
                let call = calls.entry(purpose.to_owned()).or_insert(0);
                let key = noise.key(&format!("{scope}/{purpose}/{call}"));
                *call += 1;
                (key, *step)
            }
            Source::Recorded(_) => (Noise::new(0).key(purpose), 0),
        }
    }

    /// Random order of `0..n` for `purpose`; recorded draws give it as the numbers in their order.
    pub fn permutation(&mut self, purpose: &str, n: usize) -> Vec<usize> {
        if let Source::Recorded(map) = &mut self.source
            && let Some(data) = map.get_mut(purpose).and_then(VecDeque::pop_front)
        {
            return data.iter::<f64>().map(|x| x as usize).collect();
        }
        self.host(purpose).permutation(n)
    }

    /// The host stream for `purpose`, for draws that never become tensors (permutations, augmentation).
    pub fn host(&mut self, purpose: &str) -> Stream {
        let (key, step) = self.next_stream(purpose);
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(step);
        Stream { generator }
    }

    fn draw<const D: usize>(
        &mut self,
        purpose: &str,
        shape: [usize; D],
        device: &Device,
        single: fn(&[u8; 32], u64, &mut [f32]),
        double: fn(&[u8; 32], u64, &mut [f64]),
    ) -> Tensor<D> {
        if let Source::Recorded(map) = &mut self.source
            && let Some(queue) = map.get_mut(purpose)
        {
            let data = if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() };
            if let Some(data) = data {
                return Tensor::from_data(TensorData::new(data.iter::<f64>().collect::<Vec<_>>(), shape), device);
            }
        }
        let ((key, step), n) = (self.next_stream(purpose), shape.iter().product());
        if device.settings().float_dtype == FloatDType::F64 {
            let mut values = vec![0.0; n];
            double(&key, step, &mut values);
            return Tensor::from_data(TensorData::new(values, shape), device);
        }
        let mut values = vec![0.0; n];
        single(&key, step, &mut values);
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_give_equal_draws_and_any_difference_changes_them() {
        let draw = |seed, purpose: &str, step| {
            let mut s = Noise::new(seed).stream(purpose, step);
            [s.normal(), s.normal(), s.uniform()]
        };
        assert_eq!(draw(1, "posterior", 5), draw(1, "posterior", 5));
        assert_ne!(draw(1, "posterior", 5), draw(1, "posterior", 6));
        assert_ne!(draw(1, "posterior", 5), draw(2, "posterior", 5));
        assert_ne!(draw(1, "posterior", 5), draw(1, "prior", 5));
    }

    #[test]
    fn normal_draws_have_unit_moments() {
        let mut s = Noise::new(7).stream("moments", 0);
        let n = 200_000;
        let (mut sum, mut squares, mut fourth) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = s.normal();
            sum += x;
            squares += x * x;
            fourth += x.powi(4);
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01);
        assert!((squares / n - 1.0).abs() < 0.02);
        assert!((fourth / n - 3.0).abs() < 0.1);
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = Noise::new(3).stream("order", 1).permutation(1000);
        assert_ne!(order[..10], (0..10).collect::<Vec<_>>()[..]);
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn repeated_calls_of_a_purpose_differ_and_recorded_draws_are_handed_out_in_order() {
        let device = Device::flex();
        let mut draws = Draws::seeded(Noise::new(1), 3, "train");
        let a = draws.normal("posterior", [4], &device).into_data();
        let b = draws.normal("posterior", [4], &device).into_data();
        assert_ne!(a, b);
        let mut recorded = Draws::recorded([
            ("posterior".to_owned(), TensorData::from([1.0f32, 2.0])),
            ("posterior".to_owned(), TensorData::from([3.0f32, 4.0])),
        ]);
        let first: Vec<f32> = recorded.normal("posterior", [2], &device).into_data().try_to_vec().unwrap();
        let second: Vec<f32> = recorded.normal("posterior", [2], &device).into_data().try_to_vec().unwrap();
        assert_eq!((first, second), (vec![1.0, 2.0], vec![3.0, 4.0]));
        let mut recorded = Draws::recorded([("order".to_owned(), TensorData::from([2.0f32, 0.0, 1.0]))]);
        assert_eq!(recorded.permutation("order", 3), [2, 0, 1]);
        let mut order = draws.permutation("order", 50);
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
