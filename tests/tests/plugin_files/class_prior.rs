//! What a crate outside of the workspace brings without an edit in the framework: a likelihood (Poisson), a prior (a learned one for each
//! class), and a capability with its analysis. The test `plugin` puts this file into a fresh plug-in and builds it.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::dataset::Batch;
use ibhost_framework::decoder::{BoxedDecoder, Decoder, DecoderConfig, Target, TargetKind, joined};
use ibhost_framework::distributions::{
    BoxedDistribution, Distribution, Normal, NormalComponents, Support, Undefined, kl, one_sample,
};
use ibhost_framework::encoder::BoxedEncoder;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest count whose factorial is known.
const LARGEST: usize = 64;

/// Independent Poisson variables, in units of `1 / levels`.
#[derive(Clone, Debug)]
pub struct Poisson {
    /// ln of the rate, `[batch, features]`.
    pub log_rate: Tensor<2>,
    /// Counts in a value of 1.
    pub levels: f64,
}

impl Distribution for Poisson {
    fn family(&self) -> &'static str {
        "Poisson"
    }
    fn dims(&self) -> [usize; 2] {
        self.log_rate.dims()
    }
    fn device(&self) -> Device {
        self.log_rate.device()
    }
    fn support(&self) -> Support {
        Support::Counts
    }
    fn mean(&self) -> Tensor<2> {
        self.log_rate.clone().exp().div_scalar(self.levels)
    }
    /// x ln rate - rate - ln x!.
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let counts = x.mul_scalar(self.levels).round();
        let [batch, _] = counts.dims();
        let term = |sum: Tensor<2>, k: usize| sum + counts.clone().greater_equal_elem(k as f64).float().mul_scalar((k as f64).ln());
        let factorials = (2..=LARGEST).fold(counts.zeros_like(), term);
        Ok((counts.clone() * self.log_rate.clone() - self.log_rate.clone().exp() - factorials).sum_dim(1).reshape([batch]))
    }
    /// Events of a unit of time (Knuth's method).
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let mut stream = draws.host(purpose);
        let count = |log_rate: f64| {
            let (limit, mut product, mut count) = ((-log_rate.exp()).exp(), stream.uniform(), 0);
            while product > limit && count < LARGEST {
                product *= stream.uniform();
                count += 1;
            }
            (count as f64 / self.levels) as f32
        };
        let values: Vec<f32> = self.log_rate.clone().into_data().iter::<f64>().map(count).collect();
        Tensor::<1>::from_floats(values.as_slice(), &self.device()).reshape(self.dims())
    }
}

/// One dense layer to Poisson variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoissonLinearConfig {
    /// Counts in a value of 1.
    #[schemars(range(min = 1.0, max = 64.0))]
    pub levels: f64,
}

impl Default for PoissonLinearConfig {
    fn default() -> Self {
        Self { levels: 16.0 }
    }
}

/// The layer of [`PoissonLinearConfig`].
#[derive(Module, Debug)]
pub struct PoissonLinear {
    dense: Linear,
    levels: f64,
}

impl Decoder for PoissonLinear {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        Poisson { log_rate: self.dense.forward(joined(codes)), levels: self.levels }.boxed()
    }
}

#[typetag::serde(name = "poisson_linear")]
impl DecoderConfig for PoissonLinearConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        Some([0.0, (LARGEST as f64 / self.levels) as f32])
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        Ok(Box::new(PoissonLinear { dense: context.torch_linear(latents.iter().sum(), target.size()), levels: self.levels }))
    }
}

ibhost_framework::register! { Decoder: PoissonLinearConfig as DecoderConfig, paper: "", example: "poisson_linear/levels:16" }

/// Variational auto-encoder whose prior is a normal around the learned centre of each class.
///
/// loss = mean over inputs of -ln p(x|z) + KL(q(z|x) || N(centre of y, I)), in nats; codes of no class come from all classes alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassPriorConfig {}

/// The model of [`ClassPriorConfig`].
#[derive(Module, Debug)]
pub struct ClassPrior {
    encoder: BoxedEncoder,
    decoder: BoxedDecoder,
    centres: Param<Tensor<2>>,
    #[module(skip)]
    shape: [usize; 3],
}

impl ClassPrior {
    fn measured(&self, batch: &Batch, draws: &mut Draws) -> Result<Loss, Undefined> {
        let (inputs, mean) = (batch.inputs.clone(), self.centres.val().select(0, batch.labels.clone()));
        let q = self.encoder.encode(inputs.clone());
        let z = one_sample(&*q, draws.normal("posterior", mean.dims(), &q.device()))?;
        let rate = kl(&*q, &Normal { scale: mean.ones_like(), mean })?.mean();
        let distortion = self.decoder.decode(&[z], None).log_prob(self.observed(inputs))?.mean().neg();
        let total = distortion.clone() + rate.clone();
        let measures =
            [("loss", &total), ("distortion", &distortion), ("rate", &rate)].map(|(name, x)| Measure::new(name, x.clone())).to_vec();
        Ok(Loss { total, measures })
    }

