//! Comparison of the files on disk with their published sizes and checksums.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::DataFile;
use md5::{Digest, Md5};

use crate::locate::{Trouble, locate};
use crate::same::contents_md5;

/// What was found in place of one published file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What is there is what was published, in the published form or in another.
    Ok,
    /// There is no such file.
    Missing,
    /// What is there is not what was published, or cannot be read.
    Damaged {
        /// What was published, e.g. `md5 f68b...`.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It cannot be told which file is meant, and why.
    Unclear(String),
    /// There is a file, but no published checksum to hold it against.
    Unknown,
}

/// Checks the files that a data set would read below `root`; the paths returned are theirs, or the published ones of files that are not
/// there, in the order of `files`.
pub fn verify(files: &[DataFile], root: &Path) -> Vec<(PathBuf, Verdict)> {
    let one = |(found, file): (Result<Option<PathBuf>, Trouble>, &DataFile)| match found {
        Ok(Some(path)) => {
            let verdict = verdict(file, &path);
            (path, verdict)
        }
        Ok(None) => (root.join(&file.path), Verdict::Missing),
        Err(trouble) => (root.join(&file.path), Verdict::Unclear(format!("{trouble}{}", which_is_published(&trouble, file)))),
    };
    locate(files, root).into_iter().zip(files).map(one).collect()
}

/// Which of two forms of `file` that differ is the published one, when that can be told.
fn which_is_published(trouble: &Trouble, file: &DataFile) -> String {
    let Trouble::Differ { forms, .. } = trouble else { return String::new() };
    let verdicts = forms.each_ref().map(|form| verdict(file, form));
    match verdicts.iter().position(|verdict| *verdict == Verdict::Ok) {
        Some(right) => format!("; the published one is `{}`", forms[right].display()),
        None if verdicts.contains(&Verdict::Unknown) => String::new(),
        None => "; neither is the published one".to_owned(),
    }
}

/// Holds what lies at `path` against the published `file`.
fn verdict(file: &DataFile, path: &Path) -> Verdict {
    match held_against(file, path) {
        Ok(verdict) => verdict,
        Err(e) => Verdict::Damaged { expected: "a readable file".to_owned(), found: e.to_string() },
    }
}

fn held_against(file: &DataFile, path: &Path) -> io::Result<Verdict> {
    let published = Path::new(&file.path);
    let damaged = |expected: String, found: String| Ok(Verdict::Damaged { expected, found });
    // Another form of the file has checksums of its own.
    let mut wrong = None;
    if path.is_file() && path.extension() == published.extension() {
        let length = path.metadata()?.len();
        if let Some(bytes) = file.bytes.filter(|&bytes| bytes != length) {
            wrong = Some((format!("{bytes} bytes"), format!("{length} bytes")));
        } else if let Some(expected) = &file.md5 {
            let found = md5_hex(&mut File::open(path)?)?;
            if found.eq_ignore_ascii_case(expected) {
                return Ok(Verdict::Ok);
            }
            wrong = Some((format!("md5 {expected}"), format!("md5 {found}")));
        } else if let Some(expected) = &file.git_blob {
            let found = git_blob(&mut File::open(path)?, length)?;
            if found.eq_ignore_ascii_case(expected) {
                return Ok(Verdict::Ok);
            }
            wrong = Some((format!("the git blob {expected}"), format!("{found} ({length} bytes)")));
        }
    }
    if let Some(expected) = &file.contents {
        // Packed anew, or not packed: what is inside decides.
        return match contents_md5(path) {
            Ok(found) if found.eq_ignore_ascii_case(expected) => Ok(Verdict::Ok),
            Ok(found) => damaged(format!("contents of md5 {expected}"), format!("md5 {found}")),
            Err(e) => match wrong {
                Some((expected, found)) => damaged(expected, format!("{found}; {e}")),
                None => Err(e),
            },
        };
    }
    match wrong {
        Some((expected, found)) => damaged(expected, found),
        None => Ok(Verdict::Unknown),
    }
}

