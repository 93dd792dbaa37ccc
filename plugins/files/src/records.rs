//! Records as a source has them: inputs, and for each record what is known beside them.

use std::path::{Path, PathBuf};

use ibhost_framework::dataset::DataError;

use crate::arrays::{Array, Buffer, Layout, read_arrays};
use crate::bytes::refuse;
use crate::column::Column;

/// What was read, before it is divided and scaled.
#[derive(Clone, Debug)]
pub struct Records {
    /// Inputs of all records.
    pub inputs: Buffer,
    /// `[channels, height, width]` of one.
    pub shape: [usize; 3],
    /// Largest value that bytes or levels can have, where the inputs are pictures.
    pub levels: Option<f32>,
    /// Labels, where there are any.
    pub labels: Option<Column>,
    /// Groups that a division keeps together.
    pub groups: Option<Column>,
    /// Generating factors, a column each.
    pub factors: Vec<(String, Column)>,
    /// Which records are to be tested on, where the source says so.
    pub test: Option<Vec<bool>>,
    /// What records are called in messages.
    pub names: Names,
}

/// What a record is called.
#[derive(Clone, Debug)]
pub enum Names {
    /// Its file below a folder.
    Files(Vec<PathBuf>),
    /// Its line of a table that begins at this one.
    Lines(Vec<u64>),
    /// Its number in an array, from 0.
    Rows,
}

impl Names {
    /// Name of a record.
    pub fn of(&self, record: usize) -> String {
        match self {
            Self::Files(files) => files.get(record).map_or_else(String::new, |file| format!("`{}`", file.display())),
            Self::Lines(lines) => format!("line {}", lines.get(record).copied().unwrap_or_default()),
            Self::Rows => format!("row {record}"),
        }
    }
}

/// What a source is asked for; empty names are found by what other programs call them.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Array of the inputs, or columns with commas between.
    pub inputs: String,
    /// Array or column of the labels; `none` for none.
    pub labels: String,
    /// Array or column of the groups.
    pub groups: String,
    /// Array or column that says which records are tested on.
    pub split: String,
    /// Order of the dimensions of pictures.
    pub layout: Layout,
}

/// Names that programs give to inputs, with the names of their labels: Keras, scikit-learn, MedMNIST, torchvision, NumPy's own.
const PAIRS: [(&str, &[&str]); 10] = [
    ("x", &["y", "labels", "label", "target"]),
    ("X", &["y", "Y", "labels", "label", "target"]),
    ("data", &["target", "labels", "label", "y"]),
    ("images", &["labels", "label", "targets", "y"]),
    ("imgs", &["labels", "label", "y"]),
    ("inputs", &["labels", "targets"]),
    ("features", &["labels", "targets", "target"]),
    ("arr_0", &["arr_1"]),
    ("train_x", &[]),
    ("", &[]),
];
/// Names of inputs in two splits, training first, with their labels.
const SPLITS: [[&str; 4]; 6] = [
    ["x_train", "y_train", "x_test", "y_test"],
    ["X_train", "y_train", "X_test", "y_test"],
    ["train_images", "train_labels", "test_images", "test_labels"],
    ["train_data", "train_labels", "test_data", "test_labels"],
    ["train_x", "train_y", "test_x", "test_y"],
    ["x_train", "y_train", "x_val", "y_val"],
];
/// Names of arrays of factors, a column each: disentanglement_lib's, dSprites'.
const FACTORS: [&str; 3] = ["latents_classes", "factors", "factors_of_variation"];

