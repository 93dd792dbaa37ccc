//! Readers of untrusted input under mutated inputs: whatever the bytes are, the answer is a value or an error, in time and memory that the
//! size of the input explains.
//!
//! bolero drives every target: `IBHOST_FUZZ_RUNS=1000000` makes it long under `cargo test`, and `cargo bolero test -p ibhost-tests npy_files`
//! puts one under libFuzzer. The corpus of a target is `__fuzz__/<name>/corpus`.

// A test that unwraps says where it failed.
#![allow(clippy::unwrap_used)]

mod harness;

use std::fs;
use std::path::Path;

use flate2::Crc;
use ibhost_analyses::npy::Array;
use ibhost_datasets::cifar::{RECORD_BYTES, Records, read_batch};
use ibhost_datasets::file::Place;
use ibhost_datasets::idx;
use ibhost_datasets::mat::read_mat;
use ibhost_datasets::omniglot::OmniglotConfig;
use ibhost_datasets::svhn::SvhnConfig;
use ibhost_framework::component::Component;
use ibhost_framework::dataset::{DataRoot, DatasetConfig};
use ibhost_framework::engine::{Session, restore_last};
use ibhost_framework::event_reader::records;
use ibhost_framework::registry::Kind;
use ibhost_framework::run::{RunConfig, Settings};
use ibhost_framework::storage::manifest::MANIFEST_FILE;
use ibhost_framework::storage::run_dir::yaml_from_str;
use ibhost_framework::storage::{CheckpointStore, FileList, Label, Manifest, MetricsLog, RunDir, Summary, tensors, verify};
use ibhost_tests::cli::{CommandLine, entries};
use serde_json::{Map, Value};

use harness::corpus;

/// Puts a function of bytes under bolero; `check!` has to stand in the test itself, whose name and file it takes down.
macro_rules! fuzz {
    ($name:literal, $($rest:tt)*) => {
        harness::drive($name, [bolero::check!(name = $name), bolero::check!(name = $name)], $($rest)*)
    };
}

/// What an answer says, in the words of its error.
fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "accepted".to_owned())
}

/// A folder in memory where there is one, because every input of some targets is a file.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

#[test]
fn component_strings() {
    let words: [&[u8]; 10] = [b"/", b"|", b":", b",", b"[", b"]", b";", b"beta", b"1e400", b"\xc3\xa9"];
    fuzz!("component", &words, 1.0, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut outcome = String::new();
        for kind in Kind::ALL {
            match Component::parse(kind, &text) {
                Ok(component) => {
                    let printed = component.to_string();
                    assert_eq!(Component::parse(kind, &printed).unwrap().to_string(), printed, "{text:?}");
                    outcome += kind.singular();
                }
                Err(error) => {
                    assert!(error.span.end <= error.text.len() && error.text.is_char_boundary(error.span.start), "{text:?}: {error:?}");
                    outcome += error.message.split('`').next().unwrap_or_default();
                }
            }
        }
        outcome
    });
}

#[test]
fn configuration_files() {
    let words: [&[u8]; 14] =
        [b": ", b"\n", b"- ", b"&a ", b"*a", b"<<: *a", b"!!binary ", b"|\n  ", b"{", b"[", b"~", b".nan", b"\t", b"objective"];
    fuzz!("config", &words, 0.5, |bytes| {
        let layer =
            String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string()).and_then(|text| yaml_from_str::<Map<String, Value>>(&text));
        let layer = match layer {
            Ok(layer) => layer,
            Err(error) => return error,
        };
        let mut settings = Settings::new();
        if let Err(error) = settings.overlay(layer) {
            return error.to_string();
        }
        match settings.resolve() {
            Err(error) => error.to_string(),
            Ok(config) => {
                let value = serde_json::to_value(&config).unwrap();
                assert_eq!(RunConfig::from_json(value).unwrap(), config);
                format!("resolved {} {}", config.stem(), config.schedule)
            }
        }
    });
}

#[test]
fn summaries() {
    fuzz!("summary", &[b": ", b"\n", b".nan", b"~", b"'", b"- "], 0.5, |bytes| {
        said(String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string()).and_then(|text| yaml_from_str::<Summary>(&text)))
    });
}

