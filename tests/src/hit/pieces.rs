//! Divergences, likelihoods, relaxed codes and the ladder's product by themselves.

use burn::tensor::{Gradients, Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::distributions::{
    Bernoulli, BoxedDistribution, Categorical, Distribution, LogisticMixture, Normal, Relaxation, one_sample, product, relaxed_one_hot,
};
use ibhost_hit::layers::{channels_last, positive};
use ibhost_hit::pixels::{PixelFamily, PixelLikelihood};
use serde_json::Value;

use super::Outcome;
use crate::golden::{at, close, close_tensor, device, float, member, tensor, tolerance, values};

fn input<const D: usize>(file: &Value, key: &str) -> Result<Tensor<D>, String> {
    Ok(float::<D>(at(file, &["inputs", key])?, &device())?.require_grad())
}

fn output<'a>(file: &'a Value, key: &str) -> Result<&'a Value, String> {
    at(file, &["outputs", key])
}

fn check_gradient<const D: usize>(file: &Value, key: &str, of: &Tensor<D>, gradients: &Gradients) -> Outcome {
    let found = of.grad(gradients).map_or_else(|| vec![0.0; of.dims().iter().product()], values);
    let (abs, rel) = tolerance(file);
    close(key, &found, &tensor(output(file, key)?)?.1, abs, rel)
}

/// Rows of images.
fn rows(x: Tensor<4>) -> Tensor<2> {
    let batch = x.dims()[0];
    x.reshape([batch as i32, -1])
}

pub(super) fn kl_gaussian(file: &Value) -> Outcome {
    let limits = tolerance(file);
    let [q_mu, q_std, p_mu, p_std] = ["q_mu", "q_std", "p_mu", "p_std"].map(|key| input::<2>(file, key));
    let (q_mu, q_std, p_mu, p_std) = (q_mu?, q_std?, p_mu?, p_std?);
    let q = Normal { mean: q_mu.clone(), scale: q_std.clone() };
    let p = Normal { mean: p_mu.clone(), scale: p_std.clone() };
    let divergence = q.kl(&p).ok_or("no closed form")?;
    close_tensor("kl", divergence.clone(), output(file, "kl")?, limits)?;
    close_tensor("kl_standard", q.kl_to_standard().ok_or("no rate")?, output(file, "kl_standard")?, limits)?;
    let gradients = divergence.mean().backward();
    for (key, of) in [("dq_mu", q_mu), ("dq_std", q_std), ("dp_mu", p_mu), ("dp_std", p_std)] {
        check_gradient(file, key, &of, &gradients)?;
    }
    Ok(())
}

/// A likelihood at the maps `fy` of a vector.
fn at_maps(
    file: &Value,
    family: PixelFamily,
    sigma: f64,
    log_sigma: Option<f64>,
) -> Result<(Tensor<4>, PixelLikelihood, BoxedDistribution), String> {
    let fy = input::<4>(file, "fy")?;
    let context = BuildContext::new(device(), 1);
    let mut likelihood = PixelLikelihood::new("golden", family, sigma, fy.dims()[1], &context).map_err(|error| error.to_string())?;
    if let Some(value) = log_sigma {
        likelihood.log_sigma = Some(context.constant([1], value));
    }
    let density = likelihood.density(channels_last(fy.clone()));
    Ok((fy, likelihood, density))
}

pub(super) fn gaussian(file: &Value) -> Outcome {
    let (_, sigmas) = tensor(at(file, &["inputs", "sigma"])?)?;
    for (i, sigma) in sigmas.into_iter().enumerate() {
        let (fy, _, density) = at_maps(file, PixelFamily::GaussianFixedSigma, sigma, None)?;
        let ll = density.log_prob(rows(input::<4>(file, "x")?)).map_err(|e| e.to_string())?;
        close_tensor(&format!("ll_{i}"), ll.clone(), output(file, &format!("ll_{i}"))?, tolerance(file))?;
        check_gradient(file, &format!("dfy_of_mean_{i}"), &fy, &ll.mean().backward())?;
    }
    Ok(())
}

pub(super) fn learned_gaussian(file: &Value) -> Outcome {
    let limits = tolerance(file);
    let (_, fresh, _) = at_maps(file, PixelFamily::GaussianLearnedSigma, 1.0, None)?;
    let start = fresh.log_sigma.ok_or("a learned sigma has no parameter")?.val();
    close("initial_log_sigma", &values(start), &tensor(output(file, "initial_log_sigma")?)?.1, limits.0, limits.1)?;
    let (_, raw) = tensor(at(file, &["inputs", "log_sigma"])?)?;
    for (i, log_sigma) in raw.into_iter().enumerate() {
        let (fy, likelihood, density) = at_maps(file, PixelFamily::GaussianLearnedSigma, 1.0, Some(log_sigma))?;
        let ll = density.log_prob(rows(input::<4>(file, "x")?)).map_err(|e| e.to_string())?;
        close_tensor(&format!("ll_{i}"), ll.clone(), output(file, &format!("ll_{i}"))?, limits)?;
        let gradients = ll.mean().backward();
        check_gradient(file, &format!("dfy_{i}"), &fy, &gradients)?;
        let parameter = likelihood.log_sigma.ok_or("a learned sigma has no parameter")?.val();
        check_gradient(file, &format!("dlog_sigma_{i}"), &parameter, &gradients)?;
    }
    Ok(())
}

