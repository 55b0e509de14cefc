//! The one answer to one parcel, carried to the writer; and the publish, which goes the same way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::inbox::{Answer, Inbox, Op, Publish, Verdict, Write};
use super::place::Place;
use super::row::Written;
use crate::{Parcel, PublishError, Settle, SettleError};

/// How long a consumer waits for the disk to take its answer. The answer itself is kept until the disk does.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// The bus's side of a [`crate::Settlement`].
pub(super) struct Hand {
    inbox: Arc<Inbox>,
    place: Place,
}

impl Hand {
    pub(super) fn new(inbox: Arc<Inbox>, place: Place) -> Self {
        Self { inbox, place }
    }

    async fn answer(&self, verdict: Verdict) -> Result<(), SettleError> {
        let (answer, answered) = oneshot::channel();
        let write = Write::Settle(Answer { place: self.place, verdict, answer });
        let closed = || SettleError("the bus is closed".to_owned());
        if !self.inbox.push(Op::Write(write)) {
            return Err(closed());
        }
        match timeout(SETTLE_DEADLINE, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(closed()),
            Err(_) => {
                Err(SettleError(format!("the disk did not take the answer within {} s", SETTLE_DEADLINE.as_secs())))
            }
        }
    }

    /// A copy that cannot be written: the original comes again.
    fn written(&self, parcel: Parcel) -> Result<Written, SettleError> {
        Written::new(parcel).map_err(|error| {
            self.give_back();
            SettleError(error.to_string())
        })
    }
}

#[async_trait]
impl Settle for Hand {
    async fn done(&self) -> Result<(), SettleError> {
        self.answer(Verdict::Done).await
    }

    async fn retry(&self, parcel: Parcel, delay: Duration) -> Result<(), SettleError> {
        let written = self.written(parcel)?;
        self.answer(Verdict::Retry(written, delay)).await
    }

    async fn dead(&self, parcel: Parcel) -> Result<(), SettleError> {
        let written = self.written(parcel)?;
        self.answer(Verdict::Dead(written)).await
    }

    async fn reply(&self, _answer: Parcel) -> Result<(), SettleError> {
        self.done().await
    }

    fn give_back(&self) {
        // Closed: the next opening finds it.
        let _ = self.inbox.push(Op::GiveBack(self.place));
    }
}

/// Puts a parcel on a queue and waits for its commit.
pub(super) async fn publish(
    inbox: &Inbox,
    queue: &str,
    parcel: Parcel,
    deadline: Duration,
) -> Result<(), PublishError> {
    let until = Instant::now() + deadline;
    let closed = || PublishError::Unavailable("the bus is closed".to_owned());
    let written = Written::new(parcel)?;
    let admitted = match timeout(deadline, inbox.admit(written.size())).await {
        Ok(admitted) => admitted.ok_or_else(closed)?,
        Err(_) => {
            return Err(PublishError::Unavailable(format!(
                "the disk is slower than what comes in: no room within {deadline:?}"
            )));
        }
    };
    let (answer, answered) = oneshot::channel();
    let publish = Publish { queue: queue.to_owned(), written, until, answer, _admitted: admitted };
    if !inbox.push(Op::Write(Write::Publish(publish))) {
        return Err(closed());
    }
    match timeout(until.saturating_duration_since(Instant::now()), answered).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(PublishError::Unknown("the bus was closed meanwhile".to_owned())),
        Err(_) => Err(PublishError::Unknown(format!("the disk did not confirm within {deadline:?}"))),
    }
}
