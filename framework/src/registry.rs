//! The registry: which components of which kind this program has, collected from the plugin crates that are linked in.
//!
//! A plugin's config struct registers itself with [`register!`](crate::register); the host must mention the plugin crate (`use plugin as _;`), or the linker
//! leaves it out. The index is sorted by kind and name, because collection order is unspecified, and refuses two components with one name.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use once_cell::sync::Lazy;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::component::grammar::is_word;
use crate::component::schema::{documentation, parameters};
use crate::component::suggest::{alternatives, did_you_mean, nearest};
use crate::component::{Component, ComponentError, Parameter, SchemaError};

use crate::capability::CapabilityInfo;
#[doc(hidden)]
pub use inventory;

/// The kinds of component. Names are unique within a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Combines networks into losses and phases.
    Objective,
    /// Maps inputs to posteriors.
    Encoder,
    /// Maps latent codes to likelihoods.
    Decoder,
    /// Provides samples.
    Dataset,
    /// Reads a finished run.
    Analysis,
    /// Shows many finished runs together.
    Comparison,
    /// Orders the phases of an objective.
    Strategy,
    /// Updates parameters from gradients.
    Optimiser,
    /// Varies a rate or weight over the steps.
    Schedule,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 9] = [
        Self::Objective,
        Self::Encoder,
        Self::Decoder,
        Self::Dataset,
        Self::Analysis,
        Self::Comparison,
        Self::Strategy,
        Self::Optimiser,
        Self::Schedule,
    ];

    /// "objective".
    #[must_use]
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Objective => "objective",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Dataset => "dataset",
            Self::Analysis => "analysis",
            Self::Comparison => "comparison",
            Self::Strategy => "strategy",
            Self::Optimiser => "optimiser",
            Self::Schedule => "schedule",
        }
    }

    /// "objectives".
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Objective => "objectives",
            Self::Encoder => "encoders",
            Self::Decoder => "decoders",
            Self::Dataset => "datasets",
            Self::Analysis => "analyses",
            Self::Comparison => "comparisons",
            Self::Strategy => "strategies",
            Self::Optimiser => "optimisers",
            Self::Schedule => "schedules",
        }
    }

    /// "an objective".
    #[must_use]
    pub fn with_article(self) -> String {
        let article = if self.singular().starts_with(['a', 'e', 'o']) { "an" } else { "a" };
        format!("{article} {}", self.singular())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.singular())
    }
}

/// A word that names no kind of component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of component `{word}`; {help}")]
pub struct UnknownKind {
    /// The word.
    pub word: String,
    /// What to write instead.
    pub help: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Accepts singular and plural.
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| word == kind.singular() || word == kind.plural()).ok_or_else(|| {
            let names = Self::ALL.map(Self::singular);
            let help = did_you_mean(&nearest(word, names)).unwrap_or_else(|| format!("the kinds are {}", alternatives(&names)));
            UnknownKind { word: word.chars().take(64).collect(), help }
        })
    }
}

/// What a plugin submits for one component, normally through [`register!`](crate::register).
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The kind.
    pub kind: Kind,
    /// The name that configurations record, a word of the component grammar; it never changes.
    pub recorded: fn() -> &'static str,
    /// The name that is shown, where it is not the recorded one.
    pub shown: Option<&'static str>,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// Where it was published.
    pub paper: &'static str,
    /// A component string that works.
    pub example: &'static str,
    /// The crate that registers it.
    pub crate_name: &'static str,
    /// The version of that crate.
    pub crate_version: &'static str,
    /// The module that registers it.
    pub module: &'static str,
    /// Schema of the config struct; its description is the component's documentation.
    pub schema: fn() -> Schema,
    /// The config's default, serialised.
    pub defaults: fn() -> Value,
    /// What its finished model can do.
    pub offers: &'static [&'static CapabilityInfo],
    /// What it needs a finished model to do.
    pub needs: &'static [&'static CapabilityInfo],
    /// Whether a run that names none of this kind takes this one.
    pub is_default: bool,
}

inventory::collect!(Entry);