pub(super) fn bernoulli(file: &Value) -> Outcome {
    // The vector starts at the probabilities, which sigmoids of finite numbers do not reach.
    let fy = input::<4>(file, "fy")?;
    let fresh =
        PixelLikelihood::new("golden", PixelFamily::Bernoulli, 1.0, 1, &BuildContext::new(device(), 1)).map_err(|e| e.to_string())?;
    let fresh = fresh.density(Tensor::zeros([1, 1, 1, 1], &device()));
    let guard = fresh.downcast::<Bernoulli>().ok_or("the likelihood has no guard")?.guard;
    let ll = Bernoulli { probabilities: rows(fy.clone()), guard }.log_prob(rows(input::<4>(file, "x")?)).map_err(|e| e.to_string())?;
    close_tensor("ll", ll.clone(), output(file, "ll")?, tolerance(file))?;
    let gradients = ll.mean().backward();
    let (shape, want) = tensor(output(file, "dfy_first_row")?)?;
    let found = fy.grad(&gradients).ok_or("the likelihood has no gradient")?;
    let [batch, channels, height, width] = found.dims();
    if channels * width * batch != shape.iter().product::<usize>() || height == 0 {
        return Err(format!("the first rows of {batch} images of {channels} channels are not of shape {shape:?}"));
    }
    let (abs, rel) = tolerance(file);
    // The vector holds one row of every image, the same in all, and does not say which.
    let row = |row: usize| close("dfy_first_row", &values(found.clone().narrow(2, row, 1)), &want, abs, rel);
    if (0..height).any(|index| row(index).is_ok()) { Ok(()) } else { row(0) }
}

fn mixture_of(maps: Tensor<4>) -> LogisticMixture {
    LogisticMixture { parameters: channels_last(maps) }
}

pub(super) fn mixture(file: &Value) -> Outcome {
    let limits = file.get("tolerance").and_then(|t| t.get("f64")).map_or_else(|| tolerance(file), tolerance);
    let l = input::<4>(file, "l")?;
    let ll = mixture_of(l.clone()).log_prob(rows(input::<4>(file, "x")?)).map_err(|e| e.to_string())?;
    close_tensor("ll", ll.clone(), output(file, "ll")?, limits)?;
    let gradients = ll.mean().backward();
    let found = l.grad(&gradients).ok_or("the likelihood has no gradient")?;
    close_tensor("dl_of_mean", found, output(file, "dl_of_mean")?, limits)
}

pub(super) fn mixture_sample(file: &Value) -> Outcome {
    let l = input::<4>(file, "l")?;
    let [batch, _, height, width] = l.dims();
    let uniform = |key: &str| -> Result<Tensor<3>, String> {
        let u = input::<4>(file, key)?;
        let last = u.dims()[3];
        Ok(u.reshape([batch, height * width, last]))
    };
    let sample = mixture_of(l).from_uniform(uniform("u_mixture")?, uniform("u_logistic")?);
    let sample = sample.mul_scalar(2.0).sub_scalar(1.0).reshape([batch, 3, height, width]);
    close_tensor("sample", sample, output(file, "sample")?, tolerance(file))
}

pub(super) fn gumbel(file: &Value) -> Outcome {
    let limits = tolerance(file);
    let w = input::<2>(file, "w")?;
    let uniform = input::<2>(file, "U")?;
    let mut checked = 0;
    for (key, want) in crate::golden::object(member(file, "outputs")?)? {
        let Some((temperature, kind)) = key.strip_prefix("z_t").and_then(|rest| rest.split_once('_')) else { continue };
        let hard = match kind {
            "hard" => true,
            "soft" => false,
            other => return Err(format!("`{other}` is not a known kind of sample")),
        };
        let logits = input::<2>(file, "logits")?;
        let relaxation = Relaxation { temperature: temperature.parse().map_err(|_| format!("`{key}` names no temperature"))?, hard };
        let z = relaxed_one_hot(logits.clone(), uniform.clone(), relaxation);
        close_tensor(key, z.clone(), want, limits)?;
        check_gradient(file, &format!("dlogits_t{temperature}_{kind}"), &logits, &(z * w.clone()).sum().backward())?;
        checked += 1;
    }
    let logits = input::<2>(file, "logits")?;
    let rate = Categorical::new(logits.clone()).kl_to_standard().ok_or("no rate")?;
    close_tensor("kl_uniform", rate.clone(), output(file, "kl_uniform")?, limits)?;
    check_gradient(file, "dkl_mean_dlogits", &logits, &rate.mean().backward())?;
    if checked > 0 { Ok(()) } else { Err("the vector has no sample".to_owned()) }
}

pub(super) fn ladder(file: &Value) -> Outcome {
    let limits = tolerance(file);
    let [mu_hat, pre, p_mu, p_std, w] = ["mu_hat", "pre_softplus", "p_mu", "p_std", "w"].map(|key| input::<2>(file, key));
    let (mu_hat, pre, p_mu, p_std, w) = (mu_hat?, pre?, p_mu?, p_std?, w?);
    let estimate = Normal { mean: mu_hat.clone(), scale: positive(pre.clone(), 0.0).sqrt() };
    let prior = Normal { mean: p_mu.clone(), scale: p_std.clone() };
    let q = product(&estimate, &prior).map_err(|error| error.to_string())?;
    let (mean, scale) = (q.mean.clone(), q.scale.clone());
    close_tensor("mu", mean, output(file, "mu")?, limits)?;
    close_tensor("std", scale, output(file, "std")?, limits)?;
    let eps = Tensor::from_data(TensorData::new(values(input::<2>(file, "eps")?), mu_hat.dims()), &device());
    let y = one_sample(&q, eps).map_err(|error| error.to_string())?;
    close_tensor("y", y.clone(), output(file, "y")?, limits)?;
    let gradients = (y * w).sum().backward();
    for (key, of) in [("dmu_hat", mu_hat), ("dpre_softplus", pre), ("dp_mu", p_mu), ("dp_std", p_std)] {
        check_gradient(file, key, &of, &gradients)?;
    }
    Ok(())
}
