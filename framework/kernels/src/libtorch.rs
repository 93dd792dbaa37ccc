//! Operations that LibTorch has as one of its own, as nodes of burn's autodiff graph: burn takes the gradient of a convolution or a
//! normalisation from general operations, LibTorch's own graph has a function for it.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, GradientCheckpointingStrategy, TensorMetadata,
};
use burn::tensor::DType;
use burn_tch::{LibTorch, TchTensor};
use tch::Tensor;

use crate::conv::ConvolutionRule;
use crate::operation::tracks;

/// A float tensor of LibTorch with its place in burn's graph.
type Tracked = FloatTensor<Autodiff<LibTorch>>;

/// The value of `formula` when all inputs are LibTorch tensors of one precision, `f32` or `f64`; otherwise the inputs again. Gradients are
/// those of LibTorch. The value must not share memory with an input, nor the gradients of two inputs with each other.
///
/// # Errors
/// The inputs, unchanged, for the plain formula to use.
pub fn apply<const N: usize>(
    inputs: [DispatchTensor; N],
    formula: impl FnOnce([Tensor; N]) -> Tensor,
) -> Result<DispatchTensor, [DispatchTensor; N]> {
    record(inputs, |inputs, tracked| differentiated(inputs, tracked, formula))
}

/// The value of `formula`, with LibTorch's own graph as its rule if an input is tracked.
pub fn differentiated<const N: usize>(
    inputs: [Tensor; N],
    tracked: [bool; N],
    formula: impl FnOnce([Tensor; N]) -> Tensor,
) -> (Tensor, Option<Rule>) {
    if tracked == [false; N] {
        return (tch::no_grad(|| formula(inputs)), None);
    }
    let leaves: [Tensor; N] = std::array::from_fn(|i| inputs[i].detach().set_requires_grad(tracked[i]));
    let root = tch::with_grad(|| formula(leaves.each_ref().map(Tensor::shallow_clone)));
    (root.detach(), Some(Rule::Graph { leaves: leaves.map(TchTensor::new).to_vec(), root: TchTensor::new(root) }))
}

/// max(x, 0).
///
/// # Errors
/// As [`apply`].
pub fn relu(x: DispatchTensor) -> Result<DispatchTensor, DispatchTensor> {
    record([x], |[x], [tracked]| {
        let y = x.relu();
        let rule = tracked.then(|| Rule::Relu { output: TchTensor::new(y.shallow_clone()) });
        (y, rule)
    })
    .map_err(|[x]| x)
}

/// The first half of the features along the last dimension times the sigmoid of the second.
///
/// # Errors
/// As [`apply`].
pub fn gated(x: DispatchTensor) -> Result<DispatchTensor, DispatchTensor> {
    record([x], |[x], [tracked]| {
        let y = x.glu(-1);
        (y, tracked.then(|| Rule::Gate { input: TchTensor::new(x) }))
    })
    .map_err(|[x]| x)
}

/// `tensor`, whose memory nothing else uses, outside of burn's graph.
pub fn constant(tensor: Tensor) -> DispatchTensor {
    let kind = DispatchTensorKind::LibTorch(BackendTensor::Float(TchTensor::new(tensor)));
    DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled }
}

/// How the gradients of the inputs follow from that of the value.
#[derive(Clone, Debug)]
pub enum Rule {
    /// LibTorch's graph from copies of the inputs that share their memory to the value.
    Graph { leaves: Vec<TchTensor>, root: TchTensor },
    /// The gradient where the value is above 0.
    Relu { output: TchTensor },
    /// That of [`gated`].
    Gate { input: TchTensor },
    /// That of a convolution.
    Convolution(ConvolutionRule),
}

