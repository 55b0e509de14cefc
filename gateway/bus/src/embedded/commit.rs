//! A batch of writes as one transaction: staged row by row, committed, and only then believed and answered.

use std::time::{Duration, Instant};

use super::clock::millis;
use super::file::File;
use super::inbox::{Answer, Publish, Verdict, Write};
use super::place::{Place, QueueId};
use super::shelf::{Count, Ready, Shelf};
use super::trouble::Trouble;
use super::writer::Writer;
use crate::{DEAD, PublishError, SettleError, UNROUTABLE, rung};

/// What the log grows by for one row beside its bytes, about: a page.
const ROW_COST: u64 = 8192;

/// What one write will have done once the transaction is committed.
enum Staged {
    /// Nothing: this is the answer.
    Refused(PublishError),
    /// Nothing: the parcel is not in this consumer's hands.
    NotOurs,
    Put {
        place: Place,
        size: u64,
    },
    Gone {
        from: Place,
    },
    Moved {
        from: Place,
        to: Place,
        size: u64,
        due: Option<i64>,
    },
}

/// Why a transaction came to nothing, and whether its commit was tried.
pub(super) struct Failed {
    pub(super) trouble: Trouble,
    at_commit: bool,
}

impl Writer {
    /// Writes, commits, answers. What fails is answered as failed, or kept for later.
    pub(super) fn write(&mut self, batch: Vec<Write>) {
        if batch.is_empty() {
            return;
        }
        let mut outcome = self.transact(&batch);
        if let Err(Failed { trouble: Trouble::Full(_), .. }) = outcome
            && self.file().and_then(File::empty_log).is_ok()
        {
            // The log itself takes room: empty, it may be enough.
            self.logged = 0;
            outcome = self.transact(&batch);
        }
        match outcome {
            Ok(staged) => {
                let mut held: u64 = self.shelves.values().map(Shelf::held).sum();
                for (write, staged) in batch.into_iter().zip(staged) {
                    self.believe(write, staged, &mut held);
                }
            }
            Err(failed) => self.spoiled(batch, &failed),
        }
    }

    fn transact(&mut self, batch: &[Write]) -> Result<Vec<Staged>, Failed> {
        self.transaction(|writer, file| {
            let stage = |write: &Write| match write {
                Write::Publish(publish) => writer.stage_publish(file, publish),
                Write::Settle(answer) => writer.stage_answer(file, answer),
            };
            batch.iter().map(stage).collect()
        })
    }

