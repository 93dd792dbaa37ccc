//! Two-panel plots of models on the plane: inputs with their density above, codes with their posteriors below; and an animation of training.

use std::sync::Arc;

use burn::tensor::Tensor;
use ibhost_analyses::ellipse::contour;
use ibhost_analyses::output::{picture, write};
use ibhost_analyses::plot::{Colour, Figure, Layer, PlotError, Stroke, panels_png};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport};
use ibhost_framework::dataset::{Batch, KnownDensity, Split};
use ibhost_framework::engine::{Orders, Session, State, StepState, training_step};
use ibhost_framework::generator::GenerativeModel;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::PosteriorModel;
use ibhost_framework::posterior::Posterior;
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::RunDir;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::contours::{contours, levels};
use crate::statistics::{generative, per_sample};

const PORTRAIT: &str = "mim_portrait";
const PROGRESS: &str = "mim_progress";
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
struct Sitter<'a> {
    model: &'a dyn GenerativeModel,
    posterior: &'a dyn PosteriorModel,
    density: &'a dyn KnownDensity,
}

/// Rows of a two-column tensor.
fn points(x: Tensor<2>) -> Vec<[f64; 2]> {
    let values: Vec<f64> = x.into_data().iter::<f64>().collect();
    values.chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

impl Sitter<'_> {
    /// Inputs in the upper panel and codes in the lower one. `reconstruction`: `inputs` encoded and decoded; otherwise samples of the model.
    fn panels(&self, inputs: Tensor<4>, sampled: bool, title: [String; 2], draws: &mut Draws) -> [Figure; 2] {
        let count = inputs.dims()[0].min(SHOWN);
        let shown = inputs.narrow(0, 0, count);
        let mut upper = Figure::new(title[0].clone(), "x 1", "x 2").within(INPUTS);
        let mut lower = Figure::new(title[1].clone(), "z 1", "z 2").within(CODES);
        let density = |p: [f64; 2]| self.density.log_prob(&p).first().copied().unwrap_or(f64::NEG_INFINITY).exp();
        upper.layers.extend(lines(density, INPUTS, 2));
        let source = if sampled {
            let codes = self.model.sample_prior(count, draws);
            let made = self.model.reconstruct(codes, draws);
            let dots = points(made.clone());
            upper.layers.push(Layer::Points { points: dots, colour: RED, opacity: 0.8, radius: 4 });
            made.reshape([count, 1, 1, 2])
        } else {
            let codes = self.model.sample_codes(shown.clone(), draws);
            let dots = points(self.model.reconstruct(codes, draws));
            upper.layers.push(Layer::Points { points: dots, colour: RED, opacity: 0.8, radius: 4 });
            shown
        };
        let posterior = self.posterior.posterior(source);
        if let Posterior::Diagonal { mean, scale } = posterior {
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
        [upper, lower]
    }
}

/// Five contours of a density over the square of half-width `limit`.
fn lines(density: impl Fn([f64; 2]) -> f64, limit: f64, width: u32) -> Vec<Layer> {
    let cells = 80;
    let at = |i: usize| -limit + 2.0 * limit * i as f64 / cells as f64;
    let grid: Vec<Vec<f64>> = (0..=cells).map(|y| (0..=cells).map(|x| density([at(x), at(y)])).collect()).collect();
    let highest = grid.iter().flatten().copied().fold(0.0, f64::max);
    let mut layers = Vec::new();
    for level in levels(highest, 5) {
        for [a, b] in contours(&grid, level) {
            let place = |p: [f64; 2]| p.map(|v| -limit + 2.0 * limit * v / cells as f64);
            let points = vec![place(a), place(b)];
            layers.push(Layer::Curve { points, colour: BLACK, opacity: 0.75, width, stroke: Stroke::Solid });
        }
    }
    layers
}

fn need_plane(context: &AnalysisContext<'_>, name: &str, latent: usize) -> Result<(), AnalysisError> {
    let inputs: usize = context.data.info().shape.iter().skip(1).product();
    if inputs != 2 || latent != 2 || context.data.known_density().is_none() {
        return Err(AnalysisError::Request(format!(
            "`{name}` draws two-dimensional inputs with a known density and two-dimensional codes; use e.g. `--dataset toy/k:4` and z:2"
        )));
    }
    Ok(())
}

fn test_inputs(context: &AnalysisContext<'_>) -> Tensor<4> {
    let test = context.data.split(Split::Test);
    let inputs = test.batch(&(0..test.len().min(SHOWN)).collect::<Vec<_>>(), context.device).inputs;
    if inputs.dims()[1] == 2 { inputs.narrow(1, 0, 1) } else { inputs }
}

/// Two-panel portraits of a model on a two-dimensional toy data set.
///
/// Upper panel: contours of the data's density and 200 reconstructions of test samples (`plots/reconstruction_best.png`) or samples of the
/// model (`plots/grid_best.png`), with mean |x - x^| and the KSG mutual information of 3,000 pairs in nats. Lower panel: one-sigma ellipses of q(z|x)
/// and the unit circle of the prior.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MimPortrait {}

#[typetag::serde(name = "mim_portrait")]
impl AnalysisConfig for MimPortrait {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<AnalysisReport, AnalysisError> {
        let model = generative(context, PORTRAIT)?;
        let posterior = context.model.as_posterior().ok_or_else(|| AnalysisError::Request(format!("`{PORTRAIT}` needs an encoder")))?;
        let inputs = test_inputs(context);
        need_plane(context, PORTRAIT, posterior.posterior(inputs.clone()).dims()[1])?;
        let Some(density) = context.data.known_density() else {
            return Err(AnalysisError::Request("the data's density is not known".to_owned()));
        };
        let found = per_sample(model, context.data.split(Split::Test), PAIRS, context).statistics(Some(density));
        let of = |name: &str| found.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, v)| *v);
        let title = [format!("RMSE = {:.2e}", of("x_recon_err")), format!("MI = {:.2} nats (KSG, N = {PAIRS})", of("MI_ksg"))];
        let sitter = Sitter { model, posterior, density };
        let mut files = Vec::new();
        for (name, sampled) in [("reconstruction", false), ("grid", true)] {
            let mut draws = Draws::seeded(Noise::new(context.seed), 0, name);
            let panels = sitter.panels(inputs.clone(), sampled, title.clone(), &mut draws);
            files.push(picture(context.run_dir, &format!("plots/{name}_best.png"), panels_png(&panels, 1, SIZE))?);
        }
        let result = json!({"x_recon_err": of("x_recon_err"), "MI_ksg": of("MI_ksg"), "samples": PAIRS});
        let table =
            vec![vec!["RMSE".to_owned(), "MI".to_owned()], vec![format!("{:.4}", of("x_recon_err")), format!("{:.4}", of("MI_ksg"))]];
        Ok(AnalysisReport { result, table, files })
    }
}

