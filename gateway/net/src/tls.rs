//! Certificates: the door's own, and those that peers are trusted by.

use std::path::Path;
use std::sync::Arc;

use gatehouse_core::fault::{Code, Fault};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The door's side: TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2.
pub(crate) fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Fault> {
    let bad = |path: &Path, error: String| Fault::new(Code::Misconfigured, format!("{}: {error}", path.display()));
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private);
    let mut config = config.map_err(|error| bad(certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The calling side: trusts one CA file, or what the machine trusts.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let (added, _) = roots.add_parsable_certificates(certificates(path)?);
            if added == 0 {
                return Err(Fault::new(Code::Misconfigured, format!("{} holds no usable certificate", path.display())));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bad = |error: String| Fault::new(Code::Misconfigured, format!("{}: {error}", path.display()));
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?.collect();
    let all = all.map_err(|error| bad(error.to_string()))?;
    if all.is_empty() { Err(bad("it holds no certificate".to_owned())) } else { Ok(all) }
}