#[test]
fn idx_files() {
    let root = folder();
    let data = DataRoot(root.path().to_path_buf());
    let mut turn = 0;
    fuzz!("idx", &[&[0, 0, 8, 3], &[0, 0, 8, 1], &[0x1f, 0x8b, 8]], 0.7, |bytes| {
        turn += 1;
        // Gzip is recognised by a reader of files only.
        if turn % 8 == 0 {
            fs::write(root.path().join("file"), bytes).unwrap();
            return said(idx::read(Place::new("fuzz", &data, &data.join("file")), &[None, Some(2), Some(3)]));
        }
        let images = idx::parse(Place::new("fuzz", &data, Path::new("images")), bytes, &[None, Some(2), Some(3)]);
        let labels = idx::parse(Place::new("fuzz", &data, Path::new("labels")), bytes, &[None]);
        if let Ok(images) = &images {
            assert_eq!(images.values.len(), images.dims.iter().product::<usize>());
        }
        said(images) + &said(labels)
    });
}

#[test]
fn cifar_files() {
    let root = folder();
    let data = DataRoot(root.path().to_path_buf());
    fuzz!("cifar", &[&[0; 32], &[255; 32]], 0.5, |bytes| {
        fs::write(root.path().join("batch.bin"), bytes).unwrap();
        let mut into = Records::default();
        let answer = read_batch(Place::new("fuzz", &data, &data.join("batch.bin")), 2, &mut into);
        if answer.is_ok() {
            assert_eq!((bytes.len(), into.labels.len()), (2 * RECORD_BYTES, 2));
        }
        said(answer)
    });
}

#[test]
fn matlab_files() {
    let root = folder();
    let data = DataRoot(root.path().to_path_buf());
    fs::create_dir(root.path().join("svhn")).unwrap();
    fs::copy(corpus("mat").join("house-plain"), root.path().join("svhn/test_32x32.mat")).unwrap();
    let words: [&[u8]; 9] = [
        b"IM",
        b"MI",
        &[14, 0, 0, 0],
        &[15, 0, 0, 0],
        &[5, 0, 0, 0, 8, 0, 0, 0],
        &[2, 0, 0, 0],
        &[9, 0, 0, 0],
        &[1, 0, 1, 0, b'X', 0, 0, 0],
        b"y",
    ];
    fuzz!("mat", &words, 0.3, |bytes| {
        fs::write(root.path().join("svhn/train_32x32.mat"), bytes).unwrap();
        let arrays = read_mat(Place::new("fuzz", &data, &data.join("svhn/train_32x32.mat")), &["X", "y"]);
        for array in arrays.iter().flatten() {
            assert_eq!(array.len(), array.dims.iter().product::<usize>());
        }
        said(arrays) + &said(SvhnConfig::default().load(&data))
    });
}

/// Archives of pictures, and through them the pictures.
#[test]
fn picture_archives() {
    let root = folder();
    let data = DataRoot(root.path().to_path_buf());
    fs::create_dir(root.path().join("omniglot")).unwrap();
    let sound = fs::read(corpus("zip").join("pictures")).unwrap();
    fs::write(root.path().join("omniglot/images_evaluation.zip"), sound).unwrap();
    fuzz!("zip", &[b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"IHDR", b"IDAT", b"../", b".png"], 0.2, |bytes| {
        fs::write(root.path().join("omniglot/images_background.zip"), bytes).unwrap();
        said(OmniglotConfig::default().load(&data))
    });
    let names = entries(root.path());
    assert_eq!(names, ["omniglot/", "omniglot/images_background.zip", "omniglot/images_evaluation.zip"], "an archive wrote a file");
}

