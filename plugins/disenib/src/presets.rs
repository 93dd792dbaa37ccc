//! Settings of the paper's commands as presets.

ibhost_framework::presets! {
    "disenib-vib": "DisenIB paper's VIB baseline on MNIST, 100 epochs",
    "disenib-nib": "DisenIB paper's NIB baseline on MNIST, 100 epochs",
    "disenib-squared-vib": "DisenIB paper's squared-VIB baseline on MNIST, 100 epochs",
    "disenib-squared-nib": "DisenIB paper's squared-NIB baseline on MNIST, 100 epochs",
    "disenib-mnist": "DisenIB on MNIST, fully connected: 20,000 steps of 10 main and 3 estimator updates",
    "disenib-conv-mnist": "DisenIB on MNIST, convolutional, with the image discriminator",
    "disenib-shapes": "DisenIB on Shapes, convolutional",
    "disenib-sprites": "DisenIB on Sprites, convolutional",
    "disenib-digits": "DisenIB on the embedded digits at small scale: 1,000 steps of 5 main and 3 estimator updates",
}

#[cfg(test)]
mod tests {
    use ibhost_framework::preset::find;
    use ibhost_framework::run::Settings;
    use ibhost_training as _;
    use serde_json::{Map, Value};

    #[test]
    fn every_preset_resolves_but_for_data_sets_of_other_crates() {
        for name in [
            "disenib-vib",
            "disenib-nib",
            "disenib-squared-vib",
            "disenib-squared-nib",
            "disenib-mnist",
            "disenib-conv-mnist",
            "disenib-shapes",
            "disenib-sprites",
            "disenib-digits",
        ] {
            let mut map: Map<String, Value> = serde_saphyr::from_str(find(name).unwrap_or_else(|_| panic!("{name}")).yaml).unwrap();
            assert!(map.remove("dataset").is_some(), "{name} names its data set");
            for key in ["objective", "encoder", "decoder", "optimiser", "schedule"] {
                assert!(map.contains_key(key), "{name} has no {key}");
            }
            let mut settings = Settings::new();
            settings.overlay(map).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
