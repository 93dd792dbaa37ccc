//! The model and losses of objective `disenib`.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use ibhost_framework::dataset::Batch;
use ibhost_framework::decoder::BoxedDecoder;
use ibhost_framework::distributions::{BoxedDistribution, Distribution, Normal};
use ibhost_framework::encoder::BoxedEncoder;
use ibhost_framework::latent_classifier::{averaged_log_likelihood_loss, checked};
use ibhost_framework::math::accuracy;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{Classifier, Loss, Measure, Objective, ParameterGroup, PosteriorModel, Progress, StyleModel};
use ibhost_framework::plan::Plan;

use crate::clustering::clustered;
use crate::config::DisenIbConfig;
use crate::losses::{adversarial, discriminator_hits, estimator, reconstruction, wall};
use crate::nets::discriminator::Discriminator;
use crate::nets::estimator::Estimator;
use crate::nets::reconstructor::Reconstructor;
use crate::plan::{Reach, Update, plan};
use crate::sampling::{repeat_labels, spread};

/// Purposes of the noise of an update, in the order it is drawn.
pub mod noise {
    /// Class code in front of the decoder.
    pub const DECODE: &str = "class code/decode";
    /// Style code in front of the reconstructor.
    pub const RECONSTRUCT: &str = "style code/reconstruct";
    /// Style code of joint pairs.
    pub const STYLE: &str = "style code/joint";
    /// Class code of joint pairs.
    pub const CLASS: &str = "class code/joint";
    /// Style code of products of marginals.
    pub const PRODUCT_STYLE: &str = "style code/product";
    /// Class code of products of marginals.
    pub const PRODUCT_CLASS: &str = "class code/product";
    /// Order of the style codes of products.
    pub const STYLE_ORDER: &str = "style code/order";
    /// Order of the class codes of products.
    pub const CLASS_ORDER: &str = "class code/order";
}

/// Two encoders, the networks behind them and the networks that judge them.
#[derive(Module, Debug)]
pub struct DisenIb {
    /// x to s.
    pub encoder_style: BoxedEncoder,
    /// x to t.
    pub encoder_class: BoxedEncoder,
    /// t to class logits.
    pub decoder: BoxedDecoder,
    /// s and y to x.
    pub reconstructor: Reconstructor,
    /// D(s, t).
    pub estimator: Estimator,
    /// Images to made or real.
    pub discriminator: Option<Discriminator>,
    #[module(skip)]
    pub(crate) config: DisenIbConfig,
}

/// Total with the terms a weight lets through; keeps what it saw for the log.
#[derive(Default)]
struct Sum {
    total: Option<Tensor<1>>,
    measures: Vec<Measure>,
}

impl Sum {
    fn add(&mut self, weight: f64, term: &Tensor<1>) {
        if weight > 0.0 {
            let weighted = term.clone().mul_scalar(weight);
            self.total = Some(match self.total.take() {
                Some(total) => total + weighted,
                None => weighted,
            });
        }
    }

    fn log(&mut self, name: &'static str, value: Tensor<1>) {
        self.measures.push(Measure::new(name, value));
    }

    /// The loss; a total of nothing is 0 on the device of `like`.
    fn loss(mut self, name: Option<&'static str>, like: &Tensor<2>) -> Loss {
        let total = self.total.take().unwrap_or_else(|| like.clone().sum().mul_scalar(0.0));
        if let Some(name) = name {
            self.log(name, total.clone());
        }
        Loss { total, measures: self.measures }
    }
}

impl DisenIb {
    fn logits(&self, codes: Tensor<2>) -> Tensor<2> {
        checked(self.decoder.decode(&[codes], None).logits())
    }

    fn class_loss(&self, codes: Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
        let logits = self.logits(codes);
        let [rows, classes] = logits.dims();
        averaged_log_likelihood_loss(logits.reshape([1, rows, classes]), labels)
    }

