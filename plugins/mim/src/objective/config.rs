//! The options of the objective `mim` and what they refuse.

use ibhost_framework::build::BuildError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::terms::Criterion;

/// What p(z) is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CodePrior {
    /// N(0, (1 + min_scale)^2), fixed.
    #[default]
    Anchor,
    /// A learned normal, or with `p_z_gmm` a learned mixture that starts on packed circles.
    Prior,
    /// q(z|x) itself on the data branch; ln q(z0|x) + ln q(x) - ln p(x|z0) on the sampled one.
    Marginal,
    /// The equal mixture of q(z|u) over `p_z_gmm` learned pseudo-inputs u.
    GmmMarginal,
}

/// What q(x) is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputMarginal {
    /// ln p(x|z) + ln p(z) - ln q(z|x) with a code of q(z|x).
    #[default]
    Marginal,
    /// A learned normal, or with `q_x_gmm` a learned mixture, or Bernoulli variables for a Bernoulli decoder.
    Prior,
    /// The equal mixture of p(x|v) over `q_x_gmm` learned pseudo-codes v.
    GmmMarginal,
    /// The density P(x) that toy data are drawn from.
    Anchor,
}

/// q(x) `marginal` on the sampled branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampledMarginal {
    /// The importance estimate with a fresh code of q(z|x): the published code since March 2020.
    #[default]
    Importance,
    /// ln p(x|z0) with the code the input was sampled from: the published curves.
    Decoder,
}

/// Mutual information machine: cross-entropy of both joint distributions under the mixture of encoder and decoder samples.
///
/// With a = ln p(x|z), b = ln p(z), c = ln q(z|x), d = ln q(x), batch means, nats, one code a sample:
/// loss:mim -(a + b + beta (c + d))/2, loss:vae -a + beta (c - b), loss:ae -a with the posterior's scale fixed at min_scale.
/// entropy:true adds the joint entropy to the VAE, -(c + d), and subtracts it from MIM, + ln(exp(a+b)/2 + exp(c+d)/2).
/// beta = min(1, epoch/warmup), and 1 in every evaluation. sampled:true adds, once beta is 1, the same loss on codes z0 of the prior and
/// inputs x of p(x|z0), with gradients through x (score function for a Bernoulli decoder). With the default q_x:marginal, c cancels on the data
/// branch. The reported loss is halved when there are two branches. MIM with entropy is identically 0 on the data branch at beta 1 and rewards unlikely data
/// before; it uses beta 1 throughout unless beta_in_minus_h is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of its own in the original.
pub struct MimConfig {
    /// Loss on the data branch.
    pub loss: Criterion,
    /// Add the branch of sampled codes (MIM only): the symmetric MIM; without it, A-MIM.
    pub sampled: bool,
    /// Add (VAE) or subtract (MIM) the joint entropy.
    pub entropy: bool,
    /// p(z).
    pub p_z: CodePrior,
    /// Components of p(z); 0 for a single normal.
    #[schemars(range(min = 0, max = 100_000))]
    pub p_z_gmm: usize,
    /// q(x).
    pub q_x: InputMarginal,
    /// Components of q(x); 0 for a single density.
    #[schemars(range(min = 0, max = 100_000))]
    pub q_x_gmm: usize,
    /// q(x) `marginal` on the sampled branch.
    pub q_x_sample: SampledMarginal,
    /// Components of q(z|x); 0 for a single normal. More need the encoder `vector_mlp`, which gains a head for their log weights.
    ///
    /// q(z|x) = sum_k softmax(logcoefs)_k N(loc_k, diag((exp(logscale_k) + 10^-min_logvar)^2)) with min_logvar of the encoder; no component is
    /// switched off. The original's `--q-zx-gmm` lacks that head and cannot run. A code comes from a component chosen by its weight and is
    /// reparameterised within it; the weights learn from the score of the choice, since ln q(z|x) cancels with q_x:marginal. Analyses of
    /// normal posteriors see its mean and standard deviations.
    #[schemars(range(min = 0, max = 1000))]
    pub q_zx_gmm: usize,
    /// Components of p(x|z); 0 for the decoder's own density. More need the decoder `vector_mlp/output:normal`; as `q_zx_gmm`, with min_logvar
    /// of the decoder.
    #[schemars(range(min = 0, max = 1000))]
    pub p_xz_gmm: usize,
    /// Sample codes from the current p(z) instead of N(0, I).
    pub learn_p_z: bool,
    /// Keep the warm-up's beta inside MIM with entropy, as the published code does.
    pub beta_in_minus_h: bool,
    /// Epochs until beta is 1.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup: u64,
    /// Smallest standard deviation of fixed and learned priors and of the auto-encoder's code, as the exponent v of 10^-v.
    #[schemars(range(min = 0.0, max = 30.0))]
    pub min_logvar: f64,
    /// Inputs have two channels, two draws of one class: the second is encoded, the first is the target.
    pub self_supervised: bool,
}

