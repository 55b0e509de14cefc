//! One system as the engine runs it: its connected outbound half, its circuit, its rates and its places.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_core::adapter::{Direction, Outbound, System};
use gatehouse_core::fault::{Fault, Verdict};
use gatehouse_core::limits::Limits;
use gatehouse_core::secret::Secrets;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::circuit::Circuit;
use super::limiter::Limiter;

/// The longest wait between two tries to connect.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The wait after credentials were refused: a person must look, but may do so any time.
const HELD_WAIT: Duration = Duration::from_secs(60);

/// How long one try to connect may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// A system as the engine runs it.
pub struct SystemRuntime {
    /// What its file says.
    pub system: Arc<dyn System>,
    /// Its circuit.
    pub circuit: Circuit,
    limiter: Limiter,
    places: Arc<Semaphore>,
    endpoints: HashMap<String, EndpointRuntime>,
    connected: watch::Sender<Connection>,
}

/// The outbound half, or why there is none yet.
#[derive(Clone)]
pub enum Connection {
    /// Not tried, or being tried.
    Pending(Option<Fault>),
    /// There.
    Ready(Arc<dyn Outbound>),
}

/// An endpoint as the engine runs it.
pub struct EndpointRuntime {
    /// Its limits.
    pub limits: Limits,
    limiter: Limiter,
    places: Arc<Semaphore>,
}

/// Places taken at a system and an endpoint; free again when dropped.
pub struct Places(#[expect(dead_code, reason = "held for their drop")] [tokio::sync::OwnedSemaphorePermit; 2]);

impl SystemRuntime {
    /// From its checked file.
    #[must_use]
    pub fn new(system: Arc<dyn System>) -> Self {
        let endpoint = |limits: Limits| EndpointRuntime {
            limits,
            limiter: Limiter::new(&limits),
            places: Arc::new(Semaphore::new(limits.concurrency as usize)),
        };
        let endpoints = system.endpoints().iter().map(|e| (e.name.clone(), endpoint(e.limits))).collect();
        let limits = system.limits();
        Self {
            circuit: Circuit::new(system.circuit()),
            limiter: Limiter::new(&limits),
            places: Arc::new(Semaphore::new(limits.concurrency as usize)),
            endpoints,
            connected: watch::Sender::new(Connection::Pending(None)),
            system,
        }
    }

    /// Whether Gatehouse calls this system.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.system.endpoints().iter().any(|endpoint| endpoint.direction == Direction::Outbound)
    }

    /// One of its endpoints.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&EndpointRuntime> {
        self.endpoints.get(name)
    }

    /// Connects with back-off until it holds or `stop` is done.
    pub async fn connect(self: Arc<Self>, secrets: Arc<dyn Secrets>, stop: CancellationToken) {
        let mut wait = Duration::from_millis(200);
        loop {
            let attempt = tokio::time::timeout(CONNECT_DEADLINE, self.system.connect(secrets.as_ref()));
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = stop.cancelled() => return,
            };
            let fault = match outcome {
                Ok(Ok(outbound)) => {
                    self.connected.send_replace(Connection::Ready(outbound));
                    return;
                }
                Ok(Err(fault)) => fault,
                Err(_) => Fault::new(gatehouse_core::fault::Code::Deadline, "connecting took too long"),
            };
            tracing::warn!(system = self.system.name(), %fault, private = fault.private, "cannot connect; trying again");
            let pause = match fault.verdict {
                Verdict::Reject | Verdict::Hold => HELD_WAIT,
                Verdict::Retry | Verdict::RetryAfter(_) => wait.mul_f64(rand::random_range(0.5..1.0)),
            };
            self.connected.send_replace(Connection::Pending(Some(fault)));
            wait = (wait * 2).min(MAX_WAIT);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// How the connection stands.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connected.borrow().clone()
    }

    /// Waits until the outbound half is there.
    pub async fn outbound(&self) -> Arc<dyn Outbound> {
        if let Connection::Ready(outbound) = &*self.connected.borrow() {
            return outbound.clone();
        }
        let mut watch = self.connected.subscribe();
        loop {
            if let Connection::Ready(outbound) = &*watch.borrow_and_update() {
                return outbound.clone();
            }
            if watch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes one arrival's share of the system's and the endpoint's rate: what is left, or how long to wait.
    ///
    /// # Errors
    /// How long until one is free.
    pub fn admit(&self, endpoint: &EndpointRuntime) -> Result<Option<u32>, Duration> {
        let own = endpoint.limiter.take()?;
        let all = self.limiter.take()?;
        Ok(match (own, all) {
            (Some(own), Some(all)) => Some(own.min(all)),
            (left, None) | (None, left) => left,
        })
    }

    /// Waits for a place at the system and at the endpoint.
    pub async fn place(&self, endpoint: &EndpointRuntime) -> Option<Places> {
        let own = endpoint.places.clone().acquire_owned().await.ok()?;
        let all = self.places.clone().acquire_owned().await.ok()?;
        Some(Places([own, all]))
    }

    /// A place at the system and at the endpoint, where both are free; those who wait are served first.
    #[must_use]
    pub fn free_place(&self, endpoint: &EndpointRuntime) -> Option<Places> {
        let own = endpoint.places.clone().try_acquire_owned().ok()?;
        let all = self.places.clone().try_acquire_owned().ok()?;
        Some(Places([own, all]))
    }

    /// Waits for the rates of the endpoint and the system.
    pub async fn pace(&self, endpoint: &EndpointRuntime) {
        endpoint.limiter.wait().await;
        self.limiter.wait().await;
    }
}
