//! Sources that are read and cannot be told no: their arrivals are kept until the bus or a dead letter has them, and each
//! is read by one gateway at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::adapter::{Arrival, Cursor, Intake, Outcome};
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};
use gatehouse_core::message::delivery_id;
use gatehouse_core::{Value, json};
use gatehouse_store::{Attempt, Held, Letter, NewLetter, Store, StoreError};
use tokio::task::JoinHandle;

use super::delivery::BUS_LIMITS;
use super::intake::{Desk, Once};
use super::ledger::Known;
use super::{crash, letters};

/// Header of a letter: it is an arrival, and these are the words beside its body (`meta`), as JSON.
pub(super) const META: &str = "gatehouse-meta";

/// Header of a letter of a backfilled row: it goes to its route alone, and this is the generation of its deliveries.
const ONCE: &str = "gatehouse-once";

/// How long a gateway that died keeps others from reading its sources.
const LEASE: Duration = Duration::from_secs(15);

/// The first and the longest wait before an arrival is tried again.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What became of an arrival that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It went in.
    Taken(Outcome),
    /// It is a dead letter.
    Buried,
}

/// Where an arrival that is kept goes.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// To every route of its endpoint. Its id was looked up beforehand, with those beside it.
    All(&'a Known),
    /// To one route, once more.
    Once(&'a Once),
}

/// Hands an arrival to the desk until it is durably somewhere.
pub(super) async fn keep(
    desk: &Desk,
    store: &dyn Store,
    instance: &str,
    endpoint: &str,
    arrival: &Arrival,
    way: Way<'_>,
) -> Result<Kept, Fault> {
    crash::point("k13");
    let mut wait = WAITS.0;
    let mut known = if let Way::All(known) = way { Some(known) } else { None };
    loop {
        let outcome = match desk.admit(endpoint) {
            Ok(admission) if arrival.original.len() > admission.limits.body => Err(Fault::new(
                Code::TooLarge,
                format!("it has {} bytes; `limits.body` allows {}", arrival.original.len(), admission.limits.body),
            )),
            Ok(admission) => match way {
                Way::All(_) => desk.accept_known(&admission, arrival, known).await,
                Way::Once(once) => desk.accept_once(admission, arrival.clone(), once).await,
            },
            Err(fault) if fault.code == Code::NotFound => return Err(fault),
            Err(fault) => Err(fault),
        };
        crash::point("k14");
        let fault = match outcome {
            Ok(receipt) => return Ok(Kept::Taken(receipt.outcome)),
            Err(fault) => fault,
        };
        let pause = match fault.verdict {
            Verdict::Reject | Verdict::Hold => {
                let once = if let Way::Once(once) = way { Some(once) } else { None };
                bury(store, instance, endpoint, arrival, &fault, once).await;
                return Ok(Kept::Buried);
            }
            Verdict::RetryAfter(pause) => pause,
            Verdict::Retry => wait,
        };
        if fault.code != Code::Throttled {
            // It may be on the bus all the same, and by the next attempt much time may have passed.
            known = None;
        }
        wait = (wait * 2).min(WAITS.1);
        tokio::time::sleep(pause.clamp(Duration::from_millis(1), WAITS.1)).await;
    }
}

/// Makes a dead letter of an arrival; tries until the store has it.
pub(super) async fn bury(
    store: &dyn Store,
    instance: &str,
    endpoint: &str,
    arrival: &Arrival,
    fault: &Fault,
    once: Option<&Once>,
) {
    let mut wait = WAITS.0;
    while let Err(error) = store.put_letter(letter(arrival, endpoint, instance, fault, once)).await {
        tracing::error!(endpoint, %error, "a dead letter could not be stored; its source waits");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

/// The letter of an arrival that no route takes.
fn letter(arrival: &Arrival, endpoint: &str, instance: &str, fault: &Fault, once: Option<&Once>) -> NewLetter {
    let id = arrival.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let mut text = fault.public.clone();
    for violation in fault.violations.iter().take(5) {
        text.push_str(&format!("; {}: {}", violation.pointer, violation.message));
    }
    let meta = String::from_utf8_lossy(&json::encode(&arrival.meta)).into_owned();
    let mut headers = BTreeMap::from([(META.to_owned(), meta)]);
    headers.extend(once.map(|once| (ONCE.to_owned(), once.generation.to_string())));
    let route = once.map_or("", |once| &once.route);
    NewLetter {
        delivery_id: delivery_id(&id, endpoint, route, "", once.map_or(0, |once| once.generation)),
        message_id: id,
        route: once.map(|once| once.route.clone()),
        target: None,
        source: endpoint.to_owned(),
        kind: None,
        key: arrival.meta.field("key").and_then(Value::to_plain_text),
        cause: fault.code.as_str().to_owned(),
        fingerprint: fault.fingerprint(),
        attempts: vec![Attempt {
            number: 1,
            at: jiff::Timestamp::now(),
            instance: instance.to_owned(),
            code: fault.code.as_str().to_owned(),
            text,
            sent: Some(Exchange::excerpt(&arrival.original)),
            answered: None,
        }],
        headers,
        body: json::encode(&arrival.body).into(),
        content_type: "application/json".to_owned(),
    }
}

/// Sends the arrival of a letter in once more, with the id that it had.
pub(super) async fn again(desk: &Desk, letter: &Letter, meta: &str) -> Result<(), String> {
    let body = json::decode(&letter.body, &BUS_LIMITS).map_err(|error| error.to_string())?;
    let meta = json::decode(meta.as_bytes(), &BUS_LIMITS).map_err(|error| error.to_string())?;
    let arrival = Arrival {
        body,
        document: None,
        id: Some(letter.summary.message_id.clone()),
        meta,
        traceparent: None,
        original: letter.body.clone(),
        content_type: "application/json".into(),
    };
    let endpoint = &letter.summary.source;
    let admission = desk.admit(endpoint).map_err(|fault| fault.public)?;
    let generation = letter.headers.get(ONCE).and_then(|number| number.parse().ok());
    let outcome = match (generation, &letter.summary.route) {
        (Some(generation), Some(route)) => desk.accept_once(admission, arrival, &Once::new(route, generation)).await,
        _ => desk.accept(admission, arrival).await,
    };
    match outcome {
        Ok(_) => Ok(()),
        Err(fault) => {
            let first = fault.violations.first();
            let place = first.map(|first| format!("; {}: {}", first.pointer, first.message)).unwrap_or_default();
            Err(format!("{}{place}", fault.public))
        }
    }
}

/// Waits until no other gateway reads the source.
pub(super) async fn cursor(store: &Arc<dyn Store>, endpoint: &str) -> Result<Box<dyn Cursor>, Fault> {
    loop {
        if let Some(held) = store.take_cursor(endpoint, LEASE).await.map_err(letters::fault)? {
            return Ok(Box::new(Place::hold(store.clone(), endpoint.to_owned(), held)));
        }
        tokio::time::sleep(LEASE / 5).await;
    }
}

/// A place in a source, held until it is dropped.
struct Place {
    store: Arc<dyn Store>,
    name: String,
    held: Held,
    lost: Arc<AtomicBool>,
    keeper: JoinHandle<()>,
}

impl Place {
    fn hold(store: Arc<dyn Store>, name: String, held: Held) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let keeper = {
            let (store, name, epoch, lost) = (store.clone(), name.clone(), held.epoch, lost.clone());
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(LEASE / 3);
                loop {
                    ticks.tick().await;
                    if let Err(StoreError::Conflict(_)) = store.save_cursor(&name, epoch, None, LEASE).await {
                        lost.store(true, Ordering::Release);
                        return;
                    }
                }
            })
        };
        Self { store, name, held, lost, keeper }
    }
}

#[async_trait]
impl Cursor for Place {
    fn value(&self) -> Option<&str> {
        self.held.value.as_deref()
    }

    fn is_held(&self) -> bool {
        !self.lost.load(Ordering::Acquire)
    }

    async fn save(&mut self, value: &str) -> Result<(), Fault> {
        if !self.is_held() {
            return Err(Fault::new(Code::Conflict, format!("another gateway reads `{}` now", self.name)));
        }
        crash::point("k18");
        self.store.save_cursor(&self.name, self.held.epoch, Some(value), LEASE).await.map_err(letters::fault)?;
        self.held.value = Some(value.to_owned());
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeper.abort();
        let (store, name, epoch) = (self.store.clone(), std::mem::take(&mut self.name), self.held.epoch);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Not freed, it is free when the lease has passed.
            runtime.spawn(async move { store.free_cursor(&name, epoch).await });
        }
    }
}
