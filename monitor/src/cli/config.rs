//! `gpuwarden config`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::FOUND;
use crate::config::{self, Config};

/// Commands on configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a file; every mistake is shown at once, with line and column.
    Check {
        /// The file; without it the one that `run` would read.
        file: Option<PathBuf>,
    },
    /// Print a configuration with every default and what it means.
    Print,
}

pub(super) fn run(command: &ConfigCommand, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { file } => match config::load(file.as_deref()) {
            Ok(_) => {
                writeln!(out, "the configuration is good")?;
                Ok(ExitCode::SUCCESS)
            }
            Err(errors) => {
                writeln!(out, "{errors}")?;
                Ok(ExitCode::from(FOUND))
            }
        },
        ConfigCommand::Print => {
            write!(out, "{}", Config::default().to_annotated_yaml())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
