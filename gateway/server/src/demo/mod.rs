//! `gatehouse demo`: the whole story, with stand-in peers and nothing to install.
//!
//! The gateway is the real one, on the embedded bus and SQLite; the site is the real one of `routes/`; only the shop,
//! the ERP, the CRM and the finance database are stand-ins ([`peers`]). [`story`] feeds them and tells what happens.

mod peers;
mod place;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

pub use peers::{Crm, CrmMood, Erp, finance};

/// What the demo takes.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// A UBL 2.x order to send as well.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The site that it runs; its addresses are replaced by the stand-ins'.
    #[arg(long, default_value = "routes")]
    site: PathBuf,
    /// End when the story is told, instead of staying up until Ctrl-C.
    #[arg(long)]
    once: bool,
}

/// Runs it.
///
/// # Errors
/// The site cannot be read, or a port or folder cannot be had.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    story::tell(&args.site, args.file.as_deref(), args.once).await
}
