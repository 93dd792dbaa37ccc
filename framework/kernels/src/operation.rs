//! Custom differentiable operations on host memory, as nodes of burn's autodiff graph over the flex backend.

use std::fmt::Debug;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, GradientCheckpointingStrategy, TensorMetadata,
};
use burn::tensor::DType;

use crate::array::Array;
use crate::real::Real;

/// A float tensor of flex with its place in the graph.
type Tracked = FloatTensor<Autodiff<Flex>>;

/// An operation on `N` float tensors with one float result and a gradient written by hand.
pub trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// The result, and what [`Operation::backward`] needs when an entry of `tracked` says that the gradient of that input will be asked for
    /// (with none tracked the second part is dropped at once, so leave it empty).
    fn forward<T: Real>(&self, inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>);

    /// The gradient of each input that is `wanted`, from what [`Operation::forward`] saved and the gradient of its result.
    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N];
}

/// Message of the event that an operation for flex was left to its plain formula, or to LibTorch.
pub const PLAIN: &str = "an operation is left to its plain formula";

/// The result of `operation` when all inputs are flex tensors of one precision, `f32` or `f64`; otherwise the inputs again.
///
/// Inputs without autodiff count as constants beside inputs with it. Inputs are consumed, so memory that only they hold can be reused.
///
/// # Errors
/// The inputs, unchanged, for the plain formula to use.
pub fn apply<O: Operation<N>, const N: usize>(operation: O, inputs: [DispatchTensor; N]) -> Result<DispatchTensor, [DispatchTensor; N]> {
    let plain = |kind: &DispatchTensorKind| matches!(kind, DispatchTensorKind::Flex(BackendTensor::Float(_)));
    let tracked = |kind: &DispatchTensorKind| matches!(kind, DispatchTensorKind::Flex(BackendTensor::Autodiff(_)));
    match (tracks(&inputs, plain, tracked), inputs[0].dtype()) {
        (Some(tracks), DType::F32) => Ok(run::<f32, O, N>(operation, inputs, tracks)),
        (Some(tracks), DType::F64) => Ok(run::<f64, O, N>(operation, inputs, tracks)),
        _ => {
            tracing::trace!("{PLAIN}");
            Err(inputs)
        }
    }
}

/// Whether one of the inputs is in an autodiff graph, when all are of one precision, each is of a kind that `plain` or, inside of a graph,
/// `tracked` accepts, and no graph recomputes values.
pub(crate) fn tracks(
    inputs: &[DispatchTensor],
    plain: impl Fn(&DispatchTensorKind) -> bool,
    tracked: impl Fn(&DispatchTensorKind) -> bool,
) -> Option<bool> {
    let mut tracks = false;
    for input in inputs {
        match (&input.kind, input.autodiff) {
            (kind, DispatchAutodiffContext::Disabled) if plain(kind) => {}
            // Recomputing strategies need a forward function they can call again.
            (DispatchTensorKind::Autodiff(inner), DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled))
                if tracked(inner) =>
            {
                tracks = true;
            }
            _ => return None,
        }
    }
    let one = inputs.windows(2).all(|pair| pair[0].dtype() == pair[1].dtype());
    one.then_some(tracks)
}

// With more backends built in there are more kinds.
#[allow(clippy::match_wildcard_for_single_variants)]
fn run<T: Real, O: Operation<N>, const N: usize>(operation: O, inputs: [DispatchTensor; N], tracks: bool) -> DispatchTensor {
    if !tracks {
        let arrays = inputs.map(|input| match input.kind {
            DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => Array::<T>::from_flex(tensor),
            _ => unreachable!("`apply` let only float tensors of flex through"),
        });
        let (output, _) = operation.forward(arrays, [false; N]);
        let kind = DispatchTensorKind::Flex(BackendTensor::Float(output.into_flex()));
        return DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled };
    }
    let tensors = inputs.map(|input| match input.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => Tracked::new(tensor),
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(tensor)) => tensor,
            _ => unreachable!("`apply` let only float tensors of flex through"),
        },
        _ => unreachable!("`apply` let only float tensors of flex through"),
    });
    let tracked = tensors.each_ref().map(Tracked::is_tracked);
    let nodes = tensors.each_ref().map(Tracked::node);
    let arrays = tensors.map(|tensor| Array::<T>::from_flex(tensor.into_primitive()));
    let (output, saved) = operation.forward(arrays, tracked);
    let output = match Node::<O>(std::marker::PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(preparation) => {
            let saved = saved.into_iter().map(Array::into_flex).collect();
            preparation.finish(State { operation, saved }, output.into_flex())
        }
        OpsKind::UnTracked(preparation) => preparation.finish(output.into_flex()),
    };
    DispatchTensor {
        kind: DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(BackendTensor::Autodiff(output)))),
        autodiff: DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled),
    }
}

