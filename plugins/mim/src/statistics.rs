//! Analysis `mim_statistics`: divergences, entropies and mutual information of a trained pair of networks, written as `results.csv`.

use burn::tensor::Tensor;
use ibhost_analyses::generation::decoding::Decoding;
use ibhost_analyses::information::kraskov::error_scale;
use ibhost_analyses::information::ksg::{Calibration, Ksg};
use ibhost_analyses::model::{prior_codes, undefined};
use ibhost_analyses::output::write;
use ibhost_analyses::probes::neighbour_accuracy::neighbour_accuracies;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::LogDensity;
use ibhost_framework::csv_text::csv_text;
use ibhost_framework::dataset::{KnownDensity, Samples, Split};
use ibhost_framework::distributions::Undefined;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::RunDir;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

use crate::names::{image_folder, toy_folder};

const NAME: &str = "mim_statistics";
/// Samples pushed through the networks at once.
const BATCH: usize = 500;
/// Most pairs the mutual information is estimated from.
const MOST_PAIRS: usize = 10_000;
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

/// Codes and reconstructions of some inputs, `[batch, ...]` each.
#[derive(Clone, Debug)]
pub struct Passes {
    /// Codes of the first pass, at which densities of codes are taken.
    pub codes: Tensor<2>,
    /// Draws from p(x|z) at these codes.
    pub reconstruction: Tensor<2>,
    /// Codes of a second pass, which the densities of inputs are conditioned on.
    pub second: Tensor<2>,
    /// Fresh codes of q(z|x).
    pub from_posterior: Tensor<2>,
    /// Fresh codes of p(z).
    pub from_prior: Tensor<2>,
}

impl Passes {
    /// All passes over `inputs` with noise of `draws`.
    ///
    /// # Errors
    /// [`AnalysisError`] where no codes can be drawn from the prior.
    pub fn draw(model: &dyn LatentModel, inputs: &Tensor<4>, draws: &mut Draws) -> Result<Self, AnalysisError> {
        let codes = model.sample_codes(inputs.clone(), draws).map_err(undefined(NAME))?;
        let reconstruction = model.decode_sample(codes.clone(), draws);
        let second = model.sample_codes(inputs.clone(), draws).map_err(undefined(NAME))?;
        let from_posterior = model.sample_codes(inputs.clone(), draws).map_err(undefined(NAME))?;
        let from_prior = prior_codes(NAME, model, inputs.dims()[0], draws)?;
        Ok(Self { codes, reconstruction, second, from_posterior, from_prior })
    }
}

/// One value per sample of every quantity the statistics average.
#[derive(Clone, Debug, Default)]
pub struct PerSample {
    likelihood: Vec<f64>,
    prior: Vec<f64>,
    posterior: Vec<f64>,
    marginal: Vec<f64>,
    posterior_to_prior: Vec<f64>,
    prior_to_posterior: Vec<f64>,
    anchor: Vec<f64>,
    error: Vec<f64>,
    inputs: Vec<f64>,
    codes: Vec<f64>,
    sizes: [usize; 2],
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

impl PerSample {
    /// Adds the quantities of `inputs` `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// [`Undefined`] where the model has no formula for one of them.
    pub fn add(&mut self, model: &dyn LatentModel, inputs: Tensor<4>, passes: Passes) -> Result<(), Undefined> {
        let [batch, channels, height, width] = inputs.dims();
        let x = inputs.clone().reshape([batch, channels * height * width]);
        let Passes { codes, reconstruction, second, from_posterior, from_prior } = passes;
        self.sizes = [x.dims()[1], codes.dims()[1]];
        self.likelihood.extend(host(model.likelihood(second.clone(), Some(inputs.clone())).log_prob(x.clone())?));
        self.marginal.extend(host(model.marginal_log_prob(inputs.clone(), second)?));
        self.prior.extend(host(model.prior_log_prob(codes.clone())?));
        self.posterior.extend(host(model.posterior_log_prob(inputs.clone(), codes.clone())?));
        let difference = |z: Tensor<2>| Ok::<_, Undefined>(model.posterior_log_prob(inputs.clone(), z.clone())? - model.prior_log_prob(z)?);
        self.posterior_to_prior.extend(host(difference(from_posterior)?));
        self.prior_to_posterior.extend(host(difference(from_prior)?.neg()));
        self.error.extend(host((x.clone() - reconstruction).powi_scalar(2).sum_dim(1).sqrt()));
        let normal = |z: f64| -0.5 * z * z - HALF_LN_2PI;
        let (flat_codes, latent) = (host(codes), self.sizes[1]);
        self.anchor.extend(flat_codes.chunks_exact(latent.max(1)).map(|row| row.iter().map(|&z| normal(z)).sum::<f64>()));
        self.inputs.extend(host(x));
        self.codes.extend(flat_codes);
        Ok(())
    }

