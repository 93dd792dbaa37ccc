//! Tests of the distributions against each other and against formulas.

use burn::tensor::{Device, Int, Tensor};

use super::*;
use crate::noise::{Draws, Noise};

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < tolerance), "{found:?} {expected:?}");
}

fn rows<const R: usize, const C: usize>(x: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(x, &Device::flex())
}

#[test]
fn diagonal_and_full_agree_where_they_describe_the_same_distribution() {
    let (mean, scale) = (rows([[0.3, -1.0], [2.0, 0.1]]), rows([[0.5, 1.5], [0.2, 1.0]]));
    let diagonal = Normal { mean: mean.clone(), scale: scale.clone() };
    let cholesky = scale.reshape([2, 2, 1]) * Tensor::<2>::eye(2, &Device::flex()).reshape([1, 2, 2]);
    let full = MultivariateNormal { mean, cholesky };
    let noise = Tensor::<3>::from_floats([[[0.1, -0.2], [1.0, 0.4]], [[0.0, 2.0], [-1.0, 0.3]]], &Device::flex());
    let of = |q: &dyn Distribution| {
        let prior = Normal { mean: rows([[0.1, 0.2], [0.3, 0.4]]), scale: rows([[1.5, 0.5], [2.0, 1.0]]) };
        [
            values(q.kl_to_standard().unwrap()),
            values(q.kl(&prior).unwrap()),
            values(q.rsample(noise.clone()).unwrap()),
            values(q.log_prob_of_noise(noise.clone()).unwrap()),
            values(q.covariance().unwrap()),
            values(q.deviation().unwrap()),
        ]
    };
    for (a, b) in of(&diagonal).iter().zip(of(&full)) {
        close(a, &b, 1e-5);
    }
}

#[test]
fn densities_at_codes_are_those_of_the_noise_that_leads_there() {
    let mean = rows([[0.3, -1.0, 0.5]]);
    let cholesky = Tensor::<3>::from_floats([[[0.5, 0.0, 0.0], [0.3, 1.2, 0.0], [-0.4, 0.2, 0.9]]], &Device::flex());
    let relaxation = Relaxation { temperature: 0.4, hard: true };
    let noise = Tensor::<3>::from_floats([[[0.1, -0.2, 1.0]]], &Device::flex());
    let all: [BoxedDistribution; 5] = [
        Normal { mean: mean.clone(), scale: rows([[0.5, 1.5, 0.7]]) }.boxed(),
        SharedScaleNormal { mean: mean.clone(), scale: Tensor::from_floats([0.6], &Device::flex()) }.boxed(),
        StandardNormal::new([1, 3], &Device::flex()).boxed(),
        MultivariateNormal { mean, cholesky }.boxed(),
        Categorical { logits: rows([[0.5, -0.2, 0.1]]), relaxation }.boxed(),
    ];
    for q in all {
        let codes = q.rsample(noise.clone()).unwrap().reshape([1, 3]);
        close(&values(q.log_prob(codes).unwrap()), &values(q.log_prob_of_noise(noise.clone()).unwrap()), 1e-5);
        close(&values(one_sample(&*q, noise.clone().reshape([1, 3])).unwrap()), &values(q.rsample(noise.clone()).unwrap()), 1e-12);
    }
}

#[test]
fn the_divergence_from_a_standard_normal_is_the_closed_form_of_it() {
    let mean = rows([[0.3, -1.0]]);
    let cholesky = Tensor::<3>::from_floats([[[0.5, 0.0], [0.3, 1.2]]], &Device::flex());
    let prior = Normal { mean: mean.zeros_like(), scale: mean.ones_like() };
    let all: [BoxedDistribution; 3] = [
        Normal { scale: mean.ones_like().mul_scalar(0.6), mean: mean.clone() }.boxed(),
        CentredNormal { features: 2, scale: 1.3, device: Device::flex() }.boxed(),
        MultivariateNormal { mean, cholesky }.boxed(),
    ];
    for q in all {
        let standard = q.kl_to_standard().or_else(|| q.as_normal().and_then(|(mean, scale)| Normal { mean, scale }.kl_to_standard()));
        let found = q.kl(&prior).or_else(|| q.as_normal().and_then(|(mean, scale)| Normal { mean, scale }.kl(&prior)));
        close(&values(found.unwrap()), &values(standard.unwrap()), 1e-5);
    }
    let q = Normal { mean: rows([[1.0]]), scale: rows([[0.5]]) };
    close(&values(q.kl_to_standard().unwrap()), &[0.5 * (1.0 + 0.25 - 1.0) + 2f64.ln()], 1e-6);
    assert_eq!(values(q.standard().kl_to_standard().unwrap()), [0.0]);
}

