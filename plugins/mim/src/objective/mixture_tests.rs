//! Tests of the objective with mixtures as q(z|x) and p(x|z): gradients, refusals, training, resuming and the statistics afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Gradients;
use ibhost_datasets::toy::ToyConfig;
use ibhost_framework::analysis::{self, AnalysisConfig, AnalysisContext};
use ibhost_framework::build::BuildContext;
use ibhost_framework::dataset::{DataRoot, Dataset, DatasetConfig, Split};
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::distributions::Undefined;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::engine::{Observer, Quiet, Session, StepReport, Trainer};
use ibhost_framework::finished::{DataLibrary, FinishedRun, Look};
use ibhost_framework::identity::{OtherDataPolicy, Program};
use ibhost_framework::noise::Noise;
use ibhost_framework::objective::read_measures;
use ibhost_framework::parameters;
use ibhost_framework::run::Settings;
use ibhost_framework::storage::Label;
use ibhost_framework::strategy::MAIN;
use ibhost_nets::mlp::MlpConfig;
use ibhost_nets::vector_mlp::{DenseDecoderConfig, DenseEncoderConfig, Layers, Output};

use super::*;
use crate::portrait::MimPortrait;
use crate::statistics::MimStatistics;

fn toy() -> Box<dyn Dataset> {
    ToyConfig { samples: 64, ..ToyConfig::default() }.load(&DataRoot("/nowhere".into())).unwrap()
}

fn net() -> Layers {
    Layers { mid: 7, min_logvar: 3.0, ..Layers::default() }
}

fn encoder() -> DenseEncoderConfig {
    DenseEncoderConfig { z: 3, net: net() }
}

fn decoder(output: Output) -> DenseDecoderConfig {
    DenseDecoderConfig { output, net: net() }
}

fn build(config: &MimConfig, encoder: &dyn EncoderConfig, decoder: &dyn DecoderConfig) -> Result<MimObjective, BuildError> {
    let data = toy();
    let context =
        BuildContext::new(Device::flex().autodiff(), 3).with_examples(data.split(Split::Train).clone()).with_density(data.known_density());
    config.model(&Parts { encoder, decoder, data: data.info(), context: &context })
}

fn batch(device: &Device) -> Batch {
    toy().split(Split::Train).batch(&(0..32).collect::<Vec<_>>(), device)
}

fn draws() -> Draws {
    Draws::seeded(Noise::new(1), 0, "test")
}

/// Paths of parameters and their largest gradients; nothing for one without.
type Slopes = Vec<(String, Option<f64>)>;

/// Gathers the largest gradient of every parameter.
struct Largest<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: Slopes,
}

impl ModuleVisitor for Largest<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients);
        let largest = gradient.map(|g| g.into_data().iter::<f64>().fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b.abs()) }));
        self.found.push((self.path.join("."), largest));
    }
}

/// Measures of a step at beta 1, and the largest gradient of every parameter.
fn step(model: &MimObjective) -> (Vec<(String, f64)>, Slopes) {
    let loss = model.loss(MAIN, Progress::at(1, 0), &batch(&Device::flex().autodiff()), &mut draws());
    let gradients = loss.total.backward();
    let mut largest = Largest { gradients: &gradients, path: Vec::new(), found: Vec::new() };
    model.visit(&mut largest);
    (read_measures(loss.measures), largest.found)
}