/// A component that exists but needs a cargo feature this program was built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbuilt {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: &'static str,
    /// The feature of the host that builds it.
    pub feature: &'static str,
}

inventory::collect!(Unbuilt);

/// A registered component, ready to be listed and described.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: &'static str,
    /// The name in configurations: the component's first one, so that a renamed component leaves old ones and the hashes of sweeps as they were.
    #[serde(skip)]
    pub recorded: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// One sentence.
    pub summary: String,
    /// Formula, units and reductions.
    pub details: String,
    /// Where it was published.
    pub paper: &'static str,
    /// A component string that works.
    pub example: &'static str,
    /// The crate that registers it.
    pub crate_name: &'static str,
    /// The version of that crate.
    pub crate_version: &'static str,
    /// The module that registers it.
    pub module: &'static str,
    /// Its parameters in the order of the config's fields.
    pub parameters: Vec<Parameter>,
    /// What its finished model can do, also what needs no word of its own.
    pub offers: Vec<&'static CapabilityInfo>,
    /// What it needs a finished model to do.
    pub needs: &'static [&'static CapabilityInfo],
    /// Whether a run that names none of this kind takes this one.
    #[serde(skip)]
    pub is_default: bool,
}

impl Item {
    fn new(entry: &Entry) -> Result<Self, RegistryError> {
        let recorded = (entry.recorded)();
        let name = entry.shown.unwrap_or(recorded);
        if let Some(word) = std::iter::once(name).chain(entry.aliases.iter().copied()).find(|word| !is_word(word)) {
            let (kind, crate_name, module) = (entry.kind, entry.crate_name, entry.module);
            return Err(RegistryError::Name { kind, name: word.to_owned(), crate_name, module });
        }
        let schema = (entry.schema)();
        let parameters = parameters(&schema, &(entry.defaults)()).map_err(|reason| RegistryError::Config {
            kind: entry.kind,
            name,
            crate_name: entry.crate_name,
            module: entry.module,
            reason,
        })?;
        let (summary, details) = documentation(&schema);
        Ok(Self {
            kind: entry.kind,
            name,
            recorded,
            aliases: entry.aliases,
            summary,
            details,
            paper: entry.paper,
            example: entry.example,
            crate_name: entry.crate_name,
            crate_version: entry.crate_version,
            module: entry.module,
            parameters,
            offers: CapabilityInfo::with_followers(entry.offers),
            needs: entry.needs,
            is_default: entry.is_default,
        })
    }

    /// The name, the aliases and the name in configurations.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let unlisted = self.recorded != self.name && !self.aliases.contains(&self.recorded);
        std::iter::once(self.name).chain(self.aliases.iter().copied()).chain(unlisted.then_some(self.recorded))
    }

    /// The parameter with this key.
    #[must_use]
    pub fn parameter(&self, key: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == key)
    }

    /// Whether this component's finished model can do all that `analysis` needs.
    #[must_use]
    pub fn fits(&self, analysis: &Self) -> bool {
        analysis.needs.iter().all(|need| self.offers.contains(need))
    }
}

/// Why the registry cannot be built; always a mistake in a plugin or in the choice of plugins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two components of one kind answer to the same name.
    #[error(
        "{kind} `{name}` is registered twice: by crate `{first_crate}` (module `{first_module}`) and by crate `{second_crate}` \
         (module `{second_module}`); rename one of them or link only one of the crates"
    )]
    Duplicate {
        /// The kind.
        kind: Kind,
        /// The name or alias.
        name: &'static str,
        /// The crate that comes first in alphabetical order.
        first_crate: &'static str,
        /// The registering module there.
        first_module: &'static str,
        /// The other crate.
        second_crate: &'static str,
        /// The registering module there.
        second_module: &'static str,
    },
    /// A name or alias is not a word of the component grammar.
    #[error(
        "{kind} `{name}` of crate `{crate_name}` (module `{module}`) has an invalid name or alias; use letters, digits and `_` `.` `+` `-`"
    )]
    Name {
        /// The kind.
        kind: Kind,
        /// The name or alias.
        name: String,
        /// The registering crate.
        crate_name: &'static str,
        /// The registering module.
        module: &'static str,
    },
    /// A config cannot be written as a component string.
    #[error("{kind} `{name}` of crate `{crate_name}` (module `{module}`) cannot be registered: {reason}")]
    Config {
        /// The kind.
        kind: Kind,
        /// The name.
        name: &'static str,
        /// The registering crate.
        crate_name: &'static str,
        /// The registering module.
        module: &'static str,
        /// What is wrong with the config.
        reason: SchemaError,
    },
}

