//! What is refused before a run exists: data a likelihood is not defined for, and files made to exhaust whoever reads them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind};
use ibhost_framework::engine::Trainer;
use ibhost_framework::run::{RunConfig, Settings};
use ibhost_framework::storage::CheckpointStore;
use ibhost_nets::linear::LinearConfig;
use ibhost_tests::cli::CommandLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// A linear decoder whose likelihood is defined for values up to `largest` only, as a Bernoulli likelihood is up to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Bounded {
    /// Largest value the likelihood is defined for.
    largest: f32,
}

impl Default for Bounded {
    fn default() -> Self {
        Self { largest: 1.0 }
    }
}

#[typetag::serde(name = "bounded")]
impl DecoderConfig for Bounded {
    fn support(&self) -> Option<[f32; 2]> {
        Some([0.0, self.largest])
    }

    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Classes]
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        DecoderConfig::build(&LinearConfig::default(), latents, target, context)
    }
}

ibhost_framework::register! { Decoder: Bounded as DecoderConfig, aliases: [], paper: "", example: "bounded/largest:1.0" }

fn config(dataset: &str) -> RunConfig {
    let mut settings = Settings::new();
    let values =
        [("objective", "vib"), ("encoder", "mlp/e1:8|e2:8|z:2"), ("decoder", "bounded"), ("dataset", dataset), ("name", "bounded")];
    for (key, value) in values {
        settings.set(key, value.into()).unwrap();
    }
    settings.resolve().unwrap()
}

#[test]
fn a_network_beyond_the_memory_is_refused_before_it_is_made() {
    if !std::path::Path::new("/proc/meminfo").exists() {
        println!("skipped: this system does not tell how much memory is free");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    // Each of the 32 layers takes 16 GiB for its weights alone.
    let encoder = format!("dense/hidden:[{}]|z:2", ["65536"; 32].join(";"));
    let arguments = ["run", "--objective", "vib", "--encoder", &encoder, "--output-dir", "runs"];
    let begin = Instant::now();
    let ended = host.run(&arguments);
    ended.refused(2, &["with 133", "5 numbers for each", "TiB of memory", "free", "narrower"]);
    assert!(begin.elapsed() < Duration::from_secs(20), "it was made first: {:?}", begin.elapsed());
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn data_outside_of_the_likelihood_are_refused_before_a_run_exists() {
    let folder = tempfile::tempdir().unwrap();
    let create = |dataset: &str| Trainer::create(config(dataset), &DataRoot("absent".into()), folder.path(), Vec::new()).map(|_| ());
    let error = create("digits").unwrap_err().to_string();
    for words in ["`bounded`", "from 0 to 1", "training split of `digits`", "from -1 to 1", "scale:unit"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    create("digits/scale:unit").unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bernoulli_pixels_outside_of_zero_to_one_are_refused_by_every_decoder_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    for (objective, encoder, decoder) in [
        ("hvae", "gated_mlp/z1:4|z2:4", "gated_mlp"),
        ("hvae", "gated_conv/z1:4|z2:4", "gated_conv"),
        ("hvae", "gated_conv/z1:4|z2:4", "pixel_conv"),
        ("mim", "vector_mlp/z:2", "vector_mlp/output:bernoulli"),
    ] {
        let run = ["run", "--objective", objective, "--encoder", encoder, "--decoder", decoder, "--dataset", "digits", "--steps", "1"];
        host.run(&run).refused(2, &[decoder, "from 0 to 1", "from -1 to 1", "`digits`"]);
    }
    assert!(!folder.path().join("runs").exists());
}

/// Runs the program on a configuration file with at most 3 GB of address space and returns the message.
fn refused(text: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hostile.yml"), text).unwrap();
    let begin = Instant::now();
    let script = format!("ulimit -v 3000000; exec '{HOST}' run --config hostile.yml --dry-run");
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(stderr.starts_with("error: ") && stderr.len() < 4000, "{} bytes", stderr.len());
    stderr
}

#[test]
fn files_that_explode_are_refused_in_bounded_time_and_memory() {
    // Each level repeats the one before nine times: nine lines are a billion words.
    let mut bomb = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned();
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 9].join(",");
        bomb += &format!("a{level}: &a{level} [{inner}]\n");
    }
    refused(bomb.as_bytes());
    let maps = (0..30).map(|level| format!("m{level}: &m{level} {{<<: [*m{0}, *m{0}], k{level}: *m{0}}}\n", i32::max(level - 1, 0)));
    refused(format!("m0: &m0 {{a: b}}\n{}", maps.skip(1).collect::<String>()).as_bytes());
    refused("[".repeat(1 << 20).as_bytes());
    refused("{a: ".repeat(1 << 18).as_bytes());
    refused("- ".repeat(1 << 20).as_bytes());
    refused(format!("objective: {}\n", "x".repeat(1 << 24)).as_bytes());
    refused(format!("seed: {}\n", "9".repeat(1 << 20)).as_bytes());
    refused(&vec![0xff; 1 << 16]);
    refused(b"");
}

#[test]
fn json_that_nests_without_end_is_damage_and_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "[".repeat(1 << 20);
    fs::write(folder.path().join("manifest.json"), &deep).unwrap();
    let error = CheckpointStore::load_path(folder.path()).unwrap_err().to_string();
    assert!(error.contains("manifest.json") && error.contains("damaged"), "{error}");
    fs::write(folder.path().join(".run.json"), &deep).unwrap();
    let output = Command::new(HOST).args(["verify", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
