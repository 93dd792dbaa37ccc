//! Two-panel plots of models on the plane: inputs with their density above, codes with their posteriors below.

use burn::tensor::Tensor;
use ibhost_analyses::figures::ellipse::contour;
use ibhost_analyses::figures::plot::{Colour, Figure, Layer, Mark, Stroke, panels_png};
use ibhost_analyses::generation::decoding::Decoding;
use ibhost_analyses::model::{prior_codes, undefined};
use ibhost_analyses::output::picture;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::capability::{Encode, Reconstruct};
use ibhost_framework::dataset::{KnownDensity, Split};
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::PosteriorModel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contours::{contours, levels};
use crate::statistics::{calibration_values, per_sample};

const PORTRAIT: &str = "mim_portrait";
/// Pixels of a plot.
const SIZE: (u32, u32) = (900, 1800);
/// Points shown.
const SHOWN: usize = 200;
/// Pairs the printed mutual information is estimated from.
const PAIRS: usize = 3000;
/// Smallest full width of an ellipse.
const THINNEST: f64 = 0.02;
/// Half-widths of the panels.
const INPUTS: f64 = 2.0;
const CODES: f64 = 3.0;

const RED: Colour = [214, 39, 40];
const GREEN: Colour = [44, 160, 44];
const BLACK: Colour = [0, 0, 0];

/// What is drawn of a model.
pub(crate) struct Sitter<'a> {
    pub(crate) model: &'a dyn LatentModel,
    pub(crate) posterior: &'a dyn PosteriorModel,
    pub(crate) density: &'a dyn KnownDensity,
    pub(crate) style: &'a MimPortrait,
}

/// Rows of a two-column tensor.
fn points(x: Tensor<2>) -> Vec<[f64; 2]> {
    let values: Vec<f64> = x.into_data().iter::<f64>().collect();
    values.chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

impl Sitter<'_> {
    /// Inputs in the upper panel and codes in the lower one: draws from p(x|z), z from p(z) where `sampled`, else from q(z|inputs).
    pub(crate) fn panels(
        &self,
        inputs: Tensor<4>,
        sampled: bool,
        title: [String; 2],
        draws: &mut Draws,
    ) -> Result<[Figure; 2], AnalysisError> {
        let count = inputs.dims()[0].min(SHOWN);
        let shown = inputs.narrow(0, 0, count);
        let mut upper = Figure::new(title[0].clone(), "x 1", "x 2").within(INPUTS);
        let mut lower = Figure::new(title[1].clone(), "z 1", "z 2").within(CODES);
        let density = |p: [f64; 2]| self.density.log_prob(&p).first().copied().unwrap_or(f64::NEG_INFINITY).exp();
        let (levels_drawn, thickness) = if self.style.detailed { (10, 1) } else { (5, 2) };
        upper.layers.extend(lines(density, INPUTS, levels_drawn, thickness));
        let source = if sampled {
            let codes = prior_codes(PORTRAIT, self.model, count, draws)?;
            let made = self.model.decode_sample(codes, draws);
            let dots = points(made.clone());
            upper.layers.push(Layer::Points { points: dots, colour: RED, opacity: 0.8, radius: 4 });
            made.reshape([count, 1, 1, 2])
        } else {
            let codes = self.model.sample_codes(shown.clone(), draws).map_err(undefined(PORTRAIT))?;
            let dots = points(self.model.decode_sample(codes, draws));
            if self.style.errors {
                let places = points(shown.clone().reshape([count, 2]));
                upper.layers.extend(places.into_iter().zip(&dots).map(|(x, to)| segment(x, *to)));
            }
            upper.layers.push(Layer::Points { points: dots, colour: RED, opacity: 0.8, radius: 4 });
            shown
        };
        let posterior = self.posterior.posterior(source);
        if let Some((mean, scale)) = posterior.as_normal() {
            for (mean, scale) in points(mean).into_iter().zip(points(scale)) {
                let half = scale.map(|s| s.max(THINNEST / 2.0));
                let covariance = [[half[0] * half[0], 0.0], [0.0, half[1] * half[1]]];
                lower.layers.push(Layer::Curve {
                    points: contour(mean, covariance, 1.0, 24),
                    colour: GREEN,
                    opacity: 0.8,
                    width: 2,
                    stroke: Stroke::Solid,
                });
            }
        }
        let circle = contour([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], 1.0, 96);
        lower.layers.push(Layer::Curve { points: circle, colour: BLACK, opacity: 1.0, width: 4, stroke: Stroke::Dashed });
        if self.style.detailed {
            for (figure, entries) in [
                (
                    &mut upper,
                    &[
                        ("density of the data", BLACK, Stroke::Solid),
                        (if sampled { "samples" } else { "reconstructions" }, RED, Stroke::Solid),
                    ],
                ),
                (&mut lower, &[("q(z|x), one sigma", GREEN, Stroke::Solid), ("prior, one sigma", BLACK, Stroke::Dashed)]),
            ] {
                for &(label, colour, stroke) in entries {
                    figure.entry(label, colour, Mark::Curve(stroke));
                }
            }
        }
        Ok([upper, lower])
    }
}

