//! Whether two files hold the same once they are unpacked, and the checksum of what a file holds.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::pictures;
use crate::verify::md5_hex;

/// Most unpacked bytes that are looked at.
const MOST: u64 = 1 << 32;

/// The file at `path`, unpacked when its first bytes are those of gzip.
pub(crate) fn unpacked(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(2).read_to_end(&mut first)?;
    file.rewind()?;
    let file = BufReader::with_capacity(1 << 16, file);
    Ok(if first == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file).take(MOST)) } else { Box::new(file.take(MOST)) })
}

/// Whether `path` is a folder or an archive of pictures rather than a file of bytes.
fn holds_pictures(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|end| end == "zip")
}

/// The first byte in which the unpacked contents of two files differ; none where they are pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference(pub(crate) Option<u64>);

/// Where the contents of two files differ first; nothing when they are the same.
pub(crate) fn first_difference(a: &Path, b: &Path) -> io::Result<Option<Difference>> {
    if holds_pictures(a) || holds_pictures(b) {
        let same = match (contents_md5(a), contents_md5(b)) {
            (Ok(a), Ok(b)) => a == b,
            // What cannot be read as pictures is not the same as what can.
            _ => false,
        };
        return Ok((!same).then_some(Difference(None)));
    }
    let (mut a, mut b) = (unpacked(a)?, unpacked(b)?);
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut offset = 0;
    loop {
        let (mut in_left, mut in_right) = (0, 0);
        let broken = [fill(&mut *a, &mut left, &mut in_left)?, fill(&mut *b, &mut right, &mut in_right)?];
        let both = in_left.min(in_right);
        let at = left[..both].iter().zip(&right[..both]).position(|(x, y)| x != y);
        if let Some(at) = at.or((in_left != in_right || broken.contains(&true)).then_some(both)) {
            return Ok(Some(Difference(Some(offset + at as u64))));
        }
        if both == 0 {
            return Ok(None);
        }
        offset += both as u64;
    }
}

/// Reads until `buffer` is full or the stream ends; whether it ends in something that is no gzip.
fn fill(reader: &mut dyn Read, buffer: &mut [u8], filled: &mut usize) -> io::Result<bool> {
    while *filled < buffer.len() {
        match reader.read(&mut buffer[*filled..]) {
            Ok(0) => break,
            Ok(read) => *filled += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof) => return Ok(true),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// md5 of what the file at `path` holds: its unpacked bytes, or its pictures.
pub(crate) fn contents_md5(path: &Path) -> io::Result<String> {
    if holds_pictures(path) {
        return pictures::md5(path).map_err(|wrong| io::Error::new(ErrorKind::InvalidData, wrong.to_string()));
    }
    md5_hex(&mut unpacked(path)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn packed_and_plain_are_compared_by_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes).unwrap();
        let packed = encoder.finish().unwrap();
        std::fs::write(path("plain"), &bytes).unwrap();
        std::fs::write(path("packed"), &packed).unwrap();
        assert_eq!(first_difference(&path("plain"), &path("packed")).unwrap(), None);
        assert_eq!(contents_md5(&path("plain")).unwrap(), contents_md5(&path("packed")).unwrap());
        let mut other = bytes.clone();
        other[150_000] ^= 1;
        for (content, at) in [(other, 150_000), (bytes[..70_000].to_vec(), 70_000), (Vec::new(), 0), (b"<html>".to_vec(), 0)] {
            std::fs::write(path("other"), content).unwrap();
            assert_eq!(first_difference(&path("packed"), &path("other")).unwrap(), Some(Difference(Some(at))));
        }
        std::fs::write(path("cut"), &packed[..packed.len() - 9]).unwrap();
        assert!(first_difference(&path("plain"), &path("cut")).unwrap().is_some());
        assert!(contents_md5(&path("cut")).is_err());
    }
}
