//! What an optimiser remembers between steps, in host memory where the parameters are and on the device otherwise.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};

use crate::storage::{HostData, HostTensor};

/// A flat buffer of one scalar per parameter element.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one per parameter; a box would only add an indirection.
pub enum Buffer {
    /// Host memory, single precision.
    F32(Vec<f32>),
    /// Host memory, double precision.
    F64(Vec<f64>),
    /// A rank-1 tensor on a device whose memory the host cannot reach.
    Device(Tensor<1>),
}

impl Buffer {
    /// Zeros shaped like `like`, on the host if `host`.
    pub fn zeros(like: &Tensor<1>, host: bool) -> Self {
        let n = like.dims()[0];
        match (host, like.dtype()) {
            (true, DType::F64) => Self::F64(vec![0.0; n]),
            (true, _) => Self::F32(vec![0.0; n]),
            (false, _) => Self::Device(like.zeros_like()),
        }
    }

    /// Host copy for a checkpoint.
    pub fn to_host(&self) -> HostTensor {
        let data = match self {
            Self::F32(v) => HostData::F32(v.clone()),
            Self::F64(v) => HostData::F64(v.clone()),
            Self::Device(t) => match t.dtype() {
                DType::F64 => HostData::F64(t.to_data().iter::<f64>().collect()),
                _ => HostData::F32(t.to_data().iter::<f32>().collect()),
            },
        };
        let len = match &data {
            HostData::F32(v) => v.len(),
            HostData::F64(v) => v.len(),
            HostData::I64(v) => v.len(),
            HostData::U8(v) => v.len(),
        };
        HostTensor { shape: vec![len], data }
    }

    /// The buffer a checkpoint holds, on the side `like` lives; `None` when its length or type does not fit.
    pub fn from_host(host_tensor: &HostTensor, like: &Tensor<1>, host: bool) -> Option<Self> {
        let n = like.dims()[0];
        match (&host_tensor.data, host) {
            (HostData::F32(v), true) if v.len() == n && like.dtype() != DType::F64 => Some(Self::F32(v.clone())),
            (HostData::F64(v), true) if v.len() == n && like.dtype() == DType::F64 => Some(Self::F64(v.clone())),
            (HostData::F32(v), false) if v.len() == n => {
                Some(Self::Device(Tensor::from_data(TensorData::new(v.clone(), [n]), (&like.device(), like.dtype()))))
            }
            (HostData::F64(v), false) if v.len() == n => {
                Some(Self::Device(Tensor::from_data(TensorData::new(v.clone(), [n]), (&like.device(), like.dtype()))))
            }
            _ => None,
        }
    }
}

/// State of one optimiser: its update count and what its rule keeps of every parameter it has moved.
#[derive(Clone, Debug, Default)]
pub struct OptimiserState {
    /// Updates made.
    pub step: u64,
    /// The rule's buffers by parameter path.
    pub buffers: BTreeMap<String, Vec<Buffer>>,
}
