//! Takes arrivals in: rate, id, mapping, type, routes, one confirmed publish a target. Only then is there a receipt.

mod merge;
mod once;
mod piece;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use gatehouse_bus::{Bus, Health, Parcel, PublishError, RequestError};
use gatehouse_core::adapter::{Admission, Arrival, Backfill, Behind, Cursor, Intake, Outcome, Passed, Receipt, Wants};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::message::{Message, delivery_id};
use gatehouse_core::site::{Planned, Route, Site, Unrouted};
use gatehouse_core::{Value, json};
use gatehouse_store::Store;
use tokio::sync::watch;

use super::backfill::Backfills;
use super::crash;
use super::direct::Direct;
use super::headers;
use super::ledger::{Accepting, Claim, Known, Ledger};
use super::metrics::{Metrics, TargetMetrics};
use super::passed;
use super::pull;
use super::system::SystemRuntime;
use super::trace::{Kind, Tracer};
use merge::{Merged, Merges};
pub use once::Once;

/// How long a confirm may take before the outcome is called unknown.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(5);

/// What a caller is told to wait while the bus cannot take anything.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The engine's intake.
pub struct Desk {
    bus: Arc<dyn Bus>,
    health: watch::Receiver<Health>,
    ledger: Ledger,
    store: Arc<dyn Store>,
    instance: Arc<str>,
    /// What readers of sources have told, by endpoint.
    told: Mutex<HashMap<String, Vec<String>>>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    backfills: Arc<Backfills>,
    direct: Direct,
    merges: Merges,
    endpoints: HashMap<String, Entrance>,
}

/// What a message and its deliveries are called.
#[derive(Clone, Copy)]
struct Ids<'a> {
    message: &'a str,
    /// What the ids of its deliveries come from, within `source`.
    delivery: &'a str,
    source: &'a str,
    generation: u32,
}

/// One inbound endpoint and the routes that it feeds.
struct Entrance {
    name: Arc<str>,
    system: Arc<SystemRuntime>,
    endpoint: String,
    routes: Vec<Lane>,
    wants: Wants,
    seconds: prometheus::Histogram,
}

/// A route with the handles of its targets' numbers, in their order.
struct Lane {
    route: Arc<Route>,
    metrics: Vec<TargetMetrics>,
}

impl Desk {
    /// For a checked site.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "wiring: each is used once, here")]
    pub fn new(
        site: &Site,
        systems: &HashMap<String, Arc<SystemRuntime>>,
        bus: Arc<dyn Bus>,
        ledger: Ledger,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        tracer: Tracer,
        backfills: Arc<Backfills>,
        direct: Direct,
    ) -> Self {
        let mut endpoints = HashMap::new();
        for system in systems.values() {
            for endpoint in system.system.endpoints() {
                let name = format!("{}/{}", system.system.name(), endpoint.name);
                let lane = |route: &Arc<Route>| Lane {
                    metrics: route.targets.iter().map(|target| metrics.target(&route.name, &target.name)).collect(),
                    route: route.clone(),
                };
                let entrance = Entrance {
                    name: name.as_str().into(),
                    system: system.clone(),
                    endpoint: endpoint.name.clone(),
                    routes: site.routes_from(&name).map(lane).collect(),
                    wants: wants(site.routes_from(&name)),
                    seconds: metrics.accept_seconds(&name),
                };
                endpoints.insert(name, entrance);
            }
        }
        let instance = site.gateway.name.as_str().into();
        let (health, told, merges) = (bus.health(), Mutex::default(), Merges::new(store.clone()));
        Self { bus, health, ledger, store, instance, told, metrics, tracer, backfills, direct, merges, endpoints }
    }

    fn entrance(&self, endpoint: &str) -> Result<&Entrance, Fault> {
        let entrance = self.endpoints.get(endpoint).filter(|entrance| !entrance.routes.is_empty());
        entrance.ok_or_else(|| Fault::new(Code::NotFound, format!("no route takes messages from `{endpoint}`")))
    }