fn segment(from: [f64; 2], to: [f64; 2]) -> Layer {
    Layer::Curve { points: vec![from, to], colour: RED, opacity: 0.6, width: 1, stroke: Stroke::Solid }
}

/// `count` contours of a density over the square of half-width `limit`.
fn lines(density: impl Fn([f64; 2]) -> f64, limit: f64, count: usize, width: u32) -> Vec<Layer> {
    let cells = 80;
    let at = |i: usize| -limit + 2.0 * limit * i as f64 / cells as f64;
    let grid: Vec<Vec<f64>> = (0..=cells).map(|y| (0..=cells).map(|x| density([at(x), at(y)])).collect()).collect();
    let highest = grid.iter().flatten().copied().fold(0.0, f64::max);
    let mut layers = Vec::new();
    for level in levels(highest, count) {
        for [a, b] in contours(&grid, level) {
            let place = |p: [f64; 2]| p.map(|v| -limit + 2.0 * limit * v / cells as f64);
            let points = vec![place(a), place(b)];
            layers.push(Layer::Curve { points, colour: BLACK, opacity: 0.75, width, stroke: Stroke::Solid });
        }
    }
    layers
}

pub(crate) fn need_plane(context: &AnalysisContext<'_>, name: &str, latent: usize) -> Result<(), AnalysisError> {
    let inputs: usize = context.data.info().shape.iter().skip(1).product();
    if inputs != 2 || latent != 2 || context.data.known_density().is_none() {
        return Err(AnalysisError::Request(format!(
            "`{name}` draws two-dimensional inputs with a known density and two-dimensional codes; use e.g. `--dataset toy/k:4` and z:2"
        )));
    }
    Ok(())
}

pub(crate) fn test_inputs(context: &AnalysisContext<'_>) -> Tensor<4> {
    let test = context.data.split(Split::Test);
    let inputs = test.batch(&(0..test.len().min(SHOWN)).collect::<Vec<_>>(), context.device).inputs;
    if inputs.dims()[1] == 2 { inputs.narrow(1, 0, 1) } else { inputs }
}

/// Two-panel portraits of a model on a two-dimensional toy data set.
///
/// Upper panel: contours of the data's density and 200 reconstructions of test samples (`plots/reconstruction_best.png`) or samples of the
/// model (`plots/grid_best.png`), both draws from p(x|z), with mean |x - x^| and the KSG mutual information of 3,000 pairs in nats. Lower panel: one-sigma ellipses of q(z|x)
/// and the unit circle of the prior.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MimPortrait {
    /// Draw a line from every input to its reconstruction.
    pub errors: bool,
    /// Draw ten thin contours and a legend.
    pub detailed: bool,
}

#[typetag::serde(name = "mim_portrait")]
impl AnalysisConfig for MimPortrait {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Reconstruct>(PORTRAIT)?;
        let posterior = context.require::<Encode>(PORTRAIT)?;
        let inputs = test_inputs(context);
        need_plane(context, PORTRAIT, posterior.posterior(inputs.clone()).dims()[1])?;
        let Some(density) = context.data.known_density() else {
            return Err(AnalysisError::Request("the data's density is not known".to_owned()));
        };
        let sampled = per_sample(model, context.data.split(Split::Test), PAIRS, context)?;
        let found = sampled.statistics(Some(density));
        let calibration = sampled.calibration(&found, context.seed);
        let of = |name: &str| found.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, v)| *v);
        let title = [format!("RMSE = {:.2e}", of("x_recon_err")), format!("MI = {:.2} nats (KSG, N = {PAIRS})", of("MI_ksg"))];
        let sitter = Sitter { model, posterior, density, style: self };
        let mut files = Vec::new();
        for (name, sampled) in [("reconstruction", false), ("grid", true)] {
            let mut draws = Draws::seeded(Noise::new(context.seed), 0, name);
            let panels = sitter.panels(inputs.clone(), sampled, title.clone(), &mut draws)?;
            files.push(picture(context.output, &format!("plots/{name}_best.png"), panels_png(&panels, 1, SIZE))?);
        }
        let error = Measured::new("x_recon_err", of("x_recon_err"), "1", Direction::Minimise);
        let mut results = Results::of([error, Measured::nats("MI_ksg", of("MI_ksg"))]).fact("samples", sampled.pairs());
        match calibration {
            Some(found) => results.values.extend(calibration_values(found.exact, found.estimate, found.bias)),
            None => results = results.fact("MI_ksg_calibration", Value::Null),
        }
        Ok(results.fact("decoding", Decoding::Sample.name()).with_files(files))
    }
}

ibhost_framework::register! {
    Analysis: MimPortrait as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "mim_portrait",
    needs: [Encode, Reconstruct, Sample],
}
