//! The workloads: what is trained, on what, and how much arithmetic a step takes.

use ibhost_framework::run::{ConfigError, RunConfig, Settings};
use serde_json::{Map, Value, json};

/// What an evaluation computes, the same as the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// Every measure the objective reports on held-out data.
    Measures,
    /// The class scores of one code alone: the model's whole loss takes far more than the test-time path.
    Scores,
    /// Class probabilities averaged over this many codes.
    Vote(usize),
    /// The single-sample bound on -ln p(x) alone, without the terms that only training needs.
    Bound,
}

/// One model of a paper at its published size.
pub struct Workload {
    /// Name, the same as the peer's.
    pub name: &'static str,
    /// Component strings and numbers, laid over the objective's recipe.
    settings: fn() -> Value,
    /// Samples evaluated at once.
    pub evaluation_batch: usize,
    /// Timed steps in a repeat, and steps before the first.
    pub steps: [usize; 2],
    /// What an evaluation computes.
    pub evaluation: Evaluation,
    /// Steps of the engine in one step of the paper.
    pub inner: usize,
    /// Floating-point operations of the matrix products and convolutions of a step, multiplications and additions counted apart.
    pub operations: f64,
    /// Trainable numbers, as the papers' models have them.
    pub parameters: u64,
}

/// Images of the size of CIFAR-10.
const CIFAR: &str = "bench_pool/rows:2048|channels:3|side:32|low:0|high:1|ink:1";

/// 784-1024-1024-512 with a linear decoder from 256: each product once forward and twice backward, but no gradient of the images.
/// `codes` codes are decoded for each input.
fn mlp_operations(batch: f64, codes: f64) -> f64 {
    2.0 * batch * (2.0 * 784.0 * 1024.0 + 3.0 * (1024.0 * 1024.0 + 1024.0 * 512.0 + codes * 256.0 * 10.0))
}

/// 784-1024-1024-16 and a linear decoder: as [`mlp_operations`].
fn nib_operations(batch: f64) -> f64 {
    2.0 * batch * (2.0 * 784.0 * 1024.0 + 3.0 * (1024.0 * 1024.0 + 1024.0 * 16.0 + 16.0 * 10.0))
}

/// Ten main updates (two encoders, class decoder and reconstructor on ten draws an input, estimator without its own gradients) and three of
/// the estimator (both encoders forward, twice 640 rows through it).
fn disenib_operations(batch: f64) -> f64 {
    let rows = 10.0 * batch;
    let hidden = 1024.0 * 1024.0;
    let encoder = [784.0 * 1024.0, hidden + 1024.0 * 16.0];
    let reconstructor = 26.0 * 1024.0 + hidden + 1024.0 * 784.0;
    let estimator = 32.0 * 256.0 + 2.0 * 256.0 * 256.0 + 256.0;
    let main = batch * 2.0 * (2.0 * encoder[0] + 3.0 * encoder[1]) + rows * (3.0 * (160.0 + reconstructor) + 2.0 * estimator);
    let update = batch * 2.0 * (encoder[0] + encoder[1]) + 2.0 * rows * 3.0 * estimator;
    2.0 * (10.0 * main + 3.0 * update)
}

/// The dense layers of the toy encoder and decoder, each used about twice on both branches, forward and backward.
fn toy_operations(batch: f64, dims: f64, latent: f64) -> f64 {
    let encoder = dims * 50.0 + 2.0 * 50.0 * latent;
    let decoder = latent * 50.0 + 2.0 * 50.0 * dims;
    2.0 * batch * 3.0 * 2.0 * (encoder + decoder)
}

/// ResNet-20 on 32x32: 40.6 million multiply-adds an image forward, without the stem's input gradient backward.
fn resnet20_operations(batch: f64) -> f64 {
    let positions = [1024.0, 256.0, 64.0];
    let stem = positions[0] * 9.0 * 3.0 * 16.0;
    let stage = |i: usize, from: f64, to: f64| positions[i] * 9.0 * (from * to + 5.0 * to * to);
    let body = stage(0, 16.0, 16.0) + stage(1, 16.0, 32.0) + stage(2, 32.0, 64.0);
    2.0 * batch * (2.0 * stem + 3.0 * body)
}

/// Multiply-adds of a convolution for one image: `size` output pixels, kernel edge, channels in and out.
fn convolution(size: f64, kernel: f64, channels: [f64; 2]) -> f64 {
    size * size * kernel * kernel * channels[0] * channels[1]
}

/// Multiply-adds of the gated encoders of one 28x28 image, those of the top level and of both.
fn gated_encoders() -> [f64; 2] {
    let stack = |first: f64, third: f64| {
        2.0 * (convolution(28.0, first, [1.0, 32.0])
            + convolution(14.0, 3.0, [32.0, 32.0])
            + convolution(14.0, third, [32.0, 64.0])
            + convolution(7.0, 3.0, [64.0, 64.0])
            + convolution(7.0, 3.0, [64.0, 6.0]))
    };
    [stack(7.0, 5.0), stack(7.0, 5.0) + stack(3.0, 3.0)]
}

