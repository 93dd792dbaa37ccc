//! What finished models can do: words of the registry, each with the trait that a model implements for it. Any crate may add one.

use std::any::{Any, TypeId};
use std::fmt;

use serde::{Serialize, Serializer};

use crate::objective::Objective;

pub use builtin::*;

/// Something that a finished model can do, such as [`Classify`]; declared with [`capability!`](crate::capability!).
///
/// An objective offers it where it is [registered](crate::register!), which does not compile unless its model implements
/// [`Capability::Model`]; an analysis asks for it with [`AnalysisContext::require`](crate::analysis::AnalysisContext::require).
pub trait Capability: Sized + 'static {
    /// The trait a model implements, e.g. `dyn Classifier`.
    type Model: ?Sized + 'static;
    /// The capability that objectives offer: this one, or the one that it follows from.
    type Offered: Capability<Model = Self::Model>;
    /// Its words.
    const INFO: CapabilityInfo;
}

impl dyn Objective {
    /// The model as one that can `C`, where it [offers](crate::offer!) that.
    pub fn capability<C: Capability>(&self) -> Option<&C::Model> {
        let casts = inventory::iter::<Offers>().flat_map(|offers| offers.0);
        casts.filter_map(|cast| cast.downcast_ref::<Cast<C::Offered>>()).find_map(|cast| cast.0(self))
    }
}

/// The words of a capability.
#[derive(Clone, Copy, Debug)]
pub struct CapabilityInfo {
    /// The marker, as `offers` and `needs` write it: `LogDensity`.
    pub name: &'static str,
    /// The word of lists: `log-density`.
    pub word: &'static str,
    /// What follows "a model that can": "give the probabilities of classes".
    pub deed: &'static str,
    /// The marker that objectives offer for it: its own, or that of the capability it follows from.
    pub offered: &'static str,
    /// The trait that a model implements: `dyn Classifier`.
    pub model: &'static str,
    /// The crate that declares it.
    pub crate_name: &'static str,
    /// The line of its declaration.
    pub line: u32,
    /// The type of the marker.
    pub id: fn() -> TypeId,
    /// The type of the marker that objectives offer for it.
    pub offered_id: fn() -> TypeId,
    /// Whether a model can.
    pub held_by: fn(&dyn Objective) -> bool,
}

impl CapabilityInfo {
    /// Those of this framework before others, in the order of their declaration.
    fn order(&self) -> (bool, &'static str, u32) {
        (self.crate_name != env!("CARGO_PKG_NAME"), self.crate_name, self.line)
    }

    /// The capabilities `offered` with those that follow from them, in the order of their declaration.
    #[must_use]
    pub fn with_followers(offered: &[&'static Self]) -> Vec<&'static Self> {
        let follows = |known: &&Known| offered.iter().any(|offer| (known.0.offered_id)() == (offer.id)());
        let mut all: Vec<&'static Self> = offered.to_vec();
        all.extend(inventory::iter::<Known>().filter(follows).map(|known| known.0));
        all.sort_by_key(|capability| capability.order());
        all.dedup();
        all
    }
}

impl PartialEq for CapabilityInfo {
    fn eq(&self, other: &Self) -> bool {
        (self.id)() == (other.id)()
    }
}

impl Eq for CapabilityInfo {}

impl fmt::Display for CapabilityInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word)
    }
}

impl Serialize for CapabilityInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word)
    }
}

/// A capability of this program; submitted by [`capability!`](crate::capability!).
#[derive(Clone, Copy, Debug)]
pub struct Known(pub &'static CapabilityInfo);

inventory::collect!(Known);

/// From a model of one type to what it does for `C`; nothing for models of other types.
pub struct Cast<C: Capability>(pub for<'a> fn(&'a dyn Any) -> Option<&'a C::Model>);

/// The [`Cast`]s of one type of model; submitted by [`offer!`](crate::offer!).
pub struct Offers(pub &'static [&'static (dyn Any + Send + Sync)]);

inventory::collect!(Offers);

