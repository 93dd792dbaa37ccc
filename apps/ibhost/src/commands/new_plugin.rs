//! `ibhost new-plugin`: a crate with a working component, its test, its registration and a host of all components that links it.

use std::path::{Path, PathBuf};

use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::storage::inside;

use crate::cli::{NewPluginArgs, PluginKind};
use crate::exit::Failure;
use crate::paths::{absolute, show};
use crate::table;

/// The files beside `src/lib.rs`, which differs by kind.
const FILES: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../templates/Cargo.toml.template")),
    ("src/main.rs", include_str!("../../templates/main.rs.template")),
    ("README.md", include_str!("../../templates/README.md.template")),
];

/// Names that would make the config collide with the trait it implements.
const RESERVED: [&str; 5] = ["objective", "encoder", "decoder", "dataset", "analysis"];

/// The package of the checkout that no plug-in depends on and that its profile names.
const TESTS: &str = "ibhost-tests";

impl PluginKind {
    /// The kind, its `src/lib.rs` and the arguments of a first command, in which `NAME` stands for the component.
    fn parts(self) -> (Kind, &'static str, &'static str) {
        match self {
            Self::Objective => {
                (Kind::Objective, include_str!("../../templates/lib.rs.template"), "run --objective NAME --encoder mlp/z:2 --epochs 5")
            }
            Self::Encoder => {
                (Kind::Encoder, include_str!("../../templates/encoder.rs.template"), "run --objective vib --encoder NAME --epochs 5")
            }
            Self::Decoder => (
                Kind::Decoder,
                include_str!("../../templates/decoder.rs.template"),
                "run --objective vib --encoder mlp/z:2 --decoder NAME --epochs 5",
            ),
            Self::Dataset => (
                Kind::Dataset,
                include_str!("../../templates/dataset.rs.template"),
                "run --objective vib --encoder mlp/z:2 --dataset NAME --epochs 5",
            ),
            Self::Analysis => (Kind::Analysis, include_str!("../../templates/analysis.rs.template"), "analyze runs/... --analysis NAME"),
        }
    }
}

pub fn new_plugin(arguments: &NewPluginArgs) -> Result<u8, Failure> {
    let name = &arguments.name;
    let (kind, library, first_command) = arguments.kind.parts();
    let first_command = first_command.replace("NAME", name);
    check_name(name, kind)?;
    let home = match &arguments.ibhost {
        Some(path) if is_checkout(path) => absolute(path),
        Some(path) => {
            return Err(Failure::usage(format!("--ibhost {}: there is no ibhost checkout (no framework/Cargo.toml) there", show(path))));
        }
        None => find_checkout().ok_or_else(|| {
            Failure::usage("the plugin has to depend on an ibhost checkout, and the current folder is not inside one\n  hint: name it with --ibhost DIR")
        })?,
    };
    if is_package(name, &home) {
        return Err(taken(name));
    }
    let target = arguments.path.clone().unwrap_or_else(|| PathBuf::from(format!("ibhost-{name}")));
    inside::check_outside(&target).map_err(Failure::usage)?;
    if target.exists() {
        return Err(Failure::usage(format!("`{}` exists already\n  hint: choose another folder with --path", show(&target))));
    }
    let write = |path: &Path, text: &str| {
        let folder = path.parent().unwrap_or(&target);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(path, text))
            .map_err(|e| Failure::failed(format!("cannot write `{}`: {e}", show(path))))
    };
    for (path, template) in FILES.into_iter().chain([("src/lib.rs", library)]) {
        write(&target.join(path), &fill(template, name, kind, &first_command, &home))?;
    }
    // The versions the checkout is tested with; cargo takes out what the plug-in does not need.
    if let Ok(lock) = std::fs::read_to_string(home.join("Cargo.lock")) {
        write(&target.join("Cargo.lock"), &lock)?;
    }
    let shown = show(&target);
    table::print(&format!("wrote {shown}\ntry it:\n  cd {shown}\n  cargo test --release\n  cargo run --release -- {first_command}"))?;
    Ok(0)
}

