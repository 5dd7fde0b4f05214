//! Parts played in demos and benchmarks, each a process of its own: this same program, called with
//! a hidden command.

mod client;
mod generate;
mod launch;
mod sink;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use self::generate::{Generated, Operation};
pub(crate) use self::sink::{Ended, Service};

/// A part.
#[derive(Debug, Subcommand)]
pub(crate) enum ActorTask {
    /// Join a cgroup, then become another program
    Launch(launch::LaunchArgs),
    /// Take connections: swallow bytes, or answer as a mining pool does
    Sink(sink::SinkArgs),
    /// Ask an inference server for answers
    Client(client::ClientArgs),
    /// Make system calls of one kind and measure their own CPU time
    Gen(generate::GenerateArgs),
}

/// Plays a part until it is over.
pub(crate) fn run(task: ActorTask) -> Result<()> {
    match task {
        ActorTask::Launch(args) => launch::run(&args),
        ActorTask::Sink(args) => sink::run(&args),
        ActorTask::Client(args) => client::run(&args),
        ActorTask::Gen(args) => generate::run(&args),
    }
}

/// Dies with whoever started this process, so that nothing is left behind.
fn die_with_parent() -> Result<()> {
    use anyhow::Context as _;
    use rustix::process::{Signal, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL)).context("tie this process to its parent")
}
