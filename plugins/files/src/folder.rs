//! Folders of pictures: a folder a class, below `train` and `test` where these are there, or one folder with a table of names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::DataError;
use rayon::prelude::*;

use crate::bytes::{read, refuse};
use crate::column::Column;
use crate::picture::{Colour, Picture, Resize, is_picture, stacked};
use crate::records::{Names, Records, Wanted, test_records};
use crate::table::{LABELS, Table};

/// Folders that hold the training pictures, and those that hold the ones that are tested on, the first of which is taken.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 5] = ["test", "testing", "val", "valid", "validation"];
/// Names that the column of file names has.
const FILE: [&str; 7] = ["file", "filename", "file_name", "name", "path", "image", "image_id"];
/// Folders below one another at most.
const DEPTH: usize = 16;

/// How pictures become inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Pixels of each side; pictures keep theirs without it.
    pub size: Option<u32>,
    /// How they are brought to it.
    pub resize: Resize,
    /// Their channels.
    pub colour: Colour,
}

/// The records of the folder at `path`.
///
/// # Errors
/// [`DataError`] naming the file and what is wrong with it.
pub fn from_folder(path: &Path, wanted: &Wanted, look: Look) -> Result<Records, DataError> {
    let top = Listing::of(path)?;
    let train = top.folders.iter().find(|folder| is_named(folder, &TRAIN));
    let (files, labels, test) = match train {
        Some(train) => {
            let held_out = TEST.iter().find_map(|name| top.folders.iter().find(|folder| is_named(folder, &[name])));
            let (mut files, mut labels) = by_class(train)?;
            let training = files.len();
            if let Some(held_out) = held_out {
                let (more, of_more) = by_class(held_out)?;
                files.extend(more);
                labels.extend(of_more);
            }
            let test = held_out.map(|_| (0..files.len()).map(|at| at >= training).collect());
            (files, labels, test)
        }
        None if top.folders.is_empty() => {
            let none = vec![None; top.pictures.len()];
            (top.pictures.clone(), none, None)
        }
        None => {
            let (files, labels) = by_class(path)?;
            (files, labels, None)
        }
    };
    if files.is_empty() {
        let endings = crate::picture::ENDINGS.join(", ");
        return Err(refuse(
            path,
            "it holds no pictures",
            &format!("pictures end in {endings}; a folder holds the pictures of a class, or all of them beside a table"),
        ));
    }
    let table = if labels.iter().all(Option::is_none) { the_table(&top)? } else { None };
    let (inputs, shape) = pictures(path, &files, look)?;
    let below = |file: &PathBuf| file.strip_prefix(path).unwrap_or(file).to_path_buf();
    let names: Vec<PathBuf> = files.iter().map(below).collect();
    let mut records = Records {
        inputs,
        shape,
        levels: Some(255.0),
        labels: labels.iter().cloned().collect::<Option<Vec<String>>>().filter(|_| wanted.labels != "none").map(Column::Words),
        groups: None,
        factors: Vec::new(),
        test,
        names: Names::Files(names.clone()),
    };
    if let Some(table) = table {
        add_table(&mut records, &table, &names, wanted)?;
    }
    Ok(records)
}

/// What lies in a folder, sorted by name.
struct Listing {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
    tables: Vec<PathBuf>,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DataError::Io { action: "list", path, source }
        };
        let mut listing = Self { folders: Vec::new(), pictures: Vec::new(), tables: Vec::new() };
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            let entry = entry.map_err(io(folder))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let metadata = fs::metadata(&path).map_err(|source| DataError::Io { action: "read", path: path.clone(), source })?;
            if metadata.is_dir() {
                listing.folders.push(path);
            } else if metadata.is_file() && is_picture(&path) {
                listing.pictures.push(path);
            } else if path.extension().is_some_and(|ending| ending == "csv" || ending == "tsv") {
                listing.tables.push(path);
            }
        }
        for list in [&mut listing.folders, &mut listing.pictures, &mut listing.tables] {
            list.sort();
        }
        Ok(listing)
    }
}

fn is_named(folder: &Path, names: &[&str]) -> bool {
    folder.file_name().and_then(OsStr::to_str).is_some_and(|name| names.contains(&name.to_ascii_lowercase().as_str()))
}

