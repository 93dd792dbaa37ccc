//! Comparison of the files on disk with their published sizes and checksums.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::DataFile;
use md5::{Digest, Md5};

/// What was found in place of one published file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Size and checksum agree with the published ones.
    Ok,
    /// There is no such file.
    Missing,
    /// The file differs from the published one or cannot be read.
    Damaged {
        /// What was published, e.g. `md5 f68b...`.
        expected: String,
        /// What is there.
        found: String,
    },
    /// There is a file, but no published checksum to hold it against (also: the unpacked form of a published `.gz`).
    Unknown,
}

/// Checks every file below `root`; the paths returned are whole ones, in the order of `files`.
pub fn verify(files: &[DataFile], root: &Path) -> Vec<(PathBuf, Verdict)> {
    files.iter().map(|file| (root.join(&file.path), verdict(file, root))).collect()
}

/// Checks one file below `root`.
pub fn verdict(file: &DataFile, root: &Path) -> Verdict {
    let path = root.join(&file.path);
    let unreadable = |e: io::Error| Verdict::Damaged { expected: "a readable file".to_owned(), found: format!("{e} ({})", path.display()) };
    let mut opened = match File::open(&path) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let unpacked = file.path.strip_suffix(".gz").is_some_and(|plain| root.join(plain).is_file());
            return if unpacked { Verdict::Unknown } else { Verdict::Missing };
        }
        Err(e) => return unreadable(e),
    };
    let length = match opened.metadata() {
        Ok(metadata) => metadata.len(),
        Err(e) => return unreadable(e),
    };
    if let Some(bytes) = file.bytes.filter(|&bytes| bytes != length) {
        return Verdict::Damaged { expected: format!("{bytes} bytes"), found: format!("{length} bytes") };
    }
    let Some(published) = &file.md5 else { return Verdict::Unknown };
    match md5_hex(&mut opened) {
        Ok(found) if found.eq_ignore_ascii_case(published) => Verdict::Ok,
        Ok(found) => Verdict::Damaged { expected: format!("md5 {published}"), found: format!("md5 {found}") },
        Err(e) => unreadable(e),
    }
}

/// md5 of all that `reader` gives, in lower-case hexadecimal.
///
/// # Errors
/// Those of the reader.
pub fn md5_hex(reader: &mut impl Read) -> io::Result<String> {
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut hex = String::with_capacity(32);
    for byte in hasher.finalize() {
        for digit in [byte >> 4, byte & 15] {
            hex.extend(char::from_digit(digit.into(), 16));
        }
    }
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(path: &str, bytes: Option<u64>, md5: Option<&str>) -> DataFile {
        let md5 = md5.map(str::to_owned);
        DataFile { path: path.to_owned(), bytes, md5, mirrors: Vec::new(), archive_member: None, optional: false }
    }

    #[test]
    fn every_verdict() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "hello").unwrap();
        fs::write(folder.path().join("b"), "unpacked").unwrap();
        let hello = "5d41402abc4b2a76b9719d911017c592";
        let files = [
            file("a", Some(5), Some(hello)),
            file("a", Some(6), Some(hello)),
            file("a", None, Some("00")),
            file("a", Some(5), None),
            file("b.gz", None, Some(hello)),
            file("c", None, None),
        ];
        let verdicts: Vec<Verdict> = verify(&files, folder.path()).into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(verdicts[0], Verdict::Ok);
        assert_eq!(verdicts[1], Verdict::Damaged { expected: "6 bytes".to_owned(), found: "5 bytes".to_owned() });
        assert_eq!(verdicts[2], Verdict::Damaged { expected: "md5 00".to_owned(), found: format!("md5 {hello}") });
        assert_eq!(verdicts[3..], [Verdict::Unknown, Verdict::Unknown, Verdict::Missing]);
    }
}
