//! What has been seen: a nonce and a signature are good once. A message that came to nothing is forgotten, so that its sender can send it
//! again as it is.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::verify::SKEW;

/// The most that is remembered; beyond, the oldest go, and what they stood for could be sent again within the window.
const MAX: u64 = 1_000_000;

/// What was taken, for as long as it would be good.
#[derive(Clone, Debug)]
pub(super) struct Seen(Cache<Arc<[u8]>, ()>);

impl Seen {
    /// `window`: how long a message is good after it was made.
    pub(super) fn new(window: Duration) -> Self {
        // One that claims to be of the future is good for longer.
        Self(Cache::builder().max_capacity(MAX).time_to_live(window + 2 * SKEW).build())
    }

    /// Takes a place; `None` where it is taken.
    pub(super) fn take(&self, what: &[u8]) -> Option<Once> {
        let what: Arc<[u8]> = what.into();
        let is_fresh = self.0.entry(what.clone()).or_insert(()).is_fresh();
        is_fresh.then(|| Once(Some((self.clone(), what))))
    }
}

/// A message's place among what has been seen. Dropped without [`Once::keep`] it is free again.
#[derive(Debug)]
#[must_use = "dropped, it lets the same message in again"]
pub(crate) struct Once(Option<(Seen, Arc<[u8]>)>);

impl Once {
    /// Of a message that nothing marks as one that is good once.
    pub(crate) fn unmarked() -> Self {
        Self(None)
    }

    /// The message is safe: what comes again is refused.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if let Some((seen, what)) = &self.0 {
            seen.0.invalidate(what);
        }
    }
}
