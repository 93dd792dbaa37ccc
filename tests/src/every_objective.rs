//! A small run of every registered objective.

use serde_json::Value;

use crate::cli::CommandLine;

/// Names of the objectives that `host` knows.
///
/// # Panics
/// When `host` does not list them.
pub fn objectives(host: &CommandLine) -> Vec<String> {
    let listed = host.run(&["list", "--kind", "objective", "--format", "json"]).expect(0).stdout;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let items = listed["objectives"].as_array().expect("a list");
    items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
}

/// Arguments of a run of `objective` with hidden layers of `width`, a multiple of 8; what is not said here trains a perceptron on digits.
pub fn of_objective(objective: &str, width: usize) -> Vec<String> {
    let (half, eighth) = (width / 2, width / 8);
    let dense = |more: &str| format!("dense/hidden:[{width}]|z:4|{more}");
    let (objective, encoder, more): (&str, String, Vec<String>) = match objective {
        "disenib" => (
            &format!("disenib/n_samples:1|n_times_main:4|n_times_est:1|est_thr:5|rec_hidden:[{width}]"),
            dense("cov:point"),
            vec!["--decoder".to_owned(), "dense_classifier".to_owned()],
        ),
        "lagrangian" => ("lagrangian", dense("cov:shared"), vec!["--decoder".to_owned(), "dense_classifier".to_owned()]),
        // The learning rate rises over the first three epochs.
        "mim" => (
            "mim/sampled:true|q_x_sample:decoder|warmup:3|min_logvar:6",
            format!("vector_mlp/z:2|mid:{half}|min_logvar:6"),
            ["--decoder", &format!("vector_mlp/mid:{half}|min_logvar:6"), "--dataset", "toy/k:4", "--schedule", "noam/warmup:3"]
                .map(str::to_owned)
                .to_vec(),
        ),
        "hvae" => (
            "hvae/components:5|warmup:3",
            "gated_mlp/z1:4|z2:4".to_owned(),
            ["--decoder", "gated_mlp", "--dataset", "binarised/of:digits", "--steps", "48"].map(str::to_owned).to_vec(),
        ),
        "hit" => (
            "hit",
            format!("hvae/c:{eighth}|z:2"),
            ["--decoder", &format!("hvae/c:{eighth}|px:bernoulli"), "--dataset", "binary_digits", "--steps", "48"]
                .map(str::to_owned)
                .to_vec(),
        ),
        other => (other, format!("mlp/e1:{width}|e2:{width}|z:4"), Vec::new()),
    };
    [["--objective", objective, "--encoder", &encoder].map(str::to_owned).to_vec(), more].concat()
}
