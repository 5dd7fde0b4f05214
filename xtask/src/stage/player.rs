//! A process that plays a part and says, as JSON lines, what it does and when.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Interrupt;
use crate::child;

/// Patience with a part that was told to begin.
const END_TIMEOUT: Duration = Duration::from_mins(1);

/// A process that plays.
#[derive(Debug)]
pub(crate) struct Player {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    said: Vec<Value>,
    errors: std::path::PathBuf,
}

impl Player {
    /// Starts it; what it says on standard error goes into `logs`.
    pub(crate) fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let errors = logs.join(format!("{name}.log"));
        let log = File::create(&errors).with_context(|| format!("create {}", errors.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", child::render(command)))?;
        let stdin = child.stdin.take();
        let output = child.stdout.take().context("a player's output is a pipe")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, stdin, lines, said: Vec::new(), errors })
    }

    /// Waits until it says something that `is_it` recognises, and returns that.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        interrupt: &Interrupt,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut found = None;
        let came = interrupt.wait(patience, || {
            let has_ended = self.listen();
            found = self.said.iter().find(|line| is_it(line)).cloned();
            if found.is_none() && has_ended {
                bail!("{} ended before it said `{what}`:\n{}", self.name, self.complaint());
            }
            Ok(found.is_some())
        })?;
        match found {
            Some(line) if came => Ok(line),
            _ => bail!("{} did not say `{what}` within {patience:?}", self.name),
        }
    }

    /// Waits for an act of a Python actor.
    pub(crate) fn wait_for_act(&mut self, act: &str, interrupt: &Interrupt) -> Result<Value> {
        self.wait_for(act, END_TIMEOUT, interrupt, |line| line["act"] == act)
    }

    /// Tells it to begin, or to go on.
    pub(crate) fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("a player's input is a pipe")?;
        writeln!(stdin, "go").with_context(|| format!("tell {} to go on", self.name))
    }

    /// Waits until it has ended well.
    pub(crate) fn finish(&mut self, interrupt: &Interrupt) -> Result<()> {
        let came = interrupt.wait(END_TIMEOUT, || Ok(self.child.try_wait()?.is_some()))?;
        if !came {
            bail!("{} did not end within {END_TIMEOUT:?}", self.name);
        }
        let status = self.child.wait().context("wait for a player")?;
        if !status.success() {
            bail!("{} failed ({status}):\n{}", self.name, self.complaint());
        }
        // The rest of its lines is in the pipe.
        while !self.listen() {
            thread::yield_now();
        }
        Ok(())
    }

    /// Everything it has said so far.
    pub(crate) fn said(&mut self) -> &[Value] {
        self.listen();
        &self.said
    }

    /// Takes what it said; whether its output has ended.
    fn listen(&mut self) -> bool {
        loop {
            match self.lines.try_recv() {
                Ok(line) => self.said.push(line),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn complaint(&self) -> String {
        child::tail(&self.errors, child::TAIL_LINES_MAX)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // What was forked from it is in a cgroup of the play, or dies with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
