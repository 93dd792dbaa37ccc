//! Requests that cannot be carried out: each ends with exit code 2, a message that names the thing and the way out, and no trace on the disk.

use std::fs;
use std::path::Path;

use ibhost_tests::cli::{CommandLine, SMALL, entries};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// Runs `arguments` in an empty folder and checks that they are refused with all of `words` and leave nothing behind.
fn refused(arguments: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    CommandLine::new(HOST, folder.path()).run(arguments).refused(2, words);
    assert_eq!(entries(folder.path()), [""; 0], "{arguments:?} leaves something behind");
}

/// As [`refused`], for a run of `vdb` on `mlp` with `more` flags.
fn run_refused(more: &[&str], words: &[&str]) {
    refused(&[&["run", "--objective", "vdb", "--encoder", "mlp"], more].concat(), words);
}

/// As [`refused`], for a run whose configuration file holds `text`.
fn config_refused(text: &[u8], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.yml"), text).unwrap();
    CommandLine::new(HOST, folder.path()).run(&["run", "--config", "mine.yml"]).refused(2, words);
    assert_eq!(entries(folder.path()), ["mine.yml"]);
}

#[test]
fn unknown_components_come_with_the_nearest_names_or_the_choices() {
    refused(&["run", "--objective", "vdp", "--encoder", "mlp"], &["unknown objective `vdp`", "`vdb`"]);
    refused(&["run", "--objective", "vdb", "--encoder", "mlq"], &["unknown encoder `mlq`", "did you mean `mlp`"]);
    refused(
        &["run", "--objective", "nonsense", "--encoder", "mlp"],
        &["unknown objective `nonsense`", "the objectives are classifier, disenib, hit, hvae, lagrangian, mim, vdb, vib"],
    );
    run_refused(&["--dataset", "minst"], &["`minst`", "did you mean `mnist`"]);
    run_refused(&["--decoder", "liner"], &["`liner`", "`linear`"]);
    run_refused(&["--strategy", "algo3"], &["`algo3`", "algo"]);
    run_refused(&["--optimiser", "adm"], &["`adm`", "`adam`"]);
    run_refused(&["--schedule", "cosin"], &["`cosin`", "`cosine`"]);
    run_refused(&["--preset", "vib-2018"], &["unknown preset `vib-2018`", "vib-2017"]);
    refused(&["describe", "residual_mpl"], &["`residual_mpl`", "residual_mlp"]);
    refused(&["list", "--kind", "objektive"], &["objektive", "`objective`"]);
    refused(&["data", "fetch", "minst"], &["`minst`", "`mnist`"]);
    refused(&["data", "verify", "minst"], &["`minst`", "`mnist`"]);
}

#[test]
fn a_component_in_the_wrong_place_is_told_what_it_is() {
    refused(&["run", "--objective", "vdb", "--encoder", "vib"], &["`vib` is an objective, not an encoder", "resnet20"]);
    refused(&["run", "--objective", "mlp", "--encoder", "mlp"], &["`mlp` is an encoder, not an objective"]);
    run_refused(&["--dataset", "adam"], &["`adam` is an optimiser, not a data"]);
    run_refused(&["--strategy", "curves"], &["`curves` is an analysis, not a strategy"]);
}

