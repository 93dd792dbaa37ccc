//! The model VIB and VDB share: a stochastic encoder, a categorical decoder, and the information quantities of the pair.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use crate::build::BuildError;
use crate::dataset::Batch;
use crate::decoder::{BoxedDecoder, Target};
use crate::distributions::{BoxedDistribution, Distribution};
use crate::encoder::BoxedEncoder;
use crate::ensemble::Ensemble;
use crate::math::{accuracy, log_likelihood, log_mean_exp};
use crate::module::Erased;
use crate::noise::Draws;
use crate::objective::{Direction, ParameterGroup, Parts, Quantity};

/// e(z|x) followed by d(y|z).
#[derive(Module, Debug)]
pub struct LatentClassifier {
    /// e(z|x).
    pub encoder: BoxedEncoder,
    /// d(y|z).
    pub decoder: BoxedDecoder,
}

impl LatentClassifier {
    /// Builds encoder and decoder for the data's shape and classes.
    ///
    /// # Errors
    /// [`BuildError`] when one of them cannot be built.
    pub fn new(parts: &Parts<'_>) -> Result<Self, BuildError> {
        let encoder = Erased::new(parts.encoder.build(parts.data.shape, parts.context)?);
        let latent = parts.encoder.latents_for(parts.data.shape).iter().sum();
        let decoder = parts.decoder.build_for(&[latent], Target::Classes(parts.data.classes.len()), parts.context)?;
        let model = Self { encoder, decoder };
        let code = model.probe(parts);
        let refuse = |part: &str, problem: String| Err(BuildError::new(part, problem));
        if code.rsample(Tensor::zeros([1, 1, code.noise_features()], &code.device())).is_none() {
            return refuse(
                "encoder",
                format!("a {} code has no samples that gradients flow through; choose another encoder", code.family()),
            );
        }
        let classes = model.decoder.valid().decode(&[code.point()], None);
        if classes.logits().is_none() {
            return refuse("decoder", format!("gives a {} distribution, which has no scores of classes", classes.family()));
        }
        Ok(model)
    }

    /// q(z|x) of a blank input.
    fn probe(&self, parts: &Parts<'_>) -> BoxedDistribution {
        let [channels, height, width] = parts.data.shape;
        let blank = Tensor::zeros([1, channels, height, width], &parts.context.device.clone().without_autodiff());
        self.encoder.valid().encode(blank)
    }

    /// As [`LatentClassifier::new`], for a loss with `beta` times the rate.
    ///
    /// # Errors
    /// [`BuildError`] in the name of `objective` when the code is deterministic, whose rate is not finite, and `beta` is not 0.
    pub fn with_rate(objective: &str, beta: f64, parts: &Parts<'_>) -> Result<Self, BuildError> {
        let model = Self::new(parts)?;
        if beta > 0.0 && !model.probe(parts).is_stochastic() {
            let problem = format!(
                "the encoder's code is deterministic and has no finite rate to weigh by beta = {beta}; give the encoder a covariance \
                 (`cov:diag` or `cov:full`), or set `beta:0` for the deterministic baseline"
            );
            return Err(BuildError::new(objective, problem));
        }
        Ok(model)
    }

    /// Encoder and decoder as groups, of an objective that keeps the model in the field `field`.
    pub fn groups(field: &str) -> Vec<ParameterGroup> {
        ["encoder", "decoder"].map(|part| ParameterGroup { name: part.to_owned(), prefixes: vec![format!("{field}.{part}")] }).to_vec()
    }

    /// `total` plus the encoder's own regularisation.
    pub fn penalised(&self, total: Tensor<1>) -> Tensor<1> {
        match self.encoder.penalty() {
            Some(penalty) => total + penalty,
            None => total,
        }
    }

    /// Logits of `samples` codes per input, `[samples, batch, classes]`.
    pub fn sampled_logits(&self, posterior: &dyn Distribution, samples: usize, purpose: &str, draws: &mut Draws) -> Tensor<3> {
        let noise = draws.normal(purpose, [samples, posterior.dims()[0], posterior.noise_features()], &posterior.device());
        self.logits(checked(posterior.rsample(noise)))
    }

