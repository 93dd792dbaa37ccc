//! A small HTTP server on the loopback interface whose routes misbehave in chosen ways.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How a route answers.
#[derive(Clone)]
pub(crate) enum Reply {
    /// The whole body, whatever range is asked for.
    Whole(Vec<u8>),
    /// The range asked for.
    Ranged(Vec<u8>),
    /// Announces all, sends this many bytes and closes.
    Truncated(Vec<u8>, usize),
    /// Announces all, sends this many bytes and then nothing.
    Stalled(Vec<u8>, usize),
    /// Bytes without end and without an announced length.
    Endless,
    /// An empty body with this status.
    Status(u16),
    /// A redirect to a path of this server.
    Redirect(String),
}

/// Path and `Range` header.
pub(crate) type Request = (String, Option<String>);

/// A running server; it stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Serves `routes`, pairs of path and reply; other paths give 404.
    pub(crate) fn start(routes: Vec<(&'static str, Reply)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, requests: Arc::default(), stop: Arc::default() };
        let (requests, stop) = (Arc::clone(&server.requests), Arc::clone(&server.stop));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (routes, requests, stop) = (routes.clone(), Arc::clone(&requests), Arc::clone(&stop));
                // Clients hang up in the middle on purpose, so write errors are no failure.
                thread::spawn(move || stream.and_then(|stream| answer(stream, &routes, &requests, &stop)));
            }
        });
        server
    }

    /// The address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Path and `Range` header of every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(mut stream: TcpStream, routes: &[(&str, Reply)], requests: &Mutex<Vec<Request>>, stop: &AtomicBool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    requests.lock().unwrap().push((path.clone(), range.clone()));
    let reply = routes.iter().find(|(route, _)| *route == path).map_or(Reply::Status(404), |(_, reply)| reply.clone());
    let head = |status: &str, headers: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    let sized = |length: usize| head("200 OK", &format!("Content-Length: {length}\r\n"));
    match reply {
        Reply::Whole(body) => {
            stream.write_all(sized(body.len()).as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Ranged(body) => {
            let start = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()).unwrap_or(0);
            let length = body.len();
            if start >= length {
                return stream.write_all(head("416 No", &format!("Content-Range: bytes */{length}\r\nContent-Length: 0\r\n")).as_bytes());
            }
            if start == 0 {
                stream.write_all(sized(length).as_bytes())?;
            } else {
                let headers = format!("Content-Length: {}\r\nContent-Range: bytes {start}-{}/{length}\r\n", length - start, length - 1);
                stream.write_all(head("206 Partial Content", &headers).as_bytes())?;
            }
            stream.write_all(&body[start..])
        }
        Reply::Truncated(body, sent) => {
            stream.write_all(sized(body.len()).as_bytes())?;
            stream.write_all(&body[..sent])
        }
        Reply::Stalled(body, sent) => {
            stream.write_all(sized(body.len()).as_bytes())?;
            stream.write_all(&body[..sent])?;
            while !stop.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
        Reply::Endless => {
            stream.write_all(head("200 OK", "").as_bytes())?;
            while !stop.load(Ordering::SeqCst) {
                stream.write_all(&[7; 4096])?;
            }
            Ok(())
        }
        Reply::Status(status) => stream.write_all(head(&format!("{status} Status"), "Content-Length: 0\r\n").as_bytes()),
        Reply::Redirect(to) => stream.write_all(head("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n")).as_bytes()),
    }
}
