//! One stored checkpoint of every released format is read exactly, whatever this build writes.

use std::path::{Path, PathBuf};

use ibhost_framework::storage::{CheckpointStore, HostData, verify};

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints").join(name)
}

#[test]
fn a_stored_checkpoint_of_format_1_is_read_exactly() {
    let path = stored("format-1/last-000000006");
    let manifest = verify(&path).unwrap();
    assert_eq!((manifest.version, manifest.label.as_str(), manifest.step), (1, "last", 6));
    let (step, content) = CheckpointStore::load_path(&path).unwrap();
    assert_eq!(step, 6);
    assert_eq!(content.tensors.keys().collect::<Vec<_>>(), ["average", "optimiser", "weights"]);
    assert_eq!(content.state["step"], 6);
    assert_eq!(content.state["optimiser_steps"], serde_json::json!([6]));
    assert_eq!(content.state["watch"]["metric"], "test.loss");
    let weights = &content.tensors["weights"];
    let (mut count, mut sum) = (0, 0_u64);
    for tensor in weights.values() {
        let HostData::F32(values) = &tensor.data else { panic!("weights are single precision") };
        for value in values {
            count += 1;
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(value.to_bits()));
        }
    }
    // Counted and summed up when the checkpoint was stored, by a program that shares nothing with this reader.
    assert_eq!((weights.len(), count, sum), (8, 330, 0xe681_065c_eece_6057));
}
