//! The one thread that touches the file. It takes what callers asked for in batches, writes each batch in one
//! transaction, answers, hands out, and sleeps until somebody asks again or a retry is due.
//!
//! Here: the loop and what does not change parcels. Writing is `commit`, handing out `dispatch`, due retries `ladder`,
//! a sick disk `mend`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::file::File;
use super::inbox::{Inbox, Op, Write};
use super::place::QueueId;
use super::shelf::{Count, Shelf};
use super::trouble::Trouble;
use super::{Options, QUARANTINE};
use crate::{BusError, DEAD, Delivered, Depth, Health, QueueSpec, Topology, UNROUTABLE};

/// A queue's byte limit where the topology names none: the contract of [`QueueSpec`].
const LIMIT: u64 = 1024 * 1024 * 1024;

/// The log is moved into the file when this much was written and nobody waits, ...
const CHECKPOINT_IDLE: u64 = 8 * 1024 * 1024;
/// ... and whoever waits, when it has become this much.
const CHECKPOINT_ALWAYS: u64 = 64 * 1024 * 1024;

pub(super) struct Writer {
    pub(super) inbox: Arc<Inbox>,
    pub(super) path: PathBuf,
    pub(super) options: Options,
    pub(super) clock: Clock,
    /// `None` while it cannot be trusted.
    pub(super) file: Option<File>,
    pub(super) shelves: BTreeMap<QueueId, Shelf>,
    pub(super) names: HashMap<String, QueueId>,
    /// The rungs of this topology, shortest first.
    pub(super) ladder: Vec<(Duration, QueueId)>,
    /// Queues where a parcel, a consumer or a free place has come.
    pub(super) stirred: BTreeSet<QueueId>,
    /// Settlements that the disk did not take yet.
    pub(super) stuck: Vec<Write>,
    pub(super) health: watch::Sender<Health>,
    pub(super) declared: bool,
    /// What is wrong with the disk, and when to try again.
    pub(super) ill: Option<super::mend::Illness>,
    /// Bytes written to the log since it was last moved into the file, about.
    pub(super) logged: u64,
    next_taker: u64,
}

impl Writer {
    /// Reads what the file holds. The file is open and checked.
    pub(super) fn new(
        path: PathBuf,
        file: File,
        options: Options,
        inbox: Arc<Inbox>,
        health: watch::Sender<Health>,
    ) -> Result<Self, Trouble> {
        let mut writer = Self {
            inbox,
            path,
            options,
            clock: Clock::new(),
            file: None,
            shelves: BTreeMap::new(),
            names: HashMap::new(),
            ladder: Vec::new(),
            stirred: BTreeSet::new(),
            stuck: Vec::new(),
            health,
            declared: false,
            ill: None,
            logged: 0,
            next_taker: 0,
        };
        for row in file.queues()? {
            writer.shelve(Shelf::new(row, LIMIT));
        }
        let missing: Vec<&str> =
            [DEAD, UNROUTABLE, QUARANTINE].into_iter().filter(|name| !writer.names.contains_key(*name)).collect();
        if !missing.is_empty() {
            file.begin()?;
            let rows = missing.iter().map(|name| file.add_queue(name, false, None)).collect::<Result<Vec<_>, _>>()?;
            file.commit()?;
            for row in rows {
                writer.shelve(Shelf::new(row, LIMIT));
            }
        }
        for name in [DEAD, UNROUTABLE] {
            if let Some(shelf) = writer.shelf_named(name) {
                shelf.declared = true;
                shelf.limit = u64::MAX;
            }
        }
        writer.read_rungs(&file)?;
        writer.file = Some(file);
        Ok(writer)
    }

    /// Until the bus is closed or dropped.
    pub(super) fn run(mut self) {
        loop {
            let wake = self.next_due().into_iter().chain(self.ill.as_ref().map(|ill| ill.again)).min();
            let Some(ops) = self.inbox.take(wake) else { break };
            self.mend();
            self.bring_back();
            if self.work(ops) {
                break;
            }
            self.dispatch();
            self.tidy();
        }
        // Before the answers' senders go: whoever hears that the bus is closed may open the file again.
        self.file = None;
        self.inbox.abandon();
    }

