//! `TensorBoard` event files: scalars, texts and images that the `tensorboard` program shows while a run goes on.
//!
//! Records are framed by the crate `tensorboard-rs`. Its own file writer is not used: it ends the process on a full disk, gives images
//! wrong dimensions unless they are square, and has no texts.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use protobuf::{Message, RepeatedField};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{Summary, Summary_Image, Summary_Value, SummaryMetadata, SummaryMetadata_PluginData};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;
use tensorboard_rs::record_writer::RecordWriter;

use crate::storage::atomic::{self, StorageError};
use crate::storage::inside;
use crate::storage::run_dir::host_name;

/// First record of every event file.
const FILE_VERSION: &str = "brain.Event:2";
/// Code of `TensorBoard` for images with red, green and blue bytes.
const COLORSPACE_RGB: i32 = 3;
/// Records are collected up to this size before they go to the file.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many event files one process can start in a folder within one second.
const NAME_ATTEMPTS: u32 = 1000;

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    /// Bytes of the file that hold whole records.
    written: u64,
    buffer: Vec<u8>,
}

impl EventWriter {
    /// Starts an event file in `dir`, which is created when missing.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn create(dir: &Path) -> Result<Self, StorageError> {
        atomic::create_folders(dir)?;
        let (path, file) = new_event_file(dir)?;
        let mut writer = Self { path, file, written: 0, buffer: Vec::new() };
        let mut event = Event::new();
        event.set_file_version(FILE_VERSION.into());
        writer.append(event, 0)?;
        writer.flush()?;
        atomic::sync_folder(dir)?;
        atomic::sync_folder(atomic::parent_of(dir))?;
        Ok(writer)
    }

    /// Starts an event file for a run that continues: `TensorBoard` drops what earlier files say about `first_step` and later steps,
    /// which are going to be written again.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn resume(dir: &Path, first_step: u64) -> Result<Self, StorageError> {
        let mut writer = Self::create(dir)?;
        let mut session = SessionLog::new();
        session.set_status(SessionLog_SessionStatus::START);
        let mut event = Event::new();
        event.set_session_log(session);
        writer.append(event, first_step)?;
        writer.flush()?;
        Ok(writer)
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A point of the curve `tag`; the format keeps 32 bits of `value`.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<(), StorageError> {
        self.append_value(tag, step, |entry| entry.set_simple_value(value as f32))
    }

    /// A text in Markdown under `tag`.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn text(&mut self, tag: &str, markdown: &str, step: u64) -> Result<(), StorageError> {
        let mut axis = TensorShapeProto_Dim::new();
        axis.set_size(1);
        let mut shape = TensorShapeProto::new();
        shape.set_dim(RepeatedField::from_vec(vec![axis]));
        let mut tensor = TensorProto::new();
        tensor.set_dtype(DataType::DT_STRING);
        tensor.set_tensor_shape(shape);
        tensor.set_string_val(RepeatedField::from_vec(vec![markdown.as_bytes().to_vec()]));
        let mut plugin = SummaryMetadata_PluginData::new();
        plugin.set_plugin_name("text".into());
        let mut metadata = SummaryMetadata::new();
        metadata.set_plugin_data(plugin);
        self.append_value(tag, step, |entry| {
            entry.set_metadata(metadata);
            entry.set_tensor(tensor);
        })
    }

    /// An image of `width` x `height` pixels under `tag`; `rgb` holds rows from the top, three bytes a pixel.
    ///
    /// # Errors
    /// [`StorageError::Encode`] when the number of bytes does not fit the dimensions or one of them is 0, or what the disk refused.
    pub fn image(&mut self, tag: &str, width: u32, height: u32, rgb: &[u8], step: u64) -> Result<(), StorageError> {
        let expected = u64::from(width) * u64::from(height) * 3;
        let (Ok(signed_width), Ok(signed_height)) = (i32::try_from(width), i32::try_from(height)) else {
            return Err(StorageError::encode(&self.path, format!("image `{tag}` of {width}x{height} pixels is too large")));
        };
        if rgb.len() as u64 != expected {
            let reason = format!("image `{tag}` of {width}x{height} pixels needs {expected} bytes, {} were given", rgb.len());
            return Err(StorageError::encode(&self.path, reason));
        }
        let png = encode_png(width, height, rgb).map_err(|e| StorageError::encode(&self.path, format!("image `{tag}`: {e}")))?;
        let mut image = Summary_Image::new();
        image.set_width(signed_width);
        image.set_height(signed_height);
        image.set_colorspace(COLORSPACE_RGB);
        image.set_encoded_image_string(png);
        self.append_value(tag, step, |entry| entry.set_image(image))
    }

    /// Hands everything recorded so far to the operating system.
    ///
    /// # Errors
    /// What the disk refused; records that could not be written are dropped and the file stays readable.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        inside::separate(&mut self.file, &self.path)?;
        let result = atomic::write_all(&self.file, &self.path, &self.buffer);
        if result.is_ok() {
            self.written += self.buffer.len() as u64;
        } else {
            // A torn record in the middle would hide all later ones from readers.
            let cut = atomic::set_length(&self.file, &self.path, self.written);
            let back = self.file.seek(SeekFrom::Start(self.written));
            if cut.is_err() || back.is_err() {
                tracing::warn!("`{}` ends with an incomplete record", self.path.display());
            }
        }
        self.buffer.clear();
        result
    }

    /// Waits until everything handed over is on the disk.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn sync(&self) -> Result<(), StorageError> {
        atomic::sync_file(&self.file, &self.path)
    }

    /// Records one value of a summary.
    fn append_value(&mut self, tag: &str, step: u64, fill: impl FnOnce(&mut Summary_Value)) -> Result<(), StorageError> {
        let mut entry = Summary_Value::new();
        entry.set_tag(tag.into());
        fill(&mut entry);
        let mut summary = Summary::new();
        summary.set_value(RepeatedField::from_vec(vec![entry]));
        let mut event = Event::new();
        event.set_summary(summary);
        self.append(event, step)
    }

    /// Stamps an event, frames it and puts it into the buffer.
    fn append(&mut self, mut event: Event, step: u64) -> Result<(), StorageError> {
        event.set_wall_time(since_epoch().as_secs_f64());
        event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
        let bytes = event.write_to_bytes().map_err(|e| StorageError::encode(&self.path, e.to_string()))?;
        RecordWriter::new(&mut self.buffer).write(&bytes).map_err(|source| StorageError::io("write", &self.path, source))?;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!("the last TensorBoard records are lost: {error}");
        }
    }
}