    /// Logits of codes `[samples, batch, latent]`, `[samples, batch, classes]`.
    pub fn logits(&self, codes: Tensor<3>) -> Tensor<3> {
        let [samples, batch, latent] = codes.dims();
        let logits = checked(self.decoder.decode(&[codes.reshape([samples * batch, latent])], None).logits());
        let classes = logits.dims()[1];
        logits.reshape([samples, batch, classes])
    }

    /// ln of the softmax averaged over `samples` fresh codes, `[batch, classes]`.
    pub fn predict(&self, inputs: Tensor<4>, samples: usize, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        Ensemble::new(self, &*self.encoder.encode(inputs), samples, purpose, draws).log_probabilities
    }

    /// Shares of inputs classified right with one code and with the average over `samples` codes.
    pub fn accuracies(&self, batch: &Batch, samples: usize, draws: &mut Draws) -> [Tensor<1>; 2] {
        self.accuracies_of(&*self.encoder.encode(batch.inputs.clone()), &batch.labels, samples, draws)
    }

    /// As [`LatentClassifier::accuracies`], for inputs that are encoded already.
    pub fn accuracies_of(
        &self,
        posterior: &dyn Distribution,
        labels: &Tensor<1, Int>,
        samples: usize,
        draws: &mut Draws,
    ) -> [Tensor<1>; 2] {
        let mut share = |n, purpose: &str| accuracy(Ensemble::new(self, posterior, n, purpose, draws).log_probabilities, labels);
        [share(1, "accuracy"), share(samples, "averaged accuracy")]
    }
}

/// What [`LatentClassifier::new`] has found when the model was built.
///
/// # Panics
/// Never: a model that lacks it is not built.
pub fn checked<T>(found: Option<T>) -> T {
    found.unwrap_or_else(|| unreachable!("checked when the model was built"))
}

/// Class term in nats, `[1]`: -mean_b mean_m ln q(y_b | z_mb), the variational bound of VIB. Logits `[samples, batch, classes]`.
pub fn averaged_log_likelihood_loss(logits: Tensor<3>, labels: &Tensor<1, Int>) -> Tensor<1> {
    log_likelihood(logits, labels).mean().neg()
}

/// Class term in nats, `[1]`: -mean_b ln mean_m q(y_b | z_mb), the deficiency of VDB. Logits `[samples, batch, classes]`.
///
/// By Jensen never above [`averaged_log_likelihood_loss`], and equal to it for one sample. The mean of softmaxes is a log-sum-exp of
/// log-softmaxes, so it stays finite where the averaged softmax underflows.
pub fn averaged_likelihood_loss(logits: Tensor<3>, labels: &Tensor<1, Int>) -> Tensor<1> {
    log_mean_exp(log_likelihood(logits, labels), 0).mean().neg()
}

/// The quantities every latent classifier reports, with `l` codes for the averaged prediction.
pub fn quantities(l: usize, class_meaning: &str) -> Vec<Quantity> {
    let rate = "rate, upper bound on I(X;Z): mean over inputs of KL(q(z|x) || N(0, I)), at least 0";
    let information =
        "lower bound on I(Y;Z) where all classes are equally frequent, none elsewhere: log of the number of classes minus the class term";
    // Two quantities must not share a tag.
    let averaged = if l == 1 { "accuracy_averaged".to_owned() } else { format!("accuracy_L{l}") };
    vec![
        Quantity::new("loss", "bits", format!("class term + beta * rate; class term: {class_meaning}"), Direction::Minimise),
        Quantity::new("accuracy", "share", "inputs classified right with one code", Direction::Maximise).tagged("accuracy_L1"),
        Quantity::new(
            format!("accuracy_l{l}"),
            "share",
            format!("inputs classified right by the softmax averaged over {l} codes"),
            Direction::Maximise,
        )
        .tagged(averaged),
        // A rate that has no weight in the loss may grow until it bounds nothing.
        Quantity::new("izx_bits", "bits", rate, Direction::Neutral).tagged("I_XZ").possibly_infinite(),
        Quantity::new("izx_nats", "nats", rate, Direction::Neutral).tagged("I_XZ_nats").possibly_infinite(),
        Quantity::new("izy_bits", "bits", information, Direction::Maximise).tagged("I_YZ"),
        Quantity::new("izy_nats", "nats", information, Direction::Maximise).tagged("I_YZ_nats"),
    ]
}
