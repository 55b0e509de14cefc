//! What may be done to a letter in which state, and how a refusal is told: the same words in every store.

use crate::{State, StoreError};

/// Whether a letter may be edited by somebody who saw `seen`.
pub(crate) fn editable(id: i64, state: State, revision: u32, seen: u32) -> Result<(), StoreError> {
    open_only(id, state, "edited")?;
    if revision == seen {
        return Ok(());
    }
    let text =
        format!("letter {id} was edited meanwhile: it is at revision {revision}, you saw {seen}; look at it again");
    Err(StoreError::Conflict(text))
}

/// Only an open letter may be edited or discarded.
pub(crate) fn open_only(id: i64, state: State, wish: &str) -> Result<(), StoreError> {
    if state == State::Open {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("letter {id} is {}: only an open letter can be {wish}", state.as_str())))
}

/// `mark_published` or `release` of a letter that is not claimed: no matter where the replay's own outcome came first.
pub(crate) fn settled(id: i64, state: State, was_claimed: bool, wish: &str) -> Result<(), StoreError> {
    if was_claimed && state != State::Discarded {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("letter {id} is {}: only a claimed letter can be {wish}", state.as_str())))
}

/// What the audit says of an edit: no payload.
pub(crate) fn edited(revision: u32, before: u64, after: usize) -> String {
    format!("revision {revision} to {}, {before} to {after} bytes", revision.saturating_add(1))
}
