//! Tests of the objective: which options are refused, how warm-up and branches enter the loss, and that every option trains.

use ibhost_datasets::toy::ToyConfig;
use ibhost_framework::build::BuildContext;
use ibhost_framework::capability::{Encode, LogDensity};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataRoot, Dataset, DatasetConfig, Split};
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::noise::Noise;
use ibhost_framework::objective::{BoxedObjective, read_measures};
use ibhost_framework::registry::Kind;
use ibhost_framework::strategy::MAIN;
use ibhost_nets::vector_mlp::{DenseDecoderConfig, DenseEncoderConfig, Layers, Output};

use super::*;

fn toy(pairs: bool) -> Box<dyn Dataset> {
    ToyConfig { samples: 64, pairs, ..ToyConfig::default() }.load(&DataRoot("/nowhere".into())).unwrap()
}

fn build(config: &MimConfig, output: Output) -> Result<BoxedObjective, BuildError> {
    let data = toy(config.self_supervised);
    let context =
        BuildContext::new(Device::flex().autodiff(), 3).with_examples(data.split(Split::Train).clone()).with_density(data.known_density());
    let net = Layers { mid: 7, min_logvar: 3.0, ..Layers::default() };
    let (encoder, decoder) = (DenseEncoderConfig { z: 3, net: net.clone() }, DenseDecoderConfig { output, net });
    let parts = Parts { encoder: &encoder, decoder: &decoder, data: data.info(), context: &context };
    config.build(&parts).map(BoxedObjective::new)
}

fn batch(device: &Device, pairs: bool) -> Batch {
    toy(pairs).split(Split::Train).batch(&(0..32).collect::<Vec<_>>(), device)
}

fn loss_at(config: &MimConfig, epoch: u64) -> Vec<(String, f64)> {
    let model = build(config, Output::Normal).unwrap();
    let mut draws = Draws::seeded(Noise::new(1), 0, "test");
    let device = Device::flex().autodiff();
    read_measures(model.loss(MAIN, Progress::at(epoch, 0), &batch(&device, config.self_supervised), &mut draws).measures)
}

fn value(measures: &[(String, f64)], name: &str) -> f64 {
    measures.iter().find(|(n, _)| n == name).unwrap().1
}

#[test]
fn on_the_data_branch_the_default_loss_is_minus_half_one_plus_beta_times_the_decoding_joint() {
    for epoch in [1, 2, 4] {
        let measures = loss_at(&MimConfig { warmup: 4, ..MimConfig::default() }, epoch);
        let beta = epoch as f64 / 4.0;
        assert!((value(&measures, "beta") - beta).abs() < 1e-6);
        let expected = 0.5 * (1.0 + beta) * (value(&measures, "distortion") + value(&measures, "prior_cross_entropy"));
        assert!((value(&measures, "loss") - expected).abs() < 1e-4, "{measures:?}");
    }
}

#[test]
fn the_sampled_branch_comes_in_with_the_end_of_the_warm_up() {
    let config = MimConfig { warmup: 2, sampled: true, ..MimConfig::default() };
    let early = loss_at(&config, 1);
    let expected = 0.25 * 1.5 * (value(&early, "distortion") + value(&early, "prior_cross_entropy"));
    assert!((value(&early, "loss") - expected).abs() < 1e-4);
    let late = loss_at(&config, 2);
    let data_only = 0.5 * (value(&late, "distortion") + value(&late, "prior_cross_entropy"));
    assert!((value(&late, "loss") - data_only).abs() > 1e-2, "{late:?}");
}

#[test]
fn mim_without_entropy_vanishes_on_the_data_branch() {
    let config = MimConfig { entropy: true, warmup: 4, ..MimConfig::default() };
    assert!(value(&loss_at(&config, 1), "loss").abs() < 1e-4);
    let published = MimConfig { beta_in_minus_h: true, ..config };
    assert!(value(&loss_at(&published, 1), "loss").abs() > 0.1);
}

