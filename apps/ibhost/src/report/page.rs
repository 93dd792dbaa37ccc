//! The page of a report: one HTML file that needs no network, in light and dark, with every number linked to its runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ibhost_analyses::figures::plot::{Figure, svg};
use ibhost_framework::comparison::{self, ComparisonTable};
use ibhost_framework::component::text_of;
use ibhost_framework::storage::RunStatus;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::ReportTable;
use super::value::Trial;
use crate::exit::Failure;
use crate::paths::{absolute, show};
use crate::together::status_word;
use ibhost_framework::text::visible;

/// Width and height of a figure in its own units; the page scales it.
const FIGURE: (u32, u32) = (760, 480);

/// What stands in a section.
pub enum Content {
    /// A table.
    Table(ReportTable),
    /// Figures side by side, and the positions of the runs behind each label of theirs.
    Figures(Vec<Figure>, Vec<(String, Vec<usize>)>),
    /// Pictures and tables of a comparison, and the positions of its runs.
    Compared(Vec<comparison::Picture>, Vec<ComparisonTable>, Vec<usize>),
    /// PNG files with their captions and the position of their run.
    Pictures(Vec<Picture>),
    /// No run has got far enough.
    Nothing,
}

/// A picture of a run.
pub struct Picture {
    /// The PNG file.
    pub bytes: Vec<u8>,
    /// Below it.
    pub caption: String,
    /// Position of the run among those of the report.
    pub run: usize,
}

/// A section ready to be written.
pub struct Part {
    /// Heading.
    pub title: String,
    /// Paragraph.
    pub text: Option<String>,
    /// Positions of runs that it lacks a number of, with the reason.
    pub missing: Vec<(usize, String)>,
    /// Positions of runs with what has to be known of their numbers.
    pub notes: Vec<(usize, String)>,
    /// The rest.
    pub content: Content,
}

/// Everything on the page.
pub struct Page<'a> {
    /// Heading.
    pub title: &'a str,
    /// Paragraph.
    pub text: Option<&'a str>,
    /// From top to bottom.
    pub parts: &'a [Part],
    /// All runs, those without numbers too.
    pub trials: &'a [Trial],
    /// What should be runs and cannot be shown, with the reason.
    pub left_out: &'a [(PathBuf, String)],
    /// Folder the page is written to, for links.
    pub folder: &'a Path,
}

/// A number with the runs it was made of.
struct Source {
    section: String,
    what: String,
    text: String,
    runs: Vec<(usize, String)>,
}

/// The page as HTML.
pub fn render(page: &Page<'_>) -> Result<String, Failure> {
    let mut sources = Vec::new();
    let mut sections = Vec::new();
    for part in page.parts {
        sections.push(section(part, &mut sources)?);
    }
    let is_completed = |trial: &&Trial| trial.status == RunStatus::Completed;
    let completed = page.trials.iter().filter(is_completed).count();
    let unfinished: Vec<(usize, &Trial)> = page.trials.iter().enumerate().filter(|(_, trial)| !is_completed(trial)).collect();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Without one of its own a browser asks the server for an icon.
                link rel="icon" href="data:,";
                title { (page.title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { (page.title) }
                    @if let Some(text) = page.text { p { (text) } }
                    p.quiet {
                        (completed) " completed of " (page.trials.len()) " runs, ibhost " (env!("CARGO_PKG_VERSION")) ". "
                        "Means over completed runs that differ in their seed alone ± sample standard deviation, the number n of runs beside; \
                         every number leads to its runs, every run to its command."
                    }
                    @if !unfinished.is_empty() {
                        p {
                            "Not completed, and in no number: "
                            @for (place, (at, trial)) in unfinished.iter().enumerate() {
                                @if place > 0 { ", " }
                                a href={ "#run-" (at) } { (trial.name()) } " (" (status_word(trial.status)) ")"
                            }
                            "."
                        }
                    }
                    @if !page.left_out.is_empty() {
                        p { "Left out, because they cannot be shown:" }
                        ul { @for (path, reason) in page.left_out { li { (link_to(page.folder, path)) ": " (reason) } } }
                    }
                    nav {
                        @for (at, part) in page.parts.iter().enumerate() { a href={ "#section-" (at) } { (part.title) } }
                        a href="#numbers" { "Numbers" }
                        a href="#runs" { "Runs" }
                    }
                }
                main {
                    @for (at, (part, content)) in page.parts.iter().zip(&sections).enumerate() {
                        section id={ "section-" (at) } {
                            h2 { (part.title) }
                            @if let Some(text) = &part.text { p { (text) } }
                            (content)
                            @for (run, note) in &part.notes {
                                p { a href={ "#run-" (run) } { "Run " (run + 1) } ": " (note) }
                            }
                            @for (run, reason) in &part.missing {
                                p.quiet { "Without " a href={ "#run-" (run) } { "run " (run + 1) } ": " (reason) }
                            }
                        }
                    }
                    section id="numbers" { h2 { "Numbers" } (numbers(&sources)) }
                    section id="runs" { h2 { "Runs" } (runs(page)) }
                }
            }
        }
    };
    // Names and texts of runs may come from somebody else; markup has no such characters.
    Ok(visible(&markup.into_string()).into_owned())
}

