//! Data set `moons`: two half circles in the plane.

use std::f64::consts::PI;
use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two half circles in the plane that reach into each other, one a class.
///
/// Class 0 is (cos t, sin t), class 1 is (1 - cos t, 1/2 - sin t), t uniform on `[0, pi]`, with normal noise on both coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MoonsConfig {
    /// Samples of each split.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub samples: usize,
    /// Standard deviation of the noise.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub noise: f64,
    /// Seed of the draws; that of the run has no part in them.
    pub seed: u64,
}

impl Default for MoonsConfig {
    fn default() -> Self {
        Self { samples: 1000, noise: 0.1, seed: 0 }
    }
}

impl MoonsConfig {
    fn draw(&self, purpose: &str) -> Result<Samples, DataError> {
        let mut noise = Noise::new(self.seed).stream(purpose, 0);
        let (mut values, mut labels) = (Vec::with_capacity(2 * self.samples), Vec::with_capacity(self.samples));
        for _ in 0..self.samples {
            let (label, t) = (noise.below(2), PI * noise.uniform());
            let at = if label == 0 { [t.cos(), t.sin()] } else { [1.0 - t.cos(), 0.5 - t.sin()] };
            values.extend(at.map(|x| (x + self.noise * noise.normal()) as f32));
            labels.push(label as u8);
        }
        // A vector of d numbers is one channel of one row: [1, 1, d].
        Samples::new(Values::F32(Arc::new(values)), labels, [1, 1, 2], Scaling::uniform(1, 1.0, 0.0))
    }
}

#[derive(Debug)]
struct Moons {
    info: DataInfo,
    train: Samples,
    test: Samples,
}

impl Dataset for Moons {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

#[typetag::serde(name = "moons")]
impl DatasetConfig for MoonsConfig {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let classes = ["upper", "lower"].map(str::to_owned).to_vec();
        let info = DataInfo { name: "moons".to_owned(), classes, shape: [1, 1, 2], note: None, class_entropy: None };
        Ok(Box::new(Moons { info, train: self.draw("moons train")?, test: self.draw("moons test")? }))
    }
}

ibhost_framework::register! { Dataset: MoonsConfig as DatasetConfig, aliases: [], paper: "", example: "moons/noise:0.2" }
