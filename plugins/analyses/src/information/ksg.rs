//! Analysis `ksg`: mutual information of inputs and codes by nearest neighbours, beside a calibration with a known answer.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::{Encode, LogDensity};
use ibhost_framework::dataset::Split;
use ibhost_framework::distributions::one_sample;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::information::kd_tree::Norm;
use crate::information::kraskov::{InformationError, Rows, error_scale, kraskov, revised};
use crate::information::mixed_ksg::mixed_ksg;
use crate::information::scale::Scale;
use crate::model::{BATCH, not_empty, undefined};

const NAME: &str = "ksg";

/// Which estimator is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Kraskov et al. 2004, first estimator: max-norm, strictly closer neighbours.
    #[default]
    Kraskov,
    /// Gao et al. 2018 with the max-norm.
    RevisedMax,
    /// Gao et al. 2018 with the Euclidean norm.
    RevisedEuclidean,
    /// Gao et al. 2017 with the max-norm, also for samples that coincide: constants, copies, codes without noise.
    Mixed,
}

/// What an estimator makes of Gaussian pairs whose mutual information is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Their mutual information in nats.
    pub exact: f64,
    /// The estimate from as many pairs of the same dimensions as the calibrated one.
    pub estimate: f64,
    /// `estimate` - `exact`.
    pub bias: f64,
}

/// I(X;Z) in nats between test inputs and sampled codes, by the k-nearest-neighbour estimator of Kraskov, Stögbauer and Grassberger.
///
/// psi(k) + psi(N) - mean[psi(n_x + 1) + psi(n_z + 1)]. An estimate, neither upper nor lower bound. It grows with N when the code is nearly
/// a function of the input, so N is always reported. The joint distance compares x and z as they are, so the estimate depends on their units
/// although I(X;Z) does not: under the default `scale:none`, which published values are for, runs whose codes differ in spread (over beta, say)
/// are not comparable; `scale:variable`, `standard` or `rank` takes the units away. Where a sample has `k` copies (`revised_euclidean`: also
/// of x or z alone) there is no density, and the result is null with a warning, except by `estimator:mixed`. Beside it stands the same estimator on N Gaussian pairs of the same dimensions whose mutual information is exactly the
/// estimate (the correlation is spread evenly over the pairs of dimensions): the difference is the bias at this N, and with
/// `error_scale` = N^(-1/2) + N^(-1/(dx+dz)) the order of the error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Ksg {
    /// Neighbours.
    #[schemars(range(min = 1, max = 1000))]
    pub k: usize,
    /// Test samples used at most.
    #[schemars(range(min = 10, max = 10_000_000))]
    pub points: usize,
    /// Estimator.
    pub estimator: Estimator,
    /// What x and z are divided by first.
    pub scale: Scale,
}

impl Default for Ksg {
    fn default() -> Self {
        Self { k: 5, points: 3000, estimator: Estimator::Kraskov, scale: Scale::None }
    }
}

impl Ksg {
    /// The estimate for `x` and `z`, `dims` values a sample.
    ///
    /// # Errors
    /// [`InformationError`] when there are too few samples or a value is not finite.
    pub fn estimate(&self, x: &[f64], z: &[f64], dims: [usize; 2]) -> Result<f64, InformationError> {
        let (x, z) = (self.scale.of(x, dims[0]), self.scale.of(z, dims[1]));
        let variables = [Rows::new(&x, dims[0]), Rows::new(&z, dims[1])];
        match self.estimator {
            Estimator::Kraskov => kraskov(&variables, self.k),
            Estimator::RevisedMax => revised(&variables, self.k, Norm::Max),
            Estimator::RevisedEuclidean => revised(&variables, self.k, Norm::Euclidean),
            Estimator::Mixed => mixed_ksg(variables[0], variables[1], self.k),
        }
    }

    /// The estimate on `n` Gaussian pairs of `dims` values whose mutual information is `found` nats, or 0 where that is negative.
    ///
    /// # Errors
    /// [`InformationError`] when there are too few pairs.
    pub fn calibration(&self, n: usize, dims: [usize; 2], found: f64, noise: Noise) -> Result<Calibration, InformationError> {
        let exact = found.max(0.0);
        let shared = dims[0].min(dims[1]).max(1);
        // I = -d/2 ln(1 - rho^2) for d equally correlated pairs of coordinates.
        let rho = (1.0 - (-2.0 * exact / shared as f64).exp()).sqrt();
        let mut stream = noise.stream("gaussian calibration", 0);
        let (mut x, mut z) = (Vec::with_capacity(n * dims[0]), Vec::with_capacity(n * dims[1]));
        for _ in 0..n {
            let from = x.len();
            x.extend((0..dims[0]).map(|_| stream.normal()));
            for d in 0..dims[1] {
                let fresh = stream.normal();
                z.push(if d < shared { rho * x[from + d] + (1.0 - rho * rho).sqrt() * fresh } else { fresh });
            }
        }
        let estimate = self.estimate(&x, &z, dims)?;
        Ok(Calibration { exact, estimate, bias: estimate - exact })
    }
}