    /// `n_samples` noisy versions of `mean`.
    fn noisy(&self, mean: &Tensor<2>, std: f64, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let [batch, latent] = mean.dims();
        let noise = draws.normal(purpose, [batch, self.config.n_samples, latent], &mean.device());
        spread(mean.clone(), std, noise)
    }

    /// D on joint pairs.
    fn joint(&self, style: &Tensor<2>, class: &Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        let style = self.noisy(style, self.config.est_style_std, noise::STYLE, draws);
        let class = self.noisy(class, self.config.est_class_std, noise::CLASS, draws);
        self.estimator.forward(style, class)
    }

    /// Class, reconstruction and wall terms, with their weights; the reconstructions when they were made.
    fn common(&self, batch: &Batch, style: &Tensor<2>, class: &Tensor<2>, sum: &mut Sum, draws: &mut Draws) -> Option<Tensor<4>> {
        let config = &self.config;
        let labels = repeat_labels(&batch.labels, config.n_samples);
        if config.lambda_dec != 0.0 {
            let codes = self.noisy(class, config.class_std, noise::DECODE, draws);
            let term = self.class_loss(codes, &labels);
            sum.add(config.lambda_dec, &term);
            sum.log("loss_dec", term);
        }
        let mut images = None;
        if config.lambda_rec != 0.0 || config.disc {
            let codes = self.noisy(style, config.style_std, noise::RECONSTRUCT, draws);
            let made = self.reconstructor.forward(codes, labels);
            let term = reconstruction(made.clone(), batch.inputs.clone());
            sum.add(config.lambda_rec, &term);
            sum.log("loss_rec", term);
            images = Some(made);
        }
        if config.lambda_wall != 0.0 {
            let term = wall(style.clone(), class.clone(), config.emb_radius);
            sum.add(config.lambda_wall, &term);
            sum.log("loss_wall", term);
        }
        images
    }

    fn main_loss(&self, batch: &Batch, reach: Reach, sharpen: bool, draws: &mut Draws) -> Loss {
        let style = self.encoder_style.encode(batch.inputs.clone()).mean();
        let class = self.encoder_class.encode(batch.inputs.clone()).mean();
        let mut sum = Sum::default();
        let images = self.common(batch, &style, &class, &mut sum, draws);
        sum.log("accuracy", accuracy(self.logits(class.clone().detach()), &batch.labels));
        if self.config.lambda_est != 0.0 {
            // The term reaches one encoder at a time; the other code is a constant for it.
            let (s, t) = match reach {
                Reach::Nobody => (style.clone().detach(), class.clone().detach()),
                Reach::Style => (style.clone(), class.clone().detach()),
                Reach::Class => (style.clone().detach(), class.clone()),
            };
            let score = self.joint(&s, &t, draws).mean();
            let term = score.clone().neg();
            if reach != Reach::Nobody {
                sum.add(self.config.lambda_est, &term);
            }
            sum.log("loss_est", term);
            sum.log("est", score);
        }
        if let (true, Some(discriminator), Some(images)) = (sharpen && self.config.lambda_disc != 0.0, &self.discriminator, images) {
            let term = adversarial(discriminator.forward(images), true);
            sum.add(self.config.lambda_disc, &term);
            sum.log("loss_disc", term);
        }
        sum.loss(Some("loss"), &style)
    }

