//! Objectives: how networks combine into losses, which quantities they report and which capabilities their models offer.

use std::any::Any;
use std::borrow::Cow;

use burn::tensor::{Int, Tensor, Transaction};
use serde::{Deserialize, Serialize};

use crate::build::{BuildContext, BuildError};
use crate::component::Configured;
use crate::dataset::{Batch, DataInfo};
use crate::decoder::DecoderConfig;
use crate::distributions::BoxedDistribution;
use crate::encoder::EncoderConfig;
use crate::module::{Erased, ErasedModule};
use crate::noise::Draws;
use crate::plan::{MAIN, Plan};
use crate::run::config::RunConfig;

pub use crate::plan::ParameterGroup;

/// Module kind of boxed objectives.
#[derive(Clone, Copy, Debug)]
pub struct ObjectiveKind;

/// Batch mean of one reported quantity, a scalar tensor that stays on the device until it is logged.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Name of the [`Quantity`].
    pub name: Cow<'static, str>,
    /// Mean over the batch, `[1]`.
    pub value: Tensor<1>,
}

impl Measure {
    /// A named batch mean.
    pub fn new(name: impl Into<Cow<'static, str>>, value: Tensor<1>) -> Self {
        Self { name: name.into(), value: value.detach() }
    }
}

/// Scalar to differentiate and the quantities seen on the way.
#[derive(Debug)]
pub struct Loss {
    /// What the optimisers minimise, `[1]`.
    pub total: Tensor<1>,
    /// Batch means to log.
    pub measures: Vec<Measure>,
}

/// Whether smaller or larger values of a quantity are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller is better.
    Minimise,
    /// Larger is better.
    Maximise,
    /// Neither.
    Neutral,
}

/// Description of a reported quantity: every number has a unit, a reduction and a sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    /// Name in summaries and logs, e.g. `izx_bits`.
    pub name: String,
    /// TensorBoard tag, the original implementation's where there is one.
    pub tag: String,
    /// `bits`, `nats`, `share`, `1` for a plain number ...
    pub unit: &'static str,
    /// How it is averaged and what its sign means.
    pub meaning: String,
    /// Which way is better.
    pub direction: Direction,
    /// Whether an infinite mean is a result, such as an upper bound that bounds nothing; elsewhere it ends the run, as NaN always does.
    pub may_be_infinite: bool,
}

impl Quantity {
    /// A quantity whose TensorBoard tag is its name.
    pub fn new(name: impl Into<String>, unit: &'static str, meaning: impl Into<String>, direction: Direction) -> Self {
        let name = name.into();
        Self { tag: name.clone(), name, unit, meaning: meaning.into(), direction, may_be_infinite: false }
    }

    /// The same under the TensorBoard tag of the original implementation.
    #[must_use]
    pub fn tagged(self, tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), ..self }
    }

    /// The same, whose mean may be infinite without ending the run.
    #[must_use]
    pub fn possibly_infinite(self) -> Self {
        Self { may_be_infinite: true, ..self }
    }
}

/// Where training stands when a loss is taken, or an evaluation made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pass over the training split, from 1.
    pub epoch: u64,
    /// Steps done before: this one is not among them; at an evaluation, all steps so far.
    pub step: u64,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Epochs the run is to have.
    pub epochs: u64,
}

impl Progress {
    /// Step `step` of a run whose epochs last one step each, in epoch `epoch`.
    pub fn at(epoch: u64, step: u64) -> Self {
        Self { epoch, step, steps_per_epoch: 1, epochs: epoch }
    }

    /// Epoch, from 1, of the step before this one; 0 for the first step.
    pub fn epoch_before(&self) -> u64 {
        if self.step == 0 { 0 } else { (self.step - 1) / self.steps_per_epoch.max(1) + 1 }
    }
}

/// A trainable model together with its losses. Implement it for a type that derives burn's `Module`. What else it can do it offers where it is
/// registered, see [`Capability`](crate::capability::Capability).
pub trait Objective: ErasedModule<ObjectiveKind> + Any {
    /// Groups that strategies may move separately; the first is the encoder by convention.
    fn groups(&self) -> Vec<ParameterGroup> {
        vec![ParameterGroup::field("encoder"), ParameterGroup::field("decoder")]
    }

    /// Phases of the objective's own (several losses, alternation, warm-up), taken when no strategy is chosen; `None` leaves the order to
    /// the strategy, with the one loss [`MAIN`](crate::plan::MAIN).
    fn plan(&self) -> Option<Plan> {
        None
    }

