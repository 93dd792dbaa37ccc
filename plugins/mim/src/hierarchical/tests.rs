//! Tests of the hierarchical objective on small images.

use burn::tensor::{Device, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::capability::LogDensity;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::distributions::{BoxedDistribution, Categorical, Delta, Distribution, MultivariateNormal, Normal, Relaxation};
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_framework::noise::Noise;
use ibhost_framework::objective::{BoxedObjective, read_measures};
use ibhost_framework::strategy::MAIN;
use ibhost_nets::image_decoder::{GatedConvDecoderConfig, GatedMlpDecoderConfig, PixelConvConfig};
use ibhost_nets::ladder::{GatedConvConfig, GatedMlpConfig, Levels as Sizes};
use ibhost_nets::vector_mlp::{DenseDecoderConfig, Output};

use super::*;

const SHAPE: [usize; 3] = [1, 6, 6];

fn build(config: &HierarchicalConfig, encoder: &dyn EncoderConfig, decoder: &dyn DecoderConfig) -> Result<BoxedObjective, BuildError> {
    let data = DataInfo { name: "test".to_owned(), classes: vec!["a".to_owned()], shape: SHAPE, note: None, class_entropy: None };
    let context = BuildContext::new(Device::flex().autodiff(), 2);
    config.build(&Parts { encoder, decoder, data: &data, context: &context }).map(BoxedObjective::new)
}

fn images(device: &Device) -> Tensor<4> {
    let mut stream = Noise::new(5).stream("images", 0);
    let values: Vec<f32> = (0..4 * 36).map(|_| if stream.uniform() < 0.3 { 1.0 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(values, [4, 1, 6, 6]), device)
}

fn batch(device: &Device) -> Batch {
    Batch { inputs: images(device), labels: Tensor::from_ints([0, 0, 0, 0], device), indices: (0..4).collect() }
}

fn value(measures: &[(String, f64)], name: &str) -> f64 {
    measures.iter().find(|(n, _)| n == name).unwrap().1
}

#[test]
fn every_model_prior_and_loss_trains_samples_and_bounds_the_evidence() {
    let conv = GatedConvConfig { levels: Sizes { z1: 3, z2: 2 } };
    let (one, two) = (GatedMlpConfig { levels: Sizes { z1: 3, z2: 0 } }, GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } });
    let models: [(&dyn EncoderConfig, &dyn DecoderConfig); 4] = [
        (&one, &GatedMlpDecoderConfig {}),
        (&two, &GatedMlpDecoderConfig {}),
        (&conv, &GatedConvDecoderConfig {}),
        (&conv, &PixelConvConfig { open_code: false }),
    ];
    for (encoder, decoder) in models {
        for (loss, prior, q_x) in [
            (HierarchicalLoss::Vae, TopPrior::Vampprior, ImageMarginal::Marginal),
            (HierarchicalLoss::Smim, TopPrior::Vampprior, ImageMarginal::Vampprior),
            (HierarchicalLoss::Smim, TopPrior::Standard, ImageMarginal::Marginal),
        ] {
            let config = HierarchicalConfig { loss, prior, q_x, components: 5, warmup: 0, ..HierarchicalConfig::default() };
            let model = build(&config, encoder, decoder).unwrap();
            let mut draws = Draws::seeded(Noise::new(1), 0, "test");
            let loss = model.loss(MAIN, Progress::at(1, 0), &batch(&Device::flex().autodiff()), &mut draws);
            assert!(read_measures(loss.measures).iter().all(|(_, v)| v.is_finite()), "{config:?}");
            drop(loss.total.backward());
            let model = model.valid();
            let generative = model.capability::<LogDensity>().unwrap();
            let latent = encoder.latent();
            let codes = generative.sample_codes(images(&Device::flex()), &mut draws).unwrap();
            for count in [1, 3, 5, 11] {
                assert_eq!(generative.sample_prior(count, &mut draws).unwrap().dims(), [count, latent], "{config:?}");
            }
            assert_eq!(codes.dims(), [4, latent]);
            assert_eq!(generative.decode_mean(codes.clone(), &mut draws).dims(), [4, 36]);
            let sample = generative.decode_sample(codes.clone(), &mut draws);
            assert!(sample.dims() == [4, 36] && sample.into_data().iter::<f32>().all(|x| x == 0.0 || x == 1.0));
            let mean = |x: Tensor<1>| x.mean().into_scalar::<f32>();
            let bound = mean(generative.marginal_log_prob(images(&Device::flex()), codes).unwrap());
            let evidence = mean(generative.log_evidence(images(&Device::flex()), 30, &mut draws).unwrap());
            assert!(bound.is_finite() && evidence > bound - 2.0, "{evidence} {bound}");
        }
    }
}