/// Every component of this program, sorted by kind and name.
#[derive(Clone, Debug)]
pub struct Registry {
    items: Vec<Item>,
    index: HashMap<(Kind, &'static str), usize>,
    unbuilt: Vec<Unbuilt>,
}

static GLOBAL: Lazy<Result<Registry, RegistryError>> = Lazy::new(|| {
    let mut registry = build_index(inventory::iter::<Entry>())?;
    registry.unbuilt = inventory::iter::<Unbuilt>().copied().collect();
    registry.unbuilt.sort_unstable_by_key(|unbuilt| (unbuilt.kind, unbuilt.name));
    Ok(registry)
});

impl Registry {
    /// The registry of everything linked into this program, built at the first call.
    ///
    /// # Errors
    /// Two components share a name, or one has a name or config that component strings cannot express.
    pub fn global() -> Result<&'static Self, RegistryError> {
        GLOBAL.as_ref().map_err(Clone::clone)
    }

    /// The component of this kind with this name or alias.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Item> {
        self.index.get(&(kind, name)).map(|&at| &self.items[at])
    }

    /// The components of a kind, by name.
    #[must_use]
    pub fn items(&self, kind: Kind) -> &[Item] {
        let start = self.items.partition_point(|item| item.kind < kind);
        let end = self.items.partition_point(|item| item.kind <= kind);
        &self.items[start..end]
    }

    /// The component that a run takes which names none of this kind; nothing where the plugins in use say none, or more than one.
    #[must_use]
    pub fn default_of(&self, kind: Kind) -> Option<&Item> {
        let mut found = self.items(kind).iter().filter(|item| item.is_default);
        found.next().filter(|_| found.next().is_none())
    }

    /// All components, by kind and name.
    #[must_use]
    pub fn all(&self) -> &[Item] {
        &self.items
    }

    /// The kinds that have a component with this name or alias.
    #[must_use]
    pub fn kinds_of(&self, name: &str) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|&kind| self.get(kind, name).is_some()).collect()
    }

    /// The component of this kind and name that this program was built without.
    #[must_use]
    pub fn unbuilt(&self, kind: Kind, name: &str) -> Option<&Unbuilt> {
        self.unbuilt.iter().find(|unbuilt| unbuilt.kind == kind && unbuilt.name == name)
    }

    /// Adds components that this program was built without.
    #[must_use]
    pub fn with_unbuilt(mut self, unbuilt: impl IntoIterator<Item = Unbuilt>) -> Self {
        self.unbuilt.extend(unbuilt);
        self
    }

    /// Parses the example of every component; for tests of plugins.
    ///
    /// # Errors
    /// The first example that is not a valid string of its own component.
    pub fn check_examples(&self) -> Result<(), ComponentError> {
        for item in &self.items {
            let component: Component = self.parse(item.kind, item.example)?;
            if component.name != item.name {
                let message = format!("the example of {} `{}` names another component", item.kind, item.name);
                return Err(ComponentError::whole(item.example, message, None));
            }
        }
        Ok(())
    }
}

/// Builds a registry from entries in any order.
///
/// # Errors
/// As [`Registry::global`].
pub fn build_index<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<Registry, RegistryError> {
    let mut items = entries.map(Item::new).collect::<Result<Vec<Item>, RegistryError>>()?;
    // Crate and module make the order, and with it the message about duplicates, the same in every build.
    items.sort_by_key(|item| (item.kind, item.name, item.crate_name, item.module));
    let mut index: HashMap<(Kind, &'static str), usize> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        for name in item.names() {
            if let Some(&other) = index.get(&(item.kind, name)) {
                let mut pair = [&items[other], item];
                pair.sort_by_key(|item| (item.crate_name, item.module));
                return Err(RegistryError::Duplicate {
                    kind: item.kind,
                    name,
                    first_crate: pair[0].crate_name,
                    first_module: pair[0].module,
                    second_crate: pair[1].crate_name,
                    second_module: pair[1].module,
                });
            }
            index.insert((item.kind, name), at);
        }
    }
    Ok(Registry { items, index, unbuilt: Vec::new() })
}

