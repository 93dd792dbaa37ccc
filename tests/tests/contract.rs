//! What the engine holds every objective to: all parameters in groups, capabilities as registered, and numbers that are numbers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ibhost_framework::build::BuildError;
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::dataset::{Batch, DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::engine::{EngineError, Quiet, Session, State, Stepper, Trainer};
use ibhost_framework::finished::{DataLibrary, FinishedRun};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::latent_classifier::{LatentClassifier, averaged_log_likelihood_loss};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::{
    Classifier, Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, Progress, Quantity, Recipe,
};
use ibhost_framework::parameters;
use ibhost_framework::plan::{Cadence, OptimiserSlot, Phase, Plan};
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::run::{RunConfig, Settings};
use ibhost_framework::storage::{Label, RunDir, RunStatus};
use ibhost_tests::cli::{CommandLine, SMALL, entries, yaml};
use ibhost_tests::every_objective::of_objective;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// What the objective gets wrong, or right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Case {
    /// Nothing.
    #[default]
    Sound,
    /// No group names the table.
    Forgotten,
    /// The table is built without gradient, and no group names it.
    Frozen,
    /// The table is built without gradient, and a group names it.
    FrozenInGroup,
    /// A group names no field.
    Mistyped,
    /// Two groups name the table.
    Twice,
    /// No phase moves the table's optimiser.
    Idle,
    /// A phase moves an optimiser that is not there.
    Unknown,
    /// A phase of a loss that is not there.
    OtherPhase,
    /// A phase held at a quantity that is not there.
    HeldAtNothing,
}

/// A classifier whose scores are shifted by a table.
///
/// loss = cross-entropy in nats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct TableConfig {
    /// What is wrong.
    case: Case,
    /// `drift` may be infinite.
    infinite: bool,
    /// Epochs of a warm-up, which the run must be long enough for.
    warmup: u64,
    /// Reports its loss under a second name that it does not describe.
    undescribed: bool,
}

#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the path of the parameter that the tests name")]
struct Table {
    model: LatentClassifier,
    table: Param<Tensor<1>>,
    #[module(skip)]
    case: Case,
    undescribed: bool,
}

impl Table {
    fn logits(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<3> {
        let logits = self.model.sampled_logits(&*self.model.encoder.encode(inputs), 1, "code", draws);
        logits + self.table.val().unsqueeze()
    }
}

impl Objective for Table {
    fn groups(&self) -> Vec<ParameterGroup> {
        let mut groups = LatentClassifier::groups("model");
        match self.case {
            Case::Forgotten | Case::Frozen => {}
            Case::Mistyped => groups.push(ParameterGroup::field("tabel")),
            Case::Twice => {
                groups.extend([ParameterGroup::field("table"), ParameterGroup { name: "again".into(), prefixes: vec!["table".into()] }]);
            }
            _ => groups.push(ParameterGroup::field("table")),
        }
        groups
    }

    fn plan(&self) -> Option<Plan> {
        let updates = match self.case {
            Case::Idle => vec![(0, Cadence::Always)],
            Case::Unknown => vec![(0, Cadence::Always), (1, Cadence::Always), (7, Cadence::Always)],
            Case::OtherPhase | Case::HeldAtNothing => vec![(0, Cadence::Always), (1, Cadence::Always)],
            _ => return None,
        };
        let slot = |name: &str, groups: &[ParameterGroup]| OptimiserSlot { name: name.to_owned(), groups: groups.to_vec(), step_factor: 1 };
        let groups = self.groups();
        Some(Plan {
            optimisers: vec![slot("networks", &groups[..2]), slot("table", &groups[2..])],
            phases: vec![Phase {
                hold_at: (self.case == Case::HeldAtNothing).then_some(("acuracy", 0.5)),
                ..Phase::new(if self.case == Case::OtherPhase { "mian" } else { "main" }, updates)
            }],
        })
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let total = averaged_log_likelihood_loss(self.logits(batch.inputs.clone(), draws), &batch.labels);
        Loss { measures: vec![Measure::new("loss", total.clone())], total }
    }

