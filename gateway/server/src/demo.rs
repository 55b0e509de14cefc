//! `gatehouse demo`: the story with stand-in peers.

/// What the demo takes.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {}

/// Runs it.
pub async fn run(_args: DemoArgs) -> anyhow::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
