//! Sampling, clustering, divergences, compression terms and losses on recorded numbers.

use burn::tensor::Tensor;
use ibhost_disenib::clustering::clustered;
use ibhost_disenib::compression::{Compression, Hfunc, pairwise_kl};
use ibhost_disenib::losses;
use ibhost_disenib::nets::dense_encoder::{StdMap, standard_deviation};
use ibhost_disenib::sampling::{repeat_labels, repeat_rows, spread, spread_each};
use ibhost_framework::distributions::{Delta, Distribution, Normal};
use ibhost_framework::latent_classifier::averaged_log_likelihood_loss;
use serde_json::Value;

use super::Outcome;
use super::data::tolerance;
use crate::golden::{self, at, close, close_tensor, device, float, member, number, object, scalar, values};

pub(super) fn sampling(file: &Value) -> Outcome {
    let (input, output, tolerance) = (member(file, "inputs")?, member(file, "outputs")?, tolerance(file));
    let rows = |key: &str| float::<2>(member(input, key)?, &device());
    let noise = |key: &str| float::<3>(member(input, key)?, &device());
    let (mean, std) = (rows("mu")?, rows("std")?);
    let [batch, latent] = mean.dims();
    let n = scalar(member(input, "n")?)? as usize;
    let one = rows("eps_one")?.reshape([batch, 1, latent]);
    close_tensor("z_one", spread_each(mean.clone(), std.clone(), one), member(output, "z_one")?, tolerance)?;
    let scalar_std = scalar(member(input, "std_scalar")?)?;
    let many = spread(mean.clone(), scalar_std, noise("eps_n_scalar_std")?);
    close_tensor("z_n_scalar_std", many, member(output, "z_n_scalar_std")?, tolerance)?;
    let many = spread_each(mean.clone(), std, noise("eps_n_tensor_std")?);
    close_tensor("z_n_tensor_std", many, member(output, "z_n_tensor_std")?, tolerance)?;
    // Without draws the code is its mean.
    close_tensor("z_n0", Delta { value: mean }.mean(), member(output, "z_n0")?, tolerance)?;
    close_tensor("x_repeat", repeat_rows(rows("x")?, n), member(output, "x_repeat")?, tolerance)?;
    let labels = repeat_labels(&golden::labels(member(input, "label")?, &device())?, n);
    let labels: Vec<f64> = labels.into_data().iter::<i64>().map(|l| l as f64).collect();
    close("label_repeat", &labels, &golden::tensor(member(output, "label_repeat")?)?.1, 0.0, 0.0)
}

pub(super) fn clustering(file: &Value) -> Outcome {
    let codes = float::<2>(at(file, &["inputs", "mu"])?, &device())?;
    for (key, want) in object(member(file, "outputs")?)? {
        let factor = key.rsplit('_').next().and_then(|text| text.parse::<f64>().ok()).ok_or_else(|| format!("`{key}` names no factor"))?;
        close_tensor(key, clustered(codes.clone(), factor), want, tolerance(file))?;
    }
    Ok(())
}

pub(super) fn gaussian_kl_density(file: &Value) -> Outcome {
    let (input, output, (abs, rel)) = (member(file, "inputs")?, member(file, "outputs")?, tolerance(file));
    let rows = |key: &str| Ok::<_, String>(float::<2>(member(input, key)?, &device())?.require_grad());
    let (mu1, std1, mu2, std2) = (rows("mu1")?, rows("std1")?, rows("mu2")?, rows("std2")?);
    let [batch, latent] = mu1.dims();
    let rate = Normal { mean: mu1.clone(), scale: std1.clone() }.kl_to_standard().ok_or("no rate")?;
    close_tensor("kl_std_normal", rate.clone(), member(output, "kl_std_normal")?, (abs, rel))?;
    let mean = rate.mean();
    close_tensor("kl_std_normal_batch_mean", mean.clone(), member(output, "kl_std_normal_batch_mean")?, (abs, rel))?;
    let gradients = mean.backward();
    for (key, leaf) in [("grad_batch_mean_mu1", &mu1), ("grad_batch_mean_std1", &std1)] {
        let gradient = leaf.grad(&gradients).ok_or("the rate does not depend on the posterior")?;
        close_tensor(key, gradient, member(output, key)?, (abs, rel))?;
    }
    // The divergences of one batch from another lie beside the diagonal blocks of all pairs of both.
    let both = |a: &Tensor<2>, b: &Tensor<2>| Tensor::cat(vec![a.clone(), b.clone()], 0);
    let pairs = values(pairwise_kl(both(&mu1, &mu2), both(&std1, &std2)));
    let kl: Vec<f64> = (0..batch).map(|i| pairs[i * 2 * batch + batch + i]).collect();
    close("kl_1_2", &kl, &golden::tensor(member(output, "kl_1_2")?)?.1, abs, rel)?;
    let per_dimension: Vec<f64> = kl.iter().map(|x| x / latent as f64).collect();
    close("kl_1_2_dim_mean", &per_dimension, &golden::tensor(member(output, "kl_1_2_dim_mean")?)?.1, abs, rel)?;
    // One dimension at a time the log density of the posterior is the recorded one.
    let density = |z: &[f64], sample: usize, row: usize, k: usize| {
        let (m, s) = (values(mu1.clone()), values(std1.clone()));
        let (m, s) = (m[row * latent + k], s[row * latent + k]);
        let column = |x: f64| Tensor::<2>::from_data([[x]], &device());
        let posterior = Normal { mean: column(m), scale: column(s) }.boxed();
        let noise = (z[sample * latent + k] - m) / s;
        posterior.log_prob_of_noise(column(noise).reshape([1, 1, 1])).map(|density| values(density)[0]).map_err(|error| error.to_string())
    };
    let z = values(mu2);
    let own = (0..batch * latent).map(|at| density(&z, at / latent, at / latent, at % latent)).collect::<Result<Vec<f64>, String>>()?;
    close("log_density_sample", &own, &golden::tensor(member(output, "log_density_sample_mu2_params_1")?)?.1, abs, rel)?;
    let (shape, mesh) = golden::tensor(member(output, "log_density_mesh_first2_of_mu2_params_1")?)?;
    let found = (0..mesh.len()).map(|at| density(&z, at / (shape[1] * latent), at / latent % shape[1], at % latent));
    let found = found.collect::<Result<Vec<f64>, String>>()?;
    close("log_density_mesh", &found, &mesh, abs, rel)
}