/// The records of the container at `path`, or `None` where its name is of no container.
///
/// # Errors
/// [`DataError`] naming the file and the array.
pub fn from_container(path: &Path, wanted: &Wanted) -> Result<Option<Records>, DataError> {
    let Some(mut arrays) = read_arrays(path)? else { return Ok(None) };
    let there = arrays.iter().map(|(name, array)| format!("`{name}` {:?}", array.dims)).collect::<Vec<_>>().join(", ");
    let mut take = |name: &str| arrays.iter().position(|(known, _)| known == name).map(|at| arrays.swap_remove(at).1);
    let absent = |key: &str, name: &str| refuse(path, format!("it has no array `{name}` for `{key}`"), &format!("it has {there}"));
    let named = |key: &str, name: &str, found: Option<Array>| found.ok_or_else(|| absent(key, name));

    let splits =
        wanted.inputs.is_empty().then(|| SPLITS.iter().find(|names| [0, 2].iter().all(|&at| there.contains(&format!("`{}` ", names[at])))));
    let (inputs, mut labels, test) = if let Some([train, of_train, held_out, of_held_out]) = splits.flatten() {
        let (train, held_out) = (named("inputs", train, take(train))?, named("inputs", held_out, take(held_out))?);
        let test = (0..train.rows() + held_out.rows()).map(|row| row >= train.rows()).collect();
        let labels = match (take(of_train), take(of_held_out)) {
            (Some(a), Some(b)) => Some(joined(path, "labels", a, b)?),
            _ => None,
        };
        (joined(path, "inputs", train, held_out)?, labels, Some(test))
    } else if wanted.inputs.is_empty() {
        let pair = PAIRS.iter().find(|(name, _)| there.contains(&format!("`{name}` ")));
        let Some((name, labels)) = pair else {
            return Err(refuse(
                path,
                "which array holds the inputs is not clear from their names",
                &format!("name one as `inputs:NAME`: it has {there}"),
            ));
        };
        let inputs = named("inputs", name, take(name))?;
        (inputs, labels.iter().find_map(|name| take(name)), None)
    } else {
        (named("inputs", &wanted.inputs, take(&wanted.inputs))?, None, None)
    };
    match wanted.labels.as_str() {
        "" => {}
        "none" => labels = None,
        name => {
            labels = Some(match take(name) {
                Some(array) => array,
                // Labels may lie in a file of their own beside the inputs.
                None => beside(path, name)?.ok_or_else(|| absent("labels", name))?,
            });
        }
    }
    if labels.is_none() && wanted.labels.is_empty() {
        labels = idx_labels(path)?;
    }
    let factors = FACTORS.iter().find_map(|name| take(name));
    let column = |key: &str, array: Array| {
        array.into_column().map_err(|sizes| refuse(path, format!("the array of `{key}` has the sizes {sizes}"), ""))
    };
    let groups =
        if wanted.groups.is_empty() { None } else { Some(column("groups", named("groups", &wanted.groups, take(&wanted.groups))?)?) };
    let test = if wanted.split.is_empty() {
        test
    } else {
        Some(test_records(path, &column("split", named("split", &wanted.split, take(&wanted.split))?)?)?)
    };
    let rows = inputs.rows();
    let labels = labels.map(|labels| column("labels", one_hot_to_numbers(labels))).transpose()?;
    let counts = [
        ("labels", labels.as_ref().map(Column::len)),
        ("groups", groups.as_ref().map(Column::len)),
        ("split", test.as_ref().map(Vec::len)),
        ("factors", factors.as_ref().map(Array::rows)),
    ];
    if let Some((key, count)) = counts.iter().find_map(|(key, count)| count.filter(|&count| count != rows).map(|count| (key, count))) {
        return Err(refuse(path, format!("there are {rows} inputs but {count} {key}"), &format!("it has {there}")));
    }
    let levels = matches!((&inputs.buffer, inputs.dims.len()), (Buffer::U8(_), 3..)).then_some(255.0);
    let factors = factors.map(columns).unwrap_or_default();
    let (inputs, shape) = inputs.into_inputs(wanted.layout).map_err(|problem| {
        refuse(
            path,
            format!("the inputs do not fit: {problem}"),
            "name another array as `inputs:NAME`, or the order of dimensions as `layout:channels_last`",
        )
    })?;
    Ok(Some(Records { inputs, shape, levels, labels, groups, factors, test, names: Names::Rows }))
}

/// Two arrays one below the other.
fn joined(path: &Path, what: &str, a: Array, b: Array) -> Result<Array, DataError> {
    if a.dims[1..] != b.dims[1..] {
        return Err(refuse(path, format!("the {what} of its splits have the sizes {:?} and {:?}", a.dims, b.dims), ""));
    }
    let mut dims = a.dims;
    dims[0] += b.dims[0];
    let floats = |buffer: Buffer| -> Vec<f64> {
        match buffer {
            Buffer::U8(values) => values.into_iter().map(f64::from).collect(),
            Buffer::F32(values) => values.into_iter().map(f64::from).collect(),
            Buffer::F64(values) => values,
            Buffer::Words(_) => Vec::new(),
        }
    };
    let buffer = match (a.buffer, b.buffer) {
        (Buffer::U8(a), Buffer::U8(b)) => Buffer::U8([a, b].concat()),
        (Buffer::F32(a), Buffer::F32(b)) => Buffer::F32([a, b].concat()),
        (Buffer::Words(a), Buffer::Words(b)) => Buffer::Words([a, b].concat()),
        (Buffer::Words(_), _) | (_, Buffer::Words(_)) => {
            return Err(refuse(path, format!("the {what} of one split are words and of the other numbers"), ""));
        }
        (a, b) => Buffer::F64([floats(a), floats(b)].concat()),
    };
    Ok(Array { dims, buffer })
}

