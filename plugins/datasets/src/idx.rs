//! Reader of the IDX format (unsigned bytes, plain or gzip) that trusts no number a file declares about itself.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;
use ibhost_framework::dataset::DataError;

use crate::file::Place;

/// Largest payload accepted, in bytes; forty times MNIST.
const MAX_PAYLOAD: u64 = 1 << 31;

/// Most bytes a compressed file may unpack to for each of its own, many times what images reach (gzip itself goes up to a thousand), so that
/// a small file cannot fill the memory.
const MAX_RATIO: u64 = 100;
/// Bytes there is room for from the start, enough for MNIST; pages nothing is written to cost nothing.
const ROOM: u64 = 1 << 26;

/// Bytes any compressed file may unpack to.
const UNPACKED_FREE: u64 = 1 << 20;

/// Contents of one IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// The file that was read.
    pub path: PathBuf,
    /// Size along each dimension, slowest first.
    pub dims: Vec<usize>,
    /// All bytes, row-major.
    pub values: Vec<u8>,
}

impl Idx {
    /// Position in the (decompressed) file of value `index`.
    fn offset(&self, index: usize) -> u64 {
        (4 + 4 * self.dims.len() + index) as u64
    }
}

/// Images and labels of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledImages {
    /// Pixels, image by image, row by row.
    pub pixels: Vec<u8>,
    /// One class number per image.
    pub labels: Vec<u8>,
    /// Height and width of an image in pixels.
    pub size: [usize; 2],
}

/// Reads `images` of `size` = `[height, width]` and their `labels`.
///
/// # Errors
/// [`DataError`] naming the missing or damaged file, also when there are not as many labels as images or a label is not below
/// `classes`.
pub fn read_pair(images: Place<'_>, labels: Place<'_>, size: [usize; 2], classes: u8) -> Result<LabelledImages, DataError> {
    let pictures = read(images, &[None, Some(size[0]), Some(size[1])])?;
    let classified = read(labels, &[None])?;
    if classified.dims[0] != pictures.dims[0] {
        let expected = format!("{} labels, one for each image of `{}`", pictures.dims[0], images.path.display());
        return Err(labels.damaged(4, expected, format!("{} labels", classified.dims[0])));
    }
    if let Some(bad) = classified.values.iter().position(|&label| label >= classes) {
        let expected = format!("a label from 0 to {}", classes - 1);
        return Err(labels.damaged(classified.offset(bad), expected, classified.values[bad].to_string()));
    }
    Ok(LabelledImages { pixels: pictures.values, labels: classified.values, size })
}

/// Reads the IDX file at `place`.
///
/// `shape` gives the number of dimensions and the size of those that are known. Whether a file is compressed is told by its first
/// bytes, not by its name.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Io`], or [`DataError::Damaged`] with the byte offset, the expectation and the finding.
pub fn read(place: Place<'_>, shape: &[Option<usize>]) -> Result<Idx, DataError> {
    let (mut file, length) = place.open()?;
    let gzip = starts_as_gzip(&mut file).map_err(place.unread())?;
    let file = BufReader::with_capacity(1 << 16, file);
    if gzip {
        let limit = length.saturating_mul(MAX_RATIO).saturating_add(UNPACKED_FREE).min(MAX_PAYLOAD);
        parse_within(place, MultiGzDecoder::new(file), shape, limit)
    } else {
        parse(place, file, shape)
    }
}

fn starts_as_gzip(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    Read::by_ref(file).take(2).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(first == [0x1f, 0x8b])
}

/// Reads an IDX stream; `place` is only named in errors.
///
/// # Errors
/// [`DataError::Damaged`] or [`DataError::Io`].
pub fn parse(place: Place<'_>, reader: impl Read, shape: &[Option<usize>]) -> Result<Idx, DataError> {
    parse_within(place, reader, shape, MAX_PAYLOAD)
}

