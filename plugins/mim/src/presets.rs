//! Settings of the paper's experiments as presets.

use ibhost_framework::preset::Preset;

inventory::submit! {
    Preset {
        name: "convhvae-2level",
        summary: "Dynamic MNIST, two levels, convolutional decoder, VampPrior with 500 pseudo-inputs, VAE",
        yaml: include_str!("../presets/convhvae-2level.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "convhvae-2level-amim",
        summary: "Dynamic MNIST, two levels, convolutional decoder, VampPrior with 500 pseudo-inputs, A-MIM",
        yaml: include_str!("../presets/convhvae-2level-amim.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "convhvae-2level-smim",
        summary: "Dynamic MNIST, two levels, convolutional decoder, VampPrior with 500 pseudo-inputs, S-MIM",
        yaml: include_str!("../presets/convhvae-2level-smim.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "mim-animation-ae",
        summary: "toyAE, auto-encoder, 49 epochs: the animation",
        yaml: include_str!("../presets/mim-animation-ae.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "mim-animation-mim",
        summary: "toyMIM, MIM, 49 epochs: the animation",
        yaml: include_str!("../presets/mim-animation-mim.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "mim-animation-vae",
        summary: "toyVAE, VAE, 49 epochs: the animation",
        yaml: include_str!("../presets/mim-animation-vae.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "mim-toy4",
        summary: "toy4, MIM with sampled branch, 50 hidden units: the capacity experiment",
        yaml: include_str!("../presets/mim-toy4.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "mim-toy4-vae",
        summary: "toy4, VAE, 50 hidden units: the capacity experiment",
        yaml: include_str!("../presets/mim-toy4-vae.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "pixelhvae-2level",
        summary: "Dynamic MNIST, two levels, autoregressive decoder, VampPrior with 500 pseudo-inputs, VAE",
        yaml: include_str!("../presets/pixelhvae-2level.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "pixelhvae-2level-amim",
        summary: "Dynamic MNIST, two levels, autoregressive decoder, VampPrior with 500 pseudo-inputs, A-MIM",
        yaml: include_str!("../presets/pixelhvae-2level-amim.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "pixelhvae-2level-smim",
        summary: "Dynamic MNIST, two levels, autoregressive decoder, VampPrior with 500 pseudo-inputs, S-MIM",
        yaml: include_str!("../presets/pixelhvae-2level-smim.yml"),
    }
}

#[cfg(test)]
mod tests {
    use ibhost_datasets as _;
    use ibhost_framework::preset::all;
    use ibhost_framework::run::Settings;
    use ibhost_nets as _;

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
