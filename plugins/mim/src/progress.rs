//! Analysis `mim_progress`: the portrait after every epoch of a run, as pictures and as animations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use ibhost_analyses::figures::plot::{PlotError, panels_png};
use ibhost_analyses::generation::decoding::Decoding;
use ibhost_analyses::output::{picture, write};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Output, Results};
use ibhost_framework::capability::{Encode, LogDensity};
use ibhost_framework::dataset::KnownDensity;
use ibhost_framework::engine::{Session, State, Stepper, restore_weights_at};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::BoxedObjective;
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{CheckpointEntry, Label, RunDir, write_through};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::animation::{animated_png, can_run, gif, mp4};
use crate::names::toy_folder;
use crate::portrait::{MimPortrait, Sitter, need_plane, test_inputs};

const NAME: &str = "mim_progress";
/// Program that makes films.
const FFMPEG: &str = "ffmpeg";

/// The portrait after every epoch of a run, as pictures and as animations.
///
/// Draws the reconstructions after each epoch, samples of p(x|z): `plots/progress/reconstruction_<epoch>.png`, and from these at 10 frames a second an animated
/// PNG, a GIF and, with mp4, a film that the program `ffmpeg` makes; their name is that of the original,
/// `plots/<data set>_<code>_<model>_progress_reconstruction-video.png`. The weights are those of the checkpoints where a run kept one for every epoch
/// (`checkpoint_every: 1epochs`, `checkpoints_kept: 49`); otherwise the run is trained once more from its configuration, which repeats
/// it exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MimProgress {
    /// Epochs drawn at most.
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: u64,
    /// Pixels of a frame's width; the height is twice that.
    #[schemars(range(min = 100, max = 2000))]
    pub width: u32,
    /// Make a film too; needs the program ffmpeg.
    pub mp4: bool,
}

impl Default for MimProgress {
    fn default() -> Self {
        Self { epochs: 49, width: 450, mp4: false }
    }
}

/// Draws and keeps one frame an epoch.
struct Painter<'a> {
    context: &'a AnalysisContext<'a>,
    density: &'a dyn KnownDensity,
    inputs: Tensor<4>,
    size: (u32, u32),
    files: Vec<PathBuf>,
    frames: Vec<Vec<u8>>,
}

/// Folder of the frames: those of other settings have another one, as a film is made of all pictures of a folder.
fn frames_folder(output: &Output) -> String {
    format!("plots/progress{}", output.suffix)
}

impl Painter<'_> {
    fn paint(&mut self, epoch: u64, model: &BoxedObjective) -> Result<(), AnalysisError> {
        let (Some(generative), Some(posterior)) = (model.capability::<LogDensity>(), model.capability::<Encode>()) else {
            return Err(AnalysisError::Request(format!("`{NAME}` needs a model with p(x|z) and q(z|x)")));
        };
        let sitter = Sitter { model: generative, posterior, density: self.density, style: &MimPortrait::default() };
        let mut draws = Draws::seeded(Noise::new(self.context.seed), epoch, NAME);
        let panels = sitter.panels(self.inputs.clone(), false, [format!("epoch {epoch}"), String::new()], &mut draws)?;
        let frame = panels_png(&panels, 1, self.size);
        let folder = frames_folder(self.context.output);
        let output = Output::of_run(&self.context.output.folder);
        self.files.push(picture(&output, &format!("{folder}/reconstruction_{epoch:03}.png"), frame.clone())?);
        self.frames.extend(frame.ok());
        Ok(())
    }
}

