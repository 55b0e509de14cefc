//! The newest ids, in memory, each with what is known of it: what was a moment ago is known without asking the store.
//!
//! Two generations: the young one grows, and once it is full it becomes the old one, whose place it takes. So the newest
//! half of the room is always remembered, and remembering one costs one hash, not a list of who was used last.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Remembers the newest ids: between half of its room and all of it.
#[derive(Debug)]
pub(super) struct Recent<V = ()> {
    generations: Mutex<Generations<V>>,
    half: usize,
}

#[derive(Debug)]
struct Generations<V> {
    young: HashMap<u128, V>,
    old: HashMap<u128, V>,
}

impl<V: Copy> Recent<V> {
    /// With room for so many ids, 20 bytes each beside what is known of it.
    #[must_use]
    pub(super) fn new(room: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self { generations: Mutex::new(generations), half: room.div_ceil(2).max(1) }
    }

    /// Remembers one.
    pub(super) fn put(&self, id: u128, known: V) {
        let mut generations = self.generations();
        generations.young.insert(id, known);
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
    }

    /// What is remembered of it.
    #[must_use]
    pub(super) fn get(&self, id: u128) -> Option<V> {
        let generations = self.generations();
        generations.young.get(&id).or_else(|| generations.old.get(&id)).copied()
    }

    fn generations(&self) -> MutexGuard<'_, Generations<V>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    /// Remembers a delivery. What is no delivery id of ours is not remembered.
    pub(super) fn insert(&self, id: &str) {
        if let Some(id) = number(id) {
            self.put(id, ());
        }
    }

    /// Whether a delivery is remembered.
    #[must_use]
    pub(super) fn contains(&self, id: &str) -> bool {
        number(id).is_some_and(|id| self.get(id).is_some())
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
