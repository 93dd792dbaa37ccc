//! What two runs ended with, compared byte by byte in everything that does not depend on the clock.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{entries, newest_checkpoint, timeless_metrics, yaml};

/// Whether short tests (the default) or long ones (`IBHOST_SOAK=1`) are asked for.
pub fn soaking() -> bool {
    std::env::var_os("IBHOST_SOAK").is_some_and(|value| value == "1")
}

/// Everything in which the completed runs `whole` and `broken` differ: metrics, weights, average, optimiser state, counters, sums, watched
/// metric, and the summary's status and results. Nothing when they are equal byte for byte.
pub fn differences(whole: &Path, broken: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |differs: bool, what: String| {
        if differs {
            found.push(what);
        }
    };
    note(timeless_metrics(whole) != timeless_metrics(broken), "metrics.jsonl".to_owned());
    for label in ["last", "best"] {
        let [a, b] = [whole, broken].map(|run| newest_checkpoint(run, label));
        note(a.file_name() != b.file_name(), format!("{label}: {} against {}", a.display(), b.display()));
        note(entries(&a) != entries(&b), format!("{label}: names of files"));
        for name in entries(&a).iter().filter(|name| name.ends_with(".safetensors")) {
            note(fs::read(a.join(name)).ok() != fs::read(b.join(name)).ok(), format!("{label}: {name}"));
        }
        note(state(&a) != state(&b), format!("{label}: state.json"));
    }
    let [a, b] = [whole, broken].map(|run| yaml(&run.join("summary.yml")));
    for key in ["status", "final", "best", "steps", "epochs", "parameters"] {
        note(a[key] != b[key], format!("summary.yml: {key}"));
    }
    note(b["status"] != "completed", "summary.yml: not completed".to_owned());
    found
}

/// The state of a checkpoint without times and without what computed it, which may be another program on any number of threads. The log holds times, and so
/// its length and digest depend on the clock as well.
fn state(checkpoint: &Path) -> Value {
    let mut state: Value =
        serde_json::from_slice(&fs::read(checkpoint.join("state.json")).expect("a checkpoint has a state")).expect("JSON");
    if let Some(identity) = state.get_mut("identity").and_then(Value::as_object_mut) {
        identity.retain(|key, _| key == "data");
    }
    state.as_object_mut().expect("an object").retain(|key, _| !["elapsed_s", "metrics_bytes", "metrics_digest"].contains(&key.as_str()));
    state
}

/// Checks that two runs ended with the same bytes.
///
/// # Panics
/// Naming what differs.
pub fn assert_same_end(whole: &Path, broken: &Path) {
    let found = differences(whole, broken);
    assert!(found.is_empty(), "{} and {} differ in {found:#?}", whole.display(), broken.display());
}