/// A zip archive whose one member `name` is `content`, stored, with the right checksum.
fn archive_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut checksum = Crc::new();
    checksum.update(content);
    let size = (content.len() as u32).to_le_bytes();
    let fields = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &checksum.sum().to_le_bytes(), &size, &size].concat();
    let name_size = (name.len() as u16).to_le_bytes();
    let mut bytes = [b"PK\x03\x04", &fields[..], &name_size, &[0; 2], name.as_bytes(), content].concat();
    let directory = [b"PK\x01\x02\x14\0", &fields[..], &name_size, &[0; 16], name.as_bytes()].concat();
    let places = [directory.len() as u32, bytes.len() as u32].map(u32::to_le_bytes);
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &places.concat()[..], &[0; 2]].concat());
    bytes
}

/// Pictures of an archive that is sound itself.
#[test]
fn pictures() {
    let root = folder();
    let data = DataRoot(root.path().to_path_buf());
    fs::create_dir(root.path().join("omniglot")).unwrap();
    let sound = fs::read(corpus("zip").join("pictures")).unwrap();
    fs::write(root.path().join("omniglot/images_evaluation.zip"), sound).unwrap();
    let mut accepted = 0;
    fuzz!("png", &[b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"IEND"], 0.2, |bytes| {
        fs::write(root.path().join("omniglot/images_background.zip"), archive_of("images_background/Greek/c1/1.png", bytes)).unwrap();
        let loaded = OmniglotConfig::default().load(&data);
        accepted += usize::from(loaded.is_ok());
        said(loaded)
    });
    assert!(accepted > 0, "no picture was accepted, so the archive around them is wrong");
}

#[test]
fn npy_files() {
    let root = folder();
    let path = root.path().join("array.npy");
    let words: [&[u8]; 10] =
        [b"'descr'", b"'<i4'", b"'|u1'", b"'shape': (", b"True", b"(", b")", b"99999999999999999999", b",", b"\x93NUMPY"];
    fuzz!("npy", &words, 0.35, |bytes| {
        fs::write(&path, bytes).unwrap();
        let mut array = match Array::open(&path) {
            Ok(array) => array,
            Err(error) => return error.to_string(),
        };
        let shape = array.shape.clone();
        let first = said(array.expect_bytes(&[2, 1])) + &said(array.next_bytes(3));
        let labels = Array::open(&path).unwrap().labels(10);
        if let Ok(labels) = &labels {
            assert_eq!(labels.len(), shape[0]);
        }
        first + &said(labels)
    });
}

#[test]
fn tensor_files() {
    let words: [&[u8]; 8] = [b"\"dtype\"", b"\"F32\"", b"\"I64\"", b"[0,", b"18446744073709551615", b"\"data_offsets\"", b"{", b"}"];
    fuzz!("tensors", &words, 2.5, |bytes| {
        let read = tensors::from_bytes(bytes);
        if let Ok(read) = &read {
            // What was accepted is consistent: it can be written again, and says the same.
            assert_eq!(format!("{:?}", tensors::from_bytes(&tensors::to_bytes(read).unwrap()).unwrap()), format!("{read:?}"));
        }
        said(read)
    });
}

#[test]
fn manifests() {
    let root = folder();
    let names: [&[u8]; 7] = [b"\"files\"", b"\"blake3\"", b"../", b"{", b"}", b"18446744073709551616", b"\"self_hash\""];
    fuzz!("manifest", &names, 0.5, |bytes| {
        fs::write(root.path().join(MANIFEST_FILE), bytes).unwrap();
        said(verify(root.path())) + &said(FileList::read(root.path(), "run"))
    });
    // The same with a valid hash, so that the readers behind it are reached.
    fuzz!("manifest", &names, 0.5, |bytes| {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(bytes) else { return "no object".to_owned() };
        fields.insert("self_hash".into(), "".into());
        let hash = ibhost_framework::storage::FileHash::of(&serde_json::to_vec_pretty(&fields).unwrap()).blake3;
        fields.insert("self_hash".into(), hash.into());
        fs::write(root.path().join(MANIFEST_FILE), serde_json::to_vec_pretty(&fields).unwrap()).unwrap();
        said(Manifest::read(root.path())) + &said(FileList::read(root.path(), "run").map(|list| list.check(root.path())))
    });
}

