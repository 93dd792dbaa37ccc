//! Reader of MATLAB level 5 files (`.mat`, "version 6" and "version 7"): named numeric arrays, plain or zlib-compressed, that trusts no
//! number a file declares about itself.

use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;
use ibhost_framework::dataset::{DataError, DataRoot};

use crate::file::Place;

/// Bytes of the file header.
const HEADER: u64 = 128;
/// Largest array accepted, in bytes as stored; ten times SVHN.
const MAX_ARRAY: u64 = 1 << 31;
/// Most bytes a compressed array may unpack to for each byte of the file, and beside that [`UNPACKED_FREE`].
const MAX_RATIO: u64 = 100;
/// Bytes any compressed array may unpack to: room for one-hot labels, which compress extremely well.
const UNPACKED_FREE: u64 = 1 << 26;
/// Dimensions of an array at most.
const MAX_DIMS: usize = 4;
/// Bytes of a variable's name at most; MATLAB allows 63.
const MAX_NAME: u64 = 4096;

/// Data types of the elements of a file.
mod kind {
    pub const INT32: u32 = 5;
    pub const UINT32: u32 = 6;
    pub const INT8: u32 = 1;
    pub const UINT8: u32 = 2;
    pub const MATRIX: u32 = 14;
    pub const COMPRESSED: u32 = 15;
}

/// Values of an array, in the order of the file: the first dimension runs fastest.
#[derive(Clone, Debug, PartialEq)]
pub enum MatValues {
    /// Stored as unsigned bytes, whatever class MATLAB gives the array.
    U8(Vec<u8>),
    /// Stored as any other number.
    F64(Vec<f64>),
}

/// One numeric array of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct MatArray {
    /// The file it comes from.
    pub path: PathBuf,
    /// Name of the variable.
    pub name: String,
    /// Two to four sizes; the first dimension runs fastest in the values.
    pub dims: Vec<usize>,
    /// As many as the product of the sizes.
    pub values: MatValues,
}