/// [`parse`] for at most `limit` bytes of data.
fn parse_within(place: Place<'_>, mut reader: impl Read, shape: &[Option<usize>], limit: u64) -> Result<Idx, DataError> {
    let header_len = 4 + 4 * shape.len() as u64;
    let header = read_at_most(place, &mut reader, header_len, 0, header_len)?;
    if let Some(magic) = header.first_chunk::<4>().map(|m| u32::from_be_bytes(*m)) {
        let expected = 0x0800 + shape.len() as u32;
        if magic != expected {
            let expected = format!("the magic number {expected:#010x} (unsigned bytes in {} dimensions)", shape.len());
            return Err(place.damaged(0, expected, format!("{magic:#010x}{}", as_text(&header))));
        }
    }
    if (header.len() as u64) < header_len {
        let expected = format!("a header of {header_len} bytes");
        return Err(place.damaged(header.len() as u64, expected, "the end of the file".to_owned()));
    }
    let dims: Vec<usize> = header[4..].chunks_exact(4).map(|b| b.iter().fold(0, |sum, &byte| (sum << 8) | usize::from(byte))).collect();
    for (axis, (&found, wanted)) in dims.iter().zip(shape).enumerate() {
        if let Some(wanted) = wanted.filter(|&wanted| wanted != found) {
            let expected = format!("the size {wanted} of dimension {}", axis + 1);
            return Err(place.damaged(4 + 4 * axis as u64, expected, found.to_string()));
        }
    }
    let payload = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64)).filter(|&p| p <= limit);
    let Some(payload) = payload else {
        let expected = format!("sizes whose product is at most {limit}");
        return Err(place.damaged(4, expected, format!("sizes {dims:?}")));
    };
    // One byte more than declared is enough to notice trailing bytes, and reading to the end checks the gzip checksum.
    let mut values = read_at_most(place, &mut reader, payload + 1, header_len, ROOM)?;
    let found = values.len() as u64;
    if found < payload {
        let expected = format!("{payload} bytes of data for sizes {dims:?}");
        return Err(place.damaged(header_len + found, expected, format!("the end of the file after {found}")));
    }
    if found > payload {
        let expected = format!("the end of the file after {payload} bytes of data for sizes {dims:?}");
        return Err(place.damaged(header_len + payload, expected, "more bytes".to_owned()));
    }
    values.shrink_to_fit();
    Ok(Idx { path: place.path.to_owned(), dims, values })
}

/// What a header says when it is text, e.g. the page of a server in place of a file.
fn as_text(header: &[u8]) -> String {
    let text = header.iter().map(|&b| char::from(b)).collect::<String>();
    if text.trim_end().chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        format!(" (the text `{}`)", text.trim_end())
    } else {
        String::new()
    }
}