/// Time since 1970; zero on a clock set before that.
fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Creates the file under the kind of name `TensorBoard` looks for; names sort by time.
fn new_event_file(dir: &Path) -> Result<(PathBuf, File), StorageError> {
    let host: String =
        host_name().chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }).collect();
    let start = format!("events.out.tfevents.{:010}.{host}.{}", since_epoch().as_secs(), std::process::id());
    let mut number = 0;
    loop {
        let path = dir.join(format!("{start}.{number}"));
        match atomic::create_file(&path) {
            Err(StorageError::AlreadyExists { .. }) if number < NAME_ATTEMPTS => number += 1,
            other => return other.map(|file| (path, file)),
        }
    }
}

/// The image as a PNG file.
fn encode_png(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::storage::fault::sweep::{self, Failure};

    /// CRC-32C bit by bit, masked as the record format asks; shares nothing with the table of the writer.
    fn masked_crc(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
    }

    /// All events of a file, with both checksums of every record checked.
    fn events(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let (length_crc, after) = after.split_at(4);
            assert_eq!(length_crc, masked_crc(length).to_le_bytes());
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            let (data, after) = after.split_at(length);
            let (data_crc, after) = after.split_at(4);
            assert_eq!(data_crc, masked_crc(data).to_le_bytes());
            events.push(Event::parse_from_bytes(data).unwrap());
            rest = after;
        }
        events
    }

    #[test]
    fn the_test_checksum_has_the_published_check_value() {
        // CRC-32C of "123456789" is 0xe3069283.
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn scalars_texts_and_images_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(&dir.path().join("tensorboard")).unwrap();
        writer.scalar("train/loss", 0.25, 7).unwrap();
        writer.scalar("train/izx_nats", f64::NAN, u64::MAX).unwrap();
        writer.text("config", "# ü\n| a | b |", 0).unwrap();
        let rgb: Vec<u8> = (0..18).collect();
        writer.image("plots/latent", 3, 2, &rgb, 9).unwrap();
        writer.flush().unwrap();
        let name = writer.path().file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("events.out.tfevents."), "{name}");

        let events = events(writer.path());
        assert_eq!(events[0].get_file_version(), FILE_VERSION);
        assert!(events.iter().all(|e| e.get_wall_time() > 1.7e9));
        let value = |i: usize| &events[i].get_summary().get_value()[0];
        assert_eq!((value(1).get_tag(), value(1).get_simple_value(), events[1].get_step()), ("train/loss", 0.25, 7));
        assert!(value(2).get_simple_value().is_nan());
        assert_eq!(events[2].get_step(), i64::MAX);
        assert_eq!(value(3).get_metadata().get_plugin_data().get_plugin_name(), "text");
        assert_eq!(value(3).get_tensor().get_dtype(), DataType::DT_STRING);
        assert_eq!(value(3).get_tensor().get_string_val()[0], "# ü\n| a | b |".as_bytes());
        let image = value(4).get_image();
        assert_eq!((image.get_width(), image.get_height(), image.get_colorspace()), (3, 2, 3));
        let mut reader = png::Decoder::new(std::io::Cursor::new(image.get_encoded_image_string())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, rgb);
        assert_eq!(events.len(), 5);
    }

    #[test]
    fn two_writers_in_one_second_use_two_files_and_a_resume_marks_its_first_step() {
        let dir = tempfile::tempdir().unwrap();
        let first = EventWriter::create(dir.path()).unwrap();
        let second = EventWriter::resume(dir.path(), 40).unwrap();
        assert_ne!(first.path(), second.path());
        let events = events(second.path());
        assert_eq!((events[1].get_session_log().get_status(), events[1].get_step()), (SessionLog_SessionStatus::START, 40));
    }

    #[test]
    fn many_records_are_written_on_drop_without_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path()).unwrap();
        for step in 0..5000 {
            writer.scalar("loss", 1.0 / f64::from(u32::try_from(step).unwrap() + 1), step).unwrap();
        }
        let path = writer.path().to_path_buf();
        drop(writer);
        let events = events(&path);
        assert_eq!((events.len(), events[5000].get_step()), (5001, 4999));
    }

    #[test]
    fn images_that_do_not_fit_their_dimensions_and_refusing_disks_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path()).unwrap();
        let error = writer.image("a", 2, 2, &[0; 11], 0).unwrap_err().to_string();
        assert!(error.contains("`a` of 2x2") && error.contains("12 bytes"), "{error}");
        assert!(writer.image("a", 0, 2, &[], 0).is_err());
        assert!(writer.image("a", u32::MAX, 1, &[], 0).is_err());

        writer.scalar("lost", 1.0, 1).unwrap();
        sweep::arm(0, Failure::FullHalfway);
        assert!(matches!(writer.flush(), Err(StorageError::Io { .. })));
        sweep::disarm();
        writer.scalar("kept", 2.0, 2).unwrap();
        writer.flush().unwrap();
        let events = events(writer.path());
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].get_summary().get_value()[0].get_tag(), "kept");
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        assert!(EventWriter::create(&blocked).is_err());
    }
}
