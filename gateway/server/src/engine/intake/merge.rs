//! Routes with several sources: what one of them says joins what the others said of the same key, and the record that the rules
//! make of it is what goes out.
//!
//! A key is one task's at a time: by a lock within this gateway, by a lease in the store among several. The record is
//! published first and saved then: a gateway that dies in between leaves the state as it was, and the arrival, which was not
//! answered, comes again and makes the same deliveries of it. Their ids come from the record's revision and content.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::merge::{Records, disagreement};
use gatehouse_core::receipt::Outcome;
use gatehouse_core::site::Planned;
use gatehouse_core::{Value, json};
use gatehouse_store::{Held, Store, StoreError};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::{crash, letters};
use super::{Desk, Entrance, Ids, Lane, unavailable};

/// How many keys may be changed at once in one gateway: two keys seldom meet in one place, and then wait for each other.
const PLACES: usize = 256;

/// How long a gateway that died keeps others from a key.
const LEASE: Duration = Duration::from_secs(15);

/// How long a key that another gateway changes is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of what a source said.
pub(super) enum Merged {
    /// It stands, and the record is on its way where it changed.
    Taken(Outcome),
    /// It stands, but no record can be made of it and the others': a person must look.
    Apart(Fault),
}

/// The merged records of all routes.
pub(super) struct Merges {
    store: Arc<dyn Store>,
    places: Vec<Mutex<()>>,
}

impl Merges {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, places: (0..PLACES).map(|_| Mutex::new(())).collect() }
    }

    /// Waits until nobody else changes the record of a key.
    async fn hold(&self, route: &str, key: &str) -> Result<Golden<'_>, Fault> {
        let mut hasher = DefaultHasher::new();
        (route, key).hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % PLACES as u64).unwrap_or(0);
        let place = match self.places.get(at) {
            Some(place) => place.lock().await,
            None => return Err(Fault::new(Code::Internal, "there is no such place")),
        };
        let (deadline, mut wait) = (Instant::now() + PATIENCE, Duration::from_millis(10));
        let held = loop {
            match self.store.take_merged(route, key, LEASE).await.map_err(letters::fault)? {
                Some(held) => break held,
                None if Instant::now() >= deadline => return Err(unavailable("another gateway changes this record")),
                None => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(200));
                }
            }
        };
        let mut golden = Golden {
            store: self.store.clone(),
            route: route.to_owned(),
            key: key.to_owned(),
            held: Some(held.epoch),
            state: State::default(),
            _place: place,
        };
        golden.state = State::read(&held)?;
        Ok(golden)
    }
}

/// A record that nobody else changes until this is dropped.
struct Golden<'a> {
    store: Arc<dyn Store>,
    route: String,
    key: String,
    /// The epoch, until it is saved.
    held: Option<i64>,
    state: State,
    _place: MutexGuard<'a, ()>,
}

impl Golden<'_> {
    async fn save(mut self) -> Result<(), Fault> {
        let Some(epoch) = self.held else { return Ok(()) };
        self.store.save_merged(&self.route, &self.key, epoch, &self.state.text()).await.map_err(
            |error| match error {
                StoreError::Conflict(reason) => unavailable("another gateway has changed this record").private(reason),
                other => letters::fault(other),
            },
        )?;
        self.held = None;
        Ok(())
    }
}

impl Drop for Golden<'_> {
    fn drop(&mut self) {
        let (Some(epoch), Ok(runtime)) = (self.held.take(), tokio::runtime::Handle::try_current()) else { return };
        let (store, route, key) = (self.store.clone(), std::mem::take(&mut self.route), std::mem::take(&mut self.key));
        // Not freed, it is free when the lease has passed.
        runtime.spawn(async move { store.free_merged(&route, &key, epoch).await });
    }
}

/// What stands in the store for a key.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// How many records went out.
    revision: i64,
    /// SHA-256 of the last of them.
    sent: Option<String>,
    records: Records,
}

