//! Dead letters: from the bus into the store, and back to their target when somebody replays them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gatehouse_bus::{Bus, Headers, Parcel};
use gatehouse_core::fault::{Code, Fault, Violation};
use gatehouse_core::json;
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::schema::Type;
use gatehouse_core::site::Site;
use gatehouse_store::{Letter, Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::crash;
use super::headers;
use super::intake::Desk;
use super::pull;

/// Unsettled dead parcels.
const PREFETCH: u16 = 64;

/// How long a claim lasts: within this time a replay is published, or the letter can be claimed again.
const LEASE: Duration = Duration::from_secs(30);

/// Letters that are claimed, whole, at a time: a gateway that dies in a replay leaves no more of them to wait for the lease.
const CLAIMED_AT_ONCE: usize = 2;

/// How long a replay's confirm may take.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);

/// Moves what arrives on a dead queue into the store. A parcel is settled only after the store has it, durably.
pub async fn index(
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    queue: &'static str,
    cause: &'static str,
    instance: Arc<str>,
    stop: CancellationToken,
) {
    let mut wait = Duration::from_millis(200);
    loop {
        let consumer = tokio::select! {
            () = stop.cancelled() => return,
            consumer = bus.consume(queue, PREFETCH) => consumer,
        };
        if let Ok(mut consumer) = consumer {
            loop {
                let delivered = tokio::select! {
                    () = stop.cancelled() => return,
                    delivered = consumer.next() => delivered,
                };
                let Some(delivered) = delivered else { break };
                let letter = headers::letter(&delivered.parcel, cause, &instance);
                match store.put_letter(letter).await {
                    Ok(_) => {
                        crash::point("k11");
                        // Not settled, it comes again, and putting the same letter twice changes nothing.
                        let _ = delivered.settlement.done().await;
                        wait = Duration::from_millis(200);
                    }
                    Err(error) => {
                        // Everything in our hands goes back to the queue, which is durable; the store is tried again later.
                        tracing::error!(queue, %error, "a dead letter could not be stored; it waits on the bus");
                        break;
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(10)),
        }
    }
}

/// What support staff do with letters.
pub struct Letters {
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    /// Queue by route and target.
    queues: HashMap<(String, String), String>,
    types: HashMap<String, Arc<Type>>,
    desk: OnceLock<Arc<Desk>>,
}

/// What became of one letter in a replay.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Replayed {
    /// The letter.
    pub id: i64,
    /// On its way again; else why not.
    pub refused: Option<String>,
}

impl Letters {
    /// For a checked site.
    #[must_use]
    pub fn new(site: &Site, bus: Arc<dyn Bus>, store: Arc<dyn Store>) -> Self {
        let of = |route: &Arc<gatehouse_core::site::Route>| {
            let name = route.name.clone();
            route
                .targets
                .iter()
                .map(move |target| ((name.clone(), target.name.clone()), target.queue.clone()))
                .collect::<Vec<_>>()
        };
        let queues = site.routes.iter().filter(|route| !route.request).flat_map(of).collect();
        let types = site.types.iter().map(|(name, kind)| (name.clone(), kind.clone())).collect();
        Self { bus, store, queues, types, desk: OnceLock::new() }
    }

    /// Where letters of arrivals that never became a message go when they are replayed. Said once, at start.
    pub fn sends_in_through(&self, desk: Arc<Desk>) {
        let _ = self.desk.set(desk);
    }

    /// The store that holds them.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Sends open letters again, each to the target that it failed at, with the delivery id that it had. Letters that
    /// somebody else has claimed meanwhile are left alone and told.
    ///
    /// # Errors
    /// The store cannot be reached: nothing more was claimed.
    pub async fn replay(&self, ids: &[i64], actor: &str) -> Result<Vec<Replayed>, StoreError> {
        let mut outcomes = Vec::with_capacity(ids.len());
        for some in ids.chunks(CLAIMED_AT_ONCE) {
            outcomes.extend(self.replay_some(some, actor).await?);
        }
        Ok(outcomes)
    }

    async fn replay_some(&self, ids: &[i64], actor: &str) -> Result<Vec<Replayed>, StoreError> {
        let claimed = self.store.claim(ids, actor, LEASE).await?;
        let mut outcomes = Vec::with_capacity(ids.len());
        for id in ids.iter().filter(|id| !claimed.iter().any(|letter| letter.summary.id == **id)) {
            outcomes.push(Replayed {
                id: *id,
                refused: Some("it is not open: somebody else has it, or it is settled".to_owned()),
            });
        }
        for letter in claimed {
            let id = letter.summary.id;
            let arrival = letter.headers.contains_key(pull::META).then(|| letter.summary.delivery_id.clone());
            let refused = match self.publish(letter).await {
                Ok(()) if arrival.is_some() => {
                    // It is a message now, and the letter of the arrival is done with.
                    self.store.resolve(&arrival.unwrap_or_default()).await?;
                    None
                }
                Ok(()) => {
                    crash::point("k12");
                    self.store.mark_published(id).await?;
                    None
                }
                Err(reason) => {
                    self.store.release(id).await?;
                    Some(reason)
                }
            };
            outcomes.push(Replayed { id, refused });
        }
        outcomes.sort_by_key(|outcome| outcome.id);
        Ok(outcomes)
    }

    async fn publish(&self, letter: Letter) -> Result<(), String> {
        let summary = &letter.summary;
        if let (Some(meta), Some(desk)) = (letter.headers.get(pull::META), self.desk.get()) {
            return pull::again(desk, &letter, meta).await;
        }
        let (Some(route), Some(target)) = (&summary.route, &summary.target) else {
            return Err("it never got as far as a target: mend the cause and let its source send it again".to_owned());
        };
        let Some(queue) = self.queues.get(&(route.clone(), target.clone())) else {
            return Err(format!("the site has no target `{target}` on route `{route}` any more"));
        };
        let mut travelling: Headers = letter.headers.into_iter().collect();
        headers::forget_attempts(&mut travelling);
        if summary.revision > 0 {
            // The body that was lost is not the one that goes now.
            travelling.retain(|name, _| ![gatehouse_bus::claims::CLAIM, gatehouse_bus::claims::LOST].contains(&name));
        }
        travelling.insert(headers::REPLAY, summary.id.to_string());
        let made = letter.attempts.last().map_or(0, |attempt| attempt.number);
        travelling.insert(headers::BEFORE, made.to_string());
        let parcel = Parcel {
            id: summary.delivery_id.clone(),
            content_type: letter.content_type,
            headers: travelling,
            body: letter.body,
        };
        self.bus.publish(queue, parcel, PUBLISH_DEADLINE).await.map_err(|error| error.to_string())
    }

    /// Gives an open letter a new body, judged by its type first.
    ///
    /// # Errors
    /// `Malformed` or `Invalid` with pointers; `Conflict` where it was edited meanwhile; `NotFound`; `Unavailable`.
    pub async fn edit(&self, id: i64, revision: u32, body: &[u8], actor: &str) -> Result<(), Fault> {
        let letter = self.store.letter(id).await.map_err(fault)?;
        let value = json::decode(body, &BodyLimits::default()).map_err(|error| {
            let violation = Violation {
                pointer: format!("line {}, column {}", error.line, error.column),
                message: error.reason.clone(),
            };
            Fault::new(Code::Malformed, "the new body is no JSON").violations(vec![violation])
        })?;
        // A part of a delivery is in its target's shape, which no type describes: the target judges it.
        let shaped = letter.headers.contains_key(headers::SHAPED);
        if let Some(kind) = letter.summary.kind.as_ref().and_then(|kind| self.types.get(kind)).filter(|_| !shaped) {
            kind.validate(&value).map_err(|violations| {
                Fault::new(Code::Invalid, format!("the new body is no `{}`", kind.name())).violations(violations)
            })?;
        }
        self.store.edit(id, revision, json::encode(&value).into(), actor).await.map_err(fault)
    }
}

/// A store's error as a fault.
#[must_use]
pub fn fault(error: StoreError) -> Fault {
    match error {
        StoreError::Missing(_) | StoreError::MissingBackfill(_) => Fault::new(Code::NotFound, error.to_string()),
        StoreError::Conflict(_) => Fault::new(Code::Conflict, error.to_string()),
        StoreError::Unavailable(_) | StoreError::Damaged(_) => Fault::new(Code::Unavailable, error.to_string()),
    }
}
