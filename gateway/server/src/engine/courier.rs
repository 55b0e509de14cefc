//! Carries spans to the collector. The exporter works on a thread of its own, where nothing of tokio runs: each request
//! is sent on the gateway's runtime, through the same client (TLS, limits) as every other call.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_core::fault::Fault;
use gatehouse_net::client::{Client, ClientConfig};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// How long a collector may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most bytes of its answer.
const MAX_ANSWER: usize = 1 << 20;

/// An HTTP client for the exporter.
#[derive(Debug)]
pub(super) struct Courier {
    client: Client,
    runtime: Handle,
}

impl Courier {
    /// To the collector at `address`. Call it on the runtime.
    ///
    /// # Errors
    /// `Misconfigured`: it is no URL.
    pub(super) fn new(address: &str) -> Result<Self, Fault> {
        let config =
            ClientConfig { address: address.to_owned(), ca_file: None, max_answer: MAX_ANSWER, connections: 1 };
        Ok(Self { client: Client::new(&config)?, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move { tokio::time::timeout(DEADLINE, client.send(request)).await });
        Ok(sending.await??.map_err(|fault| fault.to_string())?)
    }
}