/// Up to `limit` bytes; beyond `room` the buffer grows with the bytes that really arrive.
fn read_at_most(place: Place<'_>, reader: &mut impl Read, limit: u64, start: u64, room: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::with_capacity(limit.min(room) as usize);
    match reader.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Err(place.damaged(start + bytes.len() as u64, "a complete gzip stream".to_owned(), e.to_string()))
        }
        Err(source) => Err(place.unread()(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ibhost_framework::dataset::DataRoot;

    use super::*;

    fn images(count: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3];
        for dim in [count, 2, 3] {
            bytes.extend(dim.to_be_bytes());
        }
        bytes.extend((0..count * 6).map(|i| i as u8));
        bytes
    }

    fn labels(values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 1];
        bytes.extend((values.len() as u32).to_be_bytes());
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn pair(image_bytes: &[u8], label_bytes: &[u8], suffix: &str) -> Result<LabelledImages, DataError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("i{suffix}")), image_bytes).unwrap();
        fs::write(folder.path().join(format!("l{suffix}")), label_bytes).unwrap();
        let root = DataRoot(folder.path().to_owned());
        let [images, labels] = ["i", "l"].map(|name| root.join(format!("{name}{suffix}")));
        read_pair(Place::new("test", &root, &images), Place::new("test", &root, &labels), [2, 3], 10)
    }

    fn damage(result: Result<LabelledImages, DataError>) -> (u64, String, String) {
        match result {
            Err(DataError::Damaged { offset, expected, found, .. }) => (offset, expected, found),
            other => panic!("expected damage, got {other:?}"),
        }
    }

    #[test]
    fn plain_and_gzip_give_the_same() {
        let plain = pair(&images(2), &labels(&[3, 9]), "").unwrap();
        assert_eq!(plain.pixels, (0..12).collect::<Vec<u8>>());
        assert_eq!(plain.labels, [3, 9]);
        assert_eq!(pair(&gzip(&images(2)), &gzip(&labels(&[3, 9])), ".gz").unwrap(), plain);
        assert_eq!(pair(&images(2), &labels(&[3, 9]), ".gz").unwrap(), plain, "the contents decide, not the name");
    }

    #[test]
    fn wrong_magic() {
        let (offset, expected, found) = damage(pair(&labels(&[1; 30]), &labels(&[1]), ""));
        assert_eq!(offset, 0);
        assert!(expected.contains("0x00000803") && found == "0x00000801", "{expected} / {found}");
        let (_, _, found) = damage(pair(b"<!DOCTYPE html><html>", &labels(&[1]), ""));
        assert_eq!(found, "0x3c21444f (the text `<!DOCTYPE html><`)");
    }

    #[test]
    fn truncated_everywhere() {
        let whole = images(2);
        for cut in 0..whole.len() {
            let (offset, _, _) = damage(pair(&whole[..cut], &labels(&[1, 2]), ""));
            assert_eq!(offset, cut as u64);
            damage(pair(&gzip(&whole[..cut]), &labels(&[1, 2]), ""));
        }
        let packed = gzip(&whole);
        for cut in 3..packed.len() {
            damage(pair(&packed[..cut], &labels(&[1, 2]), ""));
        }
    }

    #[test]
    fn trailing_bytes_and_broken_checksum() {
        let mut long = images(2);
        long.push(0);
        let (offset, _, found) = damage(pair(&long, &labels(&[1, 2]), ""));
        assert_eq!((offset, found.as_str()), (28, "more bytes"));
        assert_eq!(damage(pair(&gzip(&long), &labels(&[1, 2]), "")).0, 28);
        let mut packed = gzip(&images(2));
        let crc = packed.len() - 8;
        packed[crc] ^= 1;
        assert!(damage(pair(&packed, &labels(&[1, 2]), "")).1.contains("gzip"));
    }

    #[test]
    fn counts_labels_and_sizes_that_do_not_fit() {
        let (offset, expected, found) = damage(pair(&images(2), &labels(&[1]), ""));
        assert!(offset == 4 && expected.starts_with("2 labels") && found == "1 labels", "{expected} / {found}");
        let (offset, expected, found) = damage(pair(&images(2), &labels(&[1, 10]), ""));
        assert_eq!((offset, expected.as_str(), found.as_str()), (9, "a label from 0 to 9", "10"));
        let mut wide = images(2);
        wide[15] = 4;
        assert_eq!(damage(pair(&wide, &labels(&[1, 2]), "")).0, 12);
    }

    #[test]
    fn a_header_that_declares_gigabytes_costs_nothing() {
        for count in [u32::MAX, 300_000_000] {
            let mut bytes = images(2);
            bytes[4..8].copy_from_slice(&count.to_be_bytes());
            damage(pair(&bytes, &labels(&[1, 2]), ""));
        }
    }

    #[test]
    fn a_small_file_that_unpacks_to_gigabytes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let count = 40_000_000u32;
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&[&[0, 0, 8, 1], &count.to_be_bytes()[..]].concat()).unwrap();
        for _ in 0..count / 100_000 {
            packer.write_all(&vec![0; 100_000]).unwrap();
        }
        let packed = packer.finish().unwrap();
        assert!(packed.len() < 50_000, "{} bytes", packed.len());
        fs::write(folder.path().join("labels.gz"), packed).unwrap();
        let root = DataRoot(folder.path().to_path_buf());
        let error = read(Place::new("fuzz", &root, &root.join("labels.gz")), &[None]).unwrap_err().to_string();
        assert!(error.contains("at most") && error.contains("40000000"), "{error}");
    }

    #[test]
    fn missing_files_say_how_to_fetch() {
        let folder = tempfile::tempdir().unwrap();
        let root = DataRoot(folder.path().to_owned());
        let error = read(Place::new("mnist", &root, &root.join("mnist/x")), &[None]).unwrap_err();
        assert!(matches!(&error, DataError::Missing { path, .. } if path.ends_with("mnist/x")));
        assert!(error.to_string().contains("ibhost data fetch mnist --data-dir"));
    }
}
