//! Reading and writing of NumPy `.npy` files that trusts no number a file declares about itself.

use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::DataError;
use npyz::{DType, Endianness, NpyFile, Order, TypeChar, TypeStr, WriterBuilder};

/// Longest header accepted, in bytes; NumPy writes 118 for arrays of a plain type.
const MAX_HEADER: usize = 4096;
/// Deepest nesting of brackets accepted in a header.
const MAX_BRACKETS: usize = 8;

/// An open array whose header has been checked against the size of the file.
#[derive(Debug)]
pub struct Array {
    /// The file.
    pub path: PathBuf,
    /// Size along each dimension, slowest first.
    pub shape: Vec<usize>,
    kind: TypeStr,
    item: usize,
    /// Position in the file of the next value, as far as it is read in its order.
    position: u64,
    data: Data,
}

/// Where the values come from, row by row.
#[derive(Debug)]
enum Data {
    /// The file has them in this order.
    File(BufReader<File>),
    /// The file has them column by column; they were put in order.
    Memory(Cursor<Vec<u8>>),
}

impl Array {
    /// Opens `path` and checks magic, version and size. The values of an array in column order (Fortran's) are read and put in row order;
    /// no others are read yet.
    ///
    /// # Errors
    /// [`DataError`] naming the file, the place, the expectation and the finding.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let io = |action, source| DataError::Io { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(|e| io("open", e))?;
        let size = file.metadata().map_err(|e| io("read", e))?.len();
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let head = read_header(path, &mut reader)?;
        let position = head.len() as u64;
        let header = NpyFile::new(Cursor::new(&head)).map_err(|e| damaged(path, 10, "a NumPy header", &e.to_string()))?;
        let DType::Plain(kind) = header.dtype() else {
            return Err(damaged(path, 10, "an array of a plain type", &header.dtype().descr()));
        };
        let item = kind.num_bytes().unwrap_or(0);
        let declared = header.shape().iter().try_fold(item as u64, |product, &n| product.checked_mul(n));
        let found = size.saturating_sub(position);
        if item == 0 || declared != Some(found) {
            let bytes = declared.map_or_else(|| "more than any disk holds".to_owned(), |bytes| format!("{bytes} bytes"));
            let expected = format!("the values of {kind} {:?}, {bytes}", header.shape());
            return Err(damaged(path, position, &expected, &format!("{found} bytes")));
        }
        let shape: Vec<usize> = header.shape().iter().map(|&n| n as usize).collect();
        let data = if header.order() == Order::C || shape.len() < 2 {
            Data::File(reader)
        } else {
            let mut stored = vec![0; found as usize];
            reader.read_exact(&mut stored).map_err(|e| read_error(path, position, &format!("{found} bytes"), e))?;
            Data::Memory(Cursor::new(row_by_row(&stored, &shape, item)))
        };
        Ok(Self { path: path.to_owned(), shape, kind, item, position, data })
    }

    /// Demands unsigned bytes of shape `[n, tail...]` and returns n, the number of rows.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] stating both shapes.
    pub fn expect_bytes(&self, tail: &[usize]) -> Result<usize, DataError> {
        let bytes = self.kind.type_char() == TypeChar::Uint && self.item == 1;
        match self.shape.split_first() {
            Some((&rows, rest)) if bytes && rest == tail => Ok(rows),
            _ => Err(damaged(&self.path, 10, &format!("unsigned bytes |u1 of shape [n, then {tail:?}]"), &self.describe())),
        }
    }

    /// The next `count` bytes of the data.
    ///
    /// # Errors
    /// [`DataError`] when the file ends or cannot be read.
    pub fn next_bytes(&mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; count];
        let read = match &mut self.data {
            Data::File(reader) => reader.read_exact(&mut bytes),
            Data::Memory(values) => values.read_exact(&mut bytes),
        };
        read.map_err(|e| read_error(&self.path, self.position, &format!("{count} more bytes"), e))?;
        self.position += count as u64;
        Ok(bytes)
    }

    /// All values as class numbers below `classes`; any integer type is taken, and a column `[n, 1]` or row as well as `[n]`.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] for another type or shape, or naming the first value that is no class.
    pub fn labels(mut self, classes: usize) -> Result<Vec<u8>, DataError> {
        let integer = matches!(self.kind.type_char(), TypeChar::Int | TypeChar::Uint) && self.item <= 8;
        let one_line = !self.shape.is_empty() && self.shape.iter().filter(|&&size| size != 1).count() <= 1;
        if !integer || !one_line {
            return Err(damaged(&self.path, 10, "integers of shape [n] or [n, 1]", &self.describe()));
        }
        let count: usize = self.shape.iter().product();
        let start = self.position;
        let bytes = self.next_bytes(count * self.item)?;
        let big = self.kind.endianness() == Endianness::Big;
        let label = |(index, value): (usize, &[u8])| {
            let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
            let value = if big { value.iter().fold(0, join) } else { value.iter().rev().fold(0, join) };
            u8::try_from(value).ok().filter(|&v| usize::from(v) < classes).ok_or_else(|| {
                let expected = format!("a label from 0 to {}", classes.saturating_sub(1));
                damaged(&self.path, start + (index * self.item) as u64, &expected, &value.to_string())
            })
        };
        bytes.chunks_exact(self.item).enumerate().map(label).collect()
    }

    /// All values of an array `[n, columns]` of little-endian `float64`, row by row.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] for another type or shape.
    pub fn rows_of_f64(mut self, columns: usize) -> Result<Vec<Vec<f64>>, DataError> {
        let doubles = self.kind.type_char() == TypeChar::Float && self.item == 8 && self.kind.endianness() == Endianness::Little;
        if !doubles || self.shape.len() != 2 || self.shape[1] != columns {
            return Err(damaged(&self.path, 10, &format!("<f8 of shape [n, {columns}]"), &self.describe()));
        }
        let bytes = self.next_bytes(self.shape[0] * columns * 8)?;
        let row = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect();
        Ok(bytes.chunks_exact(columns * 8).map(row).collect())
    }

    fn describe(&self) -> String {
        format!("{} of shape {:?}", self.kind, self.shape)
    }
}

