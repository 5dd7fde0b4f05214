//! A real monitor, run as a user runs it, and everything it says with the time it was read.

mod metrics;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::metrics::Metrics;
use super::{Interrupt, mono_ns};
use crate::child;

/// Patience with a start; a benchmark measures how long it really takes.
const READY_TIMEOUT: Duration = Duration::from_mins(2);
/// Time between two looks at `/readyz`.
const READY_PAUSE: Duration = Duration::from_millis(2);
/// Patience with an orderly end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Patience with one answer on loopback.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer.
const HTTP_BYTES_MAX: u64 = 16 << 20;

/// How to run it.
#[derive(Clone, Debug)]
pub(crate) struct MonitorOptions {
    pub(crate) binary: PathBuf,
    /// It runs in here: shipped rules are found relative to it.
    pub(crate) directory: PathBuf,
    pub(crate) config: PathBuf,
    /// json or human
    pub(crate) output: &'static str,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// More arguments of `gpuwarden run`.
    pub(crate) arguments: Vec<OsString>,
    /// Where its standard error and a copy of its output go.
    pub(crate) logs: PathBuf,
    /// The cgroup that it runs in, where it has one of its own.
    pub(crate) cgroup: Option<PathBuf>,
}

/// A line of its output.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it was read.
    pub(crate) mono_ns: u64,
    pub(crate) text: String,
}

/// A monitor that runs. Dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Monitor {
    child: Child,
    address: SocketAddr,
    lines: Receiver<Line>,
    log: PathBuf,
    started: Instant,
}

impl Monitor {
    /// Starts it.
    pub(crate) fn start(options: &MonitorOptions) -> Result<Self> {
        let address = free_address()?;
        let log = options.logs.join("monitor.log");
        let errors = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = match &options.cgroup {
            Some(directory) => {
                // A shell joins it and becomes the monitor.
                let mut shell = child::command("/bin/sh");
                shell.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]);
                shell.arg(directory).arg(&options.binary);
                shell
            }
            None => child::command(&options.binary),
        };
        command
            .current_dir(&options.directory)
            .args(["run", "--output", options.output])
            .arg("--config")
            .arg(&options.config)
            .args(["--listen", &address.to_string()])
            .args(&options.arguments)
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        let started = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("start {}", child::render(&command)))?;
        let output = child.stdout.take().context("the monitor's output is a pipe")?;
        let copy = options.logs.join("monitor.out");
        let copy = File::create(&copy).with_context(|| format!("create {}", copy.display()))?;
        let (sender, lines) = channel();
        thread::spawn(move || read_lines(output, copy, &sender));
        Ok(Self { child, address, lines, log, started })
    }

    /// Starts it, and waits until it says that it is ready; how long that took.
    pub(crate) fn start_ready(
        options: &MonitorOptions,
        interrupt: &Interrupt,
    ) -> Result<(Self, Duration)> {
        let mut monitor = Self::start(options)?;
        loop {
            interrupt.check()?;
            if let Ok((200, _)) = get(monitor.address, "/readyz") {
                let took = monitor.started.elapsed();
                return Ok((monitor, took));
            }
            if let Some(status) = monitor.child.try_wait().context("wait for the monitor")? {
                bail!("the monitor ended before it was ready ({status}):\n{}", monitor.said());
            }
            if monitor.started.elapsed() > READY_TIMEOUT {
                bail!("the monitor was not ready after {READY_TIMEOUT:?}:\n{}", monitor.said());
            }
            sleep(READY_PAUSE);
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, for whatever reason.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("look at the monitor")?.is_some())
    }

    /// Its resident memory in bytes, now (`VmRSS`) or at most (`VmHWM`).
    pub(crate) fn memory_bytes(&self, key: &str) -> Result<u64> {
        memory_bytes(self.child.id(), key)
    }

    /// CPU time of its threads that still run, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        cpu_ns(self.child.id())
    }

    /// Lines that were read since the last call.
    pub(crate) fn lines(&mut self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        loop {
            match self.lines.try_recv() {
                Ok(line) => lines.push(line),
                Err(TryRecvError::Disconnected) if lines.is_empty() => {
                    bail!("the monitor ended in the middle:\n{}", self.said())
                }
                Err(_) => return Ok(lines),
            }
        }
    }

    /// Where it serves `/metrics`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        match get(self.address, "/metrics")? {
            (200, text) => Ok(Metrics::parse(&text)),
            (status, text) => bail!("/metrics answered {status}: {}", text.trim()),
        }
    }

    /// The end of what it said about itself.
    pub(crate) fn said(&self) -> String {
        child::tail(&self.log, child::TAIL_LINES_MAX)
    }

    /// Ends it as a crash would: SIGKILL, with no time for anything.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill the monitor")?;
        self.child.wait().context("wait for the killed monitor")?;
        Ok(())
    }

    /// Ends it in an orderly way; how it ended.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait().context("wait for the monitor")? {
            return Ok(status);
        }
        signal(&self.child, Signal::TERM);
        if let Some(status) = child::wait_for(&mut self.child, STOP_TIMEOUT)? {
            return Ok(status);
        }
        signal(&self.child, Signal::KILL);
        let _ = self.child.wait();
        bail!("the monitor did not end within {STOP_TIMEOUT:?} of SIGTERM:\n{}", self.said())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("warning: {error:#}");
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It is our child and was not waited for, so the id is still its own.
        let _ = kill_process(pid, signal);
    }
}

fn read_lines(output: impl std::io::Read, mut copy: File, sender: &Sender<Line>) {
    let mut reader = BufReader::new(output);
    let mut text = String::new();
    while let Ok(1..) = reader.read_line(&mut text) {
        let line = Line { mono_ns: mono_ns(), text: text.trim_end().to_owned() };
        // A copy that cannot be written must not stop the play.
        let _ = writeln!(copy, "{}", line.text);
        if sender.send(line).is_err() {
            return;
        }
        text.clear();
    }
}

/// An address of loopback where nobody listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    listener.local_addr().context("find a free port")
}

/// One HTTP request on loopback: the status and the body.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, HTTP_TIMEOUT)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT)).context("set a timeout")?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).with_context(|| format!("ask for {path}"))?;
    let mut answer = String::new();
    stream
        .take(HTTP_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("read {path}"))?;
    split_answer(&answer).ok_or_else(|| anyhow!("{path} did not answer in HTTP: {answer:.80}"))
}

fn split_answer(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Resident memory of a process in bytes, now (`VmRSS`) or at most (`VmHWM`) (proc(5)).
fn memory_bytes(pid: u32, key: &str) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = read(&path)?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| anyhow!("{} has no {key}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// CPU time of a process in nanoseconds, from the scheduler's own books.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let entries = std::fs::read_dir(&tasks).with_context(|| format!("read {}", tasks.display()))?;
    for entry in entries.flatten() {
        // A thread may end in this moment.
        let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_split_into_status_and_body() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nnot yet\n";
        assert_eq!(split_answer(answer), Some((503, "not yet\n".to_owned())));
        assert_eq!(split_answer("SSH-2.0"), None);
    }

    #[test]
    fn own_memory_and_time_can_be_read() {
        let pid = std::process::id();
        let now = memory_bytes(pid, "VmRSS").expect("VmRSS");
        let most = memory_bytes(pid, "VmHWM").expect("VmHWM");
        assert!(now > 0 && most > 0);
        assert!(memory_bytes(pid, "NoSuchKey").is_err());
        assert!(cpu_ns(pid).expect("schedstat") > 0);
    }
}
