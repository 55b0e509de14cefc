//! The newest ids, in memory: what was done a moment ago is known without asking the store.
//!
//! Two generations: the young one grows, and once it is full it becomes the old one, whose place it takes. So the newest
//! half of the room is always remembered, and remembering one costs one hash, not a list of who was used last.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Remembers the newest delivery ids: between half of its room and all of it.
#[derive(Debug)]
pub(super) struct Recent {
    generations: Mutex<Generations>,
    half: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl Recent {
    /// With room for so many ids, 20 bytes each.
    #[must_use]
    pub(super) fn new(room: usize) -> Self {
        Self { generations: Mutex::default(), half: room.div_ceil(2).max(1) }
    }

    /// Remembers one. What is no delivery id of ours is not remembered.
    pub(super) fn insert(&self, id: &str) {
        let Some(id) = number(id) else { return };
        let mut generations = self.generations();
        generations.young.insert(id);
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
    }

    /// Whether it is remembered.
    #[must_use]
    pub(super) fn contains(&self, id: &str) -> bool {
        let Some(id) = number(id) else { return false };
        let generations = self.generations();
        generations.young.contains(&id) || generations.old.contains(&id)
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery id is 32 hexadecimal digits (`gatehouse_core::message::delivery_id`).
fn number(id: &str) -> Option<u128> {
    if id.len() == 32 { u128::from_str_radix(id, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_the_room_is_kept() {
        let recent = Recent::new(100);
        let id = |n: u32| format!("{n:032x}");
        for n in 0..1_000 {
            recent.insert(&id(n));
            for newest in n.saturating_sub(49)..=n {
                assert!(recent.contains(&id(newest)), "{newest} of {n}");
            }
        }
        assert!(!recent.contains(&id(800)));
        recent.insert("foreign");
        assert!(!recent.contains("foreign"), "the store knows it");
    }
}
