//! The command line.
//!
//! | file | command |
//! |---|---|
//! | `run` | `run`: watch this host |
//! | `doctor` | `doctor`: what can be seen here, and what to do about the rest |
//! | `replay`, `backtest` | rules over recorded events |
//! | `record` | `record`, `events`: what this host does, in a file or as it comes |
//! | `config` | `config check`, `config print` |
//! | `rules`, `rules_test`, `explain`, `pushdown`, `import`, `selection` | `rules …` |

mod backtest;
mod config;
mod doctor;
mod explain;
mod heap;
mod import;
mod log;
mod pushdown;
mod record;
mod replay;
pub mod rules;
pub mod rules_test;
mod run;
mod selection;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::pipeline::BUILD;

/// Exit code of a command that found something wrong.
const FOUND: u8 = 1;
/// Exit code of a command that was used wrongly, or could not do its work.
const FAILED: u8 = 2;

/// Exit code when whoever read our output has closed it: that of a program which SIGPIPE ends.
const CLOSED_PIPE: u8 = 141;

/// eBPF + NVML runtime monitor for AI workloads on GPU hosts.
///
/// Sees the processes, file access and network egress of training and inference jobs, joins them
/// with what each does on the GPUs, holds them against rules, and sends alerts.
#[derive(Debug, Parser)]
#[command(name = "gpuwarden", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch this host until SIGTERM; SIGHUP reads the rules again.
    Run(run::RunArgs),
    /// Tell what can be watched on this host, what cannot, why, and what to do.
    Doctor(doctor::DoctorArgs),
    /// Record the events and GPU samples of this host into a file.
    Record(record::RecordArgs),
    /// Print the events and GPU samples of this host as JSON lines.
    Events(record::EventsArgs),
    /// Run rules over a recording, at full speed.
    Replay(replay::ReplayArgs),
    /// Check, test, list and explain rules and profiles.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Check a configuration file, or print one with every default explained.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print version and revision.
    Version {
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Commands on rules.
#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Run the tests that stand in the rules' files. Needs neither root nor a GPU.
    Test(rules_test::TestArgs),
    /// Convert rules of Falco or Sigma, and tell what did not convert and why.
    Import(import::ImportArgs),
    /// Tell what rules would have found in the local store of events.
    Backtest(backtest::BacktestArgs),
    #[command(flatten)]
    Other(rules::RulesCommand),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = std::io::stdout().lock();
    let result = match cli.command {
        Command::Run(args) => {
            drop(out);
            return run::run(&args);
        }
        Command::Record(args) => {
            drop(out);
            return record::record(&args);
        }
        Command::Events(args) => {
            drop(out);
            return record::events(&args);
        }
        Command::Replay(args) => replay::run(&args, &mut out),
        Command::Doctor(args) => doctor::run(&args, &mut out),
        Command::Rules(RulesCommand::Test(args)) => rules_test::run(&args, &mut out),
        Command::Rules(RulesCommand::Import(args)) => import::run(&args, &mut out),
        Command::Rules(RulesCommand::Backtest(args)) => backtest::run(&args, &mut out),
        Command::Rules(RulesCommand::Other(command)) => rules::run(&command, &mut out),
        Command::Config(command) => config::run(&command, &mut out),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gpuwarden", &mut script);
            out.write_all(&script).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Version { json } => version(json, &mut out),
    };
    result.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return ExitCode::from(CLOSED_PIPE);
        }
        fail(&format!("{error:#}"));
        ExitCode::from(FAILED)
    })
}

/// Whether whoever read our output has seen enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn version(json: bool, out: &mut dyn std::io::Write) -> anyhow::Result<ExitCode> {
    let (version, revision) = (BUILD.version, BUILD.revision);
    if json {
        let object = serde_json::json!({ "version": version, "revision": revision });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "gpuwarden {version} ({revision})")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says why the process ends, on standard error.
fn fail(message: &str) {
    // Nothing can be done when even that is closed.
    let _closed = writeln!(std::io::stderr(), "gpuwarden: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_fault() {
        let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&closed.into()));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(!is_closed_pipe(&full.into()));
    }

    #[test]
    fn command_line_is_sound_and_completes_in_every_shell() {
        Cli::command().debug_assert();
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gpuwarden", &mut script);
            assert!(String::from_utf8_lossy(&script).contains("doctor"));
        }
    }
}
