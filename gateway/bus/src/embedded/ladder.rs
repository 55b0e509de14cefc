//! The retry ladder: each rung a queue of its own whose first parcel is always the next one due, so that waiting
//! parcels cost no memory and are found again after a restart.

use std::collections::BTreeSet;
use std::time::Instant;

use super::clock::millis;
use super::file::{File, Waiting};
use super::place::{Place, QueueId};
use super::shelf::Shelf;
use super::trouble::Trouble;
use super::writer::Writer;
use crate::UNROUTABLE;

/// Parcels brought back in one transaction.
const PAGE: u32 = 256;

impl Writer {
    /// At opening: when each rung has something to do.
    pub(super) fn read_rungs(&mut self, file: &File) -> Result<(), Trouble> {
        let now = self.clock.now();
        for shelf in self.shelves.values_mut() {
            let Some(delay) = shelf.delay else { continue };
            file.cap_due(shelf.id, now.saturating_add(millis(delay)))?;
            shelf.head = file.waiting(shelf.id, 1)?.first().map(|waiting| waiting.due);
        }
        Ok(())
    }

    /// When the next retry is due. None while the disk is ill: its own timer runs.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.ill.is_some() {
            return None;
        }
        let due = self.shelves.values().filter_map(|shelf| shelf.head).min()?;
        Some(self.clock.instant(due))
    }

    /// A parcel was put on a rung.
    pub(super) fn waits(&mut self, place: Place, due: i64) {
        if let Some(rung) = self.shelves.get_mut(&place.queue()) {
            rung.head.get_or_insert(due);
        }
    }

    /// Moves what is due to the end of its queue.
    pub(super) fn bring_back(&mut self) {
        let now = self.clock.now();
        let due = |writer: &Self| {
            let mut rungs = writer.shelves.values().filter(|shelf| shelf.head.is_some_and(|head| head <= now));
            rungs.next().map(|shelf| shelf.id)
        };
        while self.ill.is_none()
            && let Some(rung) = due(self)
        {
            let homes = self.transaction(|writer, file| writer.stage_back(file, rung, now));
            let head = homes.map_err(|failed| failed.trouble).and_then(|homes| {
                for home in homes {
                    self.shelves.entry(home).and_modify(Shelf::lag);
                    self.stirred.insert(home);
                }
                Ok(self.file()?.waiting(rung, 1)?.first().map(|waiting| waiting.due))
            });
            match head {
                Ok(head) => {
                    self.shelves.entry(rung).and_modify(|shelf| shelf.head = head);
                }
                Err(trouble) => self.fall_ill(trouble),
            }
        }
    }

    fn stage_back(&mut self, file: &File, rung: QueueId, now: i64) -> Result<BTreeSet<QueueId>, Trouble> {
        let mut homes = BTreeSet::new();
        let page = file.waiting(rung, PAGE)?;
        for Waiting { place, home, size, .. } in page.into_iter().take_while(|waiting| waiting.due <= now) {
            let home = if self.shelves.contains_key(&home) { Some(home) } else { self.names.get(UNROUTABLE).copied() };
            let Some(shelf) = home.and_then(|home| self.shelves.get_mut(&home)) else { continue };
            file.shift(place, shelf.reserve(), now)?;
            shelf.staged.add(size);
            homes.insert(shelf.id);
            self.shelves.entry(rung).and_modify(|rung| rung.staged.sub(size));
            self.logged += size;
        }
        Ok(homes)
    }
}
