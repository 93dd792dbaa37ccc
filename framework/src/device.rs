//! Devices by name: what this build can compute on, and what to build to get the rest.

use burn::tensor::{Device, Tensor};

/// A family of devices and the cargo feature that builds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFamily {
    /// Name for `--device`.
    pub name: &'static str,
    /// Cargo feature, empty when always built.
    pub feature: &'static str,
    /// Whether this build has it.
    pub built: bool,
    /// What it is.
    pub summary: &'static str,
}

/// Every family known, in the order of `ibhost devices`.
pub const FAMILIES: [DeviceFamily; 7] = [
    DeviceFamily { name: "flex", feature: "", built: true, summary: "pure Rust on the CPU, AVX-512 where the CPU has it" },
    DeviceFamily {
        name: "tch",
        feature: "tch",
        built: cfg!(feature = "tch"),
        summary: "LibTorch on the CPU; `tch:cuda:0`, `tch:mps` where it has them",
    },
    DeviceFamily { name: "cuda", feature: "cuda", built: cfg!(feature = "cuda"), summary: "NVIDIA GPUs through CUDA" },
    DeviceFamily { name: "rocm", feature: "rocm", built: cfg!(feature = "rocm"), summary: "AMD GPUs through ROCm" },
    DeviceFamily { name: "metal", feature: "metal", built: cfg!(feature = "metal"), summary: "Apple GPUs through Metal" },
    DeviceFamily { name: "vulkan", feature: "vulkan", built: cfg!(feature = "vulkan"), summary: "GPUs through Vulkan" },
    DeviceFamily { name: "wgpu", feature: "wgpu", built: cfg!(feature = "wgpu"), summary: "GPUs through the best API the machine has" },
];

/// A device name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// Not in this build.
    #[error("device `{name}` is not in this build\n  hint: build with `cargo build --release -p ibhost --features {feature}`")]
    NotBuilt {
        /// Family asked for.
        name: String,
        /// Feature that has it.
        feature: &'static str,
    },
    /// Not known at all.
    #[error(
        "unknown device `{0}`: expected one of flex, tch, cuda, rocm, metal, vulkan, wgpu, optionally with an index such as `cuda:1` or `vulkan:integrated:0`"
    )]
    Unknown(String),
    /// Built in, but the machine has no such device or no driver for it.
    #[error(
        "device `{0}` is in this build, but this machine has none that works\n  hint: `ibhost devices` shows what there is; check the driver"
    )]
    Absent(String),
    /// The family takes no such index.
    #[error("device `{name}`: `{index}` is not {expected}")]
    Index {
        /// Family.
        name: String,
        /// What was given.
        index: String,
        /// What would do.
        expected: &'static str,
    },
}

/// The device called `text`: a family, optionally with `:index`.
///
/// # Errors
/// [`DeviceError`] naming the feature to build with, or what would be a valid name.
pub fn parse(text: &str) -> Result<Device, DeviceError> {
    let (name, index) = text.split_once(':').map_or((text, None), |(n, i)| (n, Some(i)));
    let family = FAMILIES.iter().find(|f| f.name == name).ok_or_else(|| DeviceError::Unknown(text.to_owned()))?;
    if !family.built {
        return Err(DeviceError::NotBuilt { name: name.to_owned(), feature: family.feature });
    }
    // GPU runtimes panic where there is no driver or device; that is a fact about the machine, not a bug.
    let opened = std::panic::catch_unwind(|| {
        let device = open(name, index)?;
        Tensor::<1>::zeros([1], &device).into_data();
        Ok(device)
    });
    opened.unwrap_or_else(|_| Err(DeviceError::Absent(text.to_owned())))
}

/// Whether the first device of the family called `name` can be computed on; nothing of a failed attempt reaches stderr.
///
/// # Errors
/// As [`parse`].
pub fn probe(name: &str) -> Result<Device, DeviceError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = parse(name);
    std::panic::set_hook(hook);
    result
}

fn bad_index(name: &str, index: &str, expected: &'static str) -> DeviceError {
    DeviceError::Index { name: name.to_owned(), index: index.to_owned(), expected }
}

