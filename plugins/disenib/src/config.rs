//! Objective `disenib`: its options, training defaults and the quantities it reports.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildError;
use ibhost_framework::decoder::Target;
use ibhost_framework::module::Erased;
use ibhost_framework::objective::{Direction, Objective, ObjectiveConfig, Parts, Quantity, Recipe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nets::discriminator::Discriminator;
use crate::nets::estimator::Estimator;
use crate::nets::reconstructor::Reconstructor;
use crate::nets::stack::DenseInit;
use crate::objective::DisenIb;

/// Network that makes images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// Dense layers, linear output, for images of any shape and range.
    #[default]
    Dense,
    /// Transposed convolutions, sigmoid output, for images in [0, 1].
    Conv,
}

/// Disentangled information bottleneck: a class code t keeps what the label needs, a style code s the rest, and the two are made independent.
///
/// Minimises -I(T;Y) - I(X;S,Y) + I(S;T) by lambda_dec CE(dec(t + class_std eps), y) + lambda_rec MSE(rec(s + style_std eps, y), x) +
/// lambda_est (-mean D(s, t)) + lambda_wall mean max(|code| - emb_radius, 0)^2, in nats and squared input units, means over batch and
/// draws. The estimator D follows mean (1 - D)^2 on products of marginals + mean (1 + D)^2 on joint pairs + lambda_est_zc (mean D)^2 with
/// an optimiser of its own. A step of the paper is `n_times_main` main updates (the engine's steps: `--steps` is n_times_main times the
/// paper's), then `n_times_est` estimator and, with `disc`, `n_times_disc` discriminator updates. From step `est_thr` on D's term reaches
/// the style encoder est_style_optimize times, then the class encoder once. lambda 0 leaves a term out, below 0 it is only logged.
/// The two encoders are built from one `--encoder`, which must be deterministic. Predictions are made at the mean of t.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DisenIbConfig {
    /// Standard deviation of the style code's noise.
    #[schemars(range(min = 0.000_001, max = 1000.0))]
    pub style_std: f64,
    /// Standard deviation of the class code's noise.
    #[schemars(range(min = 0.000_001, max = 1000.0))]
    pub class_std: f64,
    /// Radius of the box codes are kept in.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub emb_radius: f64,
    /// Noisy codes an input.
    #[schemars(range(min = 1, max = 10_000))]
    pub n_samples: usize,
    /// Main updates a step of the paper.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub n_times_main: u64,
    /// Estimator updates a step of the paper.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub n_times_est: u64,
    /// Discriminator updates a step of the paper.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub n_times_disc: u64,
    /// Step of the paper from which the estimator moves the encoders.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub est_thr: u64,
    /// Samples of an estimator batch.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub est_batch_size: usize,
    /// Standard deviation of the style noise the estimator sees.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub est_style_std: f64,
    /// Standard deviation of the class noise the estimator sees.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub est_class_std: f64,
    /// Updates in a row in which the estimator moves the style encoder, before one in which it moves the class encoder.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub est_style_optimize: u64,
    /// Weight of the class term.
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_dec: f64,
    /// Weight of the reconstruction.
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_rec: f64,
    /// Weight of the estimator's term.
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_est: f64,
    /// Weight of the estimator's zero-centring.
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_est_zc: f64,
    /// Weight of the wall.
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_wall: f64,
    /// Network that makes images.
    pub rec: Images,
    /// Hidden layers of the dense reconstructor.
    #[schemars(length(max = 32), inner(range(min = 1, max = 65_536)))]
    pub rec_hidden: Vec<usize>,
    /// Spectral normalisation of the estimator.
    pub spectral: bool,
    /// Averaging of neighbouring codes before the products of marginals are formed.
    pub cluster: bool,
    /// How dense layers of estimator and reconstructor are drawn.
    pub init: DenseInit,
    /// A discriminator that sharpens the reconstructions.
    pub disc: bool,
    /// Step of the paper from which the discriminator's term is on.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub disc_thr: u64,
    /// Accuracy from which on the discriminator is not trained further.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub disc_limit_acc: f64,
    /// Weight of the discriminator's term.
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_disc: f64,
}

impl Default for DisenIbConfig {
    fn default() -> Self {
        Self {
            style_std: 0.1,
            class_std: 1.0,
            emb_radius: 3.0,
            n_samples: 10,
            n_times_main: 10,
            n_times_est: 3,
            n_times_disc: 1,
            est_thr: 3000,
            est_batch_size: 64,
            est_style_std: 0.1,
            est_class_std: 0.1,
            est_style_optimize: 4,
            lambda_dec: 1.0,
            lambda_rec: 10.0,
            lambda_est: 0.5,
            lambda_est_zc: 0.05,
            lambda_wall: 10.0,
            rec: Images::Dense,
            rec_hidden: vec![1024, 1024],
            spectral: true,
            cluster: true,
            init: DenseInit::GlorotRelu,
            disc: false,
            disc_thr: 1000,
            disc_limit_acc: 0.8,
            lambda_disc: 0.1,
        }
    }
}

