//! Load and sink: so many connections that each send one request after the other, and a server that counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a run of load came to.
pub(crate) struct Outcome {
    /// Requests that were answered with a 2xx.
    pub(crate) accepted: u64,
    /// How long it ran.
    pub(crate) elapsed: Duration,
    /// How long each took, sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Outcome {
    /// The latency that a share of the requests stayed below.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// One HTTP/1.1 connection.
pub(crate) async fn connect(address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends `body` to `http://address/path` over so many connections for so long.
pub(crate) async fn run(
    address: &str,
    path: &str,
    body: Bytes,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut sender = connect(address).await?;
        let (address, path, body) = (address.to_owned(), path.to_owned(), body.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < time {
                let request = http::Request::post(&path)
                    .header("host", &address)
                    .header("content-type", if body.starts_with(b"<") { "text/xml" } else { "application/json" })
                    .body(Full::new(body.clone()))?;
                let sent = Instant::now();
                let response = sender.send_request(request).await?;
                let status = response.status();
                drain(response.into_body()).await?;
                anyhow::ensure!(status.is_success(), "answered {status}");
                latencies.push(sent.elapsed());
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await?.context("a connection of the load failed")?);
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    Ok(Outcome { accepted: latencies.len() as u64, elapsed, latencies })
}

/// Sends each of these bodies once, over so many connections; all must be taken.
pub(crate) async fn each(address: &str, path: &str, bodies: Vec<Bytes>, connections: usize) -> anyhow::Result<()> {
    let share = bodies.len().div_ceil(connections).max(1);
    let mut tasks = Vec::new();
    for some in bodies.chunks(share) {
        let mut sender = connect(address).await?;
        let (address, path, some) = (address.to_owned(), path.to_owned(), some.to_vec());
        tasks.push(tokio::spawn(async move {
            for body in some {
                let request =
                    http::Request::post(&path).header("host", &address).header("content-type", "application/json");
                let response = sender.send_request(request.body(Full::new(body))?).await?;
                let status = response.status();
                drain(response.into_body()).await?;
                anyhow::ensure!(status.is_success(), "answered {status}");
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// What a plain GET is answered.
pub(crate) async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut sender = connect(address).await?;
    let request = http::Request::get(path).header("host", address).body(Full::default())?;
    let body = http_body_util::Limited::new(sender.send_request(request).await?.into_body(), 16 << 20);
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| anyhow::anyhow!(error))?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn drain(mut body: Incoming) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// A target that counts what arrives and says yes.
pub(crate) struct Sink {
    /// Where it is.
    pub(crate) address: SocketAddr,
    count: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Sink {
    /// Starts one whose yes is an empty 200.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_saying(Bytes::new()).await
    }

    /// Starts one that answers this, as XML where it is not empty.
    pub(crate) async fn start_saying(answer: Bytes) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0", answer).await
    }

    /// The same at this address. It and its connections end when it is dropped.
    pub(crate) async fn start_at(address: &str, answer: Bytes) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let address = listener.local_addr()?;
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = ended.run_until_cancelled(listener.accept()).await {
                let (counter, answer, ended) = (Arc::clone(&counter), answer.clone(), ended.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<Incoming>| {
                        let (counter, answer) = (Arc::clone(&counter), answer.clone());
                        async move {
                            drain(request.into_body()).await?;
                            counter.fetch_add(1, Ordering::Relaxed);
                            let mut response = http::Response::new(Full::new(answer.clone()));
                            if !answer.is_empty() {
                                let media = http::HeaderValue::from_static("text/xml");
                                response.headers_mut().insert(http::header::CONTENT_TYPE, media);
                            }
                            anyhow::Ok(response)
                        }
                    });
                    let _ = stream.set_nodelay(true);
                    let serving =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    let _ = ended.run_until_cancelled(serving).await;
                });
            }
        });
        Ok(Self { address, count, _stop: stop.drop_guard() })
    }

    /// How many have arrived.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived; how long after `since` that was.
    pub(crate) async fn wait(&self, count: u64, since: Instant) -> anyhow::Result<Duration> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.count() < count {
            anyhow::ensure!(Instant::now() < deadline, "only {} of {count} arrived", self.count());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(since.elapsed())
    }
}
