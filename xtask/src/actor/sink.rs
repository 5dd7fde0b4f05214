//! The other end of the demo's flows.
//!
//! Says `{"ready":true}` once every port listens, and one line when a connection ends: the port
//! and the bytes that arrived. What the monitor claims can be held against that.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Connections that are served at once; more are closed at once.
const SINK_CONNECTIONS_MAX: u32 = 64;
/// Bytes of one line of a mining client.
const POOL_LINE_BYTES_MAX: u64 = 64 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// What `sink` takes.
#[derive(Args, Debug)]
pub(crate) struct SinkArgs {
    /// What to offer where: `discard=198.51.100.2:443` or `pool=198.51.100.2:3333`
    #[arg(required = true)]
    services: Vec<Service>,
}

/// What is offered at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) is_pool: bool,
    pub(crate) address: SocketAddr,
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, address) =
            text.split_once('=').ok_or_else(|| anyhow!("`{text}` is not KIND=ADDRESS:PORT"))?;
        let is_pool = match kind {
            "pool" => true,
            "discard" => false,
            _ => return Err(anyhow!("`{kind}` is not a service; expected discard or pool")),
        };
        let address = address.parse().with_context(|| format!("address `{address}`"))?;
        Ok(Self { is_pool, address })
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_pool { "pool" } else { "discard" };
        write!(f, "{kind}={}", self.address)
    }
}

/// A connection that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Where it was taken.
    pub(crate) address: SocketAddr,
    /// Bytes that arrived.
    pub(crate) bytes: u64,
}

pub(super) fn run(args: &SinkArgs) -> Result<()> {
    super::die_with_parent()?;
    let mut listeners = Vec::new();
    for service in &args.services {
        let listener = TcpListener::bind(service.address)
            .with_context(|| format!("listen on {}", service.address))?;
        listeners.push((*service, listener));
    }
    say(&serde_json::json!({ "ready": true }))?;
    let open = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|(service, listener)| {
            let open = Arc::clone(&open);
            thread::spawn(move || accept(service, &listener, &open))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a listening thread ended"))??;
    }
    Ok(())
}

fn accept(service: Service, listener: &TcpListener, open: &Arc<AtomicU32>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().context("accept")?;
        if open.fetch_add(1, Ordering::Relaxed) >= SINK_CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = Arc::clone(open);
        thread::spawn(move || {
            // A peer that goes away in the middle is an end like any other.
            let bytes = if service.is_pool { pool(&stream) } else { discard(&stream) };
            open.fetch_sub(1, Ordering::Relaxed);
            say(&Ended { address: service.address, bytes })
        });
    }
}

fn discard(mut stream: &TcpStream) -> u64 {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        bytes += got as u64;
    }
    bytes
}

/// Answers logins of both families of Stratum: JSON-RPC `login` (Monero and kin) and
/// `mining.subscribe` / `mining.authorize` (Bitcoin and kin).
fn pool(mut stream: &TcpStream) -> u64 {
    let mut reader = BufReader::new(stream);
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        let got = (&mut reader).take(POOL_LINE_BYTES_MAX).read_line(&mut line);
        let Ok(got @ 1..) = got else { return bytes };
        bytes += got as u64;
        let Some(answer) = pool_answer(&line) else { continue };
        if writeln!(stream, "{answer}").is_err() {
            return bytes;
        }
    }
}

fn pool_answer(line: &str) -> Option<serde_json::Value> {
    let request: serde_json::Value = serde_json::from_str(line).ok()?;
    let id = request.get("id")?;
    let result = match request.get("method")?.as_str()? {
        "login" => serde_json::json!({
            "id": "1", "status": "OK",
            "job": { "job_id": "1", "blob": "00".repeat(76), "target": "b88d0600", "algo": "rx/0" },
        }),
        "mining.subscribe" => serde_json::json!([[["mining.notify", "1"]], "08000002", 4]),
        _ => serde_json::json!(true),
    };
    Some(serde_json::json!({ "id": id, "jsonrpc": "2.0", "error": null, "result": result }))
}

fn say(line: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    out.flush().context("write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_reads_back_as_it_is_shown() {
        for text in ["discard=198.51.100.2:443", "pool=[::1]:3333"] {
            assert_eq!(text.parse::<Service>().expect(text).to_string(), text);
        }
        assert!("other=198.51.100.2:443".parse::<Service>().is_err());
        assert!("discard".parse::<Service>().is_err());
    }

    #[test]
    fn pool_accepts_a_login_and_ignores_noise() {
        let login = r#"{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"x"}}"#;
        let answer = pool_answer(login).expect("a login is answered");
        assert_eq!(answer["result"]["status"], "OK");
        assert_eq!(answer["id"], 1);
        assert!(pool_answer("GET / HTTP/1.1").is_none());
    }

    #[test]
    fn every_byte_of_a_connection_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let sender = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("connect");
            stream.write_all(&vec![1; 1_000_003]).expect("write");
        });
        let (stream, _) = listener.accept().expect("accept");
        assert_eq!(discard(&stream), 1_000_003);
        sender.join().expect("the sender ends");
    }
}
