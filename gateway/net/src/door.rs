//! The door: one capped listener, on which adapters mount services by path.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// A request whose head has been read and judged; its body has not.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, normalised once: percent-decoded where that is safe, `//` merged, no dot segments.
    pub path: String,
    /// The raw query.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub peer: std::net::SocketAddr,
    /// The body, to be read with [`Request::read`].
    pub body: crate::body::Incoming,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers; length and date are set by the door.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What an adapter mounts. Called concurrently.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers one request. Every path below the mounted prefix comes here.
    async fn call(&self, request: Request) -> Response;
}
