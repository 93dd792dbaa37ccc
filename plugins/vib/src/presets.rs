//! Settings of the published notebooks as presets.

ibhost_framework::presets! {
    "vib-2017": "VIB on MNIST as in the 2017 notebook: 256 dimensions, beta 1e-3, 200 epochs",
    "vib-jax": "VIB on MNIST as in the 2021 JAX remake: 12 codes a sample, Monte-Carlo rate, 25 epochs",
    "vib-2d": "VIB on MNIST as in the 2021 tutorial: two dimensions, full covariance, beta 0.5, 3000 steps",
    "vib-2d-baseline": "Deterministic two-dimensional baseline of the 2021 tutorial, 6000 steps",
}

#[cfg(test)]
mod tests {
    use ibhost_framework::component::Component;
    use ibhost_framework::preset::find;
    use ibhost_framework::registry::Kind;
    use serde_json::Value;

    #[test]
    fn every_preset_names_components_with_valid_parameters() {
        for name in ["vib-2017", "vib-jax", "vib-2d", "vib-2d-baseline"] {
            let map: serde_json::Map<String, Value> = serde_saphyr::from_str(find(name).unwrap().yaml).unwrap();
            for (key, kind) in [
                ("objective", Kind::Objective),
                ("encoder", Kind::Encoder),
                ("decoder", Kind::Decoder),
                ("strategy", Kind::Strategy),
                ("optimiser", Kind::Optimiser),
                ("schedule", Kind::Schedule),
            ] {
                let component = Component::from_json(kind, &map[key]).unwrap_or_else(|error| panic!("{name} {key}: {error}"));
                assert_eq!(Value::from(component.name), map[key]["name"]);
            }
            assert!(map["lr"].as_f64().unwrap() > 0.0 && map["batch_size"].as_u64().unwrap() > 0);
        }
    }

    #[test]
    fn the_2017_preset_spells_out_the_defaults_of_the_objective() {
        let map: serde_json::Map<String, Value> = serde_saphyr::from_str(find("vib-2017").unwrap().yaml).unwrap();
        for (kind, key, default) in [(Kind::Objective, "objective", "vib"), (Kind::Encoder, "encoder", "mlp")] {
            assert_eq!(Component::from_json(kind, &map[key]).unwrap(), Component::parse(kind, default).unwrap());
        }
    }
}