    /// Names of the losses it has; a plan with a phase of another name is refused.
    fn phases(&self) -> Vec<&'static str> {
        vec![MAIN]
    }

    /// The loss called `phase` (see [`crate::plan::Phase`]) on a training batch, where training stands at `at`.
    fn loss(&self, phase: &str, at: Progress, batch: &Batch, draws: &mut Draws) -> Loss;

    /// Quantities that need the weights after the update of this batch; empty for most objectives.
    fn after_update(&self, _batch: &Batch, _draws: &mut Draws) -> Vec<Measure> {
        Vec::new()
    }

    /// Computes once what all batches of an evaluation share; called on a new evaluation copy, whose weights stay as they are.
    fn prepare_evaluation(&mut self) {}

    /// Batch means of every quantity on held-out data; called on the evaluation copy, without autodiff. `at` is where training stands: a weight
    /// that changes while training has the same value here as in the last loss before.
    fn evaluate(&self, at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure>;

    /// Name that the parameter at `path` has in files of the original implementation, whose dense weights are `[out, in]`; nothing for
    /// parameters the original does not have.
    fn published_name(&self, _path: &str) -> Option<String> {
        None
    }
}

crate::erase_modules!(ObjectiveKind, Objective);

/// A boxed objective that is a burn module.
pub type BoxedObjective = Erased<ObjectiveKind>;

/// Capability `classify`.
pub trait Classifier {
    /// ln of the class probabilities averaged over `samples` draws of the code; inputs `[batch, channels, height, width]`,
    /// result `[batch, classes]` in nats.
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2>;

    /// Class scores `[batch, classes]` of one draw of the code, whose softmax gives the class probabilities. Where the model has no scores
    /// before the softmax to show, the ln probabilities are such scores too.
    fn logits(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2> {
        self.class_log_probabilities(inputs, 1, draws)
    }
}

/// Capability `restyle`: a code of everything the class does not explain, and inputs rebuilt from such a code and any class.
pub trait StyleModel {
    /// Distribution of the style code of inputs `[batch, channels, height, width]`.
    fn style(&self, inputs: Tensor<4>) -> BoxedDistribution;

    /// Inputs `[codes, channels, height, width]` from style codes `[codes, latent]` and class numbers `[codes]`: the decoder's means, no draws.
    fn restyle(&self, styles: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<4>;
}

/// Capability `encode`.
pub trait PosteriorModel {
    /// q(z|x) for inputs `[batch, channels, height, width]`. A hierarchical code has all levels side by side here, by mean and deviation of
    /// every dimension, those above each at their means.
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution;

    /// The same by levels, bottom first, each as the distribution that it is; one for a plain code.
    fn level_posteriors(&self, inputs: Tensor<4>) -> Vec<BoxedDistribution> {
        vec![self.posterior(inputs)]
    }
}

/// Defaults of training that come with an objective; every one can be overridden by configuration or flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Decoder component string.
    pub decoder: &'static str,
    /// Optimiser component string.
    pub optimiser: &'static str,
    /// Learning-rate schedule component string.
    pub schedule: &'static str,
    /// Strategy component string.
    pub strategy: &'static str,
    /// Base learning rate.
    pub learning_rate: f64,
    /// Passes over the training split.
    pub epochs: usize,
    /// Samples a step.
    pub batch_size: usize,
    /// Decay of the moving average of the weights, if one is kept.
    pub average: Option<f64>,
}

/// What an objective is built from.
pub struct Parts<'a> {
    /// Encoder configuration.
    pub encoder: &'a dyn EncoderConfig,
    /// Decoder configuration.
    pub decoder: &'a dyn DecoderConfig,
    /// Data set it will be trained on.
    pub data: &'a DataInfo,
    /// Device and seed.
    pub context: &'a BuildContext,
}

/// Configuration of an objective, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait ObjectiveConfig: Configured + Send + Sync {
    /// Builds the networks and the objective around them.
    ///
    /// # Errors
    /// [`BuildError`] when a part does not fit.
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError>;

    /// Whether this configuration can be part of `run`, asked before a new run begins: what its own fields, or those of the run, must be to each
    /// other. What is wrong is said as what stands after the component's name, e.g. "has a warm-up longer than the run".
    ///
    /// # Errors
    /// What is wrong, with a hint on a line of its own.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }

    /// Training defaults.
    fn recipe(&self) -> Recipe;

    /// Every quantity the objective reports.
    fn quantities(&self) -> Vec<Quantity>;
}

/// Message of the event at level trace whenever measures are read.
pub const READ_BACK: &str = "measures are read to the host";

/// Reads scalar measures to the host in one transaction.
pub fn read_measures(measures: Vec<Measure>) -> Vec<(String, f64)> {
    let mut transaction = Transaction::default();
    let mut names = Vec::with_capacity(measures.len());
    for measure in measures {
        names.push(measure.name.into_owned());
        transaction = transaction.register(measure.value);
    }
    tracing::trace!("{READ_BACK}");
    let data = transaction.execute();
    names.into_iter().zip(data.iter().map(|d| d.iter::<f64>().next().unwrap_or(f64::NAN))).collect()
}
