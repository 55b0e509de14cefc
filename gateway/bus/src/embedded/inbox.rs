//! What callers ask of the writer, in order. A lock held for a push and no longer: callers on tokio's threads never
//! wait for the disk here. Bounded: publishes by bytes (`admit`), settlements by the prefetch of their consumers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::place::Place;
use super::row::Written;
use crate::{BusError, Delivered, Depth, PublishError, SettleError, Topology};

/// As much as goes into one transaction. Measured: more gains nothing, and everybody waits for the last one.
const BATCH_OPS: usize = 512;
const BATCH_BYTES: u64 = 8 * 1024 * 1024;

/// What a publish is counted with before it is written, in these units.
const ADMIT_UNIT: u64 = 1024;

pub(super) enum Op {
    Write(Write),
    GiveBack(Place),
    Consume {
        queue: String,
        prefetch: u16,
        sender: mpsc::Sender<Delivered>,
        answer: oneshot::Sender<Result<(), BusError>>,
    },
    Declare {
        topology: Topology,
        answer: oneshot::Sender<Result<(), BusError>>,
    },
    Depths {
        answer: oneshot::Sender<Result<BTreeMap<String, Depth>, BusError>>,
    },
    Close {
        answer: oneshot::Sender<()>,
    },
}

/// What changes the file: grouped into one transaction, answered after its commit.
pub(super) enum Write {
    Publish(Publish),
    Settle(Answer),
}

pub(super) struct Publish {
    pub(super) queue: String,
    pub(super) written: Written,
    /// After this nobody waits: it is not worth writing.
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Result<(), PublishError>>,
    pub(super) _admitted: OwnedSemaphorePermit,
}

pub(super) struct Answer {
    pub(super) place: Place,
    pub(super) verdict: Verdict,
    pub(super) answer: oneshot::Sender<Result<(), SettleError>>,
}

pub(super) enum Verdict {
    Done,
    Retry(Written, std::time::Duration),
    Dead(Written),
}

impl Op {
    fn bytes(&self) -> u64 {
        match self {
            Self::Write(Write::Publish(publish)) => publish.written.size(),
            Self::Write(Write::Settle(Answer {
                verdict: Verdict::Retry(written, _) | Verdict::Dead(written), ..
            })) => written.size(),
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    /// Nothing new; what is in it is still done.
    Closing,
    /// The bus was dropped: nothing more is done.
    Abandoned,
}

struct State {
    ops: VecDeque<Op>,
    fate: Fate,
}

pub(super) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
    room: Arc<Semaphore>,
    units: u32,
}

impl Inbox {
    pub(super) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / ADMIT_UNIT).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(units as usize));
        Self { state: Mutex::new(State { ops: VecDeque::new(), fate: Fate::Open }), bell: Condvar::new(), room, units }
    }

    /// Waits until there is room for so many bytes; `None` once the bus is closed. A parcel larger than all the room
    /// goes alone.
    pub(super) async fn admit(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(ADMIT_UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        Arc::clone(&self.room).acquire_many_owned(units).await.ok()
    }

    /// `false` once the bus is closed: the op is dropped and with it the sender of its answer.
    pub(super) fn push(&self, op: Op) -> bool {
        let mut state = self.lock();
        if state.fate != Fate::Open {
            return false;
        }
        if matches!(op, Op::Close { .. }) {
            state.fate = Fate::Closing;
            self.room.close();
        }
        state.ops.push_back(op);
        drop(state);
        self.bell.notify_one();
        true
    }

    /// The next batch, as soon as there is one op; empty at `until`; `None` when the bus was dropped.
    pub(super) fn take(&self, until: Option<Instant>) -> Option<Vec<Op>> {
        let mut state = self.lock();
        loop {
            if state.fate == Fate::Abandoned {
                return None;
            }
            if !state.ops.is_empty() {
                return Some(batch(&mut state.ops));
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Some(Vec::new()),
                Some(left) => self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().ops.is_empty()
    }

    /// Whoever waits for an answer is told that none will come.
    pub(super) fn abandon(&self) {
        let ops = {
            let mut state = self.lock();
            state.fate = Fate::Abandoned;
            self.room.close();
            std::mem::take(&mut state.ops)
        };
        self.bell.notify_one();
        // Outside the lock: what is dropped may give parcels back, which comes here again.
        drop(ops);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn batch(ops: &mut VecDeque<Op>) -> Vec<Op> {
    let (mut count, mut bytes) = (0, 0);
    for op in ops.iter() {
        bytes += op.bytes();
        if count == BATCH_OPS || (count > 0 && bytes > BATCH_BYTES) {
            break;
        }
        count += 1;
    }
    ops.drain(..count).collect()
}
