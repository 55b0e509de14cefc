//! The hash chain over the audit: each entry's hash covers the one before, so that a changed, added or removed entry shows.
//! It proves nothing against somebody who can rewrite all of it; whoever needs that copies the last hash elsewhere.

use sha2::{Digest, Sha256};

use crate::{AuditEntry, StoreError, text};

/// What the first entry follows.
pub(crate) const START: [u8; 32] = [0; 32];

/// An entry as it is stored and hashed: to the microsecond, texts that every store can hold.
pub(crate) fn entry(entry: &AuditEntry) -> AuditEntry {
    AuditEntry {
        at: text::micros(entry.at),
        actor: text::clean(&entry.actor),
        action: text::clean(&entry.action),
        subject: text::clean(&entry.subject),
        detail: text::clean(&entry.detail),
    }
}

/// SHA-256 over the hash before and every field with its length, so that no text can pass for two.
pub(crate) fn link(before: &[u8], entry: &AuditEntry) -> [u8; 32] {
    let at = entry.at.as_microsecond().to_string();
    let mut hash = Sha256::new();
    hash.update(before);
    for field in [&at, &entry.actor, &entry.action, &entry.subject, &entry.detail] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field.as_bytes());
    }
    hash.finalize().into()
}

/// Follows a chain from its start.
#[derive(Debug)]
pub(crate) struct Walk {
    last: [u8; 32],
    entries: u64,
}

impl Walk {
    pub(crate) fn new() -> Self {
        Self { last: START, entries: 0 }
    }

    /// The next entry, oldest first, with the hash that stands beside it.
    pub(crate) fn step(&mut self, id: i64, entry: &AuditEntry, stored: &[u8]) -> Result<(), StoreError> {
        self.last = link(&self.last, entry);
        self.entries += 1;
        if self.last == stored {
            return Ok(());
        }
        let text = format!(
            "audit entry {id} does not follow from the one before it: it was changed, or one before it is missing"
        );
        Err(StoreError::Damaged(text))
    }

    /// The end of it, beside what the store says is the end.
    pub(crate) fn finish(self, head: Option<&[u8]>) -> Result<u64, StoreError> {
        if self.last == head.unwrap_or(&START) {
            return Ok(self.entries);
        }
        Err(StoreError::Damaged("the newest audit entries are missing".to_owned()))
    }
}
