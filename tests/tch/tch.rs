//! The same seed gives the same first step on flex and on LibTorch: parameters, noise and data order do not come from the backend.

// A test that unwraps says where it failed.
#![allow(clippy::unwrap_used)]

use burn::tensor::{DType, Device, Tensor, TensorData};
use ibhost_all as _;
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::device;
use ibhost_framework::engine::{Session, Stepper};
use ibhost_framework::objective::read_measures;
use ibhost_framework::run::Settings;
use ibhost_kernels::{
    ConvGeometry, batch_norm, batch_norm_train, conv_transpose2d, conv2d, gated, relu, shared_normal_log_density, softplus,
};

/// Quantities of the first `steps` steps on `device`.
fn first_steps(device: &str, objective: &str, encoder: &str, steps: u64) -> Vec<Vec<(String, f64)>> {
    let mut settings = Settings::new();
    for (key, value) in [("objective", objective), ("encoder", encoder), ("device", device)] {
        settings.set(key, value.into()).unwrap();
    }
    settings.set("average", 0.9.into()).unwrap();
    let (session, mut state) = Session::open(settings.resolve().unwrap(), &DataRoot("absent".into())).unwrap();
    let train_device = session.device.clone().autodiff();
    let order = session.noise.stream("data order", 1).permutation(session.train.len());
    let mut stepper = Stepper::default();
    let mut seen = Vec::new();
    for step in 0..steps {
        let size = session.config.training.batch_size;
        let batch = session.train.batch(&order[step as usize * size..(step as usize + 1) * size], &train_device);
        let measures;
        (state, measures) = stepper.step_on(&session, state, 1, &batch).unwrap();
        seen.push(read_measures(measures));
    }
    seen
}

fn compare(objective: &str, encoder: &str, steps: u64, tolerance: f64) {
    let (flex, torch) = (first_steps("flex", objective, encoder, steps), first_steps("tch", objective, encoder, steps));
    for (step, (a, b)) in flex.iter().zip(&torch).enumerate() {
        let loss = |measures: &[(String, f64)]| measures.iter().find(|(name, _)| name == "loss").unwrap().1;
        let (a, b) = (loss(a), loss(b));
        assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "{objective} {encoder} step {step}: flex {a}, tch {b}");
    }
    println!("{objective} with {encoder}: {steps} steps agree");
}

#[test]
fn first_step_losses_agree_to_1e_4() {
    compare("vib", "mlp/e1:64|e2:64|z:8", 1, 1e-4);
    compare("vdb/m:4", "mlp/e1:64|e2:64|z:3|cov:full", 1, 1e-4);
    compare("vdb", "resnet20/z:2", 1, 1e-4);
}

#[test]
fn training_goes_the_same_way() {
    compare("vib", "mlp/e1:64|e2:64|z:8", 10, 1e-3);
    compare("vdb/m:4", "resnet20/z:2", 5, 2e-2);
}

/// Value and gradients of the sum of squares of what `f` makes of tensors filled with fixed numbers, on `device`.
fn with_gradients(device: &Device, dtype: DType, shapes: &[Vec<usize>], f: &dyn Fn(&[Tensor<1>]) -> Tensor<4>) -> Vec<Vec<f64>> {
    let number = |i: usize, of: usize| ((7 * i + 3 * of + 1) as f64 * 0.618_033_988_749_894_9).fract() * 2.0 - 1.0;
    let leaves: Vec<Tensor<1>> = (0..shapes.len())
        .map(|of| {
            let n = shapes[of].iter().product();
            let values: Vec<f64> = (0..n).map(|i| number(i, of)).collect();
            Tensor::from_data(TensorData::new(values, [n]), (&device.clone().autodiff(), dtype)).require_grad()
        })
        .collect();
    let y = f(&leaves);
    let gradients = (y.clone() * y.clone()).sum().backward();
    let read = |t: Tensor<1>| t.into_data().iter::<f64>().collect::<Vec<f64>>();
    let mut results = vec![read(y.inner().reshape([-1]))];
    results.extend(leaves.iter().map(|leaf| read(leaf.grad(&gradients).expect("every input has a gradient"))));
    results
}