#[test]
fn every_combination_of_densities_gives_finite_losses_and_gradients() {
    let device = Device::flex().autodiff();
    for output in [Output::Normal, Output::Bernoulli] {
        for (p_z, p_z_gmm) in
            [(CodePrior::Anchor, 0), (CodePrior::Prior, 0), (CodePrior::Prior, 4), (CodePrior::GmmMarginal, 3), (CodePrior::Marginal, 0)]
        {
            for (q_x, q_x_gmm) in [
                (InputMarginal::Marginal, 0),
                (InputMarginal::Prior, 0),
                (InputMarginal::Prior, 3),
                (InputMarginal::GmmMarginal, 2),
                (InputMarginal::Anchor, 0),
            ] {
                let sampled = p_z != CodePrior::Marginal || q_x != InputMarginal::Marginal;
                let learn_p_z = p_z != CodePrior::Marginal;
                let config = MimConfig { sampled, p_z, p_z_gmm, q_x, q_x_gmm, learn_p_z, warmup: 0, ..MimConfig::default() };
                let model = build(&config, output).unwrap();
                let mut draws = Draws::seeded(Noise::new(1), 0, "test");
                let loss = model.loss(MAIN, Progress::at(1, 0), &batch(&device, false), &mut draws);
                let gradients = loss.total.backward();
                assert!(read_measures(loss.measures).iter().all(|(_, v)| v.is_finite()), "{config:?}");
                drop(gradients);
                let model = model.valid();
                let generative = model.capability::<LogDensity>().unwrap();
                let inputs = batch(&Device::flex(), false).inputs;
                let codes = generative.sample_codes(inputs.clone(), &mut draws).unwrap();
                assert_eq!(generative.marginal_log_prob(inputs.clone(), codes.clone()).unwrap().dims(), [32]);
                if p_z == CodePrior::Marginal {
                    // It is what the other densities make of it: nothing can be drawn from it, and no stand-in is.
                    for error in [
                        generative.sample_prior(5, &mut draws).unwrap_err(),
                        generative.prior_log_prob(codes).unwrap_err(),
                        generative.log_evidence(inputs, 3, &mut draws).unwrap_err(),
                    ] {
                        assert!(error.to_string().contains("p_z:marginal"), "{error}");
                    }
                    continue;
                }
                assert_eq!(generative.sample_prior(5, &mut draws).unwrap().dims(), [5, 3]);
                let evidence: Vec<f64> = generative.log_evidence(inputs, 3, &mut draws).unwrap().into_data().iter::<f64>().collect();
                assert!(evidence.iter().all(|v| v.is_finite()));
            }
        }
    }
}

#[test]
fn the_anchor_of_inputs_is_the_density_of_the_data() {
    let config = MimConfig { q_x: InputMarginal::Anchor, ..MimConfig::default() };
    let model = build(&config, Output::Normal).unwrap().valid();
    let (data, batch) = (toy(false), batch(&Device::flex(), false));
    let inputs: Vec<f64> = batch.inputs.clone().into_data().iter::<f64>().collect();
    let expected = data.known_density().unwrap().log_prob(&inputs);
    let found = model.capability::<LogDensity>().unwrap().marginal_log_prob(batch.inputs, Tensor::zeros([32, 3], &Device::flex())).unwrap();
    assert!(found.into_data().iter::<f64>().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4));
    let context = BuildContext::new(Device::flex().autodiff(), 3).with_examples(data.split(Split::Train).clone());
    let net = Layers { mid: 7, ..Layers::default() };
    let (encoder, decoder) = (DenseEncoderConfig { z: 3, net: net.clone() }, DenseDecoderConfig { output: Output::Normal, net });
    let parts = Parts { encoder: &encoder, decoder: &decoder, data: data.info(), context: &context };
    assert!(config.model(&parts).unwrap_err().to_string().contains("toy data sets"));
}

#[test]
fn contradictions_are_refused_with_a_way_out() {
    let cases = [
        (MimConfig { loss: Criterion::Vae, sampled: true, ..MimConfig::default() }, "loss:mim"),
        (MimConfig { loss: Criterion::Ae, entropy: true, ..MimConfig::default() }, "loss:vae"),
        (MimConfig { sampled: true, p_z: CodePrior::Marginal, ..MimConfig::default() }, "q_x:prior"),
        (MimConfig { p_z: CodePrior::GmmMarginal, ..MimConfig::default() }, "p_z_gmm"),
        (MimConfig { p_z_gmm: 3, ..MimConfig::default() }, "leave it out"),
        (MimConfig { p_z: CodePrior::Marginal, learn_p_z: true, ..MimConfig::default() }, "learn_p_z"),
        (MimConfig { loss: Criterion::Ae, q_zx_gmm: 3, ..MimConfig::default() }, "q_zx_gmm:3 is a mixture"),
    ];
    for (config, part) in cases {
        let error = build(&config, Output::Normal).unwrap_err().to_string();
        assert!(error.starts_with("mim: ") && error.contains(part), "{error}");
    }
}