impl Rule {
    /// The gradients of the tracked inputs.
    fn gradients(self, gradient: &Tensor, tracked: &[bool]) -> Vec<Tensor> {
        match self {
            Self::Graph { leaves, root } => {
                let leaves: Vec<&Tensor> =
                    leaves.iter().zip(tracked).filter(|(_, tracked)| **tracked).map(|(leaf, _)| &leaf.tensor).collect();
                // LibTorch's binding starts from ones only; the derivative of this number by the value is the gradient that came in.
                let start = tch::with_grad(|| root.tensor.reshape([-1]).dot(&gradient.reshape([-1])));
                Tensor::run_backward(&[start], &leaves, false, false)
            }
            Self::Relu { output } => vec![output.tensor.threshold_backward(gradient, 0)],
            Self::Gate { input } => vec![input.tensor.glu_backward(gradient, -1)],
            Self::Convolution(rule) => rule.gradients(gradient, tracked),
        }
    }
}

/// Computes a value, with its rule if an input is tracked, and puts it where the inputs are: in burn's graph or outside of it. The inputs and
/// the value are as [`apply`] asks.
///
/// # Errors
/// As [`apply`].
pub fn record<const N: usize>(
    inputs: [DispatchTensor; N],
    compute: impl FnOnce([Tensor; N], [bool; N]) -> (Tensor, Option<Rule>),
) -> Result<DispatchTensor, [DispatchTensor; N]> {
    let plain = |kind: &DispatchTensorKind| matches!(kind, DispatchTensorKind::LibTorch(BackendTensor::Float(_)));
    let tracked = |kind: &DispatchTensorKind| matches!(kind, DispatchTensorKind::LibTorch(BackendTensor::Autodiff(_)));
    let Some(tracks) = tracks(&inputs, plain, tracked) else { return Err(inputs) };
    if !matches!(inputs[0].dtype(), DType::F32 | DType::F64) {
        return Err(inputs);
    }
    let inputs = inputs.map(in_graph);
    let tracked = inputs.each_ref().map(Tracked::is_tracked);
    let nodes = inputs.each_ref().map(Tracked::node);
    let inputs = inputs.map(Tracked::into_primitive);
    let (value, rule) = compute(inputs.each_ref().map(|input| input.tensor.shallow_clone()), tracked);
    if !tracks {
        return Ok(constant(value));
    }
    let output = TchTensor::new(value);
    let output = match (Node.prepare::<NoCheckpointing>(nodes).compute_bound().stateful(), rule) {
        (OpsKind::Tracked(preparation), Some(rule)) => {
            let held = inputs.into_iter().chain([output.clone()]).collect();
            preparation.finish(State { rule, tracked: tracked.to_vec(), held }, output)
        }
        (OpsKind::UnTracked(preparation), _) => preparation.finish(output),
        (OpsKind::Tracked(_), None) => unreachable!("a tracked operation has a rule"),
    };
    Ok(DispatchTensor {
        kind: DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::LibTorch(BackendTensor::Autodiff(output)))),
        autodiff: DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled),
    })
}

fn in_graph(input: DispatchTensor) -> Tracked {
    match input.kind {
        DispatchTensorKind::LibTorch(BackendTensor::Float(tensor)) => Tracked::new(tensor),
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::LibTorch(BackendTensor::Autodiff(tensor)) => tensor,
            _ => unreachable!("`record` let only float tensors of LibTorch through"),
        },
        _ => unreachable!("`record` let only float tensors of LibTorch through"),
    }
}

#[derive(Debug)]
struct Node;

/// What a [`Node`] carries to the backward pass.
#[derive(Clone, Debug)]
struct State {
    rule: Rule,
    tracked: Vec<bool>,
    /// Inputs and value, which the rule reads again: while they are held here, burn does not work in place on them.
    held: Vec<TchTensor>,
}

impl<const N: usize> Backward<LibTorch, N> for Node {
    type State = State;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<LibTorch>(&ops.node).tensor;
        let State { rule, tracked, held } = ops.state;
        let mut found = rule.gradients(&gradient, &tracked).into_iter();
        for (parent, tracked) in ops.parents.into_iter().zip(tracked) {
            let result = if tracked { found.next() } else { None };
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<LibTorch>(parent.id, TchTensor::new(result));
            }
        }
        drop(held);
    }
}