ibhost_framework::register! {
    Analysis: MimPortrait as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "mim_portrait",
    needs: [Encode, Reconstruct, Sample],
}

/// The portrait after every epoch of a run, as pictures and as one animation.
///
/// Trains the run once more from its configuration, which repeats it exactly, and draws the reconstructions after each epoch: `plots/progress/reconstruction_<epoch>.png` and
/// `plots/progress_reconstruction.png`, an animated PNG of 10 frames a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MimProgress {
    /// Epochs drawn at most.
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: u64,
    /// Pixels of a frame's width; the height is twice that.
    #[schemars(range(min = 100, max = 2000))]
    pub width: u32,
}

impl Default for MimProgress {
    fn default() -> Self {
        Self { epochs: 49, width: 450 }
    }
}

#[typetag::serde(name = "mim_progress")]
impl AnalysisConfig for MimProgress {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<AnalysisReport, AnalysisError> {
        let posterior = context.model.as_posterior().ok_or_else(|| AnalysisError::Request(format!("`{PROGRESS}` needs an encoder")))?;
        let inputs = test_inputs(context);
        need_plane(context, PROGRESS, posterior.posterior(inputs.clone()).dims()[1])?;
        let Some(density) = context.data.known_density() else {
            return Err(AnalysisError::Request("the data's density is not known".to_owned()));
        };
        let refuse = |error: &dyn std::fmt::Display| AnalysisError::Request(format!("`{PROGRESS}` cannot repeat the run: {error}"));
        let config = RunDir::open_read_only(context.run_dir)?.read_config().map_err(|e| refuse(&e))?;
        let config = RunConfig::from_json(config).map_err(|e| refuse(&e))?;
        let (session, state) = Session::open(config, context.root).map_err(|e| refuse(&e))?;
        let (mut files, mut frames) = (Vec::new(), Vec::new());
        let size = (self.width, 2 * self.width);
        let drawn = replay(&session, state, self.epochs, |epoch, model| {
            let (Some(generative), Some(posterior)) = (model.as_generative(), model.as_posterior()) else { return Ok(()) };
            let sitter = Sitter { model: generative, posterior, density };
            let mut draws = Draws::seeded(Noise::new(context.seed), epoch, PROGRESS);
            let panels = sitter.panels(inputs.clone(), false, [format!("epoch {epoch}"), String::new()], &mut draws);
            let frame = panels_png(&panels, 1, size);
            let name = format!("plots/progress/reconstruction_{epoch:03}.png");
            let path = picture(context.run_dir, &name, frame.clone())?;
            files.push(path);
            frames.extend(frame.ok());
            Ok(())
        });
        drawn?;
        let count = frames.len();
        let animation = animate(&frames)
            .map_err(|e| AnalysisError::Plot { path: "plots/progress_reconstruction.png".to_owned(), reason: e.to_string() })?;
        files.insert(0, write(context.run_dir, "plots/progress_reconstruction.png", &animation)?);
        let table = vec![vec!["frames".to_owned()], vec![count.to_string()]];
        Ok(AnalysisReport { result: json!({"frames": count}), table, files })
    }
}

