//! The way to the server: its URL, its limits, TLS, and the two pools.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use gatehouse_core::secret::Secret;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// Connections for letters and audit, at most.
const LETTERS: usize = 8;

/// Connections for the ledger, at most.
const LEDGER: usize = 4;

/// To a connection, at most.
const CONNECT: Duration = Duration::from_secs(4);

/// The server ends what takes longer: a statement, a lock, a transaction whose gateway has gone. All within the deadline
/// of a call, so that it is the server that says no, and a connection is free again.
const LIMITS: &str =
    "-c statement_timeout=6000 -c lock_timeout=4000 -c idle_in_transaction_session_timeout=15000 -c timezone=UTC";

/// The pools, with nothing connected yet.
pub(super) struct Pools {
    pub(super) letters: Pool,
    pub(super) ledger: Pool,
}

pub(super) async fn pools(url: &Secret, schema: &str, ca_file: Option<&Path>) -> Result<Pools, StoreError> {
    if !is_plain(schema) {
        let text = format!(
            "`{schema}` cannot be the store's schema: letters a-z, digits and `_`, not a digit first, at most 63"
        );
        return Err(StoreError::Unavailable(text));
    }
    // libpq's two stricter words mean here what `require` means: it is always the whole proof.
    let plain =
        url.expose().replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        StoreError::Unavailable(format!("the store's URL cannot be read: {why}"))
    })?;
    if config.get_application_name().is_none() {
        config.application_name("gatehouse");
    }
    config.connect_timeout(CONNECT).tcp_user_timeout(Duration::from_secs(10)).keepalives_idle(Duration::from_secs(30));
    let tls = match config.get_ssl_mode() {
        SslMode::Disable => None,
        _ => Some(tls(ca_file).await?),
    };
    let own = config.get_options().unwrap_or_default().to_owned();
    let pool = |size: usize, more: &str| {
        let mut config = config.clone();
        config.options(format!("{own} {LIMITS} -c search_path={schema} {more}"));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Some(tls) => Manager::from_config(config, tls.clone(), recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let timeouts = Timeouts { wait: Some(CONNECT), create: Some(CONNECT), recycle: Some(CONNECT) };
        let pool = Pool::builder(manager).max_size(size).timeouts(timeouts).runtime(Runtime::Tokio1).build();
        pool.map_err(|error| StoreError::Unavailable(format!("PostgreSQL: {error}")))
    };
    Ok(Pools {
        letters: pool(LETTERS, "-c synchronous_commit=on")?,
        ledger: pool(LEDGER, "-c synchronous_commit=off")?,
    })
}

/// A name that needs no quotes, and so can mean one thing only.
fn is_plain(schema: &str) -> bool {
    let starts = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let goes_on = schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    starts && goes_on && schema.len() <= 63 && !schema.starts_with("pg_")
}

async fn tls(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let ca_file: Option<PathBuf> = ca_file.map(Path::to_owned);
    let loaded = tokio::task::spawn_blocking(move || trusted(ca_file.as_deref())).await;
    let roots =
        loaded.map_err(|error| StoreError::Unavailable(format!("reading certificates was stopped: {error}")))??;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Unavailable(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Who may sign the server's certificate.
fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unreadable = |why: String| StoreError::Unavailable(format!("the CA file {}: {why}", file.display()));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("it holds no certificate (PEM, `-----BEGIN CERTIFICATE-----`)".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_plain_name() {
        for good in ["gatehouse", "_a", "gw_2"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "2gw", "Gate", "a-b", "a,public", "a b", "pg_x", "库", &"x".repeat(64)] {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_url_is_told_without_the_url() {
        let url = Secret::new("postgres://bus:geheim@db:port/x");
        let Err(error) = pools(&url, "gatehouse", None).await else { panic!("taken") };
        assert!(matches!(error, StoreError::Unavailable(_)));
        assert!(!error.to_string().contains("geheim"), "{error}");
    }

    #[tokio::test]
    async fn a_ca_file_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "not a certificate").unwrap();
        let url = Secret::new("postgres://localhost/x?sslmode=verify-full");
        let Err(error) = pools(&url, "gatehouse", Some(&file)).await else { panic!("taken") };
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
