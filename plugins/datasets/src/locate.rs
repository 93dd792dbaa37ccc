//! Which file on the disk stands for a published one. Loading, listing and verifying all ask here, so that they mean the same bytes.
//!
//! The published path comes first. Beside it the same file may lie unpacked, under the name some unpackers give it, in a folder of its own
//! name, or in a folder that another program made. All forms that are there have to hold the same data.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::{DataError, DataFile, DataRoot};

use crate::pictures;
use crate::same::{Difference, first_difference};
use crate::there::what_lies;

/// For each folder of published paths, folders below the data root in which the files of the data set may lie as well; the empty one is the
/// data root itself. Files of MNIST's names are taken from no folder that might be another data set's.
const FOLDERS: [(&str, &[&str]); 7] = [
    ("mnist", &["MNIST/raw", "MNIST", "mnist/raw", "mnist/MNIST/raw"]),
    (
        "fashion-mnist",
        &[
            "FashionMNIST/raw",
            "FashionMNIST",
            "fashion_mnist",
            "fashionmnist",
            "fashion-mnist/raw",
            "fashion-mnist/data/fashion",
            "fashion-mnist/FashionMNIST/raw",
        ],
    ),
    ("cifar-10-batches-bin", &["cifar10/cifar-10-batches-bin", "CIFAR10/cifar-10-batches-bin", "cifar10", "cifar-10", "CIFAR10", ""]),
    ("svhn", &["SVHN", ""]),
    ("omniglot", &["omniglot-py", "omniglot/python", "Omniglot", "OMNIGLOT", ""]),
    ("dsprites", &["dsprites-dataset", "dSprites", "dsprites-dataset-master", "dsprites/dsprites-dataset", ""]),
    ("sprites", &["datasets/sprites", ""]),
];

/// Why no file can be chosen.
#[derive(Debug)]
pub enum Trouble {
    /// Two forms of one file hold different data.
    Differ {
        /// The two files.
        forms: [PathBuf; 2],
        /// First byte of the unpacked contents in which they differ; nothing for pictures.
        offset: Option<u64>,
    },
    /// The file lies in another folder than the rest of its data set.
    Scattered {
        /// The file.
        path: PathBuf,
        /// Folder of the rest.
        home: PathBuf,
    },
    /// Something else than a file lies at the file's place.
    NoFile {
        /// The place.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The disk refused.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Differ { forms: [a, b], offset } => {
                let place = offset.map_or_else(String::new, |at| format!(" from byte {at} on"));
                write!(f, "`{}` and `{}` stand for the same file but differ{place}", a.display(), b.display())
            }
            Self::Scattered { path, home } => {
                write!(f, "`{}` lies in another folder than the rest of its data set, `{}`", path.display(), home.display())
            }
            Self::NoFile { path, what } => write!(f, "`{}` is {what}", path.display()),
            Self::Io { path, source } => write!(f, "cannot read `{}`: {source}", path.display()),
        }
    }
}

impl Trouble {
    /// The same once more, for another file that it keeps from being chosen.
    fn again(&self) -> Self {
        match self {
            Self::Differ { forms, offset } => Self::Differ { forms: forms.clone(), offset: *offset },
            Self::Scattered { path, home } => Self::Scattered { path: path.clone(), home: home.clone() },
            Self::NoFile { path, what } => Self::NoFile { path: path.clone(), what },
            Self::Io { path, source } => Self::Io { path: path.clone(), source: io::Error::new(source.kind(), source.to_string()) },
        }
    }

    /// As the error of loading data set `name`.
    pub(crate) fn of(self, name: &str) -> DataError {
        let hint = match self {
            Self::Io { path, source } => return DataError::Io { action: "read", path, source },
            Self::Differ { .. } => "keep the one that is right and remove the other; `ibhost data verify` tells which is the published one",
            Self::Scattered { .. } => "put all files of the data set into one folder, or remove those that do not belong to it",
            Self::NoFile { .. } => "put the file itself there, or a link to it, or remove what is there",
        };
        DataError::Inconsistent(format!("data set `{name}`: {self}\n  hint: {hint}"))
    }
}

/// Where each of `files`, those of one data set, lies below `root`; nothing where it lies nowhere.
pub fn locate(files: &[DataFile], root: &Path) -> Vec<Result<Option<PathBuf>, Trouble>> {
    let mut chosen = Vec::with_capacity(files.len());
    let folder_of = |file: &DataFile| file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let mut done = 0;
    while done < files.len() {
        // Files of one data set share a folder; a list that does not is looked at in pieces that do.
        let folder = folder_of(&files[done]);
        let together = files[done..].iter().take_while(|file| folder_of(file) == folder).count();
        chosen.extend(in_one_folder(&files[done..done + together], &folder, root));
        done += together;
    }
    chosen
}

