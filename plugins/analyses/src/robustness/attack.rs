//! Analysis `attack`: accuracy under gradient-sign attacks, one step (FGSM) or projected (PGD).

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::Classify;
use ibhost_framework::dataset::{Samples, Split};
use ibhost_framework::math::{log_likelihood, predicted};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::{BoxedObjective, Classifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{BATCH, not_empty};
use crate::numbers::share;

const NAME: &str = "attack";

/// What the attack ascends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttackLoss {
    /// -mean of the label's class score before the softmax: the paper's code.
    #[default]
    Logit,
    /// -mean of the label's ln probability: the attack of Goodfellow et al. 2015.
    CrossEntropy,
}

/// Which splits are attacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Splits {
    /// Training and test split.
    #[default]
    Both,
    /// The training split.
    Train,
    /// The test split.
    Test,
}

impl Splits {
    /// The splits with their names.
    pub fn list(self) -> Vec<(&'static str, Split)> {
        let (train, test) = (("train", Split::Train), ("test", Split::Test));
        match self {
            Self::Both => vec![train, test],
            Self::Train => vec![train],
            Self::Test => vec![test],
        }
    }
}

/// Share of inputs still classified right after a gradient-sign attack.
///
/// x' = clamp(x + eps sign(gradient), range of the scaled data), sign(0) = 0, eps in units of the scaled inputs. With `steps` above 1 the
/// projected attack: that many steps of 2.5 eps / steps, each projected to within eps of x. `conditional`: only inputs classified right
/// before the attack count, and the share is of those (none, shown as `-`, when no input is); otherwise the share is of all inputs. Models with noisy codes draw afresh at every
/// pass; one gradient serves every eps of a single-step attack. Models that do not show scores before the softmax are attacked through
/// their ln probabilities under either loss. An input whose gradient is 0 everywhere cannot be moved and counts as one that withstands:
/// `.._without_gradient` says how many there are, e.g. where the probability of a class has rounded to 1 (take `loss:logit`). A model whose
/// scores have no gradient at all is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Attack {
    /// Sizes of the change.
    #[schemars(length(min = 1, max = 100), inner(range(min = 0.0, max = 1_000_000.0)))]
    pub eps: Vec<f64>,
    /// What the attack ascends.
    pub loss: AttackLoss,
    /// Whether only inputs classified right before count.
    pub conditional: bool,
    /// Gradient steps.
    #[schemars(range(min = 1, max = 10_000))]
    pub steps: usize,
    /// Which splits are attacked.
    pub split: Splits,
    /// Attack the first N samples of a split only.
    #[schemars(range(min = 1))]
    pub first: Option<usize>,
}

impl Default for Attack {
    fn default() -> Self {
        Self { eps: vec![0.1, 0.2, 0.3], loss: AttackLoss::Logit, conditional: true, steps: 1, split: Splits::Both, first: None }
    }
}

/// The model as one whose outputs can be differentiated by the inputs; its parameters are constants and its layers evaluate.
pub(crate) fn differentiable(context: &AnalysisContext<'_>) -> BoxedObjective {
    BoxedObjective::new(context.model.erased_clone()).train().freeze()
}

/// The differentiable copy `model` of a classifier as one.
pub(crate) fn differentiable_classifier<'a>(model: &'a BoxedObjective, analysis: &str) -> Result<&'a dyn Classifier, AnalysisError> {
    model.capability::<Classify>().ok_or_else(|| no_gradient(analysis))
}

fn no_gradient(analysis: &str) -> AnalysisError {
    AnalysisError::Request(format!(
        "`{analysis}` follows the gradient of the class scores by the inputs, and this model's scores have none\n  hint: its objective must \
         compute them from the inputs by differentiable steps (`Classifier::logits`), without `detach` or `inner`"
    ))
}

/// Gradient of the scalar `total` by `inputs`, without autodiff.
///
/// # Errors
/// [`AnalysisError::Request`] in the name of `analysis` where `total` does not depend on the inputs by differentiable steps, and where the
/// gradient is not finite.
pub(crate) fn gradient_by(analysis: &str, total: &Tensor<1>, inputs: &Tensor<4>) -> Result<Tensor<4>, AnalysisError> {
    let gradient = if total.is_tracked() { inputs.grad(&total.backward()) } else { None };
    let gradient = gradient.ok_or_else(|| no_gradient(analysis))?;
    if sizes(&gradient).iter().any(|size| !size.is_finite()) {
        return Err(AnalysisError::Request(format!(
            "`{analysis}` cannot use this model: the gradient of its class scores by the inputs is not finite; analyse an earlier checkpoint"
        )));
    }
    Ok(gradient)
}

