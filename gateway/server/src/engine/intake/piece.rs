//! A piece of a source that is read: its ids are looked up together, and its rows go in side by side, as many as the bus waits
//! for at a time.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gatehouse_core::adapter::Arrival;
use gatehouse_core::fault::Fault;

use super::super::pull::{self, Way};
use super::Desk;
use crate::engine::ledger::Known;

/// Lines that go in side by side.
const LINES: usize = 1_000;

/// The same where the endpoint or its system has a rate: all of them wait for the next that may go, and each that does not get
/// it has looked in vain.
const RATED: usize = 64;

/// Bytes that are on their way at a time; a line that is larger goes alone.
const BYTES: usize = 8 << 20;

/// The first and the longest wait before the store is asked again.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

impl Desk {
    /// As [`Intake::keep`](gatehouse_core::adapter::Intake::keep).
    pub(super) async fn keep_piece(&self, endpoint: &str, lines: Vec<Vec<Arrival>>) -> Result<(), Fault> {
        let known = self.known(endpoint, &lines).await;
        let most = if self.is_rated(endpoint) { RATED } else { LINES };
        let mut under_way = FuturesUnordered::new();
        let mut bytes = 0;
        for line in lines {
            let size = line.iter().map(|arrival| arrival.original.len()).sum::<usize>();
            while under_way.len() >= most || (bytes > 0 && bytes + size > BYTES) {
                match under_way.next().await {
                    Some(size) => bytes -= size?,
                    None => break,
                }
            }
            bytes += size;
            under_way.push(self.keep_line(endpoint, line, size, &known));
        }
        while let Some(kept) = under_way.next().await {
            kept?;
        }
        Ok(())
    }

    /// One after the other; gives back how large they were.
    async fn keep_line(&self, endpoint: &str, line: Vec<Arrival>, size: usize, known: &Known) -> Result<usize, Fault> {
        for arrival in line {
            pull::keep(self, self.store.as_ref(), &self.instance, endpoint, &arrival, Way::All(known)).await?;
        }
        Ok(size)
    }

    /// What came in before of a piece; waits until the store can be asked.
    async fn known(&self, endpoint: &str, lines: &[Vec<Arrival>]) -> Known {
        let ids: Vec<String> = lines.iter().flatten().filter_map(|arrival| arrival.id.clone()).collect();
        let mut wait = WAITS.0;
        loop {
            match self.ledger.known(endpoint, &ids).await {
                Ok(known) => return known,
                Err(error) => tracing::warn!(endpoint, %error, "the ledger cannot be read; its source waits"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    fn is_rated(&self, endpoint: &str) -> bool {
        let Ok(entrance) = self.entrance(endpoint) else { return false };
        let own = entrance.system.endpoint(&entrance.endpoint).and_then(|runtime| runtime.limits.rate);
        own.or(entrance.system.system.limits().rate).is_some()
    }
}
