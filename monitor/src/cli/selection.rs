//! Which rules a command is about.

use std::path::PathBuf;

use clap::Args;

use crate::config;
use crate::pipeline::plan;
use crate::rule::{Diagnostics, RuleSet, shipped};

/// Which rules a command is about.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Rule files, or folders of them; without any, what `run` would load
    paths: Vec<PathBuf>,
    /// Take the paths beside the shipped rules, as `run` does: ids must differ from theirs, and
    /// their lists and macros can be used
    #[arg(long, requires = "paths")]
    with_shipped: bool,
    /// Configuration that names the rules where no path is given; without it the one that `run`
    /// would read
    #[arg(long, value_name = "FILE", env = "GPUWARDEN_CONFIG")]
    config: Option<PathBuf>,
}

impl Selection {
    /// The rules of these paths.
    #[cfg(test)]
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        Self { paths, with_shipped: false, config: None }
    }

    /// Reads the rules. The outer error is one of the configuration.
    pub(super) fn read(&self) -> anyhow::Result<Result<RuleSet, Diagnostics>> {
        if self.paths.is_empty() {
            let config = config::load(self.config.as_deref())?;
            return Ok(plan::rules(&config.rules));
        }
        let beside = if self.with_shipped { shipped() } else { Vec::new() };
        Ok(RuleSet::read_with(beside, &self.paths))
    }
}
