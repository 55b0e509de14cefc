//! Many writes in one transaction. Each keeps its own inbox row and its own outcome: where one of them fails, all of it is
//! rolled back, and they are written in smaller groups, in the end alone.
//!
//! [`each`] does so for the parts of one delivery. [`Lane`] does it for deliveries that happen to wait at the same time: one
//! of them writes for all, and none waits for others to come. That is no retry: each delivery is still attempted once.

use std::sync::{Arc, Mutex, PoisonError};

use gatehouse_core::fault::{Code, Fault, Verdict};
use tokio::sync::{Semaphore, oneshot};

use crate::outbound::{Backend, Written};
use crate::work::Work;

/// The most writes of one transaction: locks of a database that is not ours are held for so long only.
const MOST: usize = 512;

/// The most rows that the writes of a group may have together before the next group begins.
const MOST_ROWS: usize = 2_000;

/// Where so many of the first writes of a delivery, or all of them, are not what the database is made for, it is not the rows
/// that are wrong.
const ALIKE: usize = 16;

/// The groups of one endpoint that are written at the same time.
const LANES: usize = 2;

/// What became of one write.
pub(crate) type Outcome = Result<Written, Fault>;

/// Writes all of them, each with its own outcome.
///
/// # Errors
/// What is nobody's own fault: a lost connection, a lock; a table or a column that all of them lack. What was written by then is
/// in the inbox.
pub(crate) async fn each(database: &dyn Backend, works: &[Arc<Work>]) -> Result<Vec<Outcome>, Fault> {
    let mut outcomes = Vec::with_capacity(works.len());
    // The next range stands last.
    let mut waiting: Vec<&[Arc<Work>]> = groups(works);
    while let Some(group) = waiting.pop() {
        match database.write(group).await {
            Ok(written) => outcomes.extend(written.into_iter().map(Ok)),
            Err(fault) if !is_its_own(&fault) => return Err(fault),
            Err(fault) if group.len() == 1 => {
                outcomes.push(Err(fault));
                if let Some(fault) = shared(&outcomes, works.len()) {
                    return Err(fault);
                }
            }
            Err(_) => {
                let (first, second) = group.split_at(group.len() / 2);
                waiting.extend([second, first]);
            }
        }
    }
    Ok(outcomes)
}

/// Whether a fault may be about what was to be written: a value, or a field that no column has.
fn is_its_own(fault: &Fault) -> bool {
    matches!(fault.code, Code::Refused | Code::Invalid | Code::Misconfigured) && fault.verdict == Verdict::Reject
}

/// The fault of the first, where the first ones have all found that table and columns are not as they were said to be.
fn shared(outcomes: &[Outcome], count: usize) -> Option<Fault> {
    let lacks = |outcome: &Outcome| outcome.as_ref().is_err_and(|fault| fault.code == Code::Misconfigured);
    if outcomes.len() != ALIKE.min(count) || !outcomes.iter().all(lacks) {
        return None;
    }
    outcomes.first()?.as_ref().err().cloned()
}

/// Groups within the limits, the first one last.
fn groups(mut works: &[Arc<Work>]) -> Vec<&[Arc<Work>]> {
    let mut groups = Vec::new();
    while !works.is_empty() {
        let (group, rest) = works.split_at(fitting(works.iter().map(|work| work.rows.len())));
        groups.push(group);
        works = rest;
    }
    groups.reverse();
    groups
}

/// How many of the next fit into one group; at least one.
fn fitting(rows: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fits = rows.take(MOST).take_while(|count| {
        sum += count;
        sum <= MOST_ROWS
    });
    fits.count().max(1)
}

/// Deliveries of one endpoint that wait to be written.
#[derive(Debug)]
pub(crate) struct Lane {
    waiting: Mutex<Vec<Waiting>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct Waiting {
    work: Arc<Work>,
    told: oneshot::Sender<Told>,
}

/// What a delivery that waited is told.
#[derive(Debug)]
enum Told {
    Written(Written),
    /// It failed, alone or with all others.
    Failed(Fault),
    /// Something in the group failed: go alone.
    Alone,
}

impl Lane {
    /// For an endpoint of which so many deliveries come at a time.
    pub(crate) fn new(concurrency: u32) -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(LANES.min((concurrency as usize).max(1))) }
    }

    /// Writes one delivery, with those that wait beside it.
    pub(crate) async fn write(&self, database: &dyn Backend, work: Arc<Work>) -> Outcome {
        let (told, mut outcome) = oneshot::channel();
        self.lock().push(Waiting { work: work.clone(), told });
        let told = loop {
            let turn = tokio::select! {
                biased;
                told = &mut outcome => break told,
                turn = self.turns.acquire() => turn,
            };
            let group = self.take();
            if group.is_empty() {
                // Another one writes for us.
                drop(turn);
                break outcome.await;
            }
            self.lead(database, group).await;
        };
        match told {
            Ok(Told::Written(written)) => Ok(written),
            Ok(Told::Failed(fault)) => Err(fault),
            // Where the one that wrote for us was cut off, the inbox knows whether it had come that far.
            Ok(Told::Alone) | Err(_) => alone(database, work).await,
        }
    }

    /// Writes for all of a group.
    async fn lead(&self, database: &dyn Backend, group: Vec<Waiting>) {
        let works: Vec<_> = group.iter().map(|waiting| waiting.work.clone()).collect();
        let told: Vec<Told> = match database.write(&works).await {
            Ok(written) => written.into_iter().map(Told::Written).collect(),
            // One of them is wrong, or waits for a lock: it must not keep the others.
            Err(fault) if works.len() > 1 && (fault.verdict == Verdict::Reject || fault.code == Code::Refused) => {
                works.iter().map(|_| Told::Alone).collect()
            }
            Err(fault) => works.iter().map(|_| Told::Failed(fault.clone())).collect(),
        };
        for (waiting, told) in group.into_iter().zip(told) {
            // One whose time is up does not listen any more.
            let _ = waiting.told.send(told);
        }
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.lock();
        // Those whose time is up come again by themselves.
        waiting.retain(|waiting| !waiting.told.is_closed());
        let count = fitting(waiting.iter().map(|waiting| waiting.work.rows.len())).min(waiting.len());
        waiting.drain(..count).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn alone(database: &dyn Backend, work: Arc<Work>) -> Outcome {
    let written = database.write(std::slice::from_ref(&work)).await?;
    Ok(written.into_iter().next().unwrap_or(Written::Now))
}
