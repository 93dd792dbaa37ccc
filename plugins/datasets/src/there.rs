//! What lies in a data folder in place of a missing file, for the error that names it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::{DataFile, DataRoot};

/// Folders below one another that are looked into, and entries in all.
const DEPTH: usize = 3;
const MOST_ENTRIES: usize = 2000;
/// Entries that are named.
const NAMED: usize = 5;

/// Files and folders that hold a data set in a form that is not read, the folder of the data set that is read, and what to do.
const OTHER_FORMS: [(&str, &str, &str); 9] = [
    ("cifar-10-binary.tar.gz", "cifar-10-batches-bin", "the packed archive: unpack it there with `tar -xzf`"),
    ("cifar-10-binary.tar", "cifar-10-batches-bin", "the packed archive: unpack it there with `tar -xf`"),
    ("cifar-10-python.tar.gz", "cifar-10-batches-bin", "the Python version of CIFAR-10, which is not read; the binary version is"),
    ("cifar-10-batches-py", "cifar-10-batches-bin", "the Python version of CIFAR-10, which is not read; the binary version is"),
    ("data_batch_1", "cifar-10-batches-bin", "of the Python version of CIFAR-10, which is not read; the binary version is"),
    ("cifar-10-batches-mat", "cifar-10-batches-bin", "the MATLAB version of CIFAR-10, which is not read; the binary version is"),
    ("cifar-10-matlab.tar.gz", "cifar-10-batches-bin", "the MATLAB version of CIFAR-10, which is not read; the binary version is"),
    ("mnist.npz", "mnist", "Keras' form of MNIST, which is not read; the four IDX files are"),
    ("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5", "dsprites", "the HDF5 form of dSprites, which is not read; the `.npz` is"),
];

/// Lines that say what lies below `root` where `file`, which may have the `names`, was looked for: files of these names in other places,
/// other forms of the data set, or else whatever there is.
pub(crate) fn what_lies(file: &DataFile, root: &DataRoot, names: &[String]) -> String {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut entries = Vec::new();
    walk(&root.0, 0, &mut entries);
    let show = |path: &Path| path.strip_prefix(&root.0).unwrap_or(path).display().to_string().replace(char::is_control, "?");
    let mut text = String::new();
    let named = |path: &&PathBuf| path.file_name().is_some_and(|name| names.iter().any(|known| *known == name.to_string_lossy()));
    for path in entries.iter().filter(named).take(NAMED) {
        let what = if path.is_dir() { "is a folder without it" } else { "lies where it is not looked for" };
        let _ = write!(text, "\n  `{}` {what}", show(path));
    }
    for path in &entries {
        let form = OTHER_FORMS.iter().find(|(name, of, _)| *of == folder && path.file_name().is_some_and(|found| found == *name));
        if let Some((_, _, what)) = form {
            let _ = write!(text, "\n  `{}` is {what}", show(path));
        }
    }
    if !text.is_empty() {
        return text;
    }
    let expected = root.join(folder);
    let (place, listed) = if expected.is_dir() { (expected, "that folder") } else { (root.0.clone(), "the data folder") };
    let mut listing: Vec<PathBuf> =
        fs::read_dir(&place).map(|entries| entries.flatten().take(MOST_ENTRIES).map(|entry| entry.path()).collect()).unwrap_or_default();
    listing.sort();
    if listing.is_empty() {
        return text;
    }
    let shown: Vec<String> = listing.iter().take(NAMED).map(|path| format!("`{}`", show(path))).collect();
    let more = if listing.len() > NAMED { format!(" and {} more", listing.len() - NAMED) } else { String::new() };
    let _ = write!(text, "\n  {listed} holds {}{more}", shown.join(", "));
    text
}

/// Appends what is in `folder`, then what is below.
fn walk(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut here: Vec<PathBuf> = entries.flatten().take(MOST_ENTRIES.saturating_sub(into.len())).map(|entry| entry.path()).collect();
    here.sort();
    into.extend(here.iter().cloned());
    if depth < DEPTH {
        for folder in here.iter().filter(|path| path.is_dir()) {
            if into.len() < MOST_ENTRIES {
                walk(folder, depth + 1, into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(put: &[&str], path: &str, names: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        for file in put {
            let target = root.path().join(file);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, b"x").unwrap();
        }
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let file = DataFile { path: path.to_owned(), ..DataFile::default() };
        what_lies(&file, &DataRoot(root.path().to_owned()), &names)
    }

    #[test]
    fn the_same_name_elsewhere_other_forms_and_strangers_are_named() {
        let images = ["train-images-idx3-ubyte"];
        let text = told(&["KMNIST/raw/train-images-idx3-ubyte", "x"], "mnist/train-images-idx3-ubyte.gz", &images);
        assert!(text.contains("`KMNIST/raw/train-images-idx3-ubyte` lies where it is not looked for"), "{text}");
        let cifar = "cifar-10-batches-bin/data_batch_1.bin";
        for (file, part) in [
            ("cifar-10-binary.tar.gz", "tar -xzf"),
            ("cifar-10-batches-py/data_batch_1", "the Python version"),
            ("downloads/cifar-10-python.tar.gz", "`downloads/cifar-10-python.tar.gz` is the Python version"),
        ] {
            let text = told(&[file], cifar, &["data_batch_1.bin"]);
            assert!(text.contains(part), "{text}");
            assert!(!told(&[file], "mnist/train-images-idx3-ubyte.gz", &images).contains("version"));
        }
        let text = told(&["mnist/a", "mnist/b"], "mnist/train-images-idx3-ubyte.gz", &images);
        assert!(text.contains("that folder holds `mnist/a`, `mnist/b`"), "{text}");
        assert!(told(&["other/a"], "mnist/train-images-idx3-ubyte.gz", &images).contains("the data folder holds `other`"));
        assert_eq!(told(&[], "mnist/train-images-idx3-ubyte.gz", &images), "");
    }
}
