//! Reports: many runs on one page, by a template or by what the runs differ in.

mod alike;
mod figure;
mod page;
mod picture;
mod table;
mod template;
mod value;

use std::path::{Path, PathBuf};

use ibhost_analyses::figures::plot::Figure;
use ibhost_framework::comparison::{Compared, ComparisonConfig};
use ibhost_framework::component::resolve;
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::registry::Kind;
use ibhost_framework::storage::RunStatus;

use crate::commands::open_run;
use crate::exit::Failure;
use alike::{check_known, told_apart_by};
use ibhost_comparisons::group::grouped;
use page::{Content, Picture};
pub use page::{Page, Part, render};
pub use template::Template;
use template::{CurvesTemplate, PicturesTemplate, PlaneTemplate, Quantity, Section, TableTemplate};
pub use value::{Trial, no_run_in, run_folders};

/// A finished report.
pub struct Report {
    /// The page.
    pub html: String,
    /// Name and text of the CSV and LaTeX files beside it.
    pub tables: Vec<(String, String)>,
}

/// Fills `template` with the completed runs among `trials`. `left_out` are runs that cannot be shown, with the reason. `folder` is where the
/// page will be, `stem` the start of its file name.
pub fn report(template: &Template, trials: &[Trial], left_out: &[(PathBuf, String)], folder: &Path, stem: &str) -> Result<Report, Failure> {
    let mut parts = Vec::new();
    let mut tables: Vec<(String, String)> = Vec::new();
    let completed: Vec<(usize, &Trial)> = trials.iter().enumerate().filter(|(_, trial)| trial.status == RunStatus::Completed).collect();
    for (at, section) in template.sections.iter().enumerate() {
        let members: Vec<(usize, &Trial)> = completed.iter().copied().filter(|(_, trial)| trial.belongs(section)).collect();
        let filled = check_known(section.filter.keys(), &completed)
            .and_then(|()| if members.is_empty() { Ok(Content::Nothing) } else { content(section, &members) });
        let content = filled.map_err(|failure| template.located(at, failure))?;
        if let Content::Table(table) = &content {
            let name = [stem, &file_part(&section.title)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
            let is_free = |name: &str| !tables.iter().any(|(file, _)| *file == format!("{name}.csv"));
            // One more name than there are tables is enough.
            let numbered = (2..=tables.len() + 2).map(|n| format!("{name}-{n}")).find(|name| is_free(name));
            let name = if is_free(&name) { name } else { numbered.unwrap_or(name) };
            tables.push((format!("{name}.csv"), table.csv()));
            tables.push((format!("{name}.tex"), table.latex()));
        }
        parts.push(Part {
            title: section.title.clone(),
            text: section.text.clone(),
            missing: missing(section, &members),
            notes: notes(section, &members),
            content,
        });
    }
    let title = template.title.as_deref().unwrap_or("Report");
    let html = render(&Page { title, text: template.text.as_deref(), parts: &parts, trials, left_out, folder })?;
    Ok(Report { html, tables })
}

/// Numbers of analyses that a section asks for and that cannot be taken from a run, with the reason.
fn missing(section: &Section, trials: &[(usize, &Trial)]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (at, trial) in trials {
        for of in section.quantities() {
            if let Err(reason) = trial.measured(&of)
                && !found.iter().any(|(known, words)| known == at && *words == reason)
            {
                found.push((*at, reason));
            }
        }
    }
    found
}

/// What has to be known of the numbers of a section: results about other data than a run was trained on.
fn notes(section: &Section, trials: &[(usize, &Trial)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for of in section.quantities() {
        for (at, trial) in trials {
            if trial.measured(&of).is_ok_and(|measured| measured.is_some_and(|measured| measured.other_data)) {
                found.push((*at, format!("`{of}` is about data that the run was not trained on.")));
            }
        }
    }
    found
}

fn content(section: &Section, trials: &[(usize, &Trial)]) -> Result<Content, Failure> {
    if let Some(template) = &section.table {
        return table::table(section, template, trials).map(Content::Table);
    }
    let drawn = |figures: Vec<Figure>, series: &[String]| Ok(Content::Figures(figures, members(series, trials)));
    if let Some(template) = &section.against {
        return drawn(figure::against(section, template, trials)?, &template.series);
    }
    if let Some(template) = &section.curves {
        return drawn(figure::curves(section, template, trials)?, &template.series);
    }
    if let Some(template) = &section.plane {
        return drawn(vec![figure::plane(section, template, trials)?], &template.series);
    }
    if let Some(template) = &section.robustness {
        return drawn(figure::corruption(section, template, trials)?, &template.series);
    }
    if let Some(comparison) = &section.comparison {
        return compared(comparison, trials);
    }
    match &section.pictures {
        Some(template) => pictures(section, template, trials).map(Content::Pictures),
        None => Ok(Content::Nothing),
    }
}

/// What a comparison makes of the runs, as `ibhost compare` shows it.
fn compared(text: &str, trials: &[(usize, &Trial)]) -> Result<Content, Failure> {
    let (_, config) = resolve::<dyn ComparisonConfig>(Kind::Comparison, text).map_err(|error| Failure::component("comparison", &error))?;
    let runs = trials.iter().map(|(_, trial)| open_run(&trial.run.path, OtherDataPolicy::Refuse)).collect::<Result<Vec<_>, _>>()?;
    let comparison = config.compare(&Compared { runs: &runs, over: &[], results: &[], values: &[], references: &[] })?;
    if comparison.pictures.is_empty()
        && comparison.tables.is_empty()
        && let Some((_, error)) = comparison.left_out.into_iter().next()
    {
        return Err(error.into());
    }
    Ok(Content::Compared(comparison.pictures, comparison.tables, trials.iter().map(|(at, _)| *at).collect()))
}

/// The runs behind each curve or colour of a figure.
fn members(series: &[String], trials: &[(usize, &Trial)]) -> Vec<(String, Vec<usize>)> {
    grouped(trials.iter().map(|(at, trial)| (trial.label(series, &[]), *at)))
}

fn pictures(section: &Section, template: &PicturesTemplate, trials: &[(usize, &Trial)]) -> Result<Vec<Picture>, Failure> {
    let mut found = Vec::new();
    check_known(&template.label, trials)?;
    for file in &template.files {
        let mut seen = Vec::new();
        for (at, trial) in trials {
            let label = if template.label.is_empty() { trial.name() } else { trial.label(&template.label, &[]) };
            if template.one_each && seen.contains(&label) {
                continue;
            }
            let Some(bytes) = picture::read(&trial.run.path, file)? else { continue };
            let name = Path::new(file).file_stem().map_or_else(|| file.clone(), |stem| stem.to_string_lossy().into_owned());
            let caption = if template.files.len() > 1 { format!("{label}: {name}") } else { label.clone() };
            seen.push(label);
            found.push(Picture { bytes, caption, run: *at });
        }
    }
    if found.is_empty() {
        let files = template.files.join("`, `");
        return Err(Failure::usage(format!(
            "section `{}`: no run has `{files}`\n  hint: run the analysis that draws it with `ibhost analyze RUN --analysis NAME`",
            section.title
        )));
    }
    Ok(found)
}

/// No run of a section has what it shows.
fn unmeasured(section: &Section, of: &str, trials: &[(usize, &Trial)]) -> Failure {
    if let Some((trial, reason)) = trials.iter().find_map(|(_, trial)| Some((trial, trial.measured(of).err()?))) {
        return Failure::usage(format!("section `{}`: no run has `{of}` to show, {} because: {reason}", section.title, trial.name()));
    }
    let mut known: Vec<String> = Vec::new();
    if let Some((_, trial)) = trials.first() {
        let last = &trial.summary.final_metrics;
        known.extend(last.train.iter().map(|(name, _)| format!("train.{name}")));
        known.extend(last.test.iter().map(|(name, _)| format!("test.{name}")));
    }
    Failure::usage(format!(
        "section `{}`: no run has measured `{of}`\n  hint: the first one has {}, and the results of its analyses by `<analysis>.<key>`",
        section.title,
        known.join(", ")
    ))
}

/// Lower-case letters, digits and hyphens of a title, for file names.
fn file_part(title: &str) -> String {
    let letters: String = title.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    letters.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Settings in which the runs differ, the seed left out: those that all have, and of the others as many as tell the runs apart.
fn varied(trials: &[Trial]) -> Vec<String> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in trials.iter().flat_map(|trial| &trial.settings) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let values = |name: &String| -> Vec<Option<String>> { trials.iter().map(|trial| trial.setting(name)).collect() };
    names.retain(|name| {
        let values = values(name);
        values.iter().all(Option::is_some) && values.iter().any(|value| value != &values[0])
    });
    let shared: Vec<String> = names.into_iter().cloned().collect();
    let placed: Vec<(usize, &Trial)> = trials.iter().enumerate().collect();
    let others = told_apart_by(&placed, &shared, &[]);
    [shared, others].concat()
}

/// The template for runs that came without one: a table of every measurement by what the runs differ in, curves, the information plane, and
/// the pictures they share.
pub fn default_template(trials: &[Trial]) -> Template {
    let by = varied(trials);
    let rows = if by.is_empty() { vec!["objective".to_owned()] } else { by.clone() };
    let mut metrics: Vec<&str> = Vec::new();
    for (name, _) in trials.iter().flat_map(|trial| trial.summary.final_metrics.test.iter()) {
        if !metrics.contains(&name) {
            metrics.push(name);
        }
    }
    let values = metrics.iter().map(|name| Quantity::Short(format!("test.{name}"))).collect();
    let mut sections = Vec::new();
    if !metrics.is_empty() {
        let table = TableTemplate { rows, values, ..TableTemplate::default() };
        sections.push(Section { title: "Test split after training".to_owned(), table: Some(table), ..Section::default() });
        let curves = CurvesTemplate { metrics: metrics.iter().map(|m| (*m).to_owned()).collect(), series: by.clone() };
        sections.push(Section { title: "Curves".to_owned(), curves: Some(curves), ..Section::default() });
    }
    for unit in ["bits", "nats"] {
        let [x, y] = [format!("izx_{unit}"), format!("izy_{unit}")];
        if metrics.contains(&x.as_str()) && metrics.contains(&y.as_str()) {
            let axis = |metric: &str| Quantity::Short(format!("test.{metric}"));
            let plane = PlaneTemplate { x: axis(&x), y: axis(&y), series: by.clone(), training: true };
            sections.push(Section { title: "Information plane".to_owned(), plane: Some(plane), ..Section::default() });
            break;
        }
    }
    let mut files: Vec<String> = Vec::new();
    for trial in trials {
        let Ok(entries) = std::fs::read_dir(trial.run.path.join("plots")) else { continue };
        let plain = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let names = plain.map(|entry| format!("plots/{}", entry.file_name().to_string_lossy()));
        files.extend(names.filter(|name| picture::check_name(name).is_ok()));
    }
    files.sort();
    files.dedup();
    if !files.is_empty() {
        let pictures = PicturesTemplate { files, label: by, one_each: true };
        sections.push(Section { title: "Pictures".to_owned(), pictures: Some(pictures), ..Section::default() });
    }
    Template { sections, ..Template::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_file_names() {
        assert_eq!(file_part("Rate I(X;Z), bits & more"), "rate-i-x-z-bits-more");
    }
}
