//! Settings of the paper's experiments as presets.

ibhost_framework::presets! {
    "convhvae-2level": "Dynamic MNIST, two levels, convolutional decoder, VampPrior with 500 pseudo-inputs, VAE",
    "convhvae-2level-amim": "Dynamic MNIST, two levels, convolutional decoder, VampPrior with 500 pseudo-inputs, A-MIM",
    "convhvae-2level-smim": "Dynamic MNIST, two levels, convolutional decoder, VampPrior with 500 pseudo-inputs, S-MIM",
    "mim-animation-ae": "toyAE, auto-encoder, 49 epochs: the animation",
    "mim-animation-mim": "toyMIM, MIM, 49 epochs: the animation",
    "mim-animation-vae": "toyVAE, VAE, 49 epochs: the animation",
    "mim-toy4": "toy4, MIM with sampled branch, 50 hidden units: the capacity experiment",
    "mim-toy4-vae": "toy4, VAE, 50 hidden units: the capacity experiment",
    "pixelhvae-2level": "Dynamic MNIST, two levels, autoregressive decoder, VampPrior with 500 pseudo-inputs, VAE",
    "pixelhvae-2level-amim": "Dynamic MNIST, two levels, autoregressive decoder, VampPrior with 500 pseudo-inputs, A-MIM",
    "pixelhvae-2level-smim": "Dynamic MNIST, two levels, autoregressive decoder, VampPrior with 500 pseudo-inputs, S-MIM",
}

#[cfg(test)]
mod tests {
    use ibhost_datasets as _;
    use ibhost_framework::preset::all;
    use ibhost_framework::run::Settings;
    use ibhost_nets as _;
    use ibhost_training as _;

    #[test]
    fn every_preset_resolves() {
        let ours = all().into_iter().filter(|preset| preset.yaml.contains("objective: mim/") || preset.yaml.contains("objective: hvae/"));
        let mut count = 0;
        for preset in ours {
            let settings: serde_json::Map<String, serde_json::Value> = serde_saphyr::from_str(preset.yaml).unwrap();
            let mut layers = Settings::new();
            layers.overlay(settings).unwrap();
            let run = layers.resolve().unwrap();
            assert_eq!(run.objective.name == "hvae", preset.name.contains("hvae"), "{}", preset.name);
            count += 1;
        }
        assert_eq!(count, 11);
    }
}