    /// Everything that `work` changes in the file, with the counts of the queues it touches, or nothing of it.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &File) -> Result<T, Trouble>,
    ) -> Result<T, Failed> {
        let early = |trouble| Failed { trouble, at_commit: false };
        // Taken out so that shelves can change beside it; it comes back whatever happens.
        let Some(file) = self.file.take() else { return Err(early(self.no_file())) };
        let staged = file.begin().and_then(|()| {
            let staged = work(self, &file)?;
            let touched = self.shelves.values().filter(|shelf| shelf.staged != Count::default());
            file.count(&touched.map(|shelf| (shelf.id, shelf.count.plus(shelf.staged))).collect())?;
            Ok(staged)
        });
        let outcome = staged
            .map_err(early)
            .and_then(|staged| file.commit().map(|()| staged).map_err(|trouble| Failed { trouble, at_commit: true }));
        for shelf in self.shelves.values_mut() {
            shelf.conclude(outcome.is_ok());
        }
        if outcome.is_err() {
            file.rollback();
        }
        self.file = Some(file);
        outcome
    }

    fn stage_publish(&mut self, file: &File, publish: &Publish) -> Result<Staged, Trouble> {
        if publish.until <= Instant::now() {
            let text = "its deadline passed before it was written".to_owned();
            return Ok(Staged::Refused(PublishError::Refused(text)));
        }
        let at = self.clock.now();
        let size = publish.written.size();
        let known = self.names.get(&publish.queue).copied().filter(|id| self.takes_publishes(*id));
        let Some(id) = known.or_else(|| self.names.get(UNROUTABLE).copied()) else {
            return Err(Trouble::Damaged(format!("{} has no queue {UNROUTABLE}", self.path.display())));
        };
        let Some(shelf) = self.shelves.get_mut(&id) else { return Ok(Staged::NotOurs) };
        if shelf.full(size) {
            let (_, bytes) = shelf.count.plus(shelf.staged);
            let text = format!("queue {:?} is full: {bytes} of {} bytes wait", shelf.name, shelf.limit);
            return Ok(Staged::Refused(PublishError::Refused(text)));
        }
        let place = shelf.reserve();
        file.put(place, at, &publish.written, None)?;
        shelf.staged.add(size);
        self.logged += size + ROW_COST;
        Ok(Staged::Put { place, size })
    }

    /// Not rungs, not quarantine: nothing would bring a parcel back from there.
    fn takes_publishes(&self, id: QueueId) -> bool {
        self.shelves.get(&id).is_some_and(|shelf| shelf.delay.is_none() && shelf.name != super::QUARANTINE)
    }

    fn stage_answer(&mut self, file: &File, answer: &Answer) -> Result<Staged, Trouble> {
        let from = answer.place;
        let flight = self.shelves.get(&from.queue()).and_then(|shelf| shelf.flights.get(&from.position()));
        let Some(old) = flight.map(|flight| flight.size) else { return Ok(Staged::NotOurs) };
        let now = self.clock.now();
        let (to, written, wait) = match &answer.verdict {
            Verdict::Done => (None, None, None),
            Verdict::Dead(written) => (self.names.get(DEAD).copied(), Some(written), None),
            Verdict::Retry(written, delay) => {
                let rungs: Vec<Duration> = self.ladder.iter().map(|(delay, _)| *delay).collect();
                match self.ladder.get(rung(&rungs, *delay)) {
                    Some((delay, rung)) => (Some(*rung), Some(written), Some((from.queue(), now + millis(*delay)))),
                    // No ladder at all (nothing declared): at once, but at the end.
                    None => (Some(from.queue()), Some(written), None),
                }
            }
        };
        if let Some(shelf) = self.shelves.get_mut(&from.queue())
            && file.remove(from)?
        {
            shelf.staged.sub(old);
        }
        self.logged += ROW_COST;
        let Some((to, written)) = to.and_then(|id| self.shelves.get_mut(&id)).zip(written) else {
            return Ok(Staged::Gone { from });
        };
        let (place, size) = (to.reserve(), written.size());
        file.put(place, now, written, wait)?;
        to.staged.add(size);
        self.logged += size + ROW_COST;
        Ok(Staged::Moved { from, to: place, size, due: wait.map(|(_, due)| due) })
    }

    /// The transaction is on the disk: memory follows, the caller hears.
    fn believe(&mut self, write: Write, staged: Staged, held: &mut u64) {
        match (write, staged) {
            (Write::Publish(publish), Staged::Put { place, size }) => {
                *held += size;
                let keep = *held <= self.options.body_memory;
                let parcel = keep.then_some(publish.written.parcel);
                self.arrived(place, Ready { redelivered: false, at: self.clock.now(), size, parcel });
                let _ = publish.answer.send(Ok(()));
            }
            (Write::Publish(publish), Staged::Refused(error)) => {
                let _ = publish.answer.send(Err(error));
            }
            (Write::Settle(answer), Staged::Gone { from }) => {
                self.landed(from);
                let _ = answer.answer.send(Ok(()));
            }
            (Write::Settle(answer), Staged::Moved { from, to, size, due }) => {
                self.landed(from);
                match due {
                    Some(due) => self.waits(to, due),
                    None => self.arrived(to, Ready { redelivered: false, at: self.clock.now(), size, parcel: None }),
                }
                let _ = answer.answer.send(Ok(()));
            }
            (Write::Settle(answer), _) => {
                let _ = answer.answer.send(Err(SettleError("the parcel is no longer in these hands".to_owned())));
            }
            (Write::Publish(publish), _) => {
                let _ = publish.answer.send(Err(PublishError::Refused("there is no such queue".to_owned())));
            }
        }
    }

    pub(super) fn arrived(&mut self, place: Place, ready: Ready) {
        if let Some(shelf) = self.shelves.get_mut(&place.queue()) {
            shelf.stock(place, ready);
            self.stirred.insert(place.queue());
        }
    }

    fn landed(&mut self, place: Place) {
        if let Some(shelf) = self.shelves.get_mut(&place.queue()) {
            shelf.land(place);
            self.stirred.insert(place.queue());
        }
    }

    /// Publishers hear at once what is known; settlements are kept until the disk takes them.
    fn spoiled(&mut self, batch: Vec<Write>, Failed { trouble, at_commit }: &Failed) {
        let text = trouble.text().to_owned();
        let mut settles = Vec::new();
        let mut publishes = false;
        for write in batch {
            match write {
                Write::Settle(_) => settles.push(write),
                Write::Publish(publish) => {
                    publishes = true;
                    let error = match trouble {
                        Trouble::Full(_) => PublishError::Refused(text.clone()),
                        Trouble::Io(_) | Trouble::Damaged(_) if *at_commit => PublishError::Unknown(text.clone()),
                        _ => PublishError::Unavailable(text.clone()),
                    };
                    let _ = publish.answer.send(Err(error));
                }
            }
        }
        let distrusts = trouble.distrusts_file();
        self.fall_ill(trouble.clone());
        if publishes && !distrusts {
            // Without the publishes they may fit: removing needs little room.
            self.write(settles);
        } else {
            self.stuck.extend(settles);
        }
    }
}