/// Where `files` lie, for loading data set `name`.
///
/// # Errors
/// [`DataError`] naming two forms of one file that differ, or a file that lies apart from the rest.
pub fn located(name: &str, files: &[DataFile], root: &DataRoot) -> Result<Vec<Option<PathBuf>>, DataError> {
    locate(files, &root.0).into_iter().map(|found| found.map_err(|trouble| trouble.of(name))).collect()
}

/// Where each of `files` lies, all of which data set `name` needs.
///
/// # Errors
/// As [`located`], and [`DataError::Missing`] for the first file that is not there, saying what is.
pub fn all_located(name: &str, files: &[DataFile], root: &DataRoot) -> Result<Vec<PathBuf>, DataError> {
    let found = located(name, files, root)?;
    found.into_iter().zip(files).map(|(path, file)| path.ok_or_else(|| missing(name, file, root))).collect()
}

/// The error for `file`, which lies in none of its places.
pub(crate) fn missing(name: &str, file: &DataFile, root: &DataRoot) -> DataError {
    let there = what_lies(file, root, &names_of(&file.path));
    DataError::Missing { name: name.to_owned(), path: root.join(&file.path), root: root.0.clone(), there }
}

fn in_one_folder(files: &[DataFile], published: &str, root: &Path) -> Vec<Result<Option<PathBuf>, Trouble>> {
    let others = FOLDERS.iter().find(|(folder, _)| *folder == published).map_or(&[][..], |(_, others)| *others);
    let folders: Vec<PathBuf> = std::iter::once(published).chain(others.iter().copied()).map(|folder| root.join(folder)).collect();
    let forms: Result<Vec<Vec<Vec<PathBuf>>>, Trouble> = no_dangling_link(&folders[0])
        .and_then(|()| folders.iter().map(|folder| files.iter().map(|file| forms_in(folder, &file.path)).collect()).collect());
    let forms = match forms {
        Ok(forms) => forms,
        Err(trouble) => return files.iter().map(|_| Err(trouble.again())).collect(),
    };
    let count = |folder: usize| forms[folder].iter().filter(|forms| !forms.is_empty()).count();
    // The first of the folders that hold most.
    let home = (0..folders.len()).rev().max_by_key(|&folder| count(folder)).unwrap_or(0);
    (0..files.len())
        .map(|file| {
            let mut all = forms[home][file].iter().chain((0..folders.len()).filter(|&f| f != home).flat_map(|f| &forms[f][file]));
            let Some(first) = all.next() else { return Ok(None) };
            if forms[home][file].is_empty() {
                return Err(Trouble::Scattered { path: first.clone(), home: folders[home].clone() });
            }
            for other in all {
                match first_difference(first, other) {
                    Ok(None) => {}
                    Ok(Some(Difference(offset))) => return Err(Trouble::Differ { forms: [first.clone(), other.clone()], offset }),
                    Err(source) => return Err(Trouble::Io { path: other.clone(), source }),
                }
            }
            Ok(Some(first.clone()))
        })
        .collect()
}

/// Names under which the file of the published `path` may lie, the plain one first: with and without `.gz`, and with a dot where MNIST's
/// names have a hyphen.
fn names_of(path: &str) -> Vec<String> {
    let published = path.rsplit('/').next().unwrap_or(path);
    let (plain, packed) = published.strip_suffix(".gz").map_or((published, false), |plain| (plain, true));
    let mut names = vec![plain.to_owned()];
    if plain.contains("-idx") {
        names.push(plain.replace("-idx", ".idx"));
    }
    if packed {
        names = names.into_iter().flat_map(|name| [name.clone(), name + ".gz"]).collect();
    }
    names
}

/// Refuses a link whose target is gone, such as one to a disk that is not mounted: what it stands for is meant to be there.
fn no_dangling_link(path: &Path) -> Result<(), Trouble> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) && !path.exists() {
        return Err(Trouble::NoFile { path: path.to_owned(), what: "a link to something that is not there" });
    }
    Ok(())
}

