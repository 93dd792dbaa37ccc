//! Configuration of a run: layers of settings (preset, file, flags) resolved into components and numbers.

pub(crate) mod config;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::component::suggest::nearest;
use crate::component::{Component, ComponentError};
use crate::dataset::{DataRoot, DatasetConfig};
use crate::decoder::DecoderConfig;
use crate::encoder::EncoderConfig;
use crate::objective::ObjectiveConfig;
use crate::optimiser::OptimiserConfig;
use crate::plain::plain;
use crate::registry::{Kind, Registry};
use crate::schedule::ScheduleConfig;
use crate::strategy::StrategyConfig;

pub use config::{CheckpointEvery, EarlyStopping, RunConfig, Training};

/// Keys that hold a component, with its kind.
pub const COMPONENT_KEYS: [(&str, Kind); 7] = [
    ("objective", Kind::Objective),
    ("encoder", Kind::Encoder),
    ("decoder", Kind::Decoder),
    ("dataset", Kind::Dataset),
    ("strategy", Kind::Strategy),
    ("optimiser", Kind::Optimiser),
    ("schedule", Kind::Schedule),
];

/// Key of the hash of the data, which belongs to the data set beside it and goes when that changes.
const DATA_HASH: &str = "data_hash";

/// Keys that hold anything else, in the order of [`Training`]'s fields.
pub const TRAINING_KEYS: [&str; 18] = [
    "lr",
    "epochs",
    "steps",
    "batch_size",
    "average",
    "seed",
    "initial_weights",
    "device",
    "limit_train",
    "drop_last",
    "evaluate_every",
    "evaluation_batch",
    "watch",
    "early_stopping",
    "checkpoint_every",
    "checkpoints_kept",
    "name",
    DATA_HASH,
];

/// Why settings cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A component string or map is wrong.
    #[error("{key}: {source}")]
    Component {
        /// Which setting.
        key: String,
        /// What is wrong with it.
        source: ComponentError,
    },
    /// Anything else.
    #[error("{0}")]
    Setting(String),
}

/// Settings gathered layer by layer; later layers win. Beside them the data set that a hash of the data was given with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Map<String, Value>, Option<Component>);

impl Settings {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lays `layer` over what is there. A component map without `name` changes parameters of the component below it.
    ///
    /// # Errors
    /// [`ConfigError`] when a key is unknown, a value has the wrong type, or a map without `name` has no component below it.
    pub fn overlay(&mut self, layer: Map<String, Value>) -> Result<(), ConfigError> {
        // A step count from below must not outlive the epochs asked for here.
        if layer.contains_key("epochs") && !layer.contains_key("steps") {
            self.0.shift_remove("steps");
        }
        let hashed = layer.get(DATA_HASH).is_some_and(|hash| !hash.is_null());
        for (key, value) in layer {
            check_key(&key)?;
            check_value(&key, &value)?;
            match (value, COMPONENT_KEYS.iter().find(|(k, _)| *k == key)) {
                (Value::Object(parameters), Some((_, kind))) if !parameters.contains_key("name") => {
                    for (parameter, value) in parameters {
                        self.set_parameter(&key, *kind, &parameter, value)?;
                    }
                }
                (value, _) => {
                    self.0.insert(key, value);
                }
            }
        }
        if hashed {
            self.1 = self.0.get("dataset").and_then(|dataset| Component::from_json(Kind::Dataset, dataset).ok());
        }
        Ok(())
    }

    /// Sets one value by its path: `lr`, or `objective.beta` for a parameter of a component.
    ///
    /// # Errors
    /// [`ConfigError`] when the path leads nowhere.
    pub fn set(&mut self, path: &str, value: Value) -> Result<(), ConfigError> {
        if path == DATA_HASH {
            self.1 = None;
        }
        match path.split_once('.') {
            None => {
                check_key(path)?;
                check_value(path, &value)?;
                if path == "epochs" {
                    self.0.shift_remove("steps");
                }
                self.0.insert(path.to_owned(), value);
                Ok(())
            }
            Some(("early_stopping", field)) => {
                let entry = self.0.entry("early_stopping").or_insert(Value::Null);
                if entry.is_null() {
                    *entry = Value::Object(Map::new());
                }
                match entry.as_object_mut() {
                    Some(map) => {
                        map.insert(field.to_owned(), value);
                        Ok(())
                    }
                    None => Err(ConfigError::Setting("`early_stopping` must be a map with `patience`".to_owned())),
                }
            }
            Some((key, parameter)) => match COMPONENT_KEYS.iter().find(|(k, _)| *k == key) {
                Some((_, kind)) => self.set_parameter(key, *kind, parameter, value),
                None => Err(ConfigError::Setting(format!(
                    "`{path}` is not a setting: before the dot stands one of {}",
                    COMPONENT_KEYS.map(|(k, _)| k).join(", ")
                ))),
            },
        }
    }

