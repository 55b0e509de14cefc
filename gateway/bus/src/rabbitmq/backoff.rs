//! How long to wait before the next try: exponential, full jitter, capped. Not here: what is tried.

use std::time::Duration;

use rand::Rng;

/// The longest wait.
const CAP: Duration = Duration::from_secs(10);
/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(100);
/// Never less, or a lucky row of small numbers is a hot loop.
const LEAST: Duration = Duration::from_millis(20);
/// A login that was refused is not tried again sooner, whatever the jitter: brokers log and some lock.
const REFUSED: Duration = Duration::from_millis(1500);

/// The wait after `failures` in a row (1 for the first).
pub(super) fn wait(failures: u32) -> Duration {
    let ceiling = ceiling(failures);
    rand::rng().random_range(LEAST..=ceiling)
}

/// The wait after a login was refused `failures` times in a row: less than one try a second.
pub(super) fn wait_refused(failures: u32) -> Duration {
    REFUSED + wait(failures)
}

fn ceiling(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_the_cap_and_stays() {
        assert_eq!(ceiling(0), FIRST);
        assert_eq!(ceiling(1), FIRST);
        assert_eq!(ceiling(2), FIRST * 2);
        assert_eq!(ceiling(7), FIRST * 64);
        assert_eq!(ceiling(8), CAP);
        assert_eq!(ceiling(u32::MAX), CAP);
    }

    #[test]
    fn jitter_is_full_and_bounded() {
        let waits: Vec<Duration> = (0..1000).map(|_| wait(8)).collect();
        assert!(waits.iter().all(|w| *w >= LEAST && *w <= CAP));
        assert!(waits.iter().any(|w| *w < CAP / 4) && waits.iter().any(|w| *w > CAP / 4 * 3));
    }

    #[test]
    fn a_refused_login_is_tried_less_than_once_a_second() {
        assert!((0..1000).all(|n| wait_refused(n) > Duration::from_secs(1)));
    }
}
