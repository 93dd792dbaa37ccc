//! Golden vectors of the evaluations of generative models: classifiers, scores, information about the label, probes and their figures.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use ibhost_analyses::figures::rate_plane::colour::pair_colour;
use ibhost_analyses::figures::rate_plane::frontier::{Edge, frontier};
use ibhost_analyses::figures::rate_plane::grid::BetaGrid;
use ibhost_analyses::generation::fid::rgb_levels;
use ibhost_analyses::generation::frechet::{FeatureMoments, frechet_distance};
use ibhost_analyses::generation::inception_score::score;
use ibhost_analyses::generation::psnr::PooledError;
use ibhost_analyses::generation::reconstruction_accuracy::accuracy_and_entropy;
use ibhost_analyses::information::accuracy_bound::AccuracyBound;
use ibhost_analyses::information::kraskov::Rows;
use ibhost_analyses::information::label_information::{DrawnCodes, count_pairs, discrete_information, label_information_terms};
use ibhost_analyses::information::mixed_ksg::mixed_ksg;
use ibhost_analyses::probes::{Accuracies, Parts};
use ibhost_classifiers::ClassifierConfig;
use ibhost_classifiers::densenet::{Bottleneck, Transition};
use ibhost_classifiers::resnet18::ProjectedBlock;
use ibhost_datasets::binary_mnist::rounded;
use ibhost_framework::build::BuildContext;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::{Classifier, Parts as ObjectiveParts};
use ibhost_framework::registry::Kind;
use serde_json::Value;

use crate::golden::{
    Array, at, close, close_tensor, count, device, float, list, load_parameters, member, number, numbers, object, parameter_values, paths,
    permuted, scalar, tensor, text, tolerance,
};

type Outcome = Result<(), String>;

/// Checks a vector of the given kind; nothing for kinds that are checked elsewhere.
pub fn check(kind: &str, file: &Value) -> Option<Outcome> {
    Some(match kind {
        "acc_bound" => acc_bound(file),
        "binarise" => binarise(file),
        "classifier_blocks" => classifier_blocks(file),
        "full_size_classifiers" => full_size_classifiers(file),
        "simple_clf" => simple_clf(file),
        "fid" => fid(file),
        "inception_score" => inception_score(file),
        "mi_discrete" => mi_discrete(file),
        "mi_mc" => mi_mc(file),
        "mixed_ksg" => mixed(file),
        "psnr" => psnr(file),
        "recons_accuracy" => recons_accuracy(file),
        "plots" => plots(file),
        _ => return None,
    })
}

fn input(file: &Value, key: &str) -> Result<Array, String> {
    tensor(at(file, &["inputs", key])?)
}

fn output(file: &Value, key: &str) -> Result<Array, String> {
    tensor(at(file, &["outputs", key])?)
}

/// [`close`] of numbers and the recorded output `key`.
fn same(file: &Value, key: &str, found: &[f64]) -> Outcome {
    let (abs, rel) = tolerance(file);
    close(key, found, &output(file, key)?.1, abs, rel)
}

fn labels_of(file: &Value, key: &str) -> Result<Vec<u8>, String> {
    Ok(input(file, key)?.1.into_iter().map(|label| label as u8).collect())
}

fn acc_bound(file: &Value) -> Outcome {
    let limits = member(file, "tolerance")?;
    let (f_abs, bound_abs) = (number(limits, "f_abs")?, number(limits, "bound_abs")?);
    let accuracies = input(file, "accuracy")?.1;
    let mut sets = 0;
    for (key, value) in object(member(file, "inputs")?)? {
        let Some(set) = key.strip_prefix("label_counts_") else { continue };
        let bound = AccuracyBound::new(&tensor(value)?.1);
        let information: Vec<f64> = accuracies.iter().map(|&a| bound.information(a)).collect();
        close(set, &information, &output(file, &format!("f_of_accuracy_{set}"))?.1, f_abs, 0.0)?;
        let used = input(file, &format!("mi_used_{set}"))?.1;
        let found: Vec<f64> = used.into_iter().map(|i| bound.accuracy(i)).collect();
        close(set, &found, &output(file, &format!("accuracy_bound_{set}"))?.1, bound_abs, 0.0)?;
        sets += 1;
    }
    if sets == 0 { Err("no set of label counts is recorded".to_owned()) } else { Ok(()) }
}

