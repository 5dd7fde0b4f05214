//! demo
use std::process::ExitCode;
pub(crate) fn run(_: &crate::tree::Tree, _: &crate::cli::DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("x")
}
