//! Learned pseudo-inputs, whose posteriors are the components of a prior.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;

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
