//! The door: one capped listener, on which adapters mount services by path.
//!
//! Every limit is set here, once: connections in all and by peer, header time, count and size, TLS handshake, the whole
//! request. What a service reads of a body is capped by [`Request::read`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use gatehouse_core::adapter::Stop;
use gatehouse_core::fault::{Code, Fault, Verdict};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::problem::Problem;
use crate::{body, head, path, tls};

/// How the door is made.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// PEM files: certificate chain and key. `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_peer: usize,
    /// How long a request's head may take to come, and a connection may idle between requests.
    pub header_timeout: Duration,
    /// How long a whole request may take, its answer included.
    pub request_timeout: Duration,
}

impl Default for DoorConfig {
    /// `127.0.0.1:8080`, plain, 10,000 connections, 1,024 from one address, 10 s for a head, 300 s for a request.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            connections: 10_000,
            connections_per_peer: 1_024,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
        }
    }
}

/// Headers of one request.
const MAX_HEADERS: usize = 100;

/// Bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long requests under way may take to finish when the door closes.
const DRAIN: Duration = Duration::from_secs(30);

/// A request whose head has been read and judged; its body has not.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, normalised once (see [`path::normalise`]).
    pub path: String,
    /// The raw query.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub peer: SocketAddr,
    body: Incoming,
}

impl Request {
    /// Reads the body, at most `max` bytes; see [`body::read`].
    ///
    /// # Errors
    /// `TooLarge`, `UnsupportedMedia`, `Slow`, `Malformed`.
    pub async fn read(self, max: usize) -> Result<Bytes, Fault> {
        body::read(&self.headers, self.body, max, body::From::Caller).await
    }

    /// The head, and the body read as by [`Request::read`].
    ///
    /// # Errors
    /// As [`Request::read`].
    pub async fn split(self, max: usize) -> Result<(Head, Bytes), Fault> {
        let Self { method, path, query, headers, peer, body } = self;
        let bytes = body::read(&headers, body, max, body::From::Caller).await?;
        Ok((Head { method, path, query, headers, peer }, bytes))
    }
}

/// A request's head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The normalised path.
    pub path: String,
    /// The raw query.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub peer: SocketAddr,
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
    /// Answers one request. Every path at or below the mounted prefix comes here.
    async fn call(&self, request: Request) -> Response;
}

type Mounts = Vec<(String, Arc<dyn Service>)>;

/// The listener.
pub struct Door {
    config: DoorConfig,
    address: SocketAddr,
    listener: Mutex<Option<TcpListener>>,
    tls: Option<TlsAcceptor>,
    mounts: RwLock<Arc<Mounts>>,
    peers: Mutex<HashMap<IpAddr, usize>>,
    /// Not everything is mounted, or not any more: what is not there may come.
    held: AtomicBool,
}

/// A mounted service; dropped, it is gone.
#[must_use = "dropping it unmounts the service"]
pub struct Mount {
    door: Arc<Door>,
    prefix: String,
}

