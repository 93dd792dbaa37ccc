//! Component strings: a component's name and the parameters that differ from its defaults, checked against the registry.
//!
//! `net/width:1024|depth:2` names the encoder `net` with two parameters changed. [`Component::parse`] checks every key and value against the config
//! struct behind the name, `Display` prints the canonical form (only what differs from the defaults, in the order of the struct's fields), and
//! [`resolve`] also builds the config.

pub mod error;
#[cfg(test)]
pub(crate) mod fixture;
pub mod grammar;
pub mod quoted;
pub mod schema;
pub mod suggest;
pub(crate) mod value;

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub use error::ComponentError;
pub use grammar::{MAX_LENGTH, Parsed, Spanned};
pub use schema::{NAME_KEY, Parameter, ParameterKind, SchemaError};
pub use value::text_of;

use crate::registry::{Item, Kind, Registry};
use suggest::{alternatives, did_you_mean, nearest};
use value::{Given, convert, literal_of};

/// What every config trait asks of its implementors: to serialise as a trait object and to print for debugging.
pub trait Configured: erased_serde::Serialize + fmt::Debug {}

impl<T: Serialize + fmt::Debug> Configured for T {}

/// A component with its parameters checked. Equal components configure equally; `Display` prints the canonical component string.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// What kind of component it is.
    pub kind: Kind,
    /// Its canonical name (never an alias).
    pub name: String,
    /// Its name in configurations, see [`Item::recorded`].
    recorded: &'static str,
    /// The parameters that differ from their defaults, typed, in the order of the config's fields.
    pub params: Map<String, Value>,
    /// Every parameter's default, in the same order.
    defaults: Map<String, Value>,
}

impl Component {
    /// Parses and checks a component string of the given kind.
    ///
    /// # Errors
    /// The first thing wrong with `text`: grammar, unknown name or key, wrong type, value out of range, or a registry that cannot be built.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, ComponentError> {
        global(text)?.parse(kind, text)
    }

    /// Checks a map `{name: net, width: 1024}` of a configuration file, or a component string in place of one.
    ///
    /// # Errors
    /// As [`Component::parse`]; the error's text is the component string that the map stands for.
    pub fn from_json(kind: Kind, value: &Value) -> Result<Self, ComponentError> {
        global(&text_of(value))?.component_from_json(kind, value)
    }

    /// The value of a parameter, default or not; nothing for an unknown key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.params.get(key).or_else(|| self.defaults.get(key))
    }

    /// The map `{name: ..., key: value, ...}` with every parameter, defaults filled in, in the order of the config's fields.
    #[must_use]
    pub fn to_json_full(&self) -> Value {
        let mut full = Map::with_capacity(self.defaults.len() + 1);
        full.insert(NAME_KEY.to_owned(), self.recorded.into());
        for (key, default) in &self.defaults {
            full.insert(key.clone(), self.params.get(key).unwrap_or(default).clone());
        }
        Value::Object(full)
    }

    /// The component's config as the trait object `C`, for example `dyn EncoderConfig`; its trait must carry `#[typetag::serde(tag = "name")]`.
    ///
    /// # Errors
    /// What the config's own deserialisation refuses beyond the bounds of single parameters.
    pub fn build<C: ?Sized>(&self) -> Result<Box<C>, ComponentError>
    where
        Box<C>: DeserializeOwned,
    {
        serde_json::from_value(self.to_json_full()).map_err(|reason| {
            let message = format!("{} `{}` refuses these parameters: {reason}", self.kind, self.name);
            ComponentError::whole(&self.to_string(), message, Some(describe(&self.name)))
        })
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (at, (key, value)) in self.params.iter().enumerate() {
            write!(f, "{}{key}:{}", if at == 0 { '/' } else { '|' }, literal_of(value))?;
        }
        Ok(())
    }
}

/// As [`Component::to_json_full`], so that a configuration file keeps its meaning when a default changes.
impl Serialize for Component {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json_full().serialize(serializer)
    }
}

