//! A target on a bare socket: it reads one HTTP request a connection and answers with bytes that no HTTP library would
//! let it send. It remembers every call by the delivery id.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A call that it got.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The `Idempotency-Key`.
    pub(super) key: String,
    /// The order's number.
    pub(super) order: String,
    /// How many calls with this key came before.
    pub(super) before: usize,
    /// When it had been read.
    pub(super) at: Instant,
}

/// What it does with a call.
pub(super) enum Does {
    /// Writes these bytes and closes.
    Says(Vec<u8>),
    /// Waits until the gate is open, then does so.
    Gated(watch::Receiver<bool>, Vec<u8>),
    /// Writes these bytes one by one, so far apart.
    Drips(Vec<u8>, Duration),
    /// Writes the first once and the second without end.
    Endless(Vec<u8>, Vec<u8>),
    /// Says nothing and keeps the connection.
    Nothing,
}

type Manner = Box<dyn FnMut(&Call) -> Does + Send>;

/// The target.
pub(super) struct Stub {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    calls: Mutex<Vec<Call>>,
    manner: Mutex<Manner>,
    /// Bytes that it could write.
    written: AtomicUsize,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Stub {
    pub(super) async fn start(manner: impl FnMut(&Call) -> Does + Send + 'static) -> Self {
        Self::bound(None, manner).await
    }

    /// Behind TLS.
    pub(super) async fn with_tls(
        config: tokio_rustls::rustls::ServerConfig,
        manner: impl FnMut(&Call) -> Does + Send + 'static,
    ) -> Self {
        Self::bound(Some(Arc::new(config).into()), manner).await
    }

    async fn bound(tls: Option<tokio_rustls::TlsAcceptor>, manner: impl FnMut(&Call) -> Does + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            calls: Mutex::default(),
            manner: Mutex::new(Box::new(manner)),
            written: AtomicUsize::new(0),
            tls,
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                tokio::spawn(async move {
                    match &state.tls {
                        None => drop(state.serve(stream).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(state.serve(stream).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Every call, probes left out.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By order, the delivery ids that it came with: one effect each at a target that remembers them.
    pub(super) fn effects(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut effects: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for call in self.calls() {
            effects.entry(call.order).or_default().insert(call.key);
        }
        effects
    }

    /// How many bytes of answers it could write.
    pub(super) fn written(&self) -> usize {
        self.state.written.load(Ordering::SeqCst)
    }
}

impl State {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let Some((head, body)) = read(&mut stream).await? else { return Ok(()) };
        if head.starts_with("HEAD ") {
            return self.write(&mut stream, &answer(200, "", "")).await;
        }
        let key = header(&head, "idempotency-key").unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let order = body["orderNo"].as_str().unwrap_or_default().to_owned();
        let call = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let before = calls.iter().filter(|call| call.key == key).count();
            let call = Call { key, order, before, at: Instant::now() };
            calls.push(call.clone());
            call
        };
        let does = (self.manner.lock().unwrap_or_else(PoisonError::into_inner))(&call);
        match does {
            Does::Says(bytes) => self.write(&mut stream, &bytes).await?,
            Does::Gated(mut gate, bytes) => {
                let _ = gate.wait_for(|open| *open).await;
                self.write(&mut stream, &bytes).await?;
            }
            Does::Drips(bytes, pause) => {
                for byte in bytes {
                    self.write(&mut stream, &[byte]).await?;
                    tokio::time::sleep(pause).await;
                }
            }
            Does::Endless(first, rest) => {
                self.write(&mut stream, &first).await?;
                loop {
                    self.write(&mut stream, &rest).await?;
                }
            }
            // Until the other side has had enough.
            Does::Nothing => drop(stream.read(&mut [0; 1]).await),
        }
        stream.shutdown().await
    }

    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
        stream.write_all(bytes).await?;
        self.written.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }
}

/// One request's head and body; `None` where nobody asks anything.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            let mut body = bytes.split_off(end + 4);
            while body.len() < length {
                if stream.read_buf(&mut body).await? == 0 {
                    return Ok(None);
                }
            }
            return Ok(Some((head, body)));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim().to_owned())
}

/// A whole answer; `headers` end with a line end each.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// The yes of a CRM.
pub(super) fn yes() -> Vec<u8> {
    answer(200, "content-type: application/json\r\n", r#"{"code":0,"msg":"好"}"#)
}
