//! What happens when the disk is full, locked, failing or damaged: publishers hear no, settlements wait, and the bus
//! tries by itself until the disk takes them. After a failed read, write or sync the open file is not trusted any more:
//! it is closed, opened and read again.

use std::time::{Duration, Instant};

use super::file::File;
use super::trouble::Trouble;
use super::writer::Writer;
use crate::Health;

/// Between two tries; doubled up to the second.
const FIRST_TRY: Duration = Duration::from_millis(100);
const LAST_TRY: Duration = Duration::from_secs(5);

/// What is wrong, since which try.
pub(super) struct Illness {
    pub(super) trouble: Trouble,
    pub(super) again: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn fall_ill(&mut self, trouble: Trouble) {
        if trouble.distrusts_file() {
            self.file = None;
        }
        let pause = self.ill.as_ref().map_or(FIRST_TRY, |ill| (ill.pause * 2).min(LAST_TRY));
        if self.ill.as_ref().is_none_or(|ill| ill.trouble != trouble) {
            tracing::error!(reason = trouble.text(), "the embedded bus cannot use its file; it goes on trying");
        }
        // A publish that is refused meanwhile does not put off the next try.
        let again = self.ill.as_ref().map(|ill| ill.again).filter(|again| *again > Instant::now());
        let (again, pause) = match (again, &self.ill) {
            (Some(again), Some(ill)) => (again, ill.pause),
            _ => (Instant::now() + pause, pause),
        };
        self.ill = Some(Illness { trouble, again, pause });
        self.tell_health();
    }

    /// Where something is wrong and it is time: tries again.
    pub(super) fn mend(&mut self) {
        if self.ill.as_ref().is_none_or(|ill| ill.again > Instant::now()) {
            return;
        }
        match self.try_again() {
            Ok(()) => {
                tracing::info!("the embedded bus can use its file again");
                self.ill = None;
                self.stirred.extend(self.shelves.keys());
                self.tell_health();
                let stuck = std::mem::take(&mut self.stuck);
                self.write(stuck);
            }
            Err(trouble) => self.fall_ill(trouble),
        }
    }

    fn try_again(&mut self) -> Result<(), Trouble> {
        let Some(file) = &self.file else { return self.reopen() };
        // Full: settlements alone may fit, and make room, long before the probe does.
        let stuck = std::mem::take(&mut self.stuck);
        if !stuck.is_empty() {
            file.checkpoint()?;
            self.write(stuck);
        }
        self.file()?.probe()
    }

    fn reopen(&mut self) -> Result<(), Trouble> {
        let file = File::open(&self.path, self.options.max_pages)?;
        let rows = file.queues()?;
        for shelf in self.shelves.values_mut() {
            let Some(row) = rows.iter().find(|row| row.id == shelf.id && row.name == shelf.name) else {
                let text = format!("{} has lost queue {:?}: restore it from a backup", self.path.display(), shelf.name);
                return Err(Trouble::Damaged(text));
            };
            shelf.reset(row);
        }
        self.read_rungs(&file)?;
        self.file = Some(file);
        self.logged = 0;
        Ok(())
    }

    pub(super) fn tell_health(&self) {
        let now = match &self.ill {
            Some(ill) => Health::Down(ill.trouble.text().to_owned()),
            None if self.declared => Health::Ready,
            None => Health::Starting,
        };
        self.health.send_if_modified(|health| {
            let changed = *health != now;
            *health = now;
            changed
        });
    }
}