    /// `drift` is ln(1 - largest entry of the table / 0.0015), a number after one step of 0.001 and infinite after two.
    fn evaluate(&self, at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let mut measures = self.loss("main", at, batch, draws).measures;
        let moved = self.table.val().abs().max().mul_scalar(-1000.0 / 1.5).add_scalar(1.0);
        if self.undescribed {
            measures.push(Measure::new("epochs_so_far", moved.zeros_like().add_scalar(at.epoch as f64)));
        }
        measures.push(Measure::new("drift", moved.clamp_min(0.0).log()));
        measures
    }
}

impl Classifier for Table {
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2> {
        self.model.predict(inputs, samples, "prediction", draws)
    }
}

#[typetag::serde(name = "contract_table")]
impl ObjectiveConfig for TableConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        let table = parts.context.constant([parts.data.classes.len()], 0.0);
        let table = if matches!(self.case, Case::Frozen | Case::FrozenInGroup) { table.no_grad() } else { table };
        Ok(Box::new(Table { model: LatentClassifier::new(parts)?, table, case: self.case, undescribed: self.undescribed }))
    }

    fn check(&self, run: &RunConfig) -> Result<(), String> {
        if self.warmup <= run.training.epochs {
            return Ok(());
        }
        Err(format!("has a warm-up longer than the run's {} epochs\n  hint: lower `warmup`, or train longer", run.training.epochs))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "linear",
            optimiser: "adam",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 1e-3,
            epochs: 4,
            batch_size: 100,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let drift = Quantity::new("drift", "1", "ln of what is left of the way the table may go", Direction::Neutral);
        let drift = if self.infinite { drift.possibly_infinite() } else { drift };
        vec![Quantity::new("loss", "nats", "cross-entropy, mean over inputs", Direction::Minimise), drift]
    }
}

ibhost_framework::register! { Objective: TableConfig as ObjectiveConfig, paper: "", example: "contract_table", model: Table, offers: [Classify] }

/// Points of two classes, drawn once from the run's seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct PointsConfig {}

#[derive(Debug)]
struct Points {
    info: DataInfo,
    samples: Samples,
}

impl Dataset for Points {
    fn info(&self) -> &DataInfo {
        &self.info
    }
    fn split(&self, _split: Split) -> &Samples {
        &self.samples
    }
}

#[typetag::serde(name = "contract_points")]
impl DatasetConfig for PointsConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        self.load_with_seed(root, 0)
    }

    fn load_with_seed(&self, _root: &DataRoot, seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        let order = Noise::new(seed).stream("points", 0).permutation(40);
        let values = order.iter().map(|&at| at as f32 / 40.0).collect();
        let labels = order.iter().map(|at| u8::from(*at > 19)).collect();
        let samples = Samples::new(Values::F32(Arc::new(values)), labels, [1, 1, 1], Scaling::uniform(1, 1.0, 0.0))?;
        let classes = ["low", "high"].map(str::to_owned).to_vec();
        let info = DataInfo { name: "contract_points".to_owned(), classes, shape: [1, 1, 1], note: None, class_entropy: None };
        Ok(Box::new(Points { info, samples }))
    }

    fn draws_from_seed(&self) -> bool {
        true
    }
}

ibhost_framework::register! { Dataset: PointsConfig as DatasetConfig, paper: "", example: "contract_points" }

fn settings(objective: &str) -> Settings {
    let mut settings = Settings::new();
    for (key, value) in [("objective", objective), ("encoder", "mlp/e1:8|e2:8|z:2"), ("checkpoint_every", "1epochs")] {
        settings.set(key, value.into()).unwrap();
    }
    // One step an epoch.
    settings.set("limit_train", 100.into()).unwrap();
    settings
}

fn open(settings: Settings) -> Result<(Session, State), EngineError> {
    Session::open(settings.resolve().unwrap(), &DataRoot("absent".into()))
}

fn refused(case: &str) -> String {
    open(settings(&format!("contract_table/case:{case}"))).err().map(|error| error.to_string()).unwrap_or_default()
}

/// Tables before and after a step.
fn moved(case: &str) -> bool {
    let (session, state) = open(settings(&format!("contract_table/case:{case}"))).unwrap();
    let batch = session.training_batch(&(0..32).collect::<Vec<_>>(), 0, "main").unwrap();
    let before = parameters::to_host(&state.model);
    let (state, _) = Stepper::default().step_on(&session, state, 1, &batch).unwrap();
    let after = parameters::to_host(&state.model);
    assert!(before.iter().any(|(path, value)| path.starts_with("model.encoder") && after[path] != *value));
    before["table"] != after["table"]
}