/// Sum of the absolute values of every input's gradient.
fn sizes(gradient: &Tensor<4>) -> Vec<f64> {
    let [batch, channels, height, width] = gradient.dims();
    gradient.clone().abs().reshape([batch, channels * height * width]).sum_dim(1).into_data().iter::<f64>().collect()
}

/// Gradient of the attacked loss with respect to `inputs`, without autodiff.
///
/// # Errors
/// [`AnalysisError::Request`] when there is none, or it is not finite.
pub fn input_gradient(
    model: &dyn Classifier,
    inputs: Tensor<4>,
    labels: &Tensor<1, Int>,
    loss: AttackLoss,
    draws: &mut Draws,
) -> Result<Tensor<4>, AnalysisError> {
    let inputs = inputs.detach().require_grad();
    let logits = model.logits(inputs.clone(), draws);
    let [batch, classes] = logits.dims();
    let total = match loss {
        AttackLoss::Logit => logits.gather(1, labels.clone().reshape([batch, 1])).mean().neg(),
        AttackLoss::CrossEntropy => log_likelihood(logits.reshape([1, batch, classes]), labels).mean().neg(),
    };
    gradient_by(NAME, &total, &inputs)
}

/// One step: clamp(x + eps sign(gradient), low, high).
pub fn step(inputs: Tensor<4>, gradient: Tensor<4>, eps: f64, (low, high): (f64, f64)) -> Tensor<4> {
    (inputs + gradient.sign().mul_scalar(eps)).clamp(low, high)
}

/// Which of `inputs` are classified as `labels`, with one fresh code each.
pub fn hits(model: &dyn Classifier, inputs: Tensor<4>, labels: &Tensor<1, Int>, draws: &mut Draws) -> Vec<bool> {
    let batch = inputs.dims()[0];
    let right: Tensor<1, Bool> = predicted(model.logits(inputs, draws)).reshape([batch]).equal(labels.clone());
    right.into_data().iter::<bool>().collect()
}

/// Inputs of one batch and what the attack needs to know of them; both models are the same, one of them on the autodiff device.
pub struct Target<'a> {
    /// Evaluation copy.
    pub model: &'a dyn Classifier,
    /// Differentiable copy, on the device of `autodiff`.
    pub gradient_model: &'a dyn Classifier,
    /// Autodiff device.
    pub autodiff: &'a Device,
    /// Range of the scaled inputs.
    pub range: (f64, f64),
}

/// What an attack on a number of inputs found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withstood {
    /// Inputs that count.
    pub counted: usize,
    /// How many of them withstand each eps.
    pub withstood: Vec<usize>,
    /// How many of them have a gradient of 0 and were not moved by its sign.
    pub without_gradient: usize,
}

impl Attack {
    /// The inputs after the attack of size `eps`. `first` is the gradient at the inputs.
    ///
    /// # Errors
    /// As [`input_gradient`].
    pub fn perturbed(
        &self,
        target: &Target<'_>,
        inputs: &Tensor<4>,
        labels: &Tensor<1, Int>,
        first: &Tensor<4>,
        eps: f64,
        draws: &mut Draws,
    ) -> Result<Tensor<4>, AnalysisError> {
        if self.steps <= 1 {
            return Ok(step(inputs.clone(), first.clone(), eps, target.range));
        }
        let size = 2.5 * eps / self.steps as f64;
        let mut x = inputs.clone();
        for index in 0..self.steps {
            let gradient = if index == 0 { first.clone() } else { self.gradient(target, &x, labels, draws)? };
            let moved = step(x, gradient, size, target.range) - inputs.clone();
            x = inputs.clone() + moved.clamp(-eps, eps);
        }
        Ok(x)
    }

    fn gradient(
        &self,
        target: &Target<'_>,
        inputs: &Tensor<4>,
        labels: &Tensor<1, Int>,
        draws: &mut Draws,
    ) -> Result<Tensor<4>, AnalysisError> {
        let data = labels.clone().into_data();
        let labels = Tensor::<1, Int>::from_data(data, target.autodiff);
        input_gradient(target.gradient_model, Tensor::from_inner(inputs.clone()), &labels, self.loss, draws)
    }