/// Pictures with the folder of their class; without classes where pictures lie in `folder` itself.
fn by_class(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Option<String>>), DataError> {
    let listing = Listing::of(folder)?;
    if listing.folders.is_empty() {
        let none = vec![None; listing.pictures.len()];
        return Ok((listing.pictures, none));
    }
    if let Some(stray) = listing.pictures.first() {
        return Err(refuse(
            stray,
            "it lies beside the folders of the classes and is of none",
            "put it into one of them, or all pictures into one folder",
        ));
    }
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for class in listing.folders {
        let Some(name) = class.file_name().and_then(OsStr::to_str).map(str::to_owned) else {
            return Err(refuse(&class, "the name of a class is no text", "rename the folder"));
        };
        let start = files.len();
        below(&class, 0, &mut files)?;
        labels.extend(std::iter::repeat_n(Some(name), files.len() - start));
    }
    Ok((files, labels))
}

/// Appends the pictures in `folder` and below, sorted.
fn below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    if depth > DEPTH {
        return Err(refuse(folder, format!("folders lie in one another more than {DEPTH} deep"), "a link that leads back up does that"));
    }
    let listing = Listing::of(folder)?;
    files.extend(listing.pictures);
    listing.folders.iter().try_for_each(|folder| below(folder, depth + 1, files))
}

/// Decodes `files` on all threads.
fn pictures(folder: &Path, files: &[PathBuf], look: Look) -> Result<(crate::arrays::Buffer, [usize; 3]), DataError> {
    let open = |file: &PathBuf| {
        Picture::open(file, look.size, look.resize)
            .map_err(|why| refuse(file, format!("it cannot be read as a picture: {why}"), "replace or remove it"))
    };
    let pictures = files.par_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    stacked(&pictures, look.colour).map_err(|(odd, [first, other])| {
        let sizes = format!("it is {} by {} pixels, but `{}` is {} by {}", other[1], other[0], files[0].display(), first[1], first[0]);
        refuse(
            &files[odd],
            format!("{sizes} (all lie in `{}`)", folder.display()),
            "bring all to one size with `size:N`, in the way `resize` names",
        )
    })
}

/// The table beside the pictures, if there is just one.
fn the_table(listing: &Listing) -> Result<Option<(PathBuf, Table)>, DataError> {
    match listing.tables.as_slice() {
        [] => Ok(None),
        [path] => {
            let separator = if path.extension().is_some_and(|ending| ending == "tsv") { b'\t' } else { b',' };
            Ok(Some((path.clone(), Table::parse(path, &read(path)?, separator)?)))
        }
        [first, second, ..] => {
            Err(refuse(second, format!("two tables lie beside the pictures, the other is `{}`", first.display()), "keep one"))
        }
    }
}