/// Declares a capability: the marker, the trait that a model implements, its word in lists, and what follows "a model that can".
///
/// `capability! { /// Class probabilities. pub Classify: dyn Classifier, "classify", "give the probabilities of classes" }`; with
/// `pub InputGradient from Classify, ...` it needs no offer of its own, because every model that offers the other has it too.
#[macro_export]
macro_rules! capability {
    ($(#[$doc:meta])* $vis:vis $name:ident: $model:ty, $word:literal, $deed:literal $(,)?) => {
        $crate::capability! { @declare $(#[$doc])* $vis $name, $model, stringify!($model), $name, $word, $deed }
    };
    ($(#[$doc:meta])* $vis:vis $name:ident from $offered:ident, $word:literal, $deed:literal $(,)?) => {
        $crate::capability! {
            @declare $(#[$doc])* $vis $name, <$offered as $crate::capability::Capability>::Model,
            <$offered as $crate::capability::Capability>::INFO.model, $offered, $word, $deed
        }
    };
    (@declare $(#[$doc:meta])* $vis:vis $name:ident, $model:ty, $shown:expr, $offered:ident, $word:literal, $deed:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name;

        impl $crate::capability::Capability for $name {
            type Model = $model;
            type Offered = $offered;
            const INFO: $crate::capability::CapabilityInfo = $crate::capability::CapabilityInfo {
                name: stringify!($name),
                word: $word,
                deed: $deed,
                offered: stringify!($offered),
                model: $shown,
                crate_name: env!("CARGO_PKG_NAME"),
                line: line!(),
                id: ::std::any::TypeId::of::<$name>,
                offered_id: ::std::any::TypeId::of::<$offered>,
                held_by: |model| model.capability::<$name>().is_some(),
            };
        }

        $crate::registry::inventory::submit! {
            $crate::capability::Known(&<$name as $crate::capability::Capability>::INFO)
        }
    };
}

/// Says what models of a type can do; the `offers` of [`register!`](crate::register!) say it too. It does not compile unless the model
/// implements the trait of every capability. Those of this framework need no path.
///
/// ```
/// pub trait Singer {
///     fn song(&self) -> &'static str;
/// }
/// ibhost_framework::capability! {
///     /// Songs.
///     pub Sing: dyn Singer, "sing", "sing"
/// }
/// struct Model;
/// impl Singer for Model {
///     fn song(&self) -> &'static str {
///         "la"
///     }
/// }
/// ibhost_framework::offer! { Model: [Sing] }
/// ```
///
/// The same without the implementation:
///
/// ```compile_fail
/// pub trait Singer {
///     fn song(&self) -> &'static str;
/// }
/// ibhost_framework::capability! {
///     /// Songs.
///     pub Sing: dyn Singer, "sing", "sing"
/// }
/// struct Model;
/// ibhost_framework::offer! { Model: [Sing] }
/// ```
#[macro_export]
macro_rules! offer {
    ($model:ty: [$($capability:path),* $(,)?]) => {
        const _: () = {
            #[allow(unused_imports, clippy::wildcard_imports)]
            use $crate::capability::builtin::*;
            $crate::registry::inventory::submit! {
                $crate::capability::Offers(&[$(
                    &$crate::capability::Cast::<$capability>(|model| {
                        model.downcast_ref::<$model>().map(|model| model as &<$capability as $crate::capability::Capability>::Model)
                    })
                ),*])
            }
        };
    };
}

/// The capabilities of this framework.
pub mod builtin {
    use crate::latent_model::LatentModel;
    use crate::objective::{Classifier, PosteriorModel, StyleModel};

    crate::capability! {
        /// Class probabilities of an input.
        pub Classify: dyn Classifier, "classify", "give the probabilities of classes"
    }
    crate::capability! {
        /// The posterior of an input.
        pub Encode: dyn PosteriorModel, "encode", "encode inputs"
    }
    crate::capability! {
        /// An input from its code.
        pub Reconstruct: dyn LatentModel, "reconstruct", "reconstruct inputs from their codes"
    }
    crate::capability! {
        /// New inputs.
        pub Sample: dyn LatentModel, "sample", "draw new inputs"
    }
    crate::capability! {
        /// The log density of an input.
        pub LogDensity: dyn LatentModel, "log-density", "give the log density of inputs"
    }
    crate::capability! {
        /// The gradient of class scores with respect to the input, which every classifier has: its tensors record gradients on a device that does.
        pub InputGradient from Classify, "input-gradient", "give the gradient of class scores with respect to inputs"
    }
    crate::capability! {
        /// An input from the style of one and the class of another.
        pub Restyle: dyn StyleModel, "restyle", "rebuild inputs from the style of one and the class of another"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_in_the_order_of_their_declaration_with_those_that_follow() {
        let words = |offered: &[&'static CapabilityInfo]| {
            CapabilityInfo::with_followers(offered).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(words(&[&Encode::INFO, &Classify::INFO]), "classify, encode, input-gradient");
        assert_eq!(words(&[&Restyle::INFO, &LogDensity::INFO, &Restyle::INFO]), "log-density, restyle");
        assert_eq!(words(&[&Classify::INFO, &InputGradient::INFO]), "classify, input-gradient");
        assert_eq!(serde_json::to_value(LogDensity::INFO).unwrap(), "log-density");
        assert_eq!((InputGradient::INFO.offered, InputGradient::INFO.model), ("Classify", "dyn Classifier"));
    }
}
