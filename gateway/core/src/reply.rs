//! What a system answered to a delivery: yes, and to which parts of it no.

use crate::fault::Fault;
use crate::passed::Passed;
use crate::value::Value;

/// What the system answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The decoded body; `Null` where there was none.
    pub body: Value,
    /// Parts of the delivery that it will never take, while it took the others: each becomes a dead letter of its own.
    pub refused: Vec<Refused>,
    /// The answer as it came, to a body that was sent as it came.
    pub passed: Option<Passed>,
}

/// A part of a delivery that the system refused. Parts that may go better later are no business of this: then the whole
/// delivery fails, comes again, and the parts that were taken are recognised.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The part's own delivery id, the same in every attempt: what it is sent with when it is sent again alone.
    pub delivery_id: String,
    /// What to send for this part alone, in the endpoint's own shape: no mapping is applied to it any more.
    pub body: Value,
    /// Why. Its verdict is `Reject`.
    pub fault: Fault,
}