#[test]
fn wrong_parameters_are_marked_in_the_text() {
    let cases: [(&str, &[&str]); 17] = [
        ("mlp/zz:2", &["encoder:1:5", "no parameter `zz`", "did you mean `z`"]),
        ("mlp/e1:64|zz:2", &["encoder:1:11", "`zz`"]),
        ("mlp/z:two", &["encoder:1:7", "whole number", "`two`", "default 256"]),
        ("mlp/z:2.5", &["whole number", "`2.5`"]),
        ("mlp/z:0", &["`z` must be at least 1, got 0"]),
        ("mlp/z:-3", &["`z` must be at least 1", "-3"]),
        ("mlp/z:99999999999999999999999999", &["`z` must be at most 4096"]),
        ("mlp/cov:ful", &["`cov`", "`ful`", "did you mean `full`"]),
        ("mlp/z=2", &["joined by `:`, not `=`", "write `z:2`"]),
        ("mlp/z", &["`:` is missing", "write `z:value`"]),
        ("mlp/z:", &["`z`", "value"]),
        ("mlp/z:2|z:3", &["`z`"]),
        ("mlp/e1:3||z:2", &["a parameter is missing here", "extra separator"]),
        ("mlp/", &["no parameter follows `/`"]),
        ("", &["the component string is empty", "name/key:value"]),
        ("mlp/z:２", &["`２` is not an ASCII character"]),
        ("mlpé", &["`é` is not an ASCII character", "encoder:1:4"]),
    ];
    for (encoder, words) in cases {
        refused(&["run", "--objective", "vdb", "--encoder", encoder], words);
    }
    let objective = |text: &str, words: &[&str]| refused(&["run", "--objective", text, "--encoder", "mlp"], words);
    objective("vdb/beta:-1", &["`beta`", "-1"]);
    objective("vdb/beta:nan", &["`beta`"]);
    objective("vdb/beta:1e999", &["`beta`"]);
    objective("vdb/m:0", &["`m` must be at least 1"]);
    objective("/beta:1", &["objective"]);
    objective("vdb beta:1", &["vdb beta:1"]);
}

#[test]
fn odd_texts_never_panic() {
    let texts =
        ["|", ":", "/", "//", "mlp//", "mlp/|", "mlp/:", "mlp/::", "mlp/z:[", "mlp/z:]", "mlp/z:[1;2]", "mlp/z:1;2", " ", "\t", "\n"];
    let more = [
        "mlp/z:\u{0301}",
        "\u{202e}mlp",
        "mlp\u{feff}",
        "𝕞lp",
        "mlp/z:1\n2",
        "--",
        "mlp/z:1e",
        "mlp/z:0x2",
        "mlp\\z",
        "'mlp'",
        "\"",
        "%s%n",
        "~",
    ];
    for text in texts.into_iter().chain(more) {
        let folder = tempfile::tempdir().unwrap();
        let argument = format!("--encoder={text}");
        CommandLine::new(HOST, folder.path()).run(&["run", "--objective", "vdb", &argument]).refused(2, &[]);
        assert!(entries(folder.path()).is_empty(), "{text:?}");
    }
}

#[test]
fn enormous_texts_are_refused_by_length() {
    let long = "x".repeat(100_000);
    refused(&["run", "--objective", "vdb", "--encoder", &long], &["at most 4096 bytes", "100000"]);
    run_refused(&["--preset", &long], &["unknown preset `xxxx"]);
    run_refused(&["--set", &format!("{long}=1")], &["unknown setting `xxxx"]);
    run_refused(&["--set", &format!("objective.beta={long}")], &["beta"]);
    run_refused(&["--watch", &long], &["`watch`"]);
    run_refused(&["--device", &long], &["unknown device"]);
    run_refused(&["--checkpoint-every", &long], &["checkpoint"]);
    run_refused(&["--average", &long], &["--average"]);
    refused(&["describe", &long], &["xxxx"]);
    let text = format!("objective: vdb\nencoder: \"mlp/z:{}\"\n", "2".repeat(10 << 20));
    config_refused(text.as_bytes(), &["encoder", "at most 4096 bytes"]);
    let text = format!("objective: vdb\nencoder: {{name: mlp, z: \"{}\"}}\n", "2".repeat(10 << 20));
    config_refused(text.as_bytes(), &["encoder", "`z`"]);
    let text = format!("objective: vdb\nencoder: mlp\n{}: 1\n", "k".repeat(10 << 20));
    config_refused(text.as_bytes(), &["mine.yml"]);
    let text = format!("objective: vdb\nencoder: mlp\nlr: \"{}\"\n", "1".repeat(10 << 20));
    config_refused(text.as_bytes(), &["mine.yml"]);
}

