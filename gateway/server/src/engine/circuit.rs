//! The circuit around one system: after so many failures in a row it opens, its consumers pause and burn no attempts;
//! after a while one delivery at a time tries whether the system is back.
//!
//! ```text
//! Closed ── open_after failures in a row, or a Hold ──► Open ── retry_after ──► HalfOpen ── success ──► Closed
//!                                                        ▲                          │
//!                                                        └───────── failure ────────┘
//! ```

use std::sync::Mutex;
use std::time::Duration;

use gatehouse_core::limits::Circuit as Policy;
use tokio::sync::watch;
use tokio::time::Instant;

/// Where the circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls go through.
    Closed,
    /// No calls until then.
    Open {
        /// When one may try.
        until: Instant,
    },
    /// One call at a time.
    HalfOpen,
}

/// The circuit around one system, shared by all of its workers.
#[derive(Debug)]
pub struct Circuit {
    policy: Policy,
    failures: Mutex<u32>,
    state: watch::Sender<State>,
}

impl Circuit {
    /// Closed.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, failures: Mutex::new(0), state: watch::Sender::new(State::Closed) }
    }

    /// Where it stands, now and at each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Waits until it does not stand there any more.
    pub async fn left(&self, state: State) {
        let mut watch = self.watch();
        // The sender lives as long as this borrow, so the wait cannot fail.
        let _ = watch.wait_for(|now| *now != state).await.map(drop);
    }

    /// The system answered, be it yes or a business no.
    pub fn succeeded(&self) {
        if let Ok(mut failures) = self.failures.lock() {
            *failures = 0;
        }
        self.state.send_if_modified(|state| {
            let half_open = *state == State::HalfOpen;
            if half_open {
                *state = State::Closed;
            }
            half_open
        });
    }

    /// The system could not be reached, was too slow, or broke.
    pub fn failed(&self) {
        let full = self.failures.lock().map(|mut failures| {
            *failures = failures.saturating_add(1);
            *failures >= self.policy.open_after
        });
        if full.unwrap_or(true) || self.state() == State::HalfOpen {
            self.open(self.policy.retry_after);
        }
    }

    /// Opens it now: a `Hold`, or a system that asked to be left alone.
    pub fn open(&self, wait: Duration) {
        self.state.send_if_modified(|state| {
            let changed = !matches!(state, State::Open { .. });
            if changed {
                *state = State::Open { until: Instant::now() + wait };
            }
            changed
        });
    }

    /// Opens it for as long as its policy says.
    pub fn hold(&self) {
        self.open(self.policy.retry_after);
    }

    /// Waits until a call may be made; tells whether it is the one that tries.
    pub async fn permitted(&self) -> bool {
        let mut watch = self.watch();
        loop {
            let state = *watch.borrow_and_update();
            match state {
                State::Closed => return false,
                State::HalfOpen => return true,
                State::Open { until } => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {
                            self.state.send_if_modified(|now| {
                                let due = *now == State::Open { until };
                                if due {
                                    *now = State::HalfOpen;
                                }
                                due
                            });
                        }
                        changed = watch.changed() => if changed.is_err() { return false },
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> Circuit {
        Circuit::new(Policy { open_after: 3, retry_after: Duration::from_secs(10) })
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let circuit = circuit();
        circuit.failed();
        circuit.failed();
        circuit.succeeded();
        circuit.failed();
        circuit.failed();
        assert_eq!(circuit.state(), State::Closed);
        circuit.failed();
        assert!(matches!(circuit.state(), State::Open { .. }));
        let before = Instant::now();
        assert!(circuit.permitted().await, "the first after the wait tries");
        assert!(before.elapsed() >= Duration::from_secs(10));
        circuit.failed();
        assert!(matches!(circuit.state(), State::Open { .. }), "one failure is enough while it tries");
        assert!(circuit.permitted().await);
        circuit.succeeded();
        assert!(!circuit.permitted().await);
        assert_eq!(circuit.state(), State::Closed);
    }
}