/// The values of `item` bytes of an array of `shape` that are `stored` with the first index running fastest, with the last running fastest.
fn row_by_row(stored: &[u8], shape: &[usize], item: usize) -> Vec<u8> {
    let mut steps = vec![item; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis] * shape[axis];
    }
    let mut out = vec![0; stored.len()];
    let mut index = vec![0; shape.len()];
    let mut to = 0;
    for value in stored.chunks_exact(item) {
        out[to..to + item].copy_from_slice(value);
        for ((index, &size), &step) in index.iter_mut().zip(shape).zip(&steps) {
            *index += 1;
            to += step;
            if *index < size {
                break;
            }
            to -= step * size;
            *index = 0;
        }
    }
    out
}

/// The bytes before the data, bounded in size and in nesting so that the parser of the header cannot be made to overflow.
fn read_header(path: &Path, reader: &mut impl Read) -> Result<Vec<u8>, DataError> {
    let mut head = vec![0; 10];
    reader.read_exact(&mut head).map_err(|e| read_error(path, 0, "a NumPy file", e))?;
    if !head.starts_with(b"\x93NUMPY") {
        return Err(damaged(path, 0, "the magic bytes 93 4e 55 4d 50 59 of a NumPy file", &format!("{:02x?}", &head[..6])));
    }
    // Versions 2 and 3 have a length of four bytes.
    if head[6] >= 2 {
        head.resize(12, 0);
        reader.read_exact(&mut head[10..]).map_err(|e| read_error(path, 10, "the length of the header", e))?;
    }
    let length = head[8..].iter().rev().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    if length > MAX_HEADER {
        return Err(damaged(path, 8, &format!("a header of at most {MAX_HEADER} bytes"), &length.to_string()));
    }
    let start = head.len();
    head.resize(start + length, 0);
    reader.read_exact(&mut head[start..]).map_err(|e| read_error(path, start as u64, &format!("a header of {length} bytes"), e))?;
    if head[start..].iter().filter(|c| matches!(c, b'(' | b'[' | b'{')).count() > MAX_BRACKETS {
        return Err(damaged(path, start as u64, "the header of an array of a plain type", "deeply nested brackets"));
    }
    Ok(head)
}

fn read_error(path: &Path, offset: u64, expected: &str, source: std::io::Error) -> DataError {
    match source.kind() {
        ErrorKind::UnexpectedEof => damaged(path, offset, expected, "the end of the file"),
        _ => DataError::Io { action: "read", path: path.to_owned(), source },
    }
}

/// The corruption archives are no registered data sets, so there is no fetch command to advise.
fn damaged(path: &Path, offset: u64, expected: &str, found: &str) -> DataError {
    DataError::Inconsistent(format!(
        "`{}` is damaged at byte {offset}: expected {expected}, found {found}; unpack it anew from its archive",
        path.display()
    ))
}

/// A two-dimensional `float64` array with rows of `columns` values as the bytes of a `.npy` file.
///
/// # Errors
/// What the encoder refuses.
pub fn encode_rows(values: &[f64], columns: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let shape = [(values.len() / columns.max(1)) as u64, columns as u64];
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()?;
    Ok(bytes)
}

