//! What the command line says about components: the catalogue, descriptions, presets, completions and devices.

use std::path::Path;
use std::time::{Duration, Instant};

use ibhost_framework::analysis::AnalysisConfig;
use ibhost_framework::comparison::ComparisonConfig;
use ibhost_framework::component::resolve;
use ibhost_framework::registry::Kind;
use ibhost_tests::cli::CommandLine;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// Every component by kind, both in the order of the catalogue.
const COMPONENTS: [(&str, &[&str]); 9] = [
    ("objectives", &["classifier", "disenib", "hit", "hvae", "lagrangian", "mim", "vdb", "vib"]),
    (
        "encoders",
        &[
            "bvae",
            "dense",
            "densenet",
            "gated_conv",
            "gated_mlp",
            "hvae",
            "instance_conv",
            "lvae",
            "mlp",
            "mnist_cnn",
            "residual_mlp",
            "resnet18",
            "resnet20",
            "resnet_keras",
            "vector_mlp",
        ],
    ),
    ("decoders", &["dense_classifier", "gated_conv", "gated_mlp", "gelu_classifier", "hvae", "linear", "lvae", "pixel_conv", "vector_mlp"]),
    (
        "datasets",
        &[
            "binarised",
            "binary_digits",
            "binary_mnist",
            "cifar10",
            "digits",
            "fashion_mnist",
            "file",
            "mnist",
            "omniglot",
            "omniglot_chardata",
            "pca",
            "shapes",
            "sprites",
            "svhn",
            "toy",
        ],
    ),
    (
        "analyses",
        &[
            "attack",
            "cifar10c",
            "curves",
            "disentanglement",
            "embedding",
            "fid",
            "image_grids",
            "inception_score",
            "knn_accuracy",
            "ksg",
            "label_information",
            "latent_gallery",
            "latent_plot",
            "mim_portrait",
            "mim_progress",
            "mim_statistics",
            "mnistc",
            "mutual_information",
            "nll",
            "ood",
            "principal_components",
            "probes",
            "psnr",
            "rates",
            "reconstruction_accuracy",
            "rmse",
            "salt_pepper",
            "swap_grid",
            "traversal",
        ],
    ),
    ("comparisons", &["axis", "corruption", "latent_grid", "mean_curves", "means", "rate_plane", "robustness", "setting"]),
    ("strategies", &["alternate", "by_epoch", "oneshot"]),
    ("optimisers", &["adabelief", "adadelta", "adam", "adam_norm_grad", "sgd"]),
    (
        "schedules",
        &["constant", "cosine", "exponential", "geometric", "keras_resnet20_cifar10", "noam", "pytorch_resnet20_cifar10", "step"],
    ),
];

const PRESETS: [&str; 38] = [
    "bvae-binary-mnist",
    "cifar10-densenet121",
    "convhvae-2level",
    "convhvae-2level-amim",
    "convhvae-2level-smim",
    "disenib-conv-mnist",
    "disenib-digits",
    "disenib-mnist",
    "disenib-nib",
    "disenib-shapes",
    "disenib-sprites",
    "disenib-squared-nib",
    "disenib-squared-vib",
    "disenib-vib",
    "hvae-binary-mnist",
    "hvae-cifar10",
    "hvae-cifar10-mol",
    "hvae-svhn",
    "lvae-binary-mnist",
    "lvae-cifar10",
    "lvae-svhn",
    "mim-animation-ae",
    "mim-animation-mim",
    "mim-animation-vae",
    "mim-toy4",
    "mim-toy4-vae",
    "mnist-cnn",
    "pixelhvae-2level",
    "pixelhvae-2level-amim",
    "pixelhvae-2level-smim",
    "svhn-resnet18",
    "vdb-cifar10",
    "vdb-mnist",
    "vdb-mnist-small",
    "vib-2017",
    "vib-2d",
    "vib-2d-baseline",
    "vib-jax",
];

fn host(folder: &Path) -> CommandLine {
    CommandLine::new(HOST, folder)
}

fn catalogue(folder: &Path) -> Value {
    serde_json::from_str(&host(folder).run(&["list", "--format", "json"]).expect(0).stdout).unwrap()
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn exactly_these_components_are_registered_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = catalogue(folder.path());
    let kinds: Vec<&str> = catalogue.as_object().unwrap().keys().map(String::as_str).collect();
    let expected: Vec<&str> = COMPONENTS.iter().map(|(kind, _)| *kind).chain(["presets"]).collect();
    assert_eq!(kinds, expected);
    for (kind, expected) in COMPONENTS {
        assert_eq!(names(&catalogue[kind]), expected, "{kind}");
    }
    assert_eq!(names(&catalogue["presets"]), PRESETS);
}

