//! One attempt at one delivery: recognise, shape, pace, deliver under a deadline, settle. The path on which a message
//! could be lost or doubled; each step says why it is where it is.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use gatehouse_bus::claims::LOST;
use gatehouse_bus::{Delivered, Parcel, SettleError, Settlement};
use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Passed, Refused, Reply};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::message::Message;
use gatehouse_core::site::{Route, Target, outbound_body};
use gatehouse_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::circuit::State;
use super::crash;
use super::headers;
use super::kept::Kept;
use super::ledger::Ledger;
use super::line::Line;
use super::metrics::TargetMetrics;
use super::passed;
use super::system::{Places, SystemRuntime};
use super::trace::{Kind, Tracer};

/// The longest wait that a target can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The longest that a delivery with order is held between two attempts; RabbitMQ takes back what is held for 30 minutes.
const MAX_HELD: Duration = Duration::from_secs(600);

/// What was on the bus is ours and was capped when it came in; this only guards against a foreign parcel.
pub(super) const BUS_LIMITS: BodyLimits =
    BodyLimits { bytes: 64 << 20, depth: 128, keys: 100_000, nodes: 10_000_000, text: 64 << 20 };

pub(super) fn order_key(target: &Target, parcel: &Parcel) -> String {
    let Some(path) = &target.order_by else { return String::new() };
    let body = gatehouse_core::json::decode(&parcel.body, &BUS_LIMITS).ok();
    body.and_then(|body| path.find(&body).and_then(gatehouse_core::Value::to_plain_text)).unwrap_or_default()
}

/// Carries deliveries to one target.
pub struct Carrier {
    /// The route.
    pub route: Arc<Route>,
    /// The target.
    pub target: Arc<Target>,
    /// Its system.
    pub system: Arc<SystemRuntime>,
    /// What is known to be done.
    pub ledger: Ledger,
    /// Where replayed letters are resolved.
    pub store: Arc<dyn Store>,
    /// What it counts.
    pub metrics: TargetMetrics,
    /// Who makes the attempt.
    pub instance: Arc<str>,
    /// Where its spans go.
    pub tracer: Tracer,
    /// What deliveries with order have been through that were given back.
    pub kept: Kept,
    /// Who waits for whom, where those behind a dead one are parked.
    pub line: Line,
}

/// How a delivery with order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// Settled: the next of its key may go.
    Settled,
    /// Given back to the queue: everything behind it must go back too.
    GivenBack,
}

/// What one attempt came to.
enum Attempted {
    /// The target took it, now or before.
    Done(Option<Reply>),
    /// It did not.
    Failed(Fault),
    /// It was not asked: this delivery, which comes before, is dead.
    Parked(String),
}

impl Carrier {
    /// Waits for a place at the target.
    pub async fn place(&self) -> Option<Places> {
        let endpoint = self.system.endpoint(&self.target.endpoint)?;
        self.system.place(endpoint).await
    }

    /// Asks the system whether it is there, on behalf of its circuit.
    pub async fn probe(&self) {
        let outbound = self.system.outbound().await;
        let limit = self.system.system.limits().timeout;
        match tokio::time::timeout(limit, outbound.probe()).await {
            Ok(Ok(_)) => self.system.circuit.succeeded(),
            Ok(Err(_)) | Err(_) => self.system.circuit.failed(),
        }
    }

    /// The value that orders a parcel among its target's; parcels without one are ordered among themselves.
    pub fn order_key(&self, parcel: &Parcel) -> String {
        order_key(&self.target, parcel)
    }

    /// One attempt, then settled: done, on the retry ladder, or dead.
    pub async fn carry(self: Arc<Self>, delivered: Delivered) {
        let Delivered { parcel, redelivered, settlement } = delivered;
        let number = headers::attempt(&parcel);
        let patience = (number > 1).then(|| headers::left_alone(&parcel, MAX_RETRY_AFTER)).flatten();
        if let Some(wait) = patience {
            // The ladder brought it back before the target wanted it: no attempt is burnt.
            if settlement.retry(parcel, wait).await.is_err() {
                self.metrics.unsettled.inc();
            }
            return;
        }
        let outcome = self.attempt(&parcel, redelivered, number).await;
        let settled = if self.route.request {
            self.settle_request(outcome, settlement).await
        } else {
            match outcome {
                Attempted::Done(_) => self.settle_done(&parcel, settlement).await,
                Attempted::Failed(fault) => self.settle_failed(parcel, number, &fault, settlement).await,
                Attempted::Parked(ahead) => self.settle_parked(parcel, number, &ahead, settlement).await,
            }
        };
        if settled.is_err() {
            self.metrics.unsettled.inc();
        }
    }

