//! A small linear model on drawn digits, for tests of analyses, here and in plug-ins.

// Only tests call this, and a test that unwraps says where it failed.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::path::Path;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisContext, Output};
use ibhost_framework::dataset::{Batch, DataInfo, DataRoot, Dataset, Samples, Scaling, Split, Values};
use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution, MultivariateNormal, Normal};
use ibhost_framework::finished::DataLibrary;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::{Classifier, Loss, Measure, Objective, PosteriorModel, Progress};

/// Height and width of an image.
pub const SIDE: usize = 8;

/// Which posterior the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No spread.
    Point,
    /// A normal with a scale for each number of the code.
    Diagonal,
    /// A normal with a covariance.
    Full,
}

/// Codes are a fixed projection of the pixels, classes are decided by the distance to the class means of the codes.
#[derive(Module, Debug)]
pub struct LinearModel {
    projection: Param<Tensor<2>>,
    centres: Param<Tensor<2>>,
    #[module(skip)]
    shape: u8,
}

impl LinearModel {
    fn shape(&self) -> Shape {
        [Shape::Point, Shape::Diagonal, Shape::Full][usize::from(self.shape)]
    }
}

impl Objective for LinearModel {
    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let total = self.class_log_probabilities(batch.inputs.clone(), 1, draws).mean().neg();
        Loss { measures: vec![Measure::new("loss", total.clone())], total }
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        self.loss("main", Progress::at(1, 0), batch, draws).measures
    }
}

ibhost_framework::offer! { LinearModel: [Classify, Encode] }

impl PosteriorModel for LinearModel {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let [batch, c, h, w] = inputs.dims();
        let mean = inputs.reshape([batch, c * h * w]).matmul(self.projection.val());
        let latent = mean.dims()[1];
        let scale = mean.clone().tanh().powi_scalar(2).mul_scalar(0.2).add_scalar(0.1);
        match self.shape() {
            Shape::Point => Delta { value: mean }.boxed(),
            Shape::Diagonal => Normal { mean, scale }.boxed(),
            Shape::Full => {
                let eye = Tensor::<2>::eye(latent, &mean.device()).reshape([1, latent, latent]);
                let below = Tensor::<2>::ones([latent, latent], &mean.device()).tril(-1).reshape([1, latent, latent]);
                let cholesky = scale.reshape([batch, latent, 1]) * eye + below.mul_scalar(0.1);
                MultivariateNormal { mean, cholesky }.boxed()
            }
        }
    }
}

impl Classifier for LinearModel {
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2> {
        let posterior = self.posterior(inputs);
        let [batch, latent] = posterior.dims();
        let noise = draws.normal("posterior", [samples, batch, latent], &posterior.mean().device());
        let codes = posterior.rsample(noise).unwrap().mean_dim(0).reshape([batch, 1, latent]);
        let centres = self.centres.val();
        let classes = centres.dims()[0];
        let distance = (codes - centres.reshape([1, classes, latent])).powi_scalar(2).sum_dim(2).reshape([batch, classes]);
        log_softmax(distance.neg(), 1)
    }
}

/// Images whose class decides where a bright bar lies.
#[derive(Debug)]
pub struct Bars {
    info: DataInfo,
    samples: Samples,
}

impl Dataset for Bars {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, _split: Split) -> &Samples {
        &self.samples
    }
}

impl Bars {
    /// `n` images of `shape` under the name `name`, classes in turn.
    pub fn new(name: &str, shape: [usize; 3], n: usize) -> Self {
        let [channels, height, width] = shape;
        let mut noise = Noise::new(11).stream("bars", 0);
        let mut values = Vec::with_capacity(n * channels * height * width);
        for i in 0..n {
            for _ in 0..channels {
                for y in 0..height {
                    for x in 0..width {
                        let class = i % 10;
                        let on = if class < 5 { y * 5 / height == class } else { x * 5 / width == class - 5 };
                        values.push((if on { 200.0 } else { 20.0 } + 50.0 * noise.uniform()) as u8);
                    }
                }
            }
        }
        let labels = (0..n).map(|i| (i % 10) as u8).collect();
        let scaling = Scaling::uniform(channels, 2.0 / 255.0, -1.0);
        let samples = Samples::new(Values::U8(Arc::new(values)), labels, shape, scaling).unwrap();
        let classes = (0..10).map(|c| c.to_string()).collect();
        Self { info: DataInfo { name: name.to_owned(), classes, shape, note: None, class_entropy: None }, samples }
    }
}

