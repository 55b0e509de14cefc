//! The client: one pool a system, with every limit set. It follows no redirects and keeps no cookies.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use gatehouse_core::fault::{Code, Fault};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::{body, tls};

/// How long connecting may take, TLS with it.
const CONNECT: Duration = Duration::from_secs(3);

/// How long an idle connection is kept; shorter than what common servers keep, so that few die under a request.
const IDLE: Duration = Duration::from_secs(20);

/// How often a request is tried anew whose kept connection turned out to be dead before a byte was sent.
const STALE: usize = 3;

/// Where to, and how much back.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `http://host:port/base` or `https://…`.
    pub address: String,
    /// The CA that the peer's certificate is trusted by; `None` for the machine's.
    pub ca_file: Option<PathBuf>,
    /// The largest answer, in bytes.
    pub max_answer: usize,
    /// How many connections are kept: the most calls at the same time.
    pub connections: usize,
}

/// A client of one system.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    peer: String,
    max_answer: usize,
}

impl Client {
    /// Makes the pool; connects nowhere yet.
    ///
    /// # Errors
    /// `Misconfigured`: no URL, or no usable CA.
    pub fn new(config: &ClientConfig) -> Result<Self, Fault> {
        let uri = check_address(&config.address).map_err(|reason| Fault::new(Code::Misconfigured, reason))?;
        let peer = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client(config.ca_file.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.connections)
            .retry_canceled_requests(false)
            .http1_max_buf_size(64 * 1024)
            .build(connector);
        Ok(Self { pool, base: config.address.trim_end_matches('/').to_owned(), peer, max_answer: config.max_answer })
    }

    /// The URL of a path (with its query) below the system's address.
    ///
    /// # Errors
    /// `Misconfigured` where it is no URL.
    pub fn url(&self, path: &str) -> Result<Uri, Fault> {
        let slash = if path.is_empty() || path.starts_with(['/', '?']) { "" } else { "/" };
        let url = format!("{}{slash}{path}", self.base);
        url.parse().map_err(|error| Fault::new(Code::Misconfigured, format!("`{url}` is no URL: {error}")))
    }

    /// One request and its whole answer.
    ///
    /// # Errors
    /// `Unreachable` where nothing was sent; `Unknown` where the connection broke after that; `BadAnswer` for an answer
    /// that is too large or no HTTP.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Fault> {
        let (parts, payload) = request.into_parts();
        let mut tries = 0;
        let response = loop {
            let request = Request::from_parts(parts.clone(), Full::new(payload.clone()));
            tries += 1;
            match self.pool.request(request).await {
                Ok(response) => break response,
                Err(error) if tries < STALE && was_stale(&error) => {}
                Err(error) => return Err(self.explain(&error)),
            }
        };
        let (parts, answer) = response.into_parts();
        let answer = body::read(&parts.headers, answer, self.max_answer, body::From::Peer).await?;
        Ok(Response::from_parts(parts, answer))
    }

    fn explain(&self, error: &hyper_util::client::legacy::Error) -> Fault {
        let cause = root(error);
        if error.is_connect() || was_stale(error) {
            return Fault::new(Code::Unreachable, format!("{} cannot be reached: {cause}", self.peer));
        }
        let parse = hyper_error(error).is_some_and(|error| error.is_parse() || error.is_parse_too_large());
        if parse {
            return Fault::new(Code::BadAnswer, format!("{} did not answer in HTTP: {cause}", self.peer));
        }
        Fault::new(Code::Unknown, format!("{} broke off before it answered: {cause}", self.peer))
    }
}

/// Reads a system's address.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check_address(address: &str) -> Result<Uri, String> {
    let uri: Uri = address.parse().map_err(|error| format!("`{address}` is no URL: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("`{address}` does not begin with `http://` or `https://`"));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("an address holds no credentials: write them under `auth:`".to_owned())
        }
        Some(_) if uri.query().is_some() => Err("an address has no query".to_owned()),
        Some(_) => Ok(uri),
        None => Err(format!("`{address}` names no host")),
    }
}

/// hyper's own error in the chain.
fn hyper_error(error: &hyper_util::client::legacy::Error) -> Option<&hyper::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Whether a kept connection had died before anything was written: hyper gives such a request back untouched.
fn was_stale(error: &hyper_util::client::legacy::Error) -> bool {
    hyper_error(error).is_some_and(hyper::Error::is_canceled)
}

/// The innermost cause: `Connection refused`, `certificate expired`.
fn root(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
