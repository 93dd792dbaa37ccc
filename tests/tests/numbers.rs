//! Numbers that are what they are called: draws of the prior, means and draws of the decoder, and nothing in place of what is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::engine::{EngineError, Quiet, Session, Trainer};
use ibhost_framework::noise::Stream;
use ibhost_framework::run::Settings;
use ibhost_tests::cli::CommandLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const DATA: &str = "binarised/of:digits|mode:static|first:300";

fn hierarchical(host: &CommandLine, objective: &str) -> PathBuf {
    let parts = ["--objective", objective, "--encoder", "gated_mlp/z1:4|z2:4", "--decoder", "gated_mlp", "--dataset", DATA];
    host.train(&[&parts[..], &["--epochs", "1"]].concat()).1
}

/// Results of `analyses` of `run`, made with one command.
fn analysed<const N: usize>(host: &CommandLine, run: &Path, analyses: [&str; N], seed: &str) -> [Value; N] {
    let mut arguments = vec!["analyze", run.to_str().unwrap(), "--seed", seed, "--format", "json"];
    arguments.extend(analyses.iter().flat_map(|analysis| ["--analysis", analysis]));
    let document: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
    std::array::from_fn(|at| document[at]["result"].clone())
}

#[test]
fn measures_draw_from_the_whole_prior_whatever_its_number_of_components() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (_, judge) = host.train(&["--objective", "classifier", "--encoder", "mnist_cnn/z:16", "--dataset", DATA, "--epochs", "2"]);
    let judge = judge.file_name().unwrap().to_str().unwrap();
    let fid = format!("fid/classifier:{judge}|samples:230");
    let score = format!("inception_score/classifier:{judge}|samples:230|splits:2");
    // Fewer components than samples are drawn at once.
    let few = hierarchical(&host, "hvae/components:20");
    let [statistics, distance, _] = analysed(&host, &few, ["mim_statistics/points:60", &fid, &score], "1");
    assert!(["Dkl_p_q", "MI", "H_q_x", "x_recon_err"].iter().all(|name| statistics[name].as_f64().is_some_and(f64::is_finite)));
    assert!(distance["fid"].as_f64().is_some_and(f64::is_finite), "{distance}");
    // More of them: the option of the sampled branch, which a plain VAE does not have, must not decide what is measured.
    let [in_order, random] = ["hvae", "hvae/sample_components:true"].map(|objective| hierarchical(&host, objective));
    let found = analysed(&host, &in_order, [&fid, &score], "1");
    assert_eq!(found, analysed(&host, &random, [&fid, &score], "1"));
    assert_ne!(found[0]["fid"], analysed(&host, &in_order, [&fid], "2")[0]["fid"]);
}

#[test]
fn every_measure_of_decoded_inputs_says_whether_they_are_means_or_draws() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let normal = |objective: &str| {
        let parts = ["--objective", objective, "--encoder", "vector_mlp/z:3", "--decoder", "vector_mlp"];
        host.train(&[&parts[..], &["--dataset", "digits/scale:unit|first:300", "--epochs", "1"]].concat()).1
    };
    for run in [normal("mim"), normal("hit/layers:1"), hierarchical(&host, "hvae/components:20")] {
        let measures = ["psnr/points:60", "psnr/points:60|decode:sample", "rmse/points:60", "rmse/points:60|decode:mean"];
        let [one, drawn, sample, mean] = analysed(&host, &run, measures, "1");
        let [other] = analysed(&host, &run, ["psnr/points:60"], "2");
        assert_eq!((&one["decoding"], &one["mean_squared_error"]), (&"mean".into(), &other["mean_squared_error"]), "{}", run.display());
        assert!(drawn["decoding"] == "sample" && drawn["psnr"].as_f64() < one["psnr"].as_f64(), "{drawn} {one}");
        assert!(sample["decoding"] == "sample" && mean["decoding"] == "mean", "{sample} {mean}");
        assert!(sample["rmse"].as_f64() > mean["rmse"].as_f64(), "{sample} {mean}");
    }
}

