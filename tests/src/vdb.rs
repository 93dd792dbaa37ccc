//! Vectors of the variational deficiency bottleneck.

mod data;
mod grammar;
mod losses;
mod model;
mod networks;
mod schedules;
mod strategies;

use serde_json::Value;

/// Checks a vector of the given kind; nothing for kinds that are not this paper's.
pub fn check(kind: &str, file: &Value) -> Option<Result<(), String>> {
    Some(match kind {
        "class_losses" => losses::class_losses(file),
        "info_loss_diag" => losses::info_loss_diag(file),
        "info_loss_full" => losses::info_loss_full(file),
        "mlp_loss" => model::mlp_loss(file),
        "strategies" => strategies::strategies(file),
        "lr_schedules" => schedules::lr_schedules(file),
        "parse_arch" => grammar::parse_arch(file),
        "normalisation" => data::normalisation(file),
        "augmentation" => data::augmentation(file),
        "two_d_samples" => data::two_d_samples(file),
        "stratified_kfold" => data::stratified_kfold(file),
        "basic_block" => networks::basic_block(file),
        "resnet20_forward" => networks::resnet20_forward(file),
        _ => return None,
    })
}
