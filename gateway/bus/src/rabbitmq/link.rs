//! One supervised connection. It is made, watched, and made again after any loss, for as long as the bus lives.
//!
//! lapin's own recovery is off: it gives up after a while, replays old topology, and does not mend channels. Not here:
//! what is done over the connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Connection, ConnectionProperties, Error, ErrorKind, Event};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::config::Endpoint;

/// TCP, TLS, login and tuning together.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// A connection that died without an event is found after this.
const LOOK: Duration = Duration::from_millis(500);
/// How long a polite close may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What a link is now.
#[derive(Clone)]
pub(super) enum LinkState {
    /// Never tried.
    Starting,
    /// No connection, and why.
    Down(String),
    /// Connected.
    Up(Arc<Connection>),
    /// Connected, and told not to publish (memory or disk alarm). What only consumes goes on.
    Blocked(Arc<Connection>, String),
}

impl LinkState {
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Up(connection) | Self::Blocked(connection, _) => Some(connection),
            Self::Starting | Self::Down(_) => None,
        }
    }
}

/// A supervised connection: its state, now and at each change.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<LinkState>,
}

impl Link {
    /// Starts the supervisor of one connection. `purpose` is shown behind the connection's name.
    pub(super) fn start(dialer: Arc<Dialer>, purpose: &'static str, stop: CancellationToken) -> Self {
        let (tell, state) = watch::channel(LinkState::Starting);
        tokio::spawn(supervise(dialer, purpose, tell, stop));
        Self { state }
    }

    pub(super) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// A look at the state; not to be held across an await.
    pub(super) fn state(&self) -> watch::Ref<'_, LinkState> {
        self.state.borrow()
    }

    /// Waits for a connection, blocked or not; `None` once the bus is closed.
    pub(super) async fn connection(&self) -> Option<Arc<Connection>> {
        let mut state = self.state.clone();
        let found = state.wait_for(|s| s.connection().is_some()).await.ok()?;
        found.connection().cloned()
    }
}

async fn supervise(
    dialer: Arc<Dialer>,
    purpose: &'static str,
    tell: watch::Sender<LinkState>,
    stop: CancellationToken,
) {
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            connection = dialer.dial(purpose, &tell) => Arc::new(connection),
        };
        tell.send_replace(LinkState::Up(connection.clone()));
        tokio::select! {
            () = stop.cancelled() => {
                // Told only when it is closed: an acknowledgement after that must not succeed.
                let _ = timeout(CLOSE_DEADLINE, connection.close(200, "closed".into())).await;
                tell.send_replace(LinkState::Down("closed".to_owned()));
                break;
            }
            reason = until_lost(&connection, &tell) => {
                tracing::warn!(purpose, reason, "the connection to RabbitMQ is lost");
                tell.send_replace(LinkState::Down(reason));
            }
        }
    }
}

/// Follows a connection to its end and says what ended it.
async fn until_lost(connection: &Arc<Connection>, tell: &watch::Sender<LinkState>) -> String {
    let mut events = connection.events_listener();
    let mut last = "it ended".to_owned();
    loop {
        // The time-out is a second pair of eyes: events sent before we listened are not repeated.
        match timeout(LOOK, events.next()).await {
            Ok(Some(Event::ConnectionBlocked(reason))) => block(connection, tell, reason),
            Ok(Some(Event::ConnectionUnblocked)) => {
                tell.send_replace(LinkState::Up(connection.clone()));
            }
            Ok(Some(Event::Error(error))) => last = error.to_string(),
            Ok(Some(_)) => {}
            Ok(None) => return last,
            Err(_) if connection.status().blocked() && matches!(*tell.borrow(), LinkState::Up(_)) => {
                block(connection, tell, "the broker blocks publishers".to_owned());
            }
            Err(_) => {}
        }
        if !connection.status().connected() {
            return last;
        }
    }
}

fn block(connection: &Arc<Connection>, tell: &watch::Sender<LinkState>, reason: String) {
    tell.send_replace(LinkState::Blocked(connection.clone(), reason));
}

/// Dials for all links of a bus, one at a time, so that together they keep one back-off and one turn of hosts: four
/// links with a refused login are one try, not four.
pub(super) struct Dialer {
    endpoints: Vec<Endpoint>,
    ca: Option<String>,
    name: String,
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    host: usize,
    failures: u32,
}

impl Dialer {
    pub(super) fn new(endpoints: Vec<Endpoint>, ca: Option<String>, name: String) -> Self {
        if endpoints.iter().any(Endpoint::tls) {
            // Without a process-wide provider rustls panics where more than one is compiled in.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        Self { endpoints, ca, name, turn: Mutex::default() }
    }

    /// Tries until it is connected. Each failure is told.
    async fn dial(&self, purpose: &str, tell: &watch::Sender<LinkState>) -> Connection {
        loop {
            let mut turn = self.turn.lock().await;
            let endpoint = &self.endpoints[turn.host % self.endpoints.len()];
            let (refused, reason) = match timeout(DIAL_DEADLINE, self.open(endpoint, purpose)).await {
                Ok(Ok(connection)) => {
                    turn.failures = 0;
                    return connection;
                }
                Ok(Err(error)) => (is_refused(&error), explain(&error)),
                Err(_) => (false, format!("no answer within {} s", DIAL_DEADLINE.as_secs())),
            };
            turn.host = turn.host.wrapping_add(1);
            turn.failures = turn.failures.saturating_add(1);
            // The first round through the hosts is quick; the wait grows with each round.
            let rounds = turn.failures.div_ceil(u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX));
            let wait = if refused { backoff::wait_refused(rounds) } else { backoff::wait(rounds) };
            let reason = format!("{}: {reason}", endpoint.shown);
            tracing::warn!(purpose, reason, "RabbitMQ cannot be reached; next try in {wait:.1?}");
            tell.send_replace(LinkState::Down(reason));
            // The turn is kept while waiting: the other links wait behind it instead of dialling on their own.
            tokio::time::sleep(wait).await;
        }
    }

    async fn open(&self, endpoint: &Endpoint, purpose: &str) -> lapin::Result<Connection> {
        let options =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).as_str().into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        Connection::connect_uri_with_config(endpoint.uri.clone(), options, tls, lapin::runtime::default_runtime()?)
            .await
    }
}

fn is_refused(error: &Error) -> bool {
    match error.kind() {
        // 403 ACCESS_REFUSED at login; 530 NOT_ALLOWED is a vhost that is not there or not ours.
        ErrorKind::ProtocolError(error) => matches!(error.get_id(), 403 | 530),
        ErrorKind::AuthProviderError(_) => true,
        _ => false,
    }
}

/// The broker's words, and what to look at.
fn explain(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(e) if e.get_id() == 403 => {
            format!("login refused ({}): check user and password of the bus URL", e.get_message())
        }
        ErrorKind::ProtocolError(e) if e.get_id() == 530 => {
            format!("not allowed ({}): check that the vhost exists and `rabbitmqctl list_permissions`", e.get_message())
        }
        _ => error.to_string(),
    }
}
