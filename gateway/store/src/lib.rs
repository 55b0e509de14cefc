//! What Gatehouse remembers: dead letters with every attempt, ids it has seen, deliveries that are done, places in sources,
//! lines of deliveries that wait for each other, merged records, backfills, who did what.
//!
//! [`Store`] is the contract; SQLite (one gateway) and PostgreSQL (several) fulfil it, and both pass the one
//! conformance suite in `tests/it/conformance`.
//!
//! A letter's states: `open → claimed → published → resolved`, or back to `open` with one more attempt; `discarded`
//! with a reason. Claims are conditional updates, so two people cannot replay one letter.

mod attempts;
mod backfills;
mod chain;
mod config;
mod filter;
pub mod postgres;
mod rules;
pub mod sqlite;
mod text;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use backfills::{Backfill, BackfillState, NewBackfill, SliceState, Tally, Turn};
pub use config::{StoreConfig, open};

/// Where a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Needs a person.
    Open,
    /// Somebody has taken it to send it again.
    Claimed,
    /// It is on the bus again; its target has not answered yet.
    Published,
    /// Its target has taken it.
    Resolved,
    /// A person decided that it need not arrive.
    Discarded,
}

impl State {
    /// Every state, in the order of a letter's life.
    pub const ALL: [Self; 5] = [Self::Open, Self::Claimed, Self::Published, Self::Resolved, Self::Discarded];

    /// The stable word, as it stands in the store and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Published => "published",
            Self::Resolved => "resolved",
            Self::Discarded => "discarded",
        }
    }

    /// Reads the stable word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1 over the delivery's life.
    pub number: u32,
    /// When it ended.
    pub at: Timestamp,
    /// Which gateway made it.
    pub instance: String,
    /// The fault's stable word.
    pub code: String,
    /// What went wrong, as support staff read it.
    pub text: String,
    /// What was sent, cut.
    pub sent: Option<String>,
    /// What was answered, cut.
    pub answered: Option<String>,
}

/// What is written when a delivery dies, or an arrival that never became a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLetter {
    /// The delivery's id; for an arrival that never became a message, its message id. One letter an id.
    pub delivery_id: String,
    /// The message's id.
    pub message_id: String,
    /// The route's name, where it got that far.
    pub route: Option<String>,
    /// `system/endpoint` that should have received it, where it got that far.
    pub target: Option<String>,
    /// `system/endpoint` that sent it.
    pub source: String,
    /// The canonical type.
    pub kind: Option<String>,
    /// The business key.
    pub key: Option<String>,
    /// Why, in a word: [`Attempt::code`] of the last attempt, `unroutable`, `unparsed`.
    pub cause: String,
    /// What counts as the same cause.
    pub fingerprint: String,
    /// The attempts so far, oldest first; the last one is why it died.
    pub attempts: Vec<Attempt>,
    /// The headers that it travelled with; a replay travels with them again.
    pub headers: BTreeMap<String, String>,
    /// The canonical body, or the original bytes where it never became a message.
    pub body: Bytes,
    /// What the body is.
    pub content_type: String,
}

/// A letter as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Short and stable, for people to type; unique in the store.
    pub id: i64,
    /// Where it stands.
    pub state: State,
    /// The delivery's id.
    pub delivery_id: String,
    /// The message's id.
    pub message_id: String,
    /// The route.
    pub route: Option<String>,
    /// Where it should have gone.
    pub target: Option<String>,
    /// Where it came from.
    pub source: String,
    /// The canonical type.
    pub kind: Option<String>,
    /// The business key.
    pub key: Option<String>,
    /// Why.
    pub cause: String,
    /// The last attempt's text.
    pub text: String,
    /// How many attempts.
    pub attempts: u32,
    /// When it first died.
    pub created: Timestamp,
    /// When it last changed.
    pub changed: Timestamp,
    /// How often the body was edited.
    pub revision: u32,
    /// Why it was discarded, if it was.
    pub discarded: Option<String>,
}

/// A letter, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// As lists show it.
    pub summary: Summary,
    /// What counts as the same cause.
    pub fingerprint: String,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// What it travelled with.
    pub headers: BTreeMap<String, String>,
    /// The body as it stands now.
    pub body: Bytes,
    /// The body as it died, where it was edited.
    pub original: Option<Bytes>,
    /// What the body is.
    pub content_type: String,
}

