//! The contract of an adapter: all that its author must read.
//!
//! An adapter speaks one protocol. It has an inbound half, an outbound half, or both. It **checks** (pure: every
//! problem with its place), **connects** (may do IO, spawns nothing) and **delivers** or **runs**. It makes *one*
//! attempt: retry, back-off, time-outs, concurrency, rates, circuits, metrics, traces and dead letters are the engine's,
//! once. If an adapter needs one of them, the engine lacks something: mend it there. `docs/adapters.md` walks through one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use crate::arrival::{Admission, Arrival, Behind, Cursor};
pub use crate::backfill::{Archive, Backfill};
use crate::diagnostics::{Problems, SourceFile};
pub use crate::endpoint::{Direction, Endpoint};
use crate::fault::Fault;
use crate::limits::{Circuit, Limits};
use crate::message::Message;
use crate::outline::Given;
pub use crate::passed::{Passed, Wants};
pub use crate::receipt::{Outcome, Receipt};
pub use crate::reply::{Refused, Reply};
use crate::secret::Secrets;
use crate::value::Value;

/// A protocol: one value a crate, listed in the server's registry.
pub trait Adapter: Send + Sync {
    /// The noun that `adapter:` in a system's file says: `rest`.
    fn name(&self) -> &'static str;

    /// The JSON Schema of its system file, for editors and the reference.
    fn schema(&self) -> schemars::Schema;

    /// A complete system file that `check` accepts; it stands in the docs.
    fn example(&self) -> &'static str;

    /// Reads a system's file. Pure: no network, no environment, no clock. Pushes **every** problem it finds, and
    /// returns the system only if there was none. Called at start, at `gatehouse check` and at each reload.
    fn check(&self, file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Arc<dyn System>>;
}

/// The other files of the site that a system's file may name (a WSDL, a template).
pub trait SiteFiles: Send + Sync {
    /// The file at a path relative to the site; `None` where it is not there.
    fn file(&self, path: &str) -> Option<SourceFile>;

    /// Where a path relative to the site stands on this machine, for files that are opened at connect (a CA, a SQLite
    /// database). An absolute path stays as it is. Nothing is opened here.
    fn locate(&self, path: &str) -> std::path::PathBuf;
}

/// A system whose file cannot be wrong any more.
#[async_trait]
pub trait System: Send + Sync {
    /// Its name: `erp`.
    fn name(&self) -> &str;

    /// What the engine keeps around all of its endpoints together.
    fn limits(&self) -> Limits;

    /// When it counts as down.
    fn circuit(&self) -> Circuit;

    /// What it offers and sends.
    fn endpoints(&self) -> &[Endpoint];

    /// What a call with `body` would send, as far as it is known without the system; `None` where the body says it all. Pure.
    fn preview(&self, _endpoint: &str, _body: &Value) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    /// Compares what routes give to its endpoints with what the system really has; leaves no trace. `None`: it cannot tell.
    async fn compare(&self, _given: &[Given], _secrets: &dyn Secrets) -> Result<Option<Problems>, Fault> {
        Ok(None)
    }

    /// Makes the outbound half ready. Called again with back-off while it fails, unless the verdict is `Hold` or
    /// `Reject`. Never called where no endpoint is outbound. Spawns nothing.
    async fn connect(&self, secrets: &dyn Secrets) -> Result<Arc<dyn Outbound>, Fault>;

    /// Whether each inbound endpoint runs on its own: a table that cannot be read does not stop the next one.
    fn listens_apart(&self) -> bool {
        false
    }

    /// Makes the inbound half ready, on the same terms: the whole, or that of one endpoint where they run apart. Never
    /// called where no endpoint is inbound.
    async fn listen(&self, endpoint: Option<&str>, secrets: &dyn Secrets) -> Result<Box<dyn Inbound>, Fault>;

