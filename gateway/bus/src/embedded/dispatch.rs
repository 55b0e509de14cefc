//! Hands parcels to consumers that have room, in order, from memory or page by page from the file. A row that is not
//! what was written goes to quarantine; it is never served.

use std::sync::Arc;

use super::QUARANTINE;
use super::place::{Place, QueueId};
use super::settle::Hand;
use super::shelf::{Flight, Ready};
use super::trouble::Trouble;
use super::writer::Writer;
use crate::{Delivered, Parcel, Settlement};

/// Read from the file at once.
const PAGE_PARCELS: usize = 256;
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

impl Writer {
    pub(super) fn dispatch(&mut self) {
        while self.file.is_some()
            && let Some(queue) = self.stirred.pop_first()
        {
            if let Err(trouble) = self.dispatch_queue(queue) {
                self.stirred.insert(queue);
                self.fall_ill(trouble);
                return;
            }
        }
    }

    fn dispatch_queue(&mut self, queue: QueueId) -> Result<(), Trouble> {
        loop {
            self.load(queue)?;
            let Some(shelf) = self.shelves.get_mut(&queue) else { return Ok(()) };
            if shelf.is_bare() {
                return Ok(());
            }
            let Some((taker, sender)) = shelf.takers.choose() else {
                if shelf.takers.count() == 0 {
                    shelf.forget_bodies();
                }
                return Ok(());
            };
            let Some((place, ready)) = shelf.pop() else { return Ok(()) };
            let Ready { redelivered, at, size, .. } = ready;
            let parcel = match ready.parcel {
                Some(parcel) => Some(parcel),
                None => self.fetch(place)?,
            };
            let Some(shelf) = self.shelves.get_mut(&queue) else { return Ok(()) };
            let Some(parcel) = parcel else {
                shelf.takers.release(taker);
                self.set_aside(place, size)?;
                continue;
            };
            shelf.flights.insert(place.position(), Flight { taker, at, size });
            let settlement = Settlement::new(Arc::new(Hand::new(Arc::clone(&self.inbox), place)));
            // One that has just gone drops it, and it is given back.
            let _ = sender.try_send(Delivered { parcel, redelivered, settlement });
        }
    }

    fn load(&mut self, queue: QueueId) -> Result<(), Trouble> {
        while let Some(shelf) = self.shelves.get(&queue)
            && shelf.takers.count() > 0
            && let Some(behind) = shelf.wants()
        {
            let (page, more) = self.file()?.page(queue, behind, PAGE_PARCELS, PAGE_BYTES)?;
            self.shelves.entry(queue).and_modify(|shelf| shelf.load(page, more));
        }
        Ok(())
    }

    /// The parcel of a row; `None` where it is damaged or not there.
    fn fetch(&mut self, place: Place) -> Result<Option<Parcel>, Trouble> {
        Ok(self.file()?.one(place)?.and_then(|found| found.parcel))
    }

    /// A damaged row: kept as it is, out of everybody's way, counted, told.
    fn set_aside(&mut self, place: Place, size: u64) -> Result<(), Trouble> {
        let now = self.clock.now();
        let moved = self.transaction(|writer, file| {
            let Some(aside) = writer.shelf_named(QUARANTINE) else { return Ok(None) };
            let to = aside.reserve();
            let there = file.shift(place, to, now)?;
            if there {
                aside.staged.add(size);
            }
            writer.shelves.entry(place.queue()).and_modify(|shelf| shelf.staged.sub(size));
            Ok(there.then_some(to.0))
        });
        let moved = moved.map_err(|failed| failed.trouble)?;
        let queue = self.shelves.get(&place.queue()).map_or("?", |shelf| shelf.name.as_str());
        let file = self.path.display();
        match moved {
            Some(place) => tracing::error!(
                %file, queue, place,
                "a parcel in the file is damaged: it was set aside in {QUARANTINE}, not served; look at the disk"
            ),
            None => {
                tracing::error!(%file, queue, place = place.0, "a parcel is no longer in the file: who deleted it?")
            }
        }
        Ok(())
    }
}