impl MatArray {
    /// Value at a position in file order.
    ///
    /// # Panics
    /// When there are not that many values.
    pub fn at(&self, index: usize) -> f64 {
        match &self.values {
            MatValues::U8(values) => f64::from(values[index]),
            MatValues::F64(values) => values[index],
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.values {
            MatValues::U8(values) => values.len(),
            MatValues::F64(values) => values.len(),
        }
    }

    /// Whether some dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads the variables `wanted` of the file at `place`, in the order asked for. Others are passed over without being unpacked.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Io`], or [`DataError::Damaged`] with the byte offset (that of the variable, inside compressed
/// ones) when the file is not a level 5 file, is cut or lies about its sizes, or a wanted variable is absent, complex, not numeric or has
/// more than four dimensions.
pub fn read_mat(place: Place<'_>, wanted: &[&str]) -> Result<Vec<MatArray>, DataError> {
    let mut found = variables(place, Some(wanted))?;
    let names: Vec<String> = found.iter().map(|(name, _)| format!("`{name}`")).collect();
    let names = if names.is_empty() { "no variable".to_owned() } else { format!("only {}", names.join(", ")) };
    let length = || std::fs::metadata(place.path).map_or(0, |metadata| metadata.len());
    let mut array = |wanted: &&str| found.iter_mut().find_map(|(name, array)| (name == wanted).then(|| array.take()).flatten());
    let absent = |wanted: &str| place.damaged(length(), format!("a variable `{wanted}`"), names.clone());
    wanted.iter().map(|wanted| array(wanted).ok_or_else(|| absent(wanted))).collect()
}

/// Reads every array of real numbers of the file at `path`, for the data set `name`; other variables are passed over.
///
/// # Errors
/// As [`read_mat`], but for what is absent or no array of real numbers.
pub fn read_all(name: &str, path: &Path) -> Result<Vec<MatArray>, DataError> {
    let root = DataRoot(PathBuf::new());
    Ok(variables(Place::new(name, &root, path), None)?.into_iter().filter_map(|(_, array)| array).collect())
}

/// The variables of a file with the arrays of those that are wanted, or of all that are numbers; once the wanted ones are found, no others.
fn variables(place: Place<'_>, wanted: Option<&[&str]>) -> Result<Vec<(String, Option<MatArray>)>, DataError> {
    let (file, length) = place.open()?;
    let damaged = |offset: u64, fault: Fault| match fault {
        Fault::Io(source) if source.kind() != ErrorKind::UnexpectedEof && source.kind() != ErrorKind::InvalidInput => {
            place.unread()(source)
        }
        Fault::Io(source) => place.damaged(offset, "a whole zlib stream", source.to_string()),
        Fault::Format { expected, found } => place.damaged(offset, expected, found),
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let big_endian = header(&mut reader, length).map_err(|fault| damaged(0, fault))?;

    let mut found = Vec::new();
    let mut left = wanted.map_or(usize::MAX, <[&str]>::len);
    let mut at = HEADER;
    while at < length && left > 0 {
        reader.seek(SeekFrom::Start(at)).map_err(place.unread())?;
        let mut element = Source { reader: &mut reader, left: length - at, big_endian };
        let tag = element.tag().map_err(|fault| damaged(at, fault))?;
        let variable = match tag.kind {
            kind::MATRIX => matrix(element.within(tag.size, "the variable").map_err(|f| damaged(at, f))?, wanted, MAX_ARRAY),
            kind::COMPRESSED => {
                let packed = element.within(tag.size, "the compressed variable").map_err(|fault| damaged(at, fault))?;
                compressed(packed, wanted, length)
            }
            _ => Ok(None),
        };
        if let Some((variable, array)) = variable.map_err(|fault| damaged(at, fault))? {
            let array = array.map(|(dims, values)| MatArray { path: place.path.to_owned(), name: variable.clone(), dims, values });
            left -= usize::from(array.is_some());
            found.push((variable, array));
        }
        // Elements are padded to eight bytes, compressed ones are not.
        at += match (tag.kind, tag.small) {
            (_, Some(_)) => 8,
            (kind::COMPRESSED, None) => 8 + tag.size,
            (_, None) => 8 + tag.size.next_multiple_of(8),
        };
    }
    Ok(found)
}

/// Why an element could not be read.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    Format { expected: String, found: String },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn wrong<T>(expected: impl Into<String>, found: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Format { expected: expected.into(), found: found.into() })
}

/// Checks the file header; whether numbers are stored with the most significant byte first.
fn header(reader: &mut impl Read, length: u64) -> Result<bool, Fault> {
    if length < HEADER {
        return wrong("a level 5 MATLAB file with a header of 128 bytes", format!("{length} bytes"));
    }
    let mut bytes = [0; HEADER as usize];
    reader.read_exact(&mut bytes)?;
    let big_endian = match &bytes[126..128] {
        b"IM" => false,
        b"MI" => true,
        _ => return wrong("a level 5 MATLAB file (`IM` or `MI` at byte 126)", format!("{:?}", &bytes[126..128])),
    };
    let version = if big_endian { [bytes[124], bytes[125]] } else { [bytes[125], bytes[124]] };
    match version {
        [1, _] => Ok(big_endian),
        [2, _] => wrong("a level 5 MATLAB file", "version 7.3, which is HDF5; save it with `-v7`"),
        [major, minor] => wrong("a level 5 MATLAB file", format!("version {major}.{minor}")),
    }
}

/// Type and size in bytes of an element; small elements carry their data in the tag.
struct Tag {
    kind: u32,
    size: u64,
    small: Option<[u8; 4]>,
}

/// Bytes of which a known number is left.
struct Source<'a> {
    reader: &'a mut dyn Read,
    left: u64,
    big_endian: bool,
}

impl Source<'_> {
    fn take(&mut self, into: &mut [u8], what: &str) -> Result<(), Fault> {
        let size = into.len() as u64;
        if size > self.left {
            return wrong(format!("{size} bytes of {what}"), format!("{} bytes", self.left));
        }
        self.left -= size;
        Ok(self.reader.read_exact(into)?)
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn tag(&mut self) -> Result<Tag, Fault> {
        let mut bytes = [0; 8];
        self.take(&mut bytes, "an element's tag")?;
        let [a, b, c, d, data @ ..] = bytes;
        let first = self.u32([a, b, c, d]);
        Ok(if first >> 16 == 0 {
            Tag { kind: first, size: u64::from(self.u32(data)), small: None }
        } else {
            Tag { kind: first & 0xffff, size: u64::from(first >> 16), small: Some(data) }
        })
    }

    /// The next `size` bytes.
    fn within(&mut self, size: u64, what: &str) -> Result<Source<'_>, Fault> {
        if size > self.left {
            return wrong(format!("{size} bytes of {what}"), format!("{} bytes", self.left));
        }
        self.left -= size;
        Ok(Source { reader: &mut *self.reader, left: size, big_endian: self.big_endian })
    }

