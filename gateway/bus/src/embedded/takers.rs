//! Who takes parcels from one queue: consumers in turn, none above its prefetch; or, where order matters, one at a
//! time. It counts; what is handed out is the queue's business.

use tokio::sync::mpsc;

use crate::Delivered;

/// Names one consumer in its flights.
pub(super) type TakerId = u64;

struct Taker {
    id: TakerId,
    sender: mpsc::Sender<Delivered>,
    prefetch: u16,
    unsettled: u16,
}

impl Taker {
    fn gone(&self) -> bool {
        self.sender.is_closed()
    }
}

#[derive(Default)]
pub(super) struct Takers {
    takers: Vec<Taker>,
    turn: usize,
    /// One consumer at a time: the next one starts when the first is gone *and* has settled all it held.
    pub(super) single: bool,
}

impl Takers {
    pub(super) fn add(&mut self, id: TakerId, sender: mpsc::Sender<Delivered>, prefetch: u16) {
        self.takers.push(Taker { id, sender, prefetch, unsettled: 0 });
    }

    /// The consumer whose turn it is, counted as having one more; `None` while nobody has room.
    pub(super) fn choose(&mut self) -> Option<(TakerId, mpsc::Sender<Delivered>)> {
        let single = self.single;
        self.takers.retain(|taker| !taker.gone() || (single && taker.unsettled > 0));
        let candidates = if single { self.takers.len().min(1) } else { self.takers.len() };
        for step in 0..candidates {
            let index = (self.turn + step) % candidates;
            let taker = &mut self.takers[index];
            if taker.unsettled < taker.prefetch && !taker.gone() {
                taker.unsettled += 1;
                self.turn = index + 1;
                return Some((taker.id, taker.sender.clone()));
            }
        }
        None
    }

    /// One parcel that this consumer had is settled or given back.
    pub(super) fn release(&mut self, id: TakerId) {
        if let Some(taker) = self.takers.iter_mut().find(|taker| taker.id == id) {
            taker.unsettled = taker.unsettled.saturating_sub(1);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.takers.iter().filter(|taker| !taker.gone()).count() as u64
    }

    /// Ends every consumer's stream.
    pub(super) fn clear(&mut self) {
        self.takers.clear();
    }
}
