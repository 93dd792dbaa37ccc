//! Reader of the CIFAR-10 binary format: records of one label byte and 3,072 pixel bytes, red plane first.

use std::io::{BufReader, Read};

use ibhost_framework::dataset::DataError;

use crate::file::Place;

/// Bytes of one image: three planes of 32x32.
pub const IMAGE_BYTES: usize = 3 * 32 * 32;
/// Bytes of one record.
pub const RECORD_BYTES: usize = 1 + IMAGE_BYTES;
/// Records of a published batch file.
pub const RECORDS: usize = 10_000;

/// Images and labels in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Pixels, image by image, planes red, green, blue, row by row.
    pub pixels: Vec<u8>,
    /// One class number per image.
    pub labels: Vec<u8>,
}

/// Appends the `records` records of the file at `place` to `into`.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Io`], or [`DataError::Damaged`] when the file has another length or a label above 9.
pub fn read_batch(place: Place<'_>, records: usize, into: &mut Records) -> Result<(), DataError> {
    let (file, length) = place.open()?;
    // The length decides before anything is allocated, so a wrong file costs no memory.
    let expected = (records * RECORD_BYTES) as u64;
    if length != expected {
        let at = length.min(expected);
        return Err(place.damaged(at, format!("{expected} bytes, {records} records of {RECORD_BYTES}"), format!("{length} bytes")));
    }
    into.pixels.reserve_exact(records * IMAGE_BYTES);
    into.labels.reserve_exact(records);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut record = [0; RECORD_BYTES];
    for index in 0..records {
        reader.read_exact(&mut record).map_err(place.unread())?;
        if record[0] > 9 {
            let offset = (index * RECORD_BYTES) as u64;
            return Err(place.damaged(offset, "a label from 0 to 9".to_owned(), record[0].to_string()));
        }
        into.labels.push(record[0]);
        into.pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ibhost_framework::dataset::DataRoot;

    use super::*;

    fn record(label: u8, pixel: u8) -> Vec<u8> {
        let mut bytes = vec![pixel; RECORD_BYTES];
        bytes[0] = label;
        bytes
    }

    fn read(bytes: &[u8], records: usize) -> Result<Records, DataError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("batch.bin"), bytes).unwrap();
        let mut found = Records::default();
        let root = DataRoot(folder.path().to_owned());
        read_batch(Place::new("cifar10", &root, &root.join("batch.bin")), records, &mut found).map(|()| found)
    }

    #[test]
    fn records_are_appended_in_order() {
        let found = read(&[record(3, 7), record(9, 8)].concat(), 2).unwrap();
        assert_eq!(found.labels, [3, 9]);
        assert_eq!(found.pixels.len(), 2 * IMAGE_BYTES);
        assert_eq!((found.pixels[0], found.pixels[IMAGE_BYTES - 1], found.pixels[IMAGE_BYTES]), (7, 7, 8));
    }

    #[test]
    fn wrong_length_and_label_are_located() {
        let two = [record(3, 7), record(10, 8)].concat();
        for (bytes, offset) in [(&two[..], RECORD_BYTES), (&two[..100], 100), (&[&two[..], &[0]].concat(), 2 * RECORD_BYTES)] {
            match read(bytes, 2) {
                Err(DataError::Damaged { offset: at, .. }) => assert_eq!(at, offset as u64),
                other => panic!("expected damage, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_missing_batch_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = DataRoot(folder.path().to_owned());
        let error = read_batch(Place::new("cifar10", &root, &root.join("x.bin")), 1, &mut Records::default()).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }));
    }
}