#[test]
fn a_run_that_would_leave_a_parameter_untrained_is_refused_with_its_path() {
    for (case, words) in [
        ("forgotten", ["no parameter group names `table`", "hint: name the field in the objective's `groups`", "`.no_grad()`"]),
        ("mistyped", ["group `tabel` names `tabel`", "no such field", "did you mean `table`?"]),
        ("twice", ["`table` belongs to the groups `table` and `again`", "hint: ", "one group"]),
        ("idle", ["no phase moves optimiser `table`", "`table` would stay as drawn", "hint: "]),
        ("unknown", ["phase `main` moves optimiser number 7", "the plan has 2", "hint: "]),
        ("other_phase", ["phase `mian` is no loss of the objective", "did you mean `main`?", "hint: "]),
        ("held_at_nothing", ["phase `main` is held at the quantity `acuracy`", "does not report", "hint: "]),
    ] {
        let error = refused(case);
        assert!(error.contains("objective `contract_table` cannot be trained"), "{case}: {error}");
        for word in words {
            assert!(error.contains(word), "{case} lacks `{word}`: {error}");
        }
    }
    for case in ["sound", "frozen", "frozen_in_group"] {
        assert_eq!(refused(case), "");
    }
}

/// The text of a source file without its tests, whose examples may be called anything.
fn product(text: &str) -> &str {
    let tests = text.match_indices("#[cfg(test)]").find(|(at, _)| {
        let module = text[*at..].lines().skip(1).find(|line| !line.starts_with('#')).unwrap_or_default();
        module.contains("mod ") && module.ends_with('{')
    });
    tests.map_or(text, |(at, _)| &text[..at])
}

/// Rust files below `folder`, those that only tests compile left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("component/fixture.rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn framework_knows_no_paper_no_data_set_and_no_architecture() {
    /// Names of components that are words of their own; they are looked for as the whole of a text only.
    const WORDS: [&str; 13] = [
        "classifier",
        "cross_entropy",
        "dense",
        "digits",
        "file",
        "hit",
        "lagrangian",
        "linear",
        "pca",
        "shapes",
        "sprites",
        "step",
        "toy",
    ];
    /// What no component is called, but papers, data sets and networks are.
    const OTHERS: [&str; 9] = ["resnet", "imagenet", "cifar", "vamp", "vampprior", "inception", "alexnet", "mnistc", "notebook"];
    /// About to leave the framework.
    const LEAVING: &str = "src/latent_classifier.rs";
    let kinds = [Kind::Objective, Kind::Encoder, Kind::Decoder, Kind::Dataset];
    let items = kinds.iter().flat_map(|&kind| Registry::global().unwrap().items(kind));
    // Components of tests may be called anything.
    let items = items.filter(|item| item.crate_name != env!("CARGO_PKG_NAME"));
    let names: Vec<&str> = items.flat_map(ibhost_framework::registry::Item::names).chain(OTHERS).collect();
    assert!(names.len() > 40 && names.contains(&"mnist"), "{names:?}");
    let framework = Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework");
    let files = sources(&framework);
    assert!(files.len() > 150, "{}", files.len());
    let mut found = Vec::new();
    for path in files.iter().filter(|path| !path.ends_with(LEAVING)) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in product(&text).lines().enumerate() {
            let known = |name: &&&str| {
                if WORDS.contains(*name) {
                    **name != "linear" && line.contains(&format!("\"{name}\""))
                } else {
                    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word.eq_ignore_ascii_case(name))
                }
            };
            found.extend(names.iter().find(known).map(|name| format!("{}:{}: {name}: {}", path.display(), number + 1, line.trim())));
        }
    }
    assert!(found.is_empty(), "plug-ins name these, the framework does not:\n{}", found.join("\n"));
}

#[test]
fn what_is_built_without_gradient_stays_whatever_groups_name() {
    assert!(moved("sound"));
    assert!(!moved("frozen") && !moved("frozen_in_group"));
}