fn section(part: &Part, sources: &mut Vec<Source>) -> Result<Markup, Failure> {
    Ok(match &part.content {
        Content::Table(table) => table_markup(table, sources),
        Content::Figures(figures, members) => {
            let mut drawings = Vec::new();
            for figure in figures {
                drawings
                    .push(svg(figure, FIGURE).map_err(|e| Failure::failed(format!("a figure of `{}` cannot be drawn: {e}", part.title)))?);
            }
            html! {
                div.figures {
                    @for (figure, drawing) in figures.iter().zip(drawings) {
                        figure role="img" aria-label=(figure.title) { (PreEscaped(drawing)) }
                    }
                }
                details {
                    summary { (members.iter().map(|(_, runs)| runs.len()).sum::<usize>()) " runs" }
                    @for (label, runs) in members {
                        p {
                            @if !label.is_empty() { (label) ": " }
                            @for run in runs { a href={ "#run-" (run) } { (run + 1) } " " }
                        }
                    }
                }
            }
        }
        Content::Compared(pictures, tables, runs) => html! {
            div.pictures {
                @for picture in pictures {
                    figure { img alt=(picture.name) src={ "data:image/png;base64," (STANDARD.encode(&picture.png)) }; }
                }
            }
            @for table in tables {
                div.wide { table {
                    @if let Some((header, rows)) = table.cells.split_first() {
                        thead { tr { @for name in header { th { (name) } } } }
                        tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
                    }
                } }
            }
            details {
                summary { (runs.len()) " runs" }
                p { @for run in runs { a href={ "#run-" (run) } { (run + 1) } " " } }
            }
        },
        Content::Pictures(pictures) => html! {
            div.pictures {
                @for picture in pictures {
                    figure {
                        img alt=(picture.caption) src={ "data:image/png;base64," (STANDARD.encode(&picture.bytes)) };
                        figcaption { a href={ "#run-" (picture.run) } { (picture.caption) } }
                    }
                }
            }
        },
        Content::Nothing => html! { p.quiet { "No completed run belongs here yet." } },
    })
}

fn table_markup(table: &ReportTable, sources: &mut Vec<Source>) -> Markup {
    let same = table.same_count();
    let first = sources.len();
    for (settings, cells) in &table.rows {
        let row = table.settings.iter().zip(settings).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
        for (cell, column) in cells.iter().zip(&table.columns) {
            let Some(cell) = cell else { continue };
            sources.push(Source {
                section: table.title.clone(),
                what: format!("{row}; {}", column.name),
                text: cell.text(&column.quantity),
                runs: cell.runs.iter().map(|(run, value)| (*run, column.quantity.text(*value))).collect(),
            });
        }
    }
    let mut number = first..;
    html! {
        div.wide {
            table {
                thead { tr {
                    @for name in &table.settings { th { (name) } }
                    @for column in &table.columns { th.number { (column.name) } }
                } }
                tbody {
                    @for (settings, cells) in &table.rows {
                        tr {
                            @for value in settings { th scope="row" { (value) } }
                            @for (cell, column) in cells.iter().zip(&table.columns) {
                                @if let Some(cell) = cell {
                                    td.number style=[cell.shade.map(|shade| format!("--shade:{:.0}%", 70.0 * shade))] {
                                        a href={ "#number-" (number.next().unwrap_or(first)) } { (cell.text(&column.quantity)) }
                                        sub { "n=" (cell.runs.len()) }
                                        @if let Some(published) = &cell.published { small title=(table.reference) { (published) } }
                                    }
                                } @else { td.number { "–" } }
                            }
                        }
                    }
                }
            }
        }
        @if table.rows.iter().any(|(_, cells)| cells.iter().flatten().any(|cell| cell.published.is_some())) {
            p.quiet { "Small below a number: " (table.reference) "." }
        }
        @match same {
            Some(1) => p.quiet { "One run a number." },
            Some(n) => p.quiet { (n) " runs a number." },
            None => p.quiet { "n is the number of runs." },
        }
    }
}

fn numbers(sources: &[Source]) -> Markup {
    html! {
        @if sources.is_empty() { p.quiet { "There is no table on this page." } }
        @else {
            div.wide { table {
                thead { tr { th { "table" } th { "what" } th.number { "value" } th { "runs" } } }
                tbody {
                    @for (at, source) in sources.iter().enumerate() {
                        tr id={ "number-" (at) } {
                            td { (source.section) }
                            td { (source.what) }
                            td.number { (source.text) }
                            td { @for (run, value) in &source.runs { a href={ "#run-" (run) } { (value) } " " } }
                        }
                    }
                }
            } }
        }
    }
}

