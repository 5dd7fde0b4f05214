//! bench
pub(crate) fn run(_: &crate::tree::Tree, _: &crate::cli::BenchArgs) -> anyhow::Result<()> {
    anyhow::bail!("x")
}