fn binarise(file: &Value) -> Outcome {
    let found: Vec<f64> = input(file, "level")?.1.into_iter().map(|level| f64::from(rounded(level as u8))).collect();
    same(file, "binary", &found)
}

fn psnr(file: &Value) -> Outcome {
    let mut error = PooledError::default();
    for (key, value) in object(member(file, "inputs")?)? {
        if let Some(number) = key.strip_prefix("pred") {
            error.add(tensor(value)?.1, input(file, &format!("target{number}"))?.1);
        }
    }
    same(file, "psnr", &[error.psnr()])?;
    same(file, "range", &[error.range()])
}

/// Rows of a recorded matrix.
fn rows((shape, data): &Array) -> Vec<Vec<f64>> {
    data.chunks(shape.last().copied().unwrap_or(1).max(1)).map(<[f64]>::to_vec).collect()
}

fn recons_accuracy(file: &Value) -> Outcome {
    let [accuracy, entropy] = accuracy_and_entropy(&rows(&input(file, "logprob")?), &labels_of(file, "label")?);
    same(file, "accuracy", &[accuracy])?;
    same(file, "mean_entropy", &[entropy])
}

fn fid(file: &Value) -> Outcome {
    let moments = |key: &str| -> Result<FeatureMoments, String> {
        let (shape, data) = input(file, key)?;
        let mut moments = FeatureMoments::new(shape.last().copied().unwrap_or(1));
        moments.add(&data);
        Ok(moments)
    };
    same(file, "fid", &[frechet_distance(&moments("feat_real")?, &moments("feat_fake")?)])?;
    let (shape, pixels) = input(file, "pixel")?;
    let [batch, channels, height, width] = *shape else { return Err(format!("images of shape {shape:?}")) };
    let size = channels * height * width;
    let levels: Vec<f64> = pixels.chunks(size.max(1)).take(batch).flat_map(|image| rgb_levels(image, channels)).map(f64::from).collect();
    close("pixel_u8", &levels, &output(file, "pixel_u8")?.1, 0.0, 0.0)
}

/// The uniform number of the vectors' rule: the top 24 bits of splitmix64 of seed 2^32 + i.
fn rule(seed: u64, i: u64) -> f64 {
    let mut z = (seed << 32).wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / (1u64 << 24) as f64
}

/// Seeds, scale and bonus of `sym(4070,i*K+k,5) + 4*[k == floor(u(4071,i)*K)], p = softmax`.
fn logit_rule(formula: &str) -> Result<(u64, f64, f64, u64), String> {
    let parts: Vec<f64> = formula.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|word| word.parse().ok()).collect();
    match parts[..] {
        [seed, scale, bonus, place] => Ok((seed as u64, scale, bonus, place as u64)),
        _ => Err(format!("cannot read the rule `{formula}`")),
    }
}

fn inception_score(file: &Value) -> Outcome {
    let inputs = member(file, "inputs")?;
    let (classes, n) = (scalar(member(inputs, "K")?)? as u64, scalar(member(inputs, "N")?)? as u64);
    let (seed, scale, bonus, place) = logit_rule(text(member(file, "meta")?, "logits")?)?;
    let row = |i: u64| {
        let favourite = (rule(place, i) * classes as f64).floor() as u64;
        let logit = |k: u64| (2.0 * rule(seed, i * classes + k) - 1.0) * scale + if k == favourite { bonus } else { 0.0 };
        let logits: Vec<f64> = (0..classes).map(logit).collect();
        let total = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        logits.into_iter().map(|l| l - total).collect::<Vec<f64>>()
    };
    let rows: Vec<Vec<f64>> = (0..n).map(row).collect();
    let mut checked = 0;
    for key in object(member(file, "outputs")?)?.keys() {
        let (name, splits) = key.rsplit_once('_').ok_or_else(|| format!("`{key}` names no number of splits"))?;
        let splits = splits.parse().map_err(|_| format!("`{key}` names no number of splits"))?;
        let score = score(&rows, splits);
        let found = match name {
            "is_mean" => score.mean,
            "is_std" => score.deviation,
            "diversity" => score.diversity,
            "sharpness" => score.sharpness,
            _ => return Err(format!("`{key}` is not a known output")),
        };
        same(file, key, &[found])?;
        checked += 1;
    }
    if checked == 0 { Err("no output is recorded".to_owned()) } else { Ok(()) }
}