    /// `true` when it was told to close, and has.
    fn work(&mut self, ops: Vec<Op>) -> bool {
        let mut batch = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Write(write) => batch.push(write),
                Op::GiveBack(place) => {
                    if let Some(shelf) = self.shelves.get_mut(&place.queue()) {
                        shelf.give_back(place);
                        self.stirred.insert(place.queue());
                    }
                }
                Op::Consume { queue, prefetch, sender, answer } => {
                    let _ = answer.send(self.consume(&queue, prefetch, sender));
                }
                Op::Declare { topology, answer } => {
                    self.write(std::mem::take(&mut batch));
                    let _ = answer.send(self.declare(&topology));
                }
                Op::Depths { answer } => {
                    self.write(std::mem::take(&mut batch));
                    let _ = answer.send(self.depths());
                }
                Op::Close { answer } => {
                    self.write(std::mem::take(&mut batch));
                    self.close();
                    let _ = answer.send(());
                    return true;
                }
            }
        }
        self.write(batch);
        false
    }

    fn consume(&mut self, queue: &str, prefetch: u16, sender: mpsc::Sender<Delivered>) -> Result<(), BusError> {
        self.next_taker += 1;
        let id = self.next_taker;
        let Some(shelf) = self.shelf_named(queue).filter(|shelf| shelf.declared) else {
            let text = format!("there is no queue {queue:?} in the topology: declare it first");
            return Err(BusError::Contradiction(text));
        };
        shelf.takers.add(id, sender, prefetch);
        let queue = shelf.id;
        self.stirred.insert(queue);
        Ok(())
    }

    fn declare(&mut self, topology: &Topology) -> Result<(), BusError> {
        let unavailable = |trouble: &Trouble| BusError::Unavailable(trouble.text().to_owned());
        let (mut make, mut change) = (Vec::new(), Vec::new());
        for (name, spec) in &topology.queues {
            match self.names.get(name).and_then(|id| self.shelves.get(id)) {
                None if spec.request => {}
                None => make.push((name.clone(), spec.single_active_consumer, None)),
                Some(shelf) if !spec.request && shelf.takers.single == spec.single_active_consumer => {}
                Some(shelf) if shelf.count.parcels > 0 || shelf.takers.count() > 0 => {
                    return Err(BusError::Contradiction(contradiction(name, spec, shelf)));
                }
                Some(_) if spec.request => {}
                Some(shelf) => change.push((shelf.id, spec.single_active_consumer)),
            }
        }
        let mut delays = topology.ladder.clone();
        delays.sort_unstable();
        delays.dedup();
        for delay in &delays {
            if !self.shelves.values().any(|shelf| shelf.delay == Some(*delay)) {
                make.push((rung_name(*delay), false, Some(*delay)));
            }
        }
        let made = match self.make_queues(&make, &change) {
            Ok(made) => made,
            Err(trouble) => {
                let error = unavailable(&trouble);
                self.fall_ill(trouble);
                return Err(error);
            }
        };
        for row in made {
            self.shelve(Shelf::new(row, LIMIT));
        }
        for (name, spec) in &topology.queues {
            if let Some(shelf) = self.shelf_named(name) {
                shelf.declared = !spec.request;
                shelf.takers.single = spec.single_active_consumer;
                shelf.limit = spec.max_bytes.unwrap_or(LIMIT);
            }
        }
        let rung = |delay: &Duration| {
            let shelf = self.shelves.values().find(|shelf| shelf.delay == Some(*delay))?;
            Some((*delay, shelf.id))
        };
        self.ladder = delays.iter().filter_map(rung).collect();
        self.declared = true;
        self.tell_health();
        Ok(())
    }

    fn make_queues(
        &mut self,
        make: &[(String, bool, Option<Duration>)],
        change: &[(QueueId, bool)],
    ) -> Result<Vec<super::file::QueueRow>, Trouble> {
        if make.is_empty() && change.is_empty() {
            return Ok(Vec::new());
        }
        let file = self.file()?;
        let made = (|| {
            file.begin()?;
            for (queue, single) in change {
                file.set_single(*queue, *single)?;
            }
            let rows: Result<Vec<_>, _> =
                make.iter().map(|(name, single, delay)| file.add_queue(name, *single, *delay)).collect();
            let rows = rows?;
            file.commit()?;
            Ok(rows)
        })();
        if made.is_err() {
            file.rollback();
        }
        made
    }

    fn depths(&mut self) -> Result<BTreeMap<String, Depth>, BusError> {
        let unavailable = |trouble: Trouble| BusError::Unavailable(trouble.text().to_owned());
        let file = self.file().map_err(unavailable)?;
        let mut depths = BTreeMap::new();
        for shelf in self.shelves.values() {
            let (parcels, _) = shelf.count.plus(Count::default());
            let rung = shelf.delay.is_some_and(|delay| self.ladder.iter().any(|(rung, _)| *rung == delay));
            if parcels == 0 && !shelf.declared && !rung {
                continue;
            }
            let oldest = match shelf.oldest() {
                Ok(at) => at,
                Err(behind) => file.oldest(shelf.id, behind).map_err(unavailable)?,
            };
            let oldest = oldest.map(|at| self.clock.since(at));
            depths.insert(shelf.name.clone(), Depth { parcels, consumers: shelf.takers.count(), oldest });
        }
        Ok(depths)
    }

    fn close(&mut self) {
        self.mend();
        self.stirred.clear();
        for shelf in self.shelves.values_mut() {
            shelf.takers.clear();
        }
        if let Some(file) = self.file.take()
            && let Err(trouble) = file.empty_log()
        {
            // Nothing is lost: the next opening reads the log.
            tracing::warn!(reason = trouble.text(), "the log could not be moved into the file on closing");
        }
        self.health.send_replace(Health::Down("the bus is closed".to_owned()));
    }

    /// Moves the log into the file, rather while nobody waits.
    fn tidy(&mut self) {
        let idle = self.logged > CHECKPOINT_IDLE && self.inbox.is_empty();
        if !idle && self.logged < CHECKPOINT_ALWAYS {
            return;
        }
        let Ok(file) = self.file() else { return };
        match file.checkpoint() {
            Ok(()) => self.logged = 0,
            Err(trouble) => self.fall_ill(trouble),
        }
    }

    pub(super) fn file(&self) -> Result<&File, Trouble> {
        self.file.as_ref().ok_or_else(|| self.no_file())
    }

    /// Why there is no file: what was wrong when it was let go.
    pub(super) fn no_file(&self) -> Trouble {
        let reason = || Trouble::Io(format!("{} is not open", self.path.display()));
        self.ill.as_ref().map_or_else(reason, |ill| ill.trouble.clone())
    }

    pub(super) fn shelf_named(&mut self, name: &str) -> Option<&mut Shelf> {
        self.shelves.get_mut(self.names.get(name)?)
    }

    fn shelve(&mut self, shelf: Shelf) {
        self.names.insert(shelf.name.clone(), shelf.id);
        self.shelves.insert(shelf.id, shelf);
    }
}

