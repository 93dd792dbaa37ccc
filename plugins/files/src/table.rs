//! Tables of comma- or tab-separated values: columns of numbers are inputs, others labels, groups and splits.

use std::path::Path;

use ibhost_framework::dataset::DataError;

use crate::arrays::Buffer;
use crate::bytes::{read, refuse};
use crate::column::Column;
use crate::records::{Names, Records, Wanted, test_records};

/// Names that a column of labels has in other programs' tables, the clearest first.
pub(crate) const LABELS: [&str; 8] = ["label", "labels", "target", "targets", "class", "category", "species", "y"];
/// Cells that stand for a value that is not there, as pandas reads them.
const MISSING: [&str; 8] = ["", "na", "n/a", "nan", "null", "none", "#n/a", "-nan"];

/// The records of the table at `path`, or `None` where its name is of no table.
///
/// # Errors
/// [`DataError`] naming the file, the line and the column.
pub fn from_table(path: &Path, wanted: &Wanted) -> Result<Option<Records>, DataError> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let separator = match plain.rsplit('.').next() {
        Some("csv") => b',',
        Some("tsv" | "tab") => b'\t',
        _ => return Ok(None),
    };
    records(path, Table::parse(path, &read(path)?, separator)?, wanted).map(Some)
}

/// Cells by column, with names and the lines of the rows.
pub(crate) struct Table {
    pub(crate) names: Vec<String>,
    pub(crate) columns: Vec<Vec<String>>,
    pub(crate) lines: Vec<u64>,
}

impl Table {
    /// The table in `bytes`. The first row names the columns unless all of its cells are numbers, as no names are.
    pub(crate) fn parse(path: &Path, bytes: &[u8], separator: u8) -> Result<Self, DataError> {
        // A byte order mark, as Excel writes it, is no part of the first name.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(separator).trim(csv::Trim::All).from_reader(bytes);
        let mut table = Self { names: Vec::new(), columns: Vec::new(), lines: Vec::new() };
        for record in reader.records() {
            let record = record.map_err(|error| refuse(path, error, "every line has the same number of cells"))?;
            let line = record.position().map_or(0, csv::Position::line);
            if table.names.is_empty() {
                table.columns = vec![Vec::new(); record.len()];
                if record.iter().all(|cell| cell.parse::<f64>().is_ok()) {
                    table.names = (0..record.len()).map(|at| at.to_string()).collect();
                } else {
                    table.names = record.iter().map(str::to_owned).collect();
                    continue;
                }
            }
            table.lines.push(line);
            for (cell, column) in record.iter().zip(&mut table.columns) {
                column.push(cell.to_owned());
            }
        }
        if let Some(twice) = (1..table.names.len()).find(|&at| table.names[..at].contains(&table.names[at])) {
            return Err(refuse(path, format!("two columns are named `{}`", table.names[twice]), "give each column a name of its own"));
        }
        Ok(table)
    }

    /// The column that has the first of `names` that one has, in letters of either case.
    pub(crate) fn named_like(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.names.iter().find(|known| known.eq_ignore_ascii_case(name))).cloned()
    }

    /// The only column that holds a word, besides those of the names `taken`.
    fn only_words(&self, taken: &[&String]) -> Option<String> {
        let holds_words = |column: &Vec<String>| {
            column.iter().any(|cell| !MISSING.contains(&&*cell.to_ascii_lowercase()) && cell.parse::<f64>().is_err())
        };
        let columns = self.names.iter().zip(&self.columns).filter(|(name, column)| !taken.contains(name) && holds_words(column));
        let names: Vec<&String> = columns.map(|(name, _)| name).collect();
        if let [name] = names[..] { Some(name.clone()) } else { None }
    }

    /// The column `name` as numbers where all of its cells are, else as words.
    pub(crate) fn column(&self, path: &Path, key: &str, name: &str) -> Result<Column, DataError> {
        let at = self.names.iter().position(|known| known == name).ok_or_else(|| {
            let names = self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            refuse(path, format!("it has no column `{name}` for `{key}`"), &format!("it has {names}"))
        })?;
        let cells = &self.columns[at];
        let numbers: Option<Vec<f64>> = cells.iter().map(|cell| cell.parse().ok()).collect();
        Ok(numbers.map_or_else(|| Column::Words(cells.clone()), Column::Numbers))
    }
}

