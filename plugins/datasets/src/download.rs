//! One transfer over HTTP into a partial file: resumed where possible, bounded in size, given up when it stalls.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use ureq::Agent;

/// Redirects followed before a mirror is given up.
const MAX_REDIRECTS: u32 = 5;

/// Why a mirror did not give the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// An answer that is not the file.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// Nothing arrived for too long.
    #[error("stalled: nothing arrived for {:.1} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The transfer ended early.
    #[error("truncated: {received} of {} bytes arrived", .expected.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string()))]
    Truncated {
        /// Bytes that are there now.
        received: u64,
        /// Bytes that should be, when known.
        expected: Option<u64>,
    },
    /// More bytes than the file can have.
    #[error("the answer is larger than the {limit} bytes allowed")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// All bytes arrived, but not the published ones.
    #[error("checksum: expected md5 {expected}, found {found}")]
    Checksum {
        /// Published md5.
        expected: String,
        /// md5 of what arrived.
        found: String,
    },
    /// All bytes arrived, but not those that the publishing repository has.
    #[error("checksum: expected the git blob {expected}, found {found}")]
    Blob {
        /// Published name of the content.
        expected: String,
        /// Name of what arrived.
        found: String,
    },
    /// An archive that cannot be read or lacks a member.
    #[error("archive: {0}")]
    Archive(String),
    /// The chain of redirects is too long or goes in circles.
    #[error("more than {MAX_REDIRECTS} redirects")]
    Redirects,
    /// No connection, a broken one, or an answer that is not HTTP.
    #[error("{0}")]
    Connection(String),
}

impl Cause {
    /// Whether what has arrived must not be continued by a later attempt.
    pub(crate) fn spoils_the_part(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Checksum { .. } | Self::Blob { .. } | Self::Archive(_))
    }
}

/// A failure of the mirror, or of the disk the file is written to.
#[derive(Debug)]
pub(crate) enum Broken {
    Mirror(Cause),
    Disk(io::Error),
}

impl From<Cause> for Broken {
    fn from(cause: Cause) -> Self {
        Self::Mirror(cause)
    }
}

/// A client that waits at most `stall` for each step and each read.
pub(crate) fn agent(stall: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        .user_agent(concat!("ibhost/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .build()
        .into()
}

/// What to transfer and how much of it to accept.
pub(crate) struct Transfer<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) url: &'a str,
    pub(crate) stall: Duration,
    /// Published size in bytes.
    pub(crate) size: Option<u64>,
    /// Most bytes accepted.
    pub(crate) limit: u64,
    /// Told the bytes there are and the bytes there will be.
    pub(crate) report: &'a dyn Fn(u64, Option<u64>),
}

impl Transfer<'_> {
    /// Completes `part`, which may hold the beginning of the file already; returns whether such a beginning was used.
    pub(crate) fn run(&self, part: &mut File) -> Result<bool, Broken> {
        let mut start = part.seek(SeekFrom::End(0)).map_err(Broken::Disk)?;
        if start > self.limit {
            start = restart(part)?;
        }
        if start > 0 && self.size == Some(start) {
            return Ok(true);
        }
        let mut response = self.request(start)?;
        if start > 0 {
            let range = response.headers().get("content-range").and_then(|value| value.to_str().ok()).map(str::to_owned);
            match (response.status().as_u16(), range) {
                (206, Some(range)) if range.starts_with(&format!("bytes {start}-")) => {}
                // The server says that the part is already the whole file.
                (416, Some(range)) if range == format!("bytes */{start}") => return Ok(true),
                (206 | 416, _) => {
                    start = restart(part)?;
                    response = self.request(0)?;
                }
                // The server ignores ranges and sends the whole file; any other status is refused below.
                (200, _) => start = restart(part)?,
                _ => {}
            }
        }
        match response.status().as_u16() {
            200 => {}
            206 if start > 0 => {}
            status => return Err(Cause::Status(status).into()),
        }
        let total = response.body().content_length().map(|length| length.saturating_add(start));
        if total.is_some_and(|total| total > self.limit) {
            return Err(Cause::TooLarge { limit: self.limit }.into());
        }
        let expected = self.size.or(total);
        let received = self.receive(response.body_mut().as_reader(), part, start, expected)?;
        if expected.is_some_and(|expected| received < expected) {
            return Err(Cause::Truncated { received, expected }.into());
        }
        Ok(start > 0)
    }

    fn request(&self, start: u64) -> Result<ureq::http::Response<ureq::Body>, Broken> {
        let mut request = self.agent.get(self.url);
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        request.call().map_err(|e| self.cause(e, start, self.size).into())
    }

    /// Appends what `reader` gives; returns the size of the part.
    fn receive(&self, mut reader: impl Read, part: &mut File, start: u64, expected: Option<u64>) -> Result<u64, Broken> {
        let mut received = start;
        let mut buffer = vec![0; 1 << 16];
        (self.report)(received, expected);
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(received),
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.cause(e.into(), received, expected).into()),
            };
            received += read as u64;
            if received > self.limit {
                return Err(Cause::TooLarge { limit: self.limit }.into());
            }
            part.write_all(&buffer[..read]).map_err(Broken::Disk)?;
            (self.report)(received, expected);
        }
    }

    fn cause(&self, error: ureq::Error, received: u64, expected: Option<u64>) -> Cause {
        match error {
            ureq::Error::Timeout(_) => Cause::Stalled(self.stall),
            ureq::Error::TooManyRedirects => Cause::Redirects,
            ureq::Error::Io(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Cause::Stalled(self.stall),
            ureq::Error::Io(e) if e.kind() == ErrorKind::UnexpectedEof => Cause::Truncated { received, expected },
            other => Cause::Connection(other.to_string()),
        }
    }
}

/// Empties `part`; returns its new size, 0.
fn restart(part: &mut File) -> Result<u64, Broken> {
    part.set_len(0).and_then(|()| part.rewind()).map_err(Broken::Disk)?;
    Ok(0)
}
