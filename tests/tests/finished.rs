//! A finished run is opened once: its data are read and its weights restored once, however many look at it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ibhost_all as _;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataError, DataRoot, Dataset, DatasetConfig};
use ibhost_framework::engine::{Quiet, Session, Trainer};
use ibhost_framework::finished::{DataLibrary, FinishedRun, Look};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::parameters;
use ibhost_framework::registry::Kind;
use ibhost_framework::run::Settings;
use ibhost_framework::storage::Label;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

static READ: AtomicUsize = AtomicUsize::new(0);

/// The digits, counted as often as they are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct CountedDigits {}

#[typetag::serde(name = "counted_digits_of_tests")]
impl DatasetConfig for CountedDigits {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        READ.fetch_add(1, Ordering::Relaxed);
        let (_, digits) = resolve::<dyn DatasetConfig>(Kind::Dataset, "digits").expect("a data set of this repository");
        digits.load(root)
    }
}

ibhost_framework::register! { Dataset: CountedDigits as DatasetConfig, aliases: [], paper: "", example: "counted_digits_of_tests" }

#[test]
fn training_and_everything_after_it_read_the_data_once() {
    let (folder, root) = (tempfile::tempdir().unwrap(), DataRoot("absent".into()));
    let mut settings = Settings::new();
    let values = [("objective", "vib"), ("encoder", "mlp/e1:8|e2:8|z:2"), ("dataset", "counted_digits_of_tests")];
    for (key, value) in values {
        settings.set(key, value.into()).unwrap();
    }
    for (key, value) in [("steps", 3), ("limit_train", 64), ("batch_size", 32)] {
        settings.set(key, value.into()).unwrap();
    }
    let mut trainer = Trainer::create(settings.resolve().unwrap(), &root, folder.path(), Vec::<String>::new()).unwrap();
    trainer.train(&mut Quiet, &AtomicBool::new(false)).unwrap();
    assert_eq!(READ.load(Ordering::Relaxed), 1);

    // What comes after the training has its data.
    let library = trainer.library(&root);
    let open = || FinishedRun::open(trainer.run.path(), OtherDataPolicy::Refuse).unwrap();
    let (first, second) = (open(), open());
    let of = |look: &Look<'_>| (look.hash.to_owned(), look.state.step, parameters::to_host(&Session::evaluation_model(look.state, false)));
    let seen = [&first, &first, &second].map(|run| run.with_weights(&library, Label::Last, of).unwrap());
    assert!(seen[0] == seen[1] && seen[1] == seen[2] && seen[0].1 == 3, "{:?}", seen.map(|(hash, step, _)| (hash, step)));
    assert_eq!(READ.load(Ordering::Relaxed), 1, "the data are read once");

    // Weights are read once: they are there without their files, until they are given back.
    std::fs::remove_dir_all(trainer.run.checkpoints_dir()).unwrap();
    assert!(first.with_weights(&library, Label::Last, |_| ()).is_ok());
    first.forget_weights();
    let error = first.with_weights(&library, Label::Last, |_| ()).unwrap_err().to_string();
    assert!(error.contains("has no `last` checkpoint") && error.contains("ibhost resume"), "{error}");

    // A library of its own reads anew.
    assert!(open().with_weights(&DataLibrary::new(root), Label::Last, |_| ()).is_err());
    assert_eq!(READ.load(Ordering::Relaxed), 2);
}

#[test]
fn a_setting_that_is_not_there_is_answered_with_those_that_are() {
    let (folder, root) = (tempfile::tempdir().unwrap(), DataRoot("absent".into()));
    let mut settings = Settings::new();
    let values = [("objective", "vib"), ("encoder", "mlp/e1:8|e2:8|z:2"), ("dataset", "digits")];
    for (key, value) in values {
        settings.set(key, value.into()).unwrap();
    }
    let trainer = Trainer::create(settings.resolve().unwrap(), &root, folder.path(), Vec::<String>::new()).unwrap();
    let run = FinishedRun::open(trainer.run.path(), OtherDataPolicy::Refuse).unwrap();
    assert_eq!(run.setting("encoder.z").unwrap(), "2");
    let of_objective = run.setting("objective.m").unwrap_err().to_string();
    assert!(of_objective.contains("`objective.m`") && of_objective.contains("objective.beta"), "{of_objective}");
    let nearest = run.setting("epoch").unwrap_err().to_string();
    assert!(nearest.contains("it has epochs"), "{nearest}");
}