    async fn take(
        &self,
        entrance: &Entrance,
        arrival: &Arrival,
        traceparent: Option<&str>,
        known: Option<&Known>,
    ) -> Result<Receipt, Fault> {
        let id = match &arrival.id {
            Some(id) => check_id(id)?.to_owned(),
            None => uuid::Uuid::now_v7().to_string(),
        };
        self.take_with_id(entrance, arrival, &id, traceparent, known).await.map_err(|fault| fault.about(id))
    }

    async fn take_with_id(
        &self,
        entrance: &Entrance,
        arrival: &Arrival,
        id: &str,
        traceparent: Option<&str>,
        known: Option<&Known>,
    ) -> Result<Receipt, Fault> {
        let receipt = |outcome| Receipt { message_id: id.to_owned(), outcome, reply: None, passed: None };
        let mut accepting: Option<Accepting> = None;
        let waits = entrance.routes.iter().any(|lane| lane.route.request);
        if arrival.id.is_some() && !waits {
            match self.ledger.claim(&entrance.name, id, &arrival.original, known).await? {
                Claim::New(claim) => accepting = Some(claim),
                Claim::Repeated => return Ok(receipt(Outcome::Repeated)),
            }
        }
        // Every route judges it before anything is sent: an arrival is taken whole or not at all.
        let mut planned = Vec::with_capacity(entrance.routes.len());
        for lane in &entrance.routes {
            let plan = lane.route.plan(&arrival.body, arrival.document.as_ref(), &arrival.meta)?;
            if plan.targets.is_empty() && lane.route.merge.is_none() && lane.route.unrouted == Unrouted::Reject {
                return Err(Fault::new(
                    Code::Unrouted,
                    format!("no target of route `{}` wants this message", lane.route.name),
                ));
            }
            planned.push((lane, plan));
        }
        crash::point("k1");
        if let Some((lane, plan)) = planned.iter().find(|(lane, _)| lane.route.request) {
            return self.ask(entrance, lane, plan, arrival, traceparent, receipt(Outcome::Accepted)).await;
        }
        let mut publishes = Vec::new();
        let ids = Ids { message: id, delivery: id, source: &entrance.name, generation: 0 };
        for (lane, plan) in planned.iter().filter(|(lane, _)| lane.route.merge.is_none()) {
            self.outgoing(entrance, lane, plan, ids, traceparent, &mut publishes);
        }
        let mut outcome = if publishes.is_empty() { Outcome::Dropped } else { Outcome::Accepted };
        self.publish(publishes).await?;
        let mut whole = true;
        for (lane, plan) in planned.iter().filter(|(lane, _)| lane.route.merge.is_some()) {
            match self.merge(entrance, lane, plan, id, traceparent, 0).await? {
                Merged::Taken(taken) if outcome == Outcome::Dropped => outcome = taken,
                Merged::Taken(_) => {}
                Merged::Apart(fault) => {
                    // It stands, and the letter says what keeps it from going on; a replay looks again.
                    self.bury_once(&entrance.name, &named(lane, arrival, id), &fault, &Once::new(&lane.route.name, 0))
                        .await;
                    (whole, outcome) = (false, Outcome::Accepted);
                }
            }
        }
        crash::point("k3");
        if let Some(accepting) = accepting.filter(|_| whole) {
            accepting.accepted().await;
        }
        Ok(receipt(outcome))
    }