#[test]
fn losses_are_what_their_formulas_say() {
    let two = GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } };
    let measures = |loss, epoch| {
        let config = HierarchicalConfig { loss, components: 5, warmup: 4, ..HierarchicalConfig::default() };
        let model = build(&config, &two, &GatedMlpDecoderConfig {}).unwrap();
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        read_measures(model.loss(MAIN, Progress::at(epoch, 0), &batch(&Device::flex().autodiff()), &mut draws).measures)
    };
    let vae = measures(HierarchicalLoss::Vae, 1);
    assert!((value(&vae, "loss") - value(&vae, "distortion") - 0.25 * value(&vae, "rate")).abs() < 1e-4);
    assert!((value(&vae, "negative_evidence_bound") - value(&vae, "distortion") - value(&vae, "rate")).abs() < 1e-4);
    // Before the end of the warm-up there is no sampled branch.
    assert_eq!(measures(HierarchicalLoss::Smim, 3), measures(HierarchicalLoss::Amim, 3));
    assert!((value(&measures(HierarchicalLoss::Smim, 4), "loss") - value(&measures(HierarchicalLoss::Amim, 4), "loss")).abs() > 1.0);
}

#[test]
fn the_rates_of_the_levels_add_up_to_the_rate() {
    let two = GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } };
    let model = build(&HierarchicalConfig { components: 5, ..HierarchicalConfig::default() }, &two, &GatedMlpDecoderConfig {}).unwrap();
    let (model, seeded) = (model.valid(), || Draws::seeded(Noise::new(1), 0, "test"));
    let rates = model.capability::<LogDensity>().unwrap().level_rates(images(&Device::flex()), &mut seeded()).unwrap();
    let total: f32 = rates.iter().map(|rate| rate.clone().mean().into_scalar::<f32>()).sum();
    let whole = value(&read_measures(model.evaluate(Progress::at(1, 0), &batch(&Device::flex()), &mut seeded())), "rate");
    assert!(rates.len() == 2 && (f64::from(total) - whole).abs() < 1e-4, "{total} {whole}");
    assert_eq!(model.capability::<LogDensity>().unwrap().level_sizes(), [3, 2]);
}

#[test]
fn codes_of_the_prior_come_from_all_components_however_many_there_are() {
    let two = GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } };
    for components in [1, 7, 500] {
        let config = HierarchicalConfig { components, ..HierarchicalConfig::default() };
        let context = BuildContext::new(Device::flex().autodiff(), 2);
        let data = DataInfo { name: "test".to_owned(), classes: vec!["a".to_owned()], shape: SHAPE, note: None, class_entropy: None };
        let parts = Parts { encoder: &two, decoder: &GatedMlpDecoderConfig {}, data: &data, context: &context };
        let mut model = config.model(&parts).unwrap().valid();
        // A component of its own place each, narrow beside the distances between them.
        let place = Tensor::<1, burn::tensor::Int>::arange(0..components as i64, &Device::flex()).float().reshape([components, 1]);
        let mean = place.expand([components, 2]).mul_scalar(100.0);
        model.prepared = Some(Normal { scale: mean.ones_like(), mean });
        let drawn = |count: usize, seed| {
            let codes = model.sample_prior(count, &mut Draws::seeded(Noise::new(seed), 0, "test")).unwrap();
            assert_eq!(codes.dims(), [count, 5]);
            let top: Vec<f64> = codes.narrow(1, 3, 1).into_data().iter::<f64>().collect();
            top.into_iter().map(|z| (z / 100.0).round() as usize).collect::<Vec<_>>()
        };
        let found = drawn(200, 1);
        assert!(found.iter().all(|&component| component < components));
        let different = found.iter().collect::<std::collections::BTreeSet<_>>().len();
        // Of 500 components 200 draws meet 165 on average; the first 200 in order would be 200.
        let expected = components as f64 * (1.0 - (1.0 - 1.0 / components as f64).powi(200));
        assert!((different as f64 - expected).abs() < 20.0, "{components}: {different} {expected}");
        assert!(components < 500 || found.iter().any(|&component| component >= 400), "the last ones are never drawn");
        assert_eq!(drawn(50, 3), drawn(50, 3));
        assert!(components == 1 || drawn(50, 3) != drawn(50, 4), "another seed draws others");
        // The loss keeps the order of the original.
        let device = Device::flex();
        let first = model.sampled_codes(9, model.components().as_ref(), &device, &mut Draws::seeded(Noise::new(1), 0, "test"));
        assert_eq!(first[1].dims(), [components.min(9), 2]);
    }
}