/// Which letters. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Of this route.
    pub route: Option<String>,
    /// For this target.
    pub target: Option<String>,
    /// For or from this system.
    pub system: Option<String>,
    /// With this cause, or a fingerprint that contains this.
    pub cause: Option<String>,
    /// With exactly this business key.
    pub key: Option<String>,
    /// Of this message.
    pub message_id: Option<String>,
    /// Died at or after.
    pub since: Option<Timestamp>,
    /// Died before.
    pub until: Option<Timestamp>,
}

/// An id that came in, and what it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `system/endpoint`.
    pub source: String,
    /// The message id within it.
    pub message_id: String,
    /// SHA-256 of what came: of its bytes, or of its body where those are others at each attempt.
    pub body_hash: [u8; 32],
}

/// A place in a source, as its one reader holds it; or a merged record, as whoever changes it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Counts those who held it: only the newest may save.
    pub epoch: i64,
    /// What was saved last; `None` at first.
    pub value: Option<String>,
}

/// The first of a line that need not wait any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The line that it stands in.
    pub line: String,
    /// The delivery.
    pub delivery_id: String,
    /// Its letter.
    pub letter: i64,
    /// The letter is resolved or discarded, and the next may go; else it was parked, and may go itself.
    pub over: bool,
}

/// The cause of a letter that only waits for another one.
pub const PARKED: &str = "parked";

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What: `letter.replay`, `letter.edit`, `letter.discard`, `backfill.start`, `backfill.pause`.
    pub action: String,
    /// To what: `letter:17`, `backfill:3`.
    pub subject: String,
    /// Why, or what changed, without payload.
    pub detail: String,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, locked, or full: nothing was written. Try again later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be read, or is of a newer version.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The letter is not in the state that this needs (somebody was faster).
    #[error("{0}")]
    Conflict(String),
    /// There is no such letter.
    #[error("there is no letter {0}")]
    Missing(i64),
    /// There is no such backfill.
    #[error("there is no backfill {0}")]
    MissingBackfill(i64),
}

