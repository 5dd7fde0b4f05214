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
/// Time in which it attaches; it does not say when it has.
const ATTACH: Duration = Duration::from_secs(3);

/// A bpftrace that runs. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Peer(Child);

impl Peer {
    pub(super) fn start(interrupt: &Interrupt) -> Result<Self> {
        let mut command = child::command("bpftrace");
        // With a terminal's modes in mind it would buffer; nobody reads it.
        command.args(["-e", PROGRAM]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut peer = Self(command.spawn().with_context(|| why_missing(&command))?);
        interrupt.wait(ATTACH, || match peer.0.try_wait()? {
            Some(status) => bail!("bpftrace ended early ({status})"),
            None => Ok(false),
        })?;
        Ok(peer)
    }
}

fn why_missing(command: &Command) -> String {
    format!("start {}; `cargo xtask setup --tests` installs it", command.get_program().display())
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its programs are tied to its descriptors, and go with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