    /// As [`Intake::accept`], with what is known of its id where a whole piece was looked up. What a source is asked for is
    /// bounded by the piece, and takes no place among those that come by themselves.
    pub(super) async fn accept_known(
        &self,
        admission: &Admission,
        arrival: &Arrival,
        known: Option<&Known>,
    ) -> Result<Receipt, Fault> {
        let started = Instant::now();
        let entrance = self.entrance(&admission.endpoint)?;
        let span = self.tracer.start(Kind::Server, &admission.endpoint, arrival.traceparent.as_deref());
        let own = span.as_ref().map(super::trace::Span::traceparent);
        let traceparent = own.as_deref().or(arrival.traceparent.as_deref());
        let _place = match entrance.system.endpoint(&entrance.endpoint).filter(|_| known.is_none()) {
            Some(runtime) => entrance.system.place(runtime).await,
            None => None,
        };
        let outcome = self.take(entrance, arrival, traceparent, known).await;
        entrance.seconds.observe(started.elapsed().as_secs_f64());
        let word = match &outcome {
            Ok(receipt) => match receipt.outcome {
                Outcome::Accepted => "accepted",
                Outcome::Repeated => "repeated",
                Outcome::Dropped => "dropped",
            },
            Err(fault) => fault.code.as_str(),
        };
        self.metrics.received(&admission.endpoint, word);
        if let Some(span) = span {
            span.end(outcome.as_ref().err());
        }
        outcome
    }

    /// The parcels that a planned message becomes.
    fn outgoing<'a>(
        &self,
        entrance: &Entrance,
        lane: &'a Lane,
        plan: &Planned,
        ids: Ids<'_>,
        traceparent: Option<&str>,
        publishes: &mut Vec<(String, Parcel, Option<&'a TargetMetrics>)>,
    ) {
        let body: Bytes = json::encode(&plan.body).into();
        let message = message(entrance, lane, plan, ids.message, traceparent);
        let parcel = |target: &str| {
            let delivery = delivery_id(ids.delivery, ids.source, &lane.route.name, target, ids.generation);
            headers::parcel(&message, body.clone(), &lane.route.name, target, &delivery)
        };
        if plan.targets.is_empty() && lane.route.unrouted == Unrouted::Dead {
            let mut parcel = parcel("");
            parcel.headers.remove(headers::TARGET);
            let fault = Fault::new(Code::Unrouted, "no target of the route wants this message");
            headers::record_death(&mut parcel, &fault);
            publishes.push((gatehouse_bus::DEAD.to_owned(), parcel, None));
        }
        for target in &plan.targets {
            let index = lane.route.targets.iter().position(|other| other.name == target.name);
            let metrics = index.and_then(|index| lane.metrics.get(index));
            publishes.push((target.queue.clone(), parcel(&target.name), metrics));
        }
    }

    async fn publish(&self, publishes: Vec<(String, Parcel, Option<&TargetMetrics>)>) -> Result<(), Fault> {
        let confirms = publishes.into_iter().map(async |(queue, parcel, metrics)| {
            let outcome = self.bus.publish(&queue, parcel, PUBLISH_DEADLINE).await;
            if let (Ok(()), Some(metrics)) = (&outcome, metrics) {
                metrics.published.inc();
            }
            outcome
        });
        let outcomes = join_all(confirms).await;
        crash::point("k2");
        // The worst outcome speaks for all: a repeat with the same id sends the same delivery ids.
        let worst =
            outcomes.into_iter().filter_map(Result::err).max_by_key(|error| matches!(error, PublishError::Unknown(_)));
        match worst {
            None => Ok(()),
            Some(PublishError::Unknown(reason)) => {
                Err(Fault::new(Code::Unknown, "it may have been accepted: send it again with this message id")
                    .private(reason)
                    .verdict(Verdict::RetryAfter(RETRY_AFTER)))
            }
            Some(PublishError::Refused(reason) | PublishError::Unavailable(reason)) => {
                Err(unavailable("the bus cannot take it now").private(reason))
            }
        }
    }

