//! Settings of the classifiers that published evaluations used, as presets.

ibhost_framework::presets! {
    "mnist-cnn": "MNIST CNN classifier on binary MNIST, 14 epochs",
    "svhn-resnet18": "ResNet-18 classifier on SVHN, 14 epochs",
    "cifar10-densenet121": "DenseNet-121 classifier on CIFAR-10 with random crops, 14 epochs",
}

#[cfg(test)]
mod tests {
    use ibhost_datasets as _;
    use ibhost_framework::preset::Preset;
    use ibhost_framework::registry::inventory;
    use ibhost_framework::run::RunConfig;
    use ibhost_training as _;

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