fn mi_discrete(file: &Value) -> Outcome {
    let (codes, labels) = (input(file, "z_onehot")?, input(file, "l_onehot")?);
    let sizes = [codes.0[1], labels.0[1]];
    let counts = count_pairs(&codes.1, &labels.1, sizes);
    same(file, "counts", &counts)?;
    same(file, "mi_nats", &[discrete_information(&counts, sizes[1])])
}

fn mi_mc(file: &Value) -> Outcome {
    let (mean, scale, noise) = (input(file, "q_mu")?, input(file, "q_std")?, input(file, "eps")?);
    let code: Vec<f64> = mean.1.iter().zip(&scale.1).zip(&noise.1).map(|((m, s), e)| m + s * e).collect();
    let codes = DrawnCodes { mean: &mean.1, scale: &scale.1, code: &code, dim: mean.0[1] };
    let terms = label_information_terms(codes, &labels_of(file, "label")?, false);
    same(file, "per_example", &terms)?;
    let found = terms.iter().sum::<f64>() / terms.len() as f64;
    // The number of codes at once is a matter of memory, not of the value.
    let totals: Vec<&String> = object(member(file, "outputs")?)?.keys().filter(|key| key.starts_with("mi_nats")).collect();
    if totals.is_empty() {
        return Err("no total is recorded".to_owned());
    }
    totals.into_iter().try_for_each(|key| same(file, key, &[found]))
}

fn mixed(file: &Value) -> Outcome {
    let k = scalar(at(file, &["inputs", "k"])?)? as usize;
    for (key, pair) in [("mi_x_y", ["x", "y"]), ("mi_x_labels", ["x", "labels_onehot"]), ("mi_discrete", ["x_discrete", "y_discrete"])] {
        let [x, y] = pair.map(|name| input(file, name));
        let (x, y) = (x?, y?);
        let found = mixed_ksg(Rows::new(&x.1, x.0[1]), Rows::new(&y.1, y.0[1]), k).map_err(|error| error.to_string())?;
        same(file, key, &[found])?;
    }
    Ok(())
}

fn simple_clf(file: &Value) -> Outcome {
    let (codes, labels) = (input(file, "X")?, labels_of(file, "label")?);
    let order: Vec<usize> = input(file, "permutation")?.1.into_iter().map(|i| i as usize).collect();
    if order.iter().any(|&i| i >= labels.len()) {
        return Err("the permutation names rows that do not exist".to_owned());
    }
    let parts = Parts::new(&codes.1, &labels, codes.0[1], &order);
    close("n_test", &[parts.test_labels.len() as f64], &output(file, "n_test")?.1, 0.0, 0.0)?;
    close("rbf_gamma", &[parts.gamma()], &output(file, "rbf_gamma")?.1, 1e-6, 1e-6)?;
    let limits = member(file, "tolerance")?;
    let (exact, other) = (number(limits, "accuracy_kNN")?, number(limits, "accuracy_other_abs")?);
    let found = Accuracies::of(&parts);
    // A thousandth of a test point keeps rounding of the recorded shares out of it.
    let slack = 1e-3 / parts.test_labels.len().max(1) as f64;
    close("accuracy_kNN", &[found.knn], &output(file, "accuracy_kNN")?.1, exact + slack, 0.0)?;
    close("accuracy_svm-rbf", &[found.svm_rbf], &output(file, "accuracy_svm-rbf")?.1, other + slack, 0.0)?;
    close("accuracy_svm-linear", &[found.svm_linear], &output(file, "accuracy_svm-linear")?.1, other + slack, 0.0)?;
    let logistic = output(file, "accuracy_logistic")?.1;
    close("accuracy_logistic", &vec![found.logistic; logistic.len()], &logistic, other + slack, 0.0)
}

