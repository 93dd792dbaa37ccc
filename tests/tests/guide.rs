//! The worked examples of docs/guide/your-objective.md: the page shows the files of tests/guide as they are, and these train and are analysed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ibhost_datasets as _;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, Output};
use ibhost_framework::build::BuildContext;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataRoot, DatasetConfig, Split};
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::engine::{Quiet, Session, Trainer};
use ibhost_framework::finished::{DataLibrary, FinishedRun};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::{ObjectiveConfig, Parts, Progress, read_measures};
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::run::Settings;
use ibhost_framework::storage::Label;
use ibhost_nets as _;

#[path = "../guide/ceb.rs"]
mod ceb;
#[path = "../guide/class_overlap.rs"]
mod class_overlap;
#[path = "../guide/hidden_classifier.rs"]
mod hidden_classifier;
#[path = "../guide/moons.rs"]
mod moons;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

#[test]
fn the_guide_shows_the_examples_that_are_tested() {
    let page = fs::read_to_string(root().join("docs/guide/your-objective.md")).unwrap();
    let shown: Vec<&str> = page.split("```rust\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    for entry in fs::read_dir(root().join("tests/guide")).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        assert!(shown.contains(&source.as_str()), "docs/guide/your-objective.md does not show {} as it is", path.display());
    }
}

#[test]
fn the_examples_train_together_and_are_analysed_with_a_figure() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataRoot(folder.path().join("data"));
    let mut settings = Settings::new();
    let component =
        [("objective", "ceb/beta:0.01"), ("encoder", "mlp/e1:32|e2:32|z:2"), ("decoder", "hidden_classifier"), ("dataset", "moons")];
    for (key, value) in component {
        settings.set(key, value.into()).unwrap();
    }
    settings.set("epochs", 12.into()).unwrap();
    let mut trainer = Trainer::create(settings.resolve().unwrap(), &data, folder.path(), Vec::new()).unwrap();
    let (_, summary) = trainer.train(&mut Quiet, &AtomicBool::new(false)).unwrap();
    let test = |name: &str| summary.final_metrics.test.get(name).unwrap();
    assert!(test("accuracy") > 0.8 && test("residual_nats") > 0.0, "{:?}", summary.final_metrics.test);
    let run = trainer.run.path().to_path_buf();
    drop(trainer);

    let (library, output) = (DataLibrary::new(data), Output::of_run(&run));
    let finished = FinishedRun::open(&run, OtherDataPolicy::Refuse).unwrap();
    let analyse = |look: &ibhost_framework::finished::Look<'_>| {
        let model = Session::evaluation_model(look.state, false);
        let context = AnalysisContext {
            model: &*model,
            data: &*look.session.data,
            library: &library,
            device: &look.session.device,
            run_dir: &run,
            output: &output,
            label: "ceb on moons",
            seed: 0,
        };
        let offers = &Registry::global().unwrap().get(Kind::Objective, "ceb").unwrap().offers;
        assert!(offers.iter().all(|capability| (capability.held_by)(&*look.state.model)) && offers.len() > 1, "{offers:?}");
        class_overlap::ClassOverlap::default().run(&context).unwrap()
    };
    let report = finished.with_weights(&library, Label::Last, analyse).unwrap();
    assert!(report.values[1].value > 1.0 && report.values.len() == 2, "{report:?}");
    assert!(fs::read(&report.files[0]).unwrap().starts_with(b"\x89PNG") && report.files[0].ends_with("plots/class-overlap.png"));
}

/// A unit test as the guide describes it: parts by hand, draws from a seed, numbers by name.
#[test]
fn an_objective_is_built_by_hand_and_its_terms_read() {
    let (_, encoder) = resolve::<dyn EncoderConfig>(Kind::Encoder, "mlp/e1:8|e2:8|z:3").unwrap();
    let decoder = hidden_classifier::HiddenClassifierConfig::default();
    let data = moons::MoonsConfig { samples: 50, ..moons::MoonsConfig::default() }.load(&DataRoot("absent".into())).unwrap();
    let context = BuildContext::new(burn::tensor::Device::flex(), 1);
    let parts = Parts { encoder: &*encoder, decoder: &decoder, data: data.info(), context: &context };
    let model = ceb::CebConfig { beta: 2.0 }.build(&parts).unwrap();
    let batch = data.split(Split::Test).batch(&[0, 1, 2, 3], &context.device);
    let values = read_measures(model.evaluate(Progress::at(1, 0), &batch, &mut Draws::seeded(Noise::new(1), 0, "test")));
    let value = |name: &str| values.iter().find(|(known, _)| known == name).unwrap().1;
    let class = 2f64.ln() - value("izy_nats");
    assert!((value("loss") - class - 2.0 * value("residual_nats")).abs() < 1e-4, "{values:?}");

    let (_, point) = resolve::<dyn EncoderConfig>(Kind::Encoder, "mlp/e1:8|e2:8|z:3|cov:point").unwrap();
    let error = ceb::CebConfig::default().build(&Parts { encoder: &*point, ..parts }).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("ceb: ") && error.contains("deterministic"), "{error}");
}
