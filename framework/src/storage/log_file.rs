//! `log.txt`: messages for people, one line each, whatever control characters they repeat.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::atomic::StorageError;
use super::inside;

/// The open log of a run.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
}

impl LogFile {
    /// Opens the log at `path` to be continued.
    ///
    /// # Errors
    /// [`StorageError::NotPlain`] when something else lies there, or what the disk refused.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Ok(Self { file: inside::open_append(path)?, path: path.to_path_buf() })
    }
}

impl Write for LogFile {
    /// Writes one message; what is no end of its line is shown as an escape, so that no name or text can begin a line of its own.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(message);
        let (body, end) = text.strip_suffix('\n').map_or((&*text, ""), |body| (body, "\n"));
        let mut line = String::with_capacity(text.len());
        for c in body.chars() {
            if c.is_control() { line.extend(c.escape_debug()) } else { line.push(c) }
        }
        line.push_str(end);
        inside::separate(&mut self.file, &self.path).map_err(io::Error::other)?;
        self.file.write_all(line.as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_message_is_one_line_and_a_snapshot_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.txt");
        let mut log = LogFile::open(&path).unwrap();
        log.write_all("run in a\nalias ls=rm\u{1b}[2K\r\u{9b}2J ü\n".as_bytes()).unwrap();
        let first = "run in a\\nalias ls=rm\\u{1b}[2K\\r\\u{9b}2J ü\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        fs::hard_link(&path, dir.path().join("snapshot")).unwrap();
        log.write_all(b"more\n").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("snapshot")).unwrap(), first);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}more\n"));
    }
}
