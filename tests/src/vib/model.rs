//! The registered VIB components with recorded weights.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{Batch, DataInfo};
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::distributions::BoxedDistribution;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Measure, ObjectiveConfig, Parts, Progress, read_measures};
use ibhost_framework::registry::Kind;
use ibhost_framework::strategy::MAIN;
use ibhost_vib::config::VibConfig;
use ibhost_vib::objective::Vib;

use super::data::held_out;
use crate::golden::{self, Array};

/// The registered components a file describes, with its weights: as the engine holds them, and as the concrete type with its terms.
pub(super) struct Model {
    pub(super) boxed: BoxedObjective,
    pub(super) vib: Vib,
    pub(super) config: Box<dyn ObjectiveConfig>,
}

pub(super) fn width(weights: &BTreeMap<String, Array>, path: &str) -> Result<usize, String> {
    weights.get(path).and_then(|(shape, _)| shape.last().copied()).ok_or_else(|| format!("no weights for `{path}`"))
}

impl Model {
    pub(super) fn new(
        objective: &str,
        encoder: &str,
        decoder: &str,
        features: usize,
        weights: &BTreeMap<String, Array>,
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (component, config) = resolve::<dyn ObjectiveConfig>(Kind::Objective, objective).map_err(|e| text(&e))?;
        let encoder = resolve::<dyn EncoderConfig>(Kind::Encoder, encoder).map_err(|e| text(&e))?.1;
        let decoder = resolve::<dyn DecoderConfig>(Kind::Decoder, decoder).map_err(|e| text(&e))?.1;
        let classes = match weights.get("model.decoder.dense.bias").or_else(|| weights.get("model.decoder.dense2.bias")) {
            Some((shape, _)) => shape.iter().product(),
            None => return Err("the decoder has no last layer".to_owned()),
        };
        let data = DataInfo {
            name: "golden".to_owned(),
            classes: (0..classes).map(|class: usize| class.to_string()).collect(),
            shape: [1, 1, features],
            note: None,
            class_entropy: None,
        };
        let context = BuildContext::new(golden::device(), 0);
        let parts = Parts { encoder: encoder.as_ref(), decoder: decoder.as_ref(), data: &data, context: &context };
        let boxed: BoxedObjective = Erased::new(config.build(&parts).map_err(|e| text(&e))?);
        let typed: VibConfig = serde_json::from_value(component.to_json_full()).map_err(|e| text(&e))?;
        let vib = typed.objective(&parts).map_err(|e| text(&e))?;
        Ok(Self { boxed: golden::load_parameters(boxed, weights)?, vib: golden::load_parameters(vib, weights)?, config })
    }

    /// The 2017 notebook's model (`heads:joint`) or its remake's (`heads:separate`).
    pub(super) fn mlp(objective: &str, heads: &str, features: usize, weights: &BTreeMap<String, Array>) -> Result<Self, String> {
        let [e1, e2] = [width(weights, "model.encoder.dense1.bias")?, width(weights, "model.encoder.dense2.bias")?];
        let outputs = width(weights, "model.encoder.head.bias")?;
        let z = if heads == "joint" { outputs / 2 } else { outputs };
        let encoder = format!("mlp/e1:{e1}|e2:{e2}|z:{z}|cov:diag|scale:softplus|heads:{heads}");
        Self::new(objective, &encoder, "linear", features, weights)
    }

    /// The 2021 tutorial's model with `cov` = `point` or `full`.
    pub(super) fn residual(
        objective: &str,
        cov: &str,
        z: usize,
        features: usize,
        weights: &BTreeMap<String, Array>,
    ) -> Result<Self, String> {
        let width_of = |path| width(weights, path);
        let encoder = format!("residual_mlp/width:{}|z:{z}|cov:{cov}|scale:exp", width_of("model.encoder.dense1.bias")?);
        let decoder = format!("gelu_classifier/hidden:{}", width_of("model.decoder.dense1.bias")?);
        Self::new(objective, &encoder, &decoder, features, weights)
    }

    pub(super) fn posterior(&self, batch: &Batch) -> Result<BoxedDistribution, String> {
        Ok(self.boxed.capability::<Encode>().ok_or("the objective offers no posterior")?.posterior(batch.inputs.clone()))
    }

    /// Loss, measures and gradients of the training path.
    pub(super) fn train(&self, batch: &Batch, draws: &mut Draws) -> (f64, BTreeMap<String, f64>, BTreeMap<String, Vec<f64>>) {
        let loss = self.boxed.loss(MAIN, Progress::at(1, 0), batch, draws);
        let total = read_measures(vec![Measure::new("total", loss.total.clone())])[0].1;
        let gradients = golden::parameter_gradients(&self.boxed, &loss.total.backward());
        (total, read_measures(loss.measures).into_iter().collect(), gradients)
    }

    pub(super) fn evaluate(&self, batch: &Batch, draws: &mut Draws) -> BTreeMap<String, f64> {
        read_measures(self.boxed.valid().evaluate(Progress::at(1, 0), &held_out(batch), draws)).into_iter().collect()
    }

    /// -ln of the averaged softmax at the labels, `[batch]` in nats.
    pub(super) fn averaged_class(&self, batch: &Batch, samples: usize, draws: &mut Draws) -> Result<Tensor<1>, String> {
        let classifier = self.boxed.capability::<Classify>().ok_or("the objective offers no classifier")?;
        let log = classifier.class_log_probabilities(batch.inputs.clone(), samples, draws);
        Ok(log.gather(1, batch.labels.clone().reshape([-1, 1])).neg().reshape([batch.len()]))
    }
}
