//! Data set `file`: data of users' own at a path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ibhost_datasets::View;
use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Factors, Samples, Scaling, Split, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arrays::{Buffer, Layout};
use crate::bytes::refuse;
use crate::column::Classes;
use crate::divide::{Division, divide};
use crate::folder::{Look, from_folder};
use crate::picture::{Colour, Resize};
use crate::records::{Records, Wanted, from_container};
use crate::scale::{FileScale, fit};
use crate::table::from_table;

/// Most classes that labels can have.
const MOST_CLASSES: usize = 256;

/// Data of your own: a folder of pictures, arrays or a table.
///
/// `path` is a folder with a folder of pictures (PNG, JPEG, WebP, BMP, GIF) a class, below `train` and `test` where these are there, or a flat
/// folder beside a table of names; a table (CSV, TSV) with a named column a feature; or arrays (`.npz`, `.npy`, `.safetensors`, MATLAB 5, IDX).
/// Array names of Keras, scikit-learn, MedMNIST, disentanglement_lib and dSprites are known. Where no split is given, the share `test` of the
/// records is tested on. Vectors are `[1, 1, d]`, their features scaled by the training records alone. A value that is missing or not finite,
/// and a class that is only tested on, are refused. Nothing pickled is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FileConfig {
    /// The file or folder; a run records its absolute path.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// Name of the array of inputs, or of columns with commas between; found by common names, or all columns, when left out.
    #[schemars(extend("format" = "text"))]
    pub inputs: String,
    /// Name of the array, column or file of labels, `none` for none; found by common names, or the only column of words, when left out.
    #[schemars(extend("format" = "text"))]
    pub labels: String,
    /// Name of the array or column of groups, which no division separates.
    #[schemars(extend("format" = "text"))]
    pub groups: String,
    /// Name of the array or column that holds `train`, `test` or `val`, or 0 and 1.
    #[schemars(extend("format" = "text"))]
    pub split: String,
    /// Share of the records that is tested on where the source has no splits.
    #[schemars(range(max = 0.99), extend("exclusiveMinimum" = 0.0))]
    pub test: f64,
    /// What that division keeps.
    pub divide: Division,
    /// Order of the dimensions of arrays of pictures.
    pub layout: Layout,
    /// Pixels of each side that pictures of a folder are brought to; they must be of one size without it.
    #[schemars(range(min = 1, max = 4096))]
    pub size: Option<u32>,
    /// How they are brought to it.
    pub resize: Resize,
    /// Channels of pictures of a folder.
    pub colour: Colour,
    /// How raw values become model inputs.
    pub scale: FileScale,
    /// Which samples are used; `split_seed` decides the division too.
    #[serde(flatten)]
    pub view: View,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            inputs: String::new(),
            labels: String::new(),
            groups: String::new(),
            split: String::new(),
            test: 0.2,
            divide: Division::Auto,
            layout: Layout::Auto,
            size: None,
            resize: Resize::Crop,
            colour: Colour::Auto,
            scale: FileScale::Auto,
            view: View::default(),
        }
    }
}

impl FileConfig {
    fn read(&self, path: &Path) -> Result<Records, DataError> {
        let wanted = Wanted {
            inputs: self.inputs.clone(),
            labels: self.labels.clone(),
            groups: self.groups.clone(),
            split: self.split.clone(),
            layout: self.layout,
        };
        if path.is_dir() {
            return from_folder(path, &wanted, Look { size: self.size, resize: self.resize, colour: self.colour });
        }
        if !path.exists() {
            return Err(refuse(path, "there is no such file or folder", "check the path"));
        }
        if let Some(records) = from_table(path, &wanted)? {
            return Ok(records);
        }
        let endings = crate::arrays::ENDINGS.join(", ");
        from_container(path, &wanted)?.ok_or_else(|| {
            refuse(path, "its ending is of no form that is read", &format!("a folder of pictures, .csv, .tsv, {endings}, each also as .gz"))
        })
    }
}

