//! A hidden layer with a location and a scale head, as small models use it, forward and backward in one operation each.

use burn::tensor::Tensor;

use crate::array::Array;
use crate::channels::transpose;
use crate::linear::{Activation, linear, one_minus_exp};
use crate::matmul::{Layout, product};
use crate::operation::{Operation, apply};
use crate::real::Real;
use crate::vectorised;

/// Multiplications of a forward pass from which it goes layer by layer: what one operation spares no longer counts, and the layers' own
/// products are spread over threads.
const LARGE_FROM: usize = 1 << 20;
/// Partial sums kept side by side. Their number is fixed, so that every machine adds in the same order.
const LANES: usize = 16;

/// Weight `[inputs, outputs]` and bias `[outputs]` of a dense layer.
pub type Affine = (Tensor<2>, Tensor<1>);

/// Location h A + a and scale exp(h C + c) + `min_scale`, with h = activation(x W + b); x `[batch, inputs]`, results `[batch, outputs]`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn normal_network(
    x: Tensor<2>,
    hidden: Affine,
    location: Affine,
    log_scale: Affine,
    activation: Activation,
    min_scale: f64,
) -> [Tensor<2>; 2] {
    let ([batch, inputs], [width, outputs]) = (x.dims(), location.0.dims());
    if batch == 0 || batch * width * (inputs + 2 * outputs) >= LARGE_FROM {
        return plain(x, hidden, location, log_scale, activation, min_scale);
    }
    let tensors = [
        x.into_dispatch(),
        hidden.0.into_dispatch(),
        hidden.1.into_dispatch(),
        location.0.into_dispatch(),
        location.1.into_dispatch(),
        log_scale.0.into_dispatch(),
        log_scale.1.into_dispatch(),
    ];
    match apply(Network { activation, min_scale }, tensors) {
        Ok(both) => {
            let both = Tensor::<3>::from_dispatch(both);
            [half(both.clone(), 0), half(both, 1)]
        }
        Err([x, w, b, a, a0, c, c0]) => plain(
            Tensor::from_dispatch(x),
            (Tensor::from_dispatch(w), Tensor::from_dispatch(b)),
            (Tensor::from_dispatch(a), Tensor::from_dispatch(a0)),
            (Tensor::from_dispatch(c), Tensor::from_dispatch(c0)),
            activation,
            min_scale,
        ),
    }
}

/// The same layer by layer.
fn plain(x: Tensor<2>, hidden: Affine, location: Affine, log_scale: Affine, activation: Activation, min_scale: f64) -> [Tensor<2>; 2] {
    let h = linear(x, hidden.0, Some(hidden.1), activation);
    let scale = linear(h.clone(), log_scale.0, Some(log_scale.1), Activation::Identity).exp().add_scalar(min_scale);
    [linear(h, location.0, Some(location.1), Activation::Identity), scale]
}

/// [`normal_network`] with the result `[2, batch, outputs]`: locations, then scales. Inside, features are rows and samples columns, so that
/// products and loops run along the batch, however few features there are; both heads are one product.
#[derive(Clone, Debug)]
struct Network {
    activation: Activation,
    min_scale: f64,
}