impl DisenIbConfig {
    /// Builds the objective as its own type.
    ///
    /// # Errors
    /// [`BuildError`] when a network does not fit the data, or the encoder's code is noisy.
    pub fn objective(&self, parts: &Parts<'_>) -> Result<DisenIb, BuildError> {
        let (shape, classes, latent, context): (_, _, usize, _) =
            (parts.data.shape, parts.data.classes.len(), parts.encoder.latents_for(parts.data.shape).iter().sum(), parts.context);
        let encoder = || parts.encoder.build(shape, context).map(Erased::new);
        let (encoder_style, encoder_class) = (encoder()?, encoder()?);
        let [channels, height, width] = shape;
        let probe = Tensor::zeros([1, channels, height, width], &context.device.clone().without_autodiff());
        let encoder_class: ibhost_framework::encoder::BoxedEncoder = encoder_class;
        if encoder_class.valid().encode(probe).is_stochastic() {
            return Err(BuildError::new(
                "disenib",
                "adds the noise itself and needs an encoder of deterministic codes; give it `cov:point`",
            ));
        }
        let reconstructor = match self.rec {
            Images::Dense => Reconstructor::dense(latent, classes, shape, &self.rec_hidden, context),
            Images::Conv => Reconstructor::conv(latent, classes, shape, context)?,
        };
        let decoder = parts.decoder.build_for(&[latent], Target::Classes(classes), context)?;
        if decoder.valid().decode(&[Tensor::zeros([1, latent], &context.device.clone().without_autodiff())], None).logits().is_none() {
            return Err(BuildError::new("disenib", "needs scores of classes from the decoder; use e.g. `--decoder dense_classifier`"));
        }
        Ok(DisenIb {
            encoder_style,
            encoder_class,
            decoder,
            reconstructor,
            estimator: Estimator::new(latent, latent, self.spectral, self.init.initial(), context),
            discriminator: if self.disc { Some(Discriminator::new(shape, context)?) } else { None },
            config: self.clone(),
        })
    }
}

#[typetag::serde(name = "disenib")]
impl ObjectiveConfig for DisenIbConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.objective(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: if self.rec == Images::Conv { "dense_classifier/bias:false|init:normal" } else { "dense_classifier" },
            optimiser: "adam/beta1:0.5|beta2:0.999|epsilon:1e-8",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 1e-4,
            epochs: 200,
            batch_size: 64,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let mut all = vec![
            Quantity::new("loss", "nats", "sum of the weighted terms the main update follows", Direction::Minimise)
                .tagged("train/losses/loss"),
            Quantity::new("loss_dec", "nats", "-mean over inputs and draws of ln q(y|t)", Direction::Minimise)
                .tagged("train/losses/loss_dec"),
            Quantity::new("loss_rec", "squared input", "mean over inputs, draws and pixels of (rec(s, y) - x)^2", Direction::Minimise)
                .tagged("train/losses/loss_rec"),
            Quantity::new("loss_wall", "1", "mean over entries of both codes of max(|e| - radius, 0)^2", Direction::Minimise)
                .tagged("train/losses/loss_wall"),
            Quantity::new("loss_est", "1", "-mean over joint pairs of D(s, t), the encoders' side", Direction::Neutral)
                .tagged("train/est/loss_est"),
            Quantity::new("est", "1", "mean over joint pairs of D(s, t) in main updates; -1 joint, +1 independent", Direction::Neutral)
                .tagged("train/losses/est"),
            Quantity::new("est_real", "1", "mean of D over products of marginals in estimator updates", Direction::Neutral)
                .tagged("train/est/est_real"),
            Quantity::new("est_fake", "1", "mean of D over joint pairs in estimator updates", Direction::Neutral)
                .tagged("train/est/est_fake"),
            Quantity::new("loss_est_real", "1", "mean (1 - D)^2 over products of marginals", Direction::Neutral)
                .tagged("train/est/loss_est_real"),
            Quantity::new("loss_est_fake", "1", "mean (1 + D)^2 over joint pairs", Direction::Neutral).tagged("train/est/loss_est_fake"),
            Quantity::new("accuracy", "share", "inputs classified right at the mean of t, without noise", Direction::Maximise)
                .tagged("eval/acc"),
        ];
        if self.disc {
            all.extend([
                Quantity::new("loss_disc", "nats", "cross-entropy of reconstructions against `real`", Direction::Neutral)
                    .tagged("train/disc/loss_disc"),
                Quantity::new("loss_disc_real", "nats", "cross-entropy of inputs against `real`", Direction::Neutral)
                    .tagged("train/disc/loss_disc_real"),
                Quantity::new("loss_disc_fake", "nats", "cross-entropy of reconstructions against `made`", Direction::Neutral)
                    .tagged("train/disc/loss_disc_fake"),
                Quantity::new("disc_acc", "share", "inputs and reconstructions told apart", Direction::Neutral)
                    .tagged("train/disc/disc_acc"),
            ]);
        }
        all
    }
}

ibhost_framework::register! {
    Objective: DisenIbConfig as ObjectiveConfig, aliases: [], paper: "Pan et al. 2021, arXiv:2012.07372",
    example: "disenib/n_samples:2|n_times_main:5|est_thr:300", model: DisenIb, offers: [Classify, Encode, Restyle]
}