/// Parses, checks and builds: the component and its config as the trait object `C`.
///
/// # Errors
/// As [`Component::parse`] and [`Component::build`]; all errors point into `text`.
pub fn resolve<C: ?Sized>(kind: Kind, text: &str) -> Result<(Component, Box<C>), ComponentError>
where
    Box<C>: DeserializeOwned,
{
    let component = Component::parse(kind, text)?;
    let config = component.build().map_err(|error| ComponentError::whole(text, error.message, error.help))?;
    Ok((component, config))
}

/// As [`resolve`], from a configuration file's map.
///
/// # Errors
/// As [`Component::from_json`] and [`Component::build`].
pub fn resolve_json<C: ?Sized>(kind: Kind, value: &Value) -> Result<(Component, Box<C>), ComponentError>
where
    Box<C>: DeserializeOwned,
{
    let component = Component::from_json(kind, value)?;
    let config = component.build()?;
    Ok((component, config))
}

impl Registry {
    /// [`Component::parse`] against this registry.
    ///
    /// # Errors
    /// As there.
    pub fn parse(&self, kind: Kind, text: &str) -> Result<Component, ComponentError> {
        let parsed = grammar::parse(text)?;
        let params = parsed.params.iter().map(|(key, value)| (key, value.span.clone(), Given::Text(&value.value)));
        self.assemble(kind, text, &parsed.name, params)
    }

    /// [`Component::from_json`] against this registry.
    ///
    /// # Errors
    /// As there.
    pub fn component_from_json(&self, kind: Kind, value: &Value) -> Result<Component, ComponentError> {
        let form = || Some(format!("write a map `{{{NAME_KEY}: ..., key: value}}` or a component string `name/key:value`"));
        let map = match value {
            Value::String(text) => return self.parse(kind, text),
            Value::Object(map) => map,
            _ => return Err(ComponentError::whole(&text_of(value), format!("this is not {}", kind.with_article()), form())),
        };
        let name = match map.get(NAME_KEY) {
            Some(Value::String(name)) => name,
            Some(_) => return Err(ComponentError::whole(&value.to_string(), format!("`{NAME_KEY}` must be a word"), form())),
            None => return Err(ComponentError::whole(&value.to_string(), format!("{} has no `{NAME_KEY}`", kind.with_article()), form())),
        };
        // The map is written out as the string it stands for, so that an error can point at a place in it.
        let mut text = name.clone();
        let name = Spanned { value: name.clone(), span: 0..text.len() };
        let mut params = Vec::with_capacity(map.len());
        for (key, value) in map.iter().filter(|(key, _)| *key != NAME_KEY) {
            text.push(if params.is_empty() { '/' } else { '|' });
            let start = text.len();
            text.push_str(key);
            let key = Spanned { value: key.clone(), span: start..text.len() };
            text.push(':');
            let start = text.len();
            text.push_str(&literal_of(value));
            params.push((key, start..text.len(), Given::Json(value)));
        }
        self.assemble(kind, &text, &name, params.iter().map(|(key, span, given)| (key, span.clone(), *given)))
    }

