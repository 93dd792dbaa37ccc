//! Vectors of the mutual information machine.

mod estimators;
mod images;
mod layers;
mod model;
mod priors;
mod toy;

use serde_json::Value;

type Outcome = Result<(), String>;

/// Checks a vector of the given kind; nothing for kinds that are not this paper's.
pub fn check(kind: &str, file: &Value) -> Option<Outcome> {
    Some(match kind {
        "toy_mixtures" => toy::mixtures(file),
        "toy_losses" | "toy_loss_variants" | "toy_reinforce" => toy::losses(file),
        "toy_train_steps" => toy::train_steps(file),
        "toy_stats" => toy::statistics(file),
        "noam_lr" => toy::noam(file),
        "toy_layers" => priors::toy_layers(file),
        "circle_prior_init" => priors::circles(file),
        "ksg" => estimators::ksg(file),
        "knn_nmi" => estimators::knn_nmi(file),
        "adam_norm_grad" => estimators::adam_norm_grad(file),
        "image_densities" => layers::image_densities(file),
        "image_layers" => layers::image_layers(file),
        "vamp_prior_and_ll" => layers::vamp_prior_and_ll(file),
        "conv_hvae" | "pixel_hvae" | "mlp_models" => images::check(file),
        _ => return None,
    })
}

/// The inputs of a file.
fn inputs(file: &Value) -> Result<&Value, String> {
    crate::golden::member(file, "inputs")
}

/// The outputs of a file.
fn outputs(file: &Value) -> Result<&Value, String> {
    crate::golden::member(file, "outputs")
}

/// One recorded number.
fn number(value: &Value, key: &str) -> Result<f64, String> {
    crate::golden::scalar(crate::golden::member(value, key)?)
}