/// md5 of all that `reader` gives, in lower-case hexadecimal.
///
/// # Errors
/// Those of the reader.
pub fn md5_hex(reader: &mut impl Read) -> io::Result<String> {
    let mut hasher = Md5::new();
    pieces(reader, |piece| hasher.update(piece))?;
    Ok(hexadecimal(&hasher.finalize()))
}

/// The name that git gives a file of `length` bytes.
pub(crate) fn git_blob(reader: &mut impl Read, length: u64) -> io::Result<String> {
    let mut hasher = sha1_smol::Sha1::from(format!("blob {length}\0"));
    pieces(reader, |piece| hasher.update(piece))?;
    Ok(hasher.digest().to_string())
}

fn pieces(reader: &mut impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

    fn file(path: &str, bytes: Option<u64>, md5: Option<&str>) -> DataFile {
        DataFile { path: path.to_owned(), bytes, md5: md5.map(str::to_owned), ..DataFile::default() }
    }

    fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_verdict() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "hello").unwrap();
        fs::write(folder.path().join("b"), "unpacked").unwrap();
        let files = [
            file("a", Some(5), Some(HELLO)),
            file("a", Some(6), Some(HELLO)),
            file("a", None, Some("00")),
            file("a", Some(5), None),
            file("b.gz", None, Some(HELLO)),
            file("c", None, None),
            DataFile { git_blob: Some("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".to_owned()), ..file("a", None, None) },
            DataFile { git_blob: Some("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b1".to_owned()), ..file("a", None, None) },
        ];
        let verdicts: Vec<Verdict> = verify(&files, folder.path()).into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(verdicts[0], Verdict::Ok);
        assert_eq!(verdicts[1], Verdict::Damaged { expected: "6 bytes".to_owned(), found: "5 bytes".to_owned() });
        assert_eq!(verdicts[2], Verdict::Damaged { expected: "md5 00".to_owned(), found: format!("md5 {HELLO}") });
        assert_eq!(verdicts[3..7], [Verdict::Unknown, Verdict::Unknown, Verdict::Missing, Verdict::Ok]);
        assert!(matches!(&verdicts[7], Verdict::Damaged { found, .. } if found.contains("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0")));
    }

    #[test]
    fn the_file_that_would_be_read_is_verified_and_two_that_differ_are_not_ok() {
        let folder = tempfile::tempdir().unwrap();
        let packed = gzip(b"hello", Compression::best());
        let published = DataFile {
            contents: Some(HELLO.to_owned()),
            ..file("s/h.gz", Some(packed.len() as u64), Some(&md5_hex(&mut &packed[..]).unwrap()))
        };
        let put = |name: &str, content: &[u8]| {
            fs::create_dir_all(folder.path().join("s")).unwrap();
            fs::write(folder.path().join(name), content).unwrap();
        };
        let verdict = || verify(std::slice::from_ref(&published), folder.path()).remove(0);
        put("s/h.gz", &packed);
        assert_eq!(verdict(), (folder.path().join("s/h.gz"), Verdict::Ok));
        put("s/h", b"hello");
        assert_eq!(verdict(), (folder.path().join("s/h"), Verdict::Ok));
        put("s/h", b"other");
        let (a, b) = ("s/h` and `", "s/h.gz` stand for the same file but differ from byte 0 on");
        let right = "s/h.gz`";
        assert!(matches!(verdict().1, Verdict::Unclear(why) if why.contains(a) && why.contains(b) && why.ends_with(right)));
        fs::remove_file(folder.path().join("s/h.gz")).unwrap();
        assert!(matches!(verdict().1, Verdict::Damaged { expected, .. } if expected.contains(HELLO)));
        fs::remove_file(folder.path().join("s/h")).unwrap();
        put("s/h.gz", &gzip(b"hello", Compression::none()));
        assert_eq!(verdict().1, Verdict::Ok, "packed anew");
        for stub in [&b"<html>"[..], b"", &packed[..packed.len() - 4]] {
            put("s/h.gz", stub);
            assert!(matches!(verdict().1, Verdict::Damaged { .. }));
        }
    }
}
