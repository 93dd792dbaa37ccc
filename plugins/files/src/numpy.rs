//! NumPy's `.npy` and `.npz`: numbers of every type in both byte orders, rows or columns first, and words; no pickled objects.

use ibhost_datasets::zip;
use npyz::{DType, Endianness, NpyFile, Order, TypeChar};

use crate::arrays::{Array, Buffer};

/// Longest header accepted, in bytes; NumPy writes 118 for arrays of a plain type.
const MAX_HEADER: usize = 4096;
/// Largest member of an archive, in bytes.
const LARGEST: usize = 1 << 32;

/// The arrays of an archive, by their names in it.
///
/// # Errors
/// What is wrong, and where.
pub fn read_npz(bytes: &[u8]) -> Result<Vec<(String, Array)>, String> {
    let wrong = |error: zip::ZipError| format!("{} is missing at byte {}", error.expected, error.offset);
    let mut arrays = Vec::new();
    for member in zip::members(bytes).map_err(wrong)? {
        let Some(name) = member.name.strip_suffix(".npy") else { continue };
        let content = zip::read(bytes, &member, LARGEST).map_err(wrong)?;
        arrays.push((name.to_owned(), parse(&content).map_err(|problem| format!("array `{name}`: {problem}"))?));
    }
    if arrays.is_empty() { Err("it holds no array".to_owned()) } else { Ok(arrays) }
}

/// The array in the bytes of a `.npy` file.
///
/// # Errors
/// What is wrong.
pub fn parse(bytes: &[u8]) -> Result<Array, String> {
    let start = header_length(bytes)?;
    let header = NpyFile::new(&bytes[..start]).map_err(|error| format!("its NumPy header is not valid: {error}"))?;
    let DType::Plain(kind) = header.dtype() else { return Err("its records have fields; save each as an array of its own".to_owned()) };
    let dims: Vec<usize> = header.shape().iter().map(|&size| size as usize).collect();
    let item = kind.num_bytes().unwrap_or(0);
    let values = &bytes[start..];
    let declared = dims.iter().try_fold(item, |product: usize, &size| product.checked_mul(size));
    if kind.type_char() == TypeChar::RawData || item == 0 && kind.type_char() != TypeChar::UnicodeStr {
        return Err(format!("its type {kind} is not read; Python objects (dtype=object) are pickled, which is never opened"));
    }
    if declared != Some(values.len()) {
        return Err(format!("its header promises {kind} of the sizes {dims:?}, but {} bytes follow it", values.len()));
    }
    let rows;
    let values = if header.order() == Order::Fortran && dims.len() > 1 {
        rows = rows_first(values, &dims, item);
        &rows
    } else {
        values
    };
    let big = kind.endianness() == Endianness::Big;
    macro_rules! numbers {
        ($kind:ty, $buffer:ident, $to:expr) => {{
            let parse = |item: &[u8]| {
                let item = <[u8; size_of::<$kind>()]>::try_from(item).unwrap_or_default();
                if big { <$kind>::from_be_bytes(item) } else { <$kind>::from_le_bytes(item) }
            };
            Buffer::$buffer(values.chunks_exact(item).map(parse).map($to).collect())
        }};
    }
    let buffer = match (kind.type_char(), item) {
        (TypeChar::Bool | TypeChar::Uint, 1) => Buffer::U8(values.to_vec()),
        (TypeChar::Int, 1) => numbers!(i8, F32, f32::from),
        (TypeChar::Int, 2) => numbers!(i16, F32, f32::from),
        (TypeChar::Uint, 2) => numbers!(u16, F32, f32::from),
        (TypeChar::Int, 4) => numbers!(i32, F64, f64::from),
        (TypeChar::Uint, 4) => numbers!(u32, F64, f64::from),
        (TypeChar::Int, 8) => numbers!(i64, F64, |x| x as f64),
        (TypeChar::Uint, 8) => numbers!(u64, F64, |x| x as f64),
        (TypeChar::Float, 2) => numbers!(u16, F32, |x| half::f16::from_bits(x).to_f32()),
        (TypeChar::Float, 4) => numbers!(f32, F32, |x| x),
        (TypeChar::Float, 8) => numbers!(f64, F64, |x| x),
        (TypeChar::UnicodeStr, _) => Buffer::Words(words(values, item, big)?),
        (TypeChar::ByteStr, _) => {
            let word = |item: &[u8]| String::from_utf8_lossy(item).trim_end_matches('\0').to_owned();
            Buffer::Words(values.chunks_exact(item).map(word).collect())
        }
        _ => return Err(format!("its type {kind} is not read")),
    };
    Ok(Array { dims, buffer })
}

