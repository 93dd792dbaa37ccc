//! Golden vectors of what the analyses share: noise, ellipses, distances and tables over runs.

use std::collections::BTreeMap;

use ibhost_analyses::figures::ellipse::{contour_point, tutorial_axes};
use ibhost_analyses::figures::tables::{CorruptionCell, RunCorruption, Table, corruption_table};
use ibhost_analyses::generation::wasserstein::squared_w2;
use ibhost_analyses::robustness::salt_pepper::corrupt;
use ibhost_analyses::robustness::{cifar10c, mnistc};
use serde_json::Value;

use crate::golden::{Array, at, close, count, list, member, number, numbers, object, tensor, text, tolerance};

/// Strategies of the published tables, by the names of the original.
const STRATEGIES: [&str; 2] = ["oneshot", "algo2/k:10"];

/// Checks a vector of the given kind; nothing for kinds that are checked elsewhere.
pub fn check(kind: &str, file: &Value) -> Option<Result<(), String>> {
    match kind {
        "salt_pepper" => Some(salt_pepper(file)),
        "corruption_tables" => Some(corruption_tables(file)),
        "w2_distance" => Some(w2_distance(file)),
        "ellipse" => Some(ellipse(file)),
        "ellipse2021" => Some(ellipse2021(file)),
        _ => crate::evaluations::check(kind, file),
    }
}

fn salt_pepper(file: &Value) -> Result<(), String> {
    let input = member(file, "inputs")?;
    let (_, mut x) = tensor(member(input, "x")?)?;
    let (_, u) = tensor(member(input, "u")?)?;
    let (_, picks) = tensor(member(input, "picks")?)?;
    let extremes = numbers(member(input, "extreme_values")?)?;
    let [low, high] = extremes[..] else { return Err(format!("expected two extremes, found {extremes:?}")) };
    if u.len() != x.len() {
        return Err(format!("{} draws for {} entries", u.len(), x.len()));
    }
    let (mut u, mut used) = (u.into_iter(), 0);
    let pick = || {
        used += 1;
        picks.get(used - 1).map_or(0, |&p| p as usize)
    };
    // The draws cannot run out, their number has just been compared.
    corrupt(&mut x, number(input, "p")?, [low, high], || u.next().unwrap_or(f64::NAN), pick);
    if used != picks.len() {
        return Err(format!("{used} entries were hit, {} picks are recorded", picks.len()));
    }
    let (abs, rel) = tolerance(file);
    close("y", &x, &tensor(at(file, &["outputs", "y"])?)?.1, abs, rel)
}

fn w2_distance(file: &Value) -> Result<(), String> {
    let input = member(file, "inputs")?;
    let dim = count(input, "dim")?;
    let rows = |key: &str| -> Result<Vec<f64>, String> {
        let (shape, data) = tensor(member(input, key)?)?;
        if shape.last() == Some(&(2 * dim)) && dim > 0 {
            Ok(data)
        } else {
            Err(format!("`{key}` has shape {shape:?}, expected rows of {}", 2 * dim))
        }
    };
    let (a, b) = (rows("a")?, rows("b")?);
    let pairs = a.chunks_exact(2 * dim).zip(b.chunks_exact(2 * dim));
    let distances: Vec<f64> = pairs.map(|(a, b)| squared_w2(&a[..dim], &a[dim..], &b[..dim], &b[dim..])).collect();
    let (abs, rel) = tolerance(file);
    close("d", &distances, &tensor(at(file, &["outputs", "d"])?)?.1, abs, rel)
}

/// A recorded 2 x 2 matrix.
fn matrix(value: &Value) -> Result<[[f64; 2]; 2], String> {
    match tensor(value)? {
        (shape, data) if shape == [2, 2] => Ok([[data[0], data[1]], [data[2], data[3]]]),
        (shape, _) => Err(format!("expected a 2 x 2 matrix, found shape {shape:?}")),
    }
}

fn pair((shape, data): Array) -> Result<[f64; 2], String> {
    data.try_into().map_err(|_| format!("expected two numbers, found shape {shape:?}"))
}

fn ellipse(file: &Value) -> Result<(), String> {
    let (_, angles) = tensor(at(file, &["inputs", "angles"])?)?;
    let (abs, rel) = tolerance(file);
    for (i, case) in list(at(file, &["outputs", "cases"])?)?.iter().enumerate() {
        let (mean, covariance) = (pair(tensor(member(case, "mu")?)?)?, matrix(member(case, "cov")?)?);
        let n_std = number(case, "n_std")?;
        let points: Vec<f64> = angles.iter().flat_map(|&angle| contour_point(mean, covariance, n_std, angle)).collect();
        close(&format!("points of case {i}"), &points, &tensor(member(case, "points")?)?.1, abs, rel)?;
    }
    Ok(())
}

