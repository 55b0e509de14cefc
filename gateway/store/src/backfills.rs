//! Backfills: rows that an operator wants to be read once more, cut into slices, each with how far it is and what came of it.
//!
//! `running ⇄ paused → cancelled`, and `done` with its last slice. A slice is saved by comparing: whoever saves says what it
//! had seen before, so of two gateways that read for a moment only one counts.

use gatehouse_core::backfill::Slice;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{StoreError, text};

/// Where a backfill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackfillState {
    /// Its slices are read one after the other.
    Running,
    /// An operator holds it, or it cannot go on: see its problem.
    Paused,
    /// An operator has ended it; what was sent stays sent.
    Cancelled,
    /// Every slice is read.
    Done,
}

impl BackfillState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Cancelled, Self::Done];

    /// The stable word, as it stands in the store and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }

    /// Reads the stable word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether it may still go on.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A backfill that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBackfill {
    /// The route that gets the rows.
    pub route: String,
    /// `system/endpoint` that is read.
    pub endpoint: String,
    /// Whether targets that have taken a row get it once more.
    pub again: bool,
    /// At most so many rows in a time: `25/s`.
    pub rate: String,
    /// How many rows there are to read, where that was counted.
    pub expected: Option<u64>,
    /// What is read, in this order.
    pub slices: Vec<Slice>,
    /// Who wants it.
    pub actor: String,
}

/// A backfill, its slices together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Short, for people to type.
    pub id: i64,
    /// Where it stands.
    pub state: BackfillState,
    /// The route that gets the rows.
    pub route: String,
    /// `system/endpoint` that is read.
    pub endpoint: String,
    /// Whether targets that have taken a row get it once more.
    pub again: bool,
    /// At most so many rows in a time.
    pub rate: String,
    /// How many rows there were to read, where that was counted.
    pub expected: Option<u64>,
    /// Who began it.
    pub actor: String,
    /// When.
    pub created: Timestamp,
    /// When it last went on, or was held.
    pub changed: Timestamp,
    /// Why it cannot go on, where it cannot.
    pub problem: Option<String>,
    /// How many slices.
    pub slices: u64,
    /// How many of them are read to their end.
    pub slices_done: u64,
    /// What came of the rows so far.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What came of rows. `read` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows that were read and are durably somewhere.
    pub read: u64,
    /// On the bus for at least one target.
    pub accepted: u64,
    /// Taken before by every target that wants it: nothing was sent.
    pub recognised: u64,
    /// Wanted by no target, which the route allows.
    pub dropped: u64,
    /// Dead letters.
    pub refused: u64,
}

impl Tally {
    /// In the order of the columns.
    pub(crate) fn columns(&self) -> [i64; 5] {
        [self.read, self.accepted, self.recognised, self.dropped, self.refused]
            .map(|count| i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(crate) fn of([read, accepted, recognised, dropped, refused]: [i64; 5]) -> Self {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            read: count(read),
            accepted: count(accepted),
            recognised: count(recognised),
            dropped: count(dropped),
            refused: count(refused),
        }
    }
}

/// A slice and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceState {
    /// From 1.
    pub number: i64,
    /// What it is.
    #[serde(flatten)]
    pub slice: Slice,
    /// Read up to here, in the reader's own words; `None` at its beginning.
    pub after: Option<String>,
    /// Read to its end.
    pub done: bool,
    /// What came of its rows so far.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What turns a backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An operator holds it.
    Pause,
    /// An operator lets it go on.
    Resume,
    /// An operator ends it.
    Cancel,
    /// It cannot go on, for this reason.
    Halt(String),
}

impl Turn {
    /// What it leads to.
    pub(crate) fn to(&self) -> BackfillState {
        match self {
            Self::Pause | Self::Halt(_) => BackfillState::Paused,
            Self::Resume => BackfillState::Running,
            Self::Cancel => BackfillState::Cancelled,
        }
    }

    /// The problem to keep.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Halt(problem) => Some(text::clean(problem)),
            _ => None,
        }
    }

    /// What the audit calls it.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::Pause => "backfill.pause",
            Self::Resume => "backfill.resume",
            Self::Cancel => "backfill.cancel",
            Self::Halt(_) => "backfill.halt",
        }
    }

    /// Whether a backfill in this state may be turned so.
    pub(crate) fn allowed(&self, id: i64, state: BackfillState) -> Result<(), StoreError> {
        let (from, wish): (&[BackfillState], _) = match self {
            Self::Pause | Self::Halt(_) => (&[BackfillState::Running], "paused"),
            Self::Resume => (&[BackfillState::Paused], "resumed"),
            Self::Cancel => (&[BackfillState::Running, BackfillState::Paused], "cancelled"),
        };
        if from.contains(&state) {
            return Ok(());
        }
        let from: Vec<_> = from.iter().map(|state| state.as_str()).collect();
        let text = format!("backfill {id} is {}: only one that is {} can be {wish}", state.as_str(), from.join(" or "));
        Err(StoreError::Conflict(text))
    }
}

/// What the audit says of a backfill that begins: no values of rows, but the bounds that the operator gave.
pub(crate) fn begun(new: &NewBackfill) -> String {
    let bound = |value: Option<&String>| value.map_or("…", String::as_str).to_owned();
    let (first, last) = (new.slices.first(), new.slices.last());
    let from = bound(first.and_then(|slice| slice.from.as_ref()));
    let to = bound(last.and_then(|slice| slice.to.as_ref()));
    let by = first.map_or("", |slice| &slice.by);
    let again = if new.again { ", once more" } else { "" };
    let text =
        format!("route {}, {by} from {from} to {to}, {} slices, {}{again}", new.route, new.slices.len(), new.rate);
    text::clean(&text)
}

/// Somebody else has saved this slice since it was read.
pub(crate) fn overtaken(id: i64, number: i64) -> StoreError {
    StoreError::Conflict(format!("slice {number} of backfill {id} was read on by another gateway meanwhile"))
}
