//! Settings of the experiments as presets.

ibhost_framework::presets! {
    "vdb-mnist": "MNIST, 1024-1024-256, beta 1e-3, 12 training codes, 200 epochs: the settings of the robustness experiments",
    "vdb-mnist-small": "8,000 of the first 10,000 MNIST training images, 256-256-64, beta 1e-2, 12 training codes, 60 epochs: half a minute on one core",
    "vdb-cifar10": "CIFAR-10, ResNet-20 with 20 latent dimensions, beta 1e-3, 12 training codes, 50 epochs: the robustness experiment",
}

#[cfg(test)]
mod tests {
    use ibhost_datasets as _;
    use ibhost_framework::component::Component;
    use ibhost_framework::preset::find;
    use ibhost_framework::registry::Kind;
    use ibhost_framework::run::Settings;
    use ibhost_nets as _;
    use ibhost_training as _;

    #[test]
    fn every_preset_resolves_and_sets_what_a_preset_may_set() {
        let known =
            ["objective", "encoder", "decoder", "dataset", "strategy", "optimiser", "schedule", "lr", "epochs", "batch_size", "average"];
        for name in ["vdb-mnist", "vdb-mnist-small", "vdb-cifar10"] {
            let settings: serde_json::Map<String, serde_json::Value> = serde_saphyr::from_str(find(name).unwrap().yaml).unwrap();
            assert!(settings.keys().all(|key| known.contains(&key.as_str())), "{name}: {settings:?}");
            let mut layers = Settings::new();
            layers.overlay(settings).unwrap();
            let run = layers.resolve().unwrap();
            assert_eq!((run.objective.kind, run.objective.name.as_str()), (Kind::Objective, "vdb"));
            let recipe = Component::parse(Kind::Optimiser, "adam/beta1:0.5|epsilon:1e-7|form:tensorflow").unwrap();
            assert_eq!((run.optimiser, run.training.batch_size), (recipe, 100), "{name}");
        }
    }
}