/// The parts of a key such as `nib_pow_0.5_lambda_0.01`.
fn case(key: &str) -> Option<(Compression, Hfunc, f64, f64)> {
    let parts: Vec<&str> = key.split('_').collect();
    let [term, hfunc, p, "lambda", lambda] = parts[..] else { return None };
    let term = match term {
        "vib" => Compression::Vib,
        "nib" => Compression::Nib,
        _ => return None,
    };
    let hfunc = match hfunc {
        "none" => Hfunc::None,
        "pow" => Hfunc::Pow,
        "exp" => Hfunc::Exp,
        _ => return None,
    };
    Some((term, hfunc, p.parse().ok()?, lambda.parse().ok()?))
}

pub(super) fn lagrangian_compression(file: &Value) -> Outcome {
    let (input, (abs, rel)) = (member(file, "inputs")?, tolerance(file));
    for (key, want) in object(member(file, "outputs")?)? {
        let (term, hfunc, p, lambda) = case(key).ok_or_else(|| format!("`{key}` is not a bound, a function and a weight"))?;
        let rows = |key: &str| Ok::<_, String>(float::<2>(member(input, key)?, &device())?.require_grad());
        let (mean, scale) = (rows("mu")?, rows("std")?);
        let bound = term.of(&Normal { mean: mean.clone(), scale: scale.clone() }).ok_or("no bound")?;
        close(&format!("{key}: bound"), &values(bound.clone()), &[number(want, "raw_compression")?], abs, rel)?;
        let weighted = hfunc.apply(bound, p).mul_scalar(lambda);
        close(&format!("{key}: weighted"), &values(weighted.clone()), &[number(want, "weighted_term")?], abs, rel)?;
        let gradients = weighted.backward();
        for (name, leaf) in [("grad_mu", &mean), ("grad_std", &scale)] {
            let gradient = leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like());
            close_tensor(&format!("{key}: {name}"), gradient, member(want, name)?, (abs, rel))?;
        }
    }
    Ok(())
}

