//! Joins a cgroup before the program starts, so that no moment of it is in another one.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Error, Result};
use clap::Args;

/// What `launch` takes.
#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// Directory of the cgroup
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

pub(super) fn run(args: &LaunchArgs) -> Result<()> {
    super::die_with_parent()?;
    if let Some(cgroup) = &args.cgroup {
        let members = cgroup.join("cgroup.procs");
        fs::write(&members, std::process::id().to_string())
            .with_context(|| format!("join {}", members.display()))?;
    }
    let (program, arguments) = args.program.split_first().context("no program was given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(Error::new(error).context(format!("become {program}")))
}