fn plots(file: &Value) -> Outcome {
    let largest = scalar(at(file, &["inputs", "max_beta"])?)?;
    let colours: Vec<f64> =
        input(file, "log_beta_pairs")?.1.chunks_exact(2).flat_map(|pair| pair_colour([pair[0], pair[1]], largest)).collect();
    same(file, "rgb", &colours)?;
    let rates = input(file, "rate")?.1;
    for (side, edge) in [("top", Edge::Upper), ("bottom", Edge::Lower)] {
        let values = input(file, &format!("value_{side}"))?.1;
        let points: Vec<[f64; 2]> = rates.iter().zip(values).map(|(&rate, value)| [rate, value]).collect();
        let found: Vec<f64> = frontier(&points, edge).into_iter().map(|i| i as f64).collect();
        same(file, &format!("support_{side}"), &found)?;
    }
    let betas = input(file, "betas")?.1;
    let grid = input(file, "grid")?.1;
    let pairs: Vec<[f64; 2]> = betas.iter().flat_map(|&lower| betas.iter().map(move |&top| [lower, top])).collect();
    let axes = BetaGrid::new(&pairs);
    let value = |pair: [f64; 2]| axes.cell(pair).and_then(|cell| grid.get(cell)).copied().unwrap_or(f64::NAN);
    let diagonal: Vec<f64> = axes.diagonal().into_iter().map(|cell| grid[cell]).collect();
    same(file, "diagonal_without_one", &diagonal)?;
    same(file, "beta_one", &[value([1.0, 1.0])])?;
    let (least, most) = (betas.iter().copied().fold(f64::INFINITY, f64::min), betas.iter().copied().fold(0.0, f64::max));
    same(file, "pair(min_y,max_z)_then(max_y,min_z)", &[value([least, most]), value([most, least])])
}

/// PyTorch's name of a weight or statistic as ours.
fn renamed(name: &str) -> String {
    let name = name.replace(".running_mean", ".moving_mean").replace(".running_var", ".moving_variance");
    let norm = name.rsplit('.').nth(1).is_some_and(|part| part.starts_with("bn"));
    let shortcut_norm = name.contains("shortcut.1.");
    if norm || shortcut_norm { name.replace(".weight", ".gamma").replace(".bias", ".beta") } else { name }
}

/// Evaluation mode, training mode and the statistics after one training pass of a block named `prefix`.
fn block<M: Module>(file: &Value, prefix: &str, fresh: M, forward: impl Fn(&M, Tensor<4>) -> Tensor<4>) -> Outcome {
    let mut weights = BTreeMap::new();
    for (key, value) in object(member(file, "inputs")?)? {
        if let Some(name) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'))
            && name != "x"
        {
            weights.insert(renamed(name), tensor(value)?);
        }
    }
    let block = load_parameters(fresh, &weights)?;
    let x = at(file, &["inputs", &format!("{prefix}.x")])?;
    let want = |part: &str| member(member(file, "outputs")?, &format!("{prefix}.{part}"));
    // A copy without autodiff's training flag normalises with the moving statistics.
    let evaluated = forward(&block.clone().freeze(), float(x, &device())?);
    close_tensor(&format!("{prefix}, evaluation"), evaluated, want("eval")?, tolerance(file))?;
    let trained = forward(&block, float(x, &device())?);
    close_tensor(&format!("{prefix}, training"), trained, want("train")?, tolerance(file))?;
    let after = parameter_values(&block);
    let start = format!("{prefix}.after_train.");
    for (key, want) in object(member(file, "outputs")?)? {
        if let Some(name) = key.strip_prefix(&start) {
            let path = renamed(name);
            let found = after.get(&path).ok_or_else(|| format!("there is no `{path}`"))?;
            let (abs, rel) = tolerance(file);
            close(key, found, &tensor(want)?.1, abs, rel)?;
        }
    }
    Ok(())
}

