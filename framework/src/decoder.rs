//! Decoders: maps from codes to a [`Distribution`](crate::distributions::Distribution) over classes or inputs, with the prior of every level
//! of the code below the top.

use burn::tensor::{Device, Tensor};

use crate::build::{BuildContext, BuildError};
use crate::component::{Configured, resolve, suggest};
use crate::dataset::DataInfo;
use crate::distributions::BoxedDistribution;
use crate::module::{Erased, ErasedModule};
use crate::registry::{Kind, Registry};
use crate::run::config::RunConfig;

/// Module kind of boxed decoders.
#[derive(Clone, Copy, Debug)]
pub struct DecoderKind;

/// z -> p(.|z). Implement it for a type that derives burn's `Module`. Codes come as one tensor `[batch, latent]` a level, bottom first.
pub trait Decoder: ErasedModule<DecoderKind> {
    /// p(.|z). Autoregressive decoders condition every value on the earlier values of `teacher`, `[batch, channels, height, width]`; the
    /// others ignore it.
    fn decode(&self, codes: &[Tensor<2>], teacher: Option<Tensor<4>>) -> BoxedDistribution;

    /// p(z_level | the levels above), `above` holding the next level first and the top last; nothing for the top level, whose prior is the
    /// objective's.
    fn prior(&self, _level: usize, _above: &[Tensor<2>]) -> Option<BoxedDistribution> {
        None
    }

    /// Whether [`Decoder::decode`] needs a teacher.
    fn is_autoregressive(&self) -> bool {
        false
    }

    /// Inputs sampled value by value where the decoder is autoregressive, and the mean of each value along the way; `uniform`
    /// `[batch, features]` decides the values. Other decoders return their mean twice.
    fn ancestral(&self, codes: &[Tensor<2>], _uniform: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let mean = self.decode(codes, None).mean();
        (mean.clone(), mean)
    }
}

crate::erase_modules!(DecoderKind, Decoder);

/// A boxed decoder as a field of a module.
pub type BoxedDecoder = Erased<DecoderKind>;

/// What a decoder gives the distribution of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of so many classes.
    Classes(usize),
    /// Inputs of a shape, `[channels, height, width]`.
    Inputs([usize; 3]),
}

impl Target {
    /// Numbers a distribution has: classes, or values of an input.
    pub fn size(self) -> usize {
        self.shape().iter().product()
    }

    /// `[channels, height, width]`; classes are a row.
    pub fn shape(self) -> [usize; 3] {
        match self {
            Self::Classes(classes) => [1, 1, classes],
            Self::Inputs(shape) => shape,
        }
    }

    /// What kind of target it is.
    pub fn kind(self) -> TargetKind {
        match self {
            Self::Classes(_) => TargetKind::Classes,
            Self::Inputs(_) => TargetKind::Inputs,
        }
    }
}

/// A kind of [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Classes.
    Classes,
    /// Inputs.
    Inputs,
}

impl TargetKind {
    /// The target of this kind in a data set.
    pub fn of(self, data: &DataInfo) -> Target {
        match self {
            Self::Classes => Target::Classes(data.classes.len()),
            Self::Inputs => Target::Inputs(data.shape),
        }
    }

    /// The decoders of this program for such targets, as a hint.
    fn decoders(self) -> String {
        let fits = |name: &&str| {
            let found = resolve::<dyn DecoderConfig>(Kind::Decoder, name);
            found.is_ok_and(|(_, config)| config.targets().contains(&self))
        };
        let names: Vec<&str> = Registry::global()
            .map(|registry| registry.items(Kind::Decoder).iter().map(|item| item.name).filter(fits).collect())
            .unwrap_or_default();
        if names.is_empty() { "this program has none".to_owned() } else { format!("choose {}", suggest::alternatives(&names)) }
    }
}

/// Configuration of a decoder, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait DecoderConfig: Configured + Send + Sync {
    /// What it can be built for.
    fn targets(&self) -> &'static [TargetKind];

    /// Smallest and largest value of x that p(x|z) is defined for, where x is what the decoder models: `[0, 1]` for a Bernoulli
    /// likelihood. A data set with values outside is refused before the first step. `None` accepts everything.
    fn support(&self) -> Option<[f32; 2]> {
        None
    }

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }

    /// Builds the decoder from codes to `target`, one of [`targets`](Self::targets); `latents` are the sizes of the code's levels from the
    /// bottom to the top, one for a plain code. Objectives build through [`build_for`](trait.DecoderConfig.html#method.build_for), which
    /// refuses other targets.
    ///
    /// # Errors
    /// [`BuildError`] when the decoder cannot be built at these sizes.
    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError>;
}

impl dyn DecoderConfig + '_ {
    /// Builds the decoder, if `target` is one of its own.
    ///
    /// # Errors
    /// [`BuildError`] naming decoders for such a target when it is not, and as [`DecoderConfig::build`].
    pub fn build_for(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<BoxedDecoder, BuildError> {
        if self.targets().contains(&target.kind()) {
            return Ok(Erased::new(self.build(latents, target, context)?));
        }
        let problem = match target {
            Target::Classes(_) => "reconstructs inputs and gives no class probabilities",
            Target::Inputs(_) => "gives class probabilities and cannot reconstruct inputs",
        };
        let hint = target.kind().decoders();
        Err(BuildError::new(self.typetag_name(), format!("{problem}\n  hint: {hint} (`--decoder`)")))
    }
}

/// The levels of a code side by side, `[batch, latent]`.
pub fn joined(codes: &[Tensor<2>]) -> Tensor<2> {
    match codes {
        [code] => code.clone(),
        [] => Tensor::zeros([0, 0], &Device::default()),
        several => Tensor::cat(several.to_vec(), 1),
    }
}
