//! Golden checks of the VIB notebooks: the 2017 one, its JAX remake and the 2021 tutorial.

mod data;
mod demo;
mod model;
mod notebooks;
mod steps;

use serde_json::Value;

type Outcome = Result<(), String>;

/// Checks a vector of `kind`; nothing for a kind that is not VIB's.
pub fn check(kind: &str, file: &Value) -> Option<Outcome> {
    match kind {
        "tf1_objective" => Some(notebooks::tf1(file)),
        "tf1_training" => Some(steps::tf1_training(file)),
        "jax_objective" => Some(notebooks::jax(file)),
        "demo2021_deterministic" => Some(demo::deterministic(file)),
        "demo2021_vib" => Some(demo::vib(file)),
        "demo2021_fill_scale_tril" => Some(demo::fill_scale_tril(file)),
        "adabelief" => Some(steps::adabelief(file)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_number_fails_and_an_unknown_kind_is_not_taken() {
        let case = |last: f64| {
            let head = json!({ "shape": [1, 2], "data": [0.5, 0.0] });
            json!({ "tolerance": { "abs": 1e-6 }, "cases": [{ "dim": 1, "head": head, "scale_tril": { "shape": [1, 1, 1], "data": [last] } }] })
        };
        assert_eq!(check("demo2021_fill_scale_tril", &case(1.0)), Some(Ok(())));
        assert!(
            check("demo2021_fill_scale_tril", &case(1.1)).is_some_and(|outcome| outcome.unwrap_err().contains("factor of 1 dimensions[0]"))
        );
        assert!(check("adabelief", &json!({})).is_some_and(|outcome| outcome.is_err()));
        assert!(check("ellipse2021", &json!({})).is_none());
    }
}
