//! `gpuwarden run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::{FAILED, fail, heap, log};
use crate::cause::chain;
use crate::config::{self, Config, OutputFormat, SinkConfig, SinkKind};
use crate::pipeline::{Extras, Pipeline, PipelineError};
use crate::recording::Target;
use crate::shutdown::{Request, Signals};

/// How often the engine and the rule files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a sensor was taken away.
const MEND_EVERY: Duration = Duration::from_secs(10);
/// Exit code when the engine ended by a fault of its own.
const ENGINE_DIED: u8 = 70;

/// What `run` takes.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configuration file; without it /etc/gpuwarden/config.yaml where it exists, else defaults.
    #[arg(long, value_name = "FILE", env = "GPUWARDEN_CONFIG")]
    config: Option<PathBuf>,
    /// How alerts are printed on standard output.
    #[arg(long, value_enum, env = "GPUWARDEN_OUTPUT")]
    output: Option<Output>,
    /// Address of /metrics, /livez and /readyz.
    #[arg(long, value_name = "ADDRESS", env = "GPUWARDEN_LISTEN")]
    listen: Option<SocketAddr>,
    /// Rule file or directory, beside the shipped rules; may be given more than once.
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Leave the shipped rules out.
    #[arg(long)]
    no_shipped_rules: bool,
    /// Also record every event that reaches the rules in this file, as `record` does; one that
    /// ends in .jsonl is not compressed, and its lines are what tests in rule files read. For
    /// finding out why a rule did not fire: it holds only what the rules have the kernel send.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Lines for people.
    Human,
    /// Native JSON, one alert a line.
    Json,
    /// OCSF Detection Finding, one alert a line.
    Ocsf,
}

/// Watches this host until it is told to stop.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    heap::settle();
    let config = match config::load(args.config.as_deref()) {
        Ok(config) => apply(args, config),
        Err(errors) => {
            fail(&errors.to_string());
            return ExitCode::from(FAILED);
        }
    };
    log::start(config.log);
    let record = args.events.as_deref().map(Target::of);
    match serve(config, &Extras { record, only_look: false }, None) {
        Ok(code) => code,
        Err(error) => {
            fail(&chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// The command line goes over the file.
fn apply(args: &RunArgs, mut config: Config) -> Config {
    if let Some(output) = args.output {
        let format = match output {
            Output::Human => OutputFormat::Human,
            Output::Json => OutputFormat::Json,
            Output::Ocsf => OutputFormat::Ocsf,
        };
        set_stdout(&mut config, format);
    }
    if let Some(listen) = args.listen {
        config.telemetry.listen = listen;
        config.telemetry.enabled = true;
    }
    if !args.rules.is_empty() {
        if !config.rules.paths_given {
            config.rules.paths.retain(|path| path.exists());
        }
        config.rules.paths.extend(args.rules.iter().cloned());
        config.rules.paths_given = true;
    }
    if args.no_shipped_rules {
        config.rules.shipped = false;
    }
    config
}

/// Sets the format of standard output, which becomes a sink where it was none.
fn set_stdout(config: &mut Config, format: OutputFormat) {
    let kind = SinkKind::Stdout { format };
    let sinks = &mut config.export.sinks;
    match sinks.iter_mut().find(|sink| matches!(sink.kind, SinkKind::Stdout { .. })) {
        Some(sink) => sink.kind = kind,
        None => sinks.push(SinkConfig { kind, ..SinkConfig::stdout() }),
    }
}

/// Runs until a signal, or until `at_most` has passed.
pub(super) fn serve(
    config: Config,
    extras: &Extras,
    at_most: Option<Duration>,
) -> Result<ExitCode, PipelineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| PipelineError::Start { what: "the signal runtime", source })?;
    let mut signals = runtime
        .block_on(async { Signals::listen() })
        .map_err(|source| PipelineError::Start { what: "signal handling", source })?;
    let mut pipeline = Pipeline::start_with(config, extras)?;
    let attached = pipeline.status().iter().filter(|status| status.gap().is_none()).count();
    tracing::info!(
        sensors = attached,
        of = pipeline.status().len(),
        metrics = pipeline.address().map(|address| format!("http://{address}/metrics")),
        "watching"
    );
    let code = runtime.block_on(watch(&mut pipeline, &mut signals, at_most));
    pipeline.stop();
    tracing::info!("stopped");
    Ok(code)
}

async fn watch(
    pipeline: &mut Pipeline,
    signals: &mut Signals,
    at_most: Option<Duration>,
) -> ExitCode {
    let started = Instant::now();
    let mut files = pipeline.change_watch();
    let mut mended = started;
    loop {
        if mended.elapsed() >= MEND_EVERY {
            mended = Instant::now();
            pipeline.mend();
        }
        let left = at_most.map(|at_most| at_most.saturating_sub(started.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            return ExitCode::SUCCESS;
        }
        match signals.next(left.map_or(WATCH_EVERY, |left| left.min(WATCH_EVERY))).await {
            Request::Stop => return ExitCode::SUCCESS,
            Request::Reload => {
                files.note_loaded();
                reload(pipeline, "SIGHUP");
            }
            Request::Nothing if !pipeline.is_running() => {
                tracing::error!("the engine ended by a fault of its own; the log before says why");
                return ExitCode::from(ENGINE_DIED);
            }
            Request::Nothing if files.has_changed() => reload(pipeline, "changed files"),
            Request::Nothing => {}
        }
    }
}

/// Reads the rules again; bad ones change nothing.
fn reload(pipeline: &Pipeline, cause: &str) {
    match pipeline.reload() {
        Ok(rules) => tracing::info!(rules, cause, "rules were reloaded"),
        Err(mistakes) => {
            tracing::error!(cause, "the old rules stay, the new ones have mistakes\n{mistakes}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_goes_over_the_file() {
        let mut config = Config::default();
        config.export.sinks.clear();
        set_stdout(&mut config, OutputFormat::Json);
        set_stdout(&mut config, OutputFormat::Ocsf);
        assert_eq!(config.export.sinks.len(), 1);
        assert_eq!(config.export.sinks[0].kind, SinkKind::Stdout { format: OutputFormat::Ocsf });
    }
}
