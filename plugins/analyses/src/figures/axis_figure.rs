//! Figures of metrics against an axis: a line for each objective, error bars over seeds, other people's values dashed beside them.

use std::f64::consts::FRAC_1_SQRT_2;

use crate::figures::batch_figures::colours;
use crate::figures::plot::means::{Series, counted, means_against};
use crate::figures::plot::{Figure, Stroke};

/// One value of one run, or of a publication.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What it shares with the values on its line, e.g. the objective.
    pub line: String,
    /// Place on the axis.
    pub x: f64,
    /// What was measured; a panel of the figure.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Half-length of the error bar where `value` is a mean already; otherwise it is the deviation of the values at the place.
    pub spread: Option<f64>,
    /// Drawn dashed beside what was measured.
    pub reference: bool,
}

/// Columns a table of values has to have, in any order among others.
const COLUMNS: [&str; 4] = ["line", "x", "metric", "value"];
/// Column of error bars, empty where there is none.
const SPREAD: &str = "spread";

/// Reads comma-separated values with a header that names the columns `line`, `x`, `metric`, `value` and perhaps `spread`; other columns
/// are passed over.
///
/// # Errors
/// A sentence naming the line and what is wrong with it.
pub fn read_measured(text: &str, reference: bool) -> Result<Vec<Measured>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|cell| cell == name);
        found.ok_or_else(|| format!("line 1: there is no column `{name}`; the header has to name {}", COLUMNS.join(", ")))
    };
    let [line_at, x_at, metric_at, value_at] = COLUMNS.map(column);
    let (line_at, x_at, metric_at, value_at) = (line_at?, x_at?, metric_at?, value_at?);
    let spread_at = header.iter().position(|cell| cell == SPREAD);
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| error.to_string())?;
        // The position of a record is that of the empty lines before it.
        let start = record.position().map_or(0, csv::Position::byte) as usize;
        let skipped = text.get(start..).map_or(0, |rest| rest.len() - rest.trim_start_matches(['\r', '\n']).len());
        let number = 1 + text.bytes().take(start + skipped).filter(|byte| *byte == b'\n').count();
        if record.len() != header.len() {
            return Err(format!("line {number}: {} cells under a header of {}", record.len(), header.len()));
        }
        let cell = |at: usize| record.get(at).unwrap_or_default();
        let numeric = |at: usize| {
            let name = header.get(at).unwrap_or_default();
            cell(at).parse::<f64>().map_err(|_| format!("line {number}: `{name}` is `{}`, expected a number", cell(at)))
        };
        let spread = match spread_at {
            Some(at) if !cell(at).is_empty() => Some(numeric(at)?),
            _ => None,
        };
        let (line, metric) = (cell(line_at).to_owned(), cell(metric_at).to_owned());
        Ok(Measured { line, x: numeric(x_at)?, metric, value: numeric(value_at)?, spread, reference })
    };
    let is_blank = |record: &Result<csv::StringRecord, csv::Error>| record.as_ref().is_ok_and(|r| r.iter().all(str::is_empty));
    reader.records().filter(|record| !is_blank(record)).map(row).collect()
}

/// Values whose mean and sample standard deviation are those of `measured`: the value itself, or two about a mean with an error bar.
fn points(measured: &Measured) -> Vec<(f64, f64)> {
    let Measured { x, value, spread, .. } = *measured;
    match spread {
        Some(spread) => [-1.0, 1.0].map(|side| (x, value + side * spread * FRAC_1_SQRT_2)).to_vec(),
        None => vec![(x, value)],
    }
}

