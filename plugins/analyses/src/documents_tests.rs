//! Results on disk, with the analyses that are registered here.

use std::fs;
use std::path::Path;

use ibhost_framework::component::Component;
use ibhost_framework::finished::documents::{Settings, documents, place, select};
use ibhost_framework::finished::{Origin, Selector, readings};
use ibhost_framework::registry::Kind;
use serde_json::{Value, json};

fn settings(analysis: &str, checkpoint: &str, average: bool, seed: Option<u64>) -> Settings {
    let name = analysis.split('/').next().unwrap().to_owned();
    Settings { name, analysis: analysis.to_owned(), checkpoint: checkpoint.to_owned(), average, seed, other_data: None }
}

fn origin(data: &str, judge: Option<&str>) -> Origin {
    let sources = Some(judge.map(|judge| ("judge".to_owned(), judge.to_owned())).into_iter().collect());
    let (weights, program, arithmetic) = ("w".into(), "p".into(), "avx2 on flex".into());
    Origin { run: "run1".into(), step: 1, weights, seed: 0, data: data.into(), program, arithmetic, sources }
}

/// Writes a result as `analyze` does and returns the start of its file's name.
fn write(root: &Path, settings: &Settings, origin: &Origin) -> String {
    let (stem, _) = place(root, settings, origin, 0).unwrap();
    let component = Component::parse(Kind::Analysis, &settings.analysis).unwrap();
    let mut value =
        json!({"analysis": component.to_json_full(), "checkpoint": settings.checkpoint, "average": settings.average, "result": {}});
    if let (Value::Object(map), Value::Object(more)) = (&mut value, serde_json::to_value(origin).unwrap()) {
        map.extend(more);
    }
    fs::create_dir_all(root.join("analyses")).unwrap();
    fs::write(stem.with_extension("json"), value.to_string()).unwrap();
    stem.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_setting_is_a_part_of_the_name() {
    let stems = [
        settings("ksg", "last", false, None),
        settings("ksg", "best", true, Some(7)),
        settings("ksg/k:3", "last", false, None),
        settings("ksg/k:4", "last", false, None),
    ]
    .map(|settings| settings.stem());
    assert_eq!(stems[..2], ["ksg", "ksg-best-average-seed7"]);
    assert!(stems[2].starts_with("ksg-") && stems[2].len() == 12 && stems[2] != stems[3], "{stems:?}");
}

#[test]
fn results_lie_side_by_side_and_are_found_by_component_or_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let plain = settings("salt_pepper/p:[0.1]", "last", false, None);
    let [one, two] =
        ["salt_pepper/p:[0.1]", "salt_pepper/p:[0.2]"].map(|text| write(root, &settings(text, "last", false, None), &origin("d", None)));
    let best = write(root, &settings("salt_pepper/p:[0.1]", "best", false, None), &origin("d", None));
    assert!(one != two && best == format!("{one}-best"), "{one} {two} {best}");
    assert_eq!(write(root, &plain, &origin("d", None)), one, "the same settings are replaced");
    let found = |text: &str| select(documents(root, "salt_pepper", 0).documents, &Selector::read(text).unwrap());
    let stem = |text: &str| found(text).unwrap().unwrap().settings.stem();
    assert_eq!((stem("salt_pepper/p:[0.2]"), stem(&two), stem(&best)), (two.clone(), two.clone(), best.clone()));
    let error = found("salt_pepper").unwrap_err();
    assert!([&one, &two, &best].into_iter().all(|stem| error.contains(stem.as_str())) && error.contains("p:[0.2] of the last"), "{error}");
    assert!(found("salt_pepper/p:[0.1]").unwrap_err().contains("2 results"), "of two checkpoints");
    assert!(found("salt_pepper/").unwrap_err().contains("only results under other settings"));
    assert!(found("salt_pepper/p:[0.3]").unwrap_err().contains(&two));
    assert!(Selector::read("salt_pepper/q:1").is_err());
    assert!(documents(root, "salt", 0).documents.is_empty() && documents(&root.join("absent"), "ksg", 0).documents.is_empty());
}

#[test]
fn other_data_and_judges_are_kept_apart_and_other_runs_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (root, plain) = (folder.path(), settings("psnr", "last", false, None));
    assert_eq!(write(root, &plain, &origin("a", None)), "psnr");
    let other = write(root, &plain, &origin("b", None));
    let judged = write(root, &plain, &origin("a", Some("j")));
    assert!(other.starts_with("psnr-") && judged.starts_with("psnr-") && other != judged, "{other} {judged}");
    assert_eq!(write(root, &plain, &origin("a", None)), "psnr");
    assert_eq!(write(root, &plain, &origin("b", None)), other, "found again");
    let foreign = Origin { run: "run2".into(), ..origin("a", None) };
    assert!(place(root, &plain, &foreign, 0).unwrap_err().contains("run1"));
}

#[test]
fn documents_of_earlier_versions_are_read_and_kept_where_their_settings_differ() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("analyses")).unwrap();
    let old = Component::parse(Kind::Analysis, "salt_pepper/p:[0.1]").unwrap().to_json_full();
    let text = json!({"analysis": old, "checkpoint": "best", "average": false, "step": 3, "result": {}}).to_string();
    fs::write(root.join("analyses/salt_pepper.json"), &text).unwrap();
    let found = documents(root, "salt_pepper", 0).documents;
    assert_eq!(found[0].settings, settings("salt_pepper/p:[0.1]", "best", false, None));
    assert_ne!(write(root, &settings("salt_pepper", "last", false, None), &origin("d", None)), "salt_pepper");
    assert_eq!(fs::read_to_string(root.join("analyses/salt_pepper.json")).unwrap(), text);
    fs::write(root.join("analyses/mnistc.json"), r#"{"result": {}}"#).unwrap();
    assert_eq!(documents(root, "mnistc", 0).documents[0].settings.stem(), "mnistc");
    fs::write(root.join("analyses/ksg.json"), "{").unwrap();
    assert!(documents(root, "ksg", 0).damaged[0].1.contains("not valid JSON"));
}

#[test]
fn analyses_with_parameters_are_cut_off_where_they_end() {
    assert_eq!(readings("nll.a.b"), [("nll", "a.b")]);
    assert_eq!(readings("salt_pepper/p:[0.1].settings.0.accuracy"), [("salt_pepper/p:[0.1]", "settings.0.accuracy")]);
    assert_eq!(readings("ood/temper:0.5.grid.auroc")[0], ("ood/temper:0.5", "grid.auroc"));
    assert_eq!(readings("ksg/.mutual_information"), [("ksg/", "mutual_information")]);
    assert_eq!(readings("ksg-1a2b3c4d.mutual_information"), [("ksg-1a2b3c4d", "mutual_information")]);
    assert_eq!(readings("ksg/q:1.x"), [("ksg/q:1", "x")], "what cannot be read is named by the error");
    assert!(readings("ksg").is_empty() && readings("ksg.").is_empty());
}
