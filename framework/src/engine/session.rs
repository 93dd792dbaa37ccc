//! A run made ready: components built from their configuration, data loaded, counters at zero.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use super::accumulate::Accumulator;
use super::error::EngineError;
use super::watch::Watch;
use crate::build::BuildContext;
use crate::dataset::{Batch, DataInfo, DataRoot, Dataset, Samples, Split};
use crate::decoder::DecoderConfig;
use crate::device;
use crate::encoder::EncoderConfig;
use crate::finished::DataLibrary;
use crate::identity::{DataIdentity, Identity, Program};
use crate::module::Erased;
use crate::noise::Noise;
use crate::objective::{BoxedObjective, Direction, ObjectiveConfig, Parts, Progress, Quantity};
use crate::optimiser::{OptimiserConfig, OptimiserState, WeightAverage, is_host};
use crate::parameters;
use crate::plan::{Cadence, Phase, Plan, coverage};
use crate::room::{self, NoRoom};
use crate::run::RunConfig;
use crate::schedule::ScheduleConfig;
use crate::storage::Metrics;
use crate::strategy::StrategyConfig;

/// Name of the span around gathering a training batch.
pub const BATCH: &str = "batch";

/// Everything that stays the same throughout a run.
pub struct Session {
    /// Resolved configuration.
    pub config: RunConfig,
    /// Device without autodiff.
    pub device: Device,
    /// Random streams of the run.
    pub noise: Noise,
    /// Loaded data set.
    pub data: Arc<dyn Dataset>,
    /// What was loaded.
    pub loaded: DataIdentity,
    /// Training samples in use.
    pub train: Samples,
    /// Optimisers and phases.
    pub plan: Plan,
    /// Paths of what was built to stay as it is (`.no_grad()`) and of running statistics: no phase moves these, whatever its groups name.
    pub fixed: BTreeSet<String>,
    /// Update rule.
    pub optimiser: Box<dyn OptimiserConfig>,
    /// Learning-rate schedule.
    pub schedule: Box<dyn ScheduleConfig>,
    /// Quantities the objective reports.
    pub quantities: Vec<Quantity>,
}

/// Everything that changes while training.
pub struct State {
    /// The model on the training device.
    pub model: BoxedObjective,
    /// One state per optimiser of the plan.
    pub optimisers: Vec<OptimiserState>,
    /// Moving average of the weights.
    pub average: Option<WeightAverage>,
    /// Steps done.
    pub step: u64,
    /// Seconds spent so far, over all interruptions.
    pub elapsed_s: f64,
    /// Running means of the current epoch.
    pub sums: Accumulator,
    /// Watched metric.
    pub watch: Watch,
    /// Latest metrics on the training split, on the test split, and there with averaged weights.
    pub latest: [Option<Metrics>; 3],
}

impl Session {
    /// Loads the data and builds the model, for training.
    ///
    /// # Errors
    /// [`EngineError`] naming the part that does not work, or what training takes when that is more memory than there is.
    pub fn open(config: RunConfig, root: &DataRoot) -> Result<(Self, State), EngineError> {
        Self::open_for(config, &DataLibrary::new(root.clone()), true)
    }