/// Classes of the labels, checked.
fn classes_of(path: &Path, records: &Records) -> Result<Option<Classes>, DataError> {
    let Some(labels) = &records.labels else { return Ok(None) };
    let classes = labels.classes().map_err(|(record, value)| {
        let hint = "labels are whole numbers or words; `labels:none` trains without, `labels:NAME` takes others";
        refuse(path, format!("{}: `{value}` is no label of a class", records.names.of(record)), hint)
    })?;
    if classes.names.len() > MOST_CLASSES {
        let hint = "`labels:none` trains without, `labels:NAME` takes others";
        return Err(refuse(
            path,
            format!("its labels have {} different values; at most {MOST_CLASSES} classes are read", classes.names.len()),
            hint,
        ));
    }
    Ok(Some(classes))
}

/// Refuses values that are not finite, and records none of which is there.
fn check_values(path: &Path, records: &Records) -> Result<(), DataError> {
    let size: usize = records.shape.iter().product();
    if let Buffer::F32(values) = &records.inputs
        && let Some(bad) = values.iter().position(|value| !value.is_finite())
    {
        let place = format!("{}, value {}", records.names.of(bad / size), bad % size);
        return Err(refuse(path, format!("{place}: {} is not finite", values[bad]), "fill or remove what is missing"));
    }
    Ok(())
}

/// Record numbers as samples, so that a view chooses among them as among those of any data set.
fn numbers(records: &[usize], labels: &[u8]) -> Result<Samples, DataError> {
    let bytes = records.iter().flat_map(|&record| (record as u32).to_le_bytes()).collect();
    let labels = records.iter().map(|&record| labels[record]).collect();
    Samples::new(Values::U8(Arc::new(bytes)), labels, [4, 1, 1], Scaling::uniform(4, 1.0, 0.0))
}

fn records_in(samples: &Samples) -> Vec<usize> {
    let mut bytes = Vec::new();
    samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut bytes);
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0] as u8, b[1] as u8, b[2] as u8, b[3] as u8]) as usize).collect()
}

#[typetag::serde(name = "file")]
impl DatasetConfig for FileConfig {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        if self.path.is_empty() {
            return Err(DataError::Inconsistent("data set `file` has no path\n  hint: write `file/path:PATH`".to_owned()));
        }
        let path = Path::new(&self.path);
        let mut records = self.read(path)?;
        check_values(path, &records)?;
        let classes = classes_of(path, &records)?;
        let groups = records.groups.as_ref().map(|groups| {
            groups.classes().map_err(|(record, value)| refuse(path, format!("{}: `{value}` is no group", records.names.of(record)), ""))
        });
        let groups = groups.transpose()?;
        let size: usize = records.shape.iter().product();
        let count = match &records.inputs {
            Buffer::U8(values) => values.len() / size,
            Buffer::F32(values) => values.len() / size,
            Buffer::F64(_) | Buffer::Words(_) => 0,
        };
        let test = records
            .test
            .take()
            .unwrap_or_else(|| divide(count, self.test, self.divide, classes.as_ref(), groups.as_ref(), self.view.split_seed));
        let [train, held_out]: [Vec<usize>; 2] = [false, true].map(|side| (0..count).filter(|&record| test[record] == side).collect());
        if train.is_empty() || held_out.is_empty() {
            let problem = format!("{} records are trained on and {} tested on", train.len(), held_out.len());
            return Err(refuse(path, problem, "each split needs one at least; `test` is the share that is tested on"));
        }
        if let Some(classes) = &classes {
            let trained = |class: usize| train.iter().any(|&record| classes.of[record] == class);
            if let Some(&record) = held_out.iter().find(|&&record| !trained(classes.of[record])) {
                let problem =
                    format!("{}: class `{}` is tested on and not trained on", records.names.of(record), classes.names[classes.of[record]]);
                return Err(refuse(path, problem, "add training records of it, or remove those that are tested on"));
            }
        }
        let labels: Vec<u8> =
            classes.as_ref().map_or_else(|| vec![0; count], |classes| classes.of.iter().map(|&class| class as u8).collect());
        let parts = self.view.apply("file", numbers(&train, &labels)?, numbers(&held_out, &labels)?)?;
        let train = records_in(&parts.train);
        let scaling = fit(&mut records.inputs, records.shape, records.levels, &train, self.scale);
        let values = match std::mem::replace(&mut records.inputs, Buffer::U8(Vec::new())) {
            Buffer::U8(values) => Values::U8(Arc::new(values)),
            Buffer::F32(values) => Values::F32(Arc::new(values)),
            Buffer::F64(_) | Buffer::Words(_) => Values::U8(Arc::new(Vec::new())),
        };
        let all = Samples::new(values, labels, records.shape, scaling)?;
        let note = classes.is_none().then(|| "without labels: every sample is of one class".to_owned());
        let names = classes.map_or_else(|| vec!["unlabelled".to_owned()], |classes| classes.names);
        let official_test = parts.official_test.as_ref().map(|samples| all.select(&records_in(samples))).transpose()?;
        Ok(Box::new(FileData {
            info: DataInfo { name: "file".to_owned(), classes: names, shape: records.shape, note, class_entropy: None },
            factors: factors(path, &records, &train)?,
            train: all.select(&train)?,
            test: all.select(&records_in(&parts.test))?,
            official_test,
        }))
    }

    /// The absolute path, so that a run goes on from any folder.
    fn decided(&self, _root: &DataRoot) -> Map<String, Value> {
        let absolute = std::path::absolute(PathBuf::from(&self.path)).ok();
        absolute.and_then(|path| path.to_str().map(|path| Map::from_iter([("path".to_owned(), path.into())]))).unwrap_or_default()
    }
}