/// The number of the only one in each row where every row has just one, as one-hot labels have.
fn one_hot_to_numbers(array: Array) -> Array {
    let [rows, classes] = array.dims[..] else { return array };
    let numbers: Option<Vec<f64>> = match &array.buffer {
        Buffer::U8(values) if classes > 1 => values.chunks_exact(classes).map(|row| hot(row.iter().map(|&x| f64::from(x)))).collect(),
        Buffer::F32(values) if classes > 1 => values.chunks_exact(classes).map(|row| hot(row.iter().map(|&x| f64::from(x)))).collect(),
        Buffer::F64(values) if classes > 1 => values.chunks_exact(classes).map(|row| hot(row.iter().copied())).collect(),
        _ => None,
    };
    match numbers {
        Some(numbers) => Array { dims: vec![rows], buffer: Buffer::F64(numbers) },
        None => array,
    }
}

fn hot(row: impl Iterator<Item = f64>) -> Option<f64> {
    let mut found = None;
    for (at, value) in row.enumerate() {
        match (value == 1.0, value == 0.0, found) {
            (true, _, None) => found = Some(at as f64),
            (false, true, _) => {}
            _ => return None,
        }
    }
    found
}

fn columns(array: Array) -> Vec<(String, Column)> {
    let width: usize = array.dims[1..].iter().product();
    let values: Vec<f64> = match array.buffer {
        Buffer::U8(values) => values.into_iter().map(f64::from).collect(),
        Buffer::F32(values) => values.into_iter().map(f64::from).collect(),
        Buffer::F64(values) => values,
        Buffer::Words(_) => return Vec::new(),
    };
    (0..width).map(|at| (format!("factor_{at}"), Column::Numbers(values.iter().skip(at).step_by(width).copied().collect()))).collect()
}

/// The array in the file `name` beside the one at `path`.
fn beside(path: &Path, name: &str) -> Result<Option<Array>, DataError> {
    let other = path.with_file_name(name);
    if !other.is_file() {
        return Ok(None);
    }
    Ok(read_arrays(&other)?.and_then(|mut arrays| if arrays.len() == 1 { arrays.pop() } else { None }).map(|(_, array)| array))
}

/// The labels of an IDX file of images, which lie beside it under the name that MNIST's have.
fn idx_labels(path: &Path) -> Result<Option<Array>, DataError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains("images") || !name.contains("idx3") {
        return Ok(None);
    }
    beside(path, &name.replace("images", "labels").replace("idx3", "idx1"))
}

/// Which records of a column of splits are tested on: `test`, `val` and the like, or anything but 0.
///
/// # Errors
/// [`DataError`] naming the word that is neither.
pub fn test_records(path: &Path, column: &Column) -> Result<Vec<bool>, DataError> {
    match column {
        Column::Numbers(values) => Ok(values.iter().map(|&value| value != 0.0).collect()),
        Column::Words(words) => {
            let one = |word: &String| match word.to_ascii_lowercase().as_str() {
                "train" | "training" => Ok(false),
                "test" | "testing" | "val" | "valid" | "validation" => Ok(true),
                _ => Err(refuse(path, format!("`{word}` is no split"), "a split is `train`, `test` or `val`")),
            };
            words.iter().map(one).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_labels_become_numbers_and_others_stay() {
        let rows =
            |values: &[u8], classes: usize| Array { dims: vec![values.len() / classes, classes], buffer: Buffer::U8(values.to_vec()) };
        assert_eq!(one_hot_to_numbers(rows(&[0, 1, 1, 0], 2)), Array { dims: vec![2], buffer: Buffer::F64(vec![1.0, 0.0]) });
        assert_eq!(one_hot_to_numbers(rows(&[1, 1, 1, 0], 2)), rows(&[1, 1, 1, 0], 2), "two at once");
        assert_eq!(one_hot_to_numbers(rows(&[0, 0, 1, 0], 2)), rows(&[0, 0, 1, 0], 2), "none at all");
        assert_eq!(one_hot_to_numbers(rows(&[3, 1], 1)), rows(&[3, 1], 1));
    }

    #[test]
    fn words_say_what_is_tested_on() {
        let words = |words: &[&str]| Column::Words(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(test_records(Path::new("f"), &words(&["Train", "val", "test"])).unwrap(), [false, true, true]);
        assert!(test_records(Path::new("f"), &words(&["holdout"])).unwrap_err().to_string().contains("`holdout` is no split"));
        assert_eq!(test_records(Path::new("f"), &Column::Numbers(vec![0.0, 1.0])).unwrap(), [false, true]);
    }
}