#[test]
fn metric_logs() {
    let root = folder();
    let path = root.path().join("metrics.jsonl");
    fuzz!("metrics", &[b"\n", b"null", b"\"split\":\"test\"", b"1e999", b"{", b"-0.0"], 0.35, |bytes| {
        fs::write(&path, bytes).unwrap();
        said(MetricsLog::read(&path)) + &said(MetricsLog::check(&path, bytes.len() as u64 / 2, "x"))
    });
}

#[test]
fn event_files() {
    fuzz!("events", &[b"brain.Event:2"], 1.3, |bytes| match records(bytes) {
        Ok(found) => {
            assert!(found.torn <= bytes.len());
            format!("{} torn", if found.torn > 0 { "is" } else { "not" })
        }
        Err(bad) => {
            assert!(bad.offset < bytes.len());
            bad.to_string()
        }
    });
}

/// `bytes` with the place in the metrics log that `original` states, without which nothing behind that check is reached.
fn with_the_log_of(bytes: &[u8], original: &[u8]) -> Vec<u8> {
    let (Ok(Value::Object(mut fields)), Ok(original)) = (serde_json::from_slice(bytes), serde_json::from_slice::<Value>(original)) else {
        return bytes.to_vec();
    };
    for key in ["metrics_bytes", "metrics_digest"] {
        fields.insert(key.to_owned(), original[key].clone());
    }
    serde_json::to_vec(&fields).unwrap()
}

/// A checkpoint whose hashes are right but whose content is not: what a faulty writer would leave, which no hash protects from.
#[test]
fn checkpoints_with_right_hashes_and_wrong_content() {
    let root = folder();
    let host = CommandLine::new(env!("CARGO_BIN_EXE_ibhost-under-test"), root.path());
    let (_, run) =
        host.train(&["--objective", "vdb", "--encoder", "mlp/e1:4|e2:4|z:2", "--limit-train", "20", "--steps", "6", "--average", "0.9"]);
    let run = RunDir::open(&run).unwrap();
    let entry = run.checkpoints().newest_sound(Label::Last).unwrap().unwrap();
    let sound = Manifest::read(&entry.path).unwrap();
    let originals: Vec<(String, Vec<u8>)> =
        sound.files.keys().map(|name| (name.clone(), fs::read(entry.path.join(name)).unwrap())).collect();
    let config = RunConfig::from_json(run.read_config().unwrap()).unwrap();
    let data = DataRoot("absent".into());
    let words: [&[u8]; 10] =
        [b"null", b"-1", b"18446744073709551615", b"[]", b"{}", b"\"step\"", b"\"sums\"", b"\"loss\"", b"\"optimiser_steps\"", b"0.main"];
    let mut turn = 0;
    let mut accepted = 0;
    fuzz!("state", &words, 0.02, |bytes| {
        turn += 1;
        let mut manifest = Manifest::new(run.run_id(), "last", entry.step);
        // By turns the state and each of the tensor files is the mutated one.
        let target = turn % originals.len();
        for (index, (name, original)) in originals.iter().enumerate() {
            let mutated: Vec<u8> = match (index == target, name.as_str()) {
                (false, _) => original.clone(),
                (true, "state.json") => with_the_log_of(bytes, original),
                // Positions beyond the header of eight bytes, taken from the input.
                (true, _) => {
                    let mut changed = original.clone();
                    for pair in bytes.chunks_exact(2).take(3) {
                        let at = 8 + (usize::from(pair[0]) * 256 + usize::from(pair[1])) % (changed.len() - 8);
                        changed[at] = pair[0];
                    }
                    changed
                }
            };
            manifest.add(name, &mutated);
            fs::write(entry.path.join(name), mutated).unwrap();
        }
        fs::write(entry.path.join(MANIFEST_FILE), manifest.to_bytes().unwrap()).unwrap();
        let loaded = CheckpointStore::load_path(&entry.path);
        if let Err(error) = loaded {
            return error.to_string();
        }
        let (session, state) = Session::open(config.clone(), &data).unwrap();
        let answer = restore_last(&session, state, &run, false);
        accepted += usize::from(answer.is_ok());
        said(answer.map(|_| ()))
    });
    println!("{accepted} of {turn} were accepted: numbers a model could have");
}
