//! The framing of `TensorBoard` event files: tells whether every record is what was written.
//!
//! A record is its length (8 bytes, little-endian), a checksum of these 8 bytes, the data, and a checksum of the data; checksums are
//! CRC-32C, rotated and offset as the format asks. Source: the record format of TensorFlow (`TFRecord`).

use std::path::Path;

use tensorboard_rs::masked_crc32c::masked_crc32c;

use crate::storage::{StorageError, inside};

/// Bytes before and after the data of a record.
const HEAD: usize = 12;
const TAIL: usize = 4;

/// What an event file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records<'a> {
    /// Data of every complete record, in order.
    pub complete: Vec<&'a [u8]>,
    /// Bytes at the end that begin a record but do not finish it, as a killed process leaves them.
    pub torn: usize,
}

/// A record that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {index} at byte {offset}: {what} does not match its checksum")]
pub struct BadRecord {
    /// Number of the record, from 0.
    pub index: usize,
    /// Where it begins.
    pub offset: usize,
    /// `its length` or `its data`.
    pub what: &'static str,
}

/// The records in the bytes of an event file. Nothing is copied, so a length that lies costs no memory.
///
/// # Errors
/// [`BadRecord`] for the first one whose length or data do not match their checksum.
pub fn records(bytes: &[u8]) -> Result<Records<'_>, BadRecord> {
    let mut found = Records::default();
    let mut offset = 0;
    loop {
        let rest = &bytes[offset..];
        let bad = |what| BadRecord { index: found.complete.len(), offset, what };
        let Some((length, after)) = rest.split_first_chunk::<8>() else { break };
        let Some((stated, after)) = after.split_first_chunk::<TAIL>() else { break };
        if masked_crc32c(length) != u32::from_le_bytes(*stated) {
            return Err(bad("its length"));
        }
        let Some((data, after)) = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| after.split_at_checked(length))
        else {
            break;
        };
        let Some(stated) = after.first_chunk::<TAIL>() else { break };
        if masked_crc32c(data) != u32::from_le_bytes(*stated) {
            return Err(bad("its data"));
        }
        found.complete.push(data);
        offset += HEAD + data.len() + TAIL;
    }
    found.torn = bytes.len() - offset;
    Ok(found)
}

/// Checks every record of the file `path`; returns how many there are. A torn end is accepted, because the whole file is covered by the
/// run's manifest once no process writes to it any more.
///
/// # Errors
/// [`StorageError::Damaged`] naming the record, or what the disk refused.
pub fn check_events(path: &Path) -> Result<usize, StorageError> {
    let bytes = inside::read(path)?;
    records(&bytes).map(|found| found.complete.len()).map_err(|bad| StorageError::damaged(path, bad.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tensorboard::EventWriter;

    fn file() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path()).unwrap();
        writer.scalar("train/loss", 0.25, 7).unwrap();
        writer.text("setting", "seed: 1", 0).unwrap();
        writer.flush().unwrap();
        let path = writer.path().to_path_buf();
        let bytes = fs::read(&path).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn what_was_written_is_sound() {
        let (_dir, path, bytes) = file();
        assert_eq!(check_events(&path).unwrap(), 3);
        assert_eq!(records(&[]).unwrap(), Records::default());
        let found = records(&bytes).unwrap();
        assert_eq!(found.complete.iter().map(|data| data.len() + HEAD + TAIL).sum::<usize>(), bytes.len());
    }

    #[test]
    fn every_flipped_bit_is_found_and_every_cut_is_a_torn_end() {
        let (_dir, path, sound) = file();
        for position in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[position] ^= 1 << (position % 8);
            fs::write(&path, &bytes).unwrap();
            let error = check_events(&path).unwrap_err().to_string();
            assert!(error.contains("tfevents") && error.contains("record"), "{error}");
            let cut = records(&sound[..position]).unwrap();
            let whole: usize = cut.complete.iter().map(|data| data.len() + HEAD + TAIL).sum();
            assert_eq!(whole + cut.torn, position);
        }
    }

    #[test]
    fn a_length_that_lies_costs_nothing() {
        let length = u64::MAX.to_le_bytes();
        let bytes = [&length[..], &masked_crc32c(&length).to_le_bytes(), b"x"].concat();
        assert_eq!(records(&bytes).unwrap(), Records { complete: Vec::new(), torn: 13 });
    }
}