    /// Opens what an inbound endpoint's source still holds, to be read once more; `None` where a call has come and gone.
    async fn archive(&self, _endpoint: &str, _secrets: &dyn Secrets) -> Result<Option<Arc<dyn Archive>>, Fault> {
        Ok(None)
    }
}

/// The half that carries deliveries out.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// One attempt. Called concurrently, up to the endpoint's concurrency; dropped when the deadline passes, which the
    /// engine settles as [`Code::Deadline`](crate::fault::Code::Deadline), so an adapter needs no timer of its own.
    /// `Ok` means that the system said yes *in its own terms*; a `Fault`'s verdict decides what happens next.
    async fn deliver(&self, call: Call<'_>) -> Result<Reply, Fault>;

    /// Does what `deliver` needs (reach, log in) and leaves no trace. For `gatehouse doctor` and a half-open circuit.
    async fn probe(&self) -> Result<String, Fault>;
}

/// One delivery, mapped to the target's shape.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The endpoint's name within the system.
    pub endpoint: &'a str,
    /// What to send, as the target's mapping shaped it.
    pub body: &'a Value,
    /// What to send instead, as it came, where the route says `pass_through`; only endpoints that pass bodies get it.
    pub passed: Option<&'a Passed>,
    /// Then what came along with it: the arrival's `meta`. Else null.
    pub meta: &'a Value,
    /// The canonical message it came from.
    pub message: &'a Message,
    /// Stable over every attempt and replay. Send it as the protocol's idempotency key.
    pub delivery_id: &'a str,
    /// From 1.
    pub attempt: u32,
    /// W3C trace context of this attempt.
    pub traceparent: Option<&'a str>,
    /// What is left of the attempt's time, where the protocol can tell the peer.
    pub deadline: Duration,
}

/// The half that brings arrivals in.
#[async_trait]
pub trait Inbound: Send {
    /// Takes its place (mounts, binds) before it first waits, so that the engine knows when all are in place. Runs
    /// until `stop` is done, then takes nothing new, finishes what it has accepted, and returns. A returned fault
    /// makes the engine listen again with back-off.
    async fn run(self: Box<Self>, intake: Arc<dyn Intake>, stop: Stop) -> Result<(), Fault>;
}

/// Done when the inbound half should stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where arrivals go; the engine's.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Asks, before a body is read, whether the endpoint (`shop/orders`) may send one more now.
    ///
    /// # Errors
    /// `Throttled` with `RetryAfter`, or `Unavailable` while the bus cannot take anything.
    fn admit(&self, endpoint: &str) -> Result<Admission, Fault>;

    /// Takes one arrival through mapping, type, routes and bus. A receipt exists only once the bus holds every
    /// delivery durably; only then may the source be told yes.
    ///
    /// # Errors
    /// The fault to translate to the wire; it carries the message id once there is one.
    async fn accept(&self, admission: Admission, arrival: Arrival) -> Result<Receipt, Fault>;

    /// Takes one arrival of a source that is read and cannot be told no (a row): waits for the rate, comes again while
    /// the bus cannot take it, makes a dead letter of what no route can take. Done once it is durably somewhere.
    ///
    /// # Errors
    /// The endpoint feeds no route.
    async fn keep(&self, endpoint: &str, arrival: Arrival) -> Result<(), Fault>;

    /// How far a source has been read. Waits until no other gateway reads it; held until it is dropped.
    ///
    /// # Errors
    /// The store cannot be asked now.
    async fn cursor(&self, endpoint: &str) -> Result<Box<dyn Cursor>, Fault>;

    /// What is to be read once more; asked between two looks by who holds the cursor.
    fn backfill(&self, _endpoint: &str) -> Option<Arc<dyn Backfill>> {
        None
    }

    /// Makes a dead letter of an arrival that could not be read. Done once it is stored.
    async fn bury(&self, endpoint: &str, arrival: Arrival, fault: Fault);

    /// Tells how far behind its source a reader is, and what a person should know of it; logged where it is new.
    fn behind(&self, endpoint: &str, behind: Behind);
}