    fn assemble<'a>(
        &self,
        kind: Kind,
        text: &str,
        name: &Spanned<String>,
        given: impl Iterator<Item = (&'a Spanned<String>, Range<usize>, Given<'a>)>,
    ) -> Result<Component, ComponentError> {
        let item = self.get(kind, &name.value).ok_or_else(|| self.unknown_name(kind, text, name))?;
        let mut values = Map::new();
        for (key, span, given) in given {
            let parameter = item.parameter(&key.value).ok_or_else(|| unknown_key(item, text, key))?;
            let value = convert(parameter, given).map_err(|misfit| {
                let span = misfit.within.map_or(span.clone(), |within| span.start + within.start..span.start + within.end);
                ComponentError::new(text, span, misfit.message, misfit.help.or_else(|| Some(allowed(parameter))))
            })?;
            values.insert(key.value.clone(), value);
        }
        let mut params = Map::new();
        let mut defaults = Map::with_capacity(item.parameters.len());
        for parameter in &item.parameters {
            if let Some(value) = values.remove(&parameter.name).filter(|value| *value != parameter.default) {
                params.insert(parameter.name.clone(), value);
            }
            defaults.insert(parameter.name.clone(), parameter.default.clone());
        }
        Ok(Component { kind, name: item.name.to_owned(), recorded: item.recorded, params, defaults })
    }

    fn unknown_name(&self, kind: Kind, text: &str, name: &Spanned<String>) -> ComponentError {
        let wanted = &name.value;
        let shown: String = wanted.chars().take(64).flat_map(char::escape_debug).collect();
        let near = nearest(wanted, self.items(kind).iter().flat_map(Item::names));
        let mut names: Vec<&str> = self.items(kind).iter().map(|item| item.name).collect();
        names.sort_unstable();
        let list = if names.is_empty() {
            format!("this build has no {}; add the plugin crate to the host", kind.plural())
        } else {
            format!("the {} are {}", kind.plural(), names.join(", "))
        };
        let (message, help) = if let Some(unbuilt) = self.unbuilt(kind, wanted) {
            let message = format!("{kind} `{shown}` is known, but this program was built without the feature `{}`", unbuilt.feature);
            (message, format!("build with `--features {}`", unbuilt.feature))
        } else if let Some(other) = self.kinds_of(wanted).first() {
            let message = format!("`{shown}` is {}, not {}", other.with_article(), kind.with_article());
            (message, did_you_mean(&near).unwrap_or(list))
        } else {
            (format!("unknown {kind} `{shown}`"), did_you_mean(&near).unwrap_or(list))
        };
        ComponentError::new(text, name.span.clone(), message, Some(help))
    }
}

fn global(text: &str) -> Result<&'static Registry, ComponentError> {
    Registry::global().map_err(|error| ComponentError::whole(text, error.to_string(), None))
}

fn describe(name: &str) -> String {
    format!("`ibhost describe {name}` lists the parameters and their ranges")
}

fn unknown_key(item: &Item, text: &str, key: &Spanned<String>) -> ComponentError {
    let shown: String = key.value.chars().take(64).flat_map(char::escape_debug).collect();
    let valid: Vec<String> = item.parameters.iter().map(|p| format!("{}:{}", p.name, p.default_text())).collect();
    let list = if valid.is_empty() {
        format!("`{}` takes no parameters", item.name)
    } else {
        format!("the keys and their defaults are {}", valid.join(", "))
    };
    let near = nearest(&key.value, item.parameters.iter().map(|p| p.name.as_str()));
    let help = match did_you_mean(&near) {
        Some(question) => format!("{question} {list}"),
        None => list,
    };
    ComponentError::new(text, key.span.clone(), format!("{} `{}` has no parameter `{shown}`", item.kind, item.name), Some(help))
}

/// The hint for a value that does not fit: type, range and default of its parameter.
fn allowed(parameter: &Parameter) -> String {
    let kind = match &parameter.kind {
        ParameterKind::Choice(choices) => format!("one of {}", alternatives(&choices.iter().map(|(word, _)| word).collect::<Vec<_>>())),
        kind => kind.label(),
    };
    let range = parameter.range_text().map(|range| format!(", {range}")).unwrap_or_default();
    let default = parameter.default_text();
    let default = if default.is_empty() { String::new() } else { format!("; default {default}") };
    format!("`{}` is {kind}{range}{default}", parameter.name)
}

#[cfg(test)]
mod tests {
    use super::fixture::{Covariance, Everything, FixtureConfig, any_text, registry, text_of};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Component, ComponentError> {
        registry().parse(Kind::Encoder, text)
    }

    #[test]
    fn canonical_form_drops_defaults_and_orders_keys() {
        let component = parse("perceptron/flip:true,covariance:diagonal|width:64|rate:1e-3,seed:7,kernel:[3;5]").unwrap();
        assert_eq!(component.to_string(), "mlp/seed:7|covariance:diagonal|kernel:[3;5]|flip:true");
        assert_eq!(component.name, "mlp");
        assert_eq!(component.get("width"), Some(&json!(64)));
        assert_eq!(component.get("flip"), Some(&json!(true)));
        assert_eq!(component.get("nothing"), None);
        assert_eq!(parse("mlp/temperature:0.1|prior:diagonal").unwrap().to_string(), "mlp");
        assert_eq!(parse("mlp/prior:none|rate:1").unwrap().to_string(), "mlp/rate:1|prior:none");
    }

