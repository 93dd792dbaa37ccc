//! Times forward and backward passes of `resnet20` on random images: `cargo run --release -p ibhost-nets --example resnet20_step -- 256 5`.
//!
//! Arguments: images in a batch (256) and steps (5). Prints one JSON line; the first step is left out.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::encoder::{BoxedEncoder, EncoderConfig};
use ibhost_framework::noise::Noise;
use ibhost_nets::resnet20::Resnet20Config;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let batch: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let steps: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let device = Device::flex().autodiff();
    let encoder = BoxedEncoder::new(Resnet20Config::default().build([3, 32, 32], &BuildContext::new(device.clone(), 1))?);
    let mut noise = Noise::new(1).stream("images", 0);
    let pixels: Vec<f32> = (0..batch * 3 * 32 * 32).map(|_| noise.normal_f32()).collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [batch, 3, 32, 32]), &device);
    let (mut forward, mut total, mut last) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..=steps {
        let start = Instant::now();
        let rate = encoder.encode(images.clone()).kl_to_standard().ok_or("no rate")?.sum();
        forward.push(start.elapsed().as_secs_f64() * 1e3);
        let gradients = rate.clone().backward();
        total.push(start.elapsed().as_secs_f64() * 1e3);
        last = rate.into_scalar::<f32>();
        drop(gradients);
    }
    let median = |times: &mut Vec<f64>| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        r#"{{"workload":"resnet20 forward and backward","batch":{batch},"steps":{steps},"forward_ms":{:.1},"step_ms":{:.1},"rate":{last}}}"#,
        median(&mut forward),
        median(&mut total)
    );
    Ok(())
}