fn contradiction(name: &str, spec: &QueueSpec, shelf: &Shelf) -> String {
    let kind = |single: bool| if single { "ordered (one consumer at a time)" } else { "shared by consumers" };
    let asked = if spec.request { "a request queue" } else { kind(spec.single_active_consumer) };
    format!(
        "queue {name:?} is {} and in use ({} parcels), but is asked to be {asked}: let it run empty first, or give the target another name",
        kind(shelf.takers.single),
        shelf.count.parcels,
    )
}

/// `gatehouse.retry.5s`, `.2m`, `.1h`; odd ones in milliseconds.
fn rung_name(delay: Duration) -> String {
    let millis = delay.as_millis();
    match millis {
        ms if ms % 3_600_000 == 0 && ms > 0 => format!("gatehouse.retry.{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 && ms > 0 => format!("gatehouse.retry.{}m", ms / 60_000),
        ms if ms % 1000 == 0 && ms > 0 => format!("gatehouse.retry.{}s", ms / 1000),
        ms => format!("gatehouse.retry.{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_named_as_people_say_them() {
        let names: Vec<String> = crate::LADDER.iter().map(|delay| rung_name(*delay)).collect();
        let expected = ["5s", "30s", "2m", "10m", "1h"].map(|name| format!("gatehouse.retry.{name}"));
        assert_eq!(names, expected);
        assert_eq!(rung_name(Duration::from_millis(300)), "gatehouse.retry.300ms");
    }
}
