//! What a finished model can do: the words of the registry, and the methods of an objective that hand it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::objective::Objective;

/// What an objective's finished model can do, and what an analysis asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Class probabilities of an input.
    Classify,
    /// The posterior of an input.
    Encode,
    /// An input from its code.
    Reconstruct,
    /// New inputs.
    Sample,
    /// The log density of an input.
    LogDensity,
    /// The gradient of the loss with respect to the input; every classifier has it.
    InputGradient,
    /// An input from the style of one and the class of another.
    Restyle,
}

impl Capability {
    /// Every capability, in order.
    pub const ALL: [Self; 7] =
        [Self::Classify, Self::Encode, Self::Reconstruct, Self::Sample, Self::LogDensity, Self::InputGradient, Self::Restyle];

    /// What follows "a model that can": "give the probabilities of classes".
    #[must_use]
    pub const fn deed(self) -> &'static str {
        match self {
            Self::Classify => "give the probabilities of classes",
            Self::Encode => "encode inputs",
            Self::Reconstruct => "reconstruct inputs from their codes",
            Self::Sample => "draw new inputs",
            Self::LogDensity => "give the log density of inputs",
            Self::InputGradient => "give the gradient of class scores with respect to inputs",
            Self::Restyle => "rebuild inputs from the style of one and the class of another",
        }
    }

    /// The method of [`Objective`] that hands it out.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Classify | Self::InputGradient => "as_classifier",
            Self::Encode => "as_posterior",
            Self::Reconstruct | Self::Sample | Self::LogDensity => "as_generative",
            Self::Restyle => "as_style",
        }
    }

    /// The word that stands for it in `offers`, which brings those it [implies](Self::implied) along.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Classify | Self::InputGradient => "Classify",
            Self::Encode => "Encode",
            Self::Reconstruct => "Reconstruct",
            Self::Sample => "Sample",
            Self::LogDensity => "LogDensity",
            Self::Restyle => "Restyle",
        }
    }

    /// Whether `model` can.
    pub fn held_by(self, model: &dyn Objective) -> bool {
        match self {
            Self::Classify | Self::InputGradient => model.as_classifier().is_some(),
            Self::Encode => model.as_posterior().is_some(),
            Self::Reconstruct | Self::Sample | Self::LogDensity => model.as_generative().is_some(),
            Self::Restyle => model.as_style().is_some(),
        }
    }

    /// The capabilities of `words` with those that need no word of their own, in order.
    #[must_use]
    pub fn implied(words: &[Self]) -> Vec<Self> {
        let implied =
            |capability: &Self| words.contains(capability) || (*capability == Self::InputGradient && words.contains(&Self::Classify));
        Self::ALL.into_iter().filter(implied).collect()
    }

    /// What of `offered` and `model` does not agree, a sentence each.
    pub fn disagreements(offered: &[Self], model: &dyn Objective) -> Vec<String> {
        let sentence = |capability: Self| {
            let (word, method) = (capability.word(), capability.method());
            match (offered.contains(&capability), capability.held_by(model)) {
                (true, false) => Some(format!("it is registered with `offers: [{word}]`, but its model returns nothing from `{method}`")),
                (false, true) => {
                    Some(format!("its model returns itself from `{method}`, but it is registered without `{word}` in `offers`"))
                }
                _ => None,
            }
        };
        let mut sentences: Vec<String> = Self::ALL.into_iter().filter_map(sentence).collect();
        sentences.dedup();
        sentences
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Classify => "classify",
            Self::Encode => "encode",
            Self::Reconstruct => "reconstruct",
            Self::Sample => "sample",
            Self::LogDensity => "log-density",
            Self::InputGradient => "input-gradient",
            Self::Restyle => "restyle",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_and_every_classifier_has_gradients() {
        use Capability::{Classify, Encode, InputGradient, Restyle};
        assert!(Capability::ALL.is_sorted());
        assert_eq!(Capability::LogDensity.to_string(), "log-density");
        for capability in Capability::ALL {
            assert_eq!(serde_json::to_value(capability).unwrap(), capability.to_string());
        }
        assert_eq!(Capability::implied(&[Encode, Classify]), [Classify, Encode, InputGradient]);
        assert_eq!(Capability::implied(&[Restyle, Encode]), [Encode, Restyle]);
    }
}
