//! Collections of pictures by path: in a zip archive, or unpacked into a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::{DataError, DataRoot};
use md5::{Digest, Md5};
use rayon::prelude::*;

use crate::verify::hexadecimal;
use crate::zip;

/// Folders below one another that are looked into.
const DEPTH: usize = 5;
/// Most entries of folders that are looked at; Omniglot has 34,000.
const MOST_ENTRIES: usize = 400_000;
/// Largest picture file in a folder, in bytes; Omniglot's have 500.
const LARGEST: u64 = 1 << 24;

/// A picture's path, from the folder two above it on (`Greek/character01/0394_01.png`), and its file's bytes.
pub(crate) type Picture = (String, Vec<u8>);

/// Why pictures cannot be read.
#[derive(Debug)]
pub(crate) enum Wrong {
    Io { path: PathBuf, source: io::Error },
    Content { path: PathBuf, offset: u64, expected: String, found: String },
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { source, .. } => write!(f, "{source}"),
            Self::Content { offset, expected, found, .. } => write!(f, "expected {expected} at byte {offset}, found {found}"),
        }
    }
}

impl Wrong {
    /// As the error of loading data set `name`.
    pub(crate) fn of(self, name: &str, root: &DataRoot) -> DataError {
        match self {
            Self::Io { path, source } => DataError::Io { action: "read", path, source },
            Self::Content { path, offset, expected, found } => {
                DataError::Damaged { name: name.into(), root: root.0.clone(), path, offset, expected, found }
            }
        }
    }
}

/// Every picture `*.png` of the archive or folder at `path`, in order of path; hidden files are passed over.
pub(crate) fn read(path: &Path) -> Result<Vec<Picture>, Wrong> {
    let content =
        |offset: usize, expected: String, found: String| Wrong::Content { path: path.to_owned(), offset: offset as u64, expected, found };
    let mut pictures = if path.is_dir() {
        let read = |file: PathBuf| {
            let name = short(&file.strip_prefix(path).unwrap_or(&file).to_string_lossy().replace('\\', "/"));
            match fs::read(&file) {
                Ok(bytes) => Ok((name, bytes)),
                Err(source) => Err(Wrong::Io { path: file, source }),
            }
        };
        below(path, usize::MAX)?.into_par_iter().map(read).collect::<Result<Vec<_>, _>>()?
    } else {
        let bytes = fs::read(path).map_err(|source| Wrong::Io { path: path.to_owned(), source })?;
        let members = zip::members(&bytes).map_err(|e| content(e.offset, e.expected, "something else".to_owned()))?;
        let read = |member: &zip::Member| {
            let picture = zip::read(&bytes, member, zip::PICTURE)
                .map_err(|e| content(e.offset, e.expected, format!("other bytes in `{}`", member.name)))?;
            Ok((short(&member.name), picture))
        };
        members.par_iter().filter(|member| is_picture(&member.name)).map(read).collect::<Result<Vec<_>, _>>()?
    };
    if pictures.is_empty() {
        return Err(content(0, "pictures `*.png`".to_owned(), "none".to_owned()));
    }
    pictures.sort();
    if let Some(twice) = pictures.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(content(0, "pictures of different paths".to_owned(), format!("`{}` twice", twice[0].0)));
    }
    Ok(pictures)
}

/// md5 over the paths and bytes of all pictures at `path`.
pub(crate) fn md5(path: &Path) -> Result<String, Wrong> {
    let mut hasher = Md5::new();
    for (name, bytes) in read(path)? {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// Whether there is a picture in the folder or below it.
pub(crate) fn are_in(folder: &Path) -> bool {
    folder.is_dir() && below(folder, 1).is_ok_and(|found| !found.is_empty())
}

fn is_picture(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX");
    !hidden && Path::new(name).extension().is_some_and(|end| end == "png")
}

fn short(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    parts[parts.len().saturating_sub(3)..].join("/")
}

/// Up to `most` picture files in `folder` and below.
fn below(folder: &Path, most: usize) -> Result<Vec<PathBuf>, Wrong> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = folders.pop() {
        let failed = |source| Wrong::Io { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            seen += 1;
            let name = entry.file_name().to_string_lossy().into_owned();
            if seen > MOST_ENTRIES {
                let (expected, found) = (format!("at most {MOST_ENTRIES} files and folders"), "more".to_owned());
                return Err(Wrong::Content { path: folder, offset: 0, expected, found });
            }
            let path = entry.path();
            let metadata = fs::metadata(&path).map_err(|source| Wrong::Io { path: path.clone(), source })?;
            if metadata.is_dir() && depth < DEPTH && !name.starts_with('.') && name != "__MACOSX" {
                folders.push((path, depth + 1));
            } else if metadata.is_file() && is_picture(&name) {
                if metadata.len() > LARGEST {
                    let (expected, found) = (format!("a picture of at most {LARGEST} bytes"), format!("{} bytes", metadata.len()));
                    return Err(Wrong::Content { path, offset: 0, expected, found });
                }
                found.push(path);
                if found.len() >= most {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::tests::archive;

    #[test]
    fn an_archive_and_what_it_unpacks_to_hold_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["set/B/c1/2.png", "set/A/c2/1.png", "set/A/c1/1.png"];
        let mut files: Vec<(&str, Vec<u8>)> = names.iter().map(|&name| (name, name.as_bytes().to_vec())).collect();
        files.push(("set/A/c1/._1.png", b"left by an unpacker".to_vec()));
        let zip = folder.path().join("set.zip");
        fs::write(&zip, archive(&files)).unwrap();
        for (name, content) in &files {
            let path = folder.path().join("unpacked").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let unpacked = folder.path().join("unpacked");
        let read_names: Vec<String> = read(&zip).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(read_names, ["A/c1/1.png", "A/c2/1.png", "B/c1/2.png"]);
        assert_eq!(read(&zip).unwrap(), read(&unpacked).unwrap());
        assert_eq!(md5(&zip).unwrap(), md5(&unpacked).unwrap());
        fs::write(unpacked.join("set/A/c2/1.png"), b"other").unwrap();
        assert_ne!(md5(&zip).unwrap(), md5(&unpacked).unwrap());
        assert!(are_in(&unpacked) && !are_in(&folder.path().join("nowhere")));
        fs::create_dir(folder.path().join("empty")).unwrap();
        assert!(!are_in(&folder.path().join("empty")));
        assert!(read(&folder.path().join("empty")).unwrap_err().to_string().contains("none"));
    }
}
