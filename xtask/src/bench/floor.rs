//! The floor: the smallest programs that watch the same calls, in Rust as the monitor's own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::tree::Tree;
use crate::{child, setup};

/// What the floor does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Counts it.
    Count,
    /// Sends a bare record of it, which is polled for.
    Ring,
}

/// A floor that is attached. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Floor(Child);

/// Builds the program that attaches it, optimised.
pub(super) fn build(tree: &Tree) -> Result<PathBuf> {
    let toolchain = setup::for_build(tree)?;
    let mut cargo = setup::cargo(tree, Some(&toolchain));
    cargo.args(["build", "--quiet", "--release", "--package", "monitor", "--example", "floor"]);
    child::must_show(&mut cargo)?;
    Ok(tree.release("examples/floor"))
}

impl Floor {
    /// Attaches it.
    pub(super) fn start(program: &Path, kind: Kind) -> Result<Self> {
        let mut command = child::command(program);
        command.arg(if kind == Kind::Count { "count" } else { "ring" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut floor = Self(command.spawn().with_context(|| child::render(&command))?);
        let out = floor.0.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).context("read from the floor")?;
        ensure!(line.trim() == "ready", "the floor did not attach; it said {line:?}");
        Ok(floor)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Its programs are tied to its descriptors, and go with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
