//! One durable queue in memory: how much it holds, what is handed out, and the next few parcels. The file has them all;
//! a long backlog costs no memory and no time at start.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::clock::Millis;
use super::file::QueueRow;
use super::place::{Place, QueueId};
use super::row::Found;
use super::takers::{TakerId, Takers};
use crate::Parcel;

/// Parcels kept ready in memory for one queue.
const READY_MAX: usize = 1024;

/// A parcel that can be handed out.
pub(super) struct Ready {
    pub(super) redelivered: bool,
    pub(super) at: Millis,
    pub(super) size: u64,
    /// `None`: to be read from the file again.
    pub(super) parcel: Option<Parcel>,
}

/// A parcel in somebody's hands.
pub(super) struct Flight {
    pub(super) taker: TakerId,
    pub(super) at: Millis,
    pub(super) size: u64,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) parcels: i64,
    pub(super) bytes: i64,
}

impl Count {
    pub(super) fn add(&mut self, size: u64) {
        self.parcels += 1;
        self.bytes += size.cast_signed();
    }

    pub(super) fn sub(&mut self, size: u64) {
        self.parcels -= 1;
        self.bytes -= size.cast_signed();
    }

    pub(super) fn plus(self, other: Self) -> (u64, u64) {
        let positive = |n: i64| u64::try_from(n).unwrap_or(0);
        (positive(self.parcels + other.parcels), positive(self.bytes + other.bytes))
    }
}

pub(super) struct Shelf {
    pub(super) id: QueueId,
    pub(super) name: String,
    /// In this process's topology (or one of the bus's own).
    pub(super) declared: bool,
    /// Refuse publishes above so many bytes.
    pub(super) limit: u64,
    /// A rung of the retry ladder, and when its first parcel is due.
    pub(super) delay: Option<Duration>,
    pub(super) head: Option<Millis>,
    /// Committed.
    pub(super) count: Count,
    /// In the transaction under way.
    pub(super) staged: Count,
    pub(super) takers: Takers,
    pub(super) flights: HashMap<i64, Flight>,
    ready: BTreeMap<i64, Ready>,
    next: i64,
    /// Positions before this one were there at the last opening: they may have been handed out before.
    born: i64,
    /// Positions up to this one are ready, in flight or gone; later ones are only in the file, where `behind`.
    loaded: i64,
    behind: bool,
    /// Bytes of the ready parcels in memory.
    held: u64,
}

impl Shelf {
    pub(super) fn new(row: QueueRow, limit: u64) -> Self {
        let mut takers = Takers::default();
        takers.single = row.single;
        let mut shelf = Self {
            id: row.id,
            name: row.name.clone(),
            declared: false,
            limit,
            delay: row.delay,
            head: None,
            count: Count::default(),
            staged: Count::default(),
            takers,
            flights: HashMap::new(),
            ready: BTreeMap::new(),
            next: 1,
            born: 1,
            loaded: 0,
            behind: false,
            held: 0,
        };
        shelf.reset(&row);
        shelf
    }

    /// Believes the file and forgets what was in memory, but for what is in flight.
    pub(super) fn reset(&mut self, row: &QueueRow) {
        self.count = Count { parcels: row.parcels.cast_signed(), bytes: row.bytes.cast_signed() };
        self.staged = Count::default();
        self.next = self.next.max(row.last + 1);
        self.born = self.next;
        self.loaded = 0;
        self.behind = row.last > 0;
        self.ready.clear();
        self.held = 0;
    }

    /// The next free place at the end. One that is not used after all leaves a gap, which nobody minds.
    pub(super) fn reserve(&mut self) -> Place {
        let place = Place::new(self.id, self.next);
        self.next += 1;
        place
    }

    pub(super) fn full(&self, size: u64) -> bool {
        self.count.plus(self.staged).1.saturating_add(size) > self.limit
    }

    /// A committed parcel at the end. Kept in memory only where somebody is there to take it soon.
    pub(super) fn stock(&mut self, place: Place, ready: Ready) {
        let soon = self.takers.count() > 0 && self.ready.len() < READY_MAX && !self.behind;
        if soon && ready.parcel.is_some() {
            self.loaded = place.position();
            self.insert(place.position(), ready);
        } else {
            self.behind = true;
        }
    }

    /// Something was added to the file that memory does not have.
    pub(super) fn lag(&mut self) {
        self.behind = true;
    }

    /// Where the file must be read on, if the next parcel is there and not here.
    pub(super) fn wants(&self) -> Option<i64> {
        (self.ready.is_empty() && self.behind).then_some(self.loaded)
    }

    /// The answer to `wants`; `more`: whether there are later ones.
    pub(super) fn load(&mut self, page: Vec<Found>, more: bool) {
        self.behind = more;
        if !more {
            self.loaded = self.next - 1;
        }
        for Found { place, at, size, parcel } in page {
            let position = place.position();
            self.loaded = self.loaded.max(position);
            if !self.flights.contains_key(&position) {
                let redelivered = position < self.born;
                self.insert(position, Ready { redelivered, at, size, parcel });
            }
        }
    }

    /// Nothing here to hand out.
    pub(super) fn is_bare(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whatever was staged is on the disk now, or is not.
    pub(super) fn conclude(&mut self, committed: bool) {
        let staged = std::mem::take(&mut self.staged);
        if committed {
            self.count.parcels += staged.parcels;
            self.count.bytes += staged.bytes;
        }
    }

    /// The next parcel to hand out, if it is here.
    pub(super) fn pop(&mut self) -> Option<(Place, Ready)> {
        let (position, ready) = self.ready.pop_first()?;
        self.held -= in_memory(&ready);
        Some((Place::new(self.id, position), ready))
    }

    /// Back to where it was. The body is in the file.
    pub(super) fn give_back(&mut self, place: Place) {
        if let Some(Flight { at, size, .. }) = self.land(place) {
            self.insert(place.position(), Ready { redelivered: true, at, size, parcel: None });
        }
    }

    /// It is no longer in anybody's hands.
    pub(super) fn land(&mut self, place: Place) -> Option<Flight> {
        let flight = self.flights.remove(&place.position())?;
        self.takers.release(flight.taker);
        Some(flight)
    }

    /// Bytes of parcels ready in memory.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Where nobody takes any more, memory is better used elsewhere.
    pub(super) fn forget_bodies(&mut self) {
        for ready in self.ready.values_mut() {
            ready.parcel = None;
        }
        self.held = 0;
    }

    /// When the first ready parcel came; `Err(position)` where the file must tell, from there on.
    pub(super) fn oldest(&self) -> Result<Option<Millis>, i64> {
        match self.ready.first_key_value() {
            Some((_, ready)) => Ok(Some(ready.at)),
            None if self.behind => Err(self.loaded),
            None => Ok(None),
        }
    }

    fn insert(&mut self, position: i64, ready: Ready) {
        self.held += in_memory(&ready);
        if let Some(before) = self.ready.insert(position, ready) {
            self.held -= in_memory(&before);
        }
    }
}

fn in_memory(ready: &Ready) -> u64 {
    if ready.parcel.is_some() { ready.size } else { 0 }
}
