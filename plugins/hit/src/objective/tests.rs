//! Tests of the whole model: published sizes, any number of levels, codes in and out.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Gradients, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::distributions::{StandardNormal, Undefined, one_sample};
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::hierarchy::split;
use ibhost_framework::noise::Noise;
use ibhost_framework::objective::{Parts, read_measures};
use ibhost_framework::registry::Kind;
use ibhost_nets as _;
use ibhost_training as _;

use super::*;

fn build(config: &HitConfig, encoder: &str, decoder: &str, shape: [usize; 3]) -> Result<Hit, String> {
    let context = BuildContext::new(Device::flex().autodiff(), 3);
    let data = DataInfo { name: "test".to_owned(), classes: vec!["0".to_owned()], shape, note: None, class_entropy: None };
    let (_, encoder) = resolve::<dyn EncoderConfig>(Kind::Encoder, encoder).map_err(|error| error.to_string())?;
    let (_, decoder) = resolve::<dyn DecoderConfig>(Kind::Decoder, decoder).map_err(|error| error.to_string())?;
    config.model(&Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context }).map_err(|error| error.to_string())
}

fn images(batch: usize, shape: [usize; 3], device: &Device) -> Tensor<4> {
    let mut stream = Noise::new(5).stream("images", 0);
    let values: Vec<f32> = (0..batch * shape.iter().product::<usize>()).map(|_| f32::from(stream.uniform() < 0.3)).collect();
    Tensor::from_data(TensorData::new(values, [batch, shape[0], shape[1], shape[2]]), device)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

/// Parameters without gradient.
struct Still<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Still<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().grad(self.gradients).is_none() {
            self.found.push(self.path.join("."));
        }
    }
}

#[test]
fn published_parameter_counts() {
    for (encoder, decoder, shape, count) in [
        ("hvae/c:16|z:20", "hvae/c:16|px:bernoulli", [1, 28, 28], 122_713),
        ("hvae/c:16|z:10", "hvae/c:16|px:bernoulli", [1, 28, 28], 113_733),
        ("hvae/c:8|z:8", "hvae/c:8|px:bernoulli", [1, 28, 28], 30_249),
        ("hvae/c:32|z:32", "hvae/c:32|sigma:0.71", [3, 32, 32], 475_811),
        ("hvae/c:32|z:32", "hvae/c:32|px:mixture_of_logistics", [3, 32, 32], 655_236),
        ("hvae/c:32|z:32|y:64", "hvae/c:32|linear_y:true", [3, 32, 32], 373_347),
        ("lvae/c:16|z:20", "lvae/c:16|px:bernoulli", [1, 28, 28], 104_745),
        ("lvae/c:32|z:32", "lvae/c:32", [3, 32, 32], 408_131),
        ("hvae/c:32|conv_z:true", "hvae/c:32|conv_z:true", [3, 32, 32], 604_307),
        ("lvae/c:32|conv_z:true", "lvae/c:32|conv_z:true", [3, 32, 32], 566_995),
    ] {
        assert_eq!(build(&HitConfig::default(), encoder, decoder, shape).unwrap().num_params(), count, "{encoder} {decoder}");
    }
}

