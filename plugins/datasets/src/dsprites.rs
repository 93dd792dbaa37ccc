//! Selected images of the dSprites file, read as a stream: the whole array would take three gigabytes.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;
use ibhost_framework::dataset::{DataError, DataFile};

use crate::file::Place;

/// The published file below the data root.
pub const FILE: &str = "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz";
/// Name of its content in the authors' repository, which publishes no other checksum.
const GIT_BLOB: &str = "d98996d3f8ee1550e06b9d4ed78d0beb478910d5";
const MIRROR: &str = "https://github.com/google-deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz";
/// Images in it.
const IMAGES: usize = 737_280;
/// Bytes of an image.
const PIXELS: usize = 4096;
/// The array of images in the archive.
const MEMBER: &str = "imgs.npy";

/// Signatures of a zip archive's parts.
const END: [u8; 4] = *b"PK\x05\x06";
const DIRECTORY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// The end record has 22 bytes and a comment of at most 65,535.
const END_SEARCH: u64 = 22 + 65_535;

/// The published file, without which the shapes are drawn.
pub fn file() -> DataFile {
    DataFile {
        path: FILE.to_owned(),
        git_blob: Some(GIT_BLOB.to_owned()),
        mirrors: vec![MIRROR.to_owned()],
        optional: true,
        ..DataFile::default()
    }
}

/// The error of a stream that ends too soon or is no deflated one, or of the disk.
fn broken(place: Place<'_>, offset: u64, source: std::io::Error) -> DataError {
    match source.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            place.damaged(offset, "the array of images to its end", source.to_string())
        }
        _ => place.unread()(source),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn double_word(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

/// Compression method of the member and the place its bytes start.
fn find_member(file: &mut File, length: u64, place: Place<'_>) -> Result<(u64, u64), DataError> {
    let mut read_at = |at: u64, length: u64| -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at)).and_then(|_| file.take(length).read_to_end(&mut bytes)).map_err(place.unread())?;
        Ok(bytes)
    };
    let from = length.saturating_sub(END_SEARCH);
    let tail = read_at(from, END_SEARCH)?;
    let end = (0..tail.len().saturating_sub(21)).rev().find(|&at| tail[at..at + 4] == END);
    let end = end.ok_or_else(|| place.damaged(from, "the end record of a zip archive", "none"))?;
    let (size, start) = (double_word(&tail, end + 12), double_word(&tail, end + 16));
    let directory = read_at(start, size)?;
    let mut at = 0;
    while at + 46 <= directory.len() {
        if directory[at..at + 4] != DIRECTORY {
            return Err(place.damaged(start + at as u64, "an entry of the archive's directory", format!("{:?}", &directory[at..at + 4])));
        }
        let (name, extra, comment) = (word(&directory, at + 28), word(&directory, at + 30), word(&directory, at + 32));
        let name_end = at + 46 + name as usize;
        if directory.get(at + 46..name_end) == Some(MEMBER.as_bytes()) {
            let (method, offset) = (word(&directory, at + 10), double_word(&directory, at + 42));
            let header = read_at(offset, 30)?;
            if header.len() < 30 || header[..4] != LOCAL {
                return Err(place.damaged(offset, "the header of the member", format!("{header:?}")));
            }
            return Ok((method, offset + 30 + word(&header, 26) + word(&header, 28)));
        }
        at = name_end + (extra + comment) as usize;
    }
    Err(place.damaged(start, "a member called `imgs.npy`", "none"))
}

/// Reads past the array's header and checks that it is the one of the published images.
fn skip_header(stream: &mut dyn Read, place: Place<'_>) -> Result<u64, DataError> {
    let mut start = [0; 8];
    stream.read_exact(&mut start).map_err(|e| broken(place, 0, e))?;
    if start[..6] != *b"\x93NUMPY" {
        return Err(place.damaged(0, "an array file", format!("{:?}", &start[..6])));
    }
    let mut size = vec![0; if start[6] == 1 { 2 } else { 4 }];
    stream.read_exact(&mut size).map_err(|e| broken(place, 8, e))?;
    let length = size.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
    if length > 65_535 {
        return Err(place.damaged(8, "a header of at most 65,535 bytes", length.to_string()));
    }
    let mut header = vec![0; length];
    stream.read_exact(&mut header).map_err(|e| broken(place, 10, e))?;
    let text: String = header.iter().map(|&b| char::from(b)).filter(|c| !c.is_whitespace()).collect();
    let fits = ["'descr':'|u1'", "'fortran_order':False", "'shape':(737280,64,64)"].iter().all(|part| text.contains(part));
    if fits { Ok((8 + size.len() + length) as u64) } else { Err(place.damaged(10, "bytes of shape (737280, 64, 64)", text)) }
}

