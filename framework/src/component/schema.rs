//! Parameters of a component, derived from the JSON schema and the default value of its config struct.

use std::ops::RangeInclusive;

use schemars::Schema;
use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::grammar::is_word;
use super::suggest::alternatives;
use super::value::{normalised, text_of};

/// The key that carries a component's name in configuration files, so that no parameter may have it.
pub const NAME_KEY: &str = "name";

/// What a parameter holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// A whole number.
    Int,
    /// A finite number, kept as `f64`.
    Float,
    /// A finite number that the config keeps as `f32`.
    Float32,
    /// `true` or `false`.
    Bool,
    /// A word of the grammar.
    Word,
    /// Any text, in quotes where it is more than words and `/`.
    Text,
    /// The path of a file or folder, written as text is.
    Path,
    /// One of several words, each with its documentation (empty when undocumented).
    Choice(Vec<(String, String)>),
    /// A list `[a;b;c]`.
    List(Box<ParameterKind>),
    /// A value or `none`.
    Optional(Box<ParameterKind>),
}

impl ParameterKind {
    /// Short name for tables: "int", "list of float", "choice or none".
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Int => "int".into(),
            Self::Float | Self::Float32 => "float".into(),
            Self::Bool => "bool".into(),
            Self::Word => "word".into(),
            Self::Text => "text".into(),
            Self::Path => "path".into(),
            Self::Choice(_) => "choice".into(),
            Self::List(inner) => format!("list of {}", inner.label()),
            Self::Optional(inner) => format!("{} or none", inner.label()),
        }
    }

    /// What to write, for messages: "a whole number", "a list such as `[1;2;3]`".
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Int => "a whole number".into(),
            Self::Float | Self::Float32 => "a number".into(),
            Self::Bool => "`true` or `false`".into(),
            Self::Word => "a word of letters, digits and `_` `.` `+` `-`".into(),
            Self::Text => "text, in quotes where it is more than letters, digits and `_` `.` `+` `-` `/`".into(),
            Self::Path => "a path, in quotes where it is more than letters, digits and `_` `.` `+` `-` `/`".into(),
            Self::Choice(choices) => alternatives(&choices.iter().map(|(word, _)| word).collect::<Vec<_>>()),
            Self::List(inner) => match **inner {
                Self::Int | Self::Float | Self::Float32 => "a list of numbers such as `[1;2;3]`".into(),
                _ => "a list such as `[a;b;c]`".into(),
            },
            Self::Optional(inner) => format!("{}, or `none`", inner.expected()),
        }
    }
}

/// One parameter of a component: key, type, default, bounds and meaning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// The key in component strings and configuration files.
    pub name: String,
    /// The type.
    pub kind: ParameterKind,
    /// Value when the key is left out.
    pub default: Value,
    /// Smallest value allowed (of each element, for lists).
    pub minimum: Option<Number>,
    /// Largest value allowed.
    pub maximum: Option<Number>,
    /// The value must be greater than this.
    pub exclusive_minimum: Option<Number>,
    /// The value must be less than this.
    pub exclusive_maximum: Option<Number>,
    /// Fewest elements of a list.
    pub minimum_length: Option<u64>,
    /// Most elements of a list.
    pub maximum_length: Option<u64>,
    /// Meaning and unit.
    pub doc: String,
    /// What the integer type of the config can hold; not a documented bound.
    #[serde(skip)]
    pub(super) whole: RangeInclusive<i128>,
}

impl Parameter {
    /// The default as it would be written in a component string.
    #[must_use]
    pub fn default_text(&self) -> String {
        text_of(&self.default)
    }