    /// Codes of the first pass, sample-major.
    pub fn codes(&self) -> &[f64] {
        &self.codes
    }

    /// Pairs the mutual information is estimated from.
    pub fn pairs(&self) -> usize {
        self.likelihood.len().min(MOST_PAIRS)
    }

    /// What the estimator behind `MI_ksg` makes of as many Gaussian pairs with exactly that information; nothing where `MI_ksg` is no number.
    pub fn calibration(&self, statistics: &[(&'static str, f64)], seed: u64) -> Option<Calibration> {
        let (_, found) = statistics.iter().find(|(name, value)| *name == "MI_ksg" && value.is_finite())?;
        Ksg::default().calibration(self.pairs(), self.sizes, *found, Noise::new(seed)).ok()
    }

    /// The statistics in the order they are written, in nats (`x_recon_err` in the unit of the inputs); `known` is the data's density.
    ///
    /// Dkl_q_p, Dkl_p_q and their mean Dkl compare q(z|x) and p(z); MI is mean ln q(z|x) - ln p(z), an upper bound on I(x;z) in
    /// expectation; H_q_x is -mean ln q(x), the
    /// negative log-likelihood of the published figures; H_p_z, H_enc, H_dec, H_Msamp and H_mean are cross entropies of the two joints
    /// and of their mixture; MI_ksg is the nearest-neighbour estimate from the first 10,000 pairs at most, with the order of its error;
    /// H_P_x and H_P_z are cross entropies with the data's density and N(0, I); x_recon_err is the mean Euclidean distance between input
    /// and a draw from p(x|z).
    pub fn statistics(&self, known: Option<&dyn KnownDensity>) -> Vec<(&'static str, f64)> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (q_p, p_q) = (mean(&self.posterior_to_prior), mean(&self.prior_to_posterior));
        let (a, b, c, d) = (mean(&self.likelihood), mean(&self.prior), mean(&self.posterior), mean(&self.marginal));
        let joint = (0..self.likelihood.len()).map(|i| {
            let encoding = self.posterior[i] + self.marginal[i] - LN_2;
            let decoding = self.likelihood[i] + self.prior[i] - LN_2;
            let largest = encoding.max(decoding);
            largest + ((encoding - largest).exp() + (decoding - largest).exp()).ln()
        });
        let mixture = -mean(&joint.collect::<Vec<_>>());
        let ([dx, dz], pairs) = (self.sizes, self.pairs());
        let information =
            Ksg::default().estimate(&self.inputs[..pairs * dx], &self.codes[..pairs * dz], self.sizes).unwrap_or_else(|error| {
                tracing::warn!("MI_ksg: {error}");
                f64::NAN
            });
        let mut all = vec![
            ("Dkl_q_p", q_p),
            ("Dkl_p_q", p_q),
            ("Dkl", f64::midpoint(q_p, p_q)),
            ("MI", c - b),
            ("H_q_x", -d),
            ("H_p_z", -b),
            ("H_enc", -c - d),
            ("H_dec", -a - b),
            ("H_Msamp", mixture),
            ("H_mean", -0.5 * (a + b + c + d)),
            ("MI_ksg", information),
            ("MI_ksg_l2_err", error_scale(pairs, dx + dz)),
        ];
        if let Some(density) = known {
            all.push(("H_P_x", -mean(&density.log_prob(&self.inputs))));
        }
        all.extend([("H_P_z", -mean(&self.anchor)), ("x_recon_err", mean(&self.error))]);
        all
    }
}

/// Every statistic of the published evaluation, from sampled codes of the whole test split.
///
/// Writes `analyses/results.csv` (`results-best.csv` of the best checkpoint), and once more under the original's name `analyses/<data set>/<code>/<model>/results.<seed>.csv`, with one `key,value` row a statistic: divergences between q(z|x) and p(z), cross entropies of the
/// joints, KSG mutual information of input and code (k = 5, at most 10,000 pairs; it grows with their number where the code is nearly
/// deterministic, and depends on the units of both, which are not scaled; its bias on as many Gaussian pairs of that information stands
/// beside it), reconstruction error of draws from p(x|z), epoch and loss of the checkpoint, and the accuracy of 1, 3, 5 and 10 nearest neighbours from
/// training codes to test codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MimStatistics {
    /// Test and training samples used at most.
    #[schemars(range(min = 10, max = 10_000_000))]
    pub points: usize,
}

impl Default for MimStatistics {
    fn default() -> Self {
        Self { points: 10_000 }
    }
}

/// Quantities of the first `points` samples.
pub(crate) fn per_sample(
    model: &dyn LatentModel,
    samples: &Samples,
    points: usize,
    context: &AnalysisContext<'_>,
) -> Result<PerSample, AnalysisError> {
    let indices: Vec<usize> = (0..samples.len().min(points)).collect();
    let mut found = PerSample::default();
    for (number, chunk) in indices.chunks(BATCH).enumerate() {
        let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
        let inputs = samples.batch(chunk, context.device).inputs;
        let inputs = if inputs.dims()[1] == 2 && context.data.known_density().is_some() { inputs.narrow(1, 0, 1) } else { inputs };
        let passes = Passes::draw(model, &inputs, &mut draws)?;
        found.add(model, inputs, passes).map_err(undefined(NAME))?;
    }
    Ok(found)
}

#[typetag::serde(name = "mim_statistics")]
impl AnalysisConfig for MimStatistics {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<LogDensity>(NAME)?;
        let (train, test) = (context.data.split(Split::Train), context.data.split(Split::Test));
        let found = per_sample(model, test, self.points, context)?;
        let statistics = found.statistics(context.data.known_density());
        let calibration = found.calibration(&statistics, context.seed);
        let mut rows: Vec<(String, f64)> = statistics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let run = RunDir::open_read_only(context.run_dir)?;
        let summary = run.read_summary().inspect_err(|error| tracing::warn!("`{NAME}` leaves out `epoch` and `loss`: {error}"));
        if let Some(best) = summary.ok().and_then(|summary| summary.best) {
            rows.push(("epoch".to_owned(), best.epoch as f64));
            rows.push(("loss".to_owned(), best.value));
        }
        if context.data.info().classes.len() > 1 {
            let train_codes = sampled_codes(model, train, self.points, context)?;
            let labels = |samples: &Samples| (0..samples.len().min(self.points)).map(|i| samples.label(i)).collect::<Vec<u8>>();
            let latent = found.sizes[1];
            let ks = [1, 3, 5, 10];
            let accuracies = neighbour_accuracies((&train_codes, &labels(train)), (found.codes(), &labels(test)), latent, &ks);
            rows.extend(ks.iter().zip(accuracies).map(|(k, (accuracy, _))| (format!("clf_acc_KNN{k}"), accuracy)));
        }
        let refuse = |error: String| AnalysisError::Request(format!("`{NAME}` names its files after the run's configuration: {error}"));
        let config = run.read_config().map_err(|error| refuse(error.to_string()))?;
        let config = RunConfig::from_json(config).map_err(|error| refuse(error.to_string()))?;
        let csv = csv_text(rows.iter().map(|(name, value)| [name.clone(), value.to_string()]));
        let mut files = vec![write(context.output, "analyses/results.csv", csv.as_bytes())?];
        let mut results = Results::default();
        let toy = toy_folder(&config).map(|parts| parts.join("/"));
        if let Some(folder) = &toy {
            let path = format!("analyses/{folder}/results.{}.csv", config.training.seed);
            files.push(write(context.output, &path, csv.as_bytes())?);
        }
        if let Some(name) = toy.or_else(|| image_folder(&config)) {
            results = results.fact("original_name", name);
        }
        results.values.extend(rows.iter().map(|(name, value)| Measured::plain(name.as_str(), *value)));
        if let Some(Calibration { exact, estimate, bias }) = calibration {
            results.values.extend(calibration_values(exact, estimate, bias));
            results = results.fact("MI_ksg_calibration/samples", found.pairs());
        }
        Ok(results.fact("decoding", Decoding::Sample.name()).with_files(files))
    }
}

/// The estimate of the mutual information of Gaussian pairs beside what it is.
pub(crate) fn calibration_values(exact: f64, estimate: f64, bias: f64) -> [Measured; 3] {
    let of =
        |(name, value): (&str, f64)| Measured::nats(name, value).along("of", "Gaussian pairs").at(format!("MI_ksg_calibration/{name}"));
    [("exact", exact), ("estimate", estimate), ("bias", bias)].map(of)
}

/// Sampled codes of the first `points` samples, sample-major.
fn sampled_codes(
    model: &dyn LatentModel,
    samples: &Samples,
    points: usize,
    context: &AnalysisContext<'_>,
) -> Result<Vec<f64>, AnalysisError> {
    let indices: Vec<usize> = (0..samples.len().min(points)).collect();
    let mut codes = Vec::new();
    for (number, chunk) in indices.chunks(BATCH).enumerate() {
        let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, "training codes");
        let drawn = model.sample_codes(samples.batch(chunk, context.device).inputs, &mut draws).map_err(undefined(NAME))?;
        codes.extend(host(drawn));
    }
    Ok(codes)
}

ibhost_framework::register! {
    Analysis: MimStatistics as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "mim_statistics",
    needs: [Encode, Reconstruct, Sample, LogDensity],
}