#[cfg(any(feature = "cuda", feature = "rocm"))]
fn number(name: &str, index: Option<&str>) -> Result<usize, DeviceError> {
    index.map_or(Ok(0), |i| i.parse().map_err(|_| bad_index(name, i, "the number of a device")))
}

fn open(name: &str, index: Option<&str>) -> Result<Device, DeviceError> {
    match name {
        #[cfg(feature = "tch")]
        "tch" => open_tch(index),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(number(name, index)?)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(number(name, index)?)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(gpu(name, index)?)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(gpu(name, index)?)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(gpu(name, index)?)),
        _ => match index {
            None => Ok(Device::flex()),
            Some(index) => Err(bad_index(name, index, "needed: there is one CPU")),
        },
    }
}

/// The GPU that `index` names: a number among the discrete ones, or a kind and a number among those of that kind.
#[cfg(any(feature = "wgpu", test))]
fn gpu(name: &str, index: Option<&str>) -> Result<burn::tensor::DeviceKind, DeviceError> {
    use burn::tensor::DeviceKind;
    let Some(text) = index else { return Ok(DeviceKind::DefaultDevice) };
    let (kind, number) = match text.split_once(':') {
        Some((kind, number)) => (kind, number.parse().ok()),
        None => text.parse().map_or((text, Some(0)), |number| ("discrete", Some(number))),
    };
    match (kind, number) {
        ("discrete", Some(number)) => Ok(DeviceKind::DiscreteGpu(number)),
        ("integrated", Some(number)) => Ok(DeviceKind::IntegratedGpu(number)),
        ("virtual", Some(number)) => Ok(DeviceKind::VirtualGpu(number)),
        ("cpu", Some(0)) => Ok(DeviceKind::Cpu),
        _ => Err(bad_index(name, text, "a number, or one of discrete:0, integrated:0, virtual:0 (with any number), cpu")),
    }
}

#[cfg(feature = "tch")]
#[allow(deprecated)] // burn recommends its own kernels instead, but LibTorch is what PyTorch users compare with.
fn open_tch(index: Option<&str>) -> Result<Device, DeviceError> {
    match index {
        None | Some("cpu") => {
            // LibTorch has a pool of its own.
            tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(i32::MAX));
            Ok(Device::libtorch())
        }
        Some("mps") => Ok(Device::libtorch_mps()),
        Some(other) => match other.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0").parse::<usize>()) {
            Some(Ok(number)) => Ok(Device::libtorch_cuda(number)),
            _ => Err(bad_index("tch", other, "one of cpu, cuda:0, mps")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flex_opens_and_the_rest_says_what_to_do() {
        assert_eq!(parse("flex").unwrap(), Device::flex());
        assert!(matches!(parse("flex:1"), Err(DeviceError::Index { .. })));
        assert!(matches!(parse("cuba"), Err(DeviceError::Unknown(_))));
        assert!(matches!(parse("flex:"), Err(DeviceError::Index { .. })));
        if !cfg!(feature = "cuda") {
            assert!(parse("cuda:0").unwrap_err().to_string().contains("--features cuda"));
        }
    }

    #[test]
    fn every_kind_of_gpu_has_a_name() {
        use burn::tensor::DeviceKind;
        for (index, kind) in [
            (None, DeviceKind::DefaultDevice),
            (Some("0"), DeviceKind::DiscreteGpu(0)),
            (Some("discrete:3"), DeviceKind::DiscreteGpu(3)),
            (Some("integrated"), DeviceKind::IntegratedGpu(0)),
            (Some("integrated:1"), DeviceKind::IntegratedGpu(1)),
            (Some("virtual:0"), DeviceKind::VirtualGpu(0)),
            (Some("cpu"), DeviceKind::Cpu),
        ] {
            assert_eq!(gpu("vulkan", index).unwrap(), kind, "{index:?}");
        }
        for wrong in ["", "-1", "discrete:", "discrete:x", "cpu:1", "shared:0", "99999999999999999999", "0:0"] {
            let error = gpu("vulkan", Some(wrong)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")) && error.contains("integrated:0"), "{error}");
        }
    }
}
