//! Reading ahead: the next piece of a table is read while the one before is handed over. Never more than one piece, and none
//! beside a large one, nor where rows go slowly: then the database is what waits, and there is nothing to be won.
//!
//! The place only follows what was handed over, so a gateway that dies reads a piece again that it had read ahead; its rows have
//! the ids that they had.

use std::time::Duration;

use futures_util::future::join;
use gatehouse_core::fault::Fault;
use tokio::time::Instant;

/// Beside a piece with more bytes nothing is read.
const LARGE: usize = 8 << 20;

/// A piece that took longer to be handed over went slowly.
const SLOW: Duration = Duration::from_secs(1);

/// Whether it is worth it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    slow: bool,
}

impl Pace {
    /// Whether the next piece may be read beside one of so many bytes.
    pub(super) fn allows(self, bytes: usize) -> bool {
        !self.slow && bytes <= LARGE
    }

    fn took(&mut self, time: Duration) {
        self.slow = time > SLOW;
    }

    /// Hands a piece over, and reads the next one meanwhile, where there is `ahead`.
    ///
    /// # Errors
    /// The piece was not handed over; what was read meanwhile is forgotten. A fault of the reading is the next piece's.
    pub(super) async fn both<T>(
        &mut self,
        hand_over: impl Future<Output = Result<(), Fault>>,
        ahead: Option<impl Future<Output = Result<T, Fault>>>,
    ) -> Result<Option<Result<T, Fault>>, Fault> {
        let timed = async {
            let began = Instant::now();
            hand_over.await.map(|()| began.elapsed())
        };
        let ahead = async {
            match ahead {
                Some(read) => Some(read.await),
                None => None,
            }
        };
        let (took, read) = join(timed, ahead).await;
        self.took(took?);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_core::fault::Code;

    #[test]
    fn what_goes_slowly_or_is_large_is_followed_by_nothing() {
        let mut pace = Pace::default();
        assert!(pace.allows(LARGE) && !pace.allows(LARGE + 1));
        pace.took(SLOW * 2);
        assert!(!pace.allows(0));
        pace.took(SLOW / 2);
        assert!(pace.allows(0));
    }

    #[tokio::test]
    async fn a_fault_of_the_reading_comes_after_the_piece_and_one_of_the_piece_at_once() {
        let fault = || Fault::new(Code::Unreachable, "gone");
        let mut pace = Pace::default();
        let read = pace.both(async { Ok(()) }, Some(async { Err::<u8, _>(fault()) })).await.unwrap();
        assert_eq!(read.unwrap().unwrap_err().code, Code::Unreachable);
        assert!(pace.both(async { Err(fault()) }, Some(async { Ok(1) })).await.is_err());
        let none = None::<std::future::Ready<Result<u8, Fault>>>;
        assert!(pace.both(async { Ok(()) }, none).await.unwrap().is_none());
    }
}
