//! The 2021 tutorial: its encoder and classifier, deterministic and stochastic, and its Cholesky head.

use burn::tensor::{Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::component::resolve;
use ibhost_framework::distributions::MultivariateNormal;
use ibhost_framework::encoder::{BoxedEncoder, EncoderConfig};
use ibhost_framework::ensemble::Ensemble;
use ibhost_framework::math::accuracy;
use ibhost_framework::noise::Draws;
use ibhost_framework::registry::Kind;
use ibhost_nets::head::{Covariance, ScaleMap, posterior};
use ibhost_vib::terms::{ENSEMBLE_NOISE, LOSS_NOISE};
use serde_json::Value;

use super::Outcome;
use super::data::{batch_of, by_path, compare_all, measure, noise, rows, scalars};
use super::model::{Model, width};
use crate::golden;

pub(super) fn deterministic(file: &Value) -> Outcome {
    let (inputs, outputs, tolerance) = (golden::member(file, "inputs")?, golden::member(file, "outputs")?, golden::tolerance(file));
    let images = golden::tensor(golden::member(inputs, "images")?)?;
    let weights = by_path(golden::member(inputs, "weights")?)?;
    let z = width(&weights, "model.encoder.head.bias")?;
    let model = Model::residual("vib/beta:0|unit:nats", "point", z, rows(&images, 1.0 / 128.0)?.1, &weights)?;
    let batch = batch_of(&images, golden::member(inputs, "labels")?, 1.0 / 128.0)?;
    let draws = || Draws::recorded([]);

    let posterior = model.posterior(&batch)?;
    golden::close_tensor("z", posterior.mean(), golden::member(outputs, "z")?, tolerance)?;
    let terms = model.vib.terms(&*posterior, &batch.labels, &mut draws());
    let [_, size, classes] = terms.logits.dims();
    golden::close_tensor("logits", terms.logits.reshape([size, classes]), golden::member(outputs, "logits")?, tolerance)?;
    let (total, _, gradients) = model.train(&batch, &mut draws());
    scalars(&[("loss_nats", total)], outputs, tolerance)?;
    compare_all("gradient", &gradients, golden::member(outputs, "grads")?, tolerance)
}

pub(super) fn vib(file: &Value) -> Outcome {
    let (inputs, outputs, tolerance) = (golden::member(file, "inputs")?, golden::member(file, "outputs")?, golden::tolerance(file));
    let output = |name| golden::member(outputs, name);
    let images = golden::tensor(golden::member(inputs, "images")?)?;
    let weights = by_path(golden::member(inputs, "weights")?)?;
    let eps = golden::tensor(golden::member(inputs, "eps")?)?;
    let [samples, _, z] = eps.0[..] else { return Err(format!("eps has shape {:?}, expected three dimensions", eps.0)) };
    let objective = format!(
        "vib/beta:{}|samples:{samples}|rate:monte_carlo|unit:nats|eval_samples:{samples}|vote:logits",
        golden::number(inputs, "beta")?
    );
    let features = rows(&images, 1.0 / 128.0)?.1;
    let model = Model::residual(&objective, "full", z, features, &weights)?;
    let batch = batch_of(&images, golden::member(inputs, "labels")?, 1.0 / 128.0)?;
    let draws = || Draws::recorded([noise(&eps, LOSS_NOISE), noise(&eps, ENSEMBLE_NOISE)]);

    // The deterministic encoder gives the outputs themselves.
    let outputs_of = format!(
        "residual_mlp/width:{}|z:{}|cov:point",
        width(&weights, "model.encoder.dense1.bias")?,
        width(&weights, "model.encoder.head.bias")?
    );
    let encoder = resolve::<dyn EncoderConfig>(Kind::Encoder, &outputs_of).map_err(|e| e.to_string())?.1;
    let encoder = BoxedEncoder::new(encoder.build([1, 1, features], &BuildContext::new(golden::device(), 0)).map_err(|e| e.to_string())?);
    let prefix = "model.encoder.";
    let own = weights.iter().filter_map(|(path, array)| Some((path.strip_prefix(prefix)?.to_owned(), array.clone()))).collect();
    let encoder = golden::load_parameters(encoder, &own)?;
    golden::close_tensor("head", encoder.encode(batch.inputs.clone()).mean(), output("head")?, tolerance)?;

    let posterior = model.posterior(&batch)?;
    let MultivariateNormal { mean, cholesky } = posterior.downcast().ok_or("the posterior is not full")?;
    golden::close_tensor("loc", mean.clone(), output("loc")?, tolerance)?;
    golden::close_tensor("scale_tril", cholesky.clone(), output("scale_tril")?, tolerance)?;
    golden::close_tensor("covariance", posterior.covariance().ok_or("no covariance")?, output("covariance")?, tolerance)?;
    let terms = model.vib.terms(&*posterior, &batch.labels, &mut draws());
    let size = batch.len();
    let rate = terms.rate.ok_or("a random code has a rate")?;
    golden::close_tensor("class_err", terms.class.mean_dim(0).reshape([size]), output("class_err")?, tolerance)?;
    golden::close_tensor("rate", rate.mean_dim(0).reshape([size]), output("rate")?, tolerance)?;
    let labels = batch.labels.clone().reshape([1, size]).expand([samples, size]);
    let correct = terms.logits.clone().argmax(2).reshape([samples, size]).equal(labels).float();
    golden::close_tensor("correct", correct, output("correct")?, tolerance)?;
    golden::close_tensor("logits", terms.logits, output("logits")?, tolerance)?;
    let raw = Ensemble::new(&model.vib.model, &*posterior, samples, ENSEMBLE_NOISE, &mut draws()).raw;
    golden::close_tensor(
        "lse_correct",
        raw.clone().argmax(1).reshape([size]).equal(batch.labels.clone()).float(),
        output("lse_correct")?,
        tolerance,
    )?;
    golden::close_tensor("lse_class_err", model.averaged_class(&batch, samples, &mut draws())?, output("lse_class_err")?, tolerance)?;

    let (total, trained, gradients) = model.train(&batch, &mut draws());
    let evaluated = model.evaluate(&batch, &mut draws());
    scalars(&[("loss_nats", total), ("loss_nats", measure(&evaluated, "loss")?)], outputs, tolerance)?;
    let share = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    for (name, found, want) in [
        ("mean correct", measure(&trained, "accuracy")?, share(golden::tensor(output("correct")?)?.1)),
        ("mean rate", measure(&trained, "izx_nats")?, share(golden::tensor(output("rate")?)?.1)),
        ("mean lse_correct", measure(&evaluated, &format!("accuracy_l{samples}"))?, golden::values(accuracy(raw, &batch.labels))[0]),
        ("mean lse_class_err", measure(&evaluated, &format!("class_l{samples}"))?, share(golden::tensor(output("lse_class_err")?)?.1)),
    ] {
        golden::close(name, &[found], &[want], tolerance.0, tolerance.1)?;
    }
    compare_all("gradient", &gradients, output("grads")?, tolerance)
}

pub(super) fn fill_scale_tril(file: &Value) -> Outcome {
    let tolerance = golden::tolerance(file);
    for case in golden::list(golden::member(file, "cases")?)? {
        let z = golden::count(case, "dim")?;
        let (shape, values) = golden::tensor(golden::member(case, "head")?)?;
        let [batch, outputs] = shape[..] else { return Err(format!("head has shape {shape:?}, expected two dimensions")) };
        let head = Tensor::<2>::from_data(TensorData::new(values.clone(), shape), &golden::device());
        let posterior = posterior(Covariance::Full, ScaleMap::Exp, head, z);
        let MultivariateNormal { mean, cholesky } = posterior.downcast().cloned().ok_or("the posterior is not full")?;
        let want: Vec<f64> = (0..batch).flat_map(|row| values[row * outputs..row * outputs + z].to_vec()).collect();
        golden::close(&format!("loc of {z} dimensions"), &golden::values(mean), &want, tolerance.0, tolerance.1)?;
        golden::close_tensor(&format!("factor of {z} dimensions"), cholesky, golden::member(case, "scale_tril")?, tolerance)?;
    }
    Ok(())
}