#[test]
fn any_number_of_levels_trains_with_one_rate_each() {
    for (layers, encoder, decoder) in [
        (1, "bvae/c:2", "hvae/c:2|px:bernoulli"),
        (1, "lvae/c:2|layers:1", "lvae/c:2|px:bernoulli"),
        (3, "hvae/c:2|z:3|layers:3", "hvae/c:2|px:bernoulli"),
        (4, "lvae/c:2|z:3|layers:4|y:5", "lvae/c:2|linear_y:true|px:gaussian_learned_sigma"),
        (3, "hvae/c:2|z:3|layers:3|qz:gumbel_softmax", "hvae/c:2|px:bernoulli"),
        (2, "lvae/c:2|z:3|qz:gumbel_softmax", "lvae/c:2|px:bernoulli"),
    ] {
        let betas = (2..layers).map(|level| 0.5 * level as f64).collect();
        let config = HitConfig { layers, beta_y: 0.3, beta_z: 2.0, betas, warmup: None };
        let model = build(&config, encoder, decoder, [1, 28, 28]).unwrap_or_else(|error| panic!("{encoder}: {error}"));
        let x = images(3, [1, 28, 28], &Device::flex().autodiff());
        let labels = Tensor::from_data([0i64, 0, 0], &Device::flex().autodiff());
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        let loss = model.loss(
            "main",
            Progress::at(u64::MAX, u64::MAX),
            &Batch { inputs: x.clone(), labels, indices: (0..3).collect() },
            &mut draws,
        );
        let gradients = loss.total.backward();
        let mut still = Still { gradients: &gradients, path: Vec::new(), found: Vec::new() };
        model.visit(&mut still);
        assert!(still.found.is_empty(), "{encoder}: {:?}", still.found);
        let measures = read_measures(loss.measures);
        let value = |name: &str| measures.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1;
        let weights = config.weights().unwrap();
        let rates: Vec<f64> = config.rate_names().iter().map(|name| value(name)).collect();
        let weighted: f64 = rates.iter().zip(&weights).map(|(rate, weight)| rate * weight).sum();
        assert!((value("loss") - value("distortion") - weighted).abs() < 1e-2 * value("loss").abs(), "{encoder}");
        assert!((rates.iter().sum::<f64>() - value("rate")).abs() < 1e-3 * (1.0 + value("rate").abs()), "{encoder}");
        assert!(rates.iter().all(|&rate| rate > -1e-5), "{encoder}: {rates:?}");

        let model = model.valid();
        let x = images(3, [1, 28, 28], &Device::flex());
        let codes = model.sample_codes(x.clone(), &mut draws).unwrap();
        let sizes = model.level_sizes();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (layers, codes.dims()[1]));
        assert_eq!(model.level_rates(x.clone(), &mut draws).unwrap().len(), layers);
        assert_eq!(model.posterior(x.clone()).dims(), codes.dims());
        let families: Vec<&str> = model.level_posteriors(x.clone()).iter().map(|posterior| posterior.family()).collect();
        let top = if encoder.contains("gumbel") { "categorical" } else { "diagonal normal" };
        assert!(families.len() == layers && families[layers - 1] == top, "{encoder}: {families:?}");
        let generated = model.sample_prior(6, &mut draws).unwrap();
        assert_eq!(model.decode_mean(generated.clone(), &mut draws).dims(), [6, 784]);
        assert_eq!(model.decode_sample(generated, &mut draws).dims(), [6, 784]);
        let by_parts = model.likelihood(codes.clone(), None).log_prob(x.clone().reshape([3, 784])).unwrap()
            + model.prior_log_prob(codes.clone()).unwrap()
            - model.posterior_log_prob(x.clone(), codes).unwrap();
        assert!(values(by_parts).iter().all(|v| v.is_finite()), "{encoder}");
        assert!(values(model.log_evidence(x, 2, &mut draws).unwrap()).iter().all(|v| v.is_finite()), "{encoder}");
    }
}

#[test]
fn the_weight_of_one_code_is_what_its_parts_add_up_to() {
    let model = build(&HitConfig::default(), "lvae/c:2|z:3", "lvae/c:2|px:bernoulli", [1, 28, 28]).unwrap().valid();
    let x = images(4, [1, 28, 28], &Device::flex());
    let draws = || Draws::seeded(Noise::new(8), 0, "test");
    let importance = values(model.log_evidence(x.clone(), 1, &mut draws()).unwrap());
    let mut replay = draws();
    let levels = model.levels(&model.features(x.clone()), |level, posterior| {
        let noise = replay.normal(&format!("importance z{}", level + 1), posterior.dims(), &Device::flex());
        one_sample(posterior, noise).unwrap()
    });
    let codes = Tensor::cat(codes(&levels), 1);
    let likelihood = model.likelihood(codes.clone(), None).log_prob(x.clone().reshape([4, 784])).unwrap();
    let parts = likelihood + model.prior_log_prob(codes.clone()).unwrap() - model.posterior_log_prob(x, codes).unwrap();
    for (a, b) in importance.iter().zip(values(parts)) {
        assert!((a - b).abs() < 1e-2, "{a} {b}");
    }
}

#[test]
fn gumbel_codes_are_drawn_from_all_classes_however_few_are_asked_for() {
    let model = build(&HitConfig::default(), "hvae/c:2|z:5|qz:gumbel_softmax", "hvae/c:2|px:bernoulli", [1, 28, 28]).unwrap().valid();
    let classes = |count: usize, seed| {
        let codes = model.sample_prior(count, &mut Draws::seeded(Noise::new(seed), 0, "test")).unwrap();
        let top = values(split(codes, &model.latents)[1].clone());
        assert_eq!(top.len(), 5 * count);
        top.chunks_exact(5)
            .map(|row| {
                assert!(row.iter().sum::<f64>() == 1.0 && row.contains(&1.0), "{row:?} is not one-hot");
                row.iter().position(|&x| x == 1.0).unwrap()
            })
            .collect::<Vec<_>>()
    };
    let many = classes(500, 1);
    for class in 0..5 {
        let share = many.iter().filter(|&&c| c == class).count() as f64 / 500.0;
        assert!((share - 0.2).abs() < 0.08, "class {class}: {share}");
    }
    // A set that is asked for in small parts has all classes too: none depends on how many are drawn at once.
    let singles: std::collections::BTreeSet<usize> = (0..40).flat_map(|seed| classes(1, seed)).collect();
    assert_eq!(singles.len(), 5);
    assert_eq!(classes(20, 3), classes(20, 3));
}

