//! A component whose config has a field of every type, for the tests of strings, schemas and registry.

use std::ops::RangeInclusive;

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Configured;
use crate::capability::{Capability, Encode};
use crate::registry::{Entry, Kind, Registry, build_index, defaults_of, schema_of};

/// Texts of characters of `alphabet`.
pub(crate) fn text_of(alphabet: &str, length: RangeInclusive<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(alphabet.chars().collect::<Vec<char>>()), length).prop_map(String::from_iter)
}

/// Texts of any characters.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..=32).prop_map(String::from_iter)
}

#[typetag::serde(tag = "name")]
pub(crate) trait FixtureConfig: Configured + Send + Sync {
    fn width(&self) -> usize;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Covariance {
    /// A Cholesky factor per sample.
    Full,
    /// A variance
    /// per dimension.
    Diagonal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Slow,
    VeryFast,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct View {
    /// The axis.
    pub axis: u8,
    pub flip: bool,
}

impl Default for View {
    fn default() -> Self {
        Self { axis: 1, flip: false }
    }
}

/// Has a field of every type,
/// for tests of the grammar.
///
/// Details: rate in nats,
/// mean over the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Everything {
    /// Width of the layer, in units,
    /// over two lines.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub width: usize,
    pub seed: Option<u64>,
    pub offset: i32,
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub rate: f64,
    pub temperature: f32,
    pub bias: bool,
    pub label: String,
    #[schemars(extend("format" = "path"))]
    pub file: String,
    /// Covariance of the posterior.
    pub covariance: Covariance,
    pub mode: Mode,
    pub prior: Option<Covariance>,
    #[schemars(length(min = 1, max = 4), inner(range(min = 1)))]
    pub hidden: Vec<usize>,
    pub scales: Vec<f64>,
    pub kernel: [usize; 2],
    pub paths: Option<Vec<Mode>>,
    #[serde(flatten)]
    pub view: View,
}

impl Default for Everything {
    fn default() -> Self {
        Self {
            width: 64,
            seed: None,
            offset: -3,
            rate: 0.001,
            temperature: 0.1,
            bias: true,
            label: String::new(),
            file: String::new(),
            covariance: Covariance::Full,
            mode: Mode::Slow,
            prior: Some(Covariance::Diagonal),
            hidden: vec![32, 16],
            scales: Vec::new(),
            kernel: [3, 3],
            paths: None,
            view: View::default(),
        }
    }
}

#[typetag::serde(name = "test_everything")]
impl FixtureConfig for Everything {
    fn width(&self) -> usize {
        self.width
    }
}

crate::register! {
    Encoder: Everything as FixtureConfig,
    aliases: ["test_all"],
    paper: "none",
    example: "test_everything/width:2|covariance:diagonal",
    needs: [Encode],
}

/// An entry under any name, kind and crate, with the config [`Everything`].
pub(crate) const fn entry(kind: Kind, name: fn() -> &'static str, aliases: &'static [&'static str], crate_name: &'static str) -> Entry {
    Entry {
        kind,
        recorded: name,
        shown: None,
        aliases,
        paper: "none",
        example: "test_everything",
        crate_name,
        crate_version: "1.0.0",
        module: "a::module",
        schema: schema_of::<Everything>,
        defaults: defaults_of::<Everything>,
        offers: &[&Encode::INFO],
        needs: &[],
        is_default: false,
    }
}

/// A registry with two encoders, an objective and an analysis.
pub(crate) fn registry() -> Registry {
    let entries = [
        entry(Kind::Objective, || "mim", &[], "ibhost-mim"),
        entry(Kind::Encoder, || "resnet20", &[], "ibhost-nets"),
        entry(Kind::Encoder, || "mlp", &["perceptron"], "ibhost-nets"),
        entry(Kind::Analysis, || "fgsm", &[], "ibhost-analyses"),
    ];
    build_index(entries.iter()).unwrap()
}
