//! Operations that LibTorch has as one of its own, as nodes of burn's autodiff graph: burn takes the gradient of a convolution or a
//! normalisation from general operations, LibTorch's own graph has a function for it.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

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
    reads: Reads,
    formula: impl FnOnce([Tensor; N]) -> Tensor,
) -> Result<DispatchTensor, [DispatchTensor; N]> {
    record(inputs, reads, |inputs, tracked| differentiated(inputs, tracked, formula))
}

/// As [`apply`] for a formula of x, weight and bias that reads them alone and ends in adding the bias along the last dimension: its gradient
/// is then the sum of the value's, which LibTorch takes by a plain loop in some of its operations.
///
/// # Errors
/// As [`apply`].
pub fn apply_biased(
    inputs: [DispatchTensor; 3],
    formula: impl FnOnce([Tensor; 3]) -> Tensor,
) -> Result<DispatchTensor, [DispatchTensor; 3]> {
    record(inputs, Reads::Inputs, |inputs, [x, weight, bias]| {
        let (value, rest) = differentiated(inputs, [x, weight, false], formula);
        (value, if bias { Some(Rule::Biased { rest: rest.map(Box::new) }) } else { rest })
    })
}

/// The value of `formula`, with LibTorch's own graph as its rule if an input is tracked.
fn differentiated<const N: usize>(
    inputs: &[TchTensor; N],
    tracked: [bool; N],
    formula: impl FnOnce([Tensor; N]) -> Tensor,
) -> (Tensor, Option<Rule>) {
    if tracked == [false; N] {
        return (tch::no_grad(|| formula(inputs.each_ref().map(|input| input.tensor.shallow_clone()))), None);
    }
    let leaves: [Tensor; N] = std::array::from_fn(|i| inputs[i].tensor.detach().set_requires_grad(tracked[i]));
    let root = tch::with_grad(|| formula(leaves.each_ref().map(Tensor::shallow_clone)));
    // Not `detach`: work in place on that would make LibTorch derive the graph of a view anew. What may not change is held, see `record`.
    let value = root.data();
    let leaves = leaves.into_iter().zip(tracked).filter_map(|(leaf, tracked)| tracked.then(|| TchTensor::new(leaf)));
    (value, Some(Rule::Graph { leaves: leaves.collect(), root: TchTensor::new(root) }))
}

/// What the gradients are computed from, and nothing may change until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Inputs,
    Value,
    Both,
}