    /// How many inputs of a batch count, and how many of them withstand each eps.
    ///
    /// # Errors
    /// As [`input_gradient`].
    pub fn withstood(
        &self,
        target: &Target<'_>,
        inputs: Tensor<4>,
        labels: &Tensor<1, Int>,
        draws: &mut Draws,
    ) -> Result<Withstood, AnalysisError> {
        let (inputs, labels) = if self.conditional {
            let right = hits(target.model, inputs.clone(), labels, draws);
            let kept: Vec<i64> = right.iter().enumerate().filter(|(_, hit)| **hit).map(|(i, _)| i as i64).collect();
            if kept.is_empty() {
                return Ok(Withstood { withstood: vec![0; self.eps.len()], ..Withstood::default() });
            }
            let count = kept.len();
            let kept = Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), &inputs.device());
            (inputs.select(0, kept.clone()), labels.clone().select(0, kept))
        } else {
            (inputs, labels.clone())
        };
        let first = self.gradient(target, &inputs, &labels, draws)?;
        let withstood = |&eps: &f64| {
            let attacked = self.perturbed(target, &inputs, &labels, &first, eps, draws)?;
            Ok(hits(target.model, attacked, &labels, draws).into_iter().filter(|hit| *hit).count())
        };
        let withstood = self.eps.iter().map(withstood).collect::<Result<Vec<usize>, AnalysisError>>()?;
        let without_gradient = sizes(&first).into_iter().filter(|size| *size == 0.0).count();
        Ok(Withstood { counted: inputs.dims()[0], withstood, without_gradient })
    }

    fn attacked(
        &self,
        name: &str,
        samples: &Samples,
        target: &Target<'_>,
        context: &AnalysisContext<'_>,
    ) -> Result<Withstood, AnalysisError> {
        let order: Vec<usize> = (0..self.first.map_or(samples.len(), |n| n.min(samples.len()))).collect();
        let mut all = Withstood { withstood: vec![0; self.eps.len()], ..Withstood::default() };
        for (number, indices) in order.chunks(BATCH).enumerate() {
            let batch = samples.batch(indices, context.device);
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, &format!("{NAME}/{name}"));
            let found = self.withstood(target, batch.inputs, &batch.labels, &mut draws)?;
            all.counted += found.counted;
            all.without_gradient += found.without_gradient;
            all.withstood.iter_mut().zip(found.withstood).for_each(|(total, n)| *total += n);
        }
        if all.without_gradient > 0 {
            tracing::warn!(
                "`{NAME}`: the gradient of {} of {} inputs of the {name} split is 0, so that they were not attacked",
                all.without_gradient,
                all.counted
            );
        }
        Ok(all)
    }
}

#[typetag::serde(name = "attack")]
impl AnalysisConfig for Attack {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Classify>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let (low, high) = test.value_range();
        let boxed = differentiable(context);
        let gradient_model = differentiable_classifier(&boxed, NAME)?;
        let autodiff = context.device.clone().autodiff();
        let target = Target { model, gradient_model, autodiff: &autodiff, range: (f64::from(low), f64::from(high)) };
        let mut results = Results::default();
        for (name, split) in self.split.list() {
            let found = self.attacked(name, context.data.split(split), &target, context)?;
            let count = found.counted;
            for (eps, &withstood) in self.eps.iter().zip(&found.withstood) {
                let accuracy = Measured::share("accuracy", share(withstood, count)).along("split", name).along("eps", *eps);
                results.values.push(accuracy.at(format!("{name}_eps_{eps}")));
            }
            results = results.fact(format!("{name}_inputs"), count).fact(format!("{name}_without_gradient"), found.without_gradient);
        }
        Ok(results)
    }
}

