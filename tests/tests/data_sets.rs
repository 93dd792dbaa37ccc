//! Data folders as users have them: what is verified is what is read, other layouts are read or named, hints can be followed.

use std::fs;
use std::path::Path;

use ibhost_framework::storage::run_dir::read_yaml;
use ibhost_tests::cli::{CommandLine, SMALL};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

const FILES: [&str; 4] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// An IDX file of unsigned bytes.
fn idx(dims: &[u32], values: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let head = [0, 0, 8, dims.len() as u8].into_iter().chain(dims.iter().flat_map(|d| d.to_be_bytes()));
    head.chain(values).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Four sound files in MNIST's format, with images that depend on `salt`.
fn contents(salt: u32) -> [Vec<u8>; 4] {
    let images = |n: u32| idx(&[n, 28, 28], (0..n * 784).map(|i| ((i + salt).wrapping_mul(2_654_435_761) >> 24) as u8));
    let labels = |n: u32| idx(&[n], (0..n).map(|i| (i % 10) as u8));
    [images(40), labels(40), images(20), labels(20)]
}

fn put(folder: &Path, path: &str, bytes: &[u8]) {
    let target = folder.join(path);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::write(target, bytes).unwrap();
}

/// The files of [`contents`] under the names that `path` makes of the usual ones.
fn mnist(folder: &Path, path: impl Fn(&str) -> String) {
    for (name, bytes) in FILES.into_iter().zip(contents(0)) {
        put(folder, &path(name), &bytes);
    }
}

const RUN: [&str; 11] = ["run", "--objective", "vdb", "--encoder", SMALL, "--data-dir", "data", "--steps", "1", "--dataset", "mnist"];

#[test]
fn two_forms_that_differ_are_named_by_run_verify_list_and_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    mnist(folder.path(), |name| format!("data/mnist/{name}"));
    put(folder.path(), "data/mnist/train-images-idx3-ubyte.gz", &gzip(&contents(0)[0]));
    host.run(&RUN).expect(0);
    put(folder.path(), "data/mnist/train-images-idx3-ubyte.gz", &gzip(&contents(1)[0]));
    let both = ["data/mnist/train-images-idx3-ubyte`", "data/mnist/train-images-idx3-ubyte.gz`", "differ"];
    host.run(&RUN).refused(2, &both);
    host.run(&["data", "fetch", "mnist", "--data-dir", "data"]).refused(1, &both);
    let verified = host.run(&["data", "verify", "mnist", "--data-dir", "data"]).expect(1).stdout;
    let listed = host.run(&["data", "list", "--data-dir", "data"]).expect(0).stdout;
    for word in both {
        assert!(verified.contains(word) && listed.contains(word), "{word}: {verified}\n{listed}");
    }
    // A subset is readable, but it is not the published file.
    fs::remove_file(folder.path().join("data/mnist/train-images-idx3-ubyte.gz")).unwrap();
    let verified = host.run(&["data", "verify", "mnist", "--data-dir", "data"]).expect(1).stdout;
    assert!(verified.contains("not the published file") && !verified.contains(" ok"), "{verified}");
}

#[test]
fn layouts_of_other_programs_are_read_or_named() {
    type Layout = (&'static str, fn(&str) -> String);
    let layouts: [Layout; 3] = [
        ("torchvision", |name| format!("data/MNIST/raw/{name}")),
        ("dots", |name| format!("data/mnist/{}", name.replace("-idx", ".idx"))),
        ("folders", |name| format!("data/mnist/{name}/{name}")),
    ];
    for (layout, path) in layouts {
        let folder = tempfile::tempdir().unwrap();
        mnist(folder.path(), path);
        let ended = CommandLine::new(HOST, folder.path()).run(&RUN);
        assert_eq!(ended.code, Some(0), "{layout}: {}", ended.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    mnist(folder.path(), |name| format!("data/KMNIST/raw/{name}"));
    let expected = "data/mnist/train-images-idx3-ubyte.gz` is missing";
    host.run(&RUN)
        .refused(2, &[expected, "`KMNIST/raw/train-images-idx3-ubyte` lies where it is not looked for", "ibhost data fetch mnist"]);
    let cifar: Vec<&str> = RUN[..10].iter().copied().chain(["cifar10"]).collect();
    for (file, words) in [("cifar-10-binary.tar.gz", "tar -xzf"), ("cifar-10-batches-py/data_batch_1", "the Python version")] {
        put(folder.path(), &format!("data/{file}"), b"x");
        host.run(&cifar).refused(2, &["data_batch_1.bin` is missing", file.split('/').next().unwrap(), words, "ibhost data fetch cifar10"]);
    }
}

#[test]
fn hints_name_the_data_folder_and_stubs_are_never_ok() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    mnist(folder.path(), |name| format!("data/mnist/{name}"));
    fs::remove_file(folder.path().join("data/mnist").join(FILES[0])).unwrap();
    let page = b"<!DOCTYPE html><html><head><title>Access denied</title></head></html>";
    put(folder.path(), "data/mnist/train-images-idx3-ubyte.gz", page);
    host.run(&RUN).refused(2, &["at byte 0", "the text `<!DOCTYPE html>", "ibhost data fetch mnist --data-dir data`"]);
    for (name, file) in [
        ("mnist", "mnist/train-images-idx3-ubyte.gz"),
        ("omniglot", "omniglot/images_background.zip"),
        ("omniglot_chardata", "omniglot/chardata.mat"),
        ("shapes", "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"),
        ("sprites", "sprites/instance[0]-bow.png"),
        ("svhn", "svhn/train_32x32.mat"),
        ("cifar10", "cifar-10-batches-bin/data_batch_1.bin"),
    ] {
        put(folder.path(), &format!("data/{file}"), page);
        let verified = host.run(&["data", "verify", name, "--data-dir", "data"]).expect(1).stdout;
        let line = verified.lines().find(|line| line.contains(file)).unwrap_or_default();
        assert!(line.contains("not the published file"), "{name}: {verified}");
        let mut run = RUN;
        run[10] = name;
        let ended = host.run(&run);
        let hint = format!("ibhost data fetch {name} --data-dir data`");
        assert!(ended.code != Some(0) && ended.stderr.contains(&hint), "{name}: {}", ended.stderr);
    }
}

#[test]
fn a_run_records_where_its_shapes_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let data = "shapes/orientation:[3]|x:[0;16]|y:[0;16]";
    let (_, run) = host.train(&["--objective", "vdb", "--encoder", SMALL, "--data-dir", "data", "--steps", "1", "--dataset", data]);
    let config: Value = read_yaml(&run.join("config.yml")).unwrap();
    assert_eq!(config["dataset"]["source"], "drawn", "{config}");
    // The file that appears later is not for this run.
    put(folder.path(), "data/dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", b"stub");
    let again = ["analyze", run.to_str().unwrap(), "--data-dir", "data", "--analysis", "salt_pepper"];
    host.run(&again).expect(0);
}