    /// One attempt of a delivery with order, which shows whether its system is back. Where it may go better later, the
    /// delivery goes back to its place in the queue: on the ladder, what is behind it would overtake it.
    pub async fn try_in_order(self: Arc<Self>, delivered: Delivered) {
        let Delivered { mut parcel, redelivered, settlement } = delivered;
        self.kept.recall(&mut parcel);
        if let Some(patience) = headers::left_alone(&parcel, MAX_RETRY_AFTER) {
            // Its target has asked to be left alone. Held for that long, not given back at once: each time would count
            // for the broker's own limit.
            tokio::select! {
                () = tokio::time::sleep(patience.min(crash::held(MAX_HELD))) => {}
                () = self.system.circuit.left(State::HalfOpen) => {}
            }
            return self.kept.put(parcel);
        }
        let number = headers::attempt(&parcel);
        let settled = match self.attempt(&parcel, redelivered, number).await {
            Attempted::Done(_) => self.settle_done(&parcel, settlement).await,
            // One that fails each time it tries is dead in the end, or it would keep all others waiting.
            Attempted::Failed(fault) => match self.wait_after(number, &fault) {
                Some(wait) => {
                    self.count_again(&mut parcel, number, &fault, wait);
                    return self.kept.put(parcel);
                }
                None => self.settle_failed(parcel, number, &fault, settlement).await,
            },
            Attempted::Parked(ahead) => self.settle_parked(parcel, number, &ahead, settlement).await,
        };
        if settled.is_err() {
            self.metrics.unsettled.inc();
        }
    }

    /// Attempts until the delivery is done or dead, holding it meanwhile so that nothing of its key overtakes it.
    pub async fn carry_in_order(self: Arc<Self>, delivered: Delivered, halt: CancellationToken) -> Ordered {
        let Delivered { mut parcel, redelivered, settlement } = delivered;
        self.kept.recall(&mut parcel);
        let held = Instant::now();
        let mut wait = headers::left_alone(&parcel, MAX_RETRY_AFTER);
        let mut again = redelivered;
        loop {
            if let Some(patience) = wait {
                let left = crash::held(MAX_HELD).saturating_sub(held.elapsed());
                tokio::select! {
                    () = tokio::time::sleep(patience.min(left)) => {}
                    () = halt.cancelled() => return self.give_back(parcel),
                }
                if patience > left {
                    headers::leave_alone(&mut parcel, Some(patience - left));
                    return self.give_back(parcel);
                }
                if parcel.header(LOST).is_some() {
                    // Its body is looked for again only where it comes again.
                    return self.give_back(parcel);
                }
            }
            let place = tokio::select! {
                place = self.place() => place,
                () = halt.cancelled() => return self.give_back(parcel),
            };
            let number = headers::attempt(&parcel);
            let outcome = self.attempt(&parcel, again, number).await;
            drop(place);
            again = true;
            let settled = match outcome {
                Attempted::Done(_) => self.settle_done(&parcel, settlement).await,
                Attempted::Failed(fault) => {
                    wait = self.wait_after(number, &fault);
                    if let Some(wait) = wait {
                        self.count_again(&mut parcel, number, &fault, wait);
                        continue;
                    }
                    self.settle_failed(parcel, number, &fault, settlement).await
                }
                Attempted::Parked(ahead) => self.settle_parked(parcel, number, &ahead, settlement).await,
            };
            if settled.is_err() {
                self.metrics.unsettled.inc();
                return Ordered::GivenBack;
            }
            return Ordered::Settled;
        }
    }

    /// Writes a failed attempt on a parcel that stays in hand or keeps its place.
    fn count_again(&self, parcel: &mut Parcel, number: u32, fault: &Fault, wait: Duration) {
        self.metrics.retried.inc();
        headers::record_attempt(parcel, number, fault, &self.instance);
        next_attempt(parcel, number, fault, wait);
    }

    /// What it has been through counts when it comes again.
    fn give_back(&self, parcel: Parcel) -> Ordered {
        self.kept.put(parcel);
        Ordered::GivenBack
    }

