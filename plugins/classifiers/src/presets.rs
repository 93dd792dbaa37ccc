//! Settings of the classifiers that published evaluations used, as presets.

use ibhost_framework::preset::Preset;

inventory::submit! {
    Preset {
        name: "mnist-cnn",
        summary: "MNIST CNN classifier on binary MNIST, 14 epochs",
        yaml: include_str!("../presets/mnist-cnn.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "svhn-resnet18",
        summary: "ResNet-18 classifier on SVHN, 14 epochs",
        yaml: include_str!("../presets/svhn-resnet18.yml"),
    }
}

inventory::submit! {
    Preset {
        name: "cifar10-densenet121",
        summary: "DenseNet-121 classifier on CIFAR-10 with random crops, 14 epochs",
        yaml: include_str!("../presets/cifar10-densenet121.yml"),
    }
}

#[cfg(test)]
mod tests {
    use ibhost_datasets as _;
    use ibhost_framework::preset::Preset;
    use ibhost_framework::registry::inventory;
    use ibhost_framework::run::RunConfig;

    #[test]
    fn every_preset_is_a_whole_configuration() {
        let presets: Vec<&Preset> = inventory::iter::<Preset>().collect();
        assert!(presets.len() >= 3);
        for preset in presets {
            let value: serde_json::Value = serde_saphyr::from_str(preset.yaml).unwrap();
            let config = RunConfig::from_json(value).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert_eq!(config.objective.name, "classifier");
        }
    }
}
