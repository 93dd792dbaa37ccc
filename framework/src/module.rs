//! Boxed components that take part in burn's module tree: visiting, mapping, saving and switching to evaluation work through `dyn` objects.

use std::any::Any;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

use burn::module::{Devices, Flag, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

/// A kind of boxed module (encoder, decoder, objective) and the trait object it is held as.
pub trait ModuleKind: Sized + 'static {
    /// The trait object, e.g. `dyn Encoder`.
    type Object: ?Sized + ErasedModule<Self>;
}

/// What burn's [`Module`] offers, in a form a trait object can offer too.
///
/// Never implemented by hand: every `Module` that implements a component trait gets it from a blanket implementation
/// (see [`erase_modules!`](crate::erase_modules)).
pub trait ErasedModule<K: ModuleKind>: Send + Debug {
    /// Shows every parameter to `visitor`.
    fn erased_visit(&self, visitor: &mut dyn AnyVisitor);
    /// Replaces every parameter by what `mapper` makes of it.
    fn erased_map(self: Box<Self>, mapper: &mut dyn AnyMapper) -> Box<K::Object>;
    /// Clones the module; parameters share memory until one of them changes.
    fn erased_clone(&self) -> Box<K::Object>;
    /// Evaluation copy without autodiff.
    fn erased_valid(&self) -> Box<K::Object>;
    /// Back to training.
    fn erased_train(self: Box<Self>) -> Box<K::Object>;
    /// Moves the module, see [`Module::to_device`].
    fn erased_to_device(self: Box<Self>, device: &Device) -> Box<K::Object>;
    /// Moves the module as fresh leaves, see [`Module::fork`].
    fn erased_fork(self: Box<Self>, device: &Device) -> Box<K::Object>;
    /// Folds reparameterisations, see [`Module::materialize`].
    fn erased_materialize(self: Box<Self>) -> Box<K::Object>;
    /// Adds the devices in use, see [`Module::collect_devices`].
    fn erased_devices(&self, devices: Devices) -> Devices;
}

/// Implements [`ErasedModule`] for every burn module that implements the component trait `$object` of kind `$kind`.
#[macro_export]
macro_rules! erase_modules {
    ($kind:ty, $object:path) => {
        impl $crate::module::ModuleKind for $kind {
            type Object = dyn $object;
        }
        impl<M: ::burn::module::Module + $object + 'static> $crate::module::ErasedModule<$kind> for M {
            fn erased_visit(&self, visitor: &mut dyn $crate::module::AnyVisitor) {
                self.visit(&mut $crate::module::VisitAny(visitor));
            }
            fn erased_map(self: Box<Self>, mapper: &mut dyn $crate::module::AnyMapper) -> Box<dyn $object> {
                Box::new((*self).map(&mut $crate::module::MapAny(mapper)))
            }
            fn erased_clone(&self) -> Box<dyn $object> {
                Box::new(self.clone())
            }
            fn erased_valid(&self) -> Box<dyn $object> {
                Box::new(self.valid())
            }
            fn erased_train(self: Box<Self>) -> Box<dyn $object> {
                Box::new((*self).train())
            }
            fn erased_to_device(self: Box<Self>, device: &::burn::tensor::Device) -> Box<dyn $object> {
                Box::new((*self).to_device(device))
            }
            fn erased_fork(self: Box<Self>, device: &::burn::tensor::Device) -> Box<dyn $object> {
                Box::new((*self).fork(device))
            }
            fn erased_materialize(self: Box<Self>) -> Box<dyn $object> {
                Box::new((*self).materialize())
            }
            fn erased_devices(&self, devices: ::burn::module::Devices) -> ::burn::module::Devices {
                self.collect_devices(devices)
            }
        }
    };
}

/// Object-safe counterpart of [`ModuleVisitor`]: `param` is a `Param<Tensor<rank, _>>`.
pub trait AnyVisitor {
    /// Float parameter.
    fn float(&mut self, rank: usize, param: &dyn Any);
    /// Integer parameter.
    fn int(&mut self, rank: usize, param: &dyn Any);
    /// Boolean parameter.
    fn bool(&mut self, rank: usize, param: &dyn Any);
    /// Control flag.
    fn flag(&mut self, flag: &Param<Flag>);
    /// Entering a field.
    fn enter(&mut self, name: &str, container: &str);
    /// Leaving a field.
    fn exit(&mut self, name: &str, container: &str);
}

/// Object-safe counterpart of [`ModuleMapper`]: takes and returns a boxed `Param<Tensor<rank, _>>`.
pub trait AnyMapper {
    /// Float parameter.
    fn float(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    /// Integer parameter.
    fn int(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    /// Boolean parameter.
    fn bool(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    /// Control flag.
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag>;
    /// Entering a field.
    fn enter(&mut self, name: &str, container: &str);
    /// Leaving a field.
    fn exit(&mut self, name: &str, container: &str);
}

/// Lets a module show itself to an [`AnyVisitor`].
pub struct VisitAny<'a>(pub &'a mut dyn AnyVisitor);

impl ModuleVisitor for VisitAny<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.float(D, param);
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.int(D, param);
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.bool(D, param);
    }
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.flag(flag);
    }
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }
    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

