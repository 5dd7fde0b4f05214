//! actor
use clap::Subcommand;
#[derive(Debug, Subcommand)]
pub(crate) enum ActorTask {
    /// x
    Sink,
}
pub(crate) fn run(_: ActorTask) -> anyhow::Result<()> {
    anyhow::bail!("x")
}