#[test]
fn pairs_encode_the_second_draw_and_reconstruct_the_first() {
    let measures = loss_at(&MimConfig { self_supervised: true, warmup: 0, ..MimConfig::default() }, 1);
    assert!(measures.iter().all(|(_, v)| v.is_finite()));
    let model = build(&MimConfig { self_supervised: true, ..MimConfig::default() }, Output::Normal).unwrap();
    let pairs = batch(&Device::flex(), true).inputs;
    let model = model.valid();
    let both = model.capability::<Encode>().unwrap().posterior(pairs.clone()).mean().into_data();
    let first = model.capability::<Encode>().unwrap().posterior(pairs.narrow(1, 0, 1)).mean().into_data();
    assert_eq!(both, first);
}

#[test]
fn an_auto_encoder_has_the_smallest_scale_and_no_rate() {
    let config = MimConfig { loss: Criterion::Ae, min_logvar: 2.0, ..MimConfig::default() };
    let measures = loss_at(&config, 5);
    assert_eq!(value(&measures, "beta"), 0.0);
    assert!((value(&measures, "loss") - value(&measures, "distortion")).abs() < 1e-6);
    let model = build(&config, Output::Normal).unwrap().valid();
    let (_, scale) = model.capability::<Encode>().unwrap().posterior(batch(&Device::flex(), false).inputs).as_normal().unwrap();
    assert!(scale.into_data().iter::<f32>().all(|s| (s - 0.01).abs() < 1e-7));
}

#[test]
fn means_and_samples_are_told_apart() {
    for output in [Output::Normal, Output::Bernoulli] {
        let model = build(&MimConfig::default(), output).unwrap().valid();
        let generative = model.capability::<LogDensity>().unwrap();
        let codes = generative.sample_prior(32, &mut Draws::seeded(Noise::new(1), 0, "test")).unwrap();
        let host = |x: Tensor<2>| x.into_data().iter::<f64>().collect::<Vec<_>>();
        let mut draws = Draws::seeded(Noise::new(2), 0, "test");
        let mean = host(generative.decode_mean(codes.clone(), &mut draws));
        assert_eq!(mean, host(generative.decode_mean(codes.clone(), &mut draws)));
        assert_eq!(mean, host(generative.likelihood(codes.clone(), None).mean()));
        let samples = [0, 1].map(|_| host(generative.decode_sample(codes.clone(), &mut draws)));
        assert!(samples[0] != samples[1] && samples[0] != mean, "{output:?}");
        assert!(output == Output::Normal || samples[0].iter().all(|x| *x == 0.0 || *x == 1.0), "{output:?}");
    }
}

#[test]
fn codes_and_inputs_that_have_no_such_density_are_refused_when_the_model_is_built() {
    let data = toy(false);
    let context = BuildContext::new(Device::flex().autodiff(), 3).with_examples(data.split(Split::Train).clone());
    let refused = |config: &MimConfig, encoder: &str, decoder: &dyn DecoderConfig| {
        let (_, encoder) = resolve::<dyn EncoderConfig>(Kind::Encoder, encoder).unwrap();
        config
            .model(&Parts { encoder: &*encoder, decoder, data: data.info(), context: &context })
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let normal = DenseDecoderConfig::default();
    for (encoder, family) in [("mlp/z:3|e1:4|e2:4|cov:point", "deterministic"), ("mlp/z:3|e1:4|e2:4|cov:full", "full-covariance")] {
        let error = refused(&MimConfig::default(), encoder, &normal).unwrap_err();
        assert!(error.contains(family) && error.contains("hint: ") && error.contains("vector_mlp"), "{error}");
    }
    // The code of an auto-encoder is a point whatever the encoder says of its noise.
    let ae = MimConfig { loss: Criterion::Ae, ..MimConfig::default() };
    refused(&ae, "mlp/z:3|e1:4|e2:4|cov:point", &normal).unwrap();
    refused(&MimConfig::default(), "mlp/z:3|e1:4|e2:4", &normal).unwrap();
    let pixels = ibhost_nets::image_decoder::PixelConvConfig { open_code: false };
    let error = refused(&MimConfig::default(), "mlp/z:3|e1:4|e2:4", &pixels).unwrap_err();
    assert!(error.contains("autoregressive") && error.contains("`hvae`"), "{error}");
}
