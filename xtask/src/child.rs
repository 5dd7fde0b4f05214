//! Running other programs: with a log and a heartbeat, in the open, or for their answer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Time between two signs of life of a long step.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines of a failed step's log that are shown; the rest is in the file.
pub(crate) const TAIL_LINES_MAX: usize = 80;

/// What became of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
}

/// A command without the variables that cargo set for this tool. Build scripts that watch
/// `CARGO_MANIFEST_DIR` and its like would otherwise rebuild each time that `cargo xtask build`
/// and `cargo build` take turns.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_cargos = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if is_cargos || text == "CARGO_PRIMARY_PACKAGE" {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a child with its output in `log`, and prints its name, then a sign of life every ten
/// seconds.
pub(crate) fn run_logged(label: &str, command: &mut Command, log: &Path) -> Result<Outcome> {
    let mut file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    writeln!(file, "$ {}", render(command)).with_context(|| format!("write {}", log.display()))?;
    let errors = file.try_clone().with_context(|| format!("share {}", log.display()))?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("start {}", render(command)))?;
    let mut next_beat = HEARTBEAT;
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(Outcome { status, took: start.elapsed() });
        }
        if start.elapsed() >= next_beat {
            eprintln!("    … {label}: {} s", start.elapsed().as_secs());
            next_beat += HEARTBEAT;
        }
        sleep(POLL);
    }
}

/// Like [`run_logged`], and a failure is an error that ends with the log's last lines.
pub(crate) fn must_log(label: &str, command: &mut Command, log: &Path) -> Result<Duration> {
    let outcome = run_logged(label, command, log)?;
    if !outcome.status.success() {
        bail!(
            "{label} failed ({}); the end of {}:\n{}",
            outcome.status,
            log.display(),
            tail(log, TAIL_LINES_MAX)
        );
    }
    Ok(outcome.took)
}

/// Runs a child on this terminal; a failure is an error.
pub(crate) fn must_show(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", render(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", render(command));
    }
    Ok(())
}

/// Runs a child for its standard output; a failure is an error with its standard error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", render(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            render(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits for a child until `patience` is over; `None` when it still runs.
pub(crate) fn wait_for(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(Some(status));
        }
        if start.elapsed() >= patience {
            return Ok(None);
        }
        sleep(POLL.min(patience));
    }
}

/// The last `lines` lines of a file, or why it cannot be read.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    match fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", file.display()),
    }
}

/// The command as one would type it.
pub(crate) fn render(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a CI runs this: what a person may skip is then a failure.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "0" && ci != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_step_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("step.log");
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo the reason; exit 3"]);
        let error = must_log("step", &mut failing, &log).expect_err("it exits with 3");
        assert!(error.to_string().contains("the reason"), "{error}");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn tail_is_bounded() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        fs::write(&log, "1\n2\n3\n").expect("write");
        assert_eq!(tail(&log, 2), "2\n3");
        assert_eq!(tail(&log, 9), "1\n2\n3");
    }
}