/// The node of every [`Operation`] in the graph.
#[derive(Debug)]
struct Node<O>(std::marker::PhantomData<O>);

/// What a [`Node`] carries to the backward pass.
#[derive(Clone, Debug)]
struct State<O> {
    operation: O,
    saved: Vec<FlexTensor>,
}

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Node<O> {
    type State = State<O>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = match gradient.dtype() {
            DType::F64 => back::<f64, O, N>(ops.state, gradient, wanted),
            _ => back::<f32, O, N>(ops.state, gradient, wanted),
        };
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<Flex>(parent.id, result);
            }
        }
    }
}

fn back<T: Real, O: Operation<N>, const N: usize>(state: State<O>, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N] {
    let saved = state.saved.into_iter().map(Array::<T>::from_flex).collect();
    state.operation.backward(saved, Array::from_flex(gradient), wanted).map(|result| result.map(Array::into_flex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    /// a + 2 b, to see what the graph does with it.
    #[derive(Clone, Debug)]
    struct Mix;

    impl Operation<2> for Mix {
        fn forward<T: Real>(&self, [mut a, b]: [Array<T>; 2], _tracked: [bool; 2]) -> (Array<T>, Vec<Array<T>>) {
            let two = T::of(2.0);
            a.make_mut().iter_mut().zip(b.as_slice()).for_each(|(a, &b)| *a += two * b);
            (a, Vec::new())
        }

        fn backward<T: Real>(&self, _saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 2]) -> [Option<Array<T>>; 2] {
            let doubled = Array::new(gradient.as_slice().iter().map(|&g| g + g).collect(), gradient.shape());
            [wanted[0].then_some(gradient), wanted[1].then_some(doubled)]
        }
    }

    fn on(device: &Device, dtype: DType) -> Tensor<1> {
        Tensor::from_data([1.0, -2.0, 3.0], (device, dtype))
    }

    fn values(tensor: Tensor<1>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    #[test]
    fn both_precisions_of_flex_are_taken_with_and_without_autodiff() {
        let flex = Device::flex();
        for dtype in [DType::F32, DType::F64] {
            for [a, b] in [[flex.clone(), flex.clone()], [flex.clone().autodiff(), flex.clone()], [flex.clone(), flex.clone().autodiff()]] {
                let y = apply(Mix, [on(&a, dtype).into_dispatch(), on(&b, dtype).into_dispatch()]).expect("the fused path");
                assert_eq!(values(Tensor::from_dispatch(y)), [3.0, -6.0, 9.0]);
            }
        }
    }

    #[test]
    fn an_input_used_twice_collects_both_gradients_and_stays_as_it_was() {
        let x = on(&Device::flex().autodiff(), DType::F64).require_grad();
        let y = apply(Mix, [x.clone().into_dispatch(), x.clone().into_dispatch()]).expect("the fused path");
        let gradients = Tensor::<1>::from_dispatch(y).sum().backward();
        assert_eq!(values(x.grad(&gradients).unwrap()), [3.0; 3]);
        assert_eq!(values(x), [1.0, -2.0, 3.0]);
    }

    #[test]
    fn mixed_precision_and_recomputing_graphs_are_left_to_the_plain_formula() {
        let flex = Device::flex();
        let refused = |a: Tensor<1>, b: Tensor<1>| {
            let [a, b] = apply(Mix, [a.into_dispatch(), b.into_dispatch()]).expect_err("the inputs again");
            (values(Tensor::from_dispatch(a)), values(Tensor::from_dispatch(b))) == (vec![1.0, -2.0, 3.0], vec![1.0, -2.0, 3.0])
        };
        assert!(refused(on(&flex, DType::F32), on(&flex, DType::F64)));
        let recomputing = flex.autodiff().gradient_checkpointing();
        assert!(refused(on(&recomputing, DType::F32), on(&recomputing, DType::F32)));
    }
}