    /// Type and data of an element of at most `most` bytes, and its padding.
    fn element(&mut self, most: u64, what: &str) -> Result<(u32, Vec<u8>), Fault> {
        let tag = self.tag()?;
        if tag.size > most {
            return wrong(format!("{what} of at most {most} bytes"), format!("{} bytes", tag.size));
        }
        if let Some(data) = tag.small {
            return match data.get(..tag.size as usize) {
                Some(data) => Ok((tag.kind, data.to_vec())),
                None => wrong(format!("{what} of at most 4 bytes in a small element"), format!("{} bytes", tag.size)),
            };
        }
        if tag.size > self.left {
            return wrong(format!("{} bytes of {what}", tag.size), format!("{} bytes", self.left));
        }
        let mut data = vec![0; tag.size as usize];
        self.take(&mut data, what)?;
        // The last element of a compressed variable may lack its padding.
        let padding = (tag.size.next_multiple_of(8) - tag.size).min(self.left) as usize;
        self.take(&mut [0; 8][..padding], "padding")?;
        Ok((tag.kind, data))
    }
}

/// Name of a variable, and its sizes and values when it is wanted.
type Variable = Option<(String, Option<(Vec<usize>, MatValues)>)>;

/// Reads a compressed variable of a file of `length` bytes.
fn compressed(packed: Source<'_>, wanted: Option<&[&str]>, length: u64) -> Result<Variable, Fault> {
    let limit = MAX_ARRAY.min(UNPACKED_FREE + MAX_RATIO * length);
    let mut unpacked = ZlibDecoder::new(BufReader::new(packed.reader.take(packed.left)));
    let mut outer = Source { reader: &mut unpacked, left: 8, big_endian: packed.big_endian };
    let tag = outer.tag()?;
    if tag.kind != kind::MATRIX {
        return wrong("a variable in the compressed element", format!("an element of type {}", tag.kind));
    }
    let inner = Source { reader: &mut unpacked, left: tag.size, big_endian: packed.big_endian };
    let variable = matrix(inner, wanted, limit)?;
    if let Some((_, Some(_))) = variable {
        // Reading to the end compares the checksum; nothing may follow but padding.
        let rest = io::copy(&mut unpacked.by_ref().take(16), &mut io::sink())?;
        if rest > 8 {
            return wrong("the end of the compressed variable", "more data");
        }
    }
    Ok(variable)
}

