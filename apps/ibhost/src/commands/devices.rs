//! `ibhost devices`: what this build and machine can compute on.

use ibhost_framework::device::{DeviceFamily, FAMILIES, probe};
use serde_json::json;

use crate::cli::{Format, FormatArgs};
use crate::exit::Failure;
use crate::table;

pub fn devices(arguments: &FormatArgs) -> Result<u8, Failure> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if arguments.format == Format::Json {
        let value: Vec<_> = FAMILIES
            .iter()
            .map(|f| json!({ "name": f.name, "built": f.built, "feature": f.feature, "machine": found(f), "summary": f.summary }))
            .collect();
        return table::print_json(&json!({ "devices": value, "cpus": cpus })).map(|()| 0);
    }
    let rows: Vec<Vec<String>> = FAMILIES
        .iter()
        .map(|f| {
            let state = if f.built { "yes".to_owned() } else { format!("build with --features {}", f.feature) };
            vec![f.name.to_owned(), state, found(f), f.summary.to_owned()]
        })
        .collect();
    let header = ["device", "in this build", "on this machine", "what it is"];
    let text = if arguments.format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) };
    table::print(&text)?;
    table::print(&format!("{cpus} processors, {} threads in use", rayon::current_num_threads()))?;
    Ok(0)
}

/// What this machine has of a family that is built in.
fn found(family: &DeviceFamily) -> String {
    if !family.built {
        return "-".to_owned();
    }
    if family.name == "flex" {
        #[cfg(target_arch = "x86_64")]
        let simd = if std::arch::is_x86_feature_detected!("avx512f") { "yes, with AVX-512" } else { "yes, without AVX-512" };
        #[cfg(not(target_arch = "x86_64"))]
        let simd = "yes";
        return simd.to_owned();
    }
    match probe(family.name) {
        Ok(_) => "yes".to_owned(),
        Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
