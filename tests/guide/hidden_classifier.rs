//! Decoder `hidden_classifier`: one hidden layer from the code to class scores.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind, joined};
use ibhost_framework::distributions::{BoxedDistribution, Categorical, Distribution};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// q(y|z) by one hidden layer of rectified linear units: logits = W2 relu(W1 z + b1) + b2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HiddenClassifierConfig {
    /// Units of the hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
}

impl Default for HiddenClassifierConfig {
    fn default() -> Self {
        Self { hidden: 32 }
    }
}

/// The network of [`HiddenClassifierConfig`].
#[derive(Module, Debug)]
pub struct HiddenClassifier {
    first: Linear,
    second: Linear,
}

impl Decoder for HiddenClassifier {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        Categorical::new(self.second.forward(relu(self.first.forward(joined(codes))))).boxed()
    }
}

#[typetag::serde(name = "hidden_classifier")]
impl DecoderConfig for HiddenClassifierConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Classes]
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        let first = context.linear(latents.iter().sum(), self.hidden, Initial::HeNormal);
        let second = context.linear(self.hidden, target.size(), Initial::GlorotUniform);
        Ok(Box::new(HiddenClassifier { first, second }))
    }
}

ibhost_framework::register! {
    Decoder: HiddenClassifierConfig as DecoderConfig, aliases: [], paper: "", example: "hidden_classifier/hidden:64"
}