#[test]
fn layers_and_their_gradients_are_those_of_flex() {
    let image = |t: &Tensor<1>, [n, h, w, c]: [usize; 4]| t.clone().reshape([n, h, w, c]);
    let (x, w, b) = ([2, 5, 6, 3], [4, 3, 3, 3], [4]);
    let back = [3, 4, 3, 3];
    let geometries = [ConvGeometry::even(1, 1), ConvGeometry::even(2, 0), ConvGeometry { stride: [2, 1], padding: [[0, 1], [2, 0]] }];
    let mut cases: Vec<(String, Vec<Vec<usize>>, Box<dyn Fn(&[Tensor<1>]) -> Tensor<4>>)> = Vec::new();
    for geometry in geometries {
        let f = move |t: &[Tensor<1>]| conv2d(image(&t[0], x), t[1].clone().reshape(w), Some(t[2].clone()), geometry);
        cases.push((format!("{geometry:?}"), vec![x.to_vec(), w.to_vec(), b.to_vec()], Box::new(f)));
    }
    // Seen with the channels first in memory, as the first layer of a network sees its images.
    let f = move |t: &[Tensor<1>]| {
        let seen = t[0].clone().reshape([x[0], x[3], x[1], x[2]]).permute([0, 2, 3, 1]);
        conv2d(seen, t[1].clone().reshape(w), None, ConvGeometry::even(1, 1))
    };
    cases.push(("channels first".to_owned(), vec![x.to_vec(), w.to_vec()], Box::new(f)));
    let f = move |t: &[Tensor<1>]| conv_transpose2d(image(&t[0], x), t[1].clone().reshape(back), Some(t[2].clone()), 2, 1, 1);
    cases.push(("transposed".to_owned(), vec![x.to_vec(), back.to_vec(), b.to_vec()], Box::new(f)));
    for relu in [false, true] {
        let f = move |t: &[Tensor<1>]| {
            let result = batch_norm_train(image(&t[0], x), t[1].clone(), t[2].clone(), Some(image(&t[3], x)), 0.1, relu);
            // Mean and variance are for the moving statistics; here they are in the value, without gradient.
            result.output + (result.mean.detach() + result.variance.detach()).reshape([1, 1, 1, 3])
        };
        cases.push((format!("training, relu {relu}"), vec![x.to_vec(), vec![3], vec![3], x.to_vec()], Box::new(f)));
        let f = move |t: &[Tensor<1>]| {
            let squared = t[4].clone() * t[4].clone();
            batch_norm(image(&t[0], x), [t[1].clone(), t[2].clone(), t[3].clone(), squared], None, 0.1, relu)
        };
        cases.push((format!("evaluation, relu {relu}"), vec![x.to_vec(), vec![3], vec![3], vec![3], vec![3]], Box::new(f)));
    }
    cases.push(("relu".to_owned(), vec![x.to_vec()], Box::new(move |t| relu(image(&t[0], x)))));
    // Work in place on what a layer left, and not on what is read again.
    let f = move |t: &[Tensor<1>]| {
        let hidden = relu(conv2d(image(&t[0], x), t[1].clone().reshape(w), Some(t[2].clone()), ConvGeometry::even(1, 1)));
        let hidden = relu(conv_transpose2d(hidden, t[3].clone().reshape([4, 3, 3, 3]), Some(t[4].clone()), 1, 1, 0));
        hidden.clone() + relu(hidden - 0.1)
    };
    let shapes = vec![x.to_vec(), w.to_vec(), b.to_vec(), vec![4, 3, 3, 3], vec![3]];
    cases.push(("rectified layers".to_owned(), shapes, Box::new(f)));
    let f = move |t: &[Tensor<1>]| {
        let seen = t[0].clone().reshape([2, 1, 5, 6]).permute([0, 2, 3, 1]);
        conv2d(seen, t[1].clone().reshape([4, 1, 3, 3]), Some(t[2].clone()), ConvGeometry::even(1, 1))
    };
    cases.push(("one channel".to_owned(), vec![vec![60], vec![36], vec![4]], Box::new(f)));
    let f = move |t: &[Tensor<1>]| {
        let [points, means] = [&t[0], &t[1]].map(|t| t.clone().reshape([3, 20]));
        shared_normal_log_density(points, means, t[2].clone() * t[2].clone() + 0.3).reshape([3, 1, 1, 1])
    };
    cases.push(("normals of one scale".to_owned(), vec![vec![60], vec![60], vec![1]], Box::new(f)));
    cases.push(("softplus".to_owned(), vec![x.to_vec()], Box::new(move |t| softplus(image(&t[0], x), 0.5))));
    cases.push(("gated".to_owned(), vec![vec![2, 5, 3, 6]], Box::new(move |t| gated(image(&t[0], [2, 5, 3, 6])))));
    for (name, shapes, f) in &cases {
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-12)] {
            let [flex, torch] = [Device::flex(), device::parse("tch").unwrap()].map(|device| with_gradients(&device, dtype, shapes, f));
            for (part, (a, b)) in flex.iter().zip(&torch).enumerate() {
                let size = a.iter().fold(1e-3, |size: f64, v| size.max(v.abs()));
                let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(a.len() == b.len() && worst <= tolerance * size, "{name}, {dtype:?}, part {part}: {worst:e} of {size:e}");
            }
        }
    }
}
