//! IDX files of every type of number: two zero bytes, the type, the number of dimensions, the sizes and the values, most significant byte first.

use crate::arrays::{Array, Buffer};

/// Dimensions of an array at most.
const MAX_DIMS: usize = 4;

/// The array in `bytes`.
///
/// # Errors
/// What was expected, and at which byte.
pub fn parse(bytes: &[u8]) -> Result<Array, String> {
    let [0, 0, kind, count, ..] = *bytes else {
        return Err("it begins with no IDX header of two zero bytes, a type and a count".to_owned());
    };
    let count = usize::from(count);
    if !(1..=MAX_DIMS).contains(&count) {
        return Err(format!("byte 3 says {count} dimensions; 1 to {MAX_DIMS} are read"));
    }
    let sizes = bytes.get(4..4 + 4 * count).ok_or_else(|| format!("it ends within its {count} sizes"))?;
    let dims: Vec<usize> = sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let item = match kind {
        0x08 | 0x09 => 1,
        0x0B => 2,
        0x0C | 0x0D => 4,
        0x0E => 8,
        _ => return Err(format!("byte 2 is the type {kind:#04x}, which IDX does not have")),
    };
    let values = &bytes[4 + 4 * count..];
    let declared = dims.iter().try_fold(item, |product: usize, &size| product.checked_mul(size));
    if declared != Some(values.len()) {
        return Err(format!("its header promises the sizes {dims:?} of {item} bytes each, but {} bytes follow it", values.len()));
    }
    let items = values.chunks_exact(item);
    let buffer = match kind {
        0x08 => Buffer::U8(values.to_vec()),
        0x09 => Buffer::F32(values.iter().map(|&b| f32::from(b as i8)).collect()),
        0x0B => Buffer::F32(items.map(|b| f32::from(i16::from_be_bytes([b[0], b[1]]))).collect()),
        0x0C => Buffer::F64(items.map(|b| f64::from(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))).collect()),
        0x0D => Buffer::F32(items.map(|b| f32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect()),
        _ => Buffer::F64(items.map(|b| f64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).collect()),
    };
    Ok(Array { dims, buffer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: u8, dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    #[test]
    fn every_type_of_number_is_read() {
        assert_eq!(parse(&file(0x08, &[2, 1], &[1, 255])).unwrap(), Array { dims: vec![2, 1], buffer: Buffer::U8(vec![1, 255]) });
        assert_eq!(parse(&file(0x09, &[1], &[255])).unwrap().buffer, Buffer::F32(vec![-1.0]));
        assert_eq!(parse(&file(0x0B, &[1], &(-300_i16).to_be_bytes())).unwrap().buffer, Buffer::F32(vec![-300.0]));
        assert_eq!(parse(&file(0x0C, &[1], &i32::MIN.to_be_bytes())).unwrap().buffer, Buffer::F64(vec![f64::from(i32::MIN)]));
        assert_eq!(parse(&file(0x0D, &[1], &0.5_f32.to_be_bytes())).unwrap().buffer, Buffer::F32(vec![0.5]));
        assert_eq!(parse(&file(0x0E, &[1], &0.1_f64.to_be_bytes())).unwrap().buffer, Buffer::F64(vec![0.1]));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        for (bytes, word) in [
            (vec![0, 0], "begins with no IDX header"),
            (file(0x0A, &[1], &[0]), "type 0x0a"),
            (file(0x08, &[u32::MAX, u32::MAX, u32::MAX, 9], &[]), "promises"),
            (file(0x0D, &[2], &[0; 4]), "4 bytes follow"),
            (vec![0, 0, 8, 9, 0], "9 dimensions"),
        ] {
            assert!(parse(&bytes).unwrap_err().contains(word), "{word}");
        }
    }
}