    /// The bounds in words ("at least 1, at most 1000"), or nothing when the type is the only bound.
    #[must_use]
    pub fn range_text(&self) -> Option<String> {
        let bounds = [
            ("at least", &self.minimum),
            ("greater than", &self.exclusive_minimum),
            ("at most", &self.maximum),
            ("less than", &self.exclusive_maximum),
        ];
        let mut parts: Vec<String> = bounds
            .iter()
            .filter_map(|(word, bound)| bound.as_ref().map(|b| format!("{word} {}", text_of(&Value::Number(b.clone())))))
            .collect();
        match (self.minimum_length, self.maximum_length) {
            (Some(low), Some(high)) if low == high => parts.push(elements(low)),
            (Some(low), Some(high)) => parts.push(format!("{low} to {}", elements(high))),
            (Some(low), None) => parts.push(format!("at least {}", elements(low))),
            (None, Some(high)) => parts.push(format!("at most {}", elements(high))),
            (None, None) => {}
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// "1 element", "2 elements".
pub(super) fn elements(count: u64) -> String {
    format!("{count} element{}", if count == 1 { "" } else { "s" })
}

/// Why a config struct cannot be written as a component string; always a mistake in the plugin that registers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The config is not a plain struct with named fields.
    #[error("its config must be a struct with named fields (flattened structs included, flattened enums not)")]
    NotAStruct,
    /// The default value does not serialise to a map.
    #[error("the default of its config does not serialise to a map")]
    NoDefaults,
    /// A field is called like the tag.
    #[error("its config has a field `{NAME_KEY}`, which is reserved for the component's name; rename the field")]
    Reserved,
    /// A field or variant name is not a word of the grammar.
    #[error("`{word}` cannot be written in a component string; use letters, digits and `_` `.` `+` `-`")]
    NotAWord {
        /// The field or variant.
        word: String,
    },
    /// A field's type has no place in the grammar.
    #[error(
        "field `{key}` has a type that component strings cannot hold ({found}); use numbers, bool, String, unit enums, Vec or Option of these"
    )]
    Unsupported {
        /// The field.
        key: String,
        /// Its schema, shortened.
        found: String,
    },
    /// A field has no default value.
    #[error("field `{key}` is missing from the serialised default; do not skip it when serialising")]
    MissingDefault {
        /// The field.
        key: String,
    },
    /// The default has a field the schema does not know.
    #[error("the default has a field `{key}` that the schema lacks; use the same name for serialising and deserialising")]
    Undeclared {
        /// The field.
        key: String,
    },
    /// A default violates its own bounds or type.
    #[error("the default of field `{key}` is not valid: {reason}")]
    BadDefault {
        /// The field.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// First paragraph (joined to one line) and the rest of a struct's documentation.
#[must_use]
pub fn documentation(schema: &Schema) -> (String, String) {
    let text = text_at(schema.as_value(), "description");
    let (summary, details) = text.split_once("\n\n").unwrap_or((&text, ""));
    (one_line(summary), details.trim().to_owned())
}

/// The parameters of a config struct in schema order, with their defaults taken from the serialised default value.
///
/// # Errors
/// A field that component strings cannot express, or a default that is missing or invalid.
pub fn parameters(schema: &Schema, defaults: &Value) -> Result<Vec<Parameter>, SchemaError> {
    let root = schema.as_value();
    if ["oneOf", "anyOf", "allOf", "enum", "const"].iter().any(|key| root.get(key).is_some())
        || root.get("type") != Some(&Value::from("object"))
    {
        return Err(SchemaError::NotAStruct);
    }
    let empty = Map::new();
    let fields = root.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let defaults = defaults.as_object().ok_or(SchemaError::NoDefaults)?;
    if let Some(key) = defaults.keys().find(|key| !fields.contains_key(*key)) {
        return Err(SchemaError::Undeclared { key: key.clone() });
    }
    fields.iter().map(|(key, node)| parameter(root, key, node, defaults.get(key))).collect()
}

fn parameter(root: &Value, key: &str, node: &Value, default: Option<&Value>) -> Result<Parameter, SchemaError> {
    if key == NAME_KEY {
        return Err(SchemaError::Reserved);
    }
    if !is_word(key) {
        return Err(SchemaError::NotAWord { word: key.to_owned() });
    }
    let shape = Shape::of(root, key, node, 0)?;
    if let Some(word) = shape.unwritable_choice() {
        return Err(SchemaError::NotAWord { word: word.to_owned() });
    }
    let default = match default {
        Some(value) => value.clone(),
        None if matches!(shape.kind, ParameterKind::Optional(_)) => Value::Null,
        None => return Err(SchemaError::MissingDefault { key: key.to_owned() }),
    };
    let own_doc = one_line(&text_at(node, "description"));
    let mut parameter = Parameter {
        name: key.to_owned(),
        kind: shape.kind,
        default,
        minimum: number_at(&shape.node, "minimum"),
        maximum: number_at(&shape.node, "maximum"),
        exclusive_minimum: number_at(&shape.node, "exclusiveMinimum"),
        exclusive_maximum: number_at(&shape.node, "exclusiveMaximum"),
        minimum_length: shape.minimum_length,
        maximum_length: shape.maximum_length,
        // A field without a comment still says something when its type has one.
        doc: if own_doc.is_empty() { one_line(&text_at(&shape.node, "description")) } else { own_doc },
        whole: whole_range(&shape.node),
    };
    parameter.default = normalised(&parameter).map_err(|reason| SchemaError::BadDefault { key: key.to_owned(), reason })?;
    Ok(parameter)
}

/// What a schema node says about type and bounds, with references followed and `null` split off.
struct Shape {
    kind: ParameterKind,
    /// The innermost node: of the elements for a list, of the value for an option.
    node: Value,
    minimum_length: Option<u64>,
    maximum_length: Option<u64>,
}

impl Shape {
    fn of(root: &Value, key: &str, node: &Value, depth: usize) -> Result<Self, SchemaError> {
        let unsupported = || SchemaError::Unsupported { key: key.to_owned(), found: node.to_string().chars().take(80).collect() };
        // Recursive types are the only way to nest this deep.
        if depth > 8 {
            return Err(unsupported());
        }
        if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)).ok_or_else(unsupported)?;
            return Self::of(root, key, target, depth + 1);
        }
        if let Some(options) = node.get("anyOf").and_then(Value::as_array) {
            let (nulls, values): (Vec<&Value>, Vec<&Value>) = options.iter().partition(|option| type_is(option, "null"));
            return match (nulls.len(), values.as_slice()) {
                (1, [value]) => Self::of(root, key, value, depth + 1)?.optional().ok_or_else(unsupported),
                _ => Err(unsupported()),
            };
        }
        let shape = if let Some(choices) = choices(node) {
            Self::scalar(ParameterKind::Choice(choices), node)
        } else if type_is(node, "integer") {
            Self::scalar(ParameterKind::Int, node)
        } else if type_is(node, "number") {
            let single = node.get("format").and_then(Value::as_str) == Some("float");
            Self::scalar(if single { ParameterKind::Float32 } else { ParameterKind::Float }, node)
        } else if type_is(node, "boolean") {
            Self::scalar(ParameterKind::Bool, node)
        } else if type_is(node, "string") {
            let kind = match node.get("format").and_then(Value::as_str) {
                Some("text") => ParameterKind::Text,
                Some("path") => ParameterKind::Path,
                _ => ParameterKind::Word,
            };
            Self::scalar(kind, node)
        } else if type_is(node, "array") {
            let element = Self::of(root, key, node.get("items").ok_or_else(unsupported)?, depth + 1)?;
            let nested =
                matches!(element.kind, ParameterKind::List(_) | ParameterKind::Optional(_) | ParameterKind::Text | ParameterKind::Path);
            if nested {
                return Err(unsupported());
            }
            let length = |name: &str| node.get(name).and_then(Value::as_u64);
            Self {
                kind: ParameterKind::List(Box::new(element.kind)),
                node: element.node,
                minimum_length: length("minItems"),
                maximum_length: length("maxItems"),
            }
        } else {
            return Err(unsupported());
        };
        if type_is(node, "null") { shape.optional().ok_or_else(unsupported) } else { Ok(shape) }
    }

    fn scalar(kind: ParameterKind, node: &Value) -> Self {
        Self { kind, node: node.clone(), minimum_length: None, maximum_length: None }
    }

    /// `None` for an option of an option, whose two ways of being absent no string could tell apart, and for one of text, which may be `none`.
    fn optional(self) -> Option<Self> {
        (!matches!(self.kind, ParameterKind::Optional(_) | ParameterKind::Text | ParameterKind::Path))
            .then(|| Self { kind: ParameterKind::Optional(Box::new(self.kind)), ..self })
    }

    fn unwritable_choice(&self) -> Option<&str> {
        let mut kind = &self.kind;
        let mut in_option = false;
        while let ParameterKind::List(inner) | ParameterKind::Optional(inner) = kind {
            in_option |= matches!(kind, ParameterKind::Optional(_));
            kind = inner;
        }
        let ParameterKind::Choice(choices) = kind else { return None };
        choices.iter().map(|(word, _)| word.as_str()).find(|word| !is_word(word) || (in_option && *word == "none"))
    }
}

