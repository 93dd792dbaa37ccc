//! The network of `vector_mlp` with a third head for log weights: conditional mixtures of normals, q(z|x) or p(x|z).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::decoder::{Decoder, joined};
use ibhost_framework::distributions::{BoxedDistribution, Distribution, NormalMixture};
use ibhost_framework::encoder::Encoder;
use ibhost_framework::objective::Parts;
use ibhost_nets::vector_mlp::{Activation, DenseDecoderConfig, DenseEncoderConfig, Layers, Output};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The component whose settings the network takes.
const NETWORK: &str = "vector_mlp";

/// Hidden layers followed by three heads: the mixture sum_k w_k N(loc_k, diag(exp(logscale_k) + min_scale)^2) with w = softmax(logcoefs).
///
/// Layers, nonlinearity, start and smallest scale are those of `vector_mlp`, whose locations and log scales there are here once for every
/// component. Unlike the weights of a learned prior ([`crate::prior::LearnedMixture`]) small ones are not switched off: they depend on the
/// input, and the density would jump where a component goes.
#[derive(Module, Debug)]
pub struct MixtureNet {
    /// Hidden layers.
    pub hidden: Vec<Linear>,
    /// Locations, `components` times as many as outputs, those of the first component first.
    pub loc: Linear,
    /// Logarithms of the standard deviations, in the same order.
    pub logscale: Linear,
    /// Raw log weights of the components.
    pub logcoefs: Linear,
    #[module(skip)]
    act: Activation,
    min_scale: f64,
}

impl MixtureNet {
    /// A network from `inputs` values to mixtures of `components` normals over `outputs` values.
    pub fn new(layers: &Layers, inputs: usize, outputs: usize, components: usize, context: &BuildContext) -> Self {
        let widths: Vec<usize> = std::iter::once(inputs).chain(std::iter::repeat_n(layers.mid, layers.layers - 1)).collect();
        let width = widths.last().copied().unwrap_or(inputs);
        Self {
            hidden: widths.windows(2).map(|w| context.torch_linear(w[0], w[1])).collect(),
            loc: context.torch_linear(width, components * outputs),
            logscale: context.torch_linear(width, components * outputs),
            logcoefs: context.torch_linear(width, components),
            act: layers.act,
            min_scale: layers.min_scale(),
        }
    }

    /// q(z|x) of `parts` with `components` for samples of `shape`, in place of the encoder `vector_mlp`.
    ///
    /// # Errors
    /// [`BuildError`] when the encoder is another one.
    pub fn encoder(parts: &Parts<'_>, shape: [usize; 3], components: usize) -> Result<Self, BuildError> {
        let config: DenseEncoderConfig = settings(parts.encoder, &format!("q_zx_gmm:{components}"), "encoder")?;
        Ok(Self::new(&config.net, shape.iter().product(), config.z, components, parts.context))
    }

    /// p(x|z) of `parts` with `components` for codes of `latent` numbers and samples of `shape`, in place of the decoder `vector_mlp`.
    ///
    /// # Errors
    /// [`BuildError`] when the decoder is another one, or a Bernoulli one.
    pub fn decoder(parts: &Parts<'_>, latent: usize, shape: [usize; 3], components: usize) -> Result<Self, BuildError> {
        let option = format!("p_xz_gmm:{components}");
        let config: DenseDecoderConfig = settings(parts.decoder, &option, "decoder")?;
        if config.output == Output::Bernoulli {
            let problem = format!(
                "{option} is a mixture of normals, but the decoder's output is Bernoulli; leave p_xz_gmm out, or use \
                 `--decoder {NETWORK}/output:normal`"
            );
            return Err(BuildError::new("mim", problem));
        }
        Ok(Self::new(&config.net, latent, shape.iter().product(), components, parts.context))
    }