    fn set_parameter(&mut self, key: &str, kind: Kind, parameter: &str, value: Value) -> Result<(), ConfigError> {
        let Some(current) = self.0.get(key) else {
            return Err(ConfigError::Setting(format!("`{key}.{parameter}` is set, but no {key} is named: give {key} first")));
        };
        let component = Component::from_json(kind, current).map_err(|source| ConfigError::Component { key: key.to_owned(), source })?;
        let mut map = component.to_json_full();
        if let Some(map) = map.as_object_mut() {
            map.insert(parameter.to_owned(), value);
        }
        self.0.insert(key.to_owned(), map);
        Ok(())
    }

    /// Value of a top-level key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Checks everything and fills what is not set from the objective's recipe.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting, what is wrong and what would be right.
    pub fn resolve(mut self) -> Result<RunConfig, ConfigError> {
        let objective = self.component("objective", Kind::Objective, None)?;
        let recipe = objective
            .build::<dyn ObjectiveConfig>()
            .map_err(|source| ConfigError::Component { key: "objective".to_owned(), source })?
            .recipe();
        let encoder = self.component("encoder", Kind::Encoder, None)?;
        let decoder = self.component("decoder", Kind::Decoder, Some(recipe.decoder))?;
        let usual = Registry::global().ok().and_then(|registry| registry.default_of(Kind::Dataset));
        let dataset = self.component("dataset", Kind::Dataset, usual.map(|item| item.name))?;
        // The hash is of the data set that it was given with; another one, or another view of it, has another hash, which is not known yet.
        if self.1.as_ref().is_some_and(|hashed| *hashed != dataset) {
            self.0.shift_remove(DATA_HASH);
        }
        let strategy = self.component("strategy", Kind::Strategy, Some(recipe.strategy))?;
        let optimiser = self.component("optimiser", Kind::Optimiser, Some(recipe.optimiser))?;
        let schedule = self.component("schedule", Kind::Schedule, Some(recipe.schedule))?;
        let mut defaults = Map::new();
        defaults.insert("lr".to_owned(), recipe.learning_rate.into());
        defaults.insert("epochs".to_owned(), recipe.epochs.into());
        defaults.insert("batch_size".to_owned(), recipe.batch_size.into());
        defaults.insert("average".to_owned(), recipe.average.into());
        for (key, value) in &self.0 {
            check_value(key, value)?;
        }
        for (key, value) in defaults {
            self.0.entry(key).or_insert(value);
        }
        let training: Training = serde_json::from_value(Value::Object(self.0)).map_err(|e| ConfigError::Setting(plain(&e.to_string())))?;
        training.check().map_err(ConfigError::Setting)?;
        Ok(RunConfig { objective, encoder, decoder, dataset, strategy, optimiser, schedule, training })
    }

    fn component(&mut self, key: &str, kind: Kind, default: Option<&str>) -> Result<Component, ConfigError> {
        let value = match (self.0.shift_remove(key), default) {
            (Some(value), _) => value,
            (None, Some(default)) => Value::String(default.to_owned()),
            (None, None) => {
                return Err(ConfigError::Setting(format!(
                    "no {key} is given\n  hint: add `--{key} NAME`; `ibhost list --kind {key}` shows the choices"
                )));
            }
        };
        Component::from_json(kind, &value).map_err(|source| ConfigError::Component { key: key.to_owned(), source })
    }
}

/// Refuses a top-level key that no setting has.
fn check_key(key: &str) -> Result<(), ConfigError> {
    let known = || COMPONENT_KEYS.iter().map(|(k, _)| *k).chain(TRAINING_KEYS);
    if known().any(|k| k == key) {
        return Ok(());
    }
    let near = nearest(key, known());
    let hint = if near.is_empty() {
        format!("the settings are {}", known().collect::<Vec<_>>().join(", "))
    } else {
        format!("did you mean `{}`?", near.join("` or `"))
    };
    let shown: String = key.chars().take(64).collect();
    Err(ConfigError::Setting(format!("unknown setting `{shown}`\n  hint: {hint}")))
}

/// Refuses a value of the wrong type for a key of [`Training`]. One key at a time over sound values, because serde does not say which key
/// a wrong value belongs to.
fn check_value(key: &str, value: &Value) -> Result<(), ConfigError> {
    if !TRAINING_KEYS.contains(&key) {
        return Ok(());
    }
    let mut alone =
        Map::from_iter([("lr", Value::from(1.0)), ("epochs", 1.into()), ("batch_size", 1.into())].map(|(k, v)| (k.to_owned(), v)));
    alone.insert(key.to_owned(), value.clone());
    serde_json::from_value::<Training>(Value::Object(alone))
        .map(|_| ())
        .map_err(|e| ConfigError::Setting(format!("`{key}`: {}", plain(&e.to_string()))))
}