/// max(x, 0), in place where nobody else holds x.
///
/// # Errors
/// As [`apply`].
pub fn relu(x: DispatchTensor) -> Result<DispatchTensor, DispatchTensor> {
    record([x], Reads::Value, |[x], [tracked]| {
        let y = if x.can_mut() { x.tensor.shallow_clone().relu_() } else { x.tensor.relu() };
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
    record([x], Reads::Inputs, |[x], [tracked]| {
        (x.tensor.glu(-1), tracked.then(|| Rule::Gate { input: TchTensor::new(x.tensor.shallow_clone()) }))
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
enum Rule {
    /// LibTorch's graph from copies of the tracked inputs that share their memory to the value.
    Graph { leaves: Vec<TchTensor>, root: TchTensor },
    /// The gradient where the value is above 0.
    Relu { output: TchTensor },
    /// That of [`gated`].
    Gate { input: TchTensor },
    /// That of the inputs before a bias, if one is tracked, and the sum over all dimensions but the last for the bias.
    Biased { rest: Option<Box<Rule>> },
}

#[allow(unsafe_code)] // The binding has no such function.
unsafe extern "C" {
    /// See `libtorch/gradients.cpp`.
    fn ibhost_gradients(
        value: *const c_void,
        gradient: *const c_void,
        leaves: *const *const c_void,
        count: usize,
        found: *mut *mut c_void,
        message: *mut c_char,
        length: usize,
    ) -> bool;
}

/// The gradients of `leaves` by LibTorch's own graph, from that of `root`.
#[allow(unsafe_code)] // The binding has no such function.
fn graph_gradients(root: &Tensor, gradient: &Tensor, leaves: &[TchTensor]) -> Vec<Tensor> {
    let mut found = vec![null_mut(); leaves.len()];
    let mut message = [0u8; 512];
    let pointer = |tensor: &Tensor| tensor.as_ptr().cast::<c_void>();
    let leaves: Vec<_> = leaves.iter().map(|leaf| pointer(&leaf.tensor)).collect();
    // SAFETY: all tensors live until the call returns; lists are as long as the counts beside them; it writes as many tensors as there are
    // leaves or else a message that ends within its length.
    let done = unsafe {
        let (places, text) = (found.as_mut_ptr(), message.as_mut_ptr().cast());
        ibhost_gradients(pointer(root), pointer(gradient), leaves.as_ptr(), leaves.len(), places, text, message.len())
    };
    // What fits together in the forward pass does so here.
    assert!(done, "LibTorch has no gradient: {}", CStr::from_bytes_until_nul(&message).unwrap_or_default().to_string_lossy());
    // SAFETY: the call has made a tensor for each leaf, and gives it away.
    found.into_iter().map(|tensor: *mut c_void| unsafe { Tensor::from_ptr(tensor.cast()) }).collect()
}

impl Rule {
    /// The gradients of the tracked inputs.
    fn gradients(self, gradient: TchTensor) -> Vec<Tensor> {
        match self {
            Self::Graph { leaves, root } => graph_gradients(&root.tensor, &gradient.tensor, &leaves),
            Self::Relu { output } => {
                let values = &gradient.tensor;
                vec![if gradient.can_mut() {
                    output.tensor.threshold_backward_grad_input(&values.shallow_clone(), values, 0)
                } else {
                    output.tensor.threshold_backward(values, 0)
                }]
            }
            Self::Gate { input } => vec![input.tensor.glu_backward(&gradient.tensor, -1)],
            Self::Biased { rest } => {
                let others: Vec<i64> = (0..gradient.tensor.dim() as i64 - 1).collect();
                let to_bias = gradient.tensor.sum_dim_intlist(others.as_slice(), false, None);
                let mut found = rest.map_or_else(Vec::new, |rest| rest.gradients(gradient));
                found.push(to_bias);
                found
            }
        }
    }
}

/// Computes a value, with its rule if an input is tracked, and puts it where the inputs are: in burn's graph or outside of it. The inputs and
/// the value are as [`apply`] asks.
///
/// # Errors
/// As [`apply`].
fn record<const N: usize>(
    inputs: [DispatchTensor; N],
    reads: Reads,
    compute: impl FnOnce(&[TchTensor; N], [bool; N]) -> (Tensor, Option<Rule>),
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
    let (value, rule) = compute(&inputs, tracked);
    if !tracks {
        return Ok(constant(value));
    }
    let output = TchTensor::new(value);
    let output = match (Node.prepare::<NoCheckpointing>(nodes).compute_bound().stateful(), rule) {
        (OpsKind::Tracked(preparation), Some(rule)) => {
            let mut held = if reads == Reads::Value { Vec::new() } else { inputs.to_vec() };
            held.extend((reads != Reads::Inputs).then(|| output.clone()));
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
    /// What the rule reads again: while it is held here, nobody works in place on it.
    held: Vec<TchTensor>,
}

impl<const N: usize> Backward<LibTorch, N> for Node {
    type State = State;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<LibTorch>(&ops.node);
        let State { rule, tracked, held } = ops.state;
        let mut found = rule.gradients(gradient).into_iter();
        for (parent, tracked) in ops.parents.into_iter().zip(tracked) {
            let result = if tracked { found.next() } else { None };
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<LibTorch>(parent.id, TchTensor::new(result));
            }
        }
        drop(held);
    }
}
