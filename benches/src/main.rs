//! What the gateway costs, against the raw path, in one run on this machine.
//!
//! Each contestant is a process of its own (this program again, with a role), so that its CPU seconds and its memory are
//! its own; load and sink are here. The raw path does no more than must be: hyper in → confirmed publish → 202;
//! consumer → hyper out → ack. Gatehouse does the same with decoding, mapping, judging, routing and mapping out.
//!
//! With `sync` it measures callers that wait instead ([`sync`]): no broker is needed for that.
//! `upsert` as the first word measures writes into PostgreSQL instead ([`upsert`]), `backlog` a target that was away
//! ([`backlog`]), `table` the first reading of a table ([`table`]).
//!
//! `./test bench` runs it on a RabbitMQ that it starts; `GATEHOUSE_TEST_AMQP_310` names another broker.

mod backlog;
mod contest;
mod load;
mod process;
mod raw;
mod site;
mod sync;
mod table;
mod upsert;

use std::io::Write;

/// The program's own allocator, for every contestant.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let _ = rustls_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("raw") => runtime.block_on(raw::serve(&arguments[2], &arguments[3], &arguments[4], &arguments[5])),
        Some("gateway") => {
            runtime.block_on(async { gatehouse::cli::run_site(arguments[2].clone().into()).await.map(|_| ()) })
        }
        Some("forward") => runtime.block_on(sync::forward(&arguments[2], &arguments[3])),
        Some("sync") => runtime.block_on(sync::run(arguments.iter().any(|argument| argument == "--quick"))),
        Some("table") => runtime.block_on(table::run(arguments.iter().any(|argument| argument == "--quick"))),
        Some("upsert") => runtime.block_on(upsert::run(arguments.iter().any(|argument| argument == "--quick"))),
        Some("backlog") => runtime.block_on(backlog::run(arguments.iter().any(|argument| argument == "--quick"))),
        _ => runtime.block_on(contest::run(arguments.iter().any(|argument| argument == "--quick"))),
    }
}

/// TLS is not used here, but the clients want a provider.
fn rustls_provider() -> Result<(), ()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| ())
}

/// Writes one line.
fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}