/// Lets a module be changed by an [`AnyMapper`].
pub struct MapAny<'a>(pub &'a mut dyn AnyMapper);

const SAME_TYPE: &str = "a mapped parameter keeps its type";

impl ModuleMapper for MapAny<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        *self.0.float(D, Box::new(param)).downcast().expect(SAME_TYPE)
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        *self.0.int(D, Box::new(param)).downcast().expect(SAME_TYPE)
    }
    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        *self.0.bool(D, Box::new(param)).downcast().expect(SAME_TYPE)
    }
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.flag(flag)
    }
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }
    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

struct FromGeneric<'a, V>(&'a mut V);

macro_rules! by_rank {
    ($rank:expr, $visit:ident) => {
        match $rank {
            1 => $visit!(1),
            2 => $visit!(2),
            3 => $visit!(3),
            4 => $visit!(4),
            5 => $visit!(5),
            6 => $visit!(6),
            7 => $visit!(7),
            8 => $visit!(8),
            rank => unreachable!("burn tensors have 1 to 8 dimensions, not {rank}"),
        }
    };
}

impl<V: ModuleVisitor> AnyVisitor for FromGeneric<'_, V> {
    fn float(&mut self, rank: usize, param: &dyn Any) {
        macro_rules! visit {
            ($d:literal) => {
                if let Some(param) = param.downcast_ref::<Param<Tensor<$d>>>() {
                    self.0.visit_float(param)
                }
            };
        }
        by_rank!(rank, visit);
    }
    fn int(&mut self, rank: usize, param: &dyn Any) {
        macro_rules! visit {
            ($d:literal) => {
                if let Some(param) = param.downcast_ref::<Param<Tensor<$d, Int>>>() {
                    self.0.visit_int(param)
                }
            };
        }
        by_rank!(rank, visit);
    }
    fn bool(&mut self, rank: usize, param: &dyn Any) {
        macro_rules! visit {
            ($d:literal) => {
                if let Some(param) = param.downcast_ref::<Param<Tensor<$d, Bool>>>() {
                    self.0.visit_bool(param)
                }
            };
        }
        by_rank!(rank, visit);
    }
    fn flag(&mut self, flag: &Param<Flag>) {
        self.0.visit_flag(flag);
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

impl<M: ModuleMapper> AnyMapper for FromGeneric<'_, M> {
    fn float(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        macro_rules! map {
            ($d:literal) => {
                Box::new(self.0.map_float(*param.downcast::<Param<Tensor<$d>>>().expect(SAME_TYPE)))
            };
        }
        by_rank!(rank, map)
    }
    fn int(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        macro_rules! map {
            ($d:literal) => {
                Box::new(self.0.map_int(*param.downcast::<Param<Tensor<$d, Int>>>().expect(SAME_TYPE)))
            };
        }
        by_rank!(rank, map)
    }
    fn bool(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        macro_rules! map {
            ($d:literal) => {
                Box::new(self.0.map_bool(*param.downcast::<Param<Tensor<$d, Bool>>>().expect(SAME_TYPE)))
            };
        }
        by_rank!(rank, map)
    }
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.map_flag(flag)
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

/// A boxed component of kind `K` that is itself a burn [`Module`], so it can be a field of a derived one.
pub struct Erased<K: ModuleKind>(Box<K::Object>);

impl<K: ModuleKind> Erased<K> {
    /// Wraps a boxed component.
    pub fn new(inner: Box<K::Object>) -> Self {
        Self(inner)
    }
}

impl<K: ModuleKind> Deref for Erased<K> {
    type Target = K::Object;
    fn deref(&self) -> &K::Object {
        &self.0
    }
}

impl<K: ModuleKind> DerefMut for Erased<K> {
    fn deref_mut(&mut self) -> &mut K::Object {
        &mut self.0
    }
}

impl<K: ModuleKind> Clone for Erased<K> {
    fn clone(&self) -> Self {
        Self(self.0.erased_clone())
    }
}

impl<K: ModuleKind> Debug for Erased<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: ModuleKind> ModuleDisplayDefault for Erased<K> {
    fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
        content.add_formatted(&format!("{:?}", self.0)).optional()
    }
}

impl<K: ModuleKind> ModuleDisplay for Erased<K> {}

impl<K: ModuleKind> Module for Erased<K> {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.0.erased_visit(&mut FromGeneric(visitor));
    }
    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.erased_map(&mut FromGeneric(mapper)))
    }
    fn valid(&self) -> Self {
        Self(self.0.erased_valid())
    }
    fn train(self) -> Self {
        Self(self.0.erased_train())
    }
    fn to_device(self, device: &Device) -> Self {
        Self(self.0.erased_to_device(device))
    }
    fn fork(self, device: &Device) -> Self {
        Self(self.0.erased_fork(device))
    }
    fn materialize(self) -> Self {
        Self(self.0.erased_materialize())
    }
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.erased_devices(devices)
    }
}