#[test]
fn a_point_has_no_density_and_no_rate() {
    let mean = rows([[0.3, -1.0]]);
    let (point, normal) = (Delta { value: mean.clone() }, Normal { scale: mean.ones_like(), mean: mean.clone() });
    assert_eq!(point.log_prob(mean.clone()).unwrap_err(), Undefined::Point);
    assert_eq!(point.log_prob_of_noise(mean.reshape([1, 1, 2])).unwrap_err(), Undefined::Point);
    assert!(point.kl_to_standard().is_none() && point.kl(&normal).is_none());
    assert_eq!(kl(&point, &normal).unwrap_err(), Undefined::Point);
    assert!(Undefined::Point.to_string().contains("cov:diag"), "{}", Undefined::Point);
    // Neither may one stand in for a prior.
    assert_eq!(kl(&normal, &point).unwrap_err(), Undefined::Divergence { posterior: "diagonal normal", prior: "deterministic" });
    assert_eq!(product(&point, &normal).unwrap_err(), Undefined::Product { estimate: "deterministic", prior: "diagonal normal" });
    assert!(!point.is_stochastic() && values(point.deviation().unwrap()) == [0.0, 0.0]);
}

#[test]
fn what_has_no_closed_form_is_none() {
    let device = Device::flex();
    let one = rows([[0.5]]);
    let mixture = NormalMixture {
        log_weights: rows([[0.5f32.ln(), 0.5f32.ln()]]),
        mean: Tensor::from_floats([[[-2.0], [2.0]]], &device),
        scale: Tensor::ones([1, 2, 1], &device),
    };
    let logistic = DiscretisedLogistic { location: one.clone(), log_scale: one.clone() };
    let normal = Normal { mean: one.clone(), scale: one.clone() };
    let relaxed = Categorical::new(rows([[0.1, 0.4]]));
    for q in [&mixture as &dyn Distribution, &logistic, &Bernoulli::new(one.clone())] {
        assert!(q.kl(&normal).is_none() && q.kl_to_standard().is_none() && q.as_normal().is_none() && q.logits().is_none(), "{q:?}");
    }
    assert!(normal.kl(&mixture).is_none() && normal.kl(&relaxed).is_none() && relaxed.kl(&normal).is_none());
    assert!(normal.logits().is_none() && relaxed.as_normal().is_none());
    assert!(
        logistic.rsample(one.clone().reshape([1, 1, 1])).is_none() && Bernoulli::new(one.clone()).rsample(one.reshape([1, 1, 1])).is_none()
    );
    assert!(kl(&mixture, &normal).unwrap_err().to_string().contains("mixture of normals"));
}

#[test]
fn categorical_posteriors_are_charged_against_the_prior_they_are_given() {
    let categorical = |logits: [f32; 3]| Categorical::new(rows([logits]));
    // Shares 1/2, 1/4, 1/4 from 1/4, 1/4, 1/2: ln 2 / 2 - ln 2 / 4.
    let (q, p) = (categorical([2f32.ln(), 0.0, 0.0]), categorical([0.0, 0.0, 2f32.ln()]));
    close(&values(q.kl(&p).unwrap()), &[0.25 * 2f64.ln()], 1e-6);
    close(&values(q.kl(&q).unwrap()), &[0.0], 1e-6);
    close(&values(q.kl(&categorical([0.7, 0.7, 0.7])).unwrap()), &values(q.kl_to_standard().unwrap()), 1e-6);
    close(&values(q.mean()), &[0.5, 0.25, 0.25], 1e-6);
    assert_eq!(values(q.point()), [1.0, 0.0, 0.0]);
    close(&values(q.standard().log_prob(q.point()).unwrap()), &[-3f64.ln()], 1e-6);
}

#[test]
fn log_probabilities_match_hand_computed_values() {
    let shared = SharedScaleNormal { mean: rows([[0.0, 1.0]]), scale: Tensor::from_floats([2.0], &Device::flex()) };
    let normal = Normal { mean: rows([[0.0, 1.0]]), scale: rows([[2.0, 2.0]]) };
    close(&values(shared.log_prob(rows([[1.0, 3.0]])).unwrap()), &values(normal.log_prob(rows([[1.0, 3.0]])).unwrap()), 1e-6);
    assert_eq!(values(one_sample(&shared, rows([[1.0, -1.0]])).unwrap()), [2.0, -1.0]);
    let bernoulli = Bernoulli::new(rows([[0.25, 0.5]]));
    close(&values(bernoulli.log_prob(rows([[1.0, 0.0]])).unwrap()), &[0.125f64.ln()], 1e-6);
    close(&values(bernoulli.log_prob(rows([[0.5, 1.0]])).unwrap()), &[0.5 * (0.25f64 * 0.75).ln() + 0.5f64.ln()], 1e-6);
    let certain = Bernoulli { probabilities: rows([[1.0, 0.25]]), guard: 1e-3 };
    close(&values(certain.log_prob(rows([[0.0, 1.0]])).unwrap()), &[1e-3f64.ln() + 0.251f64.ln()], 1e-3);
    let guarded = Bernoulli { probabilities: rows([[1.0, 0.0]]), guard: 1e-8 };
    close(&values(guarded.log_prob(rows([[1.0, 0.0], [0.0, 1.0]])).unwrap()), &[0.0, 2.0 * 1e-8f64.ln()], 1e-4);
}