fn ellipse2021(file: &Value) -> Result<(), String> {
    let (abs, rel) = tolerance(file);
    for (i, case) in list(at(file, &["outputs", "cases"])?)?.iter().enumerate() {
        let axes = tutorial_axes(matrix(member(case, "cov")?)?);
        close(&format!("width of case {i}"), &[axes.width], &[number(case, "width")?], abs, rel)?;
        close(&format!("height of case {i}"), &[axes.height], &[number(case, "height")?], abs, rel)?;
        // The angle is known modulo pi: two angles just beside 0 and pi are the same axis.
        let difference = (axes.angle - number(case, "angle_rad_mod_pi")?).rem_euclid(std::f64::consts::PI);
        close(&format!("angle of case {i}"), &[difference.min(std::f64::consts::PI - difference)], &[0.0], abs, 0.0)?;
    }
    Ok(())
}

/// The runs behind rows of one category and severity each.
fn runs(rows: &Value) -> Result<Vec<RunCorruption>, String> {
    let mut runs: BTreeMap<(&str, &str), RunCorruption> = BTreeMap::new();
    for row in list(rows)? {
        let (key, name) = (text(row, "key")?, text(row, "name")?);
        let severity = if row.get("severity").is_some() { count(row, "severity")? as u8 } else { 1 };
        let cell = CorruptionCell { category: text(row, "category")?.to_owned(), severity, accuracy: number(row, "accuracy")? };
        let fresh = RunCorruption {
            name: name.to_owned(),
            key: key.to_owned(),
            strategy: text(row, "strategy")?.to_owned(),
            clean_accuracy: number(row, "clean_accuracy")?,
            cells: Vec::new(),
        };
        runs.entry((key, name)).or_insert(fresh).cells.push(cell);
    }
    Ok(runs.into_values().collect())
}

fn table(rows: &Value, reference: &str, categories: &[&str]) -> Result<Table, String> {
    let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    corruption_table(&runs(rows)?, reference, &owned(&STRATEGIES), &owned(categories)).map_err(|e| e.to_string())
}

fn corruption_tables(file: &Value) -> Result<(), String> {
    let (input, output) = (member(file, "inputs")?, member(file, "outputs")?);
    let (abs, rel) = tolerance(file);
    let compare = |table: &Table, key: &str, want: &Value| -> Result<(), String> {
        let row = table.row(key).ok_or_else(|| format!("the table has no row `{key}`"))?;
        close(&format!("mCE of {key}"), &[row.mce], &[number(want, "mCE")?], abs, rel)?;
        close(&format!("rel_mCE of {key}"), &[row.rel_mce], &[number(want, "rel_mCE")?], abs, rel)
    };
    let same_count = |table: &Table, want: usize| match table.rows.len() {
        found if found == want => Ok(()),
        found => Err(format!("the table has {found} rows, expected {want}")),
    };

    let cifar = table(member(input, "cifar10c_rows")?, text(input, "ref_cifar10c")?, &cifar10c::CATEGORIES)?;
    let want = object(member(output, "cifar10c")?)?;
    same_count(&cifar, want.len())?;
    want.iter().try_for_each(|(key, want)| compare(&cifar, key, want))?;

    let mnist = table(member(input, "mnistc_rows")?, text(input, "ref_mnistc")?, &mnistc::CATEGORIES)?;
    let want = list(member(output, "mnistc")?)?;
    same_count(&mnist, want.len())?;
    for want in want {
        let key = text(want, "key")?;
        compare(&mnist, key, want)?;
        let clean = mnist.row(key).map(ibhost_analyses::figures::tables::TableRow::clean_error_latex).unwrap_or_default();
        if clean != text(want, "clean_error")? {
            return Err(format!("clean error of {key} is {clean}, expected {}", text(want, "clean_error")?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_outputs_are_noticed() {
        let x = json!({"shape": [3], "data": [0.5, 0.6, 0.7]});
        let u = json!({"shape": [3], "data": [0.1, 0.9, 0.2]});
        let file = |picks: Value, y: Value| {
            json!({
                "inputs": {"x": x, "u": u, "p": 0.2, "extreme_values": [-1.0, 1.0], "picks": {"shape": [picks.as_array().map_or(0, Vec::len)], "data": picks}},
                "outputs": {"y": {"shape": [3], "data": y}}, "tolerance": {"abs": 1e-7},
            })
        };
        assert_eq!(check("salt_pepper", &file(json!([1, 0]), json!([1.0, 0.6, -1.0]))), Some(Ok(())));
        assert!(check("salt_pepper", &file(json!([1, 0]), json!([1.0, 0.6, 1.0]))).is_some_and(|r| r.is_err()));
        assert!(check("salt_pepper", &file(json!([1]), json!([1.0, 0.6, -1.0]))).is_some_and(|r| r.is_err()));
        assert_eq!(check("unknown", &json!({})), None);
    }
}
