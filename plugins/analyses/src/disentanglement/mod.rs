//! Analysis `disentanglement`: how well single code dimensions stand for known factors, by the scores of the field.

mod beta_vae;
mod dci;
mod factor_vae;
mod forest;
mod mig;
mod sap;

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::{Encode, Restyle};
use ibhost_framework::dataset::{Factors, Split};
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::{BATCH, not_empty};

pub use beta_vae::beta_vae;
pub use dci::{Dci, dci};
pub use factor_vae::factor_vae;
pub use mig::mutual_information_gap;
pub use sap::attribute_gap;

const NAME: &str = "disentanglement";

/// Codes of samples with known factors.
#[derive(Clone, Debug)]
pub struct Coded {
    /// Dimensions of a code.
    pub dims: usize,
    /// Codes, sample-major.
    pub codes: Vec<f64>,
    /// Factors of the same samples.
    pub factors: Factors,
}

impl Coded {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.codes.len() / self.dims.max(1)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Code of sample `i`.
    pub fn code(&self, i: usize) -> &[f64] {
        &self.codes[i * self.dims..(i + 1) * self.dims]
    }

    /// One dimension of all codes.
    pub fn column(&self, k: usize) -> Vec<f64> {
        self.codes.iter().skip(k).step_by(self.dims).copied().collect()
    }

    /// One factor of all samples.
    pub fn factor(&self, f: usize) -> Vec<u16> {
        self.factors.values.iter().skip(f).step_by(self.factors.sizes.len()).copied().collect()
    }

    /// Standard deviation of every dimension.
    pub fn deviations(&self) -> Vec<f64> {
        let n = self.len() as f64;
        let deviation = |k: usize| {
            let column = self.column(k);
            let mean = column.iter().sum::<f64>() / n;
            (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()
        };
        (0..self.dims).map(deviation).collect()
    }

    /// Samples by the value of factor `f`; values no sample has are left out.
    fn groups(&self, f: usize) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.factors.sizes[f]];
        for (i, value) in self.factor(f).into_iter().enumerate() {
            groups[usize::from(value)].push(i);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}

/// The code that is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Class code and, where the model has one, style code together.
    #[default]
    All,
    /// The code behind the classes alone.
    Class,
    /// The style code alone.
    Style,
}

/// Disentanglement scores of the means of the codes, on data whose factors are known; each in [0, 1], larger is better.
///
/// MIG: mean over factors of the gap between the two dimensions with the most mutual information (codes in 20 bins), over the factor's
/// entropy (Chen et al. 2018). SAP: mean gap between the two dimensions that predict a factor best, balanced accuracy of the nearest
/// class mean in one dimension (Kumar et al. 2018; thresholds instead of a support vector machine). DCI: disentanglement, completeness and
/// informativeness from the impurity importances of a forest of trees (Eastwood & Williams 2018); informativeness is held-out accuracy.
/// FactorVAE: accuracy of a majority vote on the dimension of least relative variance when a factor is fixed (Kim & Mnih 2018). beta-VAE:
/// accuracy of a linear classifier on mean absolute differences of pairs that share a factor (Higgins et al. 2017). Factors that do not
/// vary are left out; when none does, there are no scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Disentanglement {
    /// The code that is judged.
    pub code: Code,
    /// Random training samples the scores are computed on.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub samples: usize,
    /// Votes of the FactorVAE and beta-VAE scores.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub votes: usize,
    /// Samples (pairs) behind a vote.
    #[schemars(range(min = 2, max = 10_000))]
    pub per_vote: usize,
}

impl Default for Disentanglement {
    fn default() -> Self {
        Self { code: Code::All, samples: 5000, votes: 1000, per_vote: 64 }
    }
}

impl Disentanglement {
    fn coded(&self, context: &AnalysisContext<'_>) -> Result<Coded, AnalysisError> {
        let samples = context.data.split(Split::Train);
        not_empty(samples, NAME)?;
        let known = context.data.factors().filter(|f| !f.sizes.is_empty()).ok_or_else(|| {
            AnalysisError::Request(format!(
                "`{NAME}` needs data with known factors, which `{}` does not have; train on `shapes` or `sprites`",
                context.data.info().name
            ))
        })?;
        let posterior = context.require::<Encode>(NAME)?;
        let style = context.model.capability::<Restyle>();
        let encode = |x: Tensor<4>| -> Result<Tensor<2>, AnalysisError> {
            let class = || posterior.posterior(x.clone()).point();
            match (self.code, style) {
                (Code::Class, _) | (Code::All, None) => Ok(class()),
                (Code::Style, Some(style)) => Ok(style.style(x.clone()).point()),
                (Code::All, Some(style)) => Ok(Tensor::cat(vec![class(), style.style(x.clone()).point()], 1)),
                (Code::Style, None) => Err(AnalysisError::Request(format!("`{NAME}` is to judge the style code, but this model has none"))),
            }
        };
        let mut order = Noise::new(context.seed).stream("disentanglement/samples", 0).permutation(samples.len());
        order.truncate(self.samples);
        let factors = Factors { values: order.iter().flat_map(|&i| known.of(i).to_vec()).collect(), ..known.clone() };
        let mut coded = Coded { dims: 0, codes: Vec::new(), factors };
        for indices in order.chunks(BATCH) {
            let codes = encode(samples.batch(indices, context.device).inputs)?;
            coded.dims = codes.dims()[1];
            coded.codes.extend(codes.into_data().iter::<f64>());
        }
        if coded.codes.iter().any(|x| !x.is_finite()) {
            return Err(AnalysisError::Request(format!(
                "`{NAME}` cannot use this model: a code is not finite; analyse an earlier checkpoint"
            )));
        }
        Ok(coded)
    }
}