#[test]
fn the_levels_of_a_logistic_variable_sum_to_almost_one() {
    let device = Device::flex();
    let levels = Tensor::<1, Int>::arange(0..256, &device).float().div_scalar(256.0).reshape([256, 1]);
    let at = |x: f32| Tensor::<2>::full([256, 1], x, &device);
    let total: f64 = values(DiscretisedLogistic { location: at(0.5), log_scale: at(-4.0) }.log_prob(levels).unwrap().exp()).iter().sum();
    assert!((total - 1.0).abs() < 1e-3, "{total}");
}

#[test]
fn draws_of_every_family_lie_around_the_mean_with_its_deviation() {
    let (device, count) = (Device::flex(), 4000);
    let column = |x: f32| Tensor::<2>::full([count, 1], x, &device);
    let mixture = NormalMixture {
        log_weights: Tensor::<2>::from_floats([[0.25f32.ln(), 0.75f32.ln()]], &device).expand([count, 2]),
        mean: Tensor::<3>::from_floats([[[-2.0], [2.0]]], &device).expand([count, 2, 1]),
        scale: Tensor::full([count, 2, 1], 0.5, &device),
    };
    let all: [(BoxedDistribution, f64); 7] = [
        (Normal { mean: column(1.0), scale: column(0.5) }.boxed(), 0.5),
        (SharedScaleNormal { mean: column(-1.0), scale: Tensor::full([1], 0.5, &device) }.boxed(), 0.5),
        (StandardNormal::new([count, 1], &device).boxed(), 1.0),
        (mixture.boxed(), (3.0f64 + 0.25).sqrt()),
        (Bernoulli::new(column(0.3)).boxed(), 0.21f64.sqrt()),
        (Bernoulli { probabilities: column(0.8), guard: 1e-8 }.boxed(), 0.4),
        (
            DiscretisedLogistic { location: column(0.5), log_scale: column(-4.0) }.boxed(),
            std::f64::consts::PI / 3f64.sqrt() * (-4f64).exp(),
        ),
    ];
    for (q, spread) in all {
        let sample = values(q.sample("test", &mut Draws::seeded(Noise::new(1), 0, "test")));
        let mean = values(q.mean())[0];
        let average = sample.iter().sum::<f64>() / count as f64;
        let deviation = (sample.iter().map(|x| (x - average).powi(2)).sum::<f64>() / count as f64).sqrt();
        assert!((average - mean).abs() < 5.0 * spread / (count as f64).sqrt() + 1.0 / 256.0, "{q:?}: {average} {mean}");
        assert!((deviation / spread - 1.0).abs() < 0.1, "{q:?}: {deviation} {spread}");
        assert!(q.deviation().is_none_or(|found| (values(found)[0] - spread).abs() < 1e-5), "{q:?}");
        assert!(!q.support().is_discrete() || sample.iter().all(|x| *x == 0.0 || *x == 1.0), "a draw of binary values is binary");
    }
}

#[test]
fn an_equal_mixture_is_the_mean_of_its_components_whatever_their_family() {
    let (mean, scale) = (rows([[0.5, -1.0], [0.0, 2.0]]), rows([[0.5, 0.7], [1.0, 0.3]]));
    let x = rows([[0.1, 0.2], [1.0, -1.0], [0.0, 0.0]]);
    let each = Normal { mean, scale };
    let expected = values(NormalComponents::equal(&each).unwrap().log_prob(x.clone()).unwrap());
    close(&values(EqualMixture { each: each.boxed() }.log_prob(x.clone()).unwrap()), &expected, 1e-5);
    let bits = Bernoulli::new(rows([[0.2, 0.9], [0.6, 0.5]]));
    assert!(NormalComponents::equal(&bits).is_none());
    let found = values(EqualMixture { each: bits.boxed() }.log_prob(rows([[1.0, 1.0]])).unwrap());
    close(&found, &[(0.5f64 * (0.2 * 0.9 + 0.6 * 0.5)).ln()], 1e-5);
    let full = MultivariateNormal { mean: rows([[0.0, 0.0]]), cholesky: Tensor::eye(2, &Device::flex()).reshape([1, 2, 2]) };
    assert!(NormalComponents::equal(&full).is_none() && NormalComponents::equal(&Delta { value: rows([[0.0]]) }).is_none());
    assert_eq!(EqualMixture { each: full.boxed() }.log_prob(x).unwrap_err(), Undefined::Component("full-covariance normal"));
}

#[test]
fn weights_of_components_are_used() {
    let prior = NormalComponents {
        mean: rows([[0.0], [50.0]]),
        scale: rows([[1.0], [1.0]]),
        log_weights: Some(Tensor::from_floats([0.9f32.ln(), 0.1f32.ln()], &Device::flex())),
    };
    close(&values(prior.log_prob(rows([[0.0]])).unwrap()), &[0.9f64.ln() - math::HALF_LN_2PI], 1e-5);
    close(&values(prior.mean()), &[5.0], 1e-4);
    let drawn = values(prior.draw(1000, ["component", "codes"], &mut Draws::seeded(Noise::new(1), 0, "test")));
    let share = drawn.iter().filter(|x| **x > 25.0).count() as f64 / 1000.0;
    assert!((share - 0.1).abs() < 0.03, "{share}");
}
