//! The engine's yes: what an inbound half is handed once the bus holds every delivery of an arrival.

use crate::passed::Passed;
use crate::value::Value;

/// The engine's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id: the caller's, or a new one.
    pub message_id: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The mapped reply, where the route waits for one (`exchange: request`) or declares one.
    pub reply: Option<Value>,
    /// The reply as it came, where the route says `pass_through`.
    pub passed: Option<Passed>,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bus holds a delivery for every target.
    Accepted,
    /// The same id with the same body came before: nothing was sent again.
    Repeated,
    /// No target wanted it, and the route says that this is fine.
    Dropped,
}