    /// # Panics
    /// Never: a batch was measured when the objective was built.
    fn checked(&self, batch: &Batch, draws: &mut Draws) -> Loss {
        self.measured(batch, draws).unwrap_or_else(|error| unreachable!("checked when the objective was built: {error}"))
    }
}

impl Objective for ClassPrior {
    fn groups(&self) -> Vec<ParameterGroup> {
        ["encoder", "decoder", "centres"].map(ParameterGroup::field).to_vec()
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        self.checked(batch, draws)
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        self.checked(batch, draws).measures
    }
}

impl PosteriorModel for ClassPrior {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.encoder.encode(inputs)
    }
}

impl LatentModel for ClassPrior {
    fn level_sizes(&self) -> Vec<usize> {
        vec![self.centres.dims()[1]]
    }

    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        vec![self.observed(inputs)]
    }

    fn level_posterior(&self, _level: usize, features: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
        let ([batch, _], [channels, height, width]) = (features.dims(), self.shape);
        self.encoder.encode(features.reshape([batch, channels, height, width]))
    }

    fn level_prior(&self, _level: usize, _above: &[Tensor<2>]) -> Result<BoxedDistribution, Undefined> {
        let mean = self.centres.val();
        Ok(NormalComponents { scale: mean.ones_like(), mean, log_weights: None }.boxed())
    }

    fn sample_top(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        let mean = self.centres.val();
        Ok(NormalComponents { scale: mean.ones_like(), mean, log_weights: None }.draw(count, ["class", "codes"], draws))
    }

    fn decoder(&self) -> &dyn Decoder {
        &*self.decoder
    }

    fn observed_features(&self) -> usize {
        self.shape.iter().product()
    }
}

#[typetag::serde(name = "class_prior")]
impl ObjectiveConfig for ClassPriorConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        let (shape, context) = (parts.data.shape, parts.context);
        let latent = parts.encoder.latents_for(shape).iter().sum();
        let model = ClassPrior {
            encoder: Erased::new(parts.encoder.build(shape, context)?),
            decoder: parts.decoder.build_for(&[latent], Target::Inputs(shape), context)?,
            centres: context.normal([parts.data.classes.len(), latent], 0.0, 1.0),
            shape,
        };
        let device = context.device.clone().without_autodiff();
        let blank = Batch {
            inputs: Tensor::zeros([1, shape[0], shape[1], shape[2]], &device),
            labels: Tensor::from_ints([0], &device),
            indices: vec![0],
        };
        let mut draws = Draws::recorded([]);
        model.valid().measured(&blank, &mut draws).map_err(|error| BuildError::new("class_prior", error.to_string()))?;
        Ok(Box::new(model))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "poisson_linear",
            optimiser: "adam",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 3e-3,
            epochs: 5,
            batch_size: 50,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![
            Quantity::new("loss", "nats", "distortion plus rate, batch mean", Direction::Minimise),
            Quantity::new("distortion", "nats", "-mean ln p(x|z), summed over pixels", Direction::Minimise),
            Quantity::new("rate", "nats", "mean KL of the posterior from the prior of the input's class", Direction::Neutral),
        ]
    }
}

ibhost_framework::register! {
    Objective: ClassPriorConfig as ObjectiveConfig, paper: "", example: "class_prior",
    model: ClassPrior, offers: [Encode, Reconstruct, Sample, LogDensity, Centres]
}

/// Models that say where the classes lie.
pub trait ClassCentres {
    /// One centre a class, `[classes, latent]`.
    fn centres(&self) -> Tensor<2>;
}

impl ClassCentres for ClassPrior {
    fn centres(&self) -> Tensor<2> {
        self.centres.val()
    }
}

ibhost_framework::capability! {
    /// The centres of the classes in the space of codes.
    pub Centres: dyn ClassCentres, "centres", "say where the classes lie"
}

/// Distances between the centres of the classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CentreDistances {}

#[typetag::serde(name = "centre_distances")]
impl AnalysisConfig for CentreDistances {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let centres = context.require::<Centres>("centre_distances")?.centres();
        let [classes, latent] = centres.dims();
        let values: Vec<f64> = centres.into_data().iter::<f64>().collect();
        let distance = |a: usize, b: usize| {
            let pairs = values[a * latent..(a + 1) * latent].iter().zip(&values[b * latent..(b + 1) * latent]);
            pairs.map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
        };
        let pairs = (0..classes).flat_map(|a| (a + 1..classes).map(move |b| (a, b)));
        let least = pairs.map(|(a, b)| distance(a, b)).fold(f64::INFINITY, f64::min);
        Ok(Results::of([Measured::plain("least", least)]).fact("classes", classes))
    }
}

ibhost_framework::register! { Analysis: CentreDistances as AnalysisConfig, paper: "", example: "centre_distances", needs: [Centres] }