#[test]
fn means_are_the_same_every_time_and_samples_are_not() {
    for (decoder, shape) in [
        ("hvae/c:2|px:bernoulli", [1, 28, 28]),
        ("hvae/c:2", [1, 28, 28]),
        ("hvae/c:2|px:gaussian_learned_sigma", [1, 28, 28]),
        ("hvae/c:2|px:mixture_of_logistics", [3, 28, 28]),
    ] {
        let model = build(&HitConfig::default(), "hvae/c:2|z:3", decoder, shape).unwrap().valid();
        let codes = model.sample_prior(3, &mut Draws::seeded(Noise::new(1), 0, "test")).unwrap();
        let mut draws = Draws::seeded(Noise::new(2), 0, "test");
        let mean = values(model.decode_mean(codes.clone(), &mut draws));
        assert_eq!(mean, values(model.decode_mean(codes.clone(), &mut draws)), "{decoder}");
        assert_eq!(mean, values(model.likelihood(codes.clone(), None).mean()), "{decoder}");
        let samples = [0, 1].map(|_| values(model.decode_sample(codes.clone(), &mut draws)));
        assert!(samples[0] != samples[1] && samples[0].len() == mean.len(), "{decoder}");
        let distance = samples[0].iter().zip(&mean).map(|(x, m)| (x - m).abs()).sum::<f64>() / mean.len() as f64;
        assert!(distance > 0.01, "{decoder}: {distance}");
        assert!(!decoder.contains("bernoulli") || samples[0].iter().all(|x| *x == 0.0 || *x == 1.0));
    }
}

#[test]
fn a_level_without_a_prior_is_standard_normal_in_every_formula() {
    let model = build(&HitConfig::default(), "hvae/c:2|z:3", "vector_mlp/mid:8", [1, 28, 28]).unwrap().valid();
    let mut draws = Draws::seeded(Noise::new(1), 0, "test");
    let codes = model.sample_prior(400, &mut draws).unwrap();
    assert_eq!(codes.dims(), [400, model.latents.iter().sum::<usize>()]);
    let squares = values(codes.clone().powi_scalar(2).mean());
    assert!((squares[0] - 1.0).abs() < 0.05, "{squares:?}");
    let expected = values(StandardNormal::new(codes.dims(), &Device::flex()).log_prob(codes.clone()).unwrap());
    let found = values(model.prior_log_prob(codes).unwrap());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3 * b.abs()), "{} {}", found[0], expected[0]);
}

#[test]
fn a_deterministic_code_without_a_weight_on_its_rate_reports_none() {
    let config = HitConfig { layers: 1, beta_y: 0.0, ..HitConfig::default() };
    let model = build(&config, "mlp/e1:4|e2:4|z:3|cov:point", "vector_mlp/mid:8", [1, 28, 28]).unwrap();
    let x = images(3, [1, 28, 28], &Device::flex());
    let labels = Tensor::from_data([0i64, 0, 0], &Device::flex());
    let mut draws = Draws::seeded(Noise::new(1), 0, "test");
    let model = model.valid();
    let measures =
        read_measures(model.evaluate(Progress::at(1, 0), &Batch { inputs: x.clone(), labels, indices: (0..3).collect() }, &mut draws));
    let names: Vec<&str> = measures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["loss", "distortion", "rate_weight"]);
    let codes = model.sample_codes(x.clone(), &mut draws).unwrap();
    for undefined in [
        model.posterior_log_prob(x.clone(), codes.clone()),
        model.marginal_log_prob(x.clone(), codes),
        model.log_evidence(x.clone(), 2, &mut draws),
        model.level_rates(x, &mut draws).map(|mut rates| rates.remove(0)),
    ] {
        assert_eq!(undefined.unwrap_err(), Undefined::Point);
    }
    let weighted = HitConfig { layers: 1, beta_y: 0.5, ..HitConfig::default() };
    let refused = build(&weighted, "mlp/e1:4|e2:4|z:3|cov:point", "vector_mlp/mid:8", [1, 28, 28]).map(|_| ()).unwrap_err();
    assert!(refused.contains("deterministic"), "{refused}");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let refused = |config: HitConfig, encoder: &str, decoder: &str, shape| build(&config, encoder, decoder, shape).map(|_| ()).unwrap_err();
    let default = HitConfig::default;
    assert!(refused(HitConfig { layers: 3, ..default() }, "hvae", "hvae", [1, 28, 28]).contains("layers:2"));
    assert!(refused(default(), "hvae/c:8", "hvae", [1, 28, 28]).contains("same `c`"));
    assert!(refused(default(), "hvae/conv_z:true", "hvae/conv_z:true", [1, 28, 28]).contains("32, 64"));
    assert!(refused(default(), "lvae/conv_z:true", "lvae/conv_z:true", [3, 64, 64]).contains("`hvae`"));
    assert!(refused(default(), "hvae", "hvae/px:mixture_of_logistics", [1, 28, 28]).contains("three colours"));
    assert!(refused(default(), "hvae", "hvae", [1, 30, 30]).contains("multiple of 4"));
}