    #[test]
    fn bad_strings_point_at_the_place() {
        let table: [(&str, Range<usize>, &str, &str); 30] = [
            ("mpl", 0..3, "unknown encoder `mpl`", "did you mean `mlp`?"),
            ("MLP/width:2", 0..3, "unknown encoder `MLP`", "did you mean `mlp`?"),
            ("percepton", 0..9, "unknown encoder", "`perceptron`"),
            ("mim/width:2", 0..3, "`mim` is an objective, not an encoder", "mlp"),
            ("fgsm", 0..4, "`fgsm` is an analysis, not an encoder", "the encoders are mlp, resnet20"),
            ("transformer", 0..11, "unknown encoder `transformer`", "the encoders are mlp, resnet20"),
            ("mlp/widht:2", 4..9, "encoder `mlp` has no parameter `widht`", "did you mean `width`?"),
            ("mlp/qqq:2", 4..7, "has no parameter `qqq`", "the keys and their defaults are width:64, seed:none"),
            ("mlp/name:mlp", 4..8, "has no parameter `name`", "the keys"),
            ("mlp/width:two", 10..13, "`width` takes a whole number, got `two`", "at least 1, at most 1000000; default 64"),
            ("mlp/width:2.5", 10..13, "`width` takes a whole number, got `2.5`", "int"),
            ("mlp/width:0", 10..11, "`width` must be at least 1, got 0", "at least 1"),
            ("mlp/width:-1", 10..12, "`width` must be at least 1, got -1", "at least 1"),
            ("mlp/seed:-1", 9..11, "`seed` must be at least 0, got -1", "int or none"),
            ("mlp/seed:18446744073709551616", 9..29, "must be at most 18446744073709551615, got `18446744073709551616`", "int"),
            ("mlp/offset:3000000000", 11..21, "`offset` must be at most 2147483647, got 3000000000", "default -3"),
            ("mlp/offset:-3000000000", 11..22, "`offset` must be at least -2147483648", "int"),
            ("mlp/rate:0", 9..10, "`rate` must be greater than 0, got 0", "greater than 0"),
            ("mlp/rate:inf", 9..12, "`rate` must be finite", "float"),
            ("mlp/rate:NaN", 9..12, "`rate` must be finite", "float"),
            ("mlp/rate:1e-320", 9..15, "`rate` must be 0 or at least 1.1754944e-38 in size", "float"),
            ("mlp/temperature:-1e-45", 16..22, "`temperature` must be 0 or at least", "float"),
            ("mlp/temperature:1e39", 16..20, "`temperature` must be finite", "float"),
            ("mlp/bias:yes", 9..12, "`bias` takes `true` or `false`, got `yes`", "bool"),
            ("mlp/covariance:ful", 15..18, "`covariance` takes `full` or `diagonal`, got `ful`", "did you mean `full`?"),
            ("mlp/hidden:[1;x;3]", 14..15, "element 2 of `hidden` takes a whole number, got `x`", "list of int"),
            ("mlp/hidden:[]", 11..13, "`hidden` takes at least 1 element, got 0", "1 to 4 elements"),
            ("mlp/label:a/b", 10..13, "`label` takes a word of letters", "word"),
            ("mlp/width:\"2\"", 10..13, "`width` takes a whole number", "int"),
            ("mlp/kernel:3", 11..12, "`kernel` takes a list of numbers such as `[1;2;3]`, got `3`", "2 elements"),
        ];
        for (text, span, message, help) in table {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(error.span, span, "{text}: {error}");
            assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {error}");
        }
    }

