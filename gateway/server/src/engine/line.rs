//! Order beyond death: with `on_dead: park` the deliveries behind a dead one of their key become letters too, and go in their
//! order as soon as it has arrived or is discarded.
//!
//! The store holds one line a key: the dead one stands in it before it is dead, whoever comes behind stands in it before it
//! is parked. So whoever consumes next, in whichever gateway, and after whichever crash, sees it. A line says only who waits;
//! whether somebody may go is read from the letters ([`release`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_bus::claims::LOST;
use gatehouse_bus::{Parcel, SettleError};
use gatehouse_core::site::{OnDead, Site, Target};
use gatehouse_store::{Head, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::delivery::order_key;
use super::headers;
use super::letters::Letters;

/// How often the letters are looked at without being told.
const LOOK: Duration = Duration::from_secs(2);

/// How many lines go on at a look.
const AT_ONCE: u32 = 200;

/// Who `release` says it is.
const ACTOR: &str = "gatehouse";

/// The lines of one target.
pub struct Line {
    target: Arc<Target>,
    store: Arc<dyn Store>,
    moved: Arc<Notify>,
}

impl Line {
    /// The lines of this target. `moved` is told when somebody has left one.
    #[must_use]
    pub fn new(target: Arc<Target>, store: Arc<dyn Store>, moved: Arc<Notify>) -> Self {
        Self { target, store, moved }
    }

    /// Who comes before this parcel and is not done; it then stands in line. `dead` puts it there in any case. Parts that
    /// a target refused, and bodies that are lost, have no key to stand in line with.
    pub(super) async fn stand(&self, parcel: &Parcel, dead: bool) -> Result<Option<String>, StoreError> {
        let alone = parcel.header(headers::SHAPED).is_some() || parcel.header(LOST).is_some();
        if alone || self.target.on_dead == OnDead::GoOn {
            return Ok(None);
        }
        let key = order_key(&self.target, parcel);
        self.store.stand_in_line(&self.target.queue, &key, headers::delivery_id(parcel), dead).await
    }

    /// It has arrived.
    pub(super) async fn leave(&self, parcel: &Parcel) -> Result<(), SettleError> {
        if self.target.on_dead == OnDead::Park {
            // Left there it would keep the others waiting for ever: not settled, it comes again.
            self.store
                .leave_line(headers::delivery_id(parcel))
                .await
                .map_err(|error| SettleError(error.to_string()))?;
            if parcel.header(headers::REPLAY).is_some() {
                self.moved.notify_one();
            }
        }
        Ok(())
    }
}

/// Lets the next of each line go, until `stop`.
pub async fn release(
    site: Arc<Site>,
    letters: Arc<Letters>,
    store: Arc<dyn Store>,
    moved: Arc<Notify>,
    stop: CancellationToken,
) {
    let targets = site.routes.iter().flat_map(|route| &route.targets);
    let parking = targets.filter(|target| target.on_dead == OnDead::Park);
    let lines: HashSet<&str> = parking.map(|target| target.queue.as_str()).collect();
    if lines.is_empty() {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = moved.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        loop {
            match step(&lines, &letters, store.as_ref()).await {
                // Behind those that are out of the way somebody may stand who can go.
                Ok(true) if !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "the store cannot tell which parked letters may go");
                    break;
                }
            }
        }
    }
}

/// One look; tells whether somebody was taken out of the way.
async fn step(lines: &HashSet<&str>, letters: &Letters, store: &dyn Store) -> Result<bool, StoreError> {
    let heads = store.heads(AT_ONCE).await?;
    let ours = heads.into_iter().filter(|head| lines.contains(head.line.as_str()));
    let (over, parked): (Vec<Head>, Vec<Head>) = ours.partition(|head| head.over);
    for head in &over {
        store.leave_line(&head.delivery_id).await?;
    }
    let ids: Vec<i64> = parked.iter().map(|head| head.letter).collect();
    // Those that somebody else has claimed are left to them.
    letters.replay(&ids, ACTOR).await?;
    Ok(!over.is_empty())
}