#[typetag::serde(name = "ksg")]
impl AnalysisConfig for Ksg {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Encode>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let (mut x, mut z, mut dims) = (Vec::new(), Vec::new(), [0, 0]);
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
            let inputs = test.batch(chunk, context.device).inputs;
            let [batch, channels, height, width] = inputs.dims();
            let codes = if let Some(generative) = context.model.capability::<LogDensity>() {
                generative.sample_codes(inputs.clone(), &mut draws).map_err(undefined(NAME))?
            } else {
                let posterior = model.posterior(inputs.clone());
                let noise = draws.normal("posterior", [posterior.dims()[0], posterior.noise_features()], context.device);
                one_sample(&*posterior, noise).map_err(undefined(NAME))?
            };
            dims = [channels * height * width, codes.dims()[1]];
            x.extend(inputs.reshape([batch, dims[0]]).into_data().iter::<f64>());
            z.extend(codes.into_data().iter::<f64>());
        }
        let refuse = |error: InformationError| AnalysisError::Request(format!("`{NAME}`: {error}"));
        let found = self.estimate(&x, &z, dims).map_err(refuse)?;
        let n = indices.len();
        let calibration = if found.is_finite() {
            Some(self.calibration(n, dims, found, Noise::new(context.seed)).map_err(refuse)?)
        } else {
            tracing::warn!("`{NAME}`: samples coincide, so this estimator has no result; write `{NAME}/estimator:mixed`");
            None
        };
        let scale = error_scale(n, dims[0] + dims[1]);
        let mut results = Results::of([Measured::nats("mutual_information", found), Measured::nats("error_scale", scale)]);
        match calibration {
            Some(Calibration { exact, estimate, bias }) => {
                let of = [("exact", exact), ("estimate", estimate), ("bias", bias)];
                let of =
                    of.map(|(name, value)| Measured::nats(name, value).along("of", "Gaussian pairs").at(format!("calibration/{name}")));
                results.values.extend(of);
            }
            None => results = results.fact("calibration", Value::Null),
        }
        let results =
            results.fact("samples", n).fact("k", self.k).fact("dimensions", dims.to_vec()).fact("estimator", json!(self.estimator));
        Ok(results.fact("scale", json!(self.scale)).fact("bound", "none"))
    }
}

ibhost_framework::register! {
    Analysis: Ksg as AnalysisConfig, aliases: [],
    paper: "Kraskov et al. 2004, arXiv:cond-mat/0305641; Gao et al. 2018, arXiv:1604.03006; Livne et al. 2019, arXiv:1910.03175",
    example: "ksg/points:10000", needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn estimate_and_calibration_are_reported_for_any_encoder() {
        let fixture = Fixture::new(Shape::Diagonal, 400);
        let report = Ksg { points: 300, ..Ksg::default() }.run(&fixture.context()).unwrap();
        assert_eq!(report.json()["samples"], 300);
        assert!(report.json()["mutual_information"].as_f64().is_some());
        assert_eq!(report.table()[1][1], "mutual_information");
        let few = Ksg { points: 10, k: 20, ..Ksg::default() }.run(&fixture.context()).unwrap_err().to_string();
        assert!(few.contains("no 20-th neighbour"), "{few}");
    }

    #[test]
    fn gaussian_pairs_have_the_stated_information() {
        for estimator in [Estimator::Kraskov, Estimator::RevisedMax, Estimator::RevisedEuclidean, Estimator::Mixed] {
            let ksg = Ksg { estimator, ..Ksg::default() };
            let found = ksg.calibration(4000, [2, 3], 1.0, Noise::new(1)).unwrap();
            assert!(found.exact == 1.0 && found.bias.abs() < 0.15 && found.estimate == 1.0 + found.bias, "{estimator:?}: {found:?}");
        }
    }

    #[test]
    fn units_decide_the_estimate_unless_they_are_taken_away() {
        let mut stream = Noise::new(2).stream("pairs", 0);
        let (x, z): (Vec<f64>, Vec<f64>) = (0..1000)
            .map(|_| {
                let x = stream.normal();
                (x, 0.8 * x + 0.6 * stream.normal())
            })
            .unzip();
        let estimates = |scale| {
            [0.01, 1.0, 100.0].map(|unit| {
                let z: Vec<f64> = z.iter().map(|z| unit * z).collect();
                Ksg { scale, ..Ksg::default() }.estimate(&x, &z, [1, 1]).unwrap()
            })
        };
        let [small, one, large] = estimates(Scale::None);
        assert!((small - one).abs() > 0.02 || (large - one).abs() > 0.02, "{small} {one} {large}");
        let exact = -0.5 * (1.0 - 0.64f64).ln();
        for scale in [Scale::Variable, Scale::Standard, Scale::Rank] {
            let [small, one, large] = estimates(scale);
            assert!((small - one).abs() < 1e-3 && (large - one).abs() < 1e-3, "{scale:?}: {small} {one} {large}");
            assert!((one - exact).abs() < 0.1, "{scale:?}: {one} for {exact}");
        }
    }

    #[test]
    fn coinciding_samples_have_no_number_but_by_the_estimator_for_them() {
        let mut fixture = Fixture::new(Shape::Point, 300);
        fixture.black();
        for estimator in [Estimator::Kraskov, Estimator::RevisedMax, Estimator::RevisedEuclidean] {
            let report = Ksg { estimator, ..Ksg::default() }.run(&fixture.context()).unwrap();
            assert!(report.json()["mutual_information"].is_null() && report.json()["calibration"].is_null(), "{}", report.json());
            assert_eq!(report.table()[1][..2], ["mutual_information", "-"], "{estimator:?}");
        }
        let mixed = Ksg { estimator: Estimator::Mixed, ..Ksg::default() }.run(&fixture.context()).unwrap();
        assert!(mixed.json()["mutual_information"].as_f64().is_some_and(|nats| nats.abs() < 0.01), "{}", mixed.json());
    }
}