/// The words of a unit enum and their documentation, or nothing when the node is not one.
fn choices(node: &Value) -> Option<Vec<(String, String)>> {
    if let Some(word) = node.get("const").and_then(Value::as_str) {
        return Some(vec![(word.to_owned(), one_line(&text_at(node, "description")))]);
    }
    if let Some(words) = node.get("enum").and_then(Value::as_array) {
        let words = words.iter().filter(|word| !word.is_null());
        return words.map(|word| word.as_str().map(|word| (word.to_owned(), String::new()))).collect();
    }
    let variants = node.get("oneOf")?.as_array()?;
    let nested: Option<Vec<_>> = variants.iter().map(choices).collect();
    Some(nested?.into_iter().flatten().collect())
}

fn type_is(node: &Value, name: &str) -> bool {
    match node.get("type") {
        Some(Value::String(found)) => found == name,
        Some(Value::Array(found)) => found.iter().any(|found| found == name),
        _ => false,
    }
}

/// What the integer type named by the node's `format` can hold; JSON numbers end at 64 bits, so wider types are cut there.
fn whole_range(node: &Value) -> RangeInclusive<i128> {
    match node.get("format").and_then(Value::as_str) {
        Some("int8") => i8::MIN.into()..=i8::MAX.into(),
        Some("int16") => i16::MIN.into()..=i16::MAX.into(),
        Some("int32") => i32::MIN.into()..=i32::MAX.into(),
        Some("int64" | "int") => i64::MIN.into()..=i64::MAX.into(),
        Some("uint8") => 0..=u8::MAX.into(),
        Some("uint16") => 0..=u16::MAX.into(),
        Some("uint32") => 0..=u32::MAX.into(),
        Some("uint64" | "uint" | "uint128") => 0..=u64::MAX.into(),
        _ => i64::MIN.into()..=u64::MAX.into(),
    }
}