#[test]
fn what_is_not_said_is_asked_for() {
    refused(&["run", "--objective", "vdb"], &["no encoder is given", "--encoder NAME", "ibhost list --kind encoder"]);
    refused(&["run", "--encoder", "mlp"], &["no objective is given", "--objective NAME"]);
    refused(&["analyze", "runs/x"], &["--analysis"]);
    refused(&["run", "--objective"], &["--objective"]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    for value in ["0", "-1", "nan", "inf", "abc", ""] {
        run_refused(&[&format!("--lr={value}")], &["lr"]);
    }
    for flag in ["--lr", "--average"] {
        for value in ["inf", "-inf", "nan"] {
            run_refused(&[&format!("{flag}={value}")], &[flag, "finite number"]);
        }
    }
    run_refused(&["--lr", "1e-320"], &["`lr`", "at least 1.1754944e-38", "1e-320"]);
    run_refused(&["--lr", "1e39"], &["`lr`", "at most 3.4028235e38"]);
    run_refused(&["--set", "lr=inf"], &["`lr`", "must be finite"]);
    run_refused(&["--set", "objective.beta=1e-320"], &["`beta` must be 0 or at least"]);
    run_refused(&["--batch-size", "0"], &["batch_size", "at least 1"]);
    run_refused(&["--batch-size=-4"], &["--batch-size"]);
    run_refused(&["--epochs", "0"], &["epochs", "at least 1"]);
    run_refused(&["--steps", "0"], &["steps", "at least 1"]);
    run_refused(&["--steps", "3", "--epochs", "2"], &["--steps", "--epochs"]);
    run_refused(&["--evaluate-every", "0"], &["evaluate_every", "at least 1"]);
    run_refused(&["--limit-train", "0"], &["limit_train", "at least 1"]);
    run_refused(&["--patience", "0"], &["patience", "at least 1"]);
    run_refused(&["--seed=-1"], &["--seed"]);
    run_refused(&["--average", "1"], &["`average`", "[0, 1)"]);
    run_refused(&["--average", "much"], &["--average", "`much`", "none"]);
    run_refused(&["--checkpoint-every", "3h"], &["`3h`", "500steps, 2epochs or 10min"]);
    run_refused(&["--threads", "0"], &["--threads", "at least 1"]);
    run_refused(&["--threads", "many"], &["--threads", "many"]);
    run_refused(&["--watch", "accuracy"], &["`watch`", "<split>.<metric>"]);
    run_refused(&["--watch", "test.beauty"], &["test.beauty", "accuracy"]);
    run_refused(&["--watch", "test_average.loss"], &["`average`"]);
    run_refused(&["--format", "yaml"], &["--format", "yaml", "json"]);
    run_refused(&["--strategy", "algo1", "--schedule", "cosine"], &["by_epoch", "cosine", "--schedule constant"]);
}

#[test]
fn settings_are_refused_by_name() {
    run_refused(&["--set", "beta"], &["--set beta", "there is no `=`", "objective.beta=0.01"]);
    run_refused(&["--set", "=3"], &["unknown setting"]);
    run_refused(&["--set", "batchsize=3"], &["unknown setting `batchsize`", "`batch_size`"]);
    run_refused(&["--set", "lr=abc"], &["`lr`", "abc"]);
    run_refused(&["--set", "epochs=1.5"], &["`epochs`", "1.5"]);
    run_refused(&["--set", "objective.gamma=3"], &["no parameter `gamma`"]);
    run_refused(&["--set", "objective.beta=high"], &["`beta`", "high"]);
    run_refused(&["--set", "nonsense.beta=3"], &["`nonsense.beta`", "objective, encoder"]);
    run_refused(&["--set", "early_stopping.patient=3"], &["early_stopping", "patient"]);
    run_refused(&["--set", "early_stopping.min_delta=3"], &["early_stopping", "patience"]);
    refused(&["run", "--set", "objective.beta=3"], &["`objective.beta`", "no objective is named"]);
    run_refused(&["--frobnicate"], &["--frobnicate"]);
    refused(&["frobnicate"], &["frobnicate"]);
}

#[test]
fn configuration_files_are_refused_by_name_and_place() {
    refused(&["run", "--config", "absent.yml"], &["`absent.yml`", "check the spelling"]);
    refused(&["run", "--config", "."], &["`.`", "regular file"]);
    config_refused(b"objective: vdb\nencoder: [", &["mine.yml", "line 2", "bracket"]);
    config_refused(b"- 3\n", &["mine.yml", "line 1", "expected a map"]);
    config_refused(b"\xff\xfe", &["mine.yml", "UTF-8"]);
    config_refused(b"", &["no objective is given"]);
    config_refused(b"objective: vdb\nobjective: vib\nencoder: mlp\n", &["mine.yml", "objective"]);
    config_refused(b"objective: vdb\nencoder: mlp\nepoch: 3\n", &["mine.yml", "unknown setting `epoch`", "`epochs`"]);
    config_refused(b"objective: vdb\nencoder: mlp\nlr: fast\n", &["`mine.yml`, line 3", "`lr`", "the text \"fast\"", "expected a number"]);
    config_refused(b"objective: vdb\nencoder: mlp\nseed: 007\n", &["line 3", "`seed`", "expected a whole number", "write 7"]);
    config_refused(b"objective: vdb\nencoder: mlp\ndrop_last: y\n", &["line 3", "`drop_last`", "the text \"y\"", "write `true`"]);
    config_refused(b"objective: vdb\nencoder: mlp\naverage: .nan\n", &["line 3", "`average`", "expected a number", "must be finite"]);
    config_refused(b"objective: vdb\nencoder: 3\n", &["encoder", "name/key:value"]);
    config_refused(b"objective: vdb\nencoder: {name: mlp, z: two}\n", &["`z`", "whole number"]);
    config_refused(b"objective: vdb\nencoder: {name: mlp, width: 2}\n", &["no parameter `width`"]);
    config_refused(b"objective: vdb\nencoder: {z: 2}\n", &["mine.yml", "no encoder is named"]);
    config_refused(b"objective: vdb\nencoder: {z: 2, z: 3}\n", &["mine.yml"]);
    config_refused(b"objective: vdb\nencoder: mlp\nearly_stopping: 3\n", &["early_stopping"]);
    config_refused(b"a: &a [*a]\n", &["mine.yml"]);
}

#[test]
fn devices_that_are_not_there_say_how_to_get_them() {
    run_refused(&["--device", "cuba"], &["unknown device `cuba`", "cuda"]);
    run_refused(&["--device", ""], &["unknown device"]);
    run_refused(&["--device", "flex:1"], &["flex", "one CPU"]);
    for device in ["cuda", "cuda:1", "rocm", "metal", "tch:mps"] {
        let family = device.split(':').next().unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        let host = CommandLine::new(HOST, folder.path());
        let devices = host.run(&["devices", "--format", "json"]).expect(0).stdout;
        let devices: serde_json::Value = serde_json::from_str(&devices).unwrap();
        let built = devices["devices"].as_array().unwrap().iter().any(|d| d["name"] == family && d["built"] == true);
        if !built {
            run_refused(&["--device", device], &[&format!("`{family}` is not in this build"), &format!("--features {family}")]);
        }
    }
}

#[test]
fn views_that_ask_for_too_much_are_refused() {
    run_refused(&["--dataset", "digits/first:99999"], &["digits", "first:99999", "1437"]);
    run_refused(&["--dataset", "digits/holdout:1437"], &["holdout:1437", "1436"]);
    run_refused(&["--dataset", "digits/folds:3,fold:3"], &["fold:3 does not exist"]);
    run_refused(&["--dataset", "digits/fold:3"], &["fold:3", "folds"]);
    run_refused(&["--dataset", "digits/folds:3|holdout:5"], &["holdout and folds"]);
}

#[test]
fn folders_that_are_no_runs_are_refused() {
    let commands: [&[&str]; 3] = [&["resume"], &["verify"], &["analyze", "--analysis", "curves"]];
    for command in commands {
        refused(&[command, &["absent"]].concat(), &["`absent`", "hint:"]);
        refused(&[command, &["."]].concat(), &["`.`", "not the folder of a run", "hint:"]);
    }
}

#[test]
fn analyses_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (_, run) = host.train(&["--objective", "vdb", "--encoder", SMALL, "--epochs", "1"]);
    let run = run.to_str().unwrap();
    let before = entries(folder.path());
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--analysis", "curve"], &["unknown analysis `curve`", "`curves`"]),
        (&["--analysis", "mlp"], &["`mlp` is an encoder, not an analysis"]),
        (&["--analysis", "salt_pepper/p:[2]"], &["`p`"]),
        (&["--analysis", "latent_plot"], &["latent_plot", "8"]),
        (&["--analysis", "mnistc"], &["mnistc", "`mnist`", "`digits`"]),
        (&["--analysis", "cifar10c"], &["cifar10c", "`cifar10`", "`digits`"]),
        (&["--analysis", "curves", "--checkpoint", "first"], &["--checkpoint", "`first`", "`last` or `best`"]),
        (&["--analysis", "curves", "--seed", "x"], &["--seed"]),
    ];
    for (arguments, words) in cases {
        host.run(&[&["analyze", run], arguments].concat()).refused(2, words);
    }
    // A good analysis before a bad one is not started either.
    host.run(&["analyze", run, "--analysis", "salt_pepper", "--analysis", "curve"]).refused(2, &["curve"]);
    assert_eq!(entries(folder.path()), before);
}