/// The factors of the training records, each value a number.
fn factors(path: &Path, records: &Records, train: &[usize]) -> Result<Option<Factors>, DataError> {
    if records.factors.is_empty() {
        return Ok(None);
    }
    let mut columns = Vec::with_capacity(records.factors.len());
    for (name, column) in &records.factors {
        let classes = column.classes().map_err(|(record, value)| {
            refuse(
                path,
                format!("{}: `{value}` is no value of the factor `{name}`", records.names.of(record)),
                "factors are whole numbers or words",
            )
        })?;
        if classes.names.len() > usize::from(u16::MAX) {
            return Err(refuse(path, format!("the factor `{name}` has {} values", classes.names.len()), "leave the column out"));
        }
        columns.push(classes);
    }
    let values = train.iter().flat_map(|&record| columns.iter().map(move |column| column.of[record] as u16)).collect();
    Ok(Some(Factors {
        names: records.factors.iter().map(|(name, _)| name.clone()).collect(),
        sizes: columns.iter().map(|column| column.names.len()).collect(),
        values,
    }))
}

/// The loaded data set.
#[derive(Debug)]
struct FileData {
    info: DataInfo,
    train: Samples,
    test: Samples,
    official_test: Option<Samples>,
    factors: Option<Factors>,
}

impl Dataset for FileData {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    fn official_test(&self) -> Option<&Samples> {
        self.official_test.as_ref()
    }

    fn factors(&self) -> Option<&Factors> {
        self.factors.as_ref()
    }
}