/// Gated convolutions forward and twice backward: 500 pseudo-inputs through the top encoder; data and sampled images through both encoders
/// and the decoder.
fn convhvae_operations(batch: f64) -> f64 {
    let [top, encoders] = gated_encoders();
    let decoder = 2.0 * (convolution(28.0, 3.0, [1.0, 64.0]) + 3.0 * convolution(28.0, 3.0, [64.0, 64.0])) + 784.0 * 64.0;
    6.0 * (500.0 * top + 2.0 * batch * (encoders + decoder))
}

/// As [`convhvae_operations`] without sampled images and with the masked layers, kernels counted whole.
fn pixelhvae_operations(batch: f64) -> f64 {
    let [top, encoders] = gated_encoders();
    let decoder = convolution(28.0, 3.0, [3.0, 64.0]) + 7.0 * convolution(28.0, 3.0, [64.0, 64.0]) + 784.0 * 64.0;
    6.0 * (500.0 * top + batch * (encoders + decoder))
}

/// Settings of a HIT model on images of the size of CIFAR-10.
fn hit_on_cifar(objective: &str, model: &str) -> Value {
    json!({
        "objective": objective, "encoder": format!("{model}/c:32|z:32"), "decoder": format!("{model}/c:32|sigma:0.71"), "optimiser": "adam",
        "schedule": "constant", "dataset": CIFAR, "batch_size": 256, "lr": 3e-4,
    })
}

/// What both HIT models share on 3x32x32 images: p(y|z) and p(x|y), forward and twice backward.
fn hit_decoder() -> f64 {
    let code = 32.0 * 256.0 + 256.0 * 1024.0;
    3.0 * (code + convolution(4.0, 4.0, [32.0, 32.0]) + convolution(8.0, 4.0, [32.0, 32.0]) + convolution(16.0, 4.0, [32.0, 3.0]))
}

/// The top-down encoder: the convolutions of the image have no gradient for it.
fn hvae_operations(batch: f64) -> f64 {
    let first = 2.0 * 2.0 * convolution(16.0, 4.0, [3.0, 32.0]);
    let top = convolution(8.0, 4.0, [32.0, 32.0]) + convolution(4.0, 4.0, [32.0, 32.0]) + 512.0 * 64.0;
    let path = convolution(8.0, 4.0, [32.0, 32.0]) + 32.0 * 512.0 + convolution(4.0, 4.0, [32.0, 32.0]);
    let joint = convolution(4.0, 4.0, [64.0, 32.0]) + convolution(4.0, 3.0, [32.0, 64.0]);
    2.0 * batch * (first + 3.0 * (top + path + joint) + hit_decoder())
}

/// The ladder: one pass over the image for both levels.
fn lvae_operations(batch: f64) -> f64 {
    let first = 2.0 * convolution(16.0, 4.0, [3.0, 32.0]);
    let rest = convolution(8.0, 4.0, [32.0, 32.0]) + 2.0 * convolution(4.0, 4.0, [32.0, 32.0]) + 512.0 * 64.0;
    2.0 * batch * (first + 3.0 * (rest + convolution(4.0, 3.0, [32.0, 64.0])) + hit_decoder())
}