    fn estimator_loss(&self, batch: &Batch, draws: &mut Draws) -> Loss {
        let style = self.encoder_style.encode(batch.inputs.clone()).mean().detach();
        let class = self.encoder_class.encode(batch.inputs.clone()).mean().detach();
        let config = &self.config;
        let near = |codes: &Tensor<2>, factor| if config.cluster { clustered(codes.clone(), factor) } else { codes.clone() };
        let product_style = self.noisy(&near(&style, config.style_std), config.est_style_std, noise::PRODUCT_STYLE, draws);
        let product_class = self.noisy(&near(&class, config.class_std), config.est_class_std, noise::PRODUCT_CLASS, draws);
        let product_style = shuffled(product_style, noise::STYLE_ORDER, draws);
        let product_class = shuffled(product_class, noise::CLASS_ORDER, draws);
        let product = self.estimator.forward(product_style, product_class);
        let joint = self.joint(&style, &class, draws);
        let terms = estimator(&product, &joint);
        let mut sum = Sum::default();
        sum.add(1.0, &terms.real);
        sum.add(1.0, &terms.fake);
        sum.add(config.lambda_est_zc, &terms.zero_centring);
        sum.log("loss_est_real", terms.real);
        sum.log("est_real", product.mean());
        sum.log("loss_est_fake", terms.fake);
        sum.log("est_fake", joint.mean());
        sum.loss(None, &style)
    }

    fn discriminator_loss(&self, batch: &Batch, draws: &mut Draws) -> Loss {
        let style = self.encoder_style.encode(batch.inputs.clone()).mean().detach();
        let mut sum = Sum::default();
        if let Some(discriminator) = &self.discriminator {
            let codes = self.noisy(&style, self.config.style_std, noise::RECONSTRUCT, draws);
            let made = self.reconstructor.forward(codes, repeat_labels(&batch.labels, self.config.n_samples)).detach();
            let (real, made) = (discriminator.forward(batch.inputs.clone()), discriminator.forward(made));
            // Each image counts the same, however many reconstructions an input has.
            let (n, m) = (real.dims()[0] as f64, made.dims()[0] as f64);
            let hits = discriminator_hits(real.clone().detach(), true).mul_scalar(n)
                + discriminator_hits(made.clone().detach(), false).mul_scalar(m);
            let (real, made) = (adversarial(real, true), adversarial(made, false));
            sum.add(1.0, &real);
            sum.add(1.0, &made);
            sum.log("loss_disc_real", real);
            sum.log("loss_disc_fake", made);
            sum.log("disc_acc", hits.div_scalar(n + m));
        }
        sum.loss(None, &style)
    }
}

/// Rows in a drawn order.
fn shuffled(rows: Tensor<2>, purpose: &str, draws: &mut Draws) -> Tensor<2> {
    let n = rows.dims()[0];
    let order: Vec<i64> = draws.permutation(purpose, n).into_iter().map(|i| i as i64).collect();
    let order = Tensor::<1, Int>::from_data(TensorData::new(order, [n]), &rows.device());
    rows.select(0, order)
}

impl Objective for DisenIb {
    fn phases(&self) -> Vec<&'static str> {
        Update::names().to_vec()
    }

    fn groups(&self) -> Vec<ParameterGroup> {
        ["encoder_class", "encoder_style", "decoder", "reconstructor", "estimator", "discriminator"].map(ParameterGroup::field).to_vec()
    }

    fn plan(&self) -> Option<Plan> {
        Some(plan(&self.config))
    }

    fn loss(&self, phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        match Update::of(phase) {
            Update::Main { reach, sharpen } => self.main_loss(batch, reach, sharpen, draws),
            Update::Estimator => self.estimator_loss(batch, draws),
            Update::Discriminator => self.discriminator_loss(batch, draws),
        }
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let style = self.encoder_style.encode(batch.inputs.clone()).mean();
        let class = self.encoder_class.encode(batch.inputs.clone()).mean();
        let mut sum = Sum::default();
        self.common(batch, &style, &class, &mut sum, draws);
        sum.log("accuracy", accuracy(self.logits(class), &batch.labels));
        sum.loss(Some("loss"), &style).measures
    }
}

impl Classifier for DisenIb {
    /// At the mean of t, whatever the number of `samples`: the paper evaluates without noise.
    fn class_log_probabilities(&self, inputs: Tensor<4>, _samples: usize, draws: &mut Draws) -> Tensor<2> {
        burn::tensor::activation::log_softmax(Classifier::logits(self, inputs, draws), 1)
    }

