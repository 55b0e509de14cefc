//! Acknowledgements of one channel, gathered: a quorum queue writes each `basic.ack` to its log, and one that says
//! "all up to here" costs as much as one that says "this one". So a tag waits [`LINGER`] for its neighbours.
//!
//! Nobody waits for it: what has not been written when the channel dies comes again, as what was written and had not
//! arrived always could. Only tags that are all in hand here are acknowledged together; a tag that was given back stands
//! in the way of those behind it until its `basic.nack` is written, so "all up to here" can never take it along.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an acknowledgement waits for others.
pub(super) const LINGER: Duration = Duration::from_millis(2);

/// How long one waits for those before it to be settled too. Then it goes alone: it must not hold up the prefetch.
const PATIENCE: Duration = Duration::from_millis(10);

/// What of a channel is settled and not yet told. Tags count from 1 (AMQP 0-9-1, 1.8.3: per channel, increasing).
#[derive(Debug)]
pub(super) struct Acks {
    /// The lowest tag that has not been told.
    next: u64,
    /// To be acknowledged, and since when.
    waiting: BTreeMap<u64, Instant>,
    /// Told already, or given back, while one before them had not been: first and last of each run, so that one slow
    /// delivery with a million quick ones behind it costs one entry.
    told: BTreeMap<u64, u64>,
    /// Somebody is on the way to tell.
    busy: bool,
}

/// One frame to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// All up to this tag.
    pub(super) multiple: bool,
}

impl Default for Acks {
    fn default() -> Self {
        Self { next: 1, waiting: BTreeMap::new(), told: BTreeMap::new(), busy: false }
    }
}

impl Acks {
    /// Takes one that is done. True where nobody is on the way to tell yet: then the caller must go.
    pub(super) fn done(&mut self, tag: u64, now: Instant) -> bool {
        self.waiting.insert(tag, now);
        !std::mem::replace(&mut self.busy, true)
    }

    /// One was told by itself: acknowledged alone, or given back and that is written.
    pub(super) fn gone(&mut self, tag: u64) {
        let first = match self.told.range_mut(..tag).next_back() {
            Some((first, last)) if *last + 1 == tag => {
                *last = tag;
                *first
            }
            _ => {
                self.told.insert(tag, tag);
                tag
            }
        };
        if let Some(last) = self.told.remove(&(tag + 1)) {
            self.told.insert(first, last);
        }
    }

    /// What is to be written now, and whether to come again after that; if not, nobody is on the way any more. Who has
    /// something to write comes again: until it is written nobody else may go, or tags would be told out of turn.
    pub(super) fn take(&mut self, now: Instant, out: &mut Vec<Ack>) -> bool {
        out.clear();
        if let Some((tag, count)) = self.advance() {
            out.push(Ack { tag, multiple: count > 1 });
        }
        let late = |since: &Instant| now.duration_since(*since) >= PATIENCE;
        let alone: Vec<u64> = self.waiting.iter().filter(|(_, since)| late(since)).map(|(tag, _)| *tag).collect();
        for tag in alone {
            self.waiting.remove(&tag);
            self.gone(tag);
            out.push(Ack { tag, multiple: false });
        }
        self.busy = !(out.is_empty() && self.waiting.is_empty());
        self.busy
    }

    /// Walks over what is settled without a gap; the last of it that still has to be told, and of how many.
    fn advance(&mut self) -> Option<(u64, usize)> {
        let mut last = None;
        let mut count = 0;
        loop {
            if self.waiting.remove(&self.next).is_some() {
                count += 1;
                last = Some(self.next);
                self.next += 1;
            } else if let Some(end) = self.told.remove(&self.next) {
                self.next = end + 1;
            } else {
                return last.map(|tag| (tag, count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(acks: &mut Acks, now: Instant) -> Vec<(u64, bool)> {
        let mut out = Vec::new();
        acks.take(now, &mut out);
        out.iter().map(|ack| (ack.tag, ack.multiple)).collect()
    }

    #[test]
    fn neighbours_go_together_and_a_gap_is_waited_for_but_not_for_ever() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        assert!(acks.done(2, start), "the first must go");
        assert!(!acks.done(4, start), "somebody is on the way");
        assert_eq!(take(&mut acks, start), [], "1 is not settled");
        acks.done(1, start);
        assert_eq!(take(&mut acks, start), [(2, true)]);
        assert_eq!(take(&mut acks, start + PATIENCE), [(4, false)], "3 takes too long");
        assert!(!acks.done(3, start + PATIENCE), "4 may not be written yet");
        assert_eq!(take(&mut acks, start + PATIENCE), [(3, false)]);
        assert_eq!(take(&mut acks, start + PATIENCE), []);
        assert!(acks.done(5, start + PATIENCE), "nobody is on the way any more");
        assert_eq!(take(&mut acks, start + PATIENCE), [(5, false)]);
    }

    #[test]
    fn what_is_given_back_is_never_taken_along() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        acks.done(2, start);
        acks.done(3, start);
        assert_eq!(take(&mut acks, start), [], "1 goes back, and that is not written yet");
        acks.gone(1);
        assert_eq!(take(&mut acks, start), [(3, true)]);
    }

    proptest! {
        /// Against a broker that keeps the book: every tag that was done is acknowledged once, none that was given
        /// back ever is, and "all up to here" always names one that is still open (RabbitMQ closes the channel else).
        #[test]
        fn a_broker_agrees(order in proptest::collection::vec((0_u64..40, any::<bool>(), 0_u64..15), 1..120)) {
            let (mut acks, start) = (Acks::default(), Instant::now());
            let mut open: std::collections::BTreeSet<u64> = (1..=40).collect();
            let (mut settled, mut back) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            let mut now = start;
            let mut out = Vec::new();
            let last = order.len();
            for (step, (tag, is_done, wait)) in order.into_iter().enumerate() {
                let tag = tag + 1;
                if !settled.contains(&tag) && !back.contains(&tag) {
                    if is_done {
                        acks.done(tag, now);
                        settled.insert(tag);
                    } else {
                        back.insert(tag);
                        open.remove(&tag);
                        acks.gone(tag);
                    }
                }
                now += Duration::from_millis(if step + 1 == last { 1000 } else { wait });
                acks.take(now, &mut out);
                for ack in &out {
                    prop_assert!(open.contains(&ack.tag), "{ack:?} is not open");
                    let told: Vec<u64> =
                        if ack.multiple { open.range(..=ack.tag).copied().collect() } else { vec![ack.tag] };
                    for tag in told {
                        prop_assert!(settled.contains(&tag), "{tag} was not settled");
                        open.remove(&tag);
                    }
                }
            }
            prop_assert!(settled.is_disjoint(&open), "all that was settled is told");
        }
    }
}