/// Reads a variable whose values take at most `limit` bytes.
fn matrix(mut source: Source<'_>, wanted: Option<&[&str]>, limit: u64) -> Result<Variable, Fault> {
    let (kind_of_flags, flags) = source.element(8, "array flags")?;
    let Ok([first, _]) = <[[u8; 4]; 2]>::try_from(flags.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect::<Vec<_>>()) else {
        return wrong("8 bytes of array flags", format!("{} bytes", flags.len()));
    };
    if kind_of_flags != kind::UINT32 {
        return wrong("array flags of type 6", format!("type {kind_of_flags}"));
    }
    let flags = source.u32(first);
    let (kind_of_dims, sizes) = source.element(4 * 64, "array sizes")?;
    if kind_of_dims != kind::INT32 || !sizes.len().is_multiple_of(4) {
        return wrong("array sizes of type 5", format!("{} bytes of type {kind_of_dims}", sizes.len()));
    }
    let (kind_of_name, variable) = source.element(MAX_NAME, "a name")?;
    if kind_of_name != kind::INT8 && kind_of_name != kind::UINT8 {
        return wrong("a name of type 1", format!("type {kind_of_name}"));
    }
    let variable = String::from_utf8_lossy(&variable).into_owned();
    let class = flags & 0xff;
    let passed_over = match wanted {
        Some(wanted) => !wanted.contains(&variable.as_str()),
        None => !(6..=15).contains(&class) || flags & 0x0800 != 0 || sizes.len() > 4 * MAX_DIMS,
    };
    if passed_over {
        return Ok(Some((variable, None)));
    }

    let expected = format!("a numeric array of real numbers in `{variable}`");
    if !(6..=15).contains(&class) {
        let classes = ["no class", "a cell array", "a structure", "an object", "text", "a sparse matrix"];
        return wrong(expected, classes.get(class as usize).map_or_else(|| format!("class {class}"), |&class| class.to_owned()));
    }
    if flags & 0x0800 != 0 {
        return wrong(expected, "complex numbers");
    }
    let mut dims = Vec::with_capacity(MAX_DIMS);
    for size in sizes.chunks_exact(4) {
        match i32::try_from(i64::from(source.u32([size[0], size[1], size[2], size[3]]).cast_signed())) {
            Ok(size) if size >= 0 => dims.push(size as usize),
            _ => return wrong(format!("sizes of `{variable}` that are not negative"), format!("{size:?}")),
        }
    }
    if !(2..=MAX_DIMS).contains(&dims.len()) {
        return wrong(format!("2 to {MAX_DIMS} dimensions of `{variable}`"), format!("{}", dims.len()));
    }
    let Some(count) = dims.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64)) else {
        return wrong(format!("a number of values of `{variable}`"), format!("sizes {dims:?}"));
    };
    let values = values(&mut source, &variable, count, limit)?;
    Ok(Some((variable, Some((dims, values)))))
}

/// Reads the real part of a numeric array of `count` values.
fn values(source: &mut Source<'_>, variable: &str, count: u64, limit: u64) -> Result<MatValues, Fault> {
    let tag = source.tag()?;
    let Some(width) = width_of(tag.kind) else {
        return wrong(format!("numbers in `{variable}`"), format!("data of type {}", tag.kind));
    };
    if count.checked_mul(width as u64) != Some(tag.size) {
        return wrong(format!("{count} values of {width} bytes in `{variable}`"), format!("{} bytes", tag.size));
    }
    if tag.size > limit {
        return wrong(format!("at most {limit} bytes in `{variable}` for a file of this size"), format!("{} bytes", tag.size));
    }
    if let Some(data) = tag.small {
        return match data.get(..tag.size as usize) {
            Some(data) => Ok(decode(tag.kind, data, source.big_endian)),
            None => wrong("at most 4 bytes in a small element", format!("{} bytes", tag.size)),
        };
    }
    if tag.size > source.left {
        return wrong(format!("{} bytes of `{variable}`", tag.size), format!("{} bytes", source.left));
    }
    // What arrives decides how much is kept, in pieces that hold whole values, so that a promise of gigabytes costs nothing by itself.
    let mut left = tag.size;
    let mut piece = vec![0; left.min(1 << 20) as usize];
    let mut all = decode(tag.kind, &[], source.big_endian);
    while left > 0 {
        let now = left.min(1 << 20) as usize;
        source.take(&mut piece[..now], variable)?;
        match (&mut all, decode(tag.kind, &piece[..now], source.big_endian)) {
            (MatValues::U8(all), MatValues::U8(more)) => all.extend(more),
            (MatValues::F64(all), MatValues::F64(more)) => all.extend(more),
            (MatValues::U8(_), MatValues::F64(_)) | (MatValues::F64(_), MatValues::U8(_)) => {}
        }
        left -= now as u64;
    }
    Ok(all)
}

/// Bytes of a number of a data type.
fn width_of(kind: u32) -> Option<usize> {
    match kind {
        1 | 2 => Some(1),
        3 | 4 => Some(2),
        5..=7 => Some(4),
        9 | 12 | 13 => Some(8),
        _ => None,
    }
}

