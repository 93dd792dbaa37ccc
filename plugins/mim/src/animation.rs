//! Frames of one size as an animation: animated PNG and GIF written here, MP4 by the program `ffmpeg`.

use std::path::Path;
use std::process::{Command, Stdio};

use ibhost_analyses::figures::plot::PlotError;

/// Frames a second.
const RATE: u16 = 10;
/// Effort of the search for the 256 colours of a GIF frame, from 1 (best) to 30 (fastest).
const PALETTE_SPEED: i32 = 10;

/// RGB pixels row by row.
struct Pixels {
    width: u32,
    height: u32,
    values: Vec<u8>,
}

fn failed(error: &dyn std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Reads RGB pictures of one size.
fn decode(frames: &[Vec<u8>]) -> Result<Vec<Pixels>, PlotError> {
    let one = |bytes: &Vec<u8>| {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().map_err(|e| failed(&e))?;
        let mut values = vec![0; reader.output_buffer_size().unwrap_or(0)];
        let info = reader.next_frame(&mut values).map_err(|e| failed(&e))?;
        if info.color_type != png::ColorType::Rgb {
            return Err(PlotError(format!("a frame holds {:?} pixels, not RGB", info.color_type)));
        }
        Ok(Pixels { width: info.width, height: info.height, values })
    };
    let all = frames.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    match all.first() {
        None => Err(PlotError("there is no frame to animate".to_owned())),
        Some(first) if all.iter().any(|p| (p.width, p.height) != (first.width, first.height)) => {
            Err(PlotError("the frames have several sizes".to_owned()))
        }
        Some(_) => Ok(all),
    }
}

/// PNG pictures as an animated PNG, ten a second, repeated for ever.
///
/// # Errors
/// [`PlotError`] when there is no frame, or frames are not RGB pictures of one size.
pub fn animated_png(frames: &[Vec<u8>]) -> Result<Vec<u8>, PlotError> {
    let frames = decode(frames)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, frames[0].width, frames[0].height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(frames.len() as u32, 0).map_err(|e| failed(&e))?;
    encoder.set_frame_delay(1, RATE).map_err(|e| failed(&e))?;
    let mut writer = encoder.write_header().map_err(|e| failed(&e))?;
    for frame in frames {
        writer.write_image_data(&frame.values).map_err(|e| failed(&e))?;
    }
    writer.finish().map_err(|e| failed(&e))?;
    Ok(bytes)
}

/// PNG pictures as a GIF of 256 colours a frame, ten a second, repeated for ever.
///
/// # Errors
/// As [`animated_png`], and when a side is longer than 65,535 pixels.
pub fn gif(frames: &[Vec<u8>]) -> Result<Vec<u8>, PlotError> {
    let frames = decode(frames)?;
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| PlotError(format!("a GIF cannot be {pixels} pixels wide or high")));
    let (width, height) = (side(frames[0].width)?, side(frames[0].height)?);
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &[]).map_err(|e| failed(&e))?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(|e| failed(&e))?;
    for frame in frames {
        let mut frame = gif::Frame::from_rgb_speed(width, height, &frame.values, PALETTE_SPEED);
        frame.delay = 100 / RATE;
        encoder.write_frame(&frame).map_err(|e| failed(&e))?;
    }
    drop(encoder);
    Ok(bytes)
}

/// Whether `program` can be started; otherwise why not and what to do.
///
/// # Errors
/// A sentence naming the program.
pub fn can_run(program: &Path) -> Result<(), String> {
    let started = Command::new(program).arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let reason = match started {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!("cannot be started: {error}"),
    };
    Err(format!("`{}` {reason}; install ffmpeg, or leave `mp4` out: the animated PNG and the GIF need no other program", program.display()))
}

/// The first `count` of the pictures `reconstruction_001.png`, `reconstruction_002.png`, ... of `folder` as an H.264 film at `path`, ten a second, made by
/// `program` (ffmpeg).
///
/// # Errors
/// [`PlotError`] with what the program said last.
pub fn mp4(program: &Path, folder: &Path, count: usize, path: &Path) -> Result<(), PlotError> {
    let mut command = Command::new(program);
    command.args(["-nostdin", "-y", "-loglevel", "error", "-framerate"]).arg(RATE.to_string());
    command.arg("-start_number").arg("1").arg("-i").arg(folder.join("reconstruction_%03d.png"));
    command.arg("-frames:v").arg(count.to_string());
    // Players want two-by-two colour samples, and these want even sides.
    command.args(["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4"]).arg(path);
    let output = command.stdin(Stdio::null()).output().map_err(|e| PlotError(format!("`{}` cannot be started: {e}", program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned();
    Err(PlotError(format!("`{}` ended with {} and said: {last}", program.display(), output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_analyses::figures::plot::{Colour, Figure, Layer, panels_png};

    const RED: Colour = [214, 39, 40];
    const GREEN: Colour = [44, 160, 44];

    fn frame(colour: Colour, size: (u32, u32)) -> Vec<u8> {
        let mut figure = Figure::new("", "", "").within(1.0);
        figure.layers.push(Layer::Points { points: vec![[0.0, 0.0]], colour, opacity: 1.0, radius: 9 });
        panels_png(&[figure.clone(), figure], 1, size).unwrap()
    }

    #[test]
    fn frames_become_one_animated_png() {
        let bytes = animated_png(&[frame(RED, (120, 240)), frame(GREEN, (120, 240))]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().animation_control().unwrap().num_frames, 2);
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        for colour in [RED, GREEN] {
            reader.next_frame(&mut pixels).unwrap();
            assert!(pixels.chunks_exact(3).any(|p| p == colour));
        }
    }

    #[test]
    fn frames_become_one_gif_of_a_second_each_ten() {
        let bytes = gif(&[frame(RED, (121, 240)), frame(GREEN, (121, 240))]).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (121, 240));
        for colour in [RED, GREEN] {
            let frame = decoder.read_next_frame().unwrap().unwrap();
            assert_eq!(frame.delay, 10);
            let near = |p: &[u8]| p.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 12);
            assert!(frame.buffer.chunks_exact(4).any(near));
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
    }

    #[test]
    fn no_frames_and_frames_of_several_sizes_are_refused() {
        assert!(animated_png(&[]).unwrap_err().to_string().contains("no frame"));
        let mixed = [frame(RED, (120, 240)), frame(RED, (120, 200))];
        assert!(gif(&mixed).unwrap_err().to_string().contains("several sizes"));
        assert!(animated_png(&[b"no picture".to_vec()]).is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_refused_and_one_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("ffmpeg");
        assert!(can_run(&absent).unwrap_err().contains("install ffmpeg"));
        let error = mp4(&absent, folder.path(), 2, &folder.path().join("film.mp4")).unwrap_err().to_string();
        assert!(error.contains("cannot be started"), "{error}");
        let program = Path::new("ffmpeg");
        if can_run(program).is_err() {
            eprintln!("skipped: there is no ffmpeg on this machine");
            return;
        }
        let error = mp4(program, folder.path(), 2, &folder.path().join("film.mp4")).unwrap_err().to_string();
        assert!(error.contains("reconstruction_"), "{error}");
        for (number, colour) in [RED, GREEN].into_iter().enumerate() {
            std::fs::write(folder.path().join(format!("reconstruction_{:03}.png", number + 1)), frame(colour, (121, 240))).unwrap();
        }
        mp4(program, folder.path(), 2, &folder.path().join("film.mp4")).unwrap();
        assert_eq!(&std::fs::read(folder.path().join("film.mp4")).unwrap()[4..8], b"ftyp");
    }
}