impl Operation<7> for Network {
    fn forward<T: Real>(&self, inputs: [Array<T>; 7], tracked: [bool; 7]) -> (Array<T>, Vec<Array<T>>) {
        let [x, w, b, a, a0, c, c0] = &inputs;
        let ([batch, fan_in], [rows, width], [a_rows, outputs]) = (sizes(x), sizes(w), sizes(a));
        assert!(fan_in == rows && b.len() == width, "a hidden layer of weight {:?} on {fan_in} inputs", w.shape());
        assert!(
            a_rows == width && c.shape() == a.shape() && a0.len() == outputs && c0.len() == outputs,
            "heads of weights {:?} and {:?} on {width} units",
            a.shape(),
            c.shape()
        );
        let mut h = product(w.as_slice(), Layout::Transposed, x.as_slice(), Layout::Transposed, [width, fan_in, batch]);
        add_to_rows(&mut h, b.as_slice());
        activate(&mut h, self.activation);
        let heads = side_by_side(a.as_slice(), c.as_slice(), outputs);
        let mut both = product(&heads, Layout::Transposed, &h, Layout::Rows, [2 * outputs, width, batch]);
        let (location, scale) = both.split_at_mut(outputs * batch);
        add_to_rows(location, a0.as_slice());
        add_to_rows(scale, c0.as_slice());
        vectorised!(|| for s in scale.iter_mut() {
            *s = s.exponential();
        });
        let mut out = [transposed(location, batch), transposed(scale, batch)].concat();
        let smallest = T::of(self.min_scale);
        vectorised!(|| out[batch * outputs..].iter_mut().for_each(|s| *s += smallest));
        let out = Array::new(out, &[2, batch, outputs]);
        if tracked == [false; 7] {
            return (out, Vec::new());
        }
        let saved = vec![
            x.clone(),
            w.clone(),
            Array::new(heads, &[width, 2 * outputs]),
            Array::new(h, &[width, batch]),
            Array::new(scale.to_vec(), &[outputs, batch]),
        ];
        (out, saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 7]) -> [Option<Array<T>>; 7] {
        let [x, w, heads, h, exponential] = [0, 1, 2, 3, 4].map(|i| &saved[i]);
        let ([batch, fan_in], [width, both]) = (sizes(x), sizes(heads));
        let outputs = both / 2;
        let (to_location, to_scale) = gradient.as_slice().split_at(batch * outputs);
        let mut to_heads = [transposed(to_location, outputs), transposed(to_scale, outputs)].concat();
        let to_log_scale = &mut to_heads[outputs * batch..];
        vectorised!(|| to_log_scale.iter_mut().zip(exponential.as_slice()).for_each(|(g, &e)| *g *= e));
        let mut to_hidden = product(heads.as_slice(), Layout::Rows, &to_heads, Layout::Rows, [width, both, batch]);
        deactivate(&mut to_hidden, h.as_slice(), self.activation);
        let (hidden, weight) = (to_hidden.as_slice(), w.as_slice());
        let to_x = || Array::new(product(hidden, Layout::Transposed, weight, Layout::Transposed, [batch, width, fan_in]), &[batch, fan_in]);
        let to_weight =
            || Array::new(product(x.as_slice(), Layout::Transposed, hidden, Layout::Transposed, [fan_in, batch, width]), &[fan_in, width]);
        let [to_a, to_c] = if wanted[3] || wanted[5] {
            let weights = product(h.as_slice(), Layout::Rows, &to_heads, Layout::Transposed, [width, batch, both]);
            [0, outputs].map(|from| {
                let columns = weights.chunks_exact(both.max(1)).flat_map(|row| row[from..from + outputs].iter().copied()).collect();
                Some(Array::new(columns, &[width, outputs]))
            })
        } else {
            [None, None]
        };
        let bias = |g: &[T]| {
            let sums = sums(g, batch);
            let n = sums.len();
            Array::new(sums, &[n])
        };
        let (to_location, to_log_scale) = to_heads.split_at(outputs * batch);
        [
            wanted[0].then(to_x),
            wanted[1].then(to_weight),
            wanted[2].then(|| bias(hidden)),
            to_a.filter(|_| wanted[3]),
            wanted[4].then(|| bias(to_location)),
            to_c.filter(|_| wanted[5]),
            wanted[6].then(|| bias(to_log_scale)),
        ]
    }
}

/// Part `index` of `[2, batch, outputs]`, as `[batch, outputs]`.
fn half(both: Tensor<3>, index: usize) -> Tensor<2> {
    match apply(Half(index), [both.into_dispatch()]) {
        Ok(part) => Tensor::from_dispatch(part),
        Err([both]) => {
            let both = Tensor::<3>::from_dispatch(both);
            let [_, batch, outputs] = both.dims();
            both.narrow(0, index, 1).reshape([batch, outputs])
        }
    }
}

#[derive(Clone, Debug)]
struct Half(usize);

impl Operation<1> for Half {
    fn forward<T: Real>(&self, [both]: [Array<T>; 1], _tracked: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let n = both.len() / 2;
        (Array::new(both.as_slice()[self.0 * n..][..n].to_vec(), &both.shape()[1..]), Vec::new())
    }

    fn backward<T: Real>(&self, _saved: Vec<Array<T>>, gradient: Array<T>, _wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let n = gradient.len();
        let mut both = vec![T::zero(); 2 * n];
        both[self.0 * n..][..n].copy_from_slice(gradient.as_slice());
        [Some(Array::new(both, &[2, gradient.shape()[0], gradient.shape()[1]]))]
    }
}

fn sizes<T: Real>(matrix: &Array<T>) -> [usize; 2] {
    [matrix.shape()[0], matrix.shape()[1]]
}

/// The transpose of a matrix of rows of `columns` numbers.
fn transposed<T: Real>(matrix: &[T], columns: usize) -> Vec<T> {
    let mut out = vec![T::zero(); matrix.len()];
    transpose(matrix, &mut out, [matrix.len() / columns.max(1), columns]);
    out
}

/// Adds bias j to row j.
fn add_to_rows<T: Real>(rows: &mut [T], bias: &[T]) {
    let batch = rows.len() / bias.len().max(1);
    vectorised!(|| {
        for (row, &bias) in rows.chunks_exact_mut(batch.max(1)).zip(bias) {
            for y in row {
                *y += bias;
            }
        }
    });
}

/// Two matrices of rows of `columns` numbers as one of rows of twice as many.
fn side_by_side<T: Real>(left: &[T], right: &[T], columns: usize) -> Vec<T> {
    let mut both = Vec::with_capacity(left.len() + right.len());
    for (left, right) in left.chunks_exact(columns.max(1)).zip(right.chunks_exact(columns.max(1))) {
        both.extend_from_slice(left);
        both.extend_from_slice(right);
    }
    both
}