/// Writes arrays as NumPy would, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use npyz::{AutoSerialize, WriterBuilder};

    /// An array of bytes given row by row, stored column by column.
    pub(crate) fn write_by_column(path: &Path, shape: &[u64], values: &[u8]) {
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape).order(npyz::Order::Fortran);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        let steps: Vec<u64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        for at in 0..values.len() as u64 {
            let (mut rest, mut from) = (at, 0);
            for (size, step) in shape.iter().zip(&steps) {
                from += rest % size * step;
                rest /= size;
            }
            writer.push(&values[from as usize]).unwrap();
        }
        writer.finish().unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// An array of any plain type.
    pub(crate) fn write<T: AutoSerialize + Copy>(path: &Path, shape: &[u64], values: &[T]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Result<Array, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        Array::open(&path)
    }

    fn file(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        text += &" ".repeat((64 - (text.len() + 11) % 64) % 64);
        text.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn images_are_read_piece_by_piece() {
        let mut array = open(&file("|u1", false, "(3, 2, 1)", &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(array.expect_bytes(&[2, 1]).unwrap(), 3);
        assert!(array.expect_bytes(&[2]).unwrap_err().to_string().contains("|u1 of shape [3, 2, 1]"));
        assert_eq!(array.next_bytes(4).unwrap(), [1, 2, 3, 4]);
        assert_eq!(array.next_bytes(2).unwrap(), [5, 6]);
        assert!(array.next_bytes(1).unwrap_err().to_string().contains("the end of the file"));
    }

    #[test]
    fn labels_of_every_integer_type() {
        assert_eq!(open(&file("|u1", false, "(3,)", &[0, 9, 4])).unwrap().labels(10).unwrap(), [0, 9, 4]);
        assert_eq!(open(&file("<i4", false, "(2,)", &[1, 0, 0, 0, 7, 0, 0, 0])).unwrap().labels(10).unwrap(), [1, 7]);
        assert_eq!(open(&file(">i8", false, "(1,)", &[0, 0, 0, 0, 0, 0, 0, 5])).unwrap().labels(10).unwrap(), [5]);
        let error = open(&file("<i2", false, "(2,)", &[1, 0, 255, 255])).unwrap().labels(10).unwrap_err().to_string();
        assert!(error.contains("byte 130") && error.contains("a label from 0 to 9"), "{error}");
        assert!(open(&file("<f4", false, "(1,)", &[0; 4])).unwrap().labels(10).unwrap_err().to_string().contains("<f4"));
    }

    #[test]
    fn columns_and_column_order_are_read_as_rows_are() {
        assert_eq!(
            open(&file("<i8", false, "(2, 1)", &[[7, 0, 0, 0], [0; 4], [2, 0, 0, 0], [0; 4]].concat())).unwrap().labels(10).unwrap(),
            [7, 2]
        );
        assert_eq!(open(&file("|u1", true, "(3, 1)", &[4, 5, 6])).unwrap().labels(10).unwrap(), [4, 5, 6]);
        assert!(open(&file("|u1", false, "(2, 2)", &[0; 4])).unwrap().labels(10).unwrap_err().to_string().contains("[n, 1]"));
        // Value 100 a + 10 b + c at [a, b, c], the first index running fastest.
        let of = |a: u8, b: u8, c: u8| 100 * a + 10 * b + c;
        let columns: Vec<u8> = (0..4).flat_map(|c| (0..3).flat_map(move |b| (0..2).map(move |a| of(a, b, c)))).collect();
        let rows: Vec<u8> = (0..2).flat_map(|a| (0..3).flat_map(move |b| (0..4).map(move |c| of(a, b, c)))).collect();
        let mut array = open(&file("|u1", true, "(2, 3, 4)", &columns)).unwrap();
        assert_eq!((array.expect_bytes(&[3, 4]).unwrap(), array.next_bytes(24).unwrap()), (2, rows));
        let doubles = |values: [f64; 4]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let array = open(&file("<f8", true, "(2, 2)", &doubles([1.0, 3.0, 2.0, 4.0]))).unwrap();
        assert_eq!(array.rows_of_f64(2).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    }

    #[test]
    fn lying_headers_are_refused_before_anything_is_allocated() {
        let cases: [(Vec<u8>, &str); 8] = [
            (file("|u1", false, "(4000000000000, 28, 28, 1)", &[0; 9]), "9 bytes"),
            (file("|u1", false, "(18446744073709551615, 3)", &[0; 9]), "more than any disk"),
            (file("|u1", false, "(9,)", &[0; 8]), "8 bytes"),
            (file("|u1", false, "(9,)", &[0; 10]), "10 bytes"),
            (file("|u1", true, "(3, 3)", &[0; 8]), "8 bytes"),
            (file("|u1", false, &"(".repeat(500), &[]), "nested"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "4294967295"),
            (b"PK\x03\x04 not numpy".to_vec(), "magic"),
        ];
        for (bytes, part) in cases {
            let error = open(&bytes).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("a.npy"), "{part}: {error}");
        }
        let whole = file("|u1", false, "(3,)", &[1, 2, 3]);
        for cut in 0..whole.len() {
            assert!(open(&whole[..cut]).is_err());
        }
    }

    #[test]
    fn rows_come_back() {
        let mut array = open(&encode_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap()).unwrap();
        assert_eq!((array.shape.as_slice(), array.describe().as_str()), (&[2, 3][..], "<f8 of shape [2, 3]"));
        assert_eq!(array.next_bytes(16).unwrap()[8..], 2f64.to_le_bytes());
        let whole = || open(&encode_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap()).unwrap();
        assert_eq!(whole().rows_of_f64(3).unwrap(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert!(whole().rows_of_f64(2).unwrap_err().to_string().contains("[n, 2]"));
    }
}