/// Gives its levels another posterior.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct OtherConfig {
    family: u8,
}

#[derive(Module, Debug)]
struct Other {
    #[module(skip)]
    family: u8,
}

impl Hierarchy for Other {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        vec![flat(inputs).narrow(1, 0, 2)]
    }
    fn level(&self, _level: usize, mean: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
        let [batch, latent] = mean.dims();
        match self.family {
            0 => Delta { value: mean }.boxed(),
            1 => {
                let cholesky = Tensor::<2>::eye(latent, &mean.device()).reshape([1, latent, latent]).expand([batch, latent, latent]);
                MultivariateNormal { mean, cholesky }.boxed()
            }
            _ => Categorical { logits: mean, relaxation: Relaxation { temperature: 0.5, hard: true } }.boxed(),
        }
    }
}

impl Encoder for Other {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.top(inputs)
    }
    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}

#[typetag::serde(name = "other_family_of_tests")]
impl EncoderConfig for OtherConfig {
    fn build(&self, _shape: [usize; 3], _context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        Ok(Box::new(Other { family: self.family }))
    }
    fn latent(&self) -> usize {
        2
    }
}

#[test]
fn levels_that_are_not_diagonal_normals_are_refused_when_the_model_is_built() {
    for (family, name) in [(0, "deterministic"), (1, "full-covariance"), (2, "categorical")] {
        let refused = build(&HierarchicalConfig::default(), &OtherConfig { family }, &GatedMlpDecoderConfig {}).unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("hint: ") && refused.contains("gated_mlp"), "{refused}");
    }
    // A level below the top without a prior would be neither charged nor drawn.
    let two = GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } };
    let bernoulli = DenseDecoderConfig { output: Output::Bernoulli, ..DenseDecoderConfig::default() };
    let refused = build(&HierarchicalConfig::default(), &two, &bernoulli).unwrap_err().to_string();
    assert!(refused.contains("level 1") && refused.contains("has none") && refused.contains("hint: "), "{refused}");
    let one = GatedMlpConfig { levels: Sizes { z1: 3, z2: 0 } };
    build(&HierarchicalConfig::default(), &one, &bernoulli).unwrap();
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let config = HierarchicalConfig { q_x: ImageMarginal::Vampprior, ..HierarchicalConfig::default() };
    let two = GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } };
    assert!(build(&config, &two, &GatedMlpDecoderConfig {}).unwrap_err().to_string().contains("loss:amim"));
    let dense = ibhost_nets::vector_mlp::DenseEncoderConfig::default();
    assert!(build(&HierarchicalConfig::default(), &dense, &GatedMlpDecoderConfig {}).unwrap_err().to_string().contains("gated_conv"));
    let normal = ibhost_nets::vector_mlp::DenseDecoderConfig::default();
    assert!(build(&HierarchicalConfig::default(), &two, &normal).unwrap_err().to_string().contains("Bernoulli"));
    assert!(build(&HierarchicalConfig::default(), &two, &ibhost_nets::linear::LinearConfig {}).is_err());
}

#[test]
fn a_weight_is_a_plain_number_and_every_other_quantity_is_in_nats() {
    for quantity in HierarchicalConfig::default().quantities() {
        assert_eq!(quantity.unit, if quantity.name == "beta" { "1" } else { "nats" }, "{}", quantity.name);
    }
}

#[test]
fn components_computed_beforehand_change_no_number() {
    let two = GatedMlpConfig { levels: Sizes { z1: 3, z2: 2 } };
    let config = HierarchicalConfig { loss: HierarchicalLoss::Smim, components: 5, ..HierarchicalConfig::default() };
    let model = build(&config, &two, &GatedMlpDecoderConfig {}).unwrap().valid();
    let mut prepared = model.clone();
    prepared.prepare_evaluation();
    assert!(format!("{prepared:?}").contains("prepared: Some") && format!("{model:?}").contains("prepared: None"));
    let measures = |model: &dyn Objective| {
        read_measures(model.evaluate(Progress::at(1, 0), &batch(&Device::flex()), &mut Draws::seeded(Noise::new(1), 0, "test")))
    };
    assert_eq!(measures(&*prepared), measures(&*model));
}
