//! What the tests of the exporter share.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use monitor::alert::{Alert, Host};
use monitor::export::config::{ExportConfig, RetryConfig, SinkConfig, SinkTarget};
use monitor::export::spool::SpoolConfig;
use monitor::model::Severity;

/// An alert with something in every field.
pub(crate) fn sample() -> Alert {
    serde_json::from_str(include_str!("alert.json")).expect("the fixture is an alert")
}

/// The sample with an id of its own.
pub(crate) fn numbered(n: u64) -> Alert {
    Alert { id: format!("{n:032x}"), ..sample() }
}

/// One sink, with short pauses.
pub(crate) fn config(dir: &Path, name: &str, target: SinkTarget) -> ExportConfig {
    let sink = SinkConfig { name: name.into(), min_severity: Severity::Info, target };
    ExportConfig {
        sinks: vec![sink],
        spool: SpoolConfig::in_dir(dir.join("spool")),
        retry: RetryConfig { first: Duration::from_millis(10), max: Duration::from_millis(100) },
        host: Host { name: "gpu-node-7".into(), boot_id: "b".into() },
    }
}

/// Time enough for anything on a slow machine.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A port nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// One request as a receiver saw it.
pub(crate) struct Seen {
    /// Its head.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: String,
}

/// A receiver that answers 200 to every request.
pub(crate) fn receive(port: u16) -> Receiver<Seen> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // A client that is killed in the middle of a request leaves half of one.
            let Some(seen) = read_request(&mut stream) else { continue };
            if sender.send(seen).is_err() {
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    receiver
}

fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = std::str::from_utf8(&bytes).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
        })?;
        if body.len() >= length {
            return Some(Seen { head: head.to_owned(), body: body.to_owned() });
        }
    }
}