#[typetag::serde(name = "disentanglement")]
impl AnalysisConfig for Disentanglement {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let coded = self.coded(context)?;
        let noise = Noise::new(context.seed);
        let dci = dci(&coded, noise);
        let scores = [
            ("mig", mutual_information_gap(&coded)),
            ("sap", attribute_gap(&coded)),
            ("dci_disentanglement", dci.disentanglement),
            ("dci_completeness", dci.completeness),
            ("dci_informativeness", dci.informativeness),
            ("factor_vae", factor_vae(&coded, self.votes, self.per_vote, noise)),
            ("beta_vae", beta_vae(&coded, self.votes, self.per_vote, noise)),
        ];
        let results = Results::of(scores.map(|(name, value)| Measured::share(name, value)));
        Ok(results.fact("samples", coded.len()).fact("dimensions", coded.dims).fact("factors", json!(coded.factors.names)))
    }
}

ibhost_framework::register! {
    Analysis: Disentanglement as AnalysisConfig, aliases: [],
    paper: "Higgins et al. 2017; Kim & Mnih 2018; Chen et al. 2018; Kumar et al. 2018; Eastwood & Williams 2018",
    example: "disentanglement/samples:5000", needs: [Encode],
}

#[cfg(test)]
pub(super) mod fixture {
    //! Codes whose scores are known.

    use super::*;

    /// `n` samples of three factors of 3, 4 and 5 values.
    pub fn factors(n: usize) -> Factors {
        let mut stream = Noise::new(2).stream("factors", 0);
        let sizes = vec![3, 4, 5];
        let values = (0..n).flat_map(|_| sizes.clone()).map(|size| stream.below(size) as u16).collect();
        Factors { names: ["a", "b", "c"].map(str::to_owned).to_vec(), sizes, values }
    }

    fn coded(n: usize, dims: usize, code: impl Fn(&[u16], &mut ibhost_framework::noise::Stream) -> Vec<f64>) -> Coded {
        let factors = factors(n);
        let mut stream = Noise::new(3).stream("codes", 0);
        let codes = (0..n).flat_map(|i| code(factors.of(i), &mut stream)).collect();
        Coded { dims, codes, factors }
    }

    /// Every factor in a dimension of its own, and a dimension of noise.
    pub fn perfect(n: usize) -> Coded {
        coded(n, 4, |f, stream| vec![f64::from(f[2]), -2.0 * f64::from(f[0]), 0.3 * f64::from(f[1]), stream.normal()])
    }

    /// Nothing but noise.
    pub fn useless(n: usize) -> Coded {
        coded(n, 4, |_, stream| (0..4).map(|_| stream.normal()).collect())
    }

    /// Every factor twice, so that no dimension is alone with it.
    pub fn doubled(n: usize) -> Coded {
        coded(n, 6, |f, _| f.iter().chain(f).map(|v| f64::from(*v)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{doubled, perfect, useless};
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn a_perfect_code_scores_one_and_noise_little() {
        let (good, bad) = (perfect(2000), useless(2000));
        let noise = Noise::new(5);
        for (name, best, worst) in [
            ("mig", mutual_information_gap(&good), mutual_information_gap(&bad)),
            ("sap", attribute_gap(&good), attribute_gap(&bad)),
            ("dci", dci(&good, noise).disentanglement, dci(&bad, noise).disentanglement),
            ("completeness", dci(&good, noise).completeness, dci(&bad, noise).completeness),
            ("factor_vae", factor_vae(&good, 300, 32, noise), factor_vae(&bad, 300, 32, noise)),
            ("beta_vae", beta_vae(&good, 300, 32, noise), beta_vae(&bad, 300, 32, noise)),
        ] {
            let lowest = if name == "sap" { 0.6 } else { 0.85 };
            assert!(best > lowest && (0.0..0.6).contains(&worst) && best <= 1.0 + 1e-9, "{name}: {best} and {worst}");
        }
    }

    #[test]
    fn a_factor_in_two_dimensions_has_no_gap_but_is_disentangled() {
        let double = doubled(2000);
        assert!(mutual_information_gap(&double) < 1e-9 && attribute_gap(&double) < 1e-9);
        let found = dci(&double, Noise::new(5));
        assert!(found.disentanglement > 0.9 && found.informativeness > 0.99, "{found:?}");
    }

    #[test]
    fn data_without_factors_is_refused() {
        let error = Disentanglement::default().run(&Fixture::new(Shape::Diagonal, 20).context()).unwrap_err().to_string();
        assert!(error.contains("shapes") && error.contains("bars"), "{error}");
    }
}