    /// Everything up to the target's answer. Counts for the circuit; settles nothing.
    async fn attempt(&self, parcel: &Parcel, redelivered: bool, number: u32) -> Attempted {
        let delivery_id = headers::delivery_id(parcel);
        // What may have reached its target before is looked up before it is sent again: in memory always (a caller who
        // was told 503 sends the same id again, and both may be on the bus), in the store where it may have been
        // another process.
        let again = redelivered || number > 1 || parcel.header(headers::REPLAY).is_some();
        let known = if self.route.request && !again {
            Ok(false) // who asks twice wants two answers
        } else {
            self.ledger.is_done(delivery_id, again).await
        };
        match known {
            Ok(true) => {
                self.metrics.recognised.inc();
                return Attempted::Done(None);
            }
            Ok(false) => {}
            Err(error) => {
                return Attempted::Failed(
                    Fault::new(Code::Unavailable, "the store cannot be asked whether it was delivered before")
                        .private(error.to_string()),
                );
            }
        }
        match self.line.stand(parcel, false).await {
            Ok(None) => {}
            Ok(Some(ahead)) => return Attempted::Parked(ahead),
            Err(error) => {
                let text = "the store cannot be asked whether a delivery before it is dead";
                return Attempted::Failed(Fault::new(Code::Unavailable, text).private(error.to_string()));
            }
        }
        if let Some(reason) = parcel.header(LOST) {
            let lost = Fault::new(Code::Unavailable, reason);
            return Attempted::Failed(lost.verdict(Verdict::Retry));
        }
        let passed = passed::take(parcel);
        let message = match &passed {
            Some(_) => headers::with_data(parcel, Value::Null),
            None => headers::message(parcel, &BUS_LIMITS),
        };
        let message = match message {
            Ok(message) => message,
            Err(reason) => {
                return Attempted::Failed(Fault::new(Code::Malformed, format!("this is no message of ours: {reason}")));
            }
        };
        crash::point("k5");
        let shaped = parcel.header(headers::SHAPED).is_some();
        match self.call(&message, passed.as_ref(), shaped, delivery_id, number).await {
            Ok(reply) => {
                crash::point("k8");
                // A waiting caller was told; for all others each refused part is a letter before the rest counts as done.
                if !self.route.request
                    && let Err(error) = self.bury_parts(parcel, &reply.refused, number).await
                {
                    let fault = Fault::new(Code::Unavailable, "the refused parts cannot be stored as dead letters now");
                    return Attempted::Failed(fault.private(error.to_string()));
                }
                self.ledger.record_done(delivery_id).await;
                crash::point("k9");
                Attempted::Done(Some(reply))
            }
            Err(fault) => Attempted::Failed(fault),
        }
    }