fn number_at(node: &Value, key: &str) -> Option<Number> {
    node.get(key).and_then(Value::as_number).cloned()
}

fn text_at(node: &Value, key: &str) -> String {
    node.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

/// Doc comments are wrapped for the source file; tables and messages want one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::fixture::Everything;
    use schemars::{JsonSchema, schema_for};
    use serde_json::json;

    fn everything() -> Vec<Parameter> {
        parameters(&schema_for!(Everything), &serde_json::to_value(Everything::default()).unwrap()).unwrap()
    }

    #[test]
    fn every_field_type_is_understood() {
        let found: Vec<(String, String, String)> =
            everything().iter().map(|p| (p.name.clone(), p.kind.label(), p.default_text())).collect();
        let expected = [
            ("width", "int", "64"),
            ("seed", "int or none", "none"),
            ("offset", "int", "-3"),
            ("rate", "float", "0.001"),
            ("temperature", "float", "0.1"),
            ("bias", "bool", "true"),
            ("label", "word", ""),
            ("file", "path", ""),
            ("covariance", "choice", "full"),
            ("mode", "choice", "slow"),
            ("prior", "choice or none", "diagonal"),
            ("hidden", "list of int", "[32;16]"),
            ("scales", "list of float", "[]"),
            ("kernel", "list of int", "[3;3]"),
            ("paths", "list of choice or none", "none"),
            ("axis", "int", "1"),
            ("flip", "bool", "false"),
        ];
        assert_eq!(found, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    }

    #[test]
    fn bounds_and_docs_come_from_the_struct() {
        let all = everything();
        let by_name = |name: &str| all.iter().find(|p| p.name == name).unwrap();
        assert_eq!(by_name("width").range_text().as_deref(), Some("at least 1, at most 1000000"));
        assert_eq!(by_name("width").doc, "Width of the layer, in units, over two lines.");
        assert_eq!(by_name("rate").range_text().as_deref(), Some("greater than 0, at most 1"));
        assert_eq!(by_name("hidden").range_text().as_deref(), Some("at least 1, 1 to 4 elements"));
        assert_eq!(by_name("kernel").range_text().as_deref(), Some("at least 0, 2 elements"));
        assert_eq!(by_name("offset").range_text(), None);
        assert_eq!(by_name("seed").whole, 0..=i128::from(u64::MAX));
        let ParameterKind::Choice(choices) = &by_name("covariance").kind else { panic!("not a choice") };
        assert_eq!(choices[0], ("full".to_owned(), "A Cholesky factor per sample.".to_owned()));
        assert_eq!(choices[1].0, "diagonal");
    }

    #[test]
    fn documentation_is_split_at_the_first_blank_line() {
        let (summary, details) = documentation(&schema_for!(Everything));
        assert_eq!(summary, "Has a field of every type, for tests of the grammar.");
        assert!(details.starts_with("Details: rate in nats") && details.ends_with("mean over the batch."));
    }

    /// Serialises as given, to be paired with a schema made by hand.
    fn refused(schema: Value, defaults: Value) -> SchemaError {
        parameters(&Schema::try_from(schema).unwrap(), &defaults).unwrap_err()
    }

    #[test]
    fn what_no_string_can_express_is_refused() {
        let object = |fields: Value| json!({ "type": "object", "properties": fields });
        assert_eq!(refused(object(json!({ "name": { "type": "string" } })), json!({ "name": "a" })), SchemaError::Reserved);
        assert_eq!(
            refused(object(json!({ "a:b": { "type": "string" } })), json!({ "a:b": "a" })),
            SchemaError::NotAWord { word: "a:b".into() }
        );
        assert_eq!(refused(object(json!({ "z": { "type": "integer" } })), json!({})), SchemaError::MissingDefault { key: "z".into() });
        assert_eq!(refused(object(json!({})), json!({ "z": 1 })), SchemaError::Undeclared { key: "z".into() });
        assert_eq!(refused(json!({ "type": "string" }), json!({})), SchemaError::NotAStruct);
        assert_eq!(refused(object(json!({})), Value::Null), SchemaError::NoDefaults);
        let low = refused(object(json!({ "z": { "type": "integer", "minimum": 1 } })), json!({ "z": 0 }));
        assert!(matches!(&low, SchemaError::BadDefault { reason, .. } if reason.contains("at least 1")), "{low}");
        let cycle = json!({ "type": "object", "properties": { "z": { "$ref": "#/$defs/Z" } }, "$defs": { "Z": { "$ref": "#/$defs/Z" } } });
        assert!(matches!(refused(cycle, json!({ "z": 1 })), SchemaError::Unsupported { .. }));
    }

    #[test]
    fn nested_structs_and_enums_with_data_are_refused() {
        #[derive(JsonSchema, Serialize)]
        struct Inner {
            a: u8,
        }
        #[derive(JsonSchema, Serialize)]
        struct Nested {
            inner: Inner,
        }
        #[derive(JsonSchema, Serialize)]
        enum Data {
            A(u8),
        }
        #[derive(JsonSchema, Serialize)]
        struct WithData {
            data: Data,
        }
        let nested = Nested { inner: Inner { a: 1 } };
        let error = parameters(&schema_for!(Nested), &serde_json::to_value(nested).unwrap()).unwrap_err();
        assert!(matches!(error, SchemaError::Unsupported { key, .. } if key == "inner"));
        let data = WithData { data: Data::A(1) };
        let error = parameters(&schema_for!(WithData), &serde_json::to_value(data).unwrap()).unwrap_err();
        assert!(matches!(error, SchemaError::Unsupported { key, .. } if key == "data"));
    }
}