impl Door {
    /// Listens; serves nobody yet.
    ///
    /// # Errors
    /// `Misconfigured`: the address is in use or not ours, or the certificate cannot be read.
    pub async fn bind(config: DoorConfig) -> Result<Arc<Self>, Fault> {
        let bad = |error: std::io::Error| {
            Fault::new(Code::Misconfigured, format!("cannot listen on {}: {error}", config.listen))
        };
        let listener = TcpListener::bind(config.listen).await.map_err(bad)?;
        let address = listener.local_addr().map_err(bad)?;
        let tls = config
            .tls
            .as_ref()
            .map(|(certificate, key)| tls::server(certificate, key))
            .transpose()?
            .map(TlsAcceptor::from);
        Ok(Arc::new(Self {
            address,
            listener: Mutex::new(Some(listener)),
            tls,
            mounts: RwLock::default(),
            peers: Mutex::default(),
            held: AtomicBool::new(false),
            config,
        }))
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// From now on a path where nothing is mounted is answered 503 instead of 404, until [`Door::release`]: while a
    /// gateway starts or stops, a sender must not be told that its endpoint does not exist.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Everything is mounted: what is not there is not there.
    pub fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Mounts a service at a path and everything below it; the longest prefix wins.
    ///
    /// # Errors
    /// `Misconfigured` where another service has this very prefix.
    pub fn mount(self: &Arc<Self>, prefix: &str, service: Arc<dyn Service>) -> Result<Mount, Fault> {
        let prefix = prefix.trim_end_matches('/').to_owned();
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        if mounts.iter().any(|(other, _)| *other == prefix) {
            return Err(Fault::new(Code::Misconfigured, format!("two systems want the path `{prefix}`")));
        }
        let mut all = mounts.as_ref().clone();
        all.push((prefix.clone(), service));
        all.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        *mounts = Arc::new(all);
        Ok(Mount { door: self.clone(), prefix })
    }

    /// Serves until `stop`, then finishes what is under way.
    pub async fn serve(self: Arc<Self>, stop: Stop) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(listener) = listener else { return };
        let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
        let mut stop = stop;
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors or memory: those that are open may end; do not spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(place) = self.place(peer.ip(), connections.len()) else { continue };
            let (door, closing) = (self.clone(), closing.clone());
            connections.spawn(async move {
                door.connection(stream, peer, closing).await;
                drop(place);
            });
        }
        drop(listener);
        closing.cancel();
        connections.close();
        let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    }

    /// A place for one more connection, if there is one.
    fn place(self: &Arc<Self>, peer: IpAddr, open: usize) -> Option<Place> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if open >= self.config.connections || *count >= self.config.connections_per_peer {
            return None;
        }
        *count += 1;
        Some(Place { door: self.clone(), peer })
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, closing: CancellationToken) {
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.clone().http(stream, peer, closing).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    self.clone().http(stream, peer, closing).await;
                }
            }
        }
    }

    async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self: Arc<Self>,
        stream: S,
        peer: SocketAddr,
        closing: CancellationToken,
    ) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // Without a timer hyper's header time-out does nothing.
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .max_header_list_size(16 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let door = self.clone();
        let begun = CancellationToken::new();
        let first = begun.clone();
        let service = service_fn(move |request| {
            first.cancel();
            let door = door.clone();
            async move { Ok::<_, std::convert::Infallible>(door.answer(request, peer).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // While hyper-util finds out whether this is HTTP/1 or HTTP/2, no timer of hyper's runs.
        let silent = async {
            if tokio::time::timeout(self.config.header_timeout, begun.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        // An error here is the peer's: it went away, or sent what is no HTTP and has been told so.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = silent => {}
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(&self, request: hyper::Request<Incoming>, peer: SocketAddr) -> hyper::Response<Full<Bytes>> {
        let answered =
            AssertUnwindSafe(tokio::time::timeout(self.config.request_timeout, self.dispatch(request, peer)))
                .catch_unwind()
                .await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => Problem::from(&Fault::new(Code::Deadline, "the request took too long")).response(),
            Err(_) => {
                Problem::from(&Fault::new(Code::Internal, "a mistake in the gateway stopped this request")).response()
            }
        };
        let mut answer = hyper::Response::new(Full::new(response.body));
        *answer.status_mut() = response.status;
        *answer.headers_mut() = response.headers;
        answer
    }

    async fn dispatch(&self, request: hyper::Request<Incoming>, peer: SocketAddr) -> Response {
        let (parts, body) = request.into_parts();
        let judged = head::judge(parts.version, &parts.headers);
        let path = match judged.and_then(|()| path::normalise(parts.uri.path())) {
            Ok(path) => path,
            Err(fault) => return Problem::from(&fault).response(),
        };
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner).clone();
        let below =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let Some((_, service)) = mounts.iter().find(|(prefix, _)| below(prefix)) else {
            let fault = if self.held.load(Ordering::Acquire) {
                Fault::new(Code::Unavailable, "the gateway is starting or stopping")
                    .verdict(Verdict::RetryAfter(Duration::from_secs(1)))
            } else {
                Fault::new(Code::NotFound, "nothing is here")
            };
            return Problem::from(&fault).response();
        };
        let query = parts.uri.query().map(str::to_owned);
        service.call(Request { method: parts.method, path, query, headers: parts.headers, peer, body }).await
    }
}

/// One connection's place; free again when dropped.
struct Place {
    door: Arc<Door>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.door.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut mounts = self.door.mounts.write().unwrap_or_else(PoisonError::into_inner);
        *mounts = Arc::new(mounts.iter().filter(|(prefix, _)| *prefix != self.prefix).cloned().collect());
    }
}