ibhost_framework::register! {
    Dataset: FileConfig as DatasetConfig, aliases: [], paper: "", example: "file/path:pictures/birds|size:64",
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;

    use super::*;

    fn table(rows: usize) -> (tempfile::TempDir, FileConfig) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "x,y,target\n".to_owned();
        for row in 0..rows {
            let _ = writeln!(text, "{},{},{}", row, row % 5, ["cat", "dog"][row % 2]);
        }
        let path = folder.path().join("t.csv");
        fs::write(&path, text).unwrap();
        let config = FileConfig { path: path.to_str().unwrap().to_owned(), ..FileConfig::default() };
        (folder, config)
    }

    fn load(config: &FileConfig) -> Result<Box<dyn Dataset>, String> {
        config.load(&DataRoot(PathBuf::new())).map_err(|error| error.to_string())
    }

    fn values(samples: &Samples) -> Vec<f32> {
        let mut values = Vec::new();
        samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut values);
        values
    }

    #[test]
    fn a_table_is_divided_by_class_and_scaled_by_its_training_part() {
        let (_folder, config) = table(50);
        let data = load(&config).unwrap();
        let (train, test) = (data.split(Split::Train), data.split(Split::Test));
        assert_eq!((train.len(), test.len(), train.shape()), (40, 10, [1, 1, 2]));
        assert_eq!(data.info().classes, ["cat", "dog"]);
        assert_eq!(test.labels().into_iter().map(usize::from).sum::<usize>(), 5);
        let scaled = values(train);
        for feature in 0..2 {
            let column: Vec<f64> = scaled.iter().skip(feature).step_by(2).map(|&value| f64::from(value)).collect();
            let mean = column.iter().sum::<f64>() / 40.0;
            let deviation = (column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 40.0).sqrt();
            assert!(mean.abs() < 1e-6 && (deviation - 1.0).abs() < 1e-6, "{mean} {deviation}");
        }
        let folds = FileConfig { view: View { folds: Some(4), fold: 1, ..View::default() }, ..config };
        let data = load(&folds).unwrap();
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len(), data.official_test().unwrap().len()), (30, 10, 10));
    }

    #[test]
    fn the_path_that_is_recorded_is_absolute() {
        let decided = FileConfig { path: "a/b.csv".to_owned(), ..FileConfig::default() }.decided(&DataRoot(PathBuf::new()));
        assert!(Path::new(decided["path"].as_str().unwrap()).is_absolute());
    }

    #[test]
    fn what_cannot_be_a_data_set_is_named() {
        let (folder, config) = table(4);
        let write = |text: &str| fs::write(folder.path().join("t.csv"), text).unwrap();
        let with = |change: &dyn Fn(&mut FileConfig)| {
            let mut config = config.clone();
            change(&mut config);
            load(&config).unwrap_err()
        };
        assert!(with(&|config| config.path = "/nowhere/x.csv".into()).contains("`/nowhere/x.csv`: there is no such file"));
        assert!(with(&|config| config.path = String::new()).contains("file/path:PATH"));
        assert!(with(&|config| config.labels = "x9".into()).contains("no column `x9`"));
        write("x,target\n1,0.5\n2,1\n");
        assert!(load(&config).unwrap_err().contains("line 2: `0.5` is no label"));
        write("x,target,part\n1,a,train\n2,b,test\n");
        let error = with(&|config| config.split = "part".into());
        assert!(error.contains("line 3: class `b` is tested on and not trained on"), "{error}");
        write("x,target\n1,a\n");
        assert!(load(&config).unwrap_err().contains("1 records are trained on and 0 tested on"));
        let other = folder.path().join("x.docx");
        fs::write(&other, "x").unwrap();
        assert!(with(&|config| config.path = other.to_str().unwrap().into()).contains(".safetensors"));
    }

    #[test]
    fn factors_follow_the_training_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = "file,label,shade\n".to_owned();
        for number in 0..10 {
            image::GrayImage::from_pixel(2, 2, image::Luma([number * 20])).save(folder.path().join(format!("{number}.png"))).unwrap();
            let _ = writeln!(rows, "{number}.png,{},{number}", number % 2);
        }
        fs::write(folder.path().join("about.csv"), rows).unwrap();
        let config = FileConfig { path: folder.path().to_str().unwrap().to_owned(), scale: FileScale::None, ..FileConfig::default() };
        let data = load(&config).unwrap();
        let (factors, train) = (data.factors().unwrap(), data.split(Split::Train));
        assert_eq!((factors.names.as_slice(), factors.sizes.as_slice(), train.len()), (&["shade".to_owned()][..], &[10][..], 8));
        let first_pixels: Vec<u16> = values(train).chunks(4).map(|picture| picture[0] as u16 / 20).collect();
        assert_eq!(first_pixels, factors.values);
    }
}
