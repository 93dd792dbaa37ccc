//! Golden checks of the disentangled bottleneck, its Lagrangian baselines, its data sets and its evaluations.

mod data;
mod data_sets;
mod evaluations;
mod networks;
mod pieces;
mod steps;
mod trainers;

use serde_json::Value;

type Outcome = Result<(), String>;

/// Checks a vector of `kind`; nothing for a kind that is not DisenIB's.
pub fn check(kind: &str, file: &Value) -> Option<Outcome> {
    match kind {
        "sampling" => Some(pieces::sampling(file)),
        "clustering" => Some(pieces::clustering(file)),
        "gaussian_kl_density" => Some(pieces::gaussian_kl_density(file)),
        "lagrangian_compression" => Some(pieces::lagrangian_compression(file)),
        "losses" => Some(pieces::losses(file)),
        "estimator_losses" => Some(pieces::estimator_losses(file)),
        "vib_softplus" => Some(pieces::vib_softplus(file)),
        "meters_schedule" => Some(steps::meters_schedule(file)),
        "spectral_norm" => Some(networks::spectral_norm(file)),
        "net_fc_reconstructor" | "net_reconstructor_mnist" | "net_reconstructor_shapes" | "net_reconstructor_sprites" => {
            Some(networks::reconstructor(kind, file))
        }
        "net_estimator_spectral" | "net_estimator_plain" => Some(networks::estimator(file)),
        "net_encoder_mnist" | "net_encoder_shapes" | "net_encoder_sprites" => Some(networks::encoder(file)),
        "net_discriminator_mnist" => Some(networks::discriminator(file)),
        "lagrangian_vib_step" => Some(steps::lagrangian(file, "vib")),
        "lagrangian_nib_step" => Some(steps::lagrangian(file, "nib")),
        "disenib_fc_steps" => Some(trainers::fully_connected(file)),
        "disenib_conv_mnist_steps" => Some(trainers::convolutional(file)),
        "mutual_information" => Some(evaluations::mutual_information(file)),
        "accuracy_fgsm" => Some(evaluations::accuracy_fgsm(file)),
        "odin_scores" => Some(evaluations::odin_scores(file)),
        "ood_metrics" => Some(evaluations::ood_metrics(file)),
        "swap_grid" => Some(evaluations::swap_grid(file)),
        "sprites_dataset" => Some(data_sets::sprites(file)),
        "factor_subset" => Some(data_sets::factor_subset(file)),
        "shapes_reference_masks" => Some(data_sets::shapes(file)),
        _ => None,
    }
}
