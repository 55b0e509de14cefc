//! The `gatehouse` program. Everything is in the library; this picks the allocator and the crypto provider.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // One provider for every TLS connection, chosen once; a second call cannot happen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    gatehouse::cli::main()
}