pub(super) fn losses(file: &Value) -> Outcome {
    let (input, output, (abs, rel)) = (member(file, "inputs")?, member(file, "outputs")?, tolerance(file));
    let rows = |key: &str| Ok::<_, String>(float::<2>(member(input, key)?, &device())?.require_grad());
    let check = |name: &str, raw: Tensor<1>, weight: f64, leaf: &Tensor<2>, want: [(&str, &Value); 3]| -> Outcome {
        let weighted = raw.clone().mul_scalar(weight);
        let gradient = leaf.grad(&weighted.backward()).ok_or_else(|| format!("{name} has no gradient"))?;
        let scalar_of = |value: &Value| value.as_f64().map_or_else(|| scalar(value), Ok);
        close(&format!("{name}: {}", want[0].0), &values(raw), &[scalar_of(want[0].1)?], abs, rel)?;
        close(&format!("{name}: {}", want[1].0), &values(weighted), &[scalar_of(want[1].1)?], abs, rel)?;
        close_tensor(&format!("{name}: gradient"), gradient, want[2].1, (abs, rel))
    };
    let (logits, labels) = (rows("logits")?, golden::labels(member(input, "label")?, &device())?);
    let [batch, classes] = logits.dims();
    let term = averaged_log_likelihood_loss(logits.clone().reshape([1, batch, classes]), &labels);
    let three = |prefix: &str| -> Result<[(&'static str, &Value); 3], String> {
        let of = |key: &str| member(output, &format!("{prefix}_{key}"));
        Ok([("raw", of("raw")?), ("weighted", of("weighted")?), ("grad", of("grad")?)])
    };
    check("ce", term, 2.0, &logits, three("ce")?)?;
    let (made, target) = (rows("rec")?, float::<2>(member(input, "target")?, &device())?);
    let [n, width] = made.dims();
    let image = |x: Tensor<2>| x.reshape([n, 1, 1, width]);
    check("rec", losses::reconstruction(image(made.clone()), image(target)), 10.0, &made, three("rec")?)?;
    for (key, real) in [("gan_real", true), ("gan_fake", false)] {
        let (logits, want) = (rows("disc_logits")?, member(output, key)?);
        let of = |name| member(want, name);
        let term = losses::adversarial(logits.clone(), real);
        check(key, term, 0.1, &logits, [("raw", of("raw")?), ("weighted", of("weighted")?), ("grad", of("grad_logits")?)])?;
        let predicted = golden::tensor(of("pred")?)?.1;
        let share = predicted.iter().filter(|p| (**p > 0.5) == real).count() as f64 / predicted.len() as f64;
        close(&format!("{key}: hits"), &values(losses::discriminator_hits(logits, real)), &[share], abs, rel)?;
    }
    Ok(())
}

pub(super) fn estimator_losses(file: &Value) -> Outcome {
    let (input, (abs, rel)) = (member(file, "inputs")?, tolerance(file));
    let rows = |key: &str| Ok::<_, String>(float::<2>(member(input, key)?, &device())?.require_grad());
    let one = |name: &str, x: &Tensor<1>, want: f64| close(name, &values(x.clone()), &[want], abs, rel);
    let gradient = |leaf: &Tensor<2>, gradients: &burn::tensor::Gradients, want: &Value| {
        close_tensor("gradient", leaf.grad(gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like()), want, (abs, rel))
    };
    let main = at(file, &["outputs", "main_with_D_joint=D_a"])?;
    let (scores, s, t) = (rows("D_a")?, rows("s")?, rows("t")?);
    let term = scores.clone().mean().neg();
    one("loss_est", &term, number(main, "loss_est")?)?;
    one("est_logged", &scores.clone().mean(), number(main, "est_logged")?)?;
    gradient(&scores, &term.mul_scalar(0.5).backward(), member(main, "grad_D_weighted")?)?;
    let wall = losses::wall(s.clone(), t.clone(), 3.0);
    one("loss_wall", &wall, number(main, "loss_wall")?)?;
    let gradients = wall.mul_scalar(10.0).backward();
    gradient(&s, &gradients, member(main, "grad_s_wall_weighted")?)?;
    gradient(&t, &gradients, member(main, "grad_t_wall_weighted")?)?;
    let est = at(file, &["outputs", "est_with_D_prod=D_a_D_joint=D_b"])?;
    let (product, joint) = (rows("D_a")?, rows("D_b")?);
    let terms = losses::estimator(&product, &joint);
    one("loss_real", &terms.real, number(est, "loss_real")?)?;
    one("loss_fake", &terms.fake, number(est, "loss_fake")?)?;
    one("loss_zc", &terms.zero_centring, number(est, "loss_zc")?)?;
    one("est_real", &product.clone().mean(), number(est, "est_real")?)?;
    one("est_fake", &joint.clone().mean(), number(est, "est_fake")?)?;
    let total = terms.real + terms.fake + terms.zero_centring.mul_scalar(0.05);
    one("total", &total, number(est, "total")?)?;
    let gradients = total.backward();
    gradient(&product, &gradients, member(est, "grad_D_prod")?)?;
    gradient(&joint, &gradients, member(est, "grad_D_joint")?)
}

pub(super) fn vib_softplus(file: &Value) -> Outcome {
    let (input, output, tolerance) = (member(file, "inputs")?, member(file, "outputs")?, tolerance(file));
    let raw = float::<2>(member(input, "raw_encoder_output")?, &device())?;
    let z = raw.dims()[1] / 2;
    let (mean, shift) = (raw.clone().narrow(1, 0, z), scalar(member(input, "shift")?)?);
    let std = standard_deviation(raw.narrow(1, z, z), StdMap::Softplus, shift);
    close_tensor("mu", mean.clone(), member(output, "mu")?, tolerance)?;
    close_tensor("std", std.clone(), member(output, "std")?, tolerance)?;
    let eps = float::<2>(member(input, "eps")?, &device())?;
    let [batch, _] = eps.dims();
    close_tensor("z", spread_each(mean, std, eps.reshape([batch, 1, z])), member(output, "z")?, tolerance)
}