/// The schema of a config; what [`register!`](crate::register) puts into [`Entry::schema`].
#[must_use]
pub fn schema_of<C: JsonSchema>() -> Schema {
    schemars::schema_for!(C)
}

/// The serialised default of a config; what [`register!`](crate::register) puts into [`Entry::defaults`]. Null, which the registry refuses, if it does not serialise.
#[must_use]
pub fn defaults_of<C: Default + Serialize>() -> Value {
    serde_json::to_value(C::default()).unwrap_or_default()
}

/// Registers a config struct as a component. Its name is the one given to `#[typetag::serde(name = "...")]`, its documentation the struct's.
///
/// `register! { Encoder: NetConfig as EncoderConfig, aliases: ["network"], paper: "Who 2026, arXiv:...", example: "net/width:256" }`, in
/// this order; `aliases` may be left out. An objective's ends in `model: Net, offers: [Classify, Encode]`, the type of its models and all that
/// they can do, which does not compile unless they can (see [`capability`](crate::capability)); an analysis's in `needs: [Classify]`. A component that is renamed keeps its first name in `typetag` and among its aliases, and gives the
/// new one as `name: "..."` before `aliases`. `default: true` at the end makes it what a run takes that names none of its kind.
#[macro_export]
macro_rules! register {
    (
        $kind:ident: $config:ty as $config_trait:path
        $(, name: $name:literal)?
        $(, aliases: [$($alias:literal),* $(,)?])?,
        paper: $paper:expr,
        example: $example:expr
        $(, model: $model:ty, offers: [$($offer:path),* $(,)?])?
        $(, needs: [$($need:path),* $(,)?])?
        $(, default: $default:literal)?
        $(,)?
    ) => {
        $($crate::offer! { $model: [$($offer),*] })?
        const _: () = {
            #[allow(unused_imports, clippy::wildcard_imports)]
            use $crate::capability::builtin::*;
            $crate::registry::inventory::submit! {
              $crate::registry::Entry {
                kind: $crate::registry::Kind::$kind,
                recorded: || <$config as $config_trait>::typetag_name(&<$config as ::core::default::Default>::default()),
                shown: [$(::core::option::Option::Some($name),)? ::core::option::Option::None][0],
                aliases: &[$($($alias),*)?],
                paper: $paper,
                example: $example,
                crate_name: ::core::env!("CARGO_PKG_NAME"),
                crate_version: ::core::env!("CARGO_PKG_VERSION"),
                module: ::core::module_path!(),
                schema: $crate::registry::schema_of::<$config>,
                defaults: $crate::registry::defaults_of::<$config>,
                is_default: [$($default,)? false][0],
                offers: &[$($(&<$offer as $crate::capability::Capability>::INFO),*)?],
                needs: &[$($(&<$need as $crate::capability::Capability>::INFO),*)?],
              }
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Capability, Classify, Encode, InputGradient, Sample};
    use crate::component::fixture::{entry, registry};

    #[test]
    fn kinds_print_and_parse() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(kind.plural().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.singular());
        }
        assert_eq!(Kind::Analysis.with_article(), "an analysis");
        assert_eq!(Kind::Dataset.with_article(), "a dataset");
        let error = "optimizer".parse::<Kind>().unwrap_err();
        assert_eq!(error.to_string(), "unknown kind of component `optimizer`; did you mean `optimiser`?");
        assert!("x".parse::<Kind>().unwrap_err().help.contains("the kinds are `objective`"));
    }

    #[test]
    fn items_are_sorted_by_kind_and_name_whatever_the_order() {
        let names: Vec<(Kind, &str)> = registry().all().iter().map(|item| (item.kind, item.name)).collect();
        assert_eq!(names, [(Kind::Objective, "mim"), (Kind::Encoder, "mlp"), (Kind::Encoder, "resnet20"), (Kind::Analysis, "fgsm")]);
        assert_eq!(registry().items(Kind::Encoder).len(), 2);
        assert!(registry().items(Kind::Schedule).is_empty());
        assert_eq!(registry().get(Kind::Encoder, "perceptron").map(|item| item.name), Some("mlp"));
        assert!(registry().get(Kind::Encoder, "mim").is_none());
    }

    #[test]
    fn duplicates_are_refused_naming_both_crates_in_a_fixed_order() {
        let a = entry(Kind::Encoder, || "mlp", &[], "crate-a");
        let b = entry(Kind::Encoder, || "mlp", &[], "crate-b");
        for entries in [[a, b], [b, a]] {
            let message = build_index(entries.iter()).unwrap_err().to_string();
            assert!(
                message.starts_with("encoder `mlp` is registered twice: by crate `crate-a` (module `a::module`) and by crate `crate-b`"),
                "{message}"
            );
        }
        let other_kind = entry(Kind::Decoder, || "mlp", &[], "crate-b");
        assert!(build_index([a, other_kind].iter()).is_ok());
    }

    #[test]
    fn aliases_count_as_names() {
        let a = entry(Kind::Encoder, || "mlp", &["dense"], "crate-a");
        let alias_of_two = entry(Kind::Encoder, || "net", &["dense"], "crate-b");
        let named_like_alias = entry(Kind::Encoder, || "dense", &[], "crate-c");
        for other in [alias_of_two, named_like_alias] {
            let error = build_index([a, other].iter()).unwrap_err();
            assert!(matches!(error, RegistryError::Duplicate { name: "dense", first_crate: "crate-a", .. }), "{error}");
        }
        let bad = entry(Kind::Encoder, || "mlp", &["a b"], "crate-a");
        assert!(matches!(build_index([bad].iter()).unwrap_err(), RegistryError::Name { name, .. } if name == "a b"));
    }

    #[test]
    fn components_of_features_not_built_are_named_with_the_feature() {
        let registry = registry().with_unbuilt([Unbuilt { kind: Kind::Encoder, name: "traced", feature: "tch" }]);
        let error = registry.parse(Kind::Encoder, "traced/z:2").unwrap_err();
        assert!(error.message.contains("built without the feature `tch`"), "{error}");
        assert_eq!(error.help.as_deref(), Some("build with `--features tch`"));
    }

    #[test]
    fn analyses_fit_objectives_that_offer_what_they_need() {
        let offers = |offers| Entry { offers, ..entry(Kind::Objective, || "o", &[], "c") };
        let needs = |needs| Entry { needs, ..entry(Kind::Analysis, || "a", &[], "c") };
        let fits = |objective: Entry, analysis: Entry| {
            let registry = build_index([objective, analysis].iter()).unwrap();
            registry.items(Kind::Objective)[0].fits(&registry.items(Kind::Analysis)[0])
        };
        assert!(fits(offers(&[&Classify::INFO, &Encode::INFO]), needs(&[&Encode::INFO])));
        assert!(!fits(offers(&[&Classify::INFO]), needs(&[&Classify::INFO, &Sample::INFO])));
        assert!(fits(offers(&[]), needs(&[])));
        assert!(fits(offers(&[&Classify::INFO]), needs(&[&Classify::INFO, &InputGradient::INFO])));
    }

    #[test]
    fn registering_reaches_the_global_registry_quickly() {
        let started = std::time::Instant::now();
        let registry = Registry::global().unwrap();
        assert!(started.elapsed() < std::time::Duration::from_millis(50));
        let item = registry.get(Kind::Encoder, "test_all").unwrap();
        assert_eq!((item.name, item.crate_name), ("test_everything", env!("CARGO_PKG_NAME")));
        assert!(item.module.ends_with("component::fixture"));
        assert_eq!(item.needs, [&Encode::INFO]);
        registry.check_examples().unwrap();
        let json = serde_json::to_value(item).unwrap();
        assert_eq!(json["parameters"][0]["minimum"], 1);
    }
}
