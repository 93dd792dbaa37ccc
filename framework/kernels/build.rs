//! Compiles what LibTorch's binding lacks, for the feature `tch`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "tch")]
    libtorch();
}

/// Compiles against the headers of the LibTorch that torch-sys has found.
#[cfg(feature = "tch")]
fn libtorch() {
    use std::env;
    use std::path::PathBuf;

    const SOURCE: &str = "src/libtorch/gradients.cpp";
    println!("cargo:rerun-if-changed={SOURCE}");
    for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let found = |lib: String| PathBuf::from(lib).parent().map(PathBuf::from);
    let Some(root) = env::var("LIBTORCH_INCLUDE").ok().map(PathBuf::from).or_else(|| env::var("DEP_TCH_LIBTORCH_LIB").ok().and_then(found))
    else {
        panic!("torch-sys does not say where LibTorch is: set LIBTORCH, or LIBTORCH_USE_PYTORCH=1 for an installed PyTorch");
    };
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file(SOURCE)
        .compile("ibhost_libtorch");
}
