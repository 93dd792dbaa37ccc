//! Comparison of a kernel with its plain tensor formula: values and gradients, in both precisions, for contiguous and strided inputs.

use burn::backend::DispatchTensor;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Shapes and value ranges of the float inputs of one comparison.
pub struct Case {
    inputs: Vec<(Vec<usize>, f64, f64)>,
}

impl Case {
    /// Inputs of `shapes` with values spread over `[-1.5, 1.5]`.
    pub fn new(shapes: &[Vec<usize>]) -> Self {
        Self { inputs: shapes.iter().map(|shape| (shape.clone(), -1.5, 1.5)).collect() }
    }

    /// The same with input `index` spread over `[from, to]`.
    pub fn range(mut self, index: usize, from: f64, to: f64) -> Self {
        (self.inputs[index].1, self.inputs[index].2) = (from, to);
        self
    }
}

/// The inputs of one evaluation.
pub struct Inputs {
    leaves: Vec<(Tensor<1>, Vec<usize>)>,
    strided: bool,
}

impl Inputs {
    /// Input `index`, of rank `D`.
    pub fn get<const D: usize>(&self, index: usize) -> Tensor<D> {
        let (leaf, shape) = &self.leaves[index];
        let shape: [usize; D] = shape.clone().try_into().expect("the rank of the input");
        if !self.strided {
            return leaf.clone().reshape(shape);
        }
        if D == 1 {
            return leaf.clone().narrow(0, 2, shape[0]).reshape(shape);
        }
        let mut backwards = shape;
        backwards.reverse();
        leaf.clone().reshape(backwards).permute(std::array::from_fn(|i| (D - 1 - i) as isize))
    }
}

/// Spread-out numbers in [-1, 1] without a pattern that sums could hide.
fn number(i: usize, input: usize) -> f64 {
    ((i * 7 + 3 * input + 1) as f64 * 0.618_033_988_749_894_9).fract() * 2.0 - 1.0
}

fn leaf(case: &Case, index: usize, strided: bool, device: &Device, dtype: DType) -> Tensor<1> {
    let (shape, from, to) = &case.inputs[index];
    let n = shape.iter().product::<usize>() + if strided && shape.len() == 1 { 5 } else { 0 };
    let values: Vec<f64> = (0..n).map(|i| from + (to - from) * (number(i, index) + 1.0) / 2.0).collect();
    Tensor::from_data(TensorData::new(values, [n]), (device, dtype))
}

fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

type Results = (Vec<f64>, Vec<Option<Vec<f64>>>);

/// Value and gradients of `sum(weights * f)`; gradients only for the inputs `tracked` accepts.
fn evaluate<const D: usize>(
    case: &Case,
    f: &dyn Fn(&Inputs) -> DispatchTensor,
    strided: bool,
    dtype: DType,
    tracked: &dyn Fn(usize) -> bool,
) -> Results {
    let device = Device::flex().autodiff();
    let track = |i: usize, t: Tensor<1>| if tracked(i) { t.require_grad() } else { t };
    let leaves = (0..case.inputs.len()).map(|i| (track(i, leaf(case, i, strided, &device, dtype)), case.inputs[i].0.clone())).collect();
    let inputs = Inputs { leaves, strided };
    let y: Tensor<D> = Tensor::from_dispatch(f(&inputs));
    let flat: Tensor<1> = y.reshape([-1]);
    let n = flat.dims()[0];
    let value = numbers(flat.clone().inner());
    // The plain sum hands back an expanded, stride-0 gradient.
    let total = if strided {
        flat.sum()
    } else {
        let weights: Vec<f64> = (0..n).map(|i| number(i, 11)).collect();
        (flat * Tensor::<1>::from_data(TensorData::new(weights, [n]), (&device, dtype))).sum()
    };
    let gradients = total.backward();
    (value, inputs.leaves.iter().map(|(leaf, _)| leaf.grad(&gradients).map(numbers)).collect())
}

/// Value of `f` on a device without a graph, where nothing is kept for a backward pass.
fn evaluate_alone<const D: usize>(case: &Case, f: &dyn Fn(&Inputs) -> DispatchTensor, strided: bool, dtype: DType) -> Vec<f64> {
    let leaves = (0..case.inputs.len()).map(|i| (leaf(case, i, strided, &Device::flex(), dtype), case.inputs[i].0.clone())).collect();
    let y: Tensor<D> = Tensor::from_dispatch(f(&Inputs { leaves, strided }));
    numbers(y.reshape([-1]))
}

fn compare(found: &[f64], expected: &[f64], dtype: DType, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let size = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    let allowed = size * if dtype == DType::F64 { 1e-12 } else { 2e-5 };
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= allowed, "{what}, {dtype:?}: entry {i} is {a}, the plain formula gives {b} (allowed {allowed:e})");
    }
}

/// Checks `fused` against `plain`, both of rank `D`, for every combination of precision, layout, and which inputs are tracked.
///
/// # Panics
/// When a value or gradient differs by more than rounding.
pub fn check<const D: usize>(case: &Case, fused: impl Fn(&Inputs) -> DispatchTensor, plain: impl Fn(&Inputs) -> DispatchTensor) {
    let shapes: Vec<_> = case.inputs.iter().map(|(shape, ..)| shape).collect();
    for dtype in [DType::F32, DType::F64] {
        for strided in [false, true] {
            let [alone, expected] =
                [&fused as &dyn Fn(&Inputs) -> DispatchTensor, &plain].map(|f| evaluate_alone::<D>(case, f, strided, dtype));
            compare(&alone, &expected, dtype, &format!("value without a graph for {shapes:?}"));
            for only in std::iter::once(None).chain((0..case.inputs.len()).map(Some)) {
                let tracked = move |i: usize| only.is_none_or(|only| only == i);
                let (value, gradients) = evaluate::<D>(case, &fused, strided, dtype, &tracked);
                let (expected, expected_gradients) = evaluate::<D>(case, &plain, strided, dtype, &tracked);
                compare(&value, &expected, dtype, &format!("value for {shapes:?}"));
                for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
                    assert_eq!(found.is_some(), expected.is_some(), "gradient of input {i}");
                    if let (Some(found), Some(expected)) = (found, expected) {
                        compare(found, expected, dtype, &format!("gradient of input {i} for {shapes:?}"));
                    }
                }
            }
        }
    }
}
