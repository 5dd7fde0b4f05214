//! A user of an inference server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

/// Bytes of one answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Patience with one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What `client` takes.
#[derive(Args, Debug)]
pub(crate) struct ClientArgs {
    /// The server
    #[arg(long)]
    connect: SocketAddr,
    /// Answers to ask for
    #[arg(long, default_value_t = 20)]
    requests: u32,
}

pub(super) fn run(args: &ClientArgs) -> Result<()> {
    super::die_with_parent()?;
    let mut bytes = 0;
    for request in 0..args.requests {
        bytes += ask(args.connect, request)
            .with_context(|| format!("request {request} to {}", args.connect))?;
    }
    println!("{}", serde_json::json!({ "answers": args.requests, "bytes": bytes }));
    Ok(())
}

fn ask(server: SocketAddr, request: u32) -> Result<u64> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("set a timeout")?;
    let head = format!("GET /generate?id={request} HTTP/1.0\r\nHost: {server}\r\n\r\n");
    stream.write_all(head.as_bytes()).context("ask")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).context("read the answer")?;
    if !answer.starts_with(b"HTTP/1.0 200") {
        let start = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
        bail!("the answer begins `{start}`, expected HTTP/1.0 200");
    }
    Ok(answer.len() as u64)
}