    /// The same with data of a library, and for training only where `training` is set.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(config: RunConfig, library: &DataLibrary) -> Result<(Self, State), EngineError> {
        Self::open_for(config, library, true)
    }

    /// The same without the memory that training needs beyond the weights.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_untrained(config: RunConfig, library: &DataLibrary) -> Result<(Self, State), EngineError> {
        Self::open_for(config, library, false)
    }

    fn open_for(config: RunConfig, library: &DataLibrary, training: bool) -> Result<(Self, State), EngineError> {
        let device = device::parse(&config.training.device)?;
        let read = library.get(&config.dataset, config.training.seed)?;
        let data = Arc::clone(&read.data);
        let objective = config.objective.build::<dyn ObjectiveConfig>()?;
        let encoder = config.encoder.build::<dyn EncoderConfig>()?;
        let decoder = config.decoder.build::<dyn DecoderConfig>()?;
        if let Some(support) = decoder.support() {
            for (split, samples) in [("training", data.split(Split::Train)), ("test", data.split(Split::Test))] {
                check_support(
                    &config.decoder.to_string(),
                    &format!("{split} split of `{}`", config.dataset),
                    samples.value_range(),
                    support,
                )?;
            }
        }
        let strategy = config.strategy.build::<dyn StrategyConfig>()?;
        let schedule = config.schedule.build::<dyn ScheduleConfig>()?;
        let train = match config.training.limit_train {
            None => data.split(Split::Train).clone(),
            Some(limit) => {
                let all = data.split(Split::Train);
                all.select(&(0..limit.min(all.len())).collect::<Vec<_>>())?
            }
        };
        for (split, samples) in [("training", &train), ("test", data.split(Split::Test))] {
            if samples.is_empty() {
                return Err(EngineError::Request(format!("the {split} split of `{}` holds no sample", config.dataset)));
            }
        }
        let loaded = read.identity().clone();
        let context = BuildContext::new(device.clone().autodiff(), config.training.seed)
            .with_examples(train.clone())
            .with_density(data.known_density());
        let info = DataInfo { class_entropy: Some(train.class_entropy()), ..data.info().clone() };
        let optimiser = config.optimiser.build::<dyn OptimiserConfig>()?;
        if is_host(&device) {
            let counted = |build: &dyn Fn(&BuildContext) -> bool| {
                let counting = BuildContext::new(device.clone(), config.training.seed).counting();
                build(&counting).then(|| counting.counted())
            };
            // What does not fit together is refused below, by the objective in its own words.
            let latents = encoder.latents_for(info.shape);
            let encoding = counted(&|context| encoder.build(info.shape, context).is_ok());
            let targets = decoder.targets().iter().map(|target| target.of(&info));
            let decoding = targets.filter_map(|target| counted(&|context| decoder.build(&latents, target, context).is_ok())).min();
            let parameters = encoding.unwrap_or(0).saturating_add(decoding.unwrap_or(0));
            let kept = optimiser.rule(1, config.training.lr).buffers();
            let copies = if training { 2 + kept + usize::from(config.training.average.is_some()) } else { 1 };
            check_room(parameters, copies)?;
        }
        let parts = Parts { encoder: &*encoder, decoder: &*decoder, data: &info, context: &context };
        let model: BoxedObjective = Erased::new(objective.build(&parts)?);
        let quantities = objective.quantities();
        let plan = match model.plan() {
            None => strategy.plan(&model.groups()),
            Some(plan) if strategy.leaves_order_to_the_objective() => plan,
            Some(_) => {
                return Err(EngineError::Request(format!(
                    "objective `{}` has phases of its own, so strategy `{}` cannot order them\n  hint: leave `--strategy` out",
                    config.objective, config.strategy
                )));
            }
        };
        if training {
            let names: Vec<&str> = quantities.iter().map(|quantity| quantity.name.as_str()).collect();
            coverage::check_names(&plan, &model.phases(), &names)
                .and_then(|()| coverage::check(&plan, &model))
                .map_err(|problem| EngineError::Request(format!("objective `{}` cannot be trained: {problem}", config.objective.name)))?;
        }
        let fixed = parameters::fixed(&model);
        let average = config.training.average.map(|decay| WeightAverage { decay, weights: parameters::average_buffers(&model) });
        let watch = Watch::new(&config.training.watch, watched_direction(&config.training.watch, &quantities)?);
        let noise = Noise::new(config.training.seed);
        let session = Self { config, device, noise, data, loaded, train, plan, fixed, optimiser, schedule, quantities };
        if training {
            session.warn_of_idle_optimisers();
        }
        let optimisers = session.plan.optimisers.iter().map(|_| OptimiserState::default()).collect();
        let state =
            State { model, optimisers, average, step: 0, elapsed_s: 0.0, sums: Accumulator::new(), watch, latest: [None, None, None] };
        Ok((session, state))
    }

    /// Identity of the run in this process, which is `program`.
    pub fn identity(&self, program: &Program) -> Identity {
        Identity::new(self.loaded.clone(), program, &self.config)
    }

    /// The training samples at `indices` on the training device, augmented where the data set asks for it with noise that `purpose` keeps
    /// apart from the other batches of the same `step`.
    ///
    /// # Errors
    /// [`EngineError`] when the data set cannot make the samples of this step, or makes another number of them.
    pub fn training_batch(&self, indices: &[usize], step: u64, purpose: &str) -> Result<Batch, EngineError> {
        let _span = tracing::trace_span!(BATCH).entered();
        let device = self.device.clone().autodiff();
        if let Some(fresh) = self.data.fresh_batch(indices, &mut self.noise.stream(&format!("fresh samples/{purpose}"), step))? {
            if fresh.len() != indices.len() {
                return Err(EngineError::Request(format!(
                    "data set `{}` made {} samples for step {} instead of {}",
                    self.config.dataset,
                    fresh.len(),
                    step + 1,
                    indices.len()
                )));
            }
            return Ok(fresh.batch(&(0..fresh.len()).collect::<Vec<_>>(), &device));
        }
        Ok(match self.data.augmentation() {
            None => self.train.batch(indices, &device),
            Some(augmentation) => {
                let mut stream = self.noise.stream(&format!("augmentation/{purpose}"), step);
                self.train.batch_with(indices, &device, |values| augmentation.apply(values, self.train.shape(), &mut stream))
            }
        })
    }

    /// Steps an epoch takes, the last one possibly with a short batch unless short batches are dropped.
    pub fn batches_per_epoch(&self) -> u64 {
        let (samples, training) = (self.train.len(), &self.config.training);
        if training.drop_last { (samples / training.batch_size).max(1) as u64 } else { samples.div_ceil(training.batch_size) as u64 }
    }

    /// Where training stands in `epoch` (from 1) after `step` steps.
    pub fn progress(&self, epoch: u64, step: u64) -> Progress {
        Progress { epoch, step, steps_per_epoch: self.batches_per_epoch(), epochs: self.config.training.epochs }
    }

    /// Steps the whole run takes.
    pub fn total_steps(&self) -> u64 {
        let training = &self.config.training;
        training.steps.unwrap_or_else(|| training.epochs.saturating_mul(self.batches_per_epoch()))
    }

    /// Says which parts of the model this run is too short to move, or was asked not to.
    fn warn_of_idle_optimisers(&self) {
        let (steps, batches) = (self.total_steps(), self.batches_per_epoch());
        for (index, slot) in self.plan.optimisers.iter().enumerate() {
            let moves = |phase: &Phase| {
                let happens = |cadence: Cadence| cadence.count_before(steps, batches) > 0;
                phase.repeats > 0 && happens(phase.when) && phase.updates.iter().any(|&(at, cadence)| at == index && happens(cadence))
            };
            if !self.plan.phases.iter().any(moves) {
                let groups = slot.groups.iter().map(|group| format!("`{}`", group.name)).collect::<Vec<_>>().join(", ");
                tracing::warn!(
                    "optimiser `{}` moves in none of the {steps} steps of this run: the parameters of {groups} stay as they were drawn",
                    slot.name
                );
            }
        }
    }

    /// Number of trainable scalars of `state`'s model.
    pub fn parameter_count(state: &State) -> u64 {
        let mut count = 0;
        parameters::for_each(&state.model, |seen| {
            if seen.trainable {
                count += seen.flat.dims()[0] as u64;
            }
        });
        count
    }

    /// Evaluation copy of the model, with the averaged weights if asked for and kept.
    pub fn evaluation_model(state: &State, averaged: bool) -> BoxedObjective {
        let model = state.model.valid();
        let mut model = match (&state.average, averaged) {
            (Some(average), true) => parameters::with_average(model, &average.weights),
            _ => model,
        };
        model.prepare_evaluation();
        model
    }
}

