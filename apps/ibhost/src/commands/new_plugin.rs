//! `ibhost new-plugin`: a crate with a working objective, its test, its registration and a small host that links it.

use std::path::{Path, PathBuf};

use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::storage::inside;

use crate::cli::NewPluginArgs;
use crate::exit::Failure;
use crate::paths::{absolute, show};
use crate::table;

const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../../templates/Cargo.toml.template")),
    ("src/lib.rs", include_str!("../../templates/lib.rs.template")),
    ("src/main.rs", include_str!("../../templates/main.rs.template")),
    ("README.md", include_str!("../../templates/README.md.template")),
];

/// The name that would make the config collide with the trait it implements.
const RESERVED: &str = "objective";

pub fn new_plugin(arguments: &NewPluginArgs) -> Result<u8, Failure> {
    let name = &arguments.name;
    check_name(name)?;
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
    for (path, template) in FILES {
        write(&target.join(path), &fill(template, name, &home))?;
    }
    table::print(&format!(
        "wrote {}\ntry it:\n  cd {}\n  cargo test --release\n  cargo run --release -- run --objective {name} --encoder mlp/z:2 --epochs 5",
        show(&target),
        show(&target)
    ))?;
    Ok(0)
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 40
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !good {
        return Err(Failure::usage(format!(
            "`{}` cannot name a plugin: use up to 40 lower-case letters, digits and `_`, a letter first",
            name.chars().take(60).collect::<String>()
        )));
    }
    if name == RESERVED {
        return Err(taken(name));
    }
    let registry = Registry::global().map_err(Failure::failed)?;
    if let Some(item) = registry.get(Kind::Objective, name) {
        return Err(Failure::usage(format!("the objective `{name}` exists already, in crate `{}`; choose another name", item.crate_name)));
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

fn fill(template: &str, name: &str, home: &Path) -> String {
    let mut letters = name.split('_').map(|word| {
        let mut chars = word.chars();
        chars.next().map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + chars.as_str())
    });
    let type_name: String = letters.by_ref().collect();
    template
        .replace("{{name}}", name)
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

    #[test]
    fn templates_leave_no_gap() {
        for (path, template) in FILES {
            let text = fill(template, "my_bottleneck", Path::new("/some/where"));
            assert!(!text.contains("{{") && !text.contains("}}\""), "{path}: {text}");
        }
        for (name, expected) in [("my_bottleneck", "MyBottleneck"), ("a_", "A"), ("a__b2", "AB2"), ("x_1_y", "X1Y")] {
            assert_eq!(fill("{{Type}}", name, Path::new("")), expected);
        }
        assert_eq!(fill("{{home}}", "x", Path::new("/a \"b\"/ü")), "/a \\\"b\\\"/ü");
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
