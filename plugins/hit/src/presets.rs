//! Settings of the paper's models as presets; the grids of the paper take beta_y and beta_z from 10^(k/10), k = -10 .. 10.

ibhost_framework::presets! {
    "bvae-binary-mnist": "Binary MNIST, one level, Bernoulli: ibhost's own single-level baseline",
    "hvae-binary-mnist": "Binary MNIST, generalised top-down posterior, Bernoulli, z of 20",
    "hvae-cifar10": "CIFAR-10, generalised top-down posterior, sigma 0.71, z of 32",
    "hvae-cifar10-mol": "CIFAR-10, generalised top-down posterior, mixture of logistics, z of 32",
    "hvae-svhn": "SVHN, generalised top-down posterior, sigma 0.71, z of 32",
    "lvae-binary-mnist": "Binary MNIST, ladder, Bernoulli, z of 20",
    "lvae-cifar10": "CIFAR-10, ladder, sigma 0.71, z of 32",
    "lvae-svhn": "SVHN, ladder, sigma 0.71, z of 32",
}

#[cfg(test)]
mod tests {
    use ibhost_datasets as _;
    use ibhost_framework::preset::all;
    use ibhost_framework::run::Settings;
    use ibhost_training as _;

    #[test]
    fn every_preset_resolves_to_parts_that_fit() {
        let ours: Vec<_> = all().into_iter().filter(|preset| preset.yaml.contains("objective: hit")).collect();
        assert_eq!(ours.len(), 8);
        for preset in ours {
            let settings: serde_json::Map<String, serde_json::Value> = serde_saphyr::from_str(preset.yaml).unwrap();
            let mut layers = Settings::new();
            layers.overlay(settings).unwrap();
            let run = layers.resolve().unwrap();
            let pair = (run.encoder.name.as_str(), run.decoder.name.as_str());
            assert!(matches!(pair, ("bvae" | "hvae", "hvae") | ("lvae", "lvae")), "{}: {pair:?}", preset.name);
            assert_eq!((run.training.seed, run.training.batch_size), (2, 256), "{}", preset.name);
        }
    }
}