/// Trains in `folder`; the run's folder and how it ended.
fn train(settings: Settings, folder: &Path) -> (RunDir, Result<(), String>) {
    let mut trainer = Trainer::create(settings.resolve().unwrap(), &DataRoot("absent".into()), folder, Vec::new()).unwrap();
    let result = trainer.train(&mut Quiet, &AtomicBool::new(false)).map(|_| ()).map_err(|error| error.to_string());
    let path = trainer.run.path().to_path_buf();
    drop(trainer);
    (RunDir::open_read_only(&path).unwrap(), result)
}

#[test]
fn an_evaluation_that_is_no_number_fails_the_run_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = settings("contract_table");
    wanted.set("watch", "test.loss".into()).unwrap();
    let (run, result) = train(wanted, folder.path());
    let reason = result.unwrap_err();
    for word in ["(epoch 2)", "phase `evaluation`", "mean drift (-inf) on the test split is not finite", "loss = ", "step 1"] {
        assert!(reason.contains(word), "`{word}`: {reason}");
    }
    let summary = run.read_summary().unwrap();
    assert_eq!((summary.status, summary.steps), (RunStatus::Failed, 2));
    assert_eq!(summary.reason.as_deref(), Some(reason.as_str()));
    assert_eq!(summary.best.map(|best| best.epoch), Some(1), "an evaluation that failed is never best");
    let last: Vec<u64> = run.checkpoints().list().unwrap().iter().filter(|c| c.label == Label::Last).map(|c| c.step).collect();
    assert_eq!(last, [1]);
}

#[test]
fn a_configuration_refuses_a_run_that_does_not_fit_it_and_opens_it_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let resolved = |epochs: u64| {
        let mut wanted = settings("contract_table/warmup:3");
        wanted.set("epochs", epochs.into()).unwrap();
        wanted.resolve().unwrap()
    };
    let create = |config| Trainer::create(config, &DataRoot("absent".into()), folder.path(), Vec::new()).err().map(|e| e.to_string());
    let refused = create(resolved(2)).unwrap_or_default();
    for word in ["objective `contract_table/warmup:3` has a warm-up longer than the run's 2 epochs", "hint: "] {
        assert!(refused.contains(word), "{refused}");
    }
    assert!(entries(folder.path()).is_empty());
    assert!(Session::open(resolved(2), &DataRoot("absent".into())).is_ok(), "a run that was begun before there was the rule");
    assert_eq!(create(resolved(3)), None);
}

#[test]
fn samples_drawn_from_the_seed_of_the_run_differ_between_seeds_and_not_between_openings() {
    let config = |seed: u64| {
        let mut wanted = settings("contract_table");
        wanted.set("dataset", "contract_points".into()).unwrap();
        wanted.set("seed", seed.into()).unwrap();
        wanted.resolve().unwrap()
    };
    let train = |seed| Session::open(config(seed), &DataRoot("absent".into())).unwrap().0.train;
    assert_eq!(train(1), train(1));
    assert_ne!(train(1), train(2));
    assert_ne!(config(1).data_name().unwrap(), config(2).data_name().unwrap(), "trials of a sweep are not held to one of them");
    assert_eq!(open(settings("contract_table")).unwrap().0.config.data_name().unwrap(), "digits");
}

#[test]
fn a_measure_that_no_quantity_describes_is_shown_and_evaluations_know_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let resolved = settings("contract_table/infinite:true|undescribed:true").resolve().unwrap();
    let mut trainer = Trainer::create(resolved, &DataRoot("absent".into()), folder.path(), Vec::new()).unwrap();
    let (_, summary) = trainer.train(&mut Quiet, &AtomicBool::new(false)).unwrap();
    assert_eq!(summary.final_metrics.test.get("epochs_so_far"), Some(4.0));
    let quantity = trainer.session.quantities.iter().find(|quantity| quantity.name == "epochs_so_far").unwrap();
    assert_eq!((quantity.unit, quantity.direction), ("?", Direction::Neutral));
}

#[test]
fn an_infinite_mean_is_a_result_where_the_quantity_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (run, result) = train(settings("contract_table/infinite:true"), folder.path());
    assert_eq!(result, Ok(()));
    let summary = run.read_summary().unwrap();
    assert_eq!((summary.status, summary.final_metrics.test.get("drift")), (RunStatus::Completed, Some(f64::NEG_INFINITY)));
    let finished = FinishedRun::open(run.path(), OtherDataPolicy::Refuse).unwrap();
    assert!(finished.with_weights(&DataLibrary::new(DataRoot("absent".into())), Label::Last, |_| ()).is_ok());
}