    /// A request-reply route: asks the target that wants it, and waits; the receipt gets its answer.
    async fn ask(
        &self,
        entrance: &Entrance,
        lane: &Lane,
        plan: &Planned,
        arrival: &Arrival,
        traceparent: Option<&str>,
        receipt: Receipt,
    ) -> Result<Receipt, Fault> {
        let Some(target) = plan.targets.first() else {
            return Err(Fault::new(
                Code::Unrouted,
                format!("no target of route `{}` wants this message", lane.route.name),
            ));
        };
        let id = &receipt.message_id;
        let passed = lane.route.pass.is_some().then(|| {
            let content_type = Some(arrival.content_type.clone().into_owned()).filter(|name| !name.is_empty());
            (Passed { body: arrival.original.clone(), content_type, status: None }, arrival.meta.clone())
        });
        let mut message = message(entrance, lane, plan, id, traceparent);
        let delivery = delivery_id(id, &entrance.name, &lane.route.name, &target.name, 0);
        let deadline = entrance
            .system
            .endpoint(&entrance.endpoint)
            .map_or(Duration::from_secs(30), |endpoint| endpoint.limits.timeout);
        let carrier = self.direct.get(&target.queue);
        if let Some((carrier, place)) = carrier.and_then(|carrier| Some((carrier, carrier.free()?))) {
            if passed.is_none() {
                message.data = plan.body.clone();
            }
            let asked = carrier.ask(place, &message, passed.as_ref(), &delivery, deadline).await;
            // A caller hears no more of a fault than one whose answer comes over the bus.
            let told = |fault: Fault| Fault::new(answer_code(fault.code.as_str()), fault.public);
            let reply = asked.map_err(told)?;
            if reply.passed.is_some() {
                return Ok(Receipt { passed: reply.passed, ..receipt });
            }
            return Ok(Receipt { reply: Some(shaped(lane, reply.body)?), ..receipt });
        }
        let body = if passed.is_some() { Bytes::new() } else { json::encode(&plan.body).into() };
        let mut parcel = headers::parcel(&message, body, &lane.route.name, &target.name, &delivery);
        if let Some((passed, meta)) = &passed {
            passed::put(&mut parcel, passed, meta);
        }
        let answer = self.bus.request(&target.queue, parcel, deadline).await.map_err(|error| match error {
            RequestError::Unavailable(reason) => unavailable("nobody can answer now").private(reason),
            RequestError::Deadline => late(),
        })?;
        if let Some(code) = answer.header(headers::FAULT) {
            let text = answer.header(headers::FAULT_TEXT).unwrap_or("the target refused it");
            return Err(Fault::new(answer_code(code), text));
        }
        if let Some((passed, _)) = passed::take(&answer) {
            return Ok(Receipt { passed: Some(passed), ..receipt });
        }
        let reply =
            json::decode(&answer.body, &BodyLimits { bytes: 64 << 20, ..BodyLimits::default() }).map_err(|error| {
                Fault::new(Code::Internal, "the answer was damaged on its way").private(error.to_string())
            })?;
        Ok(Receipt { reply: Some(shaped(lane, reply)?), ..receipt })
    }
}

/// A target's answer as the route's `reply` has it.
fn shaped(lane: &Lane, reply: Value) -> Result<Value, Fault> {
    let Some(map) = &lane.route.reply else { return Ok(reply) };
    map.apply(&reply, &gatehouse_core::expr::Scope::new()).map_err(|violations| {
        let text = format!("mapping `{}` refuses the target's answer", map.name());
        Fault::new(Code::BadAnswer, text).violations(violations)
    })
}

#[async_trait]
impl Intake for Desk {
    fn admit(&self, endpoint: &str) -> Result<Admission, Fault> {
        let entrance = self.entrance(endpoint)?;
        let runtime = entrance.system.endpoint(&entrance.endpoint);
        let runtime =
            runtime.ok_or_else(|| Fault::new(Code::NotFound, format!("there is no endpoint `{endpoint}`")))?;
        if let Health::Ready = &*self.health.borrow() {
        } else {
            self.metrics.received(endpoint, Code::Unavailable.as_str());
            return Err(unavailable("the bus cannot take messages now"));
        }
        match entrance.system.admit(runtime) {
            Ok(remaining) => Ok(Admission {
                endpoint: entrance.name.clone(),
                limits: runtime.limits,
                remaining,
                wants: entrance.wants.clone(),
            }),
            Err(wait) => {
                self.metrics.received(endpoint, Code::Throttled.as_str());
                Err(Fault::new(Code::Throttled, "over the rate that this system may send")
                    .verdict(Verdict::RetryAfter(wait)))
            }
        }
    }