    #[test]
    fn an_absurdly_long_number_is_out_of_range_not_a_crash() {
        let error = parse(&format!("mlp/width:{}", "9".repeat(4000))).unwrap_err();
        assert!(error.message.contains("must be at most 1000000, got `9999"), "{error}");
        assert!(error.to_string().len() < 700, "{error}");
    }

    #[test]
    fn maps_of_configuration_files_are_checked_like_strings() {
        let from = |value: Value| registry().component_from_json(Kind::Encoder, &value);
        let component = from(json!({ "hidden": [8, 4], "name": "mlp", "rate": 1, "seed": null })).unwrap();
        assert_eq!(component, parse("mlp/rate:1|hidden:[8;4]").unwrap());
        assert_eq!(from(component.to_json_full()).unwrap(), component);
        assert_eq!(from(json!("mlp/width:2")).unwrap(), parse("mlp/width:2").unwrap());
        let table = [
            (json!({ "width": 2 }), "an encoder has no `name`"),
            (json!({ "name": 3 }), "`name` must be a word"),
            (json!([1]), "this is not an encoder"),
            (json!({ "name": "mlp", "widht": 2 }), "has no parameter `widht`"),
            (json!({ "name": "mlp", "width": "2" }), "`width` takes a whole number, got `\"2\"`"),
            (json!({ "name": "mlp", "width": 2.0 }), "`width` takes a whole number, got `2.0`"),
            (json!({ "name": "mlp", "label": "a/b" }), "`label` takes a word"),
            (json!({ "name": "mlp", "hidden": { "a": 1 } }), "`hidden` takes a list"),
            (json!({ "name": "mlp", "hidden": [1, 0] }), "element 2 of `hidden` must be at least 1, got 0"),
            (json!({ "name": "mlp", "bias": null }), "`bias` takes `true` or `false`, got `null`"),
            (json!({ "name": "mim" }), "`mim` is an objective, not an encoder"),
        ];
        for (value, message) in table {
            let error = from(value.clone()).unwrap_err();
            assert!(error.message.contains(message), "{value}: {error}");
            assert!(error.text.get(error.span.clone()).is_some());
        }
        let error = from(json!({ "name": "mlp", "width": 0 })).unwrap_err();
        assert_eq!((error.text.as_str(), error.span), ("mlp/width:0", 10..11));
    }

    #[test]
    fn resolving_builds_the_config_behind_the_name() {
        let (component, config) =
            resolve::<dyn FixtureConfig>(Kind::Encoder, "test_all/width:2|covariance:diagonal|axis:3|seed:9").unwrap();
        assert_eq!(component.to_string(), "test_everything/width:2|seed:9|covariance:diagonal|axis:3");
        assert_eq!(config.width(), 2);
        let full = serde_json::to_value(&config).unwrap();
        assert_eq!(full["name"], "test_everything");
        let expected = Everything {
            width: 2,
            seed: Some(9),
            covariance: Covariance::Diagonal,
            view: super::fixture::View { axis: 3, flip: false },
            ..Everything::default()
        };
        assert_eq!(serde_json::from_value::<Everything>(full.clone()).unwrap(), expected);
        let (again, _) = resolve_json::<dyn FixtureConfig>(Kind::Encoder, &full).unwrap();
        assert_eq!(again, component);
        assert!(resolve::<dyn FixtureConfig>(Kind::Encoder, "test_all/width:0").is_err());
    }

    fn word() -> impl Strategy<Value = String> {
        text_of("AKZabz059_.+-", 1..=8)
    }