/// Puts what the table says of each picture beside it: labels, groups, splits, and all other columns as factors.
fn add_table(records: &mut Records, (path, table): &(PathBuf, Table), names: &[PathBuf], wanted: &Wanted) -> Result<(), DataError> {
    let known = table.named_like(&FILE);
    let files = known.and_then(|name| table.names.iter().position(|other| *other == name)).unwrap_or(0);
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for (row, name) in table.columns[files].iter().enumerate() {
        if let Some(before) = rows.insert(name, row) {
            let lines = format!("`{name}` stands in line {} and in line {}", table.lines[before], table.lines[row]);
            return Err(refuse(path, lines, "keep one of them"));
        }
    }
    let mut order = Vec::with_capacity(names.len());
    for name in names {
        let text = name.to_str().unwrap_or_default();
        let stem = name.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let row = rows.remove(text).or_else(|| rows.remove(stem));
        order.push(
            row.ok_or_else(|| {
                refuse(path, format!("it says nothing of `{}`", name.display()), "add a line for it, or remove the picture")
            })?,
        );
    }
    if let Some((name, row)) = rows.into_iter().next() {
        return Err(refuse(path, format!("line {}: there is no picture `{name}`", table.lines[row]), "add it, or remove the line"));
    }
    let column = |key: &str, name: &str| {
        table.column(path, key, name).map(|column| match column {
            Column::Numbers(values) => Column::Numbers(order.iter().map(|&row| values[row]).collect()),
            Column::Words(words) => Column::Words(order.iter().map(|&row| words[row].clone()).collect()),
        })
    };
    let labels = match wanted.labels.as_str() {
        "none" => None,
        "" => table.named_like(&LABELS),
        name => Some(name.to_owned()),
    };
    records.labels = labels.as_ref().map(|name| column("labels", name)).transpose()?;
    if !wanted.groups.is_empty() {
        records.groups = Some(column("groups", &wanted.groups)?);
    }
    if !wanted.split.is_empty() {
        records.test = Some(test_records(path, &column("split", &wanted.split)?)?);
    }
    let taken = [Some(table.names[files].clone()), labels, Some(wanted.groups.clone()), Some(wanted.split.clone())];
    for name in table.names.iter().filter(|name| !taken.contains(&Some((*name).clone()))) {
        records.factors.push((name.clone(), column("factors", name)?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::Buffer;

    /// Grey pictures of 2 by 2 pixels of one value each.
    fn put(root: &Path, files: &[(&str, u8)]) {
        for (name, value) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::from_pixel(2, 2, image::Luma([*value])).save(path).unwrap();
        }
    }

    fn read_folder(root: &Path) -> Result<Records, String> {
        from_folder(root, &Wanted::default(), Look::default()).map_err(|error| error.to_string())
    }

    fn words(words: &[&str]) -> Column {
        Column::Words(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn a_folder_is_a_class_and_splits_are_folders() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), &[("dog/b.png", 3), ("dog/deep/c.png", 4), ("cat/z.png", 1), ("cat/.hidden.png", 9)]);
        fs::write(root.path().join("cat/notes.txt"), "x").unwrap();
        let records = read_folder(root.path()).unwrap();
        assert_eq!(records.labels, Some(words(&["cat", "dog", "dog"])));
        let Buffer::U8(values) = &records.inputs else { panic!("{records:?}") };
        assert_eq!(values.chunks(4).map(|picture| picture[0]).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!((records.shape, records.names.of(1)), ([1, 2, 2], "`dog/b.png`".to_owned()));

        let split = tempfile::tempdir().unwrap();
        put(split.path(), &[("train/a/1.png", 1), ("train/b/2.png", 2), ("val/a/4.png", 4), ("test/b/3.png", 3)]);
        let records = read_folder(split.path()).unwrap();
        assert_eq!((records.labels, records.test), (Some(words(&["a", "b", "b"])), Some(vec![false, false, true])), "`test` before `val`");
    }

    #[test]
    fn a_table_names_labels_and_factors_of_pictures_in_one_folder() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), &[("1.png", 1), ("2.png", 2)]);
        fs::write(root.path().join("all.csv"), "filename,label,size\n2.png,dog,5\n1,cat,7\n").unwrap();
        let records = read_folder(root.path()).unwrap();
        assert_eq!(records.labels, Some(words(&["cat", "dog"])));
        assert_eq!(records.factors, [("size".to_owned(), Column::Numbers(vec![7.0, 5.0]))]);
        for (text, word) in [
            ("filename,label\n1.png,a\n", "nothing of `2.png`"),
            ("filename,label\n1.png,a\n2.png,b\n3.png,c\n", "line 4: there is no picture `3.png`"),
            ("filename,label\n1.png,a\n2.png,b\n1.png,c\n", "`1.png` stands in line 2 and in line 4"),
        ] {
            fs::write(root.path().join("all.csv"), text).unwrap();
            let error = read_folder(root.path()).unwrap_err();
            assert!(error.contains(word) && error.contains("all.csv") && error.contains("hint:"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        let root = tempfile::tempdir().unwrap();
        assert!(read_folder(root.path()).unwrap_err().contains("no pictures"));
        put(root.path(), &[("a/1.png", 1), ("stray.png", 2)]);
        assert!(read_folder(root.path()).unwrap_err().contains("stray.png"));
        fs::remove_file(root.path().join("stray.png")).unwrap();
        fs::write(root.path().join("a/broken.png"), b"PNG?").unwrap();
        assert!(read_folder(root.path()).unwrap_err().contains("a/broken.png"));
        fs::remove_file(root.path().join("a/broken.png")).unwrap();
        image::GrayImage::new(3, 2).save(root.path().join("a/wide.png")).unwrap();
        let error = read_folder(root.path()).unwrap_err();
        assert!(error.contains("a/wide.png") && error.contains("3 by 2 pixels") && error.contains("size:N"), "{error}");
    }
}