#[test]
fn the_catalogue_at_the_root_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let listed = host(folder.path()).run(&["list", "--format", "markdown"]).expect(0).stdout;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        written == listed,
        "registry.md differs from what is registered; write it anew with\n  cargo run --release -p ibhost -- list --format markdown > registry.md"
    );
}

#[test]
fn the_catalogue_leaves_nothing_out_and_is_read_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let text = host(folder.path()).run(&["list", "--format", "markdown"]).expect(0).stdout;
    assert!(text.lines().all(|line| line.chars().count() <= 140 && !line.starts_with('|')), "{text}");
    let catalogue = catalogue(folder.path());
    // Where a line is broken is no part of what it says.
    let in_a_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (kind, _) in COMPONENTS {
        let of_kind = text.split("\n## ").find(|part| part.to_lowercase().starts_with(kind)).unwrap_or_else(|| panic!("no {kind}"));
        for item in catalogue[kind].as_array().unwrap() {
            let heading = format!("\n### `{}`", item["name"].as_str().unwrap());
            assert!(of_kind.contains(&heading), "{heading}");
            let said = in_a_line(of_kind[of_kind.find(&heading).unwrap() + 1..].split("\n#").next().unwrap());
            for alias in item["aliases"].as_array().unwrap() {
                assert!(said.contains(&format!("`{}`", alias.as_str().unwrap())), "{alias}: {said}");
            }
            for parameter in item["parameters"].as_array().unwrap() {
                assert!(said.contains(&format!("`{}:", parameter["name"].as_str().unwrap())), "{parameter}: {said}");
            }
            for fit in item["fits"].as_array().unwrap() {
                assert!(said.contains(fit.as_str().unwrap()), "{fit}: {said}");
            }
            for key in ["summary", "paper", "example"] {
                assert!(said.contains(&in_a_line(item[key].as_str().unwrap())), "{key}: {said}");
            }
        }
    }
    for preset in PRESETS {
        assert!(text.split("\n## Presets").nth(1).unwrap().contains(&format!("- `{preset}`: ")), "{preset}");
    }
}

#[test]
fn every_format_and_kind_can_be_listed() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    for (kind, expected) in COMPONENTS.into_iter().chain([("presets", &PRESETS[..])]) {
        for format in ["table", "markdown", "json"] {
            let text = host.run(&["list", "--kind", kind, "--format", format]).expect(0).stdout;
            assert!(expected.iter().all(|name| text.contains(name)), "{kind} as {format}: {text}");
            if format == "json" {
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value.as_object().unwrap().len(), 1, "{text}");
                assert_eq!(names(&value[kind]), expected);
            }
        }
    }
}

#[test]
fn every_component_and_preset_describes_itself_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let catalogue = catalogue(folder.path());
    for (kind, items) in catalogue.as_object().unwrap() {
        for item in items.as_array().unwrap() {
            let name = item["name"].as_str().unwrap();
            for format in ["table", "markdown"] {
                let text = host.run(&["describe", name, "--format", format]).expect(0).stdout;
                assert!(text.contains("example: ibhost ") && text.contains(item["summary"].as_str().unwrap()), "{text}");
                assert_eq!(text.contains("paper: "), item["paper"].as_str().is_some_and(|paper| !paper.is_empty()), "{text}");
                for parameter in item["parameters"].as_array().into_iter().flatten() {
                    assert!(text.contains(parameter["name"].as_str().unwrap()), "{parameter}: {text}");
                    assert!(!parameter["doc"].as_str().unwrap().is_empty(), "`{}` of {kind} `{name}` has no meaning", parameter["name"]);
                }
            }
            let text = host.run(&["describe", name, "--format", "json"]).expect(0).stdout;
            let value: Value = serde_json::from_str(&text).unwrap();
            // A name may be one of an encoder and of a decoder: both are described.
            assert!(!names(&value).is_empty() && names(&value).iter().all(|described| *described == name), "{text}");
            assert!(value[0]["example"].as_str().is_some_and(|example| example.contains(name)), "{text}");
        }
    }
    // A name that only some kind's alias has is described too.
    assert!(host.run(&["describe", "seq"]).expect(0).stdout.contains("strategy by_epoch"));
}

