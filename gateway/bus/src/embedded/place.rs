//! Where a parcel stands: its queue and its position there, in one number that is the row's primary key. Rows of a
//! queue so lie together and in order, without a second index.

/// Bits of the position; the rest names the queue.
const POSITION_BITS: u32 = 40;

/// `queue * 2^40 + position`: eight million queues, a million million parcels each over the file's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(pub(super) i64);

/// The row of table `queue`.
pub(super) type QueueId = i64;

impl Place {
    pub(super) fn new(queue: QueueId, position: i64) -> Self {
        Self((queue << POSITION_BITS) | position)
    }

    pub(super) fn queue(self) -> QueueId {
        self.0 >> POSITION_BITS
    }

    pub(super) fn position(self) -> i64 {
        self.0 & ((1 << POSITION_BITS) - 1)
    }

    /// The first place that belongs to the next queue.
    pub(super) fn end(queue: QueueId) -> Self {
        Self::new(queue + 1, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_its_queue_and_position_and_sorts_by_both() {
        let place = Place::new(7, 12_345);
        assert_eq!((place.queue(), place.position()), (7, 12_345));
        assert!(Place::new(7, 1) < place && place < Place::end(7) && Place::end(7) <= Place::new(8, 0));
    }
}
