//! The daemon's own log: structured, on standard error, apart from alerts.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// The environment variable that overrides the level, in `tracing`'s filter syntax.
pub(super) const LEVEL_VARIABLE: &str = "GPUWARDEN_LOG";

/// Starts the log. Levels come from [`LEVEL_VARIABLE`], else from the configuration.
pub(super) fn start(config: LogConfig) {
    let level = config.level.as_str();
    let filter = EnvFilter::try_from_env(LEVEL_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let started = match config.format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("a log was started before");
    }
}
