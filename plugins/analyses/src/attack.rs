//! Analysis `attack`: accuracy under gradient-sign attacks, one step (FGSM) or projected (PGD).

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport};
use ibhost_framework::dataset::{Samples, Split};
use ibhost_framework::math::{log_likelihood, predicted};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::{BoxedObjective, Classifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::{BATCH, classifier, not_empty};
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
/// their ln probabilities under either loss.
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

/// Gradient of the attacked loss with respect to `inputs`, without autodiff.
pub fn input_gradient(
    model: &dyn Classifier,
    inputs: Tensor<4>,
    labels: &Tensor<1, Int>,
    loss: AttackLoss,
    draws: &mut Draws,
) -> Tensor<4> {
    let inputs = inputs.detach().require_grad();
    let logits = model.logits(inputs.clone(), draws);
    let [batch, classes] = logits.dims();
    let total = match loss {
        AttackLoss::Logit => logits.gather(1, labels.clone().reshape([batch, 1])).mean().neg(),
        AttackLoss::CrossEntropy => log_likelihood(logits.reshape([1, batch, classes]), labels).mean().neg(),
    };
    let gradients = total.backward();
    inputs.grad(&gradients).unwrap_or_else(|| inputs.inner().zeros_like())
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

impl Attack {
    /// The inputs after the attack of size `eps`. `first` is the gradient at the inputs.
    pub fn perturbed(
        &self,
        target: &Target<'_>,
        inputs: &Tensor<4>,
        labels: &Tensor<1, Int>,
        first: &Tensor<4>,
        eps: f64,
        draws: &mut Draws,
    ) -> Tensor<4> {
        if self.steps <= 1 {
            return step(inputs.clone(), first.clone(), eps, target.range);
        }
        let size = 2.5 * eps / self.steps as f64;
        let mut x = inputs.clone();
        for index in 0..self.steps {
            let gradient = if index == 0 { first.clone() } else { self.gradient(target, &x, labels, draws) };
            let moved = step(x, gradient, size, target.range) - inputs.clone();
            x = inputs.clone() + moved.clamp(-eps, eps);
        }
        x
    }

    fn gradient(&self, target: &Target<'_>, inputs: &Tensor<4>, labels: &Tensor<1, Int>, draws: &mut Draws) -> Tensor<4> {
        let data = labels.clone().into_data();
        let labels = Tensor::<1, Int>::from_data(data, target.autodiff);
        input_gradient(target.gradient_model, Tensor::from_inner(inputs.clone()), &labels, self.loss, draws)
    }

    /// How many inputs of a batch count, and how many of them withstand each eps.
    pub fn withstood(&self, target: &Target<'_>, inputs: Tensor<4>, labels: &Tensor<1, Int>, draws: &mut Draws) -> (usize, Vec<usize>) {
        let (inputs, labels) = if self.conditional {
            let right = hits(target.model, inputs.clone(), labels, draws);
            let kept: Vec<i64> = right.iter().enumerate().filter(|(_, hit)| **hit).map(|(i, _)| i as i64).collect();
            if kept.is_empty() {
                return (0, vec![0; self.eps.len()]);
            }
            let count = kept.len();
            let kept = Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), &inputs.device());
            (inputs.select(0, kept.clone()), labels.clone().select(0, kept))
        } else {
            (inputs, labels.clone())
        };
        let first = self.gradient(target, &inputs, &labels, draws);
        let withstood = |&eps: &f64| {
            let attacked = self.perturbed(target, &inputs, &labels, &first, eps, draws);
            hits(target.model, attacked, &labels, draws).into_iter().filter(|hit| *hit).count()
        };
        (inputs.dims()[0], self.eps.iter().map(withstood).collect())
    }

    fn attacked(&self, name: &str, samples: &Samples, target: &Target<'_>, context: &AnalysisContext<'_>) -> (usize, Vec<f64>) {
        let order: Vec<usize> = (0..self.first.map_or(samples.len(), |n| n.min(samples.len()))).collect();
        let (mut count, mut totals) = (0, vec![0; self.eps.len()]);
        for (number, indices) in order.chunks(BATCH).enumerate() {
            let batch = samples.batch(indices, context.device);
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, &format!("{NAME}/{name}"));
            let (counted, withstood) = self.withstood(target, batch.inputs, &batch.labels, &mut draws);
            count += counted;
            totals.iter_mut().zip(withstood).for_each(|(total, n)| *total += n);
        }
        (count, totals.into_iter().map(|n| share(n, count)).collect())
    }
}

#[typetag::serde(name = "attack")]
impl AnalysisConfig for Attack {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<AnalysisReport, AnalysisError> {
        let model = classifier(context, NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let (low, high) = test.value_range();
        let boxed = differentiable(context);
        let gradient_model = boxed.as_classifier().unwrap_or(model);
        let autodiff = context.device.clone().autodiff();
        let target = Target { model, gradient_model, autodiff: &autodiff, range: (f64::from(low), f64::from(high)) };
        let mut table =
            vec![["split", "inputs"].map(str::to_owned).into_iter().chain(self.eps.iter().map(|e| format!("eps_{e}"))).collect::<Vec<_>>()];
        let mut result = serde_json::Map::new();
        for (name, split) in self.split.list() {
            let (count, shares) = self.attacked(name, context.data.split(split), &target, context);
            table.push([name.to_owned(), count.to_string()].into_iter().chain(shares.iter().map(|s| format!("{s:.4}"))).collect());
            let keyed: serde_json::Map<_, _> =
                self.eps.iter().zip(&shares).map(|(eps, share)| (format!("{name}_eps_{eps}"), json!(share))).collect();
            result.extend(keyed);
            result.insert(format!("{name}_inputs"), json!(count));
        }
        Ok(AnalysisReport { result: result.into(), table, files: Vec::new() })
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
        assert_eq!(report.table.len(), 3);
        config.eps.iter().map(|eps| report.result[format!("test_eps_{eps}")].as_f64().unwrap()).collect()
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
        assert_eq!(noisy.run(&fixture.context()).unwrap().result, noisy.run(&fixture.context()).unwrap().result);
    }

    #[test]
    fn of_no_inputs_there_is_no_share() {
        let mut fixture = Fixture::new(Shape::Point, 50);
        fixture.without_classes();
        let report = Attack { eps: vec![0.1], split: Splits::Test, ..Attack::default() }.run(&fixture.context()).unwrap().without_nan();
        assert!(report.result["test_inputs"] == 0 && report.result["test_eps_0.1"].is_null(), "{}", report.result);
        assert_eq!(report.table[1], ["test", "0", "-"]);
        let all = Attack { eps: vec![0.1], conditional: false, split: Splits::Test, ..Attack::default() };
        let report = all.run(&fixture.context()).unwrap();
        assert_eq!(report.result["test_eps_0.1"], 0.0, "scores that are no numbers are right for no label: {}", report.result);
    }

    #[test]
    fn a_step_stays_in_the_range_and_zero_gradients_leave_the_input() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats([0.95, 0.0, 0.3], &device).reshape([1, 1, 1, 3]);
        let g = Tensor::<1>::from_floats([7.0, -0.1, 0.0], &device).reshape([1, 1, 1, 3]);
        let found: Vec<f32> = step(x, g, 0.1, (-1.0, 1.0)).into_data().try_to_vec().unwrap();
        assert_eq!(found, [1.0, -0.1, 0.3]);
    }
}
