//! Reading large bodies: on threads of their own, few at a time, under a deadline.
//!
//! A body is read in one go, without a pause in which other requests could be served. A small one takes less than handing
//! it over would; a large or hostile one would stop every request of its worker.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gatehouse_core::fault::{Code, Fault, Verdict};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::body::From;

/// A body of at most so many bytes is read where it is: well under a millisecond.
pub const INLINE: usize = 64 * 1024;

/// How long a body may wait for its turn, and how long reading it may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most bodies that are read at a time, however many processors there are.
const MOST: usize = 8;

/// All of the process share the threads.
static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Pool::new(processors.min(MOST), DEADLINE)
});

/// Does `work`, which reads a body of `size` bytes: here where it is small, else in the pool.
///
/// # Errors
/// Of a caller's body: `Unavailable` where no turn came, `TooLarge` where reading took too long. Of a peer's answer: `Unknown`
/// (what it did, it did) and `BadAnswer`. `Internal` where it panicked.
pub async fn parse<T: Send + 'static>(
    size: usize,
    from: From,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    if size <= INLINE {
        return Ok(work());
    }
    POOL.run(from, work).await
}

struct Pool {
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Pool {
    fn new(places: usize, deadline: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), deadline }
    }

    async fn run<T: Send + 'static>(&self, from: From, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let Ok(Ok(place)) = timeout(self.deadline, self.places.clone().acquire_owned()).await else {
            let code = if from == From::Caller { Code::Unavailable } else { Code::Unknown };
            let fault = Fault::new(code, "too many large bodies are being read now");
            return Err(fault.verdict(Verdict::RetryAfter(Duration::from_secs(2))));
        };
        // The place is free again when the work is done, not when its caller has given up: a thread cannot be stopped.
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        match timeout(self.deadline, working).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(_)) => Err(Fault::new(Code::Internal, "a mistake in the gateway stopped the reading of the body")),
            Err(_) => {
                let text =
                    format!("reading the body took more than {} s: send less at once", self.deadline.as_secs_f32());
                Err(Fault::new(if from == From::Caller { Code::TooLarge } else { Code::BadAnswer }, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Long enough to fail only where something hangs.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_large_body_does_not_hold_the_only_worker() {
        let (finish, held) = mpsc::sync_channel::<()>(1);
        let large = parse(INLINE + 1, From::Caller, move || held.recv().is_ok());
        // Were the large one read here, this would never come to send.
        let small = async move {
            let read = parse(INLINE, From::Caller, || "small").await;
            finish.send(()).unwrap();
            read
        };
        let (large, small) = timeout(PATIENCE, async { tokio::join!(large, small) }).await.unwrap();
        assert!(large.unwrap());
        assert_eq!(small.unwrap(), "small");
    }

    #[tokio::test]
    async fn what_takes_too_long_and_what_gets_no_turn_is_told() {
        let pool = Pool::new(1, Duration::from_millis(50));
        for (from, code, busy) in
            [(From::Caller, Code::TooLarge, Code::Unavailable), (From::Peer, Code::BadAnswer, Code::Unknown)]
        {
            let (finish, held) = mpsc::sync_channel::<()>(1);
            let fault = pool.run(from, move || held.recv().is_err()).await.unwrap_err();
            assert_eq!(fault.code, code);
            assert!(fault.public.contains("reading the body took more than 0.05 s"), "{fault}");
            // Its thread still reads: there is no second one.
            let fault = pool.run(from, || ()).await.unwrap_err();
            assert_eq!((fault.code, fault.verdict), (busy, Verdict::RetryAfter(Duration::from_secs(2))));
            drop(finish);
            timeout(PATIENCE, async { while pool.run(from, || ()).await.is_err() {} }).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_fault() {
        let pool = Pool::new(1, PATIENCE);
        let fault = pool.run(From::Caller, || panic!("made to panic")).await.unwrap_err();
        assert_eq!(fault.code, Code::Internal);
        pool.run(From::Caller, || ()).await.unwrap();
    }
}