/// Refuses an encoder and a decoder of `parameters` scalars together when `copies` numbers for each (the weight; in training its gradient, the
/// optimiser's buffers and the average too) exceed the free memory. It is the least that a run takes: networks of the objective's own and
/// what a batch takes on its way are not foreseen.
fn check_room(parameters: u64, copies: usize) -> Result<(), NoRoom> {
    let what = format!(
        "encoder and decoder with {parameters} parameters and {copies} numbers for each (weights, gradients, state of the optimiser)"
    );
    let bytes = parameters.saturating_mul(size_of::<f32>() as u64);
    room::check(what, bytes, &[copies], "choose narrower or fewer layers, or a machine with more memory")
}

/// Refuses data that the decoder's likelihood is not defined for; the comparison is written so that NaN is refused too.
fn check_support(decoder: &str, data: &str, range: (f32, f32), support: [f32; 2]) -> Result<(), EngineError> {
    if range.0 >= support[0] && range.1 <= support[1] {
        return Ok(());
    }
    Err(EngineError::Request(format!(
        "the likelihood of decoder `{decoder}` is defined for values from {} to {}, but the {data} has values from {} to {}\n  \
         hint: scale the data (`scale:unit` gives 0 to 1), or choose a decoder whose likelihood covers such values",
        support[0], support[1], range.0, range.1
    )))
}

fn watched_direction(watch: &str, quantities: &[Quantity]) -> Result<Direction, EngineError> {
    let name = watch.split_once('.').map_or(watch, |(_, name)| name);
    match quantities.iter().find(|q| q.name == name).map(|q| q.direction) {
        Some(Direction::Neutral) => Err(EngineError::Request(format!(
            "`watch` is `{watch}`, of which neither small nor large values are better; watch another quantity"
        ))),
        Some(direction) => Ok(direction),
        None => {
            let names: Vec<&str> = quantities.iter().filter(|q| q.direction != Direction::Neutral).map(|q| q.name.as_str()).collect();
            Err(EngineError::Request(format!("`watch` is `{watch}`, but the objective reports {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_outside_of_a_likelihood_are_refused_with_both_ranges() {
        let check = |range| check_support("bernoulli", "test split of `mnist`", range, [0.0, 1.0]);
        assert!(check((0.0, 1.0)).is_ok() && check((0.25, 0.5)).is_ok());
        let error = check((-1.0, 1.0)).unwrap_err().to_string();
        assert!(error.contains("`bernoulli`") && error.contains("from 0 to 1") && error.contains("from -1 to 1"), "{error}");
        assert!(check((0.0, 1.5)).is_err() && check((f32::NAN, 0.5)).is_err() && check((0.0, f32::INFINITY)).is_err());
    }
}
