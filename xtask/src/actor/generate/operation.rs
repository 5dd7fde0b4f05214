//! The operations, as near to the bare system calls as safe Rust gets: rustix makes them without
//! libc in between.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketType};
use serde::{Deserialize, Serialize};

/// Bytes of a datagram.
const DATAGRAM_BYTES: usize = 1024;
/// Connections that wait to be taken: enough that none is refused at full speed.
const BACKLOG: i32 = 4096;
/// Bytes of one pread.
const PREAD_BYTES: usize = 4096;
/// Bytes of one write.
const WRITE_BYTES: usize = 64;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    /// openat, read of 64 bytes, close: 3 system calls
    Open,
    /// openat of a path that is not there
    Openfail,
    /// socket, setsockopt, connect, close to a listener on loopback: 4 system calls
    Connect,
    /// socket, connect, close to a closed port on loopback: 3 system calls
    Refused,
    /// fork and exec of /bin/true, and waiting for it
    Exec,
    /// sendto of 1 KiB over UDP on loopback
    Sendto,
    /// pread of 4 KiB of a cached file
    Pread,
    /// getppid, which touches nothing
    Getppid,
    /// write of 64 bytes to /dev/null
    Write,
    /// write of 64 bytes to a pipe, and read of them: 2 system calls
    Pipe,
}

/// Everything an operation needs, made before the clock starts.
pub(super) struct Stand {
    operation: Operation,
    directory: PathBuf,
    path: PathBuf,
    file: File,
    null: File,
    pipe: (PipeReader, PipeWriter),
    sender: UdpSocket,
    /// Takes datagrams that nobody reads.
    _receiver: UdpSocket,
    port: u16,
    buffer: Vec<u8>,
}

impl Stand {
    pub(super) fn build(operation: Operation, directory: &Path, port: u16) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let present = directory.join("weights.bin");
        fs::write(&present, [7; PREAD_BYTES])
            .with_context(|| format!("write {}", present.display()))?;
        let file = File::open(&present).with_context(|| format!("open {}", present.display()))?;
        // Connections get a free port of their own: nothing else may answer there.
        let (receiver, port) = match operation {
            Operation::Sendto => {
                let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
                (UdpSocket::bind(any).with_context(|| format!("bind UDP port {port}"))?, port)
            }
            Operation::Connect => (UdpSocket::bind("127.0.0.1:0").context("bind")?, listen(port)?),
            _ => (UdpSocket::bind("127.0.0.1:0").context("bind")?, port),
        };
        let path =
            if operation == Operation::Openfail { directory.join("missing.bin") } else { present };
        Ok(Self {
            operation,
            directory: directory.to_path_buf(),
            path,
            file,
            null: File::create("/dev/null").context("open /dev/null")?,
            pipe: std::io::pipe().context("make a pipe")?,
            sender: UdpSocket::bind("127.0.0.1:0").context("bind")?,
            _receiver: receiver,
            port,
            buffer: vec![7; PREAD_BYTES],
        })
    }

    /// Makes the files that operations with an id open.
    pub(super) fn prepare_unique(&self, count: u32) -> Result<()> {
        if self.operation != Operation::Open {
            return Ok(());
        }
        for id in 0..count {
            let path = self.unique_path(id);
            fs::write(&path, [7; 64]).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn unique_path(&self, id: u32) -> PathBuf {
        self.directory.join(format!("lat-{id:06}.bin"))
    }

    fn peer(&self, id: Option<u32>) -> SocketAddrV4 {
        let ip = id.map_or(Ipv4Addr::LOCALHOST, |id| {
            let [_, _, high, low] = id.to_be_bytes();
            Ipv4Addr::new(127, 1, high, low)
        });
        SocketAddrV4::new(ip, self.port)
    }

    /// Does it once; whether it went as expected.
    pub(super) fn once(&mut self, id: Option<u32>) -> bool {
        let unique = id.map(|id| self.unique_path(id));
        let path = unique.as_ref().unwrap_or(&self.path);
        match self.operation {
            Operation::Open => {
                let Ok(file) = rustix::fs::open(path, OFlags::RDONLY, Mode::empty()) else {
                    return false;
                };
                rustix::io::read(&file, &mut self.buffer[..64]).is_ok()
            }
            Operation::Openfail => rustix::fs::open(path, OFlags::RDONLY, Mode::empty()).is_err(),
            Operation::Connect => connect(self.peer(id), true).is_ok(),
            Operation::Refused => {
                connect(self.peer(id), false) == Err(rustix::io::Errno::CONNREFUSED)
            }
            Operation::Exec => exec(id),
            Operation::Sendto => {
                let payload = &self.buffer[..DATAGRAM_BYTES];
                let flags = rustix::net::SendFlags::empty();
                let sent = rustix::net::sendto(&self.sender, payload, flags, &self.peer(id));
                sent == Ok(DATAGRAM_BYTES)
            }
            Operation::Pread => {
                rustix::io::pread(&self.file, &mut self.buffer[..], 0) == Ok(PREAD_BYTES)
            }
            Operation::Getppid => rustix::process::getppid().is_some(),
            Operation::Write => {
                rustix::io::write(&self.null, &self.buffer[..WRITE_BYTES]) == Ok(WRITE_BYTES)
            }
            Operation::Pipe => {
                let (reader, writer) = &self.pipe;
                rustix::io::write(writer, &self.buffer[..WRITE_BYTES]) == Ok(WRITE_BYTES)
                    && rustix::io::read(reader, &mut self.buffer[..WRITE_BYTES]) == Ok(WRITE_BYTES)
            }
        }
    }
}

fn connect(peer: SocketAddrV4, reset: bool) -> rustix::io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if reset {
        // Closing resets, so that no port is left waiting.
        let now = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&socket, now)?;
    }
    rustix::net::connect(&socket, &peer)
}

fn exec(id: Option<u32>) -> bool {
    Command::new("/bin/true")
        .arg(format!("lat-{:06}", id.unwrap_or(0)))
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A listener that takes and closes connections on a thread of its own, on every loopback address.
fn listen(port: u16) -> Result<u16> {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &any).with_context(|| format!("bind port {port}"))?;
    rustix::net::listen(&socket, BACKLOG).with_context(|| format!("listen on port {port}"))?;
    let listener = TcpListener::from(socket);
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(port)
}
