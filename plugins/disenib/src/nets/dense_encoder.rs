//! Encoder `dense`: any number of hidden layers, a code with its own, a shared or no spread.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::softplus;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution, Normal};
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_nets::shape::{features, flatten};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stack::{DenseInit, DenseStack};

/// Spread of the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// One standard deviation an input and dimension: 2z outputs (VIB).
    #[default]
    Diag,
    /// One standard deviation for all inputs and dimensions (NIB): z outputs and a scalar.
    Shared,
    /// None, the code is deterministic: z outputs.
    Point,
}

/// How the second half of the outputs becomes standard deviations under `cov:diag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdMap {
    /// exp(a).
    #[default]
    Exp,
    /// softplus(a - shift).
    Softplus,
}

/// Dense layers with rectified linear units: flatten, hidden layers, z means and what the spread needs.
///
/// `cov:diag`: std = exp(a) or softplus(a - shift) of the second half of the outputs. `cov:shared`: std = exp(log_std), one scalar.
/// Kernels are Glorot uniform with gain sqrt(2), biases 0. 784-1024-1024-32 (`cov:diag`) has 1,886,240 parameters, `cov:shared` with
/// its scalar 1,869,841, `cov:point` 1,869,840.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DenseConfig {
    /// Units of the hidden layers.
    #[schemars(length(max = 32), inner(range(min = 1, max = 65_536)))]
    pub hidden: Vec<usize>,
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
    /// Spread of the code.
    pub cov: Spread,
    /// How outputs become standard deviations.
    pub std: StdMap,
    /// Subtracted before the softplus.
    #[schemars(range(min = -100.0, max = 100.0))]
    pub shift: f64,
    /// ln of the shared standard deviation at the start.
    #[schemars(range(min = -20.0, max = 20.0))]
    pub log_std: f64,
    /// Whether the shared standard deviation is learned.
    pub learn_std: bool,
    /// How kernels are drawn.
    pub init: DenseInit,
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self {
            hidden: vec![1024, 1024],
            z: 16,
            cov: Spread::Diag,
            std: StdMap::Exp,
            shift: 5.0,
            log_std: 1.0,
            learn_std: true,
            init: DenseInit::GlorotRelu,
        }
    }
}

/// The network of [`DenseConfig`].
#[derive(Module, Debug)]
pub struct DenseEncoder {
    /// Inputs to outputs.
    pub stack: DenseStack,
    /// ln of the shared standard deviation, `[1]`, where it is learned.
    pub log_std: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: DenseConfig,
}

/// Standard deviations from raw outputs.
pub fn standard_deviation(raw: Tensor<2>, map: StdMap, shift: f64) -> Tensor<2> {
    match map {
        StdMap::Exp => raw.exp(),
        StdMap::Softplus => softplus(raw.sub_scalar(shift), 1.0),
    }
}

impl Encoder for DenseEncoder {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let raw = self.stack.forward(flatten(inputs));
        let z = self.config.z;
        match self.config.cov {
            Spread::Point => Delta { value: raw }.boxed(),
            Spread::Diag => Normal {
                mean: raw.clone().narrow(1, 0, z),
                scale: standard_deviation(raw.narrow(1, z, z), self.config.std, self.config.shift),
            }
            .boxed(),
            Spread::Shared => {
                let scale = match &self.log_std {
                    Some(log_std) => log_std.val().exp().reshape([1, 1]).expand(raw.dims()),
                    None => raw.full_like(self.config.log_std.exp()),
                };
                Normal { mean: raw, scale }.boxed()
            }
        }
    }
}

#[typetag::serde(name = "dense")]
impl EncoderConfig for DenseConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let outputs = if self.cov == Spread::Diag { 2 * self.z } else { self.z };
        let stack = DenseStack::new(features("dense", shape)?, &self.hidden, outputs, false, true, self.init, context);
        let log_std = (self.cov == Spread::Shared && self.learn_std).then(|| context.constant([1], self.log_std));
        Ok(Box::new(DenseEncoder { stack, log_std, config: self.clone() }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: DenseConfig as EncoderConfig, aliases: [], paper: "Pan et al. 2021, arXiv:2012.07372",
    example: "dense/hidden:[1024;1024]|z:16|cov:point"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;

    fn built(config: &DenseConfig, shape: [usize; 3]) -> BoxedEncoder {
        BoxedEncoder::new(config.build(shape, &BuildContext::new(Device::flex(), 1)).unwrap())
    }

    #[test]
    fn the_paper_sizes_have_the_published_numbers_of_parameters() {
        for (cov, expected) in [(Spread::Diag, 1_886_240), (Spread::Shared, 1_869_841), (Spread::Point, 1_869_840)] {
            assert_eq!(built(&DenseConfig { cov, ..DenseConfig::default() }, [1, 28, 28]).num_params(), expected);
        }
    }

    #[test]
    fn a_shared_spread_starts_where_it_is_told_learned_or_not() {
        for learn_std in [true, false] {
            let config = DenseConfig { hidden: vec![3], z: 2, cov: Spread::Shared, learn_std, log_std: 0.5, ..DenseConfig::default() };
            let (mean, scale) = built(&config, [1, 2, 2]).encode(Tensor::ones([5, 1, 2, 2], &Device::flex())).as_normal().unwrap();
            let scale: Vec<f32> = scale.into_data().try_to_vec().unwrap();
            assert_eq!((mean.dims(), scale.len()), ([5, 2], 10));
            assert!(scale.iter().all(|s| (s - 0.5f32.exp()).abs() < 1e-6));
        }
    }
}