#[test]
fn a_prior_that_the_other_densities_define_is_not_replaced_by_a_normal_one() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let parts =
        ["--objective", "mim/p_z:marginal", "--encoder", "vector_mlp/z:2", "--decoder", "vector_mlp", "--dataset", "toy/samples:256"];
    let (_, run) = host.train(&[&parts[..], &["--epochs", "1"]].concat());
    for analysis in ["mim_statistics", "mim_portrait", "nll/samples:5"] {
        let ended = host.run(&["analyze", run.to_str().unwrap(), "--analysis", analysis]);
        assert!(ended.code != Some(0) && ended.stderr.contains("p_z:marginal") && !ended.stderr.contains("panicked"), "{ended:#?}");
    }
}

/// Samples that cannot be made anew: training batches fail, or come short, or test splits fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct FailingDraws {
    /// `batch`, `short` or `test`.
    what: String,
}

#[derive(Debug)]
struct Failing {
    what: String,
    info: DataInfo,
    samples: Samples,
}

#[typetag::serde(name = "failing_draws_of_tests")]
impl DatasetConfig for FailingDraws {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let info = DataInfo {
            name: "failing".to_owned(),
            classes: ["0", "1"].map(str::to_owned).to_vec(),
            shape: [1, 1, 4],
            note: None,
            class_entropy: None,
        };
        Ok(Box::new(Failing { what: self.what.clone(), info, samples: stored(40)? }))
    }
}

ibhost_framework::register! { Dataset: FailingDraws as DatasetConfig, aliases: [], paper: "", example: "failing_draws_of_tests" }

fn stored(count: usize) -> Result<Samples, DataError> {
    let values = (0..4 * count).map(|i| (i as f32 * 0.7).sin()).collect();
    Samples::new(Values::F32(Arc::new(values)), (0..count).map(|i| (i % 2) as u8).collect(), [1, 1, 4], Scaling::uniform(1, 1.0, 0.0))
}

impl Dataset for Failing {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, _split: Split) -> &Samples {
        &self.samples
    }

    fn fresh_batch(&self, indices: &[usize], _noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        match self.what.as_str() {
            "batch" => Err(DataError::Inconsistent("no sample can be drawn".to_owned())),
            "short" => stored(indices.len() - 1).map(Some),
            _ => Ok(None),
        }
    }

    fn fresh_test(&self, _noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        if self.what == "test" { Err(DataError::Inconsistent("no test split can be drawn".to_owned())) } else { Ok(None) }
    }
}

#[test]
fn samples_that_cannot_be_drawn_end_the_run_and_stored_ones_do_not_stand_for_them() {
    let root = DataRoot("absent".into());
    for (what, message) in
        [("batch", "no sample can be drawn"), ("short", "made 9 samples for step 1 instead of 10"), ("test", "no test split can be drawn")]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new();
        let dataset = format!("failing_draws_of_tests/what:{what}");
        for (key, value) in [("objective", "vib"), ("encoder", "mlp/e1:4|e2:4|z:2"), ("dataset", dataset.as_str())] {
            settings.set(key, value.into()).unwrap();
        }
        settings.set("epochs", 1.into()).unwrap();
        settings.set("batch_size", 10.into()).unwrap();
        let config = settings.resolve().unwrap();
        if what != "test" {
            let (session, _) = Session::open(config.clone(), &root).unwrap();
            let error = session.training_batch(&(0..10).collect::<Vec<_>>(), 0, "main").map(|_| ()).unwrap_err();
            assert!(matches!(error, EngineError::Data(_) | EngineError::Request(_)) && error.to_string().contains(message), "{error}");
        }
        let mut trainer = Trainer::create(config, &root, folder.path(), Vec::new()).unwrap();
        let error = trainer.train(&mut Quiet, &AtomicBool::new(false)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(message), "{what}: {error}");
    }
}
