//! Objectives of the 2017 notebook and of its JAX remake.

use ibhost_framework::math::NATS_PER_BIT;
use ibhost_framework::noise::Draws;
use ibhost_vib::terms::{ENSEMBLE_NOISE, LOSS_NOISE};
use serde_json::Value;

use super::Outcome;
use super::data::{batch_of, beta, by_path, compare_all, measure, noise, rows, scalars};
use super::model::Model;
use crate::golden;

pub(super) fn tf1(file: &Value) -> Outcome {
    let (inputs, outputs, tolerance) = (golden::member(file, "inputs")?, golden::member(file, "outputs")?, golden::tolerance(file));
    let images = golden::tensor(golden::member(inputs, "images")?)?;
    let weights = by_path(golden::member(inputs, "weights")?)?;
    let [eps, many] = [golden::tensor(golden::member(inputs, "eps")?)?, golden::tensor(golden::member(inputs, "eps12")?)?];
    let voters = many.0[0];
    let objective = format!("vib/beta:{}|eval_samples:{voters}", beta(inputs));
    let model = Model::mlp(&objective, "joint", rows(&images, 2.0)?.1, &weights)?;
    let batch = batch_of(&images, golden::member(inputs, "labels")?, 2.0)?;
    let draws = || Draws::recorded([noise(&eps, LOSS_NOISE), noise(&many, ENSEMBLE_NOISE)]);

    let posterior = model.posterior(&batch)?;
    let (mean, scale) = posterior.as_normal().ok_or("the posterior is not diagonal")?;
    golden::close_tensor("mu", mean.clone(), golden::member(outputs, "mu")?, tolerance)?;
    golden::close_tensor("sigma", scale.clone(), golden::member(outputs, "sigma")?, tolerance)?;
    let terms = model.vib.terms(&*posterior, &batch.labels, &mut draws());
    let [_, size, classes] = terms.logits.dims();
    golden::close_tensor("logits", terms.logits.reshape([size, classes]), golden::member(outputs, "logits")?, tolerance)?;

    let (total, trained, gradients) = model.train(&batch, &mut draws());
    let evaluated = model.evaluate(&batch, &mut draws());
    for measures in [&trained, &evaluated] {
        let (rate, information) = (measure(measures, "izx_bits")?, measure(measures, "izy_bits")?);
        let found = [
            ("total_loss_bits", measure(measures, "loss")?),
            ("class_loss_bits", (classes as f64).log2() - information),
            ("info_loss_bits", rate),
            ("IZX_bits", rate),
            ("IZY_bits", information),
            ("accuracy", measure(measures, "accuracy")?),
        ];
        scalars(&found, outputs, tolerance)?;
    }
    let vote = measure(&evaluated, &format!("accuracy_l{voters}"))?;
    scalars(&[("total_loss_bits", total), ("avg_accuracy", vote)], outputs, tolerance)?;
    compare_all("gradient", &gradients, golden::member(outputs, "grads")?, tolerance)
}

pub(super) fn jax(file: &Value) -> Outcome {
    let (inputs, outputs, tolerance) = (golden::member(file, "inputs")?, golden::member(file, "outputs")?, golden::tolerance(file));
    let images = golden::tensor(golden::member(inputs, "image")?)?;
    let weights = by_path(golden::member(inputs, "weights")?)?;
    let eps = golden::tensor(golden::member(inputs, "eps")?)?;
    let samples = golden::count(inputs, "num_samples")?;
    let objective = format!("vib/beta:{}|samples:{samples}|rate:monte_carlo|eval_samples:{samples}", beta(inputs));
    let model = Model::mlp(&objective, "separate", rows(&images, 1.0 / 128.0)?.1, &weights)?;
    let batch = batch_of(&images, golden::member(inputs, "label")?, 1.0 / 128.0)?;
    let draws = || Draws::recorded([noise(&eps, LOSS_NOISE), noise(&eps, ENSEMBLE_NOISE)]);

    let terms = model.vib.terms(&*model.posterior(&batch)?, &batch.labels, &mut draws());
    golden::close_tensor("c", terms.class.div_scalar(NATS_PER_BIT), golden::member(outputs, "c")?, tolerance)?;
    let rate = terms.rate.ok_or("a random code has a rate")?;
    golden::close_tensor("r", rate.div_scalar(NATS_PER_BIT), golden::member(outputs, "r")?, tolerance)?;
    let averaged = model.averaged_class(&batch, samples, &mut draws())?;
    golden::close_tensor("avg_loss", averaged.div_scalar(NATS_PER_BIT), golden::member(outputs, "avg_loss")?, tolerance)?;

    let (total, trained, gradients) = model.train(&batch, &mut draws());
    let evaluated = model.evaluate(&batch, &mut draws());
    let vote = measure(&evaluated, &format!("accuracy_l{samples}"))?;
    let found =
        [("loss", total), ("loss", measure(&evaluated, "loss")?), ("err", 1.0 - measure(&trained, "accuracy")?), ("avg_err", 1.0 - vote)];
    scalars(&found, outputs, tolerance)?;
    let each = golden::tensor(golden::member(outputs, "avg_loss")?)?.1;
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    golden::close("mean avg_loss", &[measure(&evaluated, &format!("class_l{samples}"))?], &[mean], tolerance.0, tolerance.1)?;
    compare_all("gradient", &gradients, golden::member(outputs, "grads")?, tolerance)
}