impl RunConfig {
    /// Reads back what [`RunConfig`] serialises to.
    ///
    /// # Errors
    /// As [`Settings::resolve`].
    pub fn from_json(value: Value) -> Result<Self, ConfigError> {
        match value {
            Value::Object(map) => {
                let mut settings = Settings::new();
                settings.overlay(map)?;
                settings.resolve()
            }
            _ => Err(ConfigError::Setting("a run configuration is a map of settings".to_owned())),
        }
    }

    /// The same with what the contents of `root` decide about the data set written down, e.g. which of two sources is read.
    ///
    /// # Errors
    /// A data set whose parameters contradict each other.
    pub fn decided(mut self, root: &DataRoot) -> Result<Self, ComponentError> {
        let decided = self.dataset.build::<dyn DatasetConfig>()?.decided(root);
        if !decided.is_empty() {
            let mut whole = self.dataset.to_json_full();
            if let Value::Object(parameters) = &mut whole {
                parameters.extend(decided);
            }
            self.dataset = Component::from_json(Kind::Dataset, &whole)?;
        }
        Ok(self)
    }

    /// Asks every component whether it can be part of this run (`check` of their configurations).
    ///
    /// # Errors
    /// What the first one that cannot says.
    pub fn check(&self) -> Result<(), ConfigError> {
        asked::<dyn ObjectiveConfig>(&self.objective, |config| config.check(self))?;
        asked::<dyn EncoderConfig>(&self.encoder, |config| config.check(self))?;
        asked::<dyn DecoderConfig>(&self.decoder, |config| config.check(self))?;
        asked::<dyn DatasetConfig>(&self.dataset, |config| config.check(self))?;
        asked::<dyn StrategyConfig>(&self.strategy, |config| config.check(self))?;
        asked::<dyn OptimiserConfig>(&self.optimiser, |config| config.check(self))?;
        asked::<dyn ScheduleConfig>(&self.schedule, |config| config.check(self))
    }

    /// The name that the data of this run go by: runs of one sweep that have it in common have the same data.
    ///
    /// # Errors
    /// A data set whose parameters contradict each other.
    pub fn data_name(&self) -> Result<String, ComponentError> {
        data_name(&self.dataset, self.training.seed)
    }

    /// `<encoder>-<objective>-<dataset>`, the stem of the run's folder name.
    pub fn stem(&self) -> String {
        format!("{}-{}-{}", self.encoder.name, self.objective.name, self.dataset.name)
    }
}

/// The name that the data of `dataset` go by in a run of `seed`: with the seed where samples are drawn from it.
///
/// # Errors
/// A data set whose parameters contradict each other.
pub fn data_name(dataset: &Component, seed: u64) -> Result<String, ComponentError> {
    let seeded = dataset.build::<dyn DatasetConfig>()?.draws_from_seed();
    Ok(if seeded { format!("{dataset} of seed {seed}") } else { dataset.to_string() })
}

/// What the configuration of `component` says when `ask`ed.
fn asked<C: ?Sized>(component: &Component, ask: impl FnOnce(&C) -> Result<(), String>) -> Result<(), ConfigError>
where
    Box<C>: DeserializeOwned,
{
    let kind = component.kind;
    let config = component.build::<C>().map_err(|source| ConfigError::Component { key: kind.to_string(), source })?;
    ask(&config).map_err(|reason| ConfigError::Setting(format!("{kind} `{component}` {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_keys_are_the_fields_of_the_settings() {
        let training = r#"{ "lr": 0.1, "epochs": 1, "batch_size": 1, "data_hash": "0" }"#;
        let training: Training = serde_json::from_str(training).unwrap();
        let value = serde_json::to_value(training).unwrap();
        assert_eq!(value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), TRAINING_KEYS);
    }

    #[test]
    fn unknown_settings_are_refused_with_the_nearest_names() {
        let error = Settings::new().set("batchsize", 1.into()).unwrap_err().to_string();
        assert!(error.contains("unknown setting `batchsize`") && error.contains("`batch_size`"), "{error}");
        let layer = Map::from_iter([("zzzzzz".to_owned(), Value::Null)]);
        let error = Settings::new().overlay(layer).unwrap_err().to_string();
        assert!(error.contains("`zzzzzz`") && error.contains("checkpoint_every"), "{error}");
        let error = Settings::new().set("lr", "fast".into()).unwrap_err().to_string();
        assert!(error.contains("`lr`") && error.contains("fast") && error.contains("expected a number"), "{error}");
    }

    #[test]
    fn a_missing_objective_is_named() {
        let error = Settings::new().resolve().unwrap_err().to_string();
        assert!(error.contains("no objective is given") && error.contains("--objective"), "{error}");
    }

    #[test]
    fn a_parameter_of_a_component_that_is_not_named_is_refused() {
        let error = Settings::new().set("objective.beta", 1.into()).unwrap_err().to_string();
        assert!(error.contains("objective.beta"), "{error}");
        assert!(Settings::new().set("nonsense.beta", 1.into()).unwrap_err().to_string().contains("before the dot"));
    }
}
