//! The one writer of comma-separated values: cells with commas, quotes or line breaks are quoted, everything else is left as it is.

/// Rows of cells as text, one line each; cells are quoted where they have to be, and a text that begins with `=` is no formula to us.
pub fn csv_text<R, C>(rows: R) -> String
where
    R: IntoIterator<Item = C>,
    C: IntoIterator<Item: AsRef<[u8]>>,
{
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for row in rows {
        // Writing to memory cannot fail, and rows may have any length.
        let _ = writer.write_record(row);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_have_to_be_and_read_back() {
        let rows =
            [vec!["run", "x"], vec!["a,b", "1.5"], vec!["say \"x\"", "=SUM(A1)"], vec!["two\nlines\r", ""], vec!["±é", "-1"], vec![""]];
        let text = csv_text(rows.iter().map(|row| row.iter()));
        assert_eq!(text, "run,x\n\"a,b\",1.5\n\"say \"\"x\"\"\",=SUM(A1)\n\"two\nlines\r\",\n±é,-1\n\"\"\n");
        let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(text.as_bytes());
        let read: Vec<Vec<String>> = reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
        assert_eq!(read, rows.map(|row| row.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(csv_text(Vec::<Vec<String>>::new()), "");
    }
}
