//! Heads of the top code and of the codes in between, from rows of features.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_framework::distributions::{BoxedDistribution, Categorical, Distribution, Normal, Relaxation};

use crate::layers::{dense_linear, dense_relu, positive};
use crate::size::TopCode;

/// How Gumbel-softmax codes are drawn outside of training: one-hot, at this temperature.
pub const EVALUATION: Relaxation = Relaxation { temperature: 0.4, hard: true };

/// Mean and standard deviation, or class scores, of the top code. Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct TopHeads {
    /// Mean of a normal code.
    pub qz_mu: Option<Linear>,
    /// Its standard deviation before softplus.
    pub qz_pre_sp: Option<Linear>,
    /// Logits of a categorical code.
    pub qz_logit: Option<Linear>,
    floor: f64,
}

impl TopHeads {
    /// Heads from `features` to a code of `z` numbers or classes.
    pub fn new(features: usize, z: usize, family: TopCode, floor: f64, context: &BuildContext) -> Self {
        let head = |wanted: TopCode| (family == wanted).then(|| context.torch_linear(features, z));
        Self {
            qz_mu: head(TopCode::DiagonalGaussian),
            qz_pre_sp: head(TopCode::DiagonalGaussian),
            qz_logit: head(TopCode::GumbelSoftmax),
            floor,
        }
    }

    /// q(z_top|x) from features `[batch, features]`.
    ///
    /// # Panics
    /// Never: one of the two kinds of heads is always there.
    pub fn posterior(&self, features: Tensor<2>) -> BoxedDistribution {
        match (&self.qz_mu, &self.qz_pre_sp, &self.qz_logit) {
            (Some(mean), Some(spread), _) => {
                Normal { mean: dense_linear(mean, features.clone()), scale: positive(dense_linear(spread, features), self.floor) }.boxed()
            }
            (_, _, Some(logits)) => Categorical { logits: dense_linear(logits, features), relaxation: EVALUATION }.boxed(),
            _ => unreachable!("built with heads of one kind"),
        }
    }
}

/// A normal code from a row: a dense layer of rectified linear units, then mean and standard deviation. Fields carry the names of the
/// published checkpoints.
#[derive(Module, Debug)]
pub struct RowPrior {
    /// The code above to features.
    pub py_l1: Linear,
    /// Mean.
    pub py_mu: Linear,
    /// Standard deviation before softplus.
    pub py_pre_sp: Linear,
    floor: f64,
}

impl RowPrior {
    /// From codes of `above` numbers through `hidden` units to codes of `below`.
    pub fn new(above: usize, hidden: usize, below: usize, floor: f64, context: &BuildContext) -> Self {
        Self {
            py_l1: context.torch_linear(above, hidden),
            py_mu: context.torch_linear(hidden, below),
            py_pre_sp: context.torch_linear(hidden, below),
            floor,
        }
    }

    /// p(z_below|z_above) for codes `[batch, above]`.
    pub fn forward(&self, above: Tensor<2>) -> BoxedDistribution {
        let features = dense_relu(&self.py_l1, above);
        Normal { mean: dense_linear(&self.py_mu, features.clone()), scale: positive(dense_linear(&self.py_pre_sp, features), self.floor) }
            .boxed()
    }
}