#[typetag::serde(name = "mim_progress")]
impl AnalysisConfig for MimProgress {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let posterior = context.require::<Encode>(NAME)?;
        let inputs = test_inputs(context);
        need_plane(context, NAME, posterior.posterior(inputs.clone()).dims()[1])?;
        let Some(density) = context.data.known_density() else {
            return Err(AnalysisError::Request("the data's density is not known".to_owned()));
        };
        if self.mp4 {
            can_run(Path::new(FFMPEG)).map_err(|reason| AnalysisError::Request(format!("`{NAME}` with mp4: {reason}")))?;
        }
        let run = RunDir::open_read_only(context.run_dir)?;
        let config = RunConfig::from_json(run.read_config().map_err(refuse)?).map_err(refuse)?;
        let stem = toy_folder(&config).map_or_else(String::new, |parts| parts.join("_") + "_");
        let (session, state) = Session::open_with(config, context.library).map_err(refuse)?;
        let size = (self.width, 2 * self.width);
        let mut painter = Painter { context, density, inputs, size, files: Vec::new(), frames: Vec::new() };
        let (epochs, kept) = kept_epochs(&run, session.batches_per_epoch(), self.epochs)?;
        let repeated = kept.len() as u64 != epochs;
        if repeated {
            replay(&session, state, epochs, &mut painter)?;
        } else {
            let mut state = state;
            for (epoch, entry) in kept {
                state = restore_weights_at(state, &run, &entry).map_err(refuse)?;
                painter.paint(epoch, &Session::evaluation_model(&state, false))?;
            }
        }
        let Painter { mut files, frames, .. } = painter;
        let name = |ending: &str| format!("plots/{stem}progress_reconstruction-video.{ending}");
        let cannot = |ending: &str, e: PlotError| AnalysisError::Plot { path: name(ending), reason: e.to_string() };
        for (ending, animation) in [("gif", gif(&frames)), ("png", animated_png(&frames))] {
            files.insert(0, write(context.output, &name(ending), &animation.map_err(|e| cannot(ending, e))?)?);
        }
        if self.mp4 {
            let path = context.output.path(&name("mp4"));
            let folder = context.output.folder.join(frames_folder(context.output));
            write_through(&path, |film| mp4(Path::new(FFMPEG), &folder, frames.len(), film).map_err(|e| cannot("mp4", e)))?;
            files.insert(0, path);
        }
        let count = frames.len();
        let results = Results::default().fact("frames", count).fact("trained_again", repeated);
        Ok(results.fact("decoding", Decoding::Sample.name()).with_files(files))
    }
}

ibhost_framework::register! {
    Analysis: MimProgress as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "mim_progress",
    needs: [Encode, Reconstruct, Sample],
}

fn refuse(error: impl std::fmt::Display) -> AnalysisError {
    AnalysisError::Request(format!("`{NAME}` cannot repeat the run: {error}"))
}

/// How many epochs to draw, at most `most` and what the run has done, and the checkpoints there are at their ends.
fn kept_epochs(run: &RunDir, batches: u64, most: u64) -> Result<(u64, BTreeMap<u64, CheckpointEntry>), AnalysisError> {
    let entries: Vec<CheckpointEntry> = run.checkpoints().list()?.into_iter().filter(|entry| entry.label == Label::Last).collect();
    let done = entries.iter().map(|entry| entry.step / batches.max(1)).max().unwrap_or(0);
    let epochs = done.min(most);
    // Entries come by revision, so that the newest of a step stays.
    let ends = entries.into_iter().filter(|entry| entry.step.is_multiple_of(batches.max(1)) && entry.step > 0);
    let kept = ends.map(|entry| (entry.step / batches.max(1), entry)).filter(|(epoch, _)| *epoch <= epochs);
    Ok((epochs, kept.collect()))
}

/// Repeats the first epochs of a run step by step and draws the evaluation copy of the model after each.
fn replay(session: &Session, mut state: State, epochs: u64, painter: &mut Painter<'_>) -> Result<(), AnalysisError> {
    let batches = session.batches_per_epoch();
    let (total, mut stepper) = (session.total_steps().min(epochs * batches), Stepper::default());
    while state.step < total {
        (state, ..) = stepper.step(session, state).map_err(refuse)?;
        if state.step.is_multiple_of(batches) {
            painter.paint(state.step / batches, &Session::evaluation_model(&state, false))?;
        }
    }
    Ok(())
}
