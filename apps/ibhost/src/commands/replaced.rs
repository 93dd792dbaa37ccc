//! Commands of earlier versions, which say what to write instead.

use std::ffi::OsString;

use crate::exit::Failure;

/// What each figure and table of an earlier command is now.
const NOW: [(&str, &str, &str); 9] = [
    ("plot", "curves", "--comparison 'mean_curves/metrics:[METRIC;METRIC]|series:[SETTING]'"),
    ("plot", "axis", "--comparison 'axis/x:SETTING|line:SETTING|metrics:[METRIC]' (--values and --reference as before)"),
    ("plot", "salt-pepper", "--comparison 'robustness/panel:SETTING|series:[SETTING]' (--analysis is --result)"),
    ("plot", "cifar10c", "--comparison 'robustness/analysis:cifar10c|along:severity|panel:category|series:[SETTING]'"),
    ("plot", "latent-grid", "--comparison 'latent_grid/rows:[SETTING]|columns:[SETTING]'"),
    ("plot", "", "--comparison 'setting/x:SETTING|series:[SETTING]|metrics:[METRIC]'"),
    ("tabulate", "mnistc", "--comparison 'corruption/rows:[SETTING]'"),
    ("tabulate", "cifar10c", "--comparison 'corruption/analysis:cifar10c|rows:[SETTING]'"),
    ("tabulate", "", "--comparison 'means/rows:[SETTING]|columns:[SETTING]|value:SPLIT.METRIC'"),
];

/// `command` was called with `words`.
pub fn replaced(command: &str, words: &[OsString]) -> Failure {
    if command == "evaluate" {
        return Failure::usage(
            "`ibhost evaluate` is now two commands\n  hint: `ibhost analyze RUNS --missing --analysis rates --analysis psnr --analysis label_information \
             --analysis probes` (with a judge: --analysis inception_score --analysis fid --analysis reconstruction_accuracy --classifier RUN) makes \
             what is not there yet, and `ibhost compare RUNS --comparison rate_plane/lower:SETTING|top:SETTING` shows it",
        );
    }
    let asks_for = |kind: &str| kind.is_empty() || words.iter().any(|word| word.to_string_lossy().rsplit('=').next() == Some(kind));
    let found = NOW.into_iter().find(|(of, kind, _)| *of == command && asks_for(kind));
    let now = found.map_or("--comparison COMPONENT", |(_, _, now)| now);
    Failure::usage(format!(
        "`ibhost {command}` is now a comparison\n  hint: write `ibhost compare RUNS {now}`; `ibhost list --kind comparison` lists them, and \
         `ibhost describe NAME` explains one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_earlier_form_names_its_successor() {
        let of = |command: &str, words: &[&str]| replaced(command, &words.iter().map(OsString::from).collect::<Vec<_>>()).to_string();
        assert!(of("plot", &["runs/x"]).contains("ibhost compare RUNS --comparison 'setting/x:"));
        assert!(of("plot", &["--figure=latent-grid"]).contains("latent_grid/"));
        assert!(of("plot", &["--figure", "cifar10c"]).contains("analysis:cifar10c|along:severity"));
        assert!(of("tabulate", &[]).contains("means/") && of("tabulate", &["--table", "mnistc"]).contains("corruption/"));
        assert!(of("evaluate", &[]).contains("--missing") && of("evaluate", &[]).contains("rate_plane"));
    }
}
