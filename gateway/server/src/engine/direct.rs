//! Requests of waiting callers that need no queue: where the bus is this process's own, a request only went through it to a
//! worker of this process and back. Where its target is well and has a place free, the caller's own task asks it.
//!
//! Everything else is as ever: limits, rate, circuit, deadline, spans and numbers. Where the circuit is not closed, or others
//! wait for a place, the request goes into the queue, behind them.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_core::Value;
use gatehouse_core::adapter::{Passed, Reply};
use gatehouse_core::fault::Fault;
use gatehouse_core::message::Message;

use super::circuit::State;
use super::delivery::Carrier;
use super::intake::late;
use super::system::{Connection, Places};

/// Who can be asked without a queue: the carriers of targets that answer, by their queue.
pub(super) type Direct = std::collections::HashMap<String, Arc<Carrier>>;

impl Carrier {
    /// A place at the target, if it can be asked at once.
    pub(super) fn free(&self) -> Option<Places> {
        let well =
            self.system.circuit.state() == State::Closed && matches!(self.system.connection(), Connection::Ready(_));
        let endpoint = self.system.endpoint(&self.target.endpoint).filter(|_| well)?;
        self.system.free_place(endpoint)
    }

    /// Asks the target for a caller who waits so long, in the place that it has.
    pub(super) async fn ask(
        &self,
        place: Places,
        message: &Message,
        passed: Option<&(Passed, Value)>,
        delivery_id: &str,
        deadline: Duration,
    ) -> Result<Reply, Fault> {
        let asked = tokio::time::timeout(deadline, self.call(message, passed, false, delivery_id, 1)).await;
        drop(place);
        let reply = asked.unwrap_or_else(|_| Err(late()))?;
        self.metrics.delivered.inc();
        Ok(reply)
    }
}
