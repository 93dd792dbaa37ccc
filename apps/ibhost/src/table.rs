//! Tables on stdout in the three formats.

use std::io::Write;
use std::sync::OnceLock;

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{ContentArrangement, Table};

use crate::exit::Failure;

/// A table for people: aligned columns without lines.
pub fn plain(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    table.add_rows(rows);
    trim_lines(&table.to_string())
}

/// A markdown table.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect::<Vec<_>>()));
    trim_lines(&table.to_string())
}

fn trim_lines(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Why the first text that could not be printed was lost.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints `text` and a line end. A reader that went away is not an error; anything else is told by [`lost`] when the work is done, which
/// printing never ends.
#[allow(clippy::unnecessary_wraps, reason = "printing is the last step of commands that return a result")]
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            LOST.get_or_init(|| error.to_string());
        }
        _ => {}
    }
    Ok(())
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