impl State {
    fn read(held: &Held) -> Result<Self, Fault> {
        let Some(text) = &held.value else { return Ok(Self::default()) };
        let limits =
            BodyLimits { bytes: 256 << 20, nodes: 10_000_000, text: 64 << 20, depth: 80, ..BodyLimits::default() };
        let damaged = || {
            let text = "the merged record in the store cannot be read; a newer gateway may have written it";
            Fault::new(Code::Unavailable, text).verdict(Verdict::RetryAfter(LEASE))
        };
        let value = json::decode(text.as_bytes(), &limits).map_err(|_| damaged())?;
        if value.field("v") != Some(&Value::from(1)) {
            return Err(damaged());
        }
        let records = value.field("records").and_then(Value::as_map).ok_or_else(damaged)?;
        Ok(Self {
            revision: value
                .field("revision")
                .and_then(Value::as_number)
                .and_then(|n| n.to_i64())
                .ok_or_else(damaged)?,
            sent: value.field("sent").and_then(Value::as_text).map(str::to_owned),
            records: records.iter().map(|(source, body)| (source.to_string(), body.clone())).collect(),
        })
    }

    fn text(&self) -> String {
        let records: Value = self.records.iter().map(|(source, body)| (source.clone(), body.clone())).collect();
        let sent = self.sent.as_deref().map_or(Value::Null, Value::from);
        let fields =
            [("v", Value::from(1)), ("revision", Value::from(self.revision)), ("sent", sent), ("records", records)];
        let value: Value = fields.into_iter().collect();
        String::from_utf8_lossy(&json::encode(&value)).into_owned()
    }
}

impl Desk {
    /// Takes up what a source says of a key, and sends the merged record out where it changed. `generation` is not 0 where an
    /// operator wants it once more all the same.
    pub(super) async fn merge(
        &self,
        entrance: &Entrance,
        lane: &Lane,
        said: &Planned,
        id: &str,
        traceparent: Option<&str>,
        generation: u32,
    ) -> Result<Merged, Fault> {
        let Some(merge) = &lane.route.merge else { return Ok(Merged::Taken(Outcome::Dropped)) };
        let key = merge.key(&said.body)?;
        let mut golden = self.merges.hold(&lane.route.name, &key).await?;
        let changed = merge.join(&mut golden.state.records, &entrance.name, said.body.clone());
        let merged = merge.merged(&golden.state.records).map_err(|conflicts| disagreement(&conflicts));
        let merged = match merged.and_then(|body| lane.route.judge(body)) {
            Ok(merged) => merged,
            Err(mut fault) => {
                if changed {
                    golden.save().await?;
                }
                fault.public = format!("record `{key}` cannot be merged: {}", fault.public);
                return Ok(Merged::Apart(fault.verdict(Verdict::Reject)));
            }
        };
        let sent = hex::encode(Sha256::digest(json::encode(&merged.body)));
        // What changed is sent even where the record came out the same: a gateway may have died after it had published one that
        // nobody saved, and whose arrival was overtaken by this one.
        if generation == 0 && !changed && golden.state.sent.as_deref() == Some(&sent) {
            return Ok(Merged::Taken(Outcome::Repeated));
        }
        golden.state.revision += 1;
        let publication = publication(&key, golden.state.revision, &sent);
        let mut publishes = Vec::new();
        let ids = Ids { message: id, delivery: &publication, source: "", generation };
        self.outgoing(entrance, lane, &merged, ids, traceparent, &mut publishes);
        let outcome = if publishes.is_empty() { Outcome::Dropped } else { Outcome::Accepted };
        self.publish(publishes).await?;
        crash::point("k16");
        golden.state.sent = Some(sent);
        golden.save().await?;
        Ok(Merged::Taken(outcome))
    }
}

/// What one publication of a record is called, whichever source's arrival it was that made it.
fn publication(key: &str, revision: i64, sent: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(revision.to_be_bytes());
    hash.update(sent);
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was_saved() {
        let body =
            json::decode(br#"{"no":12345678901234567890,"amount":1.50,"name":"\u5f20\u4e09"}"#, &BodyLimits::default());
        let state = State {
            revision: 7,
            sent: Some("ab".into()),
            records: [("crm/c".to_owned(), body.unwrap())].into_iter().collect(),
        };
        let held = Held { epoch: 1, value: Some(state.text()) };
        assert_eq!(State::read(&held).unwrap(), state);
        assert_eq!(State::read(&Held { epoch: 1, value: None }).unwrap(), State::default());
        let newer = Held { epoch: 1, value: Some("{\"v\":2}".into()) };
        assert!(State::read(&newer).unwrap_err().public.contains("newer gateway"));
    }
}
