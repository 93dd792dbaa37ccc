//! Contiguous float arrays in host memory, sharing it with flex tensors without copies.

use std::marker::PhantomData;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Bytes, DType, Int, Shape, Tensor};

use crate::channels::reordered;
use crate::real::Real;

/// A contiguous array of `T` behind a flex tensor. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Array<T> {
    tensor: FlexTensor,
    scalar: PhantomData<T>,
}

impl<T: Real> Array<T> {
    /// The array behind `tensor`, whose scalars must be `T`; copied only when it is a strided view or part of a larger buffer.
    pub(crate) fn from_flex(tensor: FlexTensor) -> Self {
        let whole = tensor.layout().start_offset() == 0 && tensor.bytes().len() == tensor.layout().num_elements() * size_of::<T>();
        if whole && tensor.is_contiguous() {
            return Self { tensor, scalar: PhantomData };
        }
        match reordered(&tensor) {
            Some(values) => Self::new(values, &tensor.layout().shape()[..]),
            None => Self { tensor: tensor.to_contiguous(), scalar: PhantomData },
        }
    }

    /// The tensor that shares this memory.
    pub(crate) fn into_flex(self) -> FlexTensor {
        self.tensor
    }

    /// An array of `shape` holding `values` in row-major order.
    ///
    /// # Panics
    /// When the number of values is not that of the shape.
    pub fn new(values: Vec<T>, shape: &[usize]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of an array of shape {shape:?}");
        let layout = Layout::contiguous(Shape::from(shape.to_vec()));
        Self { tensor: FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()), scalar: PhantomData }
    }

    /// The same values under another shape of as many elements.
    ///
    /// # Panics
    /// When the shape has another number of elements.
    pub fn reshaped(self, shape: &[usize]) -> Self {
        assert_eq!(self.len(), shape.iter().product::<usize>(), "elements under the new shape {shape:?}");
        Self { tensor: self.tensor.with_layout(Layout::contiguous(Shape::from(shape.to_vec()))), scalar: PhantomData }
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        self.tensor.layout().shape()
    }

    /// Number of scalars.
    pub fn len(&self) -> usize {
        self.tensor.layout().num_elements()
    }

    /// Whether there is no scalar.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scalars in row-major order.
    pub fn as_slice(&self) -> &[T] {
        self.tensor.storage()
    }

    /// The scalars for writing; copied first when another tensor shares them.
    pub fn make_mut(&mut self) -> &mut [T] {
        self.tensor.storage_mut()
    }

    /// Whether [`Array::make_mut`] works in place.
    pub fn is_unique(&self) -> bool {
        self.tensor.is_unique()
    }
}

/// The values of an integer tensor on flex, `None` when it lives elsewhere.
pub fn integers<const D: usize>(tensor: &Tensor<D, Int>) -> Option<Vec<i64>> {
    let DispatchTensorKind::Flex(BackendTensor::Int(tensor)) = tensor.clone().into_dispatch().kind else { return None };
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I64 => Some(tensor.as_slice::<i64>()?.to_vec()),
        DType::I32 => Some(tensor.as_slice::<i32>()?.iter().map(|&i| i64::from(i)).collect()),
        _ => None,
    }
}