/// Where the values begin: behind magic, version and header.
fn header_length(bytes: &[u8]) -> Result<usize, String> {
    let no_header = || "it begins with no NumPy header".to_owned();
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(no_header());
    }
    let (start, length) = match *bytes.get(6..12).ok_or_else(no_header)? {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [_, _, a, b, c, d] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return Err(no_header()),
    };
    if length > MAX_HEADER || bytes.len() < start + length {
        return Err(format!("its header of {length} bytes is too long"));
    }
    Ok(start + length)
}

/// Words of `item` bytes, four for each character, padded with zeros.
fn words(values: &[u8], item: usize, big: bool) -> Result<Vec<String>, String> {
    let character = |b: &[u8]| {
        let b = [b[0], b[1], b[2], b[3]];
        char::from_u32(if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    };
    values
        .chunks_exact(item.max(1))
        .map(|word| {
            let word: Option<String> = word.chunks_exact(4).map(character).collect();
            word.map(|word| word.trim_end_matches('\0').to_owned()).ok_or_else(|| "a word of it is no Unicode text".to_owned())
        })
        .collect()
}

/// Values stored with the first dimension fastest, put in order with the last one fastest.
fn rows_first(stored: &[u8], dims: &[usize], item: usize) -> Vec<u8> {
    let total: usize = dims.iter().product();
    let mut values = Vec::with_capacity(stored.len());
    for mut index in 0..total {
        let (mut place, mut stride) = (0, total);
        for &size in dims.iter().rev() {
            stride /= size;
            place += (index % size) * stride;
            index /= size;
        }
        values.extend_from_slice(&stored[place * item..(place + 1) * item]);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as NumPy writes it.
    fn file(descr: &str, fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    #[test]
    fn numbers_of_every_type_and_order_are_read() {
        let floats: Vec<u8> = [1.5_f64, -2.0].iter().flat_map(|x| x.to_be_bytes()).collect();
        assert_eq!(parse(&file(">f8", false, "2,", &floats)).unwrap(), Array { dims: vec![2], buffer: Buffer::F64(vec![1.5, -2.0]) });
        assert_eq!(parse(&file("|u1", false, "1, 2", &[3, 4])).unwrap().buffer, Buffer::U8(vec![3, 4]));
        assert_eq!(parse(&file("|b1", false, "2,", &[0, 1])).unwrap().buffer, Buffer::U8(vec![0, 1]));
        assert_eq!(parse(&file("<i2", false, "1,", &(-5_i16).to_le_bytes())).unwrap().buffer, Buffer::F32(vec![-5.0]));
        assert_eq!(parse(&file("<f2", false, "1,", &half::f16::from_f32(0.5).to_le_bytes())).unwrap().buffer, Buffer::F32(vec![0.5]));
        // Rows (0, 1, 2) and (3, 4, 5), column by column.
        let columns = parse(&file("|u1", true, "2, 3", &[0, 3, 1, 4, 2, 5])).unwrap();
        assert_eq!(columns, Array { dims: vec![2, 3], buffer: Buffer::U8(vec![0, 1, 2, 3, 4, 5]) });
    }

    #[test]
    fn words_are_read_and_objects_are_not() {
        let text: Vec<u8> = ["cat", "é\0\0"].iter().flat_map(|word| word.chars().flat_map(|c| (c as u32).to_le_bytes())).collect();
        let words = ["cat", "é"].map(String::from).to_vec();
        assert_eq!(parse(&file("<U3", false, "2,", &text)).unwrap().buffer, Buffer::Words(words));
        assert_eq!(parse(&file("|S2", false, "1,", b"a\0")).unwrap().buffer, Buffer::Words(vec!["a".to_owned()]));
        assert!(parse(&file("|O", false, "1,", b"x")).unwrap_err().contains("not"));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        assert!(parse(b"PK").unwrap_err().contains("no NumPy header"));
        assert!(parse(&file("<f4", false, "9999999999, 9999999999", &[])).unwrap_err().contains("promises"));
        assert!(parse(&file("<f4", false, "2,", &[0; 4])).unwrap_err().contains("4 bytes follow"));
        assert!(read_npz(b"nothing").unwrap_err().contains("byte"));
    }
}