/// What Gatehouse remembers. Every `Ok` of a write means that it is durable, but for `remember` and `record_done`,
/// which may lose the last moment at a power cut: then a repeat is sent again with the same delivery id.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores a dead letter. The same delivery id again adds its new attempts (by number) and opens it again, unless it
    /// is discarded. Writing the same letter twice changes nothing.
    async fn put_letter(&self, letter: NewLetter) -> Result<i64, StoreError>;
    /// Letters, newest first; `after` is the last id of the page before.
    async fn letters(&self, filter: &Filter, limit: u32, after: Option<i64>) -> Result<Vec<Summary>, StoreError>;
    /// How many letters match, by state.
    async fn count_letters(&self, filter: &Filter) -> Result<BTreeMap<String, u64>, StoreError>;
    /// One letter.
    async fn letter(&self, id: i64) -> Result<Letter, StoreError>;
    /// Takes open letters to replay: `open → claimed`, for `lease`; returns only those that this call took. A claim
    /// whose lease has passed, and one that is `published` for longer than the lease, may be claimed again.
    async fn claim(&self, ids: &[i64], actor: &str, lease: std::time::Duration) -> Result<Vec<Letter>, StoreError>;
    /// `claimed → published`. Where its target was faster (it is resolved, or it has died again), nothing is changed.
    async fn mark_published(&self, id: i64) -> Result<(), StoreError>;
    /// `claimed → open`: the replay could not be published. Where its target has answered all the same, nothing is changed.
    async fn release(&self, id: i64) -> Result<(), StoreError>;
    /// `claimed` or `published` → `resolved`, by delivery id; tells whether there was one. Called after each success of
    /// a replayed delivery.
    async fn resolve(&self, delivery_id: &str) -> Result<bool, StoreError>;
    /// New body for an open letter whose revision is `revision`; keeps the original.
    async fn edit(&self, id: i64, revision: u32, body: Bytes, actor: &str) -> Result<(), StoreError>;
    /// `open → discarded`.
    async fn discard(&self, id: i64, reason: &str, actor: &str) -> Result<(), StoreError>;

    /// Whether a delivery may go, by the line of those that share a `key`: `None`, or who stands before it. Then it is put at
    /// the line's end, and so it is where `always` says so (it has died); one that stands in the line keeps its place.
    async fn stand_in_line(
        &self,
        line: &str,
        key: &str,
        delivery_id: &str,
        always: bool,
    ) -> Result<Option<String>, StoreError>;
    /// Takes a delivery out of its line, if it stands in one.
    async fn leave_line(&self, delivery_id: &str) -> Result<(), StoreError>;
    /// Those at the head of a line that need not wait: their letter is settled, or is open or claimed and has the cause
    /// [`PARKED`]. At most `limit`, the longest in line first.
    async fn heads(&self, limit: u32) -> Result<Vec<Head>, StoreError>;

    /// Remembers ids that came in. First writer wins.
    async fn remember(&self, seen: &[Seen]) -> Result<(), StoreError>;
    /// What an id came with before.
    async fn seen(&self, source: &str, message_id: &str) -> Result<Option<Seen>, StoreError>;
    /// Those of many ids of one source that came in before, in no order; ids of at most 512 bytes.
    async fn seen_among(&self, source: &str, message_ids: &[String]) -> Result<Vec<Seen>, StoreError>;
    /// Records deliveries that their targets have taken.
    async fn record_done(&self, delivery_ids: &[String]) -> Result<(), StoreError>;
    /// Whether a delivery was taken by its target.
    async fn is_done(&self, delivery_id: &str) -> Result<bool, StoreError>;
    /// Forgets ids and deliveries from before; returns how many.
    async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Takes the place in a source for `lease`; `None` while another gateway holds it. Where only one gateway can use the
    /// store (SQLite), nobody else holds it.
    async fn take_cursor(&self, name: &str, lease: std::time::Duration) -> Result<Option<Held>, StoreError>;
    /// Saves how far the source has been read (`None`: as it was) and holds it for `lease` from now.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another reader has taken it since.
    async fn save_cursor(
        &self,
        name: &str,
        epoch: i64,
        value: Option<&str>,
        lease: std::time::Duration,
    ) -> Result<(), StoreError>;
    /// Gives the place free; nothing where another has it.
    async fn free_cursor(&self, name: &str, epoch: i64) -> Result<(), StoreError>;

    /// Takes the merged record of a route's key for `lease`, to change it; `None` while another gateway holds it. Within one
    /// gateway its own tasks keep apart.
    async fn take_merged(&self, route: &str, key: &str, lease: std::time::Duration)
    -> Result<Option<Held>, StoreError>;
    /// Saves it and gives it free.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another has taken or changed it since.
    async fn save_merged(&self, route: &str, key: &str, epoch: i64, value: &str) -> Result<(), StoreError>;
    /// Gives it free as it was; nothing where another has it.
    async fn free_merged(&self, route: &str, key: &str, epoch: i64) -> Result<(), StoreError>;

    /// Begins a backfill, with its audit entry.
    async fn put_backfill(&self, new: &NewBackfill) -> Result<i64, StoreError>;
    /// Backfills, newest first.
    async fn backfills(&self, state: Option<BackfillState>, limit: u32) -> Result<Vec<Backfill>, StoreError>;
    /// One backfill.
    async fn backfill(&self, id: i64) -> Result<Backfill, StoreError>;
    /// Its slices, in their order.
    async fn backfill_slices(&self, id: i64) -> Result<Vec<SliceState>, StoreError>;
    /// Pauses, resumes, cancels or halts it, with its audit entry.
    async fn turn_backfill(&self, id: i64, turn: &Turn, actor: &str) -> Result<(), StoreError>;
    /// Saves how far a slice is (`None`: to its end) and adds what came of the rows since `seen`, which is how far whoever
    /// saves knew it to be. The backfill is done with its last slice.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it is elsewhere by now.
    async fn save_slice(
        &self,
        id: i64,
        number: i64,
        seen: Option<&str>,
        after: Option<&str>,
        tally: Tally,
    ) -> Result<(), StoreError>;

    /// Writes down what somebody did.
    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;
    /// What was done, newest first.
    async fn audit_entries(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
    /// Recomputes the hash chain over everything that was done; tells how many entries it holds.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first entry that was changed, put in or taken out.
    async fn verify_audit(&self) -> Result<u64, StoreError>;
    /// Whether the store answers, and what it is: for `doctor` and readiness.
    async fn ping(&self) -> Result<String, StoreError>;
}
