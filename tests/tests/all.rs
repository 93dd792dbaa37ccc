//! The tests of this folder in one program, because each program is a link of everything: `cargo test --test all -- cli_run::` runs one file.
//! Only what needs a process of its own is a program by itself: see Cargo.toml.

// A test that unwraps says where it failed.
#![allow(clippy::unwrap_used)]

mod checkpoint_format;
mod cli_errors;
mod cli_evaluate;
mod cli_registry;
mod cli_report;
mod cli_results;
mod cli_run;
mod cli_seeds;
mod cli_tables;
mod contract;
mod damage;
mod data_sets;
mod disk_faults;
mod engine;
mod examples;
mod finished;
mod guide;
mod identity;
mod kill;
mod looking;
mod numbers;
mod outside;
mod own_data;
mod own_files;
mod plugin;
mod processes;
mod refusals;
mod slurm;
mod sweep;
mod sweep_kill;
mod sweep_scale;

#[test]
fn every_file_beside_this_one_is_compiled() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (here, manifest) = (include_str!("all.rs"), std::fs::read_to_string(folder.join("Cargo.toml")).unwrap());
    let mut files = 0;
    for entry in std::fs::read_dir(folder.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        // A folder that is no program holds what tests read.
        if path.is_dir() && !path.join("main.rs").exists() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            here.contains(&format!("\nmod {name};\n")) || manifest.contains(&format!("name = \"{name}\"\n")),
            "{} is in no program: name it in all.rs",
            path.display()
        );
        files += 1;
    }
    assert!(files > 20, "{files}");
}