    async fn accept(&self, admission: Admission, arrival: Arrival) -> Result<Receipt, Fault> {
        self.accept_known(&admission, &arrival, None).await
    }

    async fn keep(&self, endpoint: &str, lines: Vec<Vec<Arrival>>) -> Result<(), Fault> {
        self.keep_piece(endpoint, lines).await
    }

    async fn cursor(&self, endpoint: &str) -> Result<Box<dyn Cursor>, Fault> {
        pull::cursor(&self.store, endpoint).await
    }

    async fn bury(&self, endpoint: &str, arrival: Arrival, fault: Fault) {
        pull::bury(self.store.as_ref(), &self.instance, endpoint, &arrival, &fault, None).await;
    }

    fn backfill(&self, endpoint: &str) -> Option<Arc<dyn Backfill>> {
        self.backfills.of(endpoint).map(|job| job as Arc<dyn Backfill>)
    }

    fn behind(&self, endpoint: &str, behind: Behind) {
        self.metrics.behind(endpoint, &behind);
        let Ok(mut told) = self.told.lock() else { return };
        let before = told.insert(endpoint.to_owned(), behind.notes.clone()).unwrap_or_default();
        for note in behind.notes.iter().filter(|note| !before.contains(note)) {
            tracing::warn!(endpoint, "{note}");
        }
    }
}

/// What an endpoint's routes want of its arrivals.
fn wants<'a>(routes: impl Iterator<Item = &'a Arc<Route>>) -> Wants {
    let mut wants = Wants { document: false, ..Wants::default() };
    for route in routes {
        wants.document |= route.map.as_ref().is_some_and(|map| map.reads_namespaces());
        // A caller who waits feeds one route only.
        if let Some(reading) = &route.pass {
            (wants.body, wants.as_it_came) = (reading.clone(), true);
        }
    }
    wants
}

fn message(entrance: &Entrance, lane: &Lane, plan: &Planned, id: &str, traceparent: Option<&str>) -> Message {
    Message {
        id: id.to_owned(),
        source: entrance.name.to_string(),
        kind: lane.route.kind.name().to_owned(),
        subject: None,
        time: jiff::Timestamp::now(),
        data_schema: lane.route.kind.data_schema().map(str::to_owned),
        key: plan.key.clone(),
        correlation: Some(id.to_owned()),
        causation: None,
        traceparent: traceparent.map(str::to_owned),
        data: Value::Null,
    }
}

/// An arrival with the id that its message has.
fn named(lane: &Lane, arrival: &Arrival, id: &str) -> Arrival {
    // A letter holds a value, not a document: with all that the route's mapping would have read in that.
    let body = match &lane.route.map {
        Some(map) => map.seen(&arrival.body, arrival.document.as_ref()).into_owned(),
        None => arrival.body.clone(),
    };
    Arrival { id: Some(id.to_owned()), body, document: None, ..arrival.clone() }
}

/// An id that a caller chose: 1 to 255 visible ASCII characters, as HTTP's `Idempotency-Key` and AMQP's `message-id` carry.
fn check_id(id: &str) -> Result<&str, Fault> {
    if (1..=255).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(id);
    }
    Err(Fault::new(Code::Malformed, "a message id has 1 to 255 visible ASCII characters and no spaces"))
}

/// A caller has waited as long as it may.
pub(super) fn late() -> Fault {
    Fault::new(Code::Deadline, "no answer came in time; it may still be worked on")
}

fn unavailable(text: &str) -> Fault {
    Fault::new(Code::Unavailable, text).verdict(Verdict::RetryAfter(RETRY_AFTER))
}

/// The code of a fault that came back over the bus.
fn answer_code(word: &str) -> Code {
    let known = [
        Code::Invalid,
        Code::Unavailable,
        Code::Unknown,
        Code::Deadline,
        Code::Unreachable,
        Code::BadAnswer,
        Code::Misconfigured,
    ];
    known.into_iter().find(|code| code.as_str() == word).unwrap_or(Code::Refused)
}
