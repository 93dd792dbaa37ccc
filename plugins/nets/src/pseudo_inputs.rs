//! Mixtures of normals as priors: log densities of weighted components, and learned pseudo-inputs whose posteriors are the components.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_framework::posterior::Posterior;
use ibhost_kernels::normal_mixture_log_density;

/// ln sum_k w_k N(x; mean_k, diag(scale_k^2)) in nats, `[batch]`: x `[batch, dim]`, components `[components, dim]`, log weights
/// `[components]` that need not be there when all are equal.
pub fn normal_mixture_log_prob(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>, log_weights: Option<Tensor<1>>) -> Tensor<1> {
    let components = mean.dims()[0];
    let equal = || Tensor::full([components], -(components as f64).ln(), (&mean.device(), mean.dtype()));
    let log_weights = log_weights.unwrap_or_else(equal);
    normal_mixture_log_density(x, mean, scale, log_weights)
}

/// Where learned pseudo-inputs start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// The first training samples, plus normal noise of this standard deviation.
    Data {
        /// Standard deviation.
        noise: f64,
    },
    /// Normal with this mean and standard deviation.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
}

/// Learned inputs u_k; the prior is the equal mixture of the posteriors q(z|u_k) (VampPrior, Tomczak and Welling 2018).
#[derive(Module, Debug)]
pub struct PseudoInputs {
    /// One row each, `[components, features]`.
    pub inputs: Param<Tensor<2>>,
}

impl PseudoInputs {
    /// `components` rows of `features` values. From data there are at most as many rows as training samples; without any it starts from a
    /// standard normal.
    pub fn new(components: usize, features: usize, start: Start, context: &BuildContext) -> Self {
        let inputs = match (start, context.examples()) {
            (Start::Data { noise }, Some(examples)) => {
                let rows = components.min(examples.len());
                let mut values = Vec::with_capacity(rows * features);
                examples.gather(&(0..rows).collect::<Vec<_>>(), &mut values);
                let jitter = context.normal([rows, features], 0.0, noise).val().into_data();
                let moved = values.iter().zip(jitter.iter::<f64>()).map(|(x, e)| f64::from(*x) + e).collect();
                context.given([rows, features], moved)
            }
            (Start::Data { .. }, None) => context.normal([components, features], 0.0, 1.0),
            (Start::Normal { mean, std }, _) => context.normal([components, features], mean, std),
        };
        Self { inputs }
    }

    /// The rows between 0 and 1, with no gradient outside.
    pub fn unit(&self) -> Tensor<2> {
        self.inputs.val().clamp(0.0, 1.0)
    }
}

/// ln of the equal mixture of `components` at `z` `[batch, latent]`, `[batch]`; nothing unless they are normal with diagonal covariances.
pub fn mixture_of_posteriors(z: Tensor<2>, components: &Posterior) -> Option<Tensor<1>> {
    let (mean, scale) = components.as_diagonal()?;
    Some(normal_mixture_log_prob(z, mean.clone(), scale.clone(), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::categorical::Relaxation;
    use ibhost_framework::density::normal_log_prob;

    #[test]
    fn one_component_is_a_normal_and_copies_change_nothing() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[0.3, -1.0], [2.0, 0.5]], &device);
        let (mean, scale) = (Tensor::<2>::from_floats([[0.1, 0.2]], &device), Tensor::<2>::from_floats([[0.5, 2.0]], &device));
        let one: Vec<f64> = normal_log_prob(x.clone(), mean.clone(), scale.clone()).into_data().iter::<f64>().collect();
        let twice = |t: &Tensor<2>| Tensor::cat(vec![t.clone(), t.clone()], 0);
        let two: Vec<f64> = normal_mixture_log_prob(x, twice(&mean), twice(&scale), None).into_data().iter::<f64>().collect();
        assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() < 1e-5), "{one:?} {two:?}");
    }

    #[test]
    fn weights_are_used() {
        let device = Device::flex();
        let t = |v: [[f32; 1]; 2]| Tensor::<2>::from_floats(v, &device);
        let weights = Tensor::<1>::from_floats([0.9f32.ln(), 0.1f32.ln()], &device);
        let x = Tensor::<2>::from_floats([[0.0]], &device);
        let p = normal_mixture_log_prob(x, t([[0.0], [50.0]]), t([[1.0], [1.0]]), Some(weights)).into_data().iter::<f64>().next().unwrap();
        let half_ln_2pi = 0.918_938_533_204_672_7;
        assert!((p - (0.9f64.ln() - half_ln_2pi)).abs() < 1e-5, "{p}");
    }

    #[test]
    fn only_diagonal_normals_are_components() {
        let device = Device::flex();
        let mean = Tensor::<2>::from_floats([[0.5, -1.0], [0.0, 2.0]], &device);
        let z = Tensor::<2>::from_floats([[0.1, 0.2]], &device);
        let scale = mean.full_like(0.5);
        let expected = normal_mixture_log_prob(z.clone(), mean.clone(), scale.clone(), None).into_data();
        let diagonal = Posterior::Diagonal { mean: mean.clone(), scale };
        assert_eq!(mixture_of_posteriors(z.clone(), &diagonal).unwrap().into_data(), expected);
        let cholesky = Tensor::<2>::eye(2, &device).reshape([1, 2, 2]).expand([2, 2, 2]);
        let relaxation = Relaxation { temperature: 0.5, hard: true };
        for other in [
            Posterior::Point { mean: mean.clone() },
            Posterior::Full { mean: mean.clone(), cholesky },
            Posterior::Categorical { logits: mean, relaxation },
        ] {
            assert!(mixture_of_posteriors(z.clone(), &other).is_none(), "{}", other.family());
        }
    }
}