/// Every workload whose paper is there.
pub fn workloads() -> Vec<Workload> {
    vec![
        Workload {
            name: "vib-mlp-mnist",
            settings: || {
                json!({
                    "objective": "vib/beta:0.001|samples:1|eval_samples:12", "encoder": "mlp/e1:1024|e2:1024|z:256", "dataset": "bench_pool",
                    "schedule": "constant", "batch_size": 100, "lr": 1e-4, "average": 0.999,
                })
            },
            evaluation_batch: 100,
            steps: [60, 10],
            evaluation: Evaluation::Vote(12),
            inner: 1,
            operations: mlp_operations(100.0, 1.0),
            parameters: 2_380_810,
        },
        Workload {
            name: "vdb-mlp-mnist",
            settings: || {
                json!({
                    "objective": "vdb/beta:0.001|m:4|eval_samples:12|train_accuracy:none", "encoder": "mlp/e1:1024|e2:1024|z:256",
                    "dataset": "bench_pool", "batch_size": 100, "lr": 1e-4,
                })
            },
            evaluation_batch: 100,
            steps: [60, 10],
            evaluation: Evaluation::Vote(12),
            inner: 1,
            operations: mlp_operations(100.0, 4.0),
            parameters: 2_380_810,
        },
        Workload {
            name: "vdb-resnet20-cifar10",
            settings: || {
                json!({
                    "objective": "vdb/beta:0.001|m:1|eval_samples:12|train_accuracy:none", "encoder": "resnet20/z:2|cov:full",
                    "dataset": CIFAR, "batch_size": 256, "lr": 1e-4,
                })
            },
            evaluation_batch: 256,
            steps: [3, 1],
            evaluation: Evaluation::Vote(12),
            inner: 1,
            operations: resnet20_operations(256.0),
            parameters: 269_427,
        },
        Workload {
            name: "lagrangian-nib-mnist",
            settings: || {
                json!({
                    "objective": "lagrangian/term:nib|lambda_kl:0.01", "encoder": "dense/hidden:[1024;1024]|z:16|cov:shared|learn_std:true",
                    "decoder": "dense_classifier/hidden:[]", "dataset": "bench_pool", "optimiser": "adam/beta1:0.5|beta2:0.999",
                    "schedule": "constant", "batch_size": 100, "lr": 1e-4,
                })
            },
            evaluation_batch: 2560,
            steps: [60, 10],
            evaluation: Evaluation::Scores,
            inner: 1,
            operations: nib_operations(100.0),
            parameters: 1_870_011,
        },
        Workload {
            name: "disenib-fc-mnist",
            settings: || {
                json!({
                    "objective": "disenib/est_thr:0|n_samples:10", "encoder": "dense/hidden:[1024;1024]|z:16|cov:point",
                    "decoder": "dense_classifier/hidden:[]", "dataset": "bench_pool", "optimiser": "adam/beta1:0.5|beta2:0.999",
                    "schedule": "constant", "batch_size": 64, "lr": 1e-4,
                })
            },
            evaluation_batch: 2560,
            steps: [1, 1],
            evaluation: Evaluation::Scores,
            inner: 10,
            operations: disenib_operations(64.0),
            parameters: 5_763_195,
        },
        Workload {
            name: "mim-toy4",
            settings: || {
                json!({
                    "objective": "mim/sampled:true|warmup:0|min_logvar:6", "encoder": "vector_mlp/z:2|mid:50|min_logvar:6",
                    "decoder": "vector_mlp/mid:50|min_logvar:6", "dataset": "toy/k:4", "optimiser": "adam", "schedule": "constant",
                    "batch_size": 128, "lr": 1e-3,
                })
            },
            evaluation_batch: 128,
            steps: [300, 30],
            evaluation: Evaluation::Measures,
            inner: 1,
            operations: toy_operations(128.0, 2.0, 2.0),
            parameters: 708,
        },
        Workload {
            name: "mim-toy4-20",
            settings: || {
                json!({
                    "objective": "mim/sampled:true|warmup:0|min_logvar:6", "encoder": "vector_mlp/z:10|mid:50|min_logvar:6",
                    "decoder": "vector_mlp/mid:50|min_logvar:6", "dataset": "toy/k:4|d:20", "optimiser": "adam", "schedule": "constant",
                    "batch_size": 128, "lr": 1e-3,
                })
            },
            evaluation_batch: 128,
            steps: [300, 30],
            evaluation: Evaluation::Measures,
            inner: 1,
            operations: toy_operations(128.0, 20.0, 10.0),
            parameters: 4_660,
        },
        Workload {
            name: "hvae-cifar10",
            settings: || hit_on_cifar("hit", "hvae"),
            evaluation_batch: 256,
            steps: [8, 2],
            evaluation: Evaluation::Measures,
            inner: 1,
            operations: hvae_operations(256.0),
            parameters: 475_811,
        },
        Workload {
            name: "lvae-cifar10",
            settings: || hit_on_cifar("hit/warmup:0", "lvae"),
            evaluation_batch: 256,
            steps: [8, 2],
            evaluation: Evaluation::Measures,
            inner: 1,
            operations: lvae_operations(256.0),
            parameters: 408_131,
        },
        Workload {
            name: "convhvae-mnist",
            settings: || {
                json!({
                    "objective": "hvae/loss:smim|warmup:0", "encoder": "gated_conv", "decoder": "gated_conv", "lr": 5e-4,
                    "dataset": "bench_pool/rows:2000|low:0|binary:true", "batch_size": 100,
                })
            },
            evaluation_batch: 100,
            steps: [1, 1],
            evaluation: Evaluation::Bound,
            inner: 1,
            operations: convhvae_operations(100.0),
            parameters: 2_602_861,
        },
        Workload {
            name: "pixelhvae-mnist",
            settings: || {
                json!({
                    "objective": "hvae/loss:amim|warmup:0", "encoder": "gated_conv", "decoder": "pixel_conv", "lr": 5e-4,
                    "dataset": "bench_pool/rows:2000|low:0|binary:true", "batch_size": 100,
                })
            },
            evaluation_batch: 100,
            steps: [1, 1],
            evaluation: Evaluation::Bound,
            inner: 1,
            operations: pixelhvae_operations(100.0),
            parameters: 1_777_821,
        },
    ]
}

impl Workload {
    /// The run it stands for.
    ///
    /// # Errors
    /// [`ConfigError`] when a component or setting is not accepted.
    pub fn config(&self, device: &str, seed: u64, batch: Option<usize>) -> Result<RunConfig, ConfigError> {
        let mut settings = Settings::new();
        let mut layer: Map<String, Value> = (self.settings)().as_object().cloned().unwrap_or_default();
        layer.insert("device".to_owned(), device.into());
        layer.insert("seed".to_owned(), seed.into());
        layer.insert("evaluation_batch".to_owned(), self.evaluation_batch.into());
        // More steps than any measurement takes.
        layer.insert("epochs".to_owned(), 1_000_000.into());
        if let Some(batch) = batch {
            layer.insert("batch_size".to_owned(), batch.into());
        }
        settings.overlay(layer)?;
        settings.resolve()
    }
}
