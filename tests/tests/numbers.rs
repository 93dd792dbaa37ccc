//! Numbers that are what they are called: draws of the prior, means and draws of the decoder, and nothing in place of what is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::engine::{EngineError, Quiet, Session, Trainer};
use ibhost_framework::noise::Stream;
use ibhost_framework::run::Settings;
use ibhost_kernels::instruction_set;
use ibhost_tests::cli::{CommandLine, entries};
use ibhost_tests::every_objective::objectives;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

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

/// Instruction set that the hashes below were recorded on, before distributions, decoders and latent models had a trait each.
const RECORDED_ON: &str = "avx512";

/// The beginning of the SHA-256 of the weights after three steps of 16 samples, and the arguments of the run.
#[rustfmt::skip]
const RECORDED: [(&str, &str); 24] = [
    ("0b780105ff9b7a30",
     "--objective vib --encoder mlp/e1:16|e2:16|z:4|cov:full"),
    ("5f2e048b88fc1330",
     "--objective vib/samples:3|rate:monte_carlo --encoder mlp/e1:16|e2:16|z:4"),
    ("a5a5430669c1aebb",
     "--objective vib/beta:0 --encoder mlp/e1:16|e2:16|z:4|cov:point"),
    ("6439e78a3575bebc",
     "--objective vib/vote:logits|unit:nats --encoder residual_mlp/z:4 --decoder gelu_classifier"),
    ("63866c5fa9f572c1",
     "--objective vdb/m:4|train_accuracy:updated --encoder mlp/e1:16|e2:16|z:4"),
    ("69e27ebe00001c46",
     "--objective vdb/m:3|class_loss:vib --encoder mlp/e1:16|e2:16|z:4 --strategy algo2"),
    ("dfb761ef423e54c4",
     "--objective classifier --encoder mnist_cnn/z:16"),
    ("c943f7145f4fee09",
     "--objective disenib/n_samples:1|n_times_main:2|n_times_est:1|est_thr:1|rec_hidden:[16] --encoder dense/hidden:[16]|z:4|cov:point --decoder dense_classifier"),
    ("3100cde6ca147de3",
     "--objective lagrangian/term:nib|hfunc:pow|lambda_kl:0.001 --encoder dense/hidden:[16]|z:4|cov:shared --decoder dense_classifier"),
    ("99de4abfbed72e21",
     "--objective lagrangian --encoder dense/hidden:[16]|z:4|cov:diag --decoder dense_classifier"),
    ("16793cbaf5189fe5",
     "--objective mim/sampled:true|q_x_sample:decoder|warmup:1|min_logvar:6 --encoder vector_mlp/z:2|mid:8|min_logvar:6 --decoder vector_mlp/mid:8|min_logvar:6 --dataset toy/k:4"),
    ("03a95faca847fc4c",
     "--objective mim/sampled:true|warmup:1|p_z:prior|p_z_gmm:4|q_x:prior|q_x_gmm:3|learn_p_z:true --encoder vector_mlp/z:2|mid:8 --decoder vector_mlp/mid:8 --dataset toy/k:4"),
    ("a7743f995b34ac42",
     "--objective mim/sampled:true|warmup:1|q_zx_gmm:3|p_xz_gmm:2 --encoder vector_mlp/z:2|mid:8 --decoder vector_mlp/mid:8 --dataset toy/k:4"),
    ("28598b10ea1c1071",
     "--objective mim/sampled:true|warmup:1|p_z:gmm_marginal|p_z_gmm:3|q_x:gmm_marginal|q_x_gmm:3 --encoder vector_mlp/z:2|mid:8 --decoder vector_mlp/mid:8|output:bernoulli --dataset binary_digits"),
    ("42ff78f7d10e72c5",
     "--objective mim/loss:vae|entropy:true|warmup:2|q_x:gmm_marginal|q_x_gmm:3 --encoder vector_mlp/z:2|mid:8 --decoder vector_mlp/mid:8 --dataset toy/k:4"),
    ("9c2cca1cb92eb50d",
     "--objective mim/loss:ae --encoder mlp/e1:16|e2:16|z:4|cov:point --decoder vector_mlp/mid:8"),
    ("3ed5fdad6ddaa82a",
     "--objective hvae/components:5|warmup:1 --encoder gated_mlp/z1:4|z2:4 --decoder gated_mlp --dataset binarised/of:digits"),
    ("8665eec63936a83d",
     "--objective hvae/loss:smim|q_x:vampprior|components:5|warmup:1 --encoder gated_mlp/z1:4|z2:4 --decoder gated_mlp --dataset binarised/of:digits"),
    ("124d16b1ec9577b1",
     "--objective hvae/loss:smim|prior:standard|warmup:1 --encoder gated_mlp/z1:4|z2:4 --decoder pixel_conv --dataset binarised/of:digits"),
    ("89ab99a9749392fa",
     "--objective hit --encoder hvae/c:2|z:2 --decoder hvae/c:2|px:bernoulli --dataset binary_digits"),
    ("eeafc03bc87f0735",
     "--objective hit/layers:3|betas:[0.5] --encoder hvae/c:2|z:4|layers:3 --decoder hvae/c:2|px:gaussian_learned_sigma"),
    ("f83e5f7a10149e23",
     "--objective hit --encoder lvae/c:2|z:2 --decoder lvae/c:2"),
    ("65b1d9352ceecb8e",
     "--objective hit --encoder hvae/c:2|z:4|qz:gumbel_softmax --decoder hvae/c:2"),
    ("672761f1c5d9a288",
     "--objective hit/layers:1 --encoder bvae/c:2 --decoder hvae/c:2|px:bernoulli --dataset binary_digits"),
];

#[test]
fn a_run_of_every_objective_has_the_weights_it_always_had() {
    if instruction_set() != RECORDED_ON {
        println!("skipped: recorded with {RECORDED_ON}, and the last digits of this machine's {} are others", instruction_set());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let mut others = Vec::new();
    for (hash, arguments) in RECORDED {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let short = ["--steps", "3", "--batch-size", "16", "--limit-train", "200", "--threads", "1"];
        let (_, run) = host.train(&[&arguments[..], &short].concat());
        let checkpoints = run.join("checkpoints");
        let is_weights = |name: &String| name.starts_with("last-") && name.ends_with("/weights.safetensors");
        let last = entries(&checkpoints).into_iter().find(is_weights).unwrap();
        let weights = std::fs::read(checkpoints.join(last)).unwrap();
        let digest = Sha256::digest(&weights);
        let found = format!("{:016x}", u64::from_be_bytes(std::array::from_fn(|at| digest[at])));
        if found != hash {
            others.push((found, arguments.join(" ")));
        }
    }
    let missing = objectives(&host).into_iter().find(|name| !RECORDED.iter().any(|(_, run)| run.contains(&format!("--objective {name}"))));
    assert_eq!((others, missing), (Vec::new(), None));
}
