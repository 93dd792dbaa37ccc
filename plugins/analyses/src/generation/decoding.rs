//! How codes become inputs: at the means of p(x|z), or as draws from it.

use burn::tensor::Tensor;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::Draws;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is made of a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// The mean of p(x|z); an autoregressive model gives the conditional means along one draw.
    #[default]
    Mean,
    /// A draw from p(x|z).
    Sample,
}

impl Decoding {
    /// Inputs `[batch, features]` from codes `[batch, latent]`.
    pub fn decode(self, model: &dyn LatentModel, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        match self {
            Self::Mean => model.decode_mean(codes, draws),
            Self::Sample => model.decode_sample(codes, draws),
        }
    }

    /// As results spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Sample => "sample",
        }
    }
}
