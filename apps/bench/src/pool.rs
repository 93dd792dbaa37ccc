//! Data set `bench_pool`: synthetic images of a wanted shape and range in memory, so that timings need no files.

use std::sync::Arc;

use ibhost_datasets::binarised;
use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::noise::{Noise, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Images of uniform pixels, of which a share is inked and the rest is background, with uniform labels of ten classes.
///
/// Values cost what real images cost: the pixels are drawn once, and a step gathers its batch from memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchPool {
    /// Images in each split.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rows: usize,
    /// Channels.
    #[schemars(range(min = 1, max = 64))]
    pub channels: usize,
    /// Height and width.
    #[schemars(range(min = 1, max = 4096))]
    pub side: usize,
    /// Background, the smallest value.
    #[schemars(range(min = -1e6, max = 1e6))]
    pub low: f64,
    /// Largest value.
    #[schemars(range(min = -1e6, max = 1e6))]
    pub high: f64,
    /// Share of pixels that are not background.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ink: f64,
    /// Draw every pixel of a training step as 0 or 1 with the probability of its value.
    pub binary: bool,
}

impl Default for BenchPool {
    fn default() -> Self {
        Self { rows: 10_000, channels: 1, side: 28, low: -1.0, high: 1.0, ink: 0.2, binary: false }
    }
}

#[derive(Debug)]
struct Pool {
    info: DataInfo,
    samples: Samples,
    binary: bool,
}

impl Dataset for Pool {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, _split: Split) -> &Samples {
        &self.samples
    }

    fn fresh_batch(&self, indices: &[usize], noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        if self.binary { binarised::draw(&self.samples, indices, noise).map(Some) } else { Ok(None) }
    }
}

#[typetag::serde(name = "bench_pool")]
impl DatasetConfig for BenchPool {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let shape = [self.channels, self.side, self.side];
        let mut stream = Noise::new(0).stream("bench pool", 0);
        let pixel = |_| {
            let inked = stream.uniform() < self.ink;
            (self.low + if inked { stream.uniform() * (self.high - self.low) } else { 0.0 }) as f32
        };
        let values: Vec<f32> = (0..self.rows * shape.iter().product::<usize>()).map(pixel).collect();
        let mut labels = Noise::new(0).stream("bench labels", 0);
        let labels = (0..self.rows).map(|_| labels.below(10) as u8).collect();
        let samples = Samples::new(Values::F32(Arc::new(values)), labels, shape, Scaling::uniform(self.channels, 1.0, 0.0))?;
        let classes = (0..10).map(|class| class.to_string()).collect();
        Ok(Box::new(Pool {
            info: DataInfo { name: "bench_pool".to_owned(), classes, shape, note: None, class_entropy: None },
            samples,
            binary: self.binary,
        }))
    }
}

ibhost_framework::register! { Dataset: BenchPool as DatasetConfig, aliases: [], paper: "", example: "bench_pool/rows:1000" }