    /// Asks the target, under its deadline, and tells its circuit how that went.
    pub(super) async fn call(
        &self,
        message: &Message,
        passed: Option<&(Passed, Value)>,
        shaped: bool,
        delivery_id: &str,
        number: u32,
    ) -> Result<Reply, Fault> {
        let span = self.tracer.start(Kind::Client, &self.target.name, message.traceparent.as_deref());
        let traceparent = span.as_ref().map(super::trace::Span::traceparent).or_else(|| message.traceparent.clone());
        let attempt = self.deliver(message, passed, shaped, delivery_id, number, traceparent.as_deref());
        // A panic in an adapter or a mapping must not take the delivery with it: it becomes a dead letter.
        let outcome = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
            Err(Fault::new(Code::Internal, "a mistake in the gateway or an adapter stopped this attempt")
                .verdict(Verdict::Reject))
        });
        if let Some(span) = span {
            span.end(outcome.as_ref().err());
        }
        match outcome.as_ref().map_err(|fault| (fault.code, fault.verdict)) {
            Ok(_) => self.system.circuit.succeeded(),
            Err((_, Verdict::Hold)) => self.system.circuit.hold(),
            // A business no, or a message that cannot be shaped: the system itself is well.
            Err((Code::Refused, Verdict::Reject)) => self.system.circuit.succeeded(),
            Err((_, Verdict::Reject)) => {}
            Err((_, Verdict::Retry | Verdict::RetryAfter(_))) => self.system.circuit.failed(),
        }
        outcome
    }

    /// Makes a dead letter of each part that the target refused. A delivery that comes again has them refused again, with the
    /// same ids: the same letters.
    async fn bury_parts(&self, parcel: &Parcel, refused: &[Refused], number: u32) -> Result<(), StoreError> {
        for part in refused {
            // Mended by a person and taken by the target, while the delivery that it was in comes once more.
            if self.ledger.is_done(&part.delivery_id, true).await? {
                continue;
            }
            let part = headers::part(parcel, part, number, &self.instance);
            self.store.put_letter(headers::letter(&part, "refused", &self.instance)).await?;
            self.metrics.dead.inc();
        }
        Ok(())
    }

    async fn deliver(
        &self,
        message: &Message,
        passed: Option<&(Passed, Value)>,
        shaped: bool,
        delivery_id: &str,
        number: u32,
        traceparent: Option<&str>,
    ) -> Result<Reply, Fault> {
        let body = if shaped || passed.is_some() {
            Cow::Borrowed(&message.data)
        } else {
            outbound_body(&self.target, &message.data)?
        };
        let outbound = self.system.outbound().await;
        let Some(endpoint) = self.system.endpoint(&self.target.endpoint) else {
            return Err(Fault::new(
                Code::Misconfigured,
                format!("there is no endpoint `{}` any more", self.target.name),
            ));
        };
        self.system.pace(endpoint).await;
        let deadline = endpoint.limits.timeout;
        let call = Call {
            endpoint: &self.target.endpoint,
            body: &body,
            passed: passed.map(|(passed, _)| passed),
            meta: passed.map_or(&Value::Null, |(_, meta)| meta),
            message,
            delivery_id,
            attempt: number,
            traceparent,
            deadline,
        };
        let started = Instant::now();
        let under_way = self.metrics.under_way();
        crash::point("k6");
        let answer = tokio::time::timeout(deadline, outbound.deliver(call)).await;
        crash::point("k7");
        drop(under_way);
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        answer.unwrap_or_else(|_| {
            Err(Fault::new(
                Code::Deadline,
                format!("no answer within {} s; it may have happened", deadline.as_secs_f32()),
            ))
        })
    }

    /// How long to wait for the next attempt; `None` where there is none.
    fn wait_after(&self, number: u32, fault: &Fault) -> Option<Duration> {
        let wait = self.target.retry.wait_after(number)?;
        match fault.verdict {
            Verdict::Retry => Some(wait.mul_f64(rand::random_range(0.8..1.2))),
            // Not before that; and a target that asks for no wait at all is not hammered.
            Verdict::RetryAfter(asked) => Some(asked.max(self.target.retry.first).min(MAX_RETRY_AFTER)),
            Verdict::Reject | Verdict::Hold => None,
        }
    }

    async fn settle_done(&self, parcel: &Parcel, settlement: Settlement) -> Result<(), SettleError> {
        if parcel.header(headers::REPLAY).is_some() {
            let delivery_id = headers::delivery_id(parcel);
            if let Err(error) = self.store.resolve(delivery_id).await {
                // Not settled: it comes again, is recognised, and the letter is resolved then.
                return Err(SettleError(error.to_string()));
            }
        }
        self.line.leave(parcel).await?;
        settlement.done().await?;
        crash::point("k10");
        self.metrics.delivered.inc();
        Ok(())
    }

    async fn settle_failed(
        &self,
        mut parcel: Parcel,
        number: u32,
        fault: &Fault,
        settlement: Settlement,
    ) -> Result<(), SettleError> {
        headers::record_attempt(&mut parcel, number, fault, &self.instance);
        match self.wait_after(number, fault) {
            Some(wait) => {
                next_attempt(&mut parcel, number, fault, wait);
                settlement.retry(parcel, wait).await?;
                self.metrics.retried.inc();
            }
            None => {
                headers::record_death(&mut parcel, fault);
                // Before it is dead: who comes after it must know.
                self.line.stand(&parcel, true).await.map_err(|error| SettleError(error.to_string()))?;
                crash::point("k17");
                settlement.dead(parcel).await?;
                self.metrics.dead.inc();
            }
        }
        Ok(())
    }

    /// It stands in its line: as a letter it waits for those before it.
    async fn settle_parked(
        &self,
        mut parcel: Parcel,
        number: u32,
        ahead: &str,
        settlement: Settlement,
    ) -> Result<(), SettleError> {
        let order_by = self.target.order_by.as_ref().map_or_else(String::new, ToString::to_string);
        headers::record_parked(&mut parcel, number, ahead, &order_by, &self.instance);
        settlement.dead(parcel).await?;
        self.metrics.dead.inc();
        Ok(())
    }

    /// A caller waits: the one attempt's outcome goes back, whatever it is.
    async fn settle_request(&self, outcome: Attempted, settlement: Settlement) -> Result<(), SettleError> {
        let answer = match &outcome {
            Attempted::Done(Some(reply)) => {
                self.metrics.delivered.inc();
                let mut answer = headers::answer(Ok(&reply.body));
                if let Some(passed) = &reply.passed {
                    passed::put(&mut answer, passed, &Value::Null);
                }
                answer
            }
            // It was done before, and what was said then never came back.
            Attempted::Done(None) => {
                headers::answer(Err(&Fault::new(Code::Unknown, "it was done; its answer is lost")))
            }
            Attempted::Failed(fault) => headers::answer(Err(fault)),
            // `check` allows no order where a caller waits.
            Attempted::Parked(ahead) => headers::answer(Err(&Fault::new(Code::Unavailable, ahead.as_str()))),
        };
        settlement.reply(answer).await
    }
}

/// Writes the attempt that comes next on a parcel, and the wait that its target asked for, if it did.
fn next_attempt(parcel: &mut Parcel, number: u32, fault: &Fault, wait: Duration) {
    parcel.headers.insert(headers::ATTEMPT.to_owned(), number.saturating_add(1).to_string());
    headers::leave_alone(parcel, matches!(fault.verdict, Verdict::RetryAfter(_)).then_some(wait));
}