    fn logits(&self, inputs: Tensor<4>, _draws: &mut Draws) -> Tensor<2> {
        DisenIb::logits(self, self.encoder_class.encode(inputs).mean())
    }
}

/// N(mean, std^2) around a deterministic code.
fn around(code: BoxedDistribution, std: f64) -> BoxedDistribution {
    let mean = code.mean();
    Normal { scale: mean.full_like(std), mean }.boxed()
}

impl PosteriorModel for DisenIb {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        around(self.encoder_class.encode(inputs), self.config.class_std)
    }
}

impl StyleModel for DisenIb {
    fn style(&self, inputs: Tensor<4>) -> BoxedDistribution {
        around(self.encoder_style.encode(inputs), self.config.style_std)
    }

    fn restyle(&self, styles: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<4> {
        self.reconstructor.forward(styles, classes)
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A small batch and the parts around it.

    use burn::tensor::{Device, Tensor, TensorData};
    use ibhost_framework::component::resolve;
    use ibhost_framework::dataset::{Batch, DataInfo};
    use ibhost_framework::decoder::DecoderConfig;
    use ibhost_framework::encoder::EncoderConfig;
    use ibhost_framework::registry::Kind;

    pub fn data() -> DataInfo {
        DataInfo {
            name: "fixture".to_owned(),
            classes: (0..3).map(|c| c.to_string()).collect(),
            shape: [1, 2, 3],
            note: None,
            class_entropy: None,
        }
    }

    pub fn parts_of(encoder: &str, decoder: &str) -> (Box<dyn EncoderConfig>, Box<dyn DecoderConfig>) {
        let encoder = resolve::<dyn EncoderConfig>(Kind::Encoder, encoder).unwrap().1;
        (encoder, resolve::<dyn DecoderConfig>(Kind::Decoder, decoder).unwrap().1)
    }

    pub fn batch(device: &Device) -> Batch {
        let n = 6;
        let values: Vec<f32> = (0..n * 6).map(|i| (i as f32 * 1.3).sin()).collect();
        Batch {
            inputs: Tensor::from_data(TensorData::new(values, [n, 1, 2, 3]), device),
            labels: Tensor::from_ints([0, 1, 2, 2, 1, 0], device),
            indices: (0..n).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{batch, data, parts_of};
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::build::{BuildContext, BuildError};
    use ibhost_framework::noise::Noise;
    use ibhost_framework::objective::{ObjectiveConfig, Parts, read_measures};
    use ibhost_framework::parameters;

    fn build(config: &DisenIbConfig, encoder: &str) -> Result<DisenIb, BuildError> {
        let (data, context) = (data(), BuildContext::new(Device::flex().autodiff(), 5));
        let (encoder, decoder) = parts_of(encoder, config.recipe().decoder);
        config.objective(&Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context })
    }

    fn small() -> DisenIbConfig {
        DisenIbConfig { n_samples: 2, rec_hidden: vec![8], ..DisenIbConfig::default() }
    }

    fn draws() -> Draws {
        Draws::seeded(Noise::new(3), 0, "test")
    }

    /// Paths below which the loss of a phase has a gradient.
    fn moved(model: &DisenIb, phase: &str) -> Vec<&'static str> {
        struct Reader<'a>(Vec<String>, &'a burn::tensor::Gradients, Vec<String>);
        impl burn::module::ModuleVisitor for Reader<'_> {
            fn enter_module(&mut self, name: &str, _container_type: &str) {
                self.0.push(name.to_owned());
            }
            fn exit_module(&mut self, _name: &str, _container_type: &str) {
                self.0.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
                let gradient = param.val().grad(self.1).map(|g| g.abs().sum().into_scalar::<f32>());
                if gradient.is_some_and(|g| g > 0.0) {
                    self.2.push(self.0.join("."));
                }
            }
        }
        let gradients = model.loss(phase, Progress::at(1, 0), &batch(&Device::flex().autodiff()), &mut draws()).total.backward();
        let mut reader = Reader(Vec::new(), &gradients, Vec::new());
        model.visit(&mut reader);
        ["encoder_style", "encoder_class", "decoder", "reconstructor", "estimator"]
            .into_iter()
            .filter(|name| reader.2.iter().any(|path| path.starts_with(name)))
            .collect()
    }