/// Numbers of a data type that [`width_of`] knows.
fn decode(kind: u32, bytes: &[u8], big_endian: bool) -> MatValues {
    fn all<const W: usize>(bytes: &[u8], big_endian: bool, number: impl Fn([u8; W]) -> f64) -> MatValues {
        let one = |chunk: &[u8]| {
            let mut value = [0; W];
            value.copy_from_slice(chunk);
            if big_endian {
                value.reverse();
            }
            number(value)
        };
        MatValues::F64(bytes.chunks_exact(W).map(one).collect())
    }
    match kind {
        kind::UINT8 => MatValues::U8(bytes.to_vec()),
        1 => all(bytes, big_endian, |b| f64::from(i8::from_le_bytes(b))),
        3 => all(bytes, big_endian, |b| f64::from(i16::from_le_bytes(b))),
        4 => all(bytes, big_endian, |b| f64::from(u16::from_le_bytes(b))),
        5 => all(bytes, big_endian, |b| f64::from(i32::from_le_bytes(b))),
        6 => all(bytes, big_endian, |b| f64::from(u32::from_le_bytes(b))),
        7 => all(bytes, big_endian, |b| f64::from(f32::from_le_bytes(b))),
        12 => all(bytes, big_endian, |b| i64::from_le_bytes(b) as f64),
        13 => all(bytes, big_endian, |b| u64::from_le_bytes(b) as f64),
        _ => all(bytes, big_endian, f64::from_le_bytes),
    }
}

#[cfg(test)]
pub(crate) mod write {
    //! Level 5 files for tests.

    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    pub const UINT8: u32 = 2;
    pub const DOUBLE: u32 = 9;

    /// One element with its padding.
    pub fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut out = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        out.extend(data);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// A variable of a class with values stored as `kind`.
    pub fn matrix(class: u32, name: &str, dims: &[i32], kind: u32, data: &[u8]) -> Vec<u8> {
        let sizes: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
        let flags = [class.to_le_bytes(), [0; 4]].concat();
        let name = match name.len() {
            // Short names are written as small elements, as MATLAB does.
            short @ 1..=4 => {
                let mut small = (((short as u32) << 16) | 1).to_le_bytes().to_vec();
                small.extend(name.as_bytes());
                small.resize(8, 0);
                small
            }
            _ => element(1, name.as_bytes()),
        };
        element(14, &[element(6, &flags), element(5, &sizes), name, element(kind, data)].concat())
    }

    /// The same, compressed.
    pub fn compressed(matrix: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(matrix).unwrap();
        let packed = encoder.finish().unwrap();
        let mut out = [15u32.to_le_bytes(), (packed.len() as u32).to_le_bytes()].concat();
        out.extend(packed);
        out
    }

