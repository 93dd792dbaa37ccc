//! Reading of zip archives: the central directory and single members, stored or deflated.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Path inside the archive.
    pub name: String,
    method: u16,
    compressed: usize,
    size: usize,
    checksum: u32,
    header: usize,
}

/// What is wrong with an archive, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipError {
    /// Position in the archive.
    pub offset: usize,
    /// What should be there.
    pub expected: String,
}

const END: [u8; 4] = [b'P', b'K', 5, 6];
const ENTRY: [u8; 4] = [b'P', b'K', 1, 2];
const LOCAL: [u8; 4] = [b'P', b'K', 3, 4];
/// Largest picture that is read, in bytes.
pub(crate) const PICTURE: usize = 1 << 26;
/// Most bytes deflate packs into one.
const MAX_RATIO: usize = 1032;

fn wrong(offset: usize, expected: &str) -> ZipError {
    ZipError { offset, expected: expected.to_owned() }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<usize, ZipError> {
    bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]]))).ok_or_else(|| wrong(at, "a 16-bit number"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, ZipError> {
    bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize).ok_or_else(|| wrong(at, "a 32-bit number"))
}

/// Every file of the archive, in its order; folders are left out.
///
/// # Errors
/// What is missing, and where.
pub fn members(bytes: &[u8]) -> Result<Vec<Member>, ZipError> {
    let from = bytes.len().saturating_sub(22 + usize::from(u16::MAX));
    let end =
        bytes[from..].windows(4).rposition(|window| window == END).ok_or_else(|| wrong(bytes.len(), "the end of a zip archive"))? + from;
    let (count, mut at) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 16)?);
    // A count of all ones means a 64-bit archive: the entries then run up to the end record.
    let mut found = Vec::new();
    while (count == usize::from(u16::MAX) || found.len() < count) && bytes.get(at..at + 4) == Some(&ENTRY) {
        let (name, extra, comment) = (u16_at(bytes, at + 28)?, u16_at(bytes, at + 30)?, u16_at(bytes, at + 32)?);
        let text = bytes.get(at + 46..at + 46 + name).ok_or_else(|| wrong(at + 46, "a file name"))?;
        found.push(Member {
            name: String::from_utf8_lossy(text).into_owned(),
            method: u16_at(bytes, at + 10)? as u16,
            checksum: u32_at(bytes, at + 16)? as u32,
            compressed: u32_at(bytes, at + 20)?,
            size: u32_at(bytes, at + 24)?,
            header: u32_at(bytes, at + 42)?,
        });
        at += 46 + name + extra + comment;
    }
    if found.is_empty() || (count != usize::from(u16::MAX) && found.len() != count) {
        return Err(wrong(at, "an entry of the directory of the archive"));
    }
    found.retain(|member| !member.name.ends_with('/'));
    Ok(found)
}

/// The content of a member of at most `largest` bytes.
///
/// # Errors
/// What is missing, and where.
pub fn read(bytes: &[u8], member: &Member, largest: usize) -> Result<Vec<u8>, ZipError> {
    let at = member.header;
    if bytes.get(at..at + 4) != Some(&LOCAL) || member.size > largest {
        return Err(wrong(at, &format!("the header of a member of at most {largest} bytes")));
    }
    let start = at + 30 + u16_at(bytes, at + 26)? + u16_at(bytes, at + 28)?;
    let packed = bytes.get(start..start + member.compressed).ok_or_else(|| wrong(start, "the content of a member"))?;
    let mut content = Vec::with_capacity(member.size.min(packed.len().saturating_mul(MAX_RATIO)));
    match member.method {
        0 => content.extend_from_slice(packed),
        8 => {
            let mut limited = DeflateDecoder::new(packed).take(member.size as u64 + 1);
            limited.read_to_end(&mut content).map_err(|error| wrong(start, &format!("deflated bytes ({error})")))?;
        }
        _ => return Err(wrong(at, "a stored or deflated member")),
    }
    if content.len() != member.size {
        return Err(wrong(start, &format!("{} bytes of content", member.size)));
    }
    let mut checksum = Crc::new();
    checksum.update(&content);
    if checksum.sum() != member.checksum {
        return Err(wrong(start, &format!("content with the checksum {:#010x}", member.checksum)));
    }
    Ok(content)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::{Compression, write::DeflateEncoder};
    use std::io::Write;

    /// An archive of the given files, every second one deflated.
    pub(crate) fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (i, (name, content)) in files.iter().enumerate() {
            let packed = if i % 2 == 0 {
                content.clone()
            } else {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            };
            let method = if i % 2 == 0 { 0u16 } else { 8 };
            let header = bytes.len() as u32;
            let mut checksum = Crc::new();
            checksum.update(content);
            let sizes = [checksum.sum(), packed.len() as u32, content.len() as u32];
            let common = |out: &mut Vec<u8>| {
                out.extend([20, 0, 0, 0]);
                out.extend(method.to_le_bytes());
                out.extend([0; 4]);
                for size in sizes {
                    out.extend(size.to_le_bytes());
                }
                out.extend((name.len() as u16).to_le_bytes());
                out.extend([0, 0]);
            };
            bytes.extend(LOCAL);
            common(&mut bytes);
            bytes.extend(name.as_bytes());
            bytes.extend(packed);
            directory.extend(ENTRY);
            directory.extend([20, 0]);
            common(&mut directory);
            directory.extend([0; 10]);
            directory.extend(header.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let start = bytes.len() as u32;
        let size = directory.len() as u32;
        bytes.extend(directory);
        bytes.extend(END);
        bytes.extend([0; 4]);
        bytes.extend((files.len() as u16).to_le_bytes());
        bytes.extend((files.len() as u16).to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn stored_and_deflated_members_are_read_and_damage_is_noticed() {
        let files = [("a/x.txt", b"hello".to_vec()), ("a/y.txt", vec![7; 1000]), ("a/", Vec::new())];
        let bytes = archive(&files);
        let found = members(&bytes).unwrap();
        assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a/x.txt", "a/y.txt"]);
        assert_eq!(
            (read(&bytes, &found[0], PICTURE).unwrap(), read(&bytes, &found[1], PICTURE).unwrap()),
            (b"hello".to_vec(), vec![7; 1000])
        );
        assert!(members(&bytes[..bytes.len() - 30]).is_err() && members(&[]).is_err());
        let mut damaged = bytes.clone();
        // The second byte of the deflated member: its local header starts at 42 and takes 30 bytes and the name.
        damaged[80] ^= 0xff;
        assert!(read(&damaged, &found[1], PICTURE).is_err());
        // A byte of the stored member, after its local header of 30 bytes and the name, which its size does not tell of.
        damaged[40] ^= 1;
        let error = read(&damaged, &found[0], PICTURE).unwrap_err();
        assert!(error.offset == 37 && error.expected.contains("checksum"), "{error:?}");
        assert!(read(&bytes[..40], &found[1], PICTURE).is_err());
    }
}