fn records(path: &Path, table: Table, wanted: &Wanted) -> Result<Records, DataError> {
    let labels = match wanted.labels.as_str() {
        "none" => None,
        "" => table.named_like(&LABELS).or_else(|| table.only_words(&[&wanted.groups, &wanted.split])),
        name => Some(name.to_owned()),
    };
    let optional = |key: &str, name: &str| if name.is_empty() { Ok(None) } else { table.column(path, key, name).map(Some) };
    let of_labels = optional("labels", labels.as_deref().unwrap_or_default())?;
    let named: Vec<&String> = labels.iter().chain([&wanted.groups, &wanted.split].into_iter().filter(|name| !name.is_empty())).collect();
    let is_index =
        |at: usize| table.names[at].is_empty() && table.columns[at].iter().enumerate().all(|(row, cell)| *cell == row.to_string());
    let inputs: Vec<usize> = if wanted.inputs.is_empty() {
        (0..table.names.len()).filter(|&at| !named.contains(&&table.names[at]) && !is_index(at)).collect()
    } else {
        let find = |name: &str| table.column(path, "inputs", name).map(|_| table.names.iter().position(|known| known == name).unwrap_or(0));
        wanted.inputs.split(',').map(|name| find(name.trim())).collect::<Result<_, _>>()?
    };
    if inputs.is_empty() || table.lines.is_empty() {
        return Err(refuse(path, format!("it has {} rows and {} columns of inputs", table.lines.len(), inputs.len()), ""));
    }
    let mut values = vec![0.0_f32; table.lines.len() * inputs.len()];
    for (place, &at) in inputs.iter().enumerate() {
        for (row, cell) in table.columns[at].iter().enumerate() {
            values[row * inputs.len() + place] = number(cell).map_err(|what| {
                let hint = format!(
                    "fill or remove the row, leave the column out with `inputs:\"a,b\"`, or give its labels as `labels:{}`",
                    table.names[at]
                );
                refuse(path, format!("line {}, column `{}`: {what}", table.lines[row], table.names[at]), &hint)
            })?;
        }
    }
    Ok(Records {
        shape: [1, 1, inputs.len()],
        inputs: Buffer::F32(values),
        levels: None,
        labels: of_labels,
        groups: optional("groups", &wanted.groups)?,
        factors: Vec::new(),
        test: optional("split", &wanted.split)?.map(|column| test_records(path, &column)).transpose()?,
        names: Names::Lines(table.lines),
    })
}

/// A finite number, or what the cell is instead.
fn number(cell: &str) -> Result<f32, String> {
    match cell.parse::<f64>() {
        _ if MISSING.contains(&cell.to_ascii_lowercase().as_str()) => Err(format!("the value is missing (`{cell}`)")),
        Ok(value) if (value as f32).is_finite() => Ok(value as f32),
        Ok(_) => Err(format!("`{cell}` is not finite in single precision")),
        Err(_) => Err(format!("`{cell}` is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, wanted: &Wanted) -> Result<Records, String> {
        let path = Path::new("t.csv");
        Table::parse(path, text.as_bytes(), b',').and_then(|table| records(path, table, wanted)).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_of_numbers_are_inputs_and_the_target_is_the_label() {
        let records = read_text("\u{feff},a,b,target\n0,1,2.5,cat\n1,-1,1e3,dog\n", &Wanted::default()).unwrap();
        assert_eq!((records.shape, records.inputs), ([1, 1, 2], Buffer::F32(vec![1.0, 2.5, -1.0, 1000.0])));
        assert_eq!(records.labels, Some(Column::Words(vec!["cat".into(), "dog".into()])));
        assert_eq!(records.names.of(1), "line 3");
        let only = read_text("a,kind\n1,cat\n2,dog\n", &Wanted::default()).unwrap();
        assert_eq!((only.inputs, only.labels.unwrap().len()), (Buffer::F32(vec![1.0, 2.0]), 2), "the only column of words");
        let bare = read_text("1,2\n3,4\n", &Wanted { labels: "1".into(), ..Wanted::default() }).unwrap();
        assert_eq!((bare.inputs, bare.labels), (Buffer::F32(vec![1.0, 3.0]), Some(Column::Numbers(vec![2.0, 4.0]))));
    }

    #[test]
    fn chosen_columns_groups_and_splits_are_taken() {
        let text = "a,b,who,part\n1,2,p,train\n3,4,q,test\n";
        let wanted = Wanted { inputs: "b".into(), groups: "who".into(), split: "part".into(), ..Wanted::default() };
        let records = read_text(text, &wanted).unwrap();
        assert_eq!((records.inputs, records.test, records.labels), (Buffer::F32(vec![2.0, 4.0]), Some(vec![false, true]), None));
        assert_eq!(records.groups, Some(Column::Words(vec!["p".into(), "q".into()])));
    }

    #[test]
    fn what_is_no_number_is_named_with_line_and_column() {
        for (text, words) in [
            ("a,b\n1,2\n3,\n", ["line 3, column `b`", "missing"]),
            ("a,b\n1,NaN\n", ["line 2, column `b`", "missing (`NaN`)"]),
            ("a,b,c\n1,red,x\n", ["line 2, column `b`", "`red` is no number"]),
            ("a,b\n1,1e40\n", ["line 2, column `b`", "not finite"]),
            ("a,a\n1,2\n", ["two columns", "`a`"]),
            ("a,b\n1\n", ["2 fields", "line: 2"]),
            ("a,b\n", ["0 rows", "t.csv"]),
        ] {
            let error = read_text(text, &Wanted::default()).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
        }
        let error = read_text("a,b\n1,2\n", &Wanted { labels: "c".into(), ..Wanted::default() }).unwrap_err();
        assert!(error.contains("no column `c` for `labels`") && error.contains("`a`, `b`"), "{error}");
    }
}