fn classifier_blocks(file: &Value) -> Outcome {
    let context = BuildContext::new(device(), 0);
    let names: Vec<String> = object(member(file, "inputs")?)?.keys().filter_map(|key| key.strip_suffix(".x").map(str::to_owned)).collect();
    if names.is_empty() {
        return Err("no block is recorded".to_owned());
    }
    for name in names {
        let shape = |part: &str| input(file, &format!("{name}.{part}.weight")).map(|(shape, _)| shape);
        if name.contains("resnet") {
            let (conv, shortcut) = (shape("conv1")?, shape("shortcut.0").is_ok());
            // Only the sizes of input and output tell the stride.
            let before = input(file, &format!("{name}.x"))?.0[2];
            let after = output(file, &format!("{name}.eval"))?.0[2];
            let stride = before.div_ceil(after.max(1));
            let fresh = ProjectedBlock::new([conv[1], conv[0]], stride, &context);
            if fresh.shortcut.is_some() != shortcut {
                return Err(format!("{name}: a recorded shortcut does not fit its sizes"));
            }
            block(file, &name, fresh, ProjectedBlock::forward_channels_first)?;
        } else if name.contains("bottleneck") {
            let fresh = Bottleneck::new(shape("conv1")?[1], shape("conv2")?[0], &context);
            block(file, &name, fresh, Bottleneck::forward_channels_first)?;
        } else if name.contains("transition") {
            let conv = shape("conv")?;
            block(file, &name, Transition::new([conv[1], conv[0]], &context), Transition::forward_channels_first)?;
        } else {
            return Err(format!("`{name}` is not a known block"));
        }
    }
    Ok(())
}

/// Encoder of a recorded network and the name it goes by.
fn encoder_of(name: &str, net: &Value) -> Result<String, String> {
    let first = numbers(member(list(member(net, "tensors")?)?.first().ok_or("no tensor is recorded")?, "shape")?)?;
    let channels = first.first().copied().unwrap_or(0.0) as usize;
    match name {
        "mnist_cnn" => Ok("mnist_cnn".to_owned()),
        _ if name.contains("resnet18") => Ok(format!("resnet18/width:{channels}")),
        _ if name.contains("densenet") => Ok(format!("densenet/growth:{}", channels / 2)),
        _ => Err(format!("`{name}` is not a known network")),
    }
}

/// The value of tensor number `position` of a network at place `i`, in PyTorch's layout.
fn rule_values(kind: RuleKind, seed: u64, size: usize, fan_in: usize) -> Vec<f64> {
    (0..size as u64)
        .map(|i| match kind {
            RuleKind::Weight => (2.0 * rule(seed, i) - 1.0) * (3.0 / fan_in as f64).sqrt(),
            RuleKind::Shift => (2.0 * rule(seed, i) - 1.0) * 0.2,
            RuleKind::Positive => 0.5 + rule(seed, i),
        })
        .collect()
}

#[derive(Clone, Copy)]
enum RuleKind {
    /// `sym sqrt(3/fan_in)`
    Weight,
    /// `sym 0.2`
    Shift,
    /// `0.5+u`
    Positive,
}