#[test]
fn what_objectives_offer_is_what_their_models_hand_out() {
    let registry = Registry::global().unwrap();
    let objectives = registry.items(Kind::Objective);
    assert!(objectives.len() > 8, "{objectives:?}");
    for item in objectives {
        let mut settings = Settings::new();
        for pair in of_objective(item.name, 16).chunks_exact(2) {
            let value = pair[1].parse::<u64>().map_or_else(|_| pair[1].as_str().into(), Into::into);
            settings.set(pair[0].trim_start_matches("--"), value).unwrap();
        }
        let (session, state) = open(settings).unwrap_or_else(|error| panic!("{}: {error}", item.name));
        let model = Session::evaluation_model(&state, false);
        assert!(!item.offers.is_empty(), "{}", item.name);
        assert!(item.offers.iter().all(|offered| (offered.held_by)(&*model)), "{}: {:?}", item.name, item.offers);
        // What is handed out works.
        let inputs = session.train.batch(&[0, 1], &session.device).inputs;
        if let Some(classifier) = model.capability::<Classify>() {
            let mut draws = Draws::seeded(session.noise, 0, "contract");
            assert_eq!(classifier.class_log_probabilities(inputs.clone(), 1, &mut draws).dims()[0], 2, "{}", item.name);
        }
        if let Some(posterior) = model.capability::<Encode>() {
            assert_eq!(posterior.posterior(inputs).dims()[0], 2, "{}", item.name);
        }
    }
}

#[test]
fn a_last_step_that_breaks_the_weights_fails_the_run_and_no_analysis_takes_such_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = |name: &str, more: &[&str]| {
        let base = ["run", "--objective", "vib", "--encoder", SMALL, "--limit-train", "200", "--lr", "1e30", "--watch", "test.accuracy"];
        let ended = host.run(&[&base, &["--output-dir", name][..], more].concat());
        let run = folder.path().join(name).join(entries(&folder.path().join(name))[0].trim_end_matches('/'));
        (ended, run)
    };
    let (ended, only) = run("one", &["--steps", "1"]);
    ended.refused(
        1,
        &["step 0 (epoch 1)", "phase `evaluation`", "mean loss (NaN) on the test split is not finite", "accuracy = 0,", "hint: "],
    );
    let summary = yaml(&only.join("summary.yml"));
    assert_eq!(summary["status"], "failed");
    assert!(summary["best"].is_null() && summary["reason"].as_str().unwrap().contains("mean loss (NaN) on the test split"), "{summary}");
    assert!(!only.join("checkpoints").exists() || entries(&only.join("checkpoints")).is_empty());
    // A checkpoint between the step that broke the weights and the one that showed it.
    let (ended, broken) = run("two", &["--steps", "9", "--batch-size", "50", "--checkpoint-every", "1steps"]);
    ended.refused(1, &["is not finite", "the checkpoint of step 1 is kept"]);
    let broken = broken.to_str().unwrap();
    for analysis in ["attack", "salt_pepper/p:[0.1]", "knn_accuracy"] {
        host.run(&["analyze", broken, "--analysis", analysis])
            .refused(1, &["are not numbers", "no analysis of it means anything", "hint: "]);
    }
}

#[test]
fn an_analysis_a_model_cannot_serve_is_refused_in_words_that_say_where_to_offer_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (_, run) = host.train(&["--objective", "vib", "--encoder", SMALL, "--steps", "2"]);
    let run = run.to_str().unwrap();
    for (analysis, words) in [
        ("swap_grid", ["rebuild inputs from the style of one and the class of another", "`StyleModel`", "`offers: [Restyle]`"]),
        ("nll", ["give the log density of inputs", "`LatentModel`", "`offers: [LogDensity]`"]),
        ("image_grids", ["reconstruct inputs from their codes", "`ibhost describe image_grids`", "`offers: [Reconstruct]`"]),
    ] {
        host.run(&["analyze", run, "--analysis", analysis]).refused(2, &words);
    }
}