/// The sums of the rows of `g`, `batch` long.
#[allow(clippy::needless_range_loop)] // With indices the compiler sees the fixed length and makes vectors of it.
fn sums<T: Real>(g: &[T], batch: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(g.len() / batch.max(1));
    vectorised!(|| {
        for g in g.chunks_exact(batch.max(1)) {
            let mut lanes = [T::zero(); LANES];
            let parts = g.chunks_exact(LANES);
            lanes.iter_mut().zip(parts.remainder()).for_each(|(lane, &g)| *lane = g);
            for part in parts {
                for lane in 0..LANES {
                    lanes[lane] += part[lane];
                }
            }
            out.push(total(lanes));
        }
    });
    out
}

/// The sum of partial sums, pairwise.
#[inline(always)]
fn total<T: Real>(mut lanes: [T; LANES]) -> T {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] += other;
        }
    }
    lanes[0]
}

fn activate<T: Real>(values: &mut [T], activation: Activation) {
    vectorised!(|| match activation {
        Activation::Identity => {}
        // A comparison, not `max`, so that a NaN stays one.
        Activation::Relu => {
            for y in values.iter_mut() {
                *y = if *y < T::zero() { T::zero() } else { *y };
            }
        }
        Activation::LeakyRelu(slope) => {
            let slope = T::of(slope);
            for y in values.iter_mut() {
                *y = if *y < T::zero() { slope * *y } else { *y };
            }
        }
        Activation::Tanh => {
            for y in values.iter_mut() {
                *y = y.hyperbolic_tangent();
            }
        }
        Activation::Softplus => {
            for y in values.iter_mut() {
                *y = y.softplus();
            }
        }
    });
}

/// Turns the gradient of the activation's results `y` into that of its arguments.
fn deactivate<T: Real>(gradient: &mut [T], y: &[T], activation: Activation) {
    vectorised!(|| {
        let pairs = gradient.iter_mut().zip(y);
        match activation {
            Activation::Identity => {}
            Activation::Relu => pairs.for_each(|(g, &y)| *g = if y == T::zero() { T::zero() } else { *g }),
            Activation::LeakyRelu(slope) => {
                let slope = T::of(slope);
                pairs.for_each(|(g, &y)| *g = if y < T::zero() { slope * *g } else { *g });
            }
            Activation::Tanh => pairs.for_each(|(g, &y)| *g *= T::one() - y * y),
            Activation::Softplus => {
                for (g, &y) in pairs {
                    *g *= one_minus_exp(y);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Inputs, check};
    use burn::tensor::TensorData;

    fn affine_of(t: &Inputs, at: usize) -> Affine {
        (t.get(at), t.get(at + 1))
    }

    #[test]
    fn values_and_gradients_are_those_of_the_layers_one_by_one() {
        for [batch, inputs, width, outputs] in [[1, 1, 1, 1], [1, 3, 5, 2], [17, 2, 50, 2], [33, 20, 7, 10], [128, 2, 50, 1]] {
            for activation in [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh, Activation::Softplus] {
                let spread = 1.0 / (inputs as f64).sqrt();
                let shapes = [
                    vec![batch, inputs],
                    vec![inputs, width],
                    vec![width],
                    vec![width, outputs],
                    vec![outputs],
                    vec![width, outputs],
                    vec![outputs],
                ];
                let case = Case::new(&shapes).range(1, -spread, spread).range(5, -0.1, 0.1);
                let joined = |[mean, scale]: [Tensor<2>; 2]| Tensor::cat(vec![mean, scale], 1).into_dispatch();
                check::<2>(
                    &case,
                    |t| joined(normal_network(t.get(0), affine_of(t, 1), affine_of(t, 3), affine_of(t, 5), activation, 0.01)),
                    |t| joined(plain(t.get(0), affine_of(t, 1), affine_of(t, 3), affine_of(t, 5), activation, 0.01)),
                );
            }
        }
    }

    /// Layers 4-6-3 of fixed numbers, in the precision of `like`.
    fn layers(like: &Tensor<2>) -> [Affine; 3] {
        [(4, 6), (6, 3), (6, 3)].map(|(rows, columns)| {
            let numbers: Vec<f64> = (0..rows * columns).map(|i| (i as f64 * 0.37).sin()).collect();
            let weight = Tensor::<1>::from_data(TensorData::new(numbers, [rows * columns]), (&like.device(), like.dtype()));
            (weight.clone().reshape([rows, columns]), weight.narrow(0, 0, columns))
        })
    }

    #[test]
    fn one_result_may_be_used_without_the_other() {
        for index in [0, 1] {
            let one = |results: [Tensor<2>; 2]| results[index].clone().into_dispatch();
            let with = |f: fn(Tensor<2>, Affine, Affine, Affine, Activation, f64) -> [Tensor<2>; 2], x: Tensor<2>| {
                let [hidden, location, log_scale] = layers(&x);
                f(x, hidden, location, log_scale, Activation::Tanh, 0.1)
            };
            check::<2>(&Case::new(&[vec![9, 4]]), |t| one(with(normal_network, t.get(0))), |t| one(with(plain, t.get(0))));
        }
    }
}
