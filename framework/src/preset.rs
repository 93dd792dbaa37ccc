//! Presets: named partial run configurations that plugins ship for the settings of their papers.

use crate::component::suggest::nearest;

/// A named partial run configuration.
#[derive(Debug)]
pub struct Preset {
    /// Name for `--preset`.
    pub name: &'static str,
    /// One sentence on what it reproduces.
    pub summary: &'static str,
    /// Keys of `config.yml` it sets.
    pub yaml: &'static str,
}

inventory::collect!(Preset);

/// Submits presets by name and summary; the settings of `my-paper` are the calling crate's file `presets/my-paper.yml`, beside the folder of
/// the calling source file.
#[macro_export]
macro_rules! presets {
    ($($name:literal: $summary:literal),+ $(,)?) => {
        $($crate::registry::inventory::submit! {
            $crate::preset::Preset {
                name: $name,
                summary: $summary,
                yaml: ::core::include_str!(::core::concat!("../presets/", $name, ".yml")),
            }
        })+
    };
}

/// A preset that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown preset `{name}`\n  hint: {hint}")]
pub struct UnknownPreset {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub hint: String,
}

/// Every preset, by name.
pub fn all() -> Vec<&'static Preset> {
    let mut presets: Vec<_> = inventory::iter::<Preset>.into_iter().collect();
    presets.sort_by_key(|p| p.name);
    presets
}

/// The preset called `name`.
///
/// # Errors
/// [`UnknownPreset`] with the nearest names.
pub fn find(name: &str) -> Result<&'static Preset, UnknownPreset> {
    let presets = all();
    presets.iter().find(|p| p.name == name).copied().ok_or_else(|| {
        let names = presets.iter().map(|p| p.name);
        let near = nearest(name, names.clone());
        let hint = if near.is_empty() {
            format!("presets are {}", names.collect::<Vec<_>>().join(", "))
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        UnknownPreset { name: name.chars().take(64).collect(), hint }
    })
}
