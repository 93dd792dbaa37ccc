//! Reports: many runs on one page, by a template or by what the runs differ in.

mod figure;
mod page;
mod table;
mod template;
mod value;

use std::path::Path;

use ibhost_analyses::plot::Figure;
use ibhost_framework::storage::{RunStatus, inside};

use crate::exit::Failure;
use page::{Content, Picture};
pub use page::{Page, Part, render};
pub use template::Template;
use template::{CurvesTemplate, PicturesTemplate, PlaneTemplate, Quantity, Section, TableTemplate};
pub use value::{Trial, run_folders};

/// A finished report.
pub struct Report {
    /// The page.
    pub html: String,
    /// Name and text of the CSV and LaTeX files beside it.
    pub tables: Vec<(String, String)>,
}

/// Fills `template` with the completed runs among `trials`. `folder` is where the page will be, `stem` the start of its file name.
pub fn report(template: &Template, trials: &[Trial], folder: &Path, stem: &str) -> Result<Report, Failure> {
    let mut parts = Vec::new();
    let mut tables = Vec::new();
    for section in &template.sections {
        let mut members = Vec::new();
        for (at, trial) in trials.iter().enumerate().filter(|(_, trial)| trial.status == RunStatus::Completed) {
            if trial.belongs(section)? {
                members.push((at, trial));
            }
        }
        let content = if members.is_empty() { Content::Nothing } else { content(section, &members)? };
        if let Content::Table(table) = &content {
            let name = format!("{stem}-{}", file_part(&section.title));
            tables.push((format!("{name}.csv"), table.csv()));
            tables.push((format!("{name}.tex"), table.latex()));
        }
        parts.push(Part { title: section.title.clone(), text: section.text.clone(), content });
    }
    let title = template.title.as_deref().unwrap_or("Report");
    let html = render(&Page { title, text: template.text.as_deref(), parts: &parts, trials, folder })?;
    Ok(Report { html, tables })
}

fn content(section: &Section, trials: &[(usize, &Trial)]) -> Result<Content, Failure> {
    if let Some(template) = &section.table {
        return table::table(section, template, trials).map(Content::Table);
    }
    let drawn = |figures: Vec<Figure>, series: &[String]| Ok(Content::Figures(figures, members(series, trials)?));
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
    match &section.pictures {
        Some(template) => pictures(section, template, trials).map(Content::Pictures),
        None => Ok(Content::Nothing),
    }
}

/// The runs behind each curve or colour of a figure.
fn members(series: &[String], trials: &[(usize, &Trial)]) -> Result<Vec<(String, Vec<usize>)>, Failure> {
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    for (at, trial) in trials {
        let label = trial.label(series)?;
        match found.iter_mut().find(|(known, _)| *known == label) {
            Some((_, runs)) => runs.push(*at),
            None => found.push((label, vec![*at])),
        }
    }
    Ok(found)
}

fn pictures(section: &Section, template: &PicturesTemplate, trials: &[(usize, &Trial)]) -> Result<Vec<Picture>, Failure> {
    let mut found = Vec::new();
    for file in &template.files {
        let mut seen = Vec::new();
        for (at, trial) in trials {
            let label = if template.label.is_empty() { trial.name() } else { trial.label(&template.label)? };
            let path = trial.run.path.join(file);
            if (template.one_each && seen.contains(&label)) || !path.is_file() {
                continue;
            }
            let bytes = inside::read(&path)?;
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

/// Settings in which the runs differ, the seed left out.
fn varied(trials: &[Trial]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for trial in trials {
        for name in trial.run.settings() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let differs = |name: &String| {
        let mut values = trials.iter().map(|trial| trial.run.setting(name).ok());
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    // What only some runs have belongs to a component, whose name differs already.
    let everywhere = |name: &String| trials.iter().all(|trial| trial.run.setting(name).is_ok());
    names.retain(|name| name != "seed" && name != "name" && everywhere(name) && differs(name));
    names
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
        let names = entries.flatten().map(|entry| format!("plots/{}", entry.file_name().to_string_lossy()));
        let is_png = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "png");
        files.extend(names.filter(is_png));
    }
    files.sort();
    files.dedup();
    if !files.is_empty() {
        let pictures = PicturesTemplate { files, label: by, one_each: true };
        sections.push(Section { title: "Pictures".to_owned(), pictures: Some(pictures), ..Section::default() });
    }
    Template { title: None, text: None, sections }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_file_names() {
        assert_eq!(file_part("Rate I(X;Z), bits & more"), "rate-i-x-z-bits-more");
    }
}