fn full_size_classifiers(file: &Value) -> Outcome {
    for (name, net) in object(at(file, &["meta", "nets"])?)? {
        full_size_classifier(file, name, net).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn full_size_classifier(file: &Value, name: &str, net: &Value) -> Outcome {
    let shape: Vec<usize> = numbers(member(net, "input_shape")?)?.into_iter().map(|n| n as usize).collect();
    let [batch, channels, height, width] = *shape else { return Err(format!("images of shape {shape:?}")) };
    let want = output(file, name)?;
    let component = encoder_of(name, net)?;
    let encoder = resolve::<dyn EncoderConfig>(Kind::Encoder, &component).map_err(|e| e.to_string())?.1;
    let decoder = resolve::<dyn DecoderConfig>(Kind::Decoder, "linear").map_err(|e| e.to_string())?.1;
    let classes = (0..want.0[1]).map(|c| c.to_string()).collect();
    let data = DataInfo { name: name.to_owned(), classes, shape: [channels, height, width], note: None, class_entropy: None };
    let context = BuildContext::new(device(), 0);
    let parts = ObjectiveParts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context };
    let fresh = ClassifierConfig {}.objective(&parts).map_err(|e| e.to_string())?;

    // Modules list their tensors in the order of the originals: declaration order, a shortcut and a transition last.
    let (first_seed, n_tensors) = (count(net, "first_seed")? as u64, count(net, "n_tensors")?);
    let current = shapes(&fresh);
    if current.len() != n_tensors {
        return Err(format!("{} tensors, expected {n_tensors}", current.len()));
    }
    let recorded = list(member(net, "tensors")?)?;
    let mut weights = BTreeMap::new();
    let mut trained = 0;
    for (position, (path, shape)) in current.into_iter().enumerate() {
        let seed = first_seed + position as u64;
        let size: usize = shape.iter().product();
        let last = path.rsplit('.').next().unwrap_or_default();
        trained += if last.starts_with("moving") { 0 } else { size };
        let (kind, fan_in) = match (last, shape.len()) {
            ("weight", 4) => (RuleKind::Weight, shape[1..].iter().product()),
            ("weight", _) => (RuleKind::Weight, shape[0]),
            ("gamma" | "moving_variance", _) => (RuleKind::Positive, 0),
            _ => (RuleKind::Shift, 0),
        };
        if let Some(entry) = recorded.iter().find(|t| count(t, "seed").is_ok_and(|s| s as u64 == seed)) {
            let listed = numbers(member(entry, "shape")?)?.into_iter().product::<f64>();
            if listed as usize != size {
                return Err(format!("`{path}` has {size} values, the recorded `{}` {listed}", text(entry, "name")?));
            }
        }
        let values = rule_values(kind, seed, size, fan_in);
        // Dense layers are recorded `[out, in]`.
        let array = match shape[..] {
            [input, output] => permuted(&(vec![output, input], values), &[1, 0])?,
            _ => (shape, values),
        };
        weights.insert(path, array);
    }
    if trained != count(net, "n_params")? {
        return Err(format!("{trained} parameters, expected {}", count(net, "n_params")?));
    }
    let model = load_parameters(fresh, &weights)?.valid();
    let seed = count(net, "seed_x")? as u64;
    let pixels: Vec<f64> = (0..(batch * channels * height * width) as u64).map(|i| rule(seed, i)).collect();
    let plain = device().without_autodiff();
    let inputs = Tensor::from_data(burn::tensor::TensorData::new(pixels, [batch, channels, height, width]), &plain);
    let found = model.class_log_probabilities(inputs, 1, &mut Draws::seeded(Noise::new(0), 0, "golden"));
    let sums: Vec<f64> = log_softmax(found.clone(), 1).exp().sum_dim(1).into_data().iter::<f64>().collect();
    close("probabilities", &sums, &vec![1.0; batch], 1e-9, 0.0)?;
    close_tensor(name, found, at(file, &["outputs", name])?, tolerance(file))
}

/// Paths and shapes of the parameters and running statistics of a module, in declaration order.
fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::with_capacity(paths(module).len());
    ibhost_framework::parameters::for_each(module, |seen| shapes.push((seen.path.to_owned(), seen.shape)));
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_rule_gives_the_published_numbers_and_wrong_outputs_are_noticed() {
        for (i, want) in [0.376_275_897, 0.643_903_494, 0.109_535_635].into_iter().enumerate() {
            assert!((rule(4000, i as u64) - want).abs() < 1e-9);
        }
        assert_eq!(logit_rule("sym(4070,i*K+k,5) + 4*[k == floor(u(4071,i)*K)], p = softmax"), Ok((4070, 5.0, 4.0, 4071)));
        let file = |bits: Value| json!({"inputs": {"level": {"shape": [2], "data": [127, 128]}}, "outputs": {"binary": {"shape": [2], "data": bits}}, "tolerance": {}});
        assert_eq!(check("binarise", &file(json!([0, 1]))), Some(Ok(())));
        assert!(check("binarise", &file(json!([1, 1]))).is_some_and(|r| r.is_err()));
        assert_eq!(check("unknown", &json!({})), None);
    }
}