    #[test]
    fn each_term_reaches_the_networks_it_should() {
        let only = |change: fn(&mut DisenIbConfig)| {
            let mut config = DisenIbConfig { lambda_dec: 0.0, lambda_rec: 0.0, lambda_wall: 0.0, lambda_est: 0.0, ..small() };
            change(&mut config);
            build(&config, "dense/hidden:[7]|z:3|cov:point").unwrap()
        };
        assert_eq!(moved(&only(|c| c.lambda_dec = 1.0), "main"), ["encoder_class", "decoder"]);
        assert_eq!(moved(&only(|c| c.lambda_rec = 1.0), "main"), ["encoder_style", "reconstructor"]);
        let est = only(|c| c.lambda_est = 1.0);
        assert_eq!(moved(&est, "main_style"), ["encoder_style", "estimator"]);
        assert_eq!(moved(&est, "main_class"), ["encoder_class", "estimator"]);
        assert_eq!(moved(&est, "estimator"), ["estimator"]);
        assert!(moved(&only(|c| (c.lambda_wall, c.emb_radius) = (1.0, 0.0)), "main").starts_with(&["encoder_style", "encoder_class"]));
    }

    #[test]
    fn every_phase_reports_what_is_described_and_every_parameter_has_one_optimiser() {
        let model = build(&small(), "dense/hidden:[7]|z:3|cov:point").unwrap();
        let described: Vec<String> = small().quantities().into_iter().map(|q| q.name).collect();
        let plan = model.plan().unwrap();
        let mut seen: Vec<String> = Vec::new();
        for phase in &plan.phases {
            let names =
                read_measures(model.loss(&phase.name, Progress::at(1, 0), &batch(&Device::flex().autodiff()), &mut draws()).measures);
            seen.extend(names.into_iter().map(|(name, value)| {
                assert!(value.is_finite(), "{name}");
                name
            }));
        }
        seen.extend(
            read_measures(model.valid().evaluate(Progress::at(1, 0), &batch(&Device::flex()), &mut draws()))
                .into_iter()
                .map(|(name, _)| name),
        );
        for name in &described {
            assert!(seen.contains(name), "{name} is never reported");
        }
        assert!(seen.iter().all(|name| described.contains(name)));
        parameters::for_each(&model, |found| {
            assert_eq!(plan.optimisers.iter().filter(|slot| slot.contains(found.path)).count(), 1, "{}", found.path);
        });
    }

    #[test]
    fn a_noisy_encoder_is_refused_and_capabilities_have_the_right_sizes() {
        let error = build(&small(), "dense/hidden:[7]|z:3").unwrap_err().to_string();
        assert!(error.contains("cov:point"), "{error}");
        let model = build(&small(), "dense/hidden:[7]|z:3|cov:point").unwrap().valid();
        let inputs = batch(&Device::flex()).inputs;
        let posterior = model.posterior(inputs.clone());
        assert!(posterior.is_stochastic() && posterior.dims() == [6, 3]);
        let images = model.restyle(model.style(inputs.clone()).mean(), Tensor::from_ints([0, 1, 2, 0, 1, 2], &Device::flex()));
        assert_eq!(images.dims(), [6, 1, 2, 3]);
        let first = model.class_log_probabilities(inputs.clone(), 1, &mut draws()).into_data();
        assert_eq!(first, model.class_log_probabilities(inputs, 9, &mut draws()).into_data());
    }
}
