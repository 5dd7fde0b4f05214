//! The real binary as a child, with a configuration, a spool and a port of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Until the daemon is ready: loading takes a second, more on a busy machine of two cores.
pub(crate) const READY_AT_MOST: Duration = Duration::from_secs(30);
/// Until something that takes a moment has happened.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// The binary under test.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwarden"));
    // What the caller's shell sets must not change what is tested.
    for name in ["GPUWARDEN_CONFIG", "GPUWARDEN_LISTEN", "GPUWARDEN_LOG", "GPUWARDEN_OUTPUT"] {
        command.env_remove(name);
    }
    command
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs a command that must end by itself. One that still runs is killed and fails the test.
pub(crate) fn end(mut command: Command) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = wait(&mut child, READY_AT_MOST);
    let (stdout, stderr) = (stdout.finish(), stderr.finish());
    let status = status.unwrap_or_else(|| panic!("it did not end; it said\n{stdout}\n{stderr}"));
    Ended { code: status.code(), stdout, stderr }
}

/// A place for one test: configuration, spool, rules.
pub(crate) struct Ground {
    dir: TempDir,
}

impl Ground {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let ground = Self { dir: tempfile::tempdir().expect("a directory") };
        ground.write("config.yaml", &ground.config(""));
        ground
    }

    /// A configuration that leaves the machine alone, with more keys below.
    pub(crate) fn config(&self, more: &str) -> String {
        let spool = self.path("spool");
        format!(
            "export: {{spool_dir: {}}}\ntelemetry: {{listen: 127.0.0.1:0}}\n{more}",
            spool.display()
        )
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the file is written");
        path
    }

    /// `gpuwarden run` with this ground's configuration.
    pub(crate) fn run(&self) -> Command {
        let mut command = binary();
        command.arg("run").arg("--config").arg(self.path("config.yaml"));
        command
    }
}

/// What a child writes, line by line, while it runs.
#[derive(Clone)]
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    done: Arc<std::sync::atomic::AtomicBool>,
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("not poisoned")).into_owned()
    }

    /// All of it, once the child's end of the pipe is closed.
    fn finish(&self) -> String {
        let closed = || self.done.load(std::sync::atomic::Ordering::Acquire).then_some(());
        until(Duration::from_secs(5), closed);
        self.text()
    }
}

fn collect(pipe: impl Read + Send + 'static) -> Output {
    let output = Output { text: Arc::default(), done: Arc::default() };
    let kept = output.clone();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while let Ok(1..) = pipe.read_until(b'\n', &mut line) {
            kept.text.lock().expect("not poisoned").append(&mut line);
        }
        kept.done.store(true, std::sync::atomic::Ordering::Release);
    });
    output
}

/// A running monitor; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    stdout: Output,
    stderr: Output,
    address: SocketAddr,
}

impl Daemon {
    /// Starts it and waits until `/readyz` says so.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon starts");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let address = until(READY_AT_MOST, || address(&stderr.text()));
        let Some(address) = address else {
            let _gone = child.kill();
            panic!("the daemon did not start; it said\n{}", stderr.text());
        };
        let daemon = Self { child, stdout, stderr, address };
        let ready = until(READY_AT_MOST, || daemon.get("/readyz").0.eq(&200).then_some(()));
        assert!(ready.is_some(), "not ready: {:?}\n{}", daemon.get("/readyz"), daemon.log());
        daemon
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Lines on standard output so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.stdout.text().lines().map(str::to_owned).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the daemon runs");
    }

    /// Status and body of a page of its telemetry.
    pub(crate) fn get(&self, page: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).expect("telemetry listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("a request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// Waits for a sample without labels to be `value`.
    pub(crate) fn wait_metric(&self, name: &str, value: f64) {
        let mut last = None;
        let found = until(SOON, || {
            let page = self.get("/metrics").1;
            last = page
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            (last == Some(value)).then_some(())
        });
        assert!(found.is_some(), "{name} is {last:?}, expected {value}\n{}", self.log());
    }

    /// Waits for an alert, and gives it.
    pub(crate) fn wait_alert(
        &self,
        is_it: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let found = until(SOON, || {
            let lines = self.lines();
            lines
                .iter()
                .find_map(|line| serde_json::from_str(line).ok().filter(|alert| is_it(alert)))
        });
        found.unwrap_or_else(|| panic!("no such alert in {:#?}\n{}", self.lines(), self.log()))
    }

    /// Waits for it to end by itself: status, and how long it took.
    pub(crate) fn wait(&mut self, at_most: Duration) -> (Option<ExitStatus>, Duration) {
        let start = Instant::now();
        let status = wait(&mut self.child, at_most);
        (status, start.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn address(log: &str) -> Option<SocketAddr> {
    let at = log.split_once("metrics=\"http://")?.1;
    at.split_once("/metrics")?.0.parse().ok()
}

fn wait(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let status = until(at_most, || child.try_wait().expect("a child of ours"));
    if status.is_none() {
        let _ended_before = child.kill();
        let _reaped = child.wait();
    }
    status
}

/// Asks until there is an answer; `None` when there was none in time.
pub(crate) fn until<T>(at_most: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + at_most;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ids after `key` in the descriptors of a process, such as `prog_id` and `link_id`.
pub(crate) fn descriptor_ids(pid: u32, key: &str) -> Vec<u32> {
    let dir = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fdinfo"));
    let texts = dir.expect("the process runs").filter_map(|entry| {
        let path = entry.ok()?.path();
        fs::read_to_string(path).ok()
    });
    let mut ids: Vec<u32> = texts
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