#[test]
fn every_combination_gives_finite_losses_and_a_gradient_to_every_head() {
    for (q_zx_gmm, p_xz_gmm, output) in [(3, 0, Output::Normal), (0, 2, Output::Normal), (3, 2, Output::Normal), (2, 0, Output::Bernoulli)]
    {
        for loss in [Criterion::Mim, Criterion::Vae] {
            for (p_z, p_z_gmm) in [(CodePrior::Anchor, 0), (CodePrior::Prior, 4), (CodePrior::GmmMarginal, 3), (CodePrior::Marginal, 0)] {
                for (q_x, q_x_gmm) in [(InputMarginal::Marginal, 0), (InputMarginal::GmmMarginal, 2), (InputMarginal::Anchor, 0)] {
                    for q_x_sample in [SampledMarginal::Importance, SampledMarginal::Decoder] {
                        let marginal = p_z == CodePrior::Marginal;
                        let sampled = loss == Criterion::Mim && !(marginal && q_x == InputMarginal::Marginal);
                        let learn_p_z = !marginal;
                        let config = MimConfig {
                            loss,
                            sampled,
                            p_z,
                            p_z_gmm,
                            q_x,
                            q_x_gmm,
                            q_x_sample,
                            learn_p_z,
                            warmup: 0,
                            q_zx_gmm,
                            p_xz_gmm,
                            ..MimConfig::default()
                        };
                        let model = build(&config, &encoder(), &decoder(output)).unwrap();
                        let (measures, gradients) = step(&model);
                        assert!(measures.iter().all(|(_, v)| v.is_finite()), "{config:?} {measures:?}");
                        assert!(gradients.iter().all(|(_, g)| g.is_none_or(f64::is_finite)), "{config:?} {gradients:?}");
                        let has = |path: &str| gradients.iter().any(|(p, g)| p == path && g.is_some_and(|g| g > 0.0));
                        assert!(q_zx_gmm == 0 || has("encoder.logcoefs.weight"), "{config:?} {gradients:?}");
                        assert!(p_xz_gmm == 0 || has("decoder.logcoefs.weight"), "{config:?} {gradients:?}");
                        let model = model.valid();
                        let inputs = batch(&Device::flex()).inputs;
                        let codes = model.sample_codes(inputs.clone(), &mut draws()).unwrap();
                        assert_eq!(model.decode_mean(codes.clone(), &mut draws()).dims(), [32, 2]);
                        assert_eq!(model.decode_sample(codes.clone(), &mut draws()).dims(), [32, 2]);
                        let finite = |x: Result<Tensor<1>, Undefined>| x.unwrap().into_data().iter::<f64>().all(f64::is_finite);
                        assert!(finite(model.marginal_log_prob(inputs.clone(), codes.clone())), "{config:?}");
                        assert!(finite(model.posterior_log_prob(inputs.clone(), codes)), "{config:?}");
                        if !marginal {
                            assert_eq!(model.sample_prior(5, &mut draws()).unwrap().dims(), [5, 3]);
                            assert!(finite(model.log_evidence(inputs, 3, &mut draws())), "{config:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_auto_encoder_may_have_a_mixture_as_its_decoder() {
    let model =
        build(&MimConfig { loss: Criterion::Ae, p_xz_gmm: 2, ..MimConfig::default() }, &encoder(), &decoder(Output::Normal)).unwrap();
    let (measures, _) = step(&model);
    let value = |name: &str| measures.iter().find(|(n, _)| n == name).unwrap().1;
    assert!((value("loss") - value("distortion")).abs() < 1e-6);
}

#[test]
fn one_component_with_the_weights_of_the_plain_networks_has_their_densities() {
    let device = Device::flex().autodiff();
    let plain = build(&MimConfig::default(), &encoder(), &decoder(Output::Normal)).unwrap();
    let config = MimConfig { q_zx_gmm: 1, p_xz_gmm: 1, ..MimConfig::default() };
    let mixture = build(&config, &encoder(), &decoder(Output::Normal)).unwrap();
    // Both build hidden layers, location and scale in the same places; only the head of the weights is left as it is.
    let given = parameters::to_host(&plain);
    let moved = given.into_iter().map(|(path, value)| (path.replace(".net.", "."), value)).collect();
    let mixture = parameters::from_host(mixture, &moved, true).unwrap();
    let codes = Draws::seeded(Noise::new(2), 0, "codes").normal("codes", [32, 3], &device);
    let inputs = batch(&device).inputs;
    let values = |x: Tensor<1>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    let close = |a: Tensor<1>, b: Tensor<1>| {
        let (a, b) = (values(a), values(b));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0)), "{a:?} {b:?}");
    };
    let posterior = |model: &MimObjective| model.posterior_log_prob(inputs.clone(), codes.clone()).unwrap();
    close(posterior(&mixture), posterior(&plain));
    let marginal = |model: &MimObjective| model.marginal_log_prob(inputs.clone(), codes.clone()).unwrap();
    close(marginal(&mixture), marginal(&plain));
    let [ours, theirs] = [&mixture, &plain].map(|model| {
        let (mean, scale) = model.posterior(inputs.clone()).as_normal().unwrap();
        [mean, scale].map(|x| x.into_data().iter::<f64>().collect::<Vec<_>>())
    });
    assert!(ours.iter().flatten().zip(theirs.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-5));
    // One component is no choice, so that the loss carries no score.
    let branch = |model: &MimObjective| {
        let noise = Draws::seeded(Noise::new(4), 0, "test").normal::<2>("n", [32, 4], &device).into_data();
        let mut recorded = Draws::recorded([("posterior".to_owned(), noise)]);
        model.data_branch(MimObjective::flat(inputs.clone()), MimObjective::flat(inputs.clone()), &mut recorded)
    };
    assert_eq!(values(branch(&mixture).choice.unwrap()), vec![0.0; 32]);
}

#[test]
fn mixtures_that_have_no_network_are_refused_with_a_way_out() {
    let (q, p) = (MimConfig { q_zx_gmm: 3, ..MimConfig::default() }, MimConfig { p_xz_gmm: 2, ..MimConfig::default() });
    let other = MlpConfig { z: 3, ..MlpConfig::default() };
    let gated = ibhost_nets::image_decoder::GatedMlpDecoderConfig::default();
    let ae = MimConfig { loss: Criterion::Ae, ..q.clone() };
    for (error, parts) in [
        (build(&q, &other, &decoder(Output::Normal)), ["q_zx_gmm:3", "encoder is `mlp`", "--encoder vector_mlp", "leave q_zx_gmm out"]),
        (build(&p, &encoder(), &gated), ["p_xz_gmm:2", "decoder is `gated_mlp`", "--decoder vector_mlp", "leave p_xz_gmm out"]),
        (build(&p, &encoder(), &decoder(Output::Bernoulli)), ["p_xz_gmm:2", "Bernoulli", "output:normal", "leave p_xz_gmm out"]),
        (build(&ae, &encoder(), &decoder(Output::Normal)), ["q_zx_gmm:3", "loss:ae", "loss:vae", "leave q_zx_gmm out"]),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("mim: ") && parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

/// Asks for an end after some steps.
struct StopAt<'a>(u64, &'a AtomicBool);

impl Observer for StopAt<'_> {
    fn step(&mut self, report: &StepReport, _means: &mut dyn FnMut() -> Vec<(String, f64)>) {
        if report.step >= self.0 {
            self.1.store(true, Ordering::SeqCst);
        }
    }
}

fn job(folder: &Path, name: &str) -> Trainer {
    let mut settings = Settings::new();
    for (key, value) in [
        ("objective", "mim/sampled:true|warmup:1|min_logvar:6|q_zx_gmm:3|p_xz_gmm:2"),
        ("encoder", "vector_mlp/z:2|mid:16|min_logvar:6"),
        ("decoder", "vector_mlp/mid:16|min_logvar:6"),
        ("dataset", "toy/k:4|samples:640"),
        ("schedule", "noam/warmup:8"),
        ("name", name),
    ] {
        settings.set(key, value.into()).unwrap();
    }
    settings.set("lr", 0.01.into()).unwrap();
    settings.set("epochs", 8.into()).unwrap();
    settings.set("batch_size", 64.into()).unwrap();
    Trainer::create(settings.resolve().unwrap(), &DataRoot("absent".into()), folder, Vec::new()).unwrap()
}

#[test]
fn training_lowers_the_loss_resumes_exactly_and_its_statistics_are_finite() {
    let folder = tempfile::tempdir().unwrap();
    let root = DataRoot("absent".into());
    let mut whole = job(folder.path(), "whole");
    let path = whole.run.path().to_path_buf();
    let start = {
        let (session, state) = Session::open(whole.session.config.clone(), &root).unwrap();
        let inputs = session.data.split(Split::Test).batch(&(0..640).collect::<Vec<_>>(), &session.device);
        let model = Session::evaluation_model(&state, false);
        read_measures(model.evaluate(Progress::at(1, 0), &inputs, &mut draws())).into_iter().find(|(name, _)| name == "loss").unwrap().1
    };
    let (_, summary) = whole.train(&mut Quiet, &AtomicBool::new(false)).unwrap();
    let end = summary.final_metrics.test.get("loss").unwrap();
    assert!(end < start - 0.3, "{start} {end}");
    drop(whole);

    let mut half = job(folder.path(), "half");
    let halfway = half.run.path().to_path_buf();
    let stop = AtomicBool::new(false);
    half.train(&mut StopAt(37, &stop), &stop).unwrap();
    drop(half);
    let mut half = Trainer::resume(&halfway, &root, false, &Program::this("test", None)).unwrap().unwrap();
    assert_eq!(half.steps_done(), 37);
    half.train(&mut Quiet, &AtomicBool::new(false)).unwrap();
    drop(half);

    let library = DataLibrary::new(root.clone());
    let opened = |path: &Path| FinishedRun::open(path, OtherDataPolicy::Refuse).unwrap();
    let weights_of = |look: &Look<'_>| parameters::to_host(&look.state.model);
    let whole = opened(&path);
    let weights = whole.with_weights(&library, Label::Last, weights_of).unwrap();
    assert!(weights.keys().any(|path| path.ends_with("encoder.logcoefs.weight")), "{:?}", weights.keys());
    assert_eq!(weights, opened(&halfway).with_weights(&library, Label::Last, weights_of).unwrap());

    let read =
        |look: &Look<'_>| (Session::evaluation_model(look.state, false), Arc::clone(&look.session.data), look.session.device.clone());
    let (model, data, device) = whole.with_weights(&library, Label::Last, read).unwrap();
    let context = AnalysisContext {
        model: &*model,
        data: &*data,
        library: &library,
        device: &device,
        run_dir: &path,
        output: &analysis::Output::of_run(&path),
        label: "mixture",
        seed: 1,
    };
    let report = MimStatistics { points: 640 }.run(&context).unwrap();
    let result = report.json();
    let numbers = result.as_object().unwrap().iter().filter(|(_, value)| !value.is_object() && !value.is_string());
    for (name, value) in numbers {
        assert!(value.as_f64().is_some_and(f64::is_finite), "{name}: {value}");
    }
    assert!(result["clf_acc_KNN5"].is_number() && result["H_q_x"].is_number());
    let folder = result["original_name"].as_str().unwrap();
    assert!(folder.contains("_q-zx3_") && folder.contains("_p-xz2"), "{folder}");
    assert_eq!(MimPortrait::default().run(&context).unwrap().files.len(), 2);
}