    /// Mixtures at `x` `[batch, inputs]`.
    pub fn forward(&self, x: Tensor<2>) -> NormalMixture {
        let hidden = self.hidden.iter().fold(x, |x, layer| self.act.apply(layer.forward(x)));
        let log_weights = log_softmax(self.logcoefs.forward(hidden.clone()), 1);
        let [batch, components] = log_weights.dims();
        let each = |head: &Linear| {
            let values = head.forward(hidden.clone());
            let outputs = values.dims()[1] / components;
            values.reshape([batch, components, outputs])
        };
        NormalMixture { log_weights, mean: each(&self.loc), scale: each(&self.logscale).exp().add_scalar(self.min_scale) }
    }
}

/// The settings of `part`, which must be `vector_mlp` for `option` to add heads to it.
fn settings<C: DeserializeOwned>(part: impl Serialize, option: &str, role: &str) -> Result<C, BuildError> {
    let refuse = |problem: String| BuildError::new("mim", problem);
    let value = serde_json::to_value(part).map_err(|e| refuse(format!("the {role}'s settings cannot be read: {e}")))?;
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name != NETWORK {
        let key = option.split(':').next().unwrap_or(option);
        return Err(refuse(format!(
            "{option} adds a head for the weights of its components to the {role} `{NETWORK}`, but the {role} is `{name}`; use \
             `--{role} {NETWORK}`, or leave {key} out"
        )));
    }
    serde_json::from_value(value).map_err(|e| refuse(format!("the settings of the {role} `{NETWORK}` cannot be read: {e}")))
}

impl Encoder for MixtureNet {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.forward(rows(inputs)).boxed()
    }
}

fn rows(inputs: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = inputs.dims();
    inputs.reshape([batch, channels * height * width])
}