impl Default for MimConfig {
    fn default() -> Self {
        Self {
            loss: Criterion::Mim,
            sampled: false,
            entropy: false,
            p_z: CodePrior::Anchor,
            p_z_gmm: 0,
            q_x: InputMarginal::Marginal,
            q_x_gmm: 0,
            q_x_sample: SampledMarginal::Importance,
            q_zx_gmm: 0,
            p_xz_gmm: 0,
            learn_p_z: false,
            beta_in_minus_h: false,
            warmup: 10,
            min_logvar: 10.0,
            self_supervised: false,
        }
    }
}

impl MimConfig {
    /// 10^-min_logvar.
    pub fn min_scale(&self) -> f64 {
        10f64.powf(-self.min_logvar)
    }

    pub(super) fn has_sampled_branch(&self) -> bool {
        self.sampled && self.loss == Criterion::Mim
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let refuse = |problem: &str| Err(BuildError::new("mim", problem));
        if self.sampled && self.loss != Criterion::Mim {
            return refuse("sampled:true belongs to loss:mim; the other losses have no sampled branch");
        }
        if self.loss == Criterion::Ae && self.entropy {
            return refuse("loss:ae has no entropy term; leave entropy out or use loss:vae");
        }
        if self.loss == Criterion::Ae && self.q_zx_gmm > 0 {
            let components = self.q_zx_gmm;
            return refuse(&format!(
                "q_zx_gmm:{components} is a mixture as q(z|x), but the code of loss:ae is a point with the smallest scale; leave q_zx_gmm out, \
                 or use loss:mim or loss:vae"
            ));
        }
        if self.p_z == CodePrior::Marginal && self.q_x == InputMarginal::Marginal && self.sampled {
            return refuse("p_z:marginal and q_x:marginal define each other on the sampled branch; choose another q_x, e.g. q_x:prior");
        }
        if self.p_z == CodePrior::Marginal && self.learn_p_z {
            return refuse("p_z:marginal is no density codes could be sampled from; leave learn_p_z out");
        }
        if (self.p_z == CodePrior::GmmMarginal && self.p_z_gmm == 0) || (self.q_x == InputMarginal::GmmMarginal && self.q_x_gmm == 0) {
            return refuse("gmm_marginal needs a number of pseudo-inputs; set p_z_gmm or q_x_gmm above 0");
        }
        let unused = |gmm: usize, used: bool| gmm > 0 && !used;
        if unused(self.p_z_gmm, matches!(self.p_z, CodePrior::Prior | CodePrior::GmmMarginal))
            || unused(self.q_x_gmm, matches!(self.q_x, InputMarginal::Prior | InputMarginal::GmmMarginal))
        {
            return refuse("a number of components is set for a density without components; choose prior or gmm_marginal, or leave it out");
        }
        Ok(())
    }
}
