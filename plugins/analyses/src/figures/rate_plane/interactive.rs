//! A page that turns the surface of any measured value over the plane of the two rates.

use serde_json::{Map, Value, json};

use super::figures::{LOWER_RATE, METRICS, TOP_RATE};
use super::grid::{BetaGrid, Evaluated};

/// The page, with a mark where the numbers go.
const PAGE: &str = include_str!("interactive.html");
const MARK: &str = "DATA";
/// Values without a place among the figures' panels.
const FURTHER: [(&str, &str); 2] = [("distortion", "distortion -ln p(x|z) / nats"), ("accuracy_bound_top", "accuracy bound, top level")];

/// One file that needs no network: the value chosen on the page as height and colour over R(top) and R(lower | top), a face for every four
/// models that are neighbours in the grid of weights. Of models with the same weights the last is shown.
pub fn page(models: &[Evaluated]) -> String {
    let grid = BetaGrid::new(&models.iter().map(|m| m.beta).collect::<Vec<_>>());
    let known = METRICS.iter().map(|metric| (metric.key, metric.label)).chain(FURTHER);
    let metrics: Vec<(&str, &str)> = known.filter(|(key, _)| models.iter().any(|m| m.value(key).is_finite())).collect();
    let one = |model: &Evaluated| {
        let values = metrics.iter().map(|(key, _)| ((*key).to_owned(), json!(model.value(key)))).collect::<Map<String, Value>>();
        json!({"run": model.run, "betas": model.beta, "rates": [model.rate[1], model.rate[0]], "values": values})
    };
    let mut cells = vec![Value::Null; grid.len()];
    for model in models.iter().filter(|m| m.total_rate().is_finite()) {
        if let Some(cell) = grid.cell(model.beta) {
            cells[cell] = one(model);
        }
    }
    let document = json!({
        "models": cells, "columns": grid.top.len(), "axes": [TOP_RATE, LOWER_RATE],
        "metrics": metrics.iter().map(|(key, label)| json!({"key": key, "label": label})).collect::<Vec<_>>(),
    });
    // Inside a script `</` would end it; the escape is the same text to JSON.
    PAGE.replacen(MARK, &document.to_string().replace("</", "<\\/"), 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn cells_follow_the_grid_and_nothing_ends_the_script() {
        let model = |beta: [f64; 2], psnr: f64| Evaluated {
            run: "a</script>b".to_owned(),
            beta,
            rate: [3.0, 2.0],
            values: BTreeMap::from([("psnr".to_owned(), psnr), ("unknown".to_owned(), 1.0)]),
        };
        let page = page(&[model([0.1, 1.0], 11.0), model([1.0, 0.1], 12.0), model([1.0, 1.0], f64::NAN)]);
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let document: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
        assert_eq!((document["columns"].as_u64(), document["models"].as_array().unwrap().len()), (Some(2), 4));
        // Rows go from the largest lower weight down: the last row is lower 0.1, of which only top 1 is there.
        assert!(document["models"][2].is_null() && document["models"][1]["values"]["psnr"].is_null());
        assert_eq!(
            document["models"][3],
            json!({"run": "a</script>b", "betas": [0.1, 1.0], "rates": [2.0, 3.0], "values": {"psnr": 11.0}})
        );
        assert_eq!(document["metrics"], json!([{"key": "psnr", "label": "PSNR / dB"}]));
    }
}