/// The last name of `path`, which leads there where it can be reached from the page's folder.
fn link_to(folder: &Path, path: &Path) -> Markup {
    let name = path.file_name().map_or_else(|| show(path), |name| show(Path::new(name)));
    if let Some(link) = link(folder, path) {
        html! { a href=(link) { (name) } }
    } else {
        html! { (name) }
    }
}

/// Where `path` is seen from the page's folder: always a relative place, in which every character that means something in a link is encoded.
/// Nothing between two drives.
fn link(folder: &Path, path: &Path) -> Option<String> {
    // The page's folder may not exist yet, and links lead where they really lead.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| absolute(path));
    let (folder, path) = (real(folder), real(path));
    let common = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return None;
    }
    let up = folder.components().skip(common).map(|_| "..".to_owned());
    let down = path.components().skip(common).map(|part| encoded(part.as_os_str().as_encoded_bytes()));
    // A name with a colon is no scheme after this.
    Some(std::iter::once(".".to_owned()).chain(up).chain(down).collect::<Vec<_>>().join("/"))
}

/// A name with everything but letters, digits and `-._~` as `%2F`.
fn encoded(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            // Writing to a string cannot fail.
            byte => _ = write!(text, "%{byte:02X}"),
        }
    }
    text
}

/// A command that can be pasted into a shell.
fn shell(arguments: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@+".contains(c);
    let quoted = |text: &String| {
        if !text.is_empty() && text.chars().all(plain) { text.clone() } else { format!("'{}'", text.replace('\'', "'\\''")) }
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn runs(page: &Page<'_>) -> Markup {
    html! {
        @for (at, trial) in page.trials.iter().enumerate() {
            @let summary = &trial.summary;
            article id={ "run-" (at) } {
                h3 { (at + 1) ". " (link_to(page.folder, &trial.run.path)) }
                p {
                    @for (axis, value) in &trial.run.axes { (axis) "=" (text_of(value)) ", " }
                    strong { (status_word(trial.status)) }
                    @if let Some(reason) = &summary.reason { ": " (reason) }
                    ", " (summary.epochs) " epochs, " (summary.steps) " steps, seed " (summary.seed) ", "
                    (format!("{:.1}", summary.elapsed_time_s)) " s on " (summary.device) ", started " (summary.started)
                }
                pre { code { (shell(&summary.command)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_shell() {
        let words = ["ibhost", "run", "--set", "objective.beta=0.01", "--encoder", "mlp/e1:8|z:2", "it's"].map(str::to_owned);
        assert_eq!(shell(&words), "ibhost run --set objective.beta=0.01 --encoder 'mlp/e1:8|z:2' 'it'\\''s'");
    }

    #[test]
    fn text_is_escaped_and_nothing_is_fetched() {
        let part = Part {
            title: "<a> & b".to_owned(),
            text: None,
            missing: Vec::new(),
            notes: Vec::new(),
            content: Content::Figures(vec![Figure::new("t < 1", "x <script>", "y")], vec![("s < 2".to_owned(), vec![0])]),
        };
        let left_out = [(PathBuf::from("runs/javascript:alert(1)"), "\u{1b}[31m <b>\u{202e}".to_owned())];
        let page = Page { title: "<script>", text: None, parts: &[part], trials: &[], left_out: &left_out, folder: Path::new(".") };
        let text = render(&page).unwrap();
        assert!(text.contains("&lt;script&gt;") && text.contains("&lt;a&gt; &amp; b") && !text.contains("<script"));
        assert!(text.contains("s &lt; 2: <a href=\"#run-0\">1</a>"), "{text}");
        assert!(
            text.contains("<a href=\"./runs/javascript%3Aalert%281%29\">javascript:alert(1)</a>: \\u001b[31m &lt;b&gt;\\u202e"),
            "{text}"
        );
        for attribute in ["src=\"http", "href=\"http", "url(", "@import"] {
            assert!(!text.contains(attribute), "{attribute}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_relative_and_no_name_is_a_scheme_or_an_address() {
        let at = |folder: &str, path: &str| link(Path::new(folder), Path::new(path)).unwrap();
        assert_eq!(at("/a/b", "/a/b/c d"), "./c%20d");
        assert_eq!(at("/a/b", "/a/c/\"'<&?#%"), "./../c/%22%27%3C%26%3F%23%25");
        assert_eq!(at("/a", "/a/javascript:alert(1)"), "./javascript%3Aalert%281%29");
        assert_eq!(at("/a", "/a"), ".");
        assert_eq!(at("/a", "//b/c"), "./../b/c", "no address of another machine");
    }
}
