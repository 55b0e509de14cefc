//! The bus's one clock: wall time that only goes forward while the process lives, so that a set-back system clock
//! neither holds retries nor hurries them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(super) type Millis = i64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    wall: Millis,
}

impl Clock {
    pub(super) fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), wall: millis(wall) }
    }

    pub(super) fn now(&self) -> Millis {
        self.wall.saturating_add(millis(self.began.elapsed()))
    }

    /// How long ago `at` was; zero if it is yet to come.
    pub(super) fn since(&self, at: Millis) -> Duration {
        Duration::from_millis(u64::try_from(self.now().saturating_sub(at)).unwrap_or(0))
    }

    /// When `at` comes; now if it has passed. Rounded up: never early.
    pub(super) fn instant(&self, at: Millis) -> Instant {
        let wait = u64::try_from(at.saturating_sub(self.now())).unwrap_or(0);
        Instant::now() + Duration::from_millis(wait)
    }
}

/// A duration in whole milliseconds, rounded up: nothing comes back early.
pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(Millis::MAX)
}