/// Bytes (0 or 1) of the images at `positions` of the file at `place`, in that order.
///
/// # Errors
/// [`DataError`] when the file is missing, or not the published archive.
pub fn read(place: Place<'_>, positions: &[usize]) -> Result<Vec<u8>, DataError> {
    let (mut file, length) = place.open()?;
    let (method, start) = find_member(&mut file, length, place)?;
    file.seek(SeekFrom::Start(start)).map_err(place.unread())?;
    let plain = BufReader::with_capacity(1 << 20, file);
    let mut stream: Box<dyn Read> = match method {
        0 => Box::new(plain),
        8 => Box::new(DeflateDecoder::new(plain)),
        other => return Err(place.damaged(start, "a stored or deflated member", format!("method {other}"))),
    };
    let mut offset = skip_header(&mut *stream, place)?;
    // The stream runs forward only: images are taken as they pass and put where they belong.
    let mut wanted: Vec<(usize, usize)> = positions.iter().copied().enumerate().map(|(place, image)| (image, place)).collect();
    wanted.sort_unstable();
    let mut out = vec![0; positions.len() * PIXELS];
    let mut image = vec![0; PIXELS];
    let (mut next, mut at) = (0, 0);
    while next < wanted.len() {
        let (position, to) = wanted[next];
        if position >= IMAGES {
            return Err(DataError::Inconsistent(format!("image {position} asked for, but dSprites has {IMAGES}")));
        }
        while at <= position {
            stream.read_exact(&mut image).map_err(|e| broken(place, offset, e))?;
            (at, offset) = (at + 1, offset + PIXELS as u64);
        }
        if let Some(bad) = image.iter().position(|b| *b > 1) {
            return Err(place.damaged(offset - PIXELS as u64 + bad as u64, "0 or 1", image[bad].to_string()));
        }
        out[to * PIXELS..(to + 1) * PIXELS].copy_from_slice(&image);
        next += 1;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use ibhost_framework::dataset::DataRoot;

    use super::*;

    /// An archive as numpy writes it, with another member first and only the first `images` images.
    fn archive(images: usize, method: u16, shape: &str) -> Vec<u8> {
        let mut array = b"\x93NUMPY\x01\x00".to_vec();
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        array.extend((header.len() as u16).to_le_bytes());
        array.extend(header.bytes());
        array.extend((0..images * PIXELS).map(|i| u8::from((i / PIXELS + i % PIXELS).is_multiple_of(7))));
        let data = if method == 8 {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&array).unwrap();
            encoder.finish().unwrap()
        } else {
            array
        };
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        let mut add = |name: &str, method: u16, data: &[u8], extra: usize| {
            let offset = file.len() as u32;
            file.extend(LOCAL);
            file.extend([20, 0, 0, 0]);
            file.extend(method.to_le_bytes());
            file.extend([0; 16]);
            file.extend((name.len() as u16).to_le_bytes());
            file.extend((extra as u16).to_le_bytes());
            file.extend(name.bytes());
            file.extend(vec![0; extra]);
            file.extend(data);
            directory.extend(DIRECTORY);
            directory.extend([20, 0, 20, 0, 0, 0]);
            directory.extend(method.to_le_bytes());
            directory.extend([0; 16]);
            directory.extend((name.len() as u16).to_le_bytes());
            directory.extend([0; 12]);
            directory.extend(offset.to_le_bytes());
            directory.extend(name.bytes());
        };
        add("metadata.npy", 0, b"something", 0);
        add(MEMBER, method, &data, 20);
        let start = file.len() as u32;
        file.extend(&directory);
        file.extend(END);
        file.extend([0; 8]);
        file.extend((directory.len() as u32).to_le_bytes());
        file.extend(start.to_le_bytes());
        file.extend([0, 0]);
        file
    }

    fn reading(bytes: &[u8], positions: &[usize]) -> Result<Vec<u8>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        read(Place::new("shapes", &DataRoot(folder.path().to_owned()), &path), positions)
    }

    #[test]
    fn selected_images_come_in_the_order_asked_for() {
        for method in [0, 8] {
            let found = reading(&archive(12, method, "(737280, 64, 64)"), &[7, 0, 11, 7]).unwrap();
            for (place, image) in [7, 0, 11, 7].into_iter().enumerate() {
                for pixel in 0..PIXELS {
                    assert_eq!(found[place * PIXELS + pixel], u8::from((image + pixel).is_multiple_of(7)));
                }
            }
        }
    }

    #[test]
    fn what_is_not_the_published_archive_is_named() {
        let error = |bytes: &[u8]| reading(bytes, &[3]).unwrap_err().to_string();
        assert!(error(b"hello").contains("zip archive"));
        assert!(error(&archive(12, 8, "(5, 64, 64)")).contains("(5,64,64)"));
        let cut_off = error(&archive(2, 8, "(737280, 64, 64)"));
        assert!(cut_off.contains("to its end") && cut_off.contains("ibhost data fetch shapes --data-dir"), "{cut_off}");
        let mut cut = archive(12, 0, "(737280, 64, 64)");
        cut.truncate(300);
        assert!(error(&cut).contains("zip archive"));
    }
}
