//! A peer to compare with: bpftrace, from the distribution, that only counts the same calls. It is
//! a floor of a kind: a monitor cannot do less than count.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::child;
use crate::stage::Interrupt;

/// What it counts.
const PROGRAM: &str = "tracepoint:syscalls:sys_enter_openat { @[\"open\"] = count(); } \
    tracepoint:syscalls:sys_enter_sendto { @[\"sendto\"] = count(); } \
    tracepoint:syscalls:sys_enter_connect { @[\"connect\"] = count(); } \
    tracepoint:sched:sched_process_exec { @[\"exec\"] = count(); }";
/// bpftrace looks for tracepoints in debugfs only, which not every host mounts. The mount is in a
/// namespace of its own and goes with it.
const START: &str = "test -d /sys/kernel/debug/tracing/events \
    || mount -t debugfs debugfs /sys/kernel/debug; exec bpftrace -e \"$1\"";
/// Time in which it attaches; it does not say when it has.
const ATTACH: Duration = Duration::from_secs(3);

/// A bpftrace that runs. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Peer(Child);

impl Peer {
    pub(super) fn start(interrupt: &Interrupt) -> Result<Self> {
        child::capture(Command::new("bpftrace").arg("--version"))
            .context("`cargo xtask setup --tests` installs bpftrace")?;
        let mut command = child::command("unshare");
        command.args(["--mount", "/bin/sh", "-c", START, "bpftrace", PROGRAM]);
        // It warns about limits of locked memory, which kernels from 5.11 on do not have.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut peer = Self(command.spawn().context("start bpftrace")?);
        interrupt.wait(ATTACH, || match peer.0.try_wait()? {
            Some(status) => bail!("bpftrace ended early ({status})"),
            None => Ok(false),
        })?;
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its programs are tied to its descriptors, and go with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
