//! Files read whole, unpacked where they are gzip, and the errors that name them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ibhost_framework::dataset::DataError;

/// Most bytes that a packed file may unpack to.
const LARGEST: u64 = 1 << 32;

/// The error of `problem` in the file or folder at `path`, with what to do.
pub fn refuse(path: &Path, problem: impl std::fmt::Display, hint: &str) -> DataError {
    let hint = if hint.is_empty() { String::new() } else { format!("\n  hint: {hint}") };
    DataError::Inconsistent(format!("data set `file`: `{}`: {problem}{hint}", path.display()))
}

/// The content of the file at `path`, unpacked where its name ends in `.gz`.
pub fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let io = |action| move |source| DataError::Io { action, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io("open"))?;
    let mut content = Vec::new();
    if path.extension().is_some_and(|ending| ending == "gz") {
        MultiGzDecoder::new(file).take(LARGEST + 1).read_to_end(&mut content).map_err(io("unpack"))?;
        if content.len() as u64 > LARGEST {
            return Err(refuse(path, "it unpacks to more than 4 GiB", "unpack it and give the plain file"));
        }
    } else {
        file.read_to_end(&mut content).map_err(io("read"))?;
    }
    Ok(content)
}