/// The forms of the file of the published `path` that lie in `folder`, without those that are the same file under another name.
fn forms_in(folder: &Path, path: &str) -> Result<Vec<PathBuf>, Trouble> {
    let names = names_of(path);
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |candidate: PathBuf| {
        let same =
            |known: &PathBuf| fs::canonicalize(known).ok().is_some_and(|known| fs::canonicalize(&candidate).is_ok_and(|c| c == known));
        if !found.iter().any(same) {
            found.push(candidate);
        }
    };
    let nested = names.iter().flat_map(|outer| names.iter().map(move |inner| format!("{outer}/{inner}")));
    for name in names.iter().cloned().chain(nested) {
        let candidate = folder.join(name);
        match fs::metadata(&candidate) {
            Ok(metadata) if metadata.is_file() => add(candidate),
            // It may hold the file, or be an archive of pictures unpacked.
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Trouble::NoFile { path: candidate, what: "neither a file nor a folder" }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                no_dangling_link(&candidate)?;
            }
            Err(source) => return Err(Trouble::Io { path: candidate, source }),
        }
    }
    // An archive of pictures may be unpacked.
    if let Some(unpacked) = path.rsplit('/').next().and_then(|name| name.strip_suffix(".zip")) {
        let candidate = folder.join(unpacked);
        if pictures::are_in(&candidate) {
            add(candidate);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "mnist/train-images-idx3-ubyte.gz";

    fn files() -> Vec<DataFile> {
        [FILE, "mnist/train-labels-idx1-ubyte.gz"].map(|path| DataFile { path: path.to_owned(), ..DataFile::default() }).to_vec()
    }

    fn put(root: &Path, path: &str, content: &[u8]) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), content).unwrap();
    }

    fn first(root: &Path) -> Result<Option<PathBuf>, String> {
        locate(&files(), root).swap_remove(0).map_err(|trouble| trouble.of("mnist").to_string())
    }

    #[test]
    fn a_file_is_found_in_every_layout() {
        for path in [
            FILE,
            "mnist/train-images-idx3-ubyte",
            "mnist/train-images.idx3-ubyte",
            "mnist/train-images.idx3-ubyte.gz",
            "mnist/train-images-idx3-ubyte/train-images-idx3-ubyte",
            "mnist/train-images-idx3-ubyte/train-images.idx3-ubyte.gz",
            "MNIST/raw/train-images-idx3-ubyte",
        ] {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), path, b"x");
            assert_eq!(first(root.path()), Ok(Some(root.path().join(path))), "{path}");
        }
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "FashionMNIST/raw/train-images-idx3-ubyte", b"x");
        put(root.path(), "train-images-idx3-ubyte", b"x");
        assert_eq!(first(root.path()), Ok(None), "another data set's folder, or nobody's, is not taken");
    }

    #[test]
    fn two_forms_are_fine_when_equal_and_an_error_naming_both_when_not() {
        for other in ["mnist/train-images-idx3-ubyte.gz", "mnist/train-images.idx3-ubyte", "MNIST/raw/train-images-idx3-ubyte"] {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), "mnist/train-images-idx3-ubyte", b"one thing");
            put(root.path(), other, b"one thing");
            assert!(first(root.path()).unwrap().is_some());
            put(root.path(), other, b"one other");
            let error = first(root.path()).unwrap_err();
            for part in ["mnist/train-images-idx3-ubyte`", &format!("{other}`"), "from byte 4 on", "hint:"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn one_data_set_is_not_put_together_from_two_folders() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "mnist/train-images-idx3-ubyte", b"x");
        put(root.path(), "MNIST/raw/train-labels-idx1-ubyte", b"y");
        let trouble = locate(&files(), root.path()).swap_remove(1).unwrap_err().to_string();
        assert!(trouble.contains("MNIST/raw/train-labels-idx1-ubyte") && trouble.contains("another folder"), "{trouble}");
        put(root.path(), "MNIST/raw/train-images-idx3-ubyte", b"x");
        let found: Vec<_> = locate(&files(), root.path()).into_iter().map(|found| found.unwrap().unwrap()).collect();
        assert!(found.iter().all(|path| path.starts_with(root.path().join("MNIST/raw"))), "{found:?}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_named_and_not_passed_over() {
        use std::os::unix::{fs::symlink, net::UnixListener};
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "MNIST/raw/train-images-idx3-ubyte", b"x");
        fs::create_dir(root.path().join("mnist")).unwrap();
        symlink("nowhere", root.path().join(FILE)).unwrap();
        let error = first(root.path()).unwrap_err();
        assert!(error.contains(FILE) && error.contains("a link to something that is not there") && error.contains("hint:"), "{error}");
        fs::remove_file(root.path().join(FILE)).unwrap();
        let _socket = UnixListener::bind(root.path().join(FILE)).unwrap();
        let error = first(root.path()).unwrap_err();
        assert!(error.contains(FILE) && error.contains("neither a file nor a folder"), "{error}");
        fs::remove_dir_all(root.path().join("mnist")).unwrap();
        symlink("/nowhere/mnist", root.path().join("mnist")).unwrap();
        let error = first(root.path()).unwrap_err();
        assert!(error.contains("mnist` is a link to something that is not there"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_same_file_is_no_second_form() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), FILE, b"x");
        std::os::unix::fs::symlink(root.path().join("mnist"), root.path().join("MNIST")).unwrap();
        assert_eq!(first(root.path()), Ok(Some(root.path().join(FILE))));
    }
}