#[test]
fn descriptions_of_objectives_give_units_and_fitting_analyses() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vib", "vdb"] {
        let text = host(folder.path()).run(&["describe", name]).expect(0).stdout;
        for word in ["nats", "bits", "mean over", "analyses that fit: ", "salt_pepper", "beta"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[test]
fn every_example_is_accepted_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let catalogue = catalogue(folder.path());
    for (kind, items) in catalogue.as_object().unwrap() {
        for item in items.as_array().unwrap() {
            let Some(example) = item["example"].as_str() else { continue };
            let singular = item["kind"].as_str().unwrap();
            if kind == "analyses" {
                // An analysis is named only where a finished run is; the string alone is looked at here.
                assert!(resolve::<dyn AnalysisConfig>(Kind::Analysis, example).is_ok(), "{example}");
                continue;
            }
            if kind == "comparisons" {
                // So is a comparison, which is named with several of them.
                assert!(resolve::<dyn ComparisonConfig>(Kind::Comparison, example).is_ok(), "{example}");
                continue;
            }
            let flag = format!("--{singular}");
            let mut arguments = vec!["run", "--dry-run", flag.as_str(), example];
            if singular != "objective" {
                arguments.extend(["--objective", "vdb"]);
            }
            if singular != "encoder" {
                arguments.extend(["--encoder", "mlp"]);
            }
            let config: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
            // A renamed component is recorded under its first name.
            let names = item["aliases"].as_array().unwrap().iter().chain([&item["name"]]);
            assert!(names.into_iter().any(|name| config[singular]["name"] == *name), "{example}");
        }
    }
    assert!(!folder.path().join("runs").exists(), "a dry run leaves nothing behind");
}

#[test]
fn every_preset_resolves_and_flags_override_it() {
    let folder = tempfile::tempdir().unwrap();
    for preset in PRESETS {
        let run = |more: &[&str]| -> Value {
            let arguments = [&["run", "--preset", preset, "--dry-run"], more].concat();
            serde_json::from_str(&host(folder.path()).run(&arguments).expect(0).stdout).unwrap()
        };
        let plain = run(&[]);
        assert!(plain["objective"]["name"].is_string() && plain["encoder"]["name"].is_string(), "{plain}");
        // Most objectives have a weight, under the name its paper gives it; the others have a warm-up.
        let weight = ["beta", "lambda_kl", "lambda_rec"].into_iter().find(|key| plain["objective"].get(key).is_some());
        let (key, value): (_, Value) = weight.map_or(("warmup", 7.into()), |key| (key, 0.125.into()));
        let set = format!("objective.{key}={value}");
        // Plain cross-entropy has nothing to set.
        let set: &[&str] = if plain["objective"]["name"] == "classifier" { &[] } else { &["--set", &set] };
        let changed = run(&[set, &["--lr", "0.25", "--dataset", "digits"]].concat());
        assert!(set.is_empty() || changed["objective"][key] == value, "{preset}");
        assert_eq!(changed["lr"], 0.25, "{preset}");
        assert_eq!((&changed["dataset"]["name"], &changed["encoder"]), (&"digits".into(), &plain["encoder"]), "{preset}");
    }
}

#[test]
fn listing_starts_fast() {
    let folder = tempfile::tempdir().unwrap();
    let once = || {
        let begin = Instant::now();
        host(folder.path()).run(&["list"]).expect(0);
        begin.elapsed()
    };
    // The fastest of several is what the program needs; the others measure what else the machine was doing.
    let fastest = (0..10).map(|_| once()).min().unwrap();
    println!("`ibhost list` takes {:.1} ms (fastest of ten)", fastest.as_secs_f64() * 1e3);
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[test]
fn completions_man_page_devices_and_data_sets_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    for shell in ["bash", "zsh", "fish"] {
        let text = host.run(&["completions", shell]).expect(0).stdout;
        assert!(text.contains("ibhost") && text.contains("objective") && text.contains("new-plugin"), "{shell}: {text}");
    }
    let man = host.run(&["man"]).expect(0).stdout;
    assert!(man.contains(".TH") && man.contains("interrupted after saving"), "{man}");

    let devices: Value = serde_json::from_str(&host.run(&["devices", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!((&devices["devices"][0]["name"], &devices["devices"][0]["built"]), (&"flex".into(), &true.into()));
    assert!(host.run(&["devices"]).expect(0).stdout.contains("flex"));

    let data: Value = serde_json::from_str(&host.run(&["data", "list", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!(names(&data["datasets"]), COMPONENTS[3].1);
    assert!(host.run(&["data", "list"]).expect(0).stdout.contains("ibhost data fetch mnist"));
    assert!(host.run(&["data", "fetch", "digits"]).expect(0).stdout.contains("embedded"));
    host.run(&["data", "verify", "mnist"]).expect(1);
    host.run(&["data", "verify"]).expect(0);
}