#[test]
fn missing_data_names_the_command_that_fetches_it() {
    for name in ["mnist", "fashion_mnist", "cifar10"] {
        let command = format!("`ibhost data fetch {name}");
        run_refused(&["--dataset", name], &[name, "is missing", &command]);
        run_refused(&["--dataset", name, "--data-dir", "no/such/folder"], &["no/such/folder", &command]);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), b"a file").unwrap();
    let arguments = ["run", "--objective", "vdb", "--encoder", "mlp", "--dataset", "mnist", "--data-dir", "data"];
    CommandLine::new(HOST, folder.path()).run(&arguments).refused(2, &["mnist"]);
}

#[test]
fn an_output_folder_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("taken"), b"a file").unwrap();
    let arguments = ["run", "--objective", "vdb", "--encoder", SMALL, "--epochs", "1", "--output-dir", "taken"];
    CommandLine::new(HOST, folder.path()).run(&arguments).refused(1, &["taken"]);
    assert_eq!(entries(folder.path()), ["taken"]);
}

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

/// Sound files in MNIST's format: `count` images and labels.
fn pair(count: u32) -> [Vec<u8>; 2] {
    let pixels = (0..count * 784).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    [idx(&[count, 28, 28], pixels), idx(&[count], (0..count).map(|i| (i % 10) as u8))]
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte.gz";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte.gz";

/// A folder with a small sound data set in MNIST's format, the test half compressed.
fn small_mnist(folder: &Path) {
    let folder = folder.join("data/mnist");
    fs::create_dir_all(&folder).unwrap();
    let ([train, train_labels], [test, test_labels]) = (pair(40), pair(20));
    for (name, bytes) in
        [(TRAIN_IMAGES, train), (TRAIN_LABELS, train_labels), (TEST_IMAGES, gzip(&test)), (TEST_LABELS, gzip(&test_labels))]
    {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

const MNIST_RUN: [&str; 11] =
    ["run", "--objective", "vdb", "--encoder", SMALL, "--dataset", "mnist", "--data-dir", "data", "--epochs", "1"];

/// Applies `damage` to one file of a sound data set and checks that the file and the problem are named.
fn damaged(file: &str, damage: impl Fn(Vec<u8>) -> Vec<u8>, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    small_mnist(folder.path());
    let path = folder.path().join("data/mnist").join(file);
    fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
    let ended = CommandLine::new(HOST, folder.path()).run(&MNIST_RUN);
    let stem = file.trim_end_matches(".gz");
    ended.refused(2, &[&[stem], words].concat());
    assert!(!folder.path().join("runs").exists(), "{file}");
}

#[test]
fn damaged_mnist_files_are_named_with_offset_and_expectation() {
    let folder = tempfile::tempdir().unwrap();
    small_mnist(folder.path());
    CommandLine::new(HOST, folder.path()).run(&MNIST_RUN).expect(0);

    let again = "ibhost data fetch mnist";
    let cut = |keep: usize| move |bytes: Vec<u8>| bytes[..keep].to_vec();
    damaged(TEST_IMAGES, |bytes| bytes[..bytes.len() / 2].to_vec(), &["at byte", "a complete gzip stream", again]);
    damaged(TEST_IMAGES, |bytes| bytes[..bytes.len() - 2].to_vec(), &["at byte", "a complete gzip stream", again]);
    damaged(
        TEST_IMAGES,
        |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
            bytes
        },
        &["at byte", again],
    );
    damaged(TEST_LABELS, |_| gzip(&idx(&[20], [3; 19])), &["at byte 27", "20 bytes of data", "after 19", again]);
    damaged(TRAIN_IMAGES, cut(0), &["at byte 0", "a header of 16 bytes", again]);
    damaged(TRAIN_IMAGES, cut(7), &["at byte 7", "a header of 16 bytes", again]);
    damaged(TRAIN_IMAGES, cut(1000), &["at byte 1000", "end of the file after 984", again]);
    damaged(TRAIN_IMAGES, |bytes| [&bytes[..], b"x"].concat(), &["at byte 31376", "found more bytes", again]);
    damaged(TRAIN_IMAGES, |_| pair(40)[1].clone(), &["at byte 0", "magic number 0x00000803", "0x00000801", again]);
    damaged(TRAIN_IMAGES, |_| idx(&[40, 27, 28], vec![0; 40 * 27 * 28]), &["at byte 8", "size 28", "found 27", again]);
    damaged(TRAIN_IMAGES, |_| idx(&[u32::MAX, 28, 28], [0; 784]), &["at byte 4", "product", again]);
    damaged(TRAIN_LABELS, |_| idx(&[39], [1; 39]), &["40 labels", "39 labels", again]);
    damaged(TRAIN_LABELS, |_| idx(&[40], [10; 40]), &["at byte 8", "a label from 0 to 9", "found 10", again]);
}

#[test]
fn an_empty_split_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    small_mnist(folder.path());
    let [images, labels] = pair(0);
    fs::write(folder.path().join("data/mnist").join(TEST_IMAGES), gzip(&images)).unwrap();
    fs::write(folder.path().join("data/mnist").join(TEST_LABELS), gzip(&labels)).unwrap();
    CommandLine::new(HOST, folder.path()).run(&MNIST_RUN).refused(2, &["mnist", "t10k-images", "holds no image"]);
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn damaged_cifar_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data/cifar-10-batches-bin");
    fs::create_dir_all(&data).unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = ["run", "--objective", "vdb", "--encoder", "resnet20", "--dataset", "cifar10", "--data-dir", "data"];
    for length in [0, 3073, 30_730_001] {
        // A sparse file costs no disk.
        fs::File::create(data.join("data_batch_2.bin")).unwrap().set_len(length).unwrap();
        host.run(&run).refused(2, &["data_batch_2.bin", "30730000 bytes", &format!("found {length} bytes"), "ibhost data fetch cifar10"]);
    }
    fs::File::create(data.join("data_batch_2.bin")).unwrap().set_len(30_730_000).unwrap();
    host.run(&run).refused(2, &["test_batch.bin", "is missing", "ibhost data fetch cifar10"]);
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_corrupted_copy_of_the_test_set_must_be_there_to_be_analysed() {
    let folder = tempfile::tempdir().unwrap();
    small_mnist(folder.path());
    let host = CommandLine::new(HOST, folder.path());
    let (_, run) = host.train(&MNIST_RUN[1..]);
    let arguments = ["analyze", run.to_str().unwrap(), "--data-dir", "data", "--analysis", "mnistc"];
    host.run(&arguments).refused(2, &["mnist_c"]);
}