ibhost_framework::register! {
    Analysis: Attack as AnalysisConfig, aliases: ["fgsm"],
    paper: "Goodfellow et al. 2015, arXiv:1412.6572; Madry et al. 2018, arXiv:1706.06083",
    example: "attack/eps:[0.1;0.2;0.3]", needs: [Classify, InputGradient],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    fn shares(config: &Attack, shape: Shape) -> Vec<f64> {
        let fixture = Fixture::new(shape, 300);
        let report = config.run(&fixture.context()).unwrap();
        assert_eq!(report.table().len(), 1 + 2 * config.eps.len());
        config.eps.iter().map(|eps| report.json()[format!("test_eps_{eps}")].as_f64().unwrap()).collect()
    }

    #[test]
    fn larger_changes_fool_more_and_more_steps_fool_at_least_as_many() {
        let one = shares(&Attack { eps: vec![0.0, 0.05, 0.5], loss: AttackLoss::CrossEntropy, ..Attack::default() }, Shape::Point);
        assert!(one[0] == 1.0 && one[1] > one[2] && one[2] < 0.5, "{one:?}");
        let many = shares(&Attack { eps: vec![0.05, 0.5], loss: AttackLoss::CrossEntropy, steps: 10, ..Attack::default() }, Shape::Point);
        assert!(many[0] <= one[1] + 0.02 && many[1] <= one[2] + 0.02, "{many:?} after {one:?}");
    }

    #[test]
    fn unconditional_shares_are_of_all_inputs() {
        let conditional = shares(&Attack { eps: vec![0.0], ..Attack::default() }, Shape::Point);
        let all = shares(&Attack { eps: vec![0.0], conditional: false, ..Attack::default() }, Shape::Point);
        assert!(conditional[0] == 1.0 && all[0] < 1.0 && all[0] > 0.3, "{all:?}");
        let noisy = Attack { eps: vec![0.0, 0.1], ..Attack::default() };
        let fixture = Fixture::new(Shape::Diagonal, 300);
        assert_eq!(noisy.run(&fixture.context()).unwrap().json(), noisy.run(&fixture.context()).unwrap().json());
    }

    #[test]
    fn of_no_inputs_there_is_no_share() {
        let mut fixture = Fixture::new(Shape::Point, 50);
        fixture.without_classes();
        let report = Attack { eps: vec![0.1], split: Splits::Test, ..Attack::default() }.run(&fixture.context()).unwrap();
        assert!(report.json()["test_inputs"] == 0 && report.json()["test_eps_0.1"].is_null(), "{}", report.json());
        assert_eq!(report.table()[1], ["test", "0.1", "-"]);
        let all = Attack { eps: vec![0.1], conditional: false, split: Splits::Test, ..Attack::default() };
        let refused = all.run(&fixture.context()).unwrap_err().to_string();
        assert!(refused.contains("gradient") && refused.contains("not finite"), "{refused}");
    }

    #[test]
    fn a_step_stays_in_the_range_and_zero_gradients_leave_the_input() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats([0.95, 0.0, 0.3], &device).reshape([1, 1, 1, 3]);
        let g = Tensor::<1>::from_floats([7.0, -0.1, 0.0], &device).reshape([1, 1, 1, 3]);
        let found: Vec<f32> = step(x, g, 0.1, (-1.0, 1.0)).into_data().try_to_vec().unwrap();
        assert_eq!(found, [1.0, -0.1, 0.3]);
    }

    /// A classifier that looks at its inputs as `path` says.
    #[derive(Debug)]
    struct Odd(&'static str);

    impl Classifier for Odd {
        fn class_log_probabilities(&self, inputs: Tensor<4>, _samples: usize, _draws: &mut Draws) -> Tensor<2> {
            let [batch, ..] = inputs.dims();
            let sum = inputs.reshape([batch as i32, -1]).sum_dim(1);
            let score = match self.0 {
                "detached" => sum.detach(),
                "constant" => Tensor::ones([batch, 1], &sum.device()),
                "blind" => sum.mul_scalar(0.0),
                "infinite" => sum.mul_scalar(f32::INFINITY),
                _ => sum,
            };
            Tensor::cat(vec![score.clone(), score.neg().sub_scalar(1.0)], 1)
        }
    }

    fn withstood_by(model: &Odd) -> Result<Withstood, AnalysisError> {
        let (device, autodiff) = (Device::flex(), Device::flex().autodiff());
        let target = Target { model, gradient_model: model, autodiff: &autodiff, range: (-1.0, 1.0) };
        let inputs = Tensor::<1>::from_floats([0.1, 0.2, -0.3, 0.4], &device).reshape([2, 1, 1, 2]);
        let attack = Attack { eps: vec![0.5], conditional: false, ..Attack::default() };
        attack.withstood(&target, inputs, &Tensor::from_ints([0, 0], &device), &mut Draws::seeded(Noise::new(1), 0, "test"))
    }

    #[test]
    fn scores_without_a_gradient_are_refused_and_those_that_are_flat_are_counted() {
        assert_eq!(withstood_by(&Odd("")).unwrap(), Withstood { counted: 2, withstood: vec![0], without_gradient: 0 });
        assert_eq!(withstood_by(&Odd("blind")).unwrap(), Withstood { counted: 2, withstood: vec![2], without_gradient: 2 });
        for path in ["detached", "constant"] {
            let error = withstood_by(&Odd(path)).unwrap_err().to_string();
            assert!(error.contains("`attack`") && error.contains("have none") && error.contains("hint: "), "{path}: {error}");
        }
        let error = withstood_by(&Odd("infinite")).unwrap_err().to_string();
        assert!(error.contains("not finite") && error.contains("earlier checkpoint"), "{error}");
    }
}