impl Decoder for MixtureNet {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        self.forward(joined(codes)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::tensor::{DType, Device, TensorData};
    use ibhost_framework::distributions::{Normal, normal_log_prob};
    use ibhost_framework::noise::{Draws, Noise};

    const INPUTS: [f64; 4] = [0.3, -1.2, 0.8, 0.5];
    const CODES: [f64; 6] = [0.1, -0.4, 0.9, -0.2, 0.6, 0.3];

    fn net(components: usize) -> MixtureNet {
        let layers = Layers { mid: 4, min_logvar: 1.0, ..Layers::default() };
        MixtureNet::new(&layers, 2, 3, components, &BuildContext::new(Device::flex().autodiff(), 5))
    }

    fn double<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Device::flex().autodiff(), DType::F64))
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    /// The network in double precision, and its numbers layer by layer, weight before bias.
    fn in_double(mut net: MixtureNet) -> (MixtureNet, Vec<Vec<f64>>) {
        let mut numbers = Vec::new();
        let layers = net.hidden.iter_mut().chain([&mut net.loc, &mut net.logscale, &mut net.logcoefs]);
        for layer in layers {
            let shape = layer.weight.dims();
            let (weight, bias) = (values(layer.weight.val()), layer.bias.as_ref().map(|b| values(b.val())).unwrap_or_default());
            layer.weight = Param::from_tensor(double(&weight, shape));
            layer.bias = Some(Param::from_tensor(double(&bias, [shape[1]])));
            numbers.extend([weight, bias]);
        }
        (net, numbers)
    }

    fn affine(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let n = bias.len();
        (0..n).map(|j| bias[j] + x.iter().enumerate().map(|(i, x)| x * weight[i * n + j]).sum::<f64>()).collect()
    }

    /// ln of the mixtures of `n`'s network at the codes by the formula itself, for both inputs.
    fn formula(n: &[Vec<f64>]) -> Vec<f64> {
        let one = |x: &[f64], z: &[f64]| {
            let hidden: Vec<f64> = affine(x, &n[0], &n[1]).iter().map(|h| h.tanh()).collect();
            let (loc, logscale, raw) = (affine(&hidden, &n[2], &n[3]), affine(&hidden, &n[4], &n[5]), affine(&hidden, &n[6], &n[7]));
            let total: f64 = raw.iter().map(|l| l.exp()).sum();
            let density = raw.iter().enumerate().map(|(k, l)| {
                let normals = z.iter().enumerate().map(|(d, z)| {
                    let scale = logscale[3 * k + d].exp() + 0.1;
                    let t = (z - loc[3 * k + d]) / scale;
                    (-0.5 * t * t).exp() / (scale * (2.0 * std::f64::consts::PI).sqrt())
                });
                l.exp() / total * normals.product::<f64>()
            });
            density.sum::<f64>().ln()
        };
        INPUTS.chunks(2).zip(CODES.chunks(3)).map(|(x, z)| one(x, z)).collect()
    }

    #[test]
    fn densities_are_those_of_the_formula() {
        for components in [1, 2, 5] {
            let (net, numbers) = in_double(net(components));
            let found = values(net.forward(double(&INPUTS, [2, 2])).log_prob(double(&CODES, [2, 3])).unwrap());
            let expected = formula(&numbers);
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
        }
    }

    #[test]
    fn gradients_of_every_head_are_finite_differences_of_the_formula() {
        let (net, numbers) = in_double(net(3));
        let gradients = net.forward(double(&INPUTS, [2, 2])).log_prob(double(&CODES, [2, 3])).unwrap().sum().backward();
        for (index, head) in [(0, &net.hidden[0]), (2, &net.loc), (4, &net.logscale), (6, &net.logcoefs)] {
            let weight = values(head.weight.val().grad(&gradients).unwrap());
            let bias = values(head.bias.as_ref().unwrap().val().grad(&gradients).unwrap());
            for (index, found) in [(index, weight), (index + 1, bias)] {
                for (i, found) in found.iter().enumerate() {
                    let at = |step: f64| {
                        let mut moved = numbers.clone();
                        moved[index][i] += step;
                        formula(&moved).iter().sum::<f64>()
                    };
                    let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                    assert!((found - expected).abs() < 1e-7, "{index}, {i}: {found} {expected}");
                    assert!(found.abs() > 1e-12, "{index}, {i}: no gradient");
                }
            }
        }
    }

    #[test]
    fn one_component_is_the_normal_of_its_heads_whatever_its_weight() {
        let (mut net, _) = in_double(net(1));
        let x = double(&INPUTS, [2, 2]);
        let mixture = net.forward(x.clone());
        let (mean, scale) = (mixture.rows(&mixture.mean), mixture.rows(&mixture.scale));
        let z = double(&CODES, [2, 3]);
        let expected = values(normal_log_prob(z.clone(), mean.clone(), scale.clone()));
        assert_eq!(values(mixture.log_prob(z.clone()).unwrap()), expected);
        net.logcoefs.bias = Some(Param::from_tensor(double(&[7.0], [1])));
        assert_eq!(values(net.forward(x).log_prob(z).unwrap()), expected);
        let Normal { mean: found, scale: spread } = mixture.matched();
        let close = |a: Tensor<2>, b: Tensor<2>| values(a).iter().zip(values(b)).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(found, mean) && close(spread, scale));
    }

    #[test]
    fn samples_of_one_input_follow_its_weights() {
        let mut net = net(2);
        let context = BuildContext::new(Device::flex().autodiff(), 5);
        net.loc.bias = Some(context.given([6], [[-20.0; 3], [20.0; 3]].concat()));
        let count = 20_000;
        let x = Tensor::<2>::from_floats([[0.4, -0.7]], &Device::flex().autodiff()).expand([count, 2]);
        let mixture = net.forward(x);
        let share = values(mixture.log_weights.clone().exp())[0];
        let noise = Draws::seeded(Noise::new(1), 0, "test").normal("mixture", [count, 4], &Device::flex().autodiff());
        let (sample, _) = mixture.choose(noise);
        let low = values(sample).chunks(3).filter(|z| z[0] < 0.0).count() as f64 / count as f64;
        assert!((0.05..0.95).contains(&share), "{share}");
        assert!((low - share).abs() < 4.0 * (share * (1.0 - share) / count as f64).sqrt(), "{low} {share}");
    }
}
