//! Tables on stdout in the three formats.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{ContentArrangement, Table};
use unicode_width::UnicodeWidthStr;

use crate::exit::Failure;
use ibhost_framework::text::{is_plain, one_line, visible};

/// More rows than a person looks through are laid out without a thought for the width of the terminal.
const MANY: usize = 2000;

/// A table for people: aligned columns without lines.
pub fn plain(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|name| one_line(name).to_uppercase()).collect();
    if rows.len() > MANY || !std::io::stdout().is_terminal() {
        return aligned(&header, rows);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| one_line(cell))));
    trim_lines(&table.to_string())
}

/// What [`plain`] draws where there is room for every line, whatever the number of rows.
fn aligned(header: &[String], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.width()).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = columns(cell).max(*width);
        }
    }
    let mut text = String::with_capacity((rows.len() + 1) * (widths.iter().sum::<usize>() + 2 * widths.len() + 1));
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        if !text.is_empty() {
            text.push('\n');
        }
        for (cell, width) in row.iter().zip(&widths) {
            text.push(' ');
            text.push_str(&one_line(cell));
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(columns(cell)) + 1));
        }
        text.truncate(text.trim_end_matches(' ').len());
    }
    text
}

/// Columns of the terminal that a cell takes.
fn columns(cell: &str) -> usize {
    if is_plain(cell) { cell.len() } else { one_line(cell).width() }
}

/// A markdown table.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |cell: &String| one_line(&cell.replace('|', "\\|").replace('\n', " ")).into_owned();
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header.iter().map(|name| one_line(name)));
    table.add_rows(rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>()));
    trim_lines(&table.to_string())
}

fn trim_lines(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Why the first text that could not be printed was lost.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints `text` and a line end, with what would steer the terminal shown as escapes. A reader that went away is not an error; anything else is
/// told by [`lost`] when the work is done, which printing never ends.
#[allow(clippy::unnecessary_wraps, reason = "printing is the last step of commands that return a result")]
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let writable = if is_read_only() { Err(std::io::Error::other("it is open for reading only")) } else { Ok(()) };
    match writable.and_then(|()| out.write_all(visible(text).as_bytes())).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            LOST.get_or_init(|| error.to_string());
        }
        _ => {}
    }
    Ok(())
}

/// The standard library takes a stdout that cannot be written for one that nobody reads.
#[cfg(unix)]
#[allow(unsafe_code)]
fn is_read_only() -> bool {
    // SAFETY: a question about a descriptor, with no memory passed; one that is not open gives -1, which has no such mode.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    flags != -1 && flags & libc::O_ACCMODE == libc::O_RDONLY
}

#[cfg(not(unix))]
fn is_read_only() -> bool {
    false
}

/// What could not be printed, if anything.
pub fn lost() -> Option<Failure> {
    let hint = "the work itself is done and saved; only what it should have printed is missing";
    LOST.get().map(|reason| Failure::failed(format!("cannot write to stdout: {reason}\n  hint: {hint}")))
}

/// Prints a value as JSON.
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).map_err(|e| Failure::failed(format!("cannot write JSON: {e}")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_draw_a_table_give_the_same_text() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "漢字", ""]), row(["longer than the header", "é", "\u{1b}[31mred\nnext"]), row(["", "", ""])];
        let header = ["one", "two", "three"];
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header.map(str::to_uppercase));
        table.add_rows(rows.iter().map(|row| row.iter().map(|cell| one_line(cell))));
        assert_eq!(plain(&header, &rows), trim_lines(&table.to_string()));
        assert!(plain(&header, &rows).contains("\\u001b[31mred\\nnext"));
        assert!(
            markdown(&header, &rows).contains("| longer than the header | é    | \\u001b[31mred next |"),
            "{}",
            markdown(&header, &rows)
        );
    }
}
