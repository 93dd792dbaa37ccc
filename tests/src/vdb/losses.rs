//! Class terms and rates on their own: `class_losses`, `info_loss_diag`, `info_loss_full`.

use burn::tensor::{Int, Tensor};
use ibhost_framework::distributions::MultivariateNormal;
use ibhost_framework::latent_classifier::{averaged_likelihood_loss, averaged_log_likelihood_loss};
use ibhost_framework::math::{NATS_PER_BIT, log_mean_softmax};
use ibhost_nets::head::{Covariance, ScaleMap, posterior};
use serde_json::Value;

use crate::golden::{close, close_tensor, count, device, float, labels, list, member, scalar, tensor, tolerance, values};

type ClassTerm = fn(Tensor<3>, &Tensor<1, Int>) -> Tensor<1>;

pub(super) fn class_losses(file: &Value) -> Result<(), String> {
    let device = device();
    let tolerance = tolerance(file);
    let (inputs, outputs) = (member(file, "inputs")?, member(file, "outputs")?);
    let logits: Tensor<3> = float(member(inputs, "logits")?, &device)?;
    let labels = labels(member(inputs, "y")?, &device)?;
    let terms: [(&str, ClassTerm); 2] = [("vdb", averaged_likelihood_loss), ("vib", averaged_log_likelihood_loss)];
    for (name, term) in terms {
        let bits = |logits: Tensor<3>| term(logits, &labels).div_scalar(NATS_PER_BIT);
        let tracked = logits.clone().require_grad();
        let loss = bits(tracked.clone());
        let gradients = loss.backward();
        let gradient = tracked.grad(&gradients).ok_or("the logits have no gradient")?;
        close_tensor(&format!("{name} loss"), loss, member(outputs, &format!("{name}_loss_bits"))?, tolerance)?;
        close_tensor(&format!("{name} gradient"), gradient, member(outputs, &format!("{name}_grad_logits"))?, tolerance)?;
        let first = bits(logits.clone().narrow(0, 0, 1));
        close_tensor(&format!("{name} of one sample"), first, member(outputs, &format!("{name}_loss_bits_first_sample_only"))?, tolerance)?;
    }
    close_tensor("mean softmax", log_mean_softmax(logits).exp(), member(outputs, "mean_softmax")?, tolerance)
}

pub(super) fn info_loss_diag(file: &Value) -> Result<(), String> {
    let device = device();
    let tolerance = tolerance(file);
    let (inputs, outputs) = (member(file, "inputs")?, member(file, "outputs")?);
    let mu: Tensor<2> = float::<2>(member(inputs, "mu")?, &device)?.require_grad();
    let rho: Tensor<2> = float::<2>(member(inputs, "rho")?, &device)?.require_grad();
    let raw = Tensor::cat(vec![mu.clone(), rho.clone()], 1);
    let q = posterior(Covariance::Diag, ScaleMap::Softplus, raw, mu.dims()[1]);
    let (_, scale) = q.as_normal().ok_or("the posterior is not diagonal")?;
    close_tensor("sigma", scale, member(outputs, "sigma")?, tolerance)?;
    let rate = q.kl_to_standard().ok_or("no rate")?.mean().div_scalar(NATS_PER_BIT);
    let gradients = rate.backward();
    close_tensor("rate", rate, member(outputs, "info_loss_bits")?, tolerance)?;
    close_tensor("gradient of mu", mu.grad(&gradients).ok_or("mu has no gradient")?, member(outputs, "grad_mu")?, tolerance)?;
    close_tensor("gradient of rho", rho.grad(&gradients).ok_or("rho has no gradient")?, member(outputs, "grad_rho")?, tolerance)
}

pub(super) fn info_loss_full(file: &Value) -> Result<(), String> {
    let tolerance = tolerance(file);
    for case in list(member(file, "cases")?)? {
        let k = count(case, "K")?;
        entry_order(k, member(case, "fill_triangular_of_iota")?, tolerance).map_err(|e| format!("K={k}: {e}"))?;
        full_case(k, case, tolerance).map_err(|e| format!("K={k}: {e}"))?;
    }
    Ok(())
}

/// Where entry number i (from 1) goes, read off the factor by inverting the map from entries to the factor.
fn entry_order(k: usize, want: &Value, (abs, rel): (f64, f64)) -> Result<(), String> {
    let n = k * (k + 1) / 2;
    let raw: Vec<f64> = (0..k + n).map(|i| if i < k { 0.0 } else { (i - k + 1) as f64 }).collect();
    let raw = Tensor::<1>::from_data(raw.as_slice(), &device()).reshape([1, k + n]);
    let q = posterior(Covariance::Full, ScaleMap::Softplus, raw, k);
    let cholesky = q.downcast::<MultivariateNormal>().ok_or("the posterior is not full")?.cholesky.clone();
    let found = values(cholesky).into_iter().enumerate().map(|(at, l)| match (at / k).cmp(&(at % k)) {
        std::cmp::Ordering::Less => l,
        std::cmp::Ordering::Equal => l + (-(-l).exp_m1()).ln() + 5.0,
        std::cmp::Ordering::Greater => (l - (-5f64).exp().ln_1p()) * 100.0,
    });
    let (shape, want) = tensor(want)?;
    if shape != [k, k] {
        return Err(format!("the recorded order has shape {shape:?}"));
    }
    close("entry order", &found.collect::<Vec<_>>(), &want, abs, rel)
}

fn full_case(k: usize, case: &Value, tolerance: (f64, f64)) -> Result<(), String> {
    let device = device();
    let (inputs, outputs) = (member(case, "inputs")?, member(case, "outputs")?);
    let mu: Tensor<2> = float::<2>(member(inputs, "mu")?, &device)?.require_grad();
    let entries: Tensor<2> = float::<2>(member(inputs, "cov_entries")?, &device)?.require_grad();
    let noise: Tensor<3> = float(member(inputs, "eps")?, &device)?;
    // Built again for the second backward pass, because the first consumes the graph.
    let build = || posterior(Covariance::Full, ScaleMap::Softplus, Tensor::cat(vec![mu.clone(), entries.clone()], 1), k);
    let q = build();
    let MultivariateNormal { cholesky, .. } = q.downcast().ok_or("the posterior is not full")?;
    close_tensor("factor", cholesky.clone(), member(outputs, "scale_tril")?, tolerance)?;
    close_tensor("covariance", q.covariance().ok_or("no covariance")?, member(outputs, "covariance")?, tolerance)?;
    let rate = q.kl_to_standard().ok_or("no rate")?.mean().div_scalar(NATS_PER_BIT);
    close("rate", &values(rate.clone()), &[scalar(member(outputs, "info_loss_bits")?)?], tolerance.0, tolerance.1)?;
    let gradients = rate.backward();
    close_tensor("gradient of mu", mu.grad(&gradients).ok_or("mu has no gradient")?, member(outputs, "grad_mu")?, tolerance)?;
    let gradient = entries.grad(&gradients).ok_or("the entries have no gradient")?;
    close_tensor("gradient of the entries", gradient, member(outputs, "grad_cov_entries")?, tolerance)?;
    let samples = build().rsample(noise).ok_or("no samples")?;
    close_tensor("samples", samples.clone(), member(outputs, "samples")?, tolerance)?;
    let gradients = samples.powi_scalar(2).sum().backward();
    let gradient = entries.grad(&gradients).ok_or("the entries have no gradient through the samples")?;
    close_tensor("gradient through the samples", gradient, member(outputs, "grad_sumsq_samples_wrt_cov_entries")?, tolerance)
}
