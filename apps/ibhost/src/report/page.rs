//! The page of a report: one HTML file that needs no network, in light and dark, with every number linked to its runs.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ibhost_analyses::plot::{Figure, svg};
use ibhost_framework::component::text_of;
use ibhost_framework::storage::RunStatus;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::ReportTable;
use super::value::Trial;
use crate::exit::Failure;
use crate::paths::{absolute, show};

/// Width and height of a figure in its own units; the page scales it.
const FIGURE: (u32, u32) = (760, 480);

/// What stands in a section.
pub enum Content {
    /// A table.
    Table(ReportTable),
    /// Figures side by side, and the positions of the runs behind each label of theirs.
    Figures(Vec<Figure>, Vec<(String, Vec<usize>)>),
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
    let completed = page.trials.iter().filter(|trial| trial.status == RunStatus::Completed).count();
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
                        "Means over completed runs ± sample standard deviation; every number leads to its runs, every run to its command."
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
                        }
                    }
                    section id="numbers" { h2 { "Numbers" } (numbers(&sources)) }
                    section id="runs" { h2 { "Runs" } (runs(page)) }
                }
            }
        }
    };
    Ok(markup.into_string())
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
                                        @if same.is_none() { sub { (cell.runs.len()) } }
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
            None => p.quiet { "The lowered figure is the number of runs." },
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

/// Where `path` is seen from the page's folder.
fn link(folder: &Path, path: &Path) -> String {
    let path = absolute(path);
    let relative = path.strip_prefix(absolute(folder)).map(Path::to_path_buf);
    show(&relative.unwrap_or(path))
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
                h3 { (at + 1) ". " a href=(link(page.folder, &trial.run.path)) { (trial.name()) } }
                p {
                    @for (axis, value) in &trial.run.axes { (axis) "=" (text_of(value)) ", " }
                    strong { (status(trial.status)) }
                    @if let Some(reason) = &summary.reason { ": " (reason) }
                    ", " (summary.epochs) " epochs, " (summary.steps) " steps, seed " (summary.seed) ", "
                    (format!("{:.1}", summary.elapsed_time_s)) " s on " (summary.device) ", started " (summary.started)
                }
                pre { code { (shell(&summary.command)) } }
            }
        }
    }
}

fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Completed => "completed",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Failed => "failed",
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
            content: Content::Figures(vec![Figure::new("t < 1", "x", "y")], vec![("s < 2".to_owned(), vec![0])]),
        };
        let page = Page { title: "<script>", text: None, parts: &[part], trials: &[], folder: Path::new(".") };
        let text = render(&page).unwrap();
        assert!(text.contains("&lt;script&gt;") && text.contains("&lt;a&gt; &amp; b") && !text.contains("<script"));
        assert!(text.contains("s &lt; 2: <a href=\"#run-0\">1</a>"), "{text}");
        for attribute in ["src=\"http", "href=\"http", "url(", "@import"] {
            assert!(!text.contains(attribute), "{attribute}");
        }
    }
}