    /// A random value, as written, for each key of the fixture.
    fn written() -> impl Strategy<Value = Vec<(String, String)>> {
        let float = || any::<f64>().prop_filter("finite", |x| x.is_finite() && !value::is_lost(*x)).prop_map(|x| format!("{x:e}"));
        let list = |values: BoxedStrategy<String>, sizes: std::ops::RangeInclusive<usize>| {
            prop::collection::vec(values, sizes).prop_map(|values| format!("[{}]", values.join(";"))).boxed()
        };
        let covariance = || prop_oneof![Just("full".to_owned()), Just("diagonal".to_owned())];
        let mode = || prop_oneof![Just("slow".to_owned()), Just("very-fast".to_owned())];
        let none = || Just("none".to_owned());
        let text = |key: &'static str, values: BoxedStrategy<String>| values.prop_map(move |value| (key.to_owned(), value)).boxed();
        let all = vec![
            text("width", (1..=1_000_000_u32).prop_map(|n| n.to_string()).boxed()),
            text("seed", prop_oneof![none(), any::<u64>().prop_map(|n| n.to_string())].boxed()),
            text("offset", any::<i32>().prop_map(|n| n.to_string()).boxed()),
            text("rate", (1e-30..=1.0_f64).prop_map(|x| x.to_string()).boxed()),
            text(
                "temperature",
                any::<f32>().prop_filter("finite", |x| x.is_finite() && !x.is_subnormal()).prop_map(|x| x.to_string()).boxed(),
            ),
            text("bias", any::<bool>().prop_map(|b| b.to_string()).boxed()),
            text("label", word().boxed()),
            text(
                "file",
                prop_oneof![word(), any_text()].prop_map(|t| quoted::literal(&t.replace(char::is_control, "")).into_owned()).boxed(),
            ),
            text("covariance", covariance().boxed()),
            text("mode", mode().boxed()),
            text("prior", prop_oneof![none(), covariance()].boxed()),
            text("hidden", list((1..=9_999_u32).prop_map(|n| n.to_string()).boxed(), 1..=4)),
            text("scales", list(float().boxed(), 0..=3)),
            text("kernel", list(any::<u32>().prop_map(|n| n.to_string()).boxed(), 2..=2)),
            text("paths", prop_oneof![none().boxed(), list(mode().boxed(), 0..=3)].boxed()),
            text("axis", any::<u8>().prop_map(|n| n.to_string()).boxed()),
            text("flip", any::<bool>().prop_map(|b| b.to_string()).boxed()),
        ];
        (all, prop::collection::vec(any::<bool>(), 17))
            .prop_map(|(all, keep)| all.into_iter().zip(keep).filter_map(|(pair, keep)| keep.then_some(pair)).collect::<Vec<_>>())
            .prop_shuffle()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn printing_then_parsing_gives_the_same_component(pairs in written(), comma in any::<bool>()) {
            let registry = registry();
            let joined: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            let text = if joined.is_empty() { "mlp".to_owned() } else { format!("mlp/{}", joined.join(if comma { "," } else { "|" })) };
            let component = registry.parse(Kind::Encoder, &text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let printed = component.to_string();
            let again = registry.parse(Kind::Encoder, &printed).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&again, &component);
            prop_assert_eq!(again.to_string(), printed);
            let full = component.to_json_full();
            let through_file: Value = serde_json::from_str(&full.to_string()).unwrap();
            prop_assert_eq!(registry.component_from_json(Kind::Encoder, &through_file).unwrap(), component.clone());
            let config: Everything = serde_json::from_value(full).unwrap();
            let mut from_config = serde_json::to_value(&config).unwrap();
            from_config["name"] = "mlp".into();
            prop_assert_eq!(registry.component_from_json(Kind::Encoder, &from_config).unwrap(), component);
        }

        #[test]
        fn no_string_panics(
            text in any_text(),
            key in prop::sample::select(vec!["width", "seed", "rate", "hidden", "zz"]),
            separator in text_of(":=|,/", 0..=1),
            value in text_of("afz059é;[].+-", 0..=6),
            end in text_of("|,/:", 0..=1),
        ) {
            let tail = format!("{key}{separator}{value}{end}");
            for text in [text.clone(), format!("mlp/{tail}"), format!("mlp/{tail}{text}")] {
                match parse(&text) {
                    Ok(component) => prop_assert_eq!(parse(&component.to_string()).unwrap(), component),
                    Err(error) => {
                        prop_assert!(error.text.get(error.span.clone()).is_some());
                        prop_assert!(!error.to_string().is_empty());
                    }
                }
            }
        }
    }
}