/// Everything an analysis looks at.
pub struct Fixture {
    /// The model.
    pub model: LinearModel,
    /// Its data, the same in both splits.
    pub data: Bars,
    /// Data from a folder that is not there.
    pub library: DataLibrary,
    /// The CPU.
    pub device: Device,
    /// The run's folder, which goes with the fixture.
    pub run: tempfile::TempDir,
    /// Results go into the run's folder.
    pub output: Output,
}

impl Fixture {
    /// Model with two latent dimensions on `n` images of 8x8.
    pub fn new(shape: Shape, n: usize) -> Self {
        Self::on(shape, Bars::new("bars", [1, SIDE, SIDE], n), 2)
    }

    /// Model with `latent` dimensions on `data`; its class centres are the means of the codes of the data.
    pub fn on(shape: Shape, data: Bars, latent: usize) -> Self {
        let device = Device::flex();
        let pixels: usize = data.samples.shape().iter().product();
        let mut noise = Noise::new(5).stream("projection", 0);
        let weights: Vec<f32> = (0..pixels * latent).map(|_| noise.normal_f32() * 2.0 / (pixels as f32).sqrt()).collect();
        let projection = Tensor::<2>::from_data(TensorData::new(weights, [pixels, latent]), &device);
        let indices: Vec<usize> = (0..data.samples.len()).collect();
        let mut rows = Vec::new();
        data.samples.gather(&indices, &mut rows);
        let codes = Tensor::<2>::from_data(TensorData::new(rows, [indices.len(), pixels]), &device).matmul(projection.clone());
        let codes: Vec<f64> = codes.into_data().iter::<f64>().collect();
        let mut centres = vec![0f32; 10 * latent];
        for (i, code) in codes.chunks_exact(latent).enumerate() {
            let class = usize::from(data.samples.label(i));
            let members = indices.iter().filter(|&&j| usize::from(data.samples.label(j)) == class).count();
            for (k, x) in code.iter().enumerate() {
                centres[class * latent + k] += (x / members as f64) as f32;
            }
        }
        let centres = Tensor::from_data(TensorData::new(centres, [10, latent]), &device);
        let shape = shape as u8;
        let model = LinearModel { projection: Param::from_tensor(projection), centres: Param::from_tensor(centres), shape };
        let run = tempfile::tempdir().unwrap();
        Self { model, data, library: DataLibrary::new(DataRoot(run.path().join("data"))), device, output: Output::of_run(run.path()), run }
    }

    /// Makes all images the same.
    pub fn black(&mut self) {
        let (n, shape) = (self.data.samples.len(), self.data.samples.shape());
        let values = Values::F32(Arc::new(vec![0.0; n * shape.iter().product::<usize>()]));
        self.data.samples = Samples::new(values, self.data.samples.labels(), shape, Scaling::uniform(shape[0], 1.0, 0.0)).unwrap();
    }

    /// Makes the class scores no numbers.
    pub fn without_classes(&mut self) {
        let centres = self.model.centres.val().mul_scalar(f32::NAN);
        self.model.centres = Param::from_tensor(centres);
    }

    /// Context with a fixed seed.
    pub fn context(&self) -> AnalysisContext<'_> {
        AnalysisContext {
            model: &self.model,
            data: &self.data,
            library: &self.library,
            device: &self.device,
            run_dir: self.run_dir(),
            output: &self.output,
            label: "Strategy=oneshot  Beta=0.001 M=12",
            seed: 3,
        }
    }

    /// Directory of the run.
    pub fn run_dir(&self) -> &Path {
        self.run.path()
    }
}