ibhost_framework::register! {
    Analysis: MimProgress as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "mim_progress/epochs:49",
    needs: [Encode, Reconstruct, Sample],
}

/// Repeats the first epochs of a run step by step and shows the evaluation copy of the model after each.
fn replay(
    session: &Session,
    mut state: State,
    epochs: u64,
    mut show: impl FnMut(u64, &ibhost_framework::objective::BoxedObjective) -> Result<(), AnalysisError>,
) -> Result<(), AnalysisError> {
    let (batches, size) = (session.batches_per_epoch(), session.config.training.batch_size);
    let total = session.total_steps().min(epochs * batches);
    let (mut order, mut moving, mut orders) = (Arc::new(Vec::new()), Vec::new(), Orders::new());
    for step in 0..total {
        let (epoch, index) = (step / batches + 1, (step % batches) as usize);
        if index == 0 {
            order = Arc::new(session.noise.stream("data order", epoch).permutation(session.train.len()));
        }
        let from = index * size;
        let batch: Batch = session.training_batch(&order[from..order.len().min(from + size)], step, "main");
        let mut parts =
            StepState { optimisers: &mut state.optimisers, average: state.average.as_mut(), moving: &mut moving, orders: &mut orders };
        let done = training_step(session, state.model, &mut parts, epoch, step, &batch);
        let (model, _) = done.map_err(|error| AnalysisError::Request(format!("`{PROGRESS}` cannot repeat the run: {error}")))?;
        state.model = model;
        if (step + 1).is_multiple_of(batches) {
            show(epoch, &Session::evaluation_model(&state, false))?;
        }
    }
    Ok(())
}

/// PNG pictures of one size as an animated PNG, ten a second, repeated for ever.
fn animate(frames: &[Vec<u8>]) -> Result<Vec<u8>, PlotError> {
    let failed = |e: &dyn std::fmt::Display| PlotError(e.to_string());
    let decode = |bytes: &[u8]| -> Result<(u32, u32, Vec<u8>), PlotError> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().map_err(|e| failed(&e))?;
        let mut pixels = vec![0; reader.output_buffer_size().unwrap_or(0)];
        let info = reader.next_frame(&mut pixels).map_err(|e| failed(&e))?;
        Ok((info.width, info.height, pixels))
    };
    let Some(first) = frames.first() else { return Err(PlotError("there is no frame to animate".to_owned())) };
    let (width, height, _) = decode(first)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(frames.len() as u32, 0).map_err(|e| failed(&e))?;
    encoder.set_frame_delay(1, 10).map_err(|e| failed(&e))?;
    let mut writer = encoder.write_header().map_err(|e| failed(&e))?;
    for frame in frames {
        writer.write_image_data(&decode(frame)?.2).map_err(|e| failed(&e))?;
    }
    writer.finish().map_err(|e| failed(&e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_become_one_animation() {
        let frame = |colour: Colour| {
            let mut figure = Figure::new("", "", "").within(1.0);
            figure.layers.push(Layer::Points { points: vec![[0.0, 0.0]], colour, opacity: 1.0, radius: 9 });
            panels_png(&[figure.clone(), figure], 1, (120, 240)).unwrap()
        };
        let bytes = animate(&[frame(RED), frame(GREEN)]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().animation_control().unwrap().num_frames, 2);
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        for colour in [RED, GREEN] {
            reader.next_frame(&mut pixels).unwrap();
            assert!(pixels.chunks_exact(3).any(|p| p == colour));
        }
        assert!(animate(&[]).is_err());
    }
}
