//! `gpuwarden record` and `gpuwarden events`: the enriched events of this host, in a file or as
//! they come.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{FAILED, fail, log, run};
use crate::cause::chain;
use crate::config::{self, Config};
use crate::pipeline::Extras;
use crate::recording::Target;

/// What `record` takes.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// The file; must not exist yet. One that ends in .jsonl is not compressed.
    file: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

/// What `events` takes.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Configuration file, for what is watched and which profiles there are.
    #[arg(long, value_name = "FILE", env = "GPUWARDEN_CONFIG")]
    config: Option<PathBuf>,
    /// End after this many seconds; without it at SIGINT or SIGTERM.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Records this host.
pub(super) fn record(args: &RecordArgs) -> ExitCode {
    look(&args.common, &Target::of(&args.file))
}

/// Prints the events of this host.
pub(super) fn events(args: &EventsArgs) -> ExitCode {
    look(&args.common, &Target::of(Path::new("-")))
}

fn look(args: &CommonArgs, target: &Target) -> ExitCode {
    let config = match config::load(args.config.as_deref()) {
        Ok(config) => only_looking(config),
        Err(errors) => {
            fail(&errors.to_string());
            return ExitCode::from(FAILED);
        }
    };
    log::start(config.log);
    let extras = Extras { record: Some(target.clone()), only_look: true };
    match run::serve(config, &extras, args.seconds.map(Duration::from_secs)) {
        Ok(code) => code,
        Err(error) => {
            fail(&chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// A configuration without alerts, metrics and rules, so that it runs beside the monitor. Profiles
/// stay, since they fill fields.
fn only_looking(mut config: Config) -> Config {
    config.export.sinks.clear();
    config.telemetry.enabled = false;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_disturbs_no_monitor_that_runs_beside_it() {
        let config = only_looking(Config::default());
        assert!(config.export.sinks.is_empty() && !config.telemetry.enabled);
    }
}