    /// A file of variables.
    pub fn file(variables: &[Vec<u8>]) -> Vec<u8> {
        let mut out = b"MATLAB 5.0 MAT-file".to_vec();
        out.resize(124, b' ');
        out.extend([0, 1, b'I', b'M']);
        for v in variables {
            out.extend(v);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ibhost_framework::dataset::DataRoot;

    use super::*;
    use crate::image::real_data;

    fn read(bytes: &[u8], wanted: &[&str]) -> Result<Vec<MatArray>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.mat"), bytes).unwrap();
        let root = DataRoot(folder.path().to_owned());
        read_mat(Place::new("svhn", &root, &root.join("a.mat")), wanted)
    }

    fn doubles(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn two() -> [Vec<u8>; 2] {
        let image: Vec<u8> = (0..24).collect();
        [
            write::matrix(9, "X", &[2, 3, 2, 2], write::UINT8, &image),
            write::matrix(6, "target", &[3, 1], write::DOUBLE, &doubles(&[1.0, -2.5, 10.0])),
        ]
    }

    #[test]
    fn arrays_are_read_in_the_order_asked_for_plain_and_compressed() {
        let [image, target] = two();
        for file in [
            write::file(&[image.clone(), target.clone()]),
            write::file(&[write::compressed(&image), write::compressed(&target)]),
            write::file(&[write::compressed(&target), image]),
        ] {
            let arrays = read(&file, &["target", "X"]).unwrap();
            assert_eq!((arrays[0].dims.as_slice(), &arrays[0].values), (&[3, 1][..], &MatValues::F64(vec![1.0, -2.5, 10.0])));
            assert_eq!((arrays[1].dims.as_slice(), arrays[1].at(23), arrays[1].len()), (&[2, 3, 2, 2][..], 23.0, 24));
        }
        // MATLAB keeps doubles that are small whole numbers as bytes or words.
        let words = write::file(&[write::matrix(6, "n", &[1, 2], 3, &[0xff, 0xff, 4, 1])]);
        assert_eq!(read(&words, &["n"]).unwrap()[0].values, MatValues::F64(vec![-1.0, 260.0]));
    }

    #[test]
    fn the_most_significant_byte_may_come_first() {
        let [_, target] = two();
        let mut file = write::file(&[target]);
        file[124..128].copy_from_slice(&[1, 0, b'M', b'I']);
        // Every word of the tags, flags and sizes is turned round, then the doubles; the name stays.
        for word in [128, 132, 136, 140, 144, 148, 152, 156, 160, 164, 168, 172, 184, 188] {
            file[word..word + 4].reverse();
        }
        for double in [192, 200, 208] {
            file[double..double + 8].reverse();
        }
        assert_eq!(read(&file, &["target"]).unwrap()[0].values, MatValues::F64(vec![1.0, -2.5, 10.0]));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_error_or_another_array() {
        let [image, target] = two();
        for file in [write::file(&[image.clone(), target.clone()]), write::file(&[write::compressed(&image), write::compressed(&target)])] {
            for length in 0..file.len() - 8 {
                assert!(read(&file[..length], &["target", "X"]).is_err(), "cut to {length} bytes");
            }
            for at in 0..file.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut bytes = file.clone();
                    bytes[at] ^= change;
                    if let Ok(arrays) = read(&bytes, &["target", "X"]) {
                        assert!(arrays.iter().all(|a| a.len() == a.dims.iter().product::<usize>()));
                    }
                }
            }
        }
    }

    #[test]
    fn lying_sizes_are_refused_before_memory_is_taken() {
        let whole = write::matrix(6, "big", &[1 << 20, 1 << 20, 1 << 20, 4], write::DOUBLE, &[0; 8]);
        let error = read(&write::file(&[write::compressed(&whole)]), &["big"]).unwrap_err().to_string();
        assert!(error.contains("values of 8 bytes in `big`") && error.contains("byte 128"), "{error}");
        // A gigabyte that fits its header but not the stream.
        let mut lying = write::matrix(6, "big", &[1 << 20, 1 << 7], write::DOUBLE, &[0; 8]);
        let data = lying.len() - 12;
        lying[data..data + 4].copy_from_slice(&(1u32 << 30).to_le_bytes());
        let mut outer = lying.clone();
        outer[4..8].copy_from_slice(&((1u32 << 30) + 64).to_le_bytes());
        for (bytes, part) in [
            (write::file(std::slice::from_ref(&outer)), "bytes of the variable"),
            (write::file(&[write::compressed(&outer)]), "at most 67"),
        ] {
            let error = read(&bytes, &["big"]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn other_contents_are_named() {
        let [image, _] = two();
        let text = write::matrix(4, "text", &[1, 2], write::UINT8, b"ab");
        let file = write::file(&[image, text]);
        let message = |wanted: &str| read(&file, &[wanted]).unwrap_err().to_string();
        assert!(message("y").contains("expected a variable `y`, found only `X`, `text`"), "{}", message("y"));
        assert!(message("text").contains("found text"), "{}", message("text"));
        let mut hdf = file.clone();
        hdf[125] = 2;
        assert!(read(&hdf, &["X"]).unwrap_err().to_string().contains("-v7"));
        let folder = tempfile::tempdir().unwrap();
        let root = DataRoot(folder.path().to_owned());
        let missing = read_mat(Place::new("svhn", &root, &root.join("b.mat")), &["X"]).unwrap_err();
        assert!(matches!(missing, DataError::Missing { .. }));
    }

    #[test]
    fn a_published_file_is_walked() {
        let Some(root) = real_data("omniglot") else { return };
        let file = root.join("omniglot/data_background_small1.mat");
        if !file.exists() {
            println!("skipped: no {}", file.display());
            return;
        }
        let message = |wanted: &str| read_mat(Place::new("omniglot", &root, &file), &[wanted]).unwrap_err().to_string();
        assert!(message("images").contains("found a cell array"), "{}", message("images"));
        assert!(message("absent").contains("`drawings`") && message("absent").contains("`timing`"), "{}", message("absent"));
    }
}
