//! What people type. Output for people by default, `--json` for programs.
//!
//! Exit codes: 0 all is well; 1 it did not work (a test failed, a system cannot be reached); 2 the site or the command
//! line is wrong.

mod api;
mod backfill;
mod capture;
mod check;
mod connect;
mod connect_sql;
mod doctor;
mod fetch;
mod graph;
mod letters;
mod live;
mod out;
mod run;
mod schema;
mod test;
mod trial;
mod wsdl;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A message-bus gateway: connects each system once, carries canonical messages between them, loses none.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which site.
#[derive(Clone, Debug, Args)]
pub(crate) struct SiteArgs {
    /// The site's folder.
    #[arg(long, short, env = "GATEHOUSE_SITE", default_value = "routes", global = true)]
    site: PathBuf,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until Ctrl-C or SIGTERM.
    Run(#[command(flatten)] SiteArgs),
    /// Check the site: every problem with its place and the smallest mend. Touches nothing outside the folder.
    Check {
        /// Also ask the systems whether they take what the routes give: tables, columns, types. Changes nothing there.
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Run the site's own tests: the examples of its mappings and its route tests.
    Test(#[command(flatten)] SiteArgs),
    /// Show what a file would become, step by step. Nothing is sent.
    Try {
        /// The route it goes through.
        route: String,
        /// The file that would arrive: JSON or XML.
        file: PathBuf,
        /// Of a route with several sources (`merge`): which of them sends it. Default: the first.
        #[arg(long)]
        from: Option<String>,
        /// Of such a route: what another source has said before, `ENDPOINT=FILE`.
        #[arg(long, value_name = "ENDPOINT=FILE")]
        before: Vec<String>,
        /// What comes beside the body, as mappings and conditions see it in `meta`: `NAME=VALUE`.
        #[arg(long, value_name = "NAME=VALUE")]
        meta: Vec<String>,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Reach every system, the bus and the store, and say what is wrong and how to mend it.
    Doctor(#[command(flatten)] SiteArgs),
    /// Print the JSON Schema of a kind of file, for editors.
    Schema {
        /// `gateway`, `routes`, `mapping`, `tests`, or an adapter's name for its system files. Without it: the kinds.
        kind: Option<String>,
    },
    /// Draw the routes.
    Graph {
        /// `mermaid` or `dot`.
        #[arg(long, default_value = "mermaid")]
        format: graph::Format,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// List, show, replay, edit, discard or export dead letters of a running gateway.
    Letters {
        #[command(subcommand)]
        verb: letters::Verb,
        #[command(flatten)]
        site: SiteArgs,
        #[command(flatten)]
        desk: api::DeskArgs,
    },
    /// Read rows once more that a source still holds, for one route: in the running gateway, slice by slice.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Backfill {
        #[command(subcommand)]
        verb: Option<backfill::Verb>,
        #[command(flatten)]
        start: Option<backfill::StartArgs>,
        #[command(flatten)]
        site: SiteArgs,
        #[command(flatten)]
        desk: api::DeskArgs,
    },
    /// Write the first files of a system from what it says of itself.
    Connect {
        #[command(subcommand)]
        kind: connect::Kind,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Show, make or remove what an endpoint that reads by trigger or by log needs in its database.
    Capture {
        #[command(subcommand)]
        verb: capture::Verb,
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Show what a WSDL offers.
    Wsdl {
        #[command(subcommand)]
        verb: wsdl::Verb,
    },
    /// Tell the whole story with stand-in systems: nothing to install.
    Demo(crate::demo::DemoArgs),
}

/// Runs a site as `gatehouse run --site` does, until a signal.
///
/// # Errors
/// What keeps it from starting.
pub async fn run_site(site: PathBuf) -> anyhow::Result<ExitCode> {
    run::run(&SiteArgs { site, json: false }).await
}

/// Writes one line of the demo's story.
pub(crate) fn say(text: impl AsRef<str>) {
    out::line(text);
}

/// Logs warnings only: the demo tells its own story.
fn quiet_logs() {
    run::logs_from("error", Some(false));
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    run_line(std::env::args_os())
}

/// Runs one command line, its first word the program's name. Ends the process where the words are none.
#[must_use]
pub fn run_line(words: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let cli = Cli::parse_from(words);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return out::failed(&anyhow::anyhow!("the runtime cannot start: {error}")),
    };
    let outcome = match cli.command {
        Command::Run(site) => runtime.block_on(run::run(&site)),
        Command::Check { live, site } => runtime.block_on(check::run(&site, live)),
        Command::Test(site) => test::run(&site),
        Command::Try { route, file, from, before, meta, site } => {
            trial::run(&route, &file, &trial::Sources { from, before, meta }, &site)
        }
        Command::Doctor(site) => runtime.block_on(doctor::run(&site)),
        Command::Schema { kind } => schema::run(kind.as_deref()),
        Command::Graph { format, site } => graph::run(format, &site),
        Command::Letters { verb, site, desk } => runtime.block_on(letters::run(verb, &site, &desk)),
        Command::Backfill { verb, start, site, desk } => runtime.block_on(backfill::run(verb, start, &site, &desk)),
        Command::Connect { kind, site } => runtime.block_on(connect::run(kind, &site)),
        Command::Capture { verb, site } => runtime.block_on(capture::run(verb, &site)),
        Command::Wsdl { verb } => wsdl::run(verb),
        Command::Demo(args) => {
            quiet_logs();
            runtime.block_on(crate::demo::run(args))
        }
    };
    // A task that hangs must not keep the process: what matters has been stopped in order by now.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome.unwrap_or_else(|error| out::failed(&error))
}