/// Each metric against `axis`, one panel a metric, see [`means_against`]; values that are not finite are left out.
pub fn against_axis(measured: &[Measured], axis: &str, metrics: &[String]) -> Vec<Figure> {
    let lines = colours(measured.iter().map(|m| m.line.as_str()));
    let panel = |metric: &String| {
        let of = |line: &str, reference: bool| {
            let members = measured.iter().filter(|m| m.reference == reference && m.line == line && m.metric == *metric);
            let members: Vec<&Measured> = members.filter(|m| m.value.is_finite()).collect();
            // How many values are behind a mean that was given as one is not known.
            let single = !reference && members.iter().all(|m| m.spread.is_none());
            let label = if single { counted(line, members.iter().map(|m| m.x)) } else { line.to_owned() };
            (label, members.into_iter().flat_map(points).collect())
        };
        let series = [(true, Stroke::Dashed, ", reference"), (false, Stroke::Solid, "")]
            .into_iter()
            .flat_map(|(reference, stroke, suffix)| lines.iter().map(move |&(line, colour)| (line, colour, reference, stroke, suffix)));
        let series = series.map(|(line, colour, reference, stroke, suffix)| {
            let (label, points) = of(line, reference);
            Series { label: format!("{label}{suffix}"), colour, stroke, points }
        });
        means_against(metric, axis, metric, &series.collect::<Vec<_>>())
    };
    metrics.iter().map(panel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::plot::{Layer, panels_png, show};

    const OBTAINED: &str = "seed,line,x,metric,value\n1,MIM,5,MI,4.0\n2,MIM,5,MI,6.0\n1,MIM,500,MI,6.8\n1,VAE,5,MI,0.1\n1,VAE,500,MI,nan\n";
    const PUBLISHED: &str = "line,x,metric,value,spread\nMIM,5,MI,4.88,1.9\nMIM,500,MI,6.81,\n";

    #[test]
    fn lines_go_through_means_and_bars_hold_the_deviation() {
        let mut measured = read_measured(OBTAINED, false).unwrap();
        measured.extend(read_measured(PUBLISHED, true).unwrap());
        let figures = against_axis(&measured, "hidden units", &["MI".to_owned(), "NLL".to_owned()]);
        show("against-axis.png", &panels_png(&figures, 2, (1200, 500)).unwrap());
        assert_eq!(figures[0].x_label, "log10 hidden units");
        let legend: Vec<&str> = figures[0].legend.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(legend, ["MIM, reference", "MIM (n=1-2)", "VAE (n=1)"]);
        let mut lines = Vec::new();
        for layer in &figures[0].layers {
            if let Layer::Curve { points, stroke, .. } = layer {
                lines.push((points.clone(), *stroke));
            }
        }
        let found = |wanted: &[[f64; 2]], of: Stroke| {
            let near = |p: &[f64; 2], q: &[f64; 2]| (p[0] - q[0].log10()).abs() < 1e-12 && (p[1] - q[1]).abs() < 1e-12;
            let same = |points: &Vec<[f64; 2]>| points.len() == wanted.len() && points.iter().zip(wanted).all(|(p, q)| near(p, q));
            lines.iter().any(|(points, stroke)| *stroke == of && same(points))
        };
        assert!(found(&[[5.0, 4.88], [500.0, 6.81]], Stroke::Dashed), "{lines:?}");
        assert!(found(&[[5.0, 5.0], [500.0, 6.8]], Stroke::Solid), "{lines:?}");
        let bar = |mean: f64, half: f64| [[5.0, mean - half], [5.0, mean + half]];
        assert!(found(&bar(5.0, 2f64.sqrt()), Stroke::Solid) && found(&bar(4.88, 1.9), Stroke::Solid), "{lines:?}");
        // The value that is not a number is left out, and what was never measured has no line.
        assert!(found(&[[5.0, 0.1]], Stroke::Solid), "{lines:?}");
        assert!(figures[1].layers.is_empty());
    }

    #[test]
    fn tables_that_cannot_be_read_name_the_line() {
        let wrong = |text: &str| read_measured(text, false).unwrap_err();
        assert!(wrong("line,x,value\nMIM,1,2\n").contains("`metric`"));
        assert!(wrong("line,x,metric,value\nMIM,1,MI,2\n\nMIM,one,MI,2\n").contains("line 4: `x` is `one`"));
        assert!(wrong("line,x,metric,value\nMIM,1,MI\n").contains("line 2: 3 cells"));
        assert!(wrong("").contains("`line`"));
        let quoted = read_measured("line,x,metric,value\n\"vdb, beta=1\",1,MI,2\n", false).unwrap();
        assert_eq!(quoted[0].line, "vdb, beta=1");
    }
}