fn check_name(name: &str, kind: Kind) -> Result<(), Failure> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 40
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !good {
        return Err(Failure::usage(format!(
            "`{}` cannot name a plugin: use up to 40 lower-case letters, digits and `_`, a letter first",
            name.chars().take(60).collect::<String>()
        )));
    }
    if RESERVED.contains(&name) {
        return Err(taken(name));
    }
    let registry = Registry::global().map_err(Failure::failed)?;
    if let Some(item) = registry.get(kind, name) {
        return Err(Failure::usage(format!("the {kind} `{name}` exists already, in crate `{}`; choose another name", item.crate_name)));
    }
    Ok(())
}

fn taken(name: &str) -> Failure {
    Failure::usage(format!("`{name}` is the name of a part of ibhost; choose another name for the plugin"))
}

/// Whether the crate would collide with one that the checkout builds.
fn is_package(name: &str, home: &Path) -> bool {
    let locked = std::fs::read_to_string(home.join("Cargo.lock")).unwrap_or_default();
    let line = format!("name = \"ibhost-{}\"", name.replace('_', "-"));
    // Cargo takes `_` and `-` for the same.
    locked.lines().any(|other| other.replace('_', "-") == line)
}

fn is_checkout(path: &Path) -> bool {
    path.join("framework/Cargo.toml").is_file() && path.join("apps/ibhost/Cargo.toml").is_file()
}

fn find_checkout() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find(|folder| is_checkout(folder)).map(Path::to_path_buf)
}

/// How the checkout's manifest says its crates are compiled; empty where it does not say.
fn profile(home: &Path) -> String {
    let manifest = std::fs::read_to_string(home.join("Cargo.toml")).unwrap_or_default();
    let lines = manifest.lines().skip_while(|line| !line.starts_with("[profile."));
    lines.filter(|line| !line.starts_with(TESTS)).collect::<Vec<_>>().join("\n")
}

fn fill(template: &str, name: &str, kind: Kind, first_command: &str, home: &Path) -> String {
    let mut letters = name.split('_').map(|word| {
        let mut chars = word.chars();
        chars.next().map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + chars.as_str())
    });
    let type_name: String = letters.by_ref().collect();
    template
        .replace("{{profile}}", &profile(home))
        .replace("{{name}}", name)
        .replace("{{kind}}", kind.singular())
        .replace("{{try}}", first_command)
        .replace("{{Type}}", &type_name)
        .replace("{{crate}}", &format!("ibhost_{name}"))
        .replace("{{home}}", &quotable(&show(home).replace('\\', "/")))
}

/// `text` as it stands between the quotes of a TOML string, whose escapes are those of JSON.
fn quotable(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn templates_leave_no_gap() {
        let filled = |template: &str| fill(template, "my_bottleneck", Kind::Encoder, "run", Path::new("/some/where"));
        let libraries = PluginKind::value_variants().iter().map(|kind| kind.parts().1);
        for template in FILES.into_iter().map(|(_, template)| template).chain(libraries) {
            let text = filled(template);
            assert!(!text.contains("{{") && !text.contains("}}\""), "{text}");
        }
        for (name, expected) in [("my_bottleneck", "MyBottleneck"), ("a_", "A"), ("a__b2", "AB2"), ("x_1_y", "X1Y")] {
            assert_eq!(fill("{{Type}}", name, Kind::Encoder, "", Path::new("")), expected);
        }
        assert_eq!(fill("{{home}}", "x", Kind::Encoder, "", Path::new("/a \"b\"/ü")), "/a \\\"b\\\"/ü");
    }

    #[test]
    fn plug_ins_are_compiled_as_the_checkout_is() {
        let text = profile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        assert!(text.starts_with("[profile.release]") && text.contains("[profile.release.package]") && !text.contains(TESTS), "{text}");
        assert_eq!(profile(Path::new("/nowhere")), "");
    }

    #[test]
    fn names_of_packages_of_the_checkout_are_taken() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for name in ["analyses", "framework", "kernels", "tests", "vdb"] {
            assert!(is_package(name, &home), "{name}");
        }
        assert!(!is_package("outside", &home) && !is_package("kern", &home));
    }
}
