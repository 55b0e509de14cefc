//! A wire that misbehaves, between a gateway and a server: slow, silent, deaf to what the server says, cut, or cut again and
//! again after so many bytes; or one answer is lost whose question arrived.
//!
//! It knows no protocol; nothing is made up, only held back or thrown away.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How bytes are carried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// As they come.
    Well,
    /// Each piece this much later, both ways.
    Slow(Duration),
    /// Nothing passes and nothing is closed: what is read waits, and passes once the wire is well again.
    Silent,
    /// What the server says is thrown away; what it is told passes.
    Deaf,
}

/// Listens on a port of its own and carries each connection to one address.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    address: String,
    wire: watch::Sender<Wire>,
    cuts: watch::Sender<u64>,
    dials: AtomicUsize,
    /// How many bytes a server says on one connection before that is cut.
    most: AtomicUsize,
    /// The answer to the next piece that holds this is thrown away, and its connection with it.
    lose: Mutex<Option<&'static str>>,
}

impl Proxy {
    /// To `address`, well.
    pub(crate) async fn start(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            address,
            wire: watch::Sender::new(Wire::Well),
            cuts: watch::Sender::new(0),
            dials: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            lose: Mutex::default(),
        });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepting.dials.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(accepting.clone().connection(client));
            }
        });
        Self { port, shared }
    }

    /// From now on the wire is so, for the connections that stand too.
    pub(crate) fn wire(&self, wire: Wire) {
        self.shared.wire.send_replace(wire);
    }

    /// Cuts every connection that stands now.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// From now on a connection is cut once its server has said so many bytes.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.shared.most.store(bytes, Ordering::SeqCst);
    }

    /// How often somebody has connected.
    pub(crate) fn dials(&self) -> usize {
        self.shared.dials.load(Ordering::SeqCst)
    }

    /// The next piece from a client that holds `text` reaches the server, and its answer nobody.
    pub(crate) fn lose_the_answer_to(&self, text: &'static str) {
        *self.shared.lose.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Whether that has happened.
    pub(crate) fn has_lost_it(&self) -> bool {
        self.shared.lose.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Shared {
    async fn connection(self: Arc<Self>, client: TcpStream) {
        let mut cut = self.cuts.subscribe();
        let Ok(server) = TcpStream::connect(&self.address).await else { return };
        let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let losing = AtomicBool::new(false);
        tokio::select! {
            _ = self.carry(from_client, to_server, Side::Client, &losing) => {}
            _ = self.carry(from_server, to_client, Side::Server, &losing) => {}
            _ = cut.changed() => {}
        }
    }

    /// Carries what one side says until it ends.
    async fn carry(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        side: Side,
        losing: &AtomicBool,
    ) -> std::io::Result<()> {
        let mut wire = self.wire.subscribe();
        let (mut piece, mut said) = (vec![0; 1 << 16], 0);
        loop {
            let count = from.read(&mut piece).await?;
            said += count;
            if side == Side::Server && said > self.most.load(Ordering::SeqCst) {
                return Ok(());
            }
            let piece = &piece[..count];
            // A wire that is silent does not even say that somebody hung up.
            let _ = wire.wait_for(|wire| *wire != Wire::Silent).await;
            if piece.is_empty() || side == Side::Server && losing.load(Ordering::SeqCst) {
                return Ok(());
            }
            let now = *wire.borrow();
            if let Wire::Slow(delay) = now {
                tokio::time::sleep(delay).await;
            }
            if side == Side::Client && self.is_to_lose(piece) {
                losing.store(true, Ordering::SeqCst);
            }
            if side == Side::Server && now == Wire::Deaf {
                continue;
            }
            to.write_all(piece).await?;
        }
    }

    fn is_to_lose(&self, piece: &[u8]) -> bool {
        let mut lose = self.lose.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lose.is_some_and(|text| piece.windows(text.len()).any(|window| window == text.as_bytes()));
        if found {
            *lose = None;
        }
        found
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}
