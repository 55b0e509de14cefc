//! What a delivery carries beside its body: the message's attributes, where it goes, how often it was tried and why it
//! died. The names stand in `docs/rabbitmq.md`; all begin with `gatehouse-`.

use std::time::Duration;

use gatehouse_bus::{Headers, Parcel};
use gatehouse_core::adapter::Refused;
use gatehouse_core::fault::Fault;
use gatehouse_core::message::{DATA_CONTENT_TYPE, Message};
use gatehouse_core::{Value, json, limits::BodyLimits};
use gatehouse_store::{Attempt, NewLetter, PARKED};

/// The route's name.
pub const ROUTE: &str = "gatehouse-route";
/// `system/endpoint` that should receive it.
pub const TARGET: &str = "gatehouse-target";
/// Stable over every attempt and replay.
pub const DELIVERY: &str = "gatehouse-delivery-id";
/// The attempt that comes next, from 1.
pub const ATTEMPT: &str = "gatehouse-attempt";
/// How many attempts were made before the last replay: numbering goes on, the retry policy begins anew.
pub const BEFORE: &str = "gatehouse-attempts-before";
/// The failed attempts so far, JSON, oldest first, cut to [`MAX_HISTORY`].
pub const HISTORY: &str = "gatehouse-attempts";
/// Not to be tried before this, and how long that was when it was written, both in milliseconds, the first since 1970:
/// `1790000000000/30000`. A target asked for patience, and the ladder has no such rung.
pub const NOT_BEFORE: &str = "gatehouse-not-before";
/// The letter that is being replayed.
pub const REPLAY: &str = "gatehouse-replay-of";
/// The body is in the target's own shape already: no mapping is applied. On parts of a delivery that were refused alone.
pub const SHAPED: &str = "gatehouse-shaped";
/// Why it died, in a word.
pub const CAUSE: &str = "gatehouse-error-code";
/// What counts as the same cause.
pub const FINGERPRINT: &str = "gatehouse-error-fingerprint";
/// On an answer to a request: the fault's code, absent where all went well.
pub const FAULT: &str = "gatehouse-fault";
/// On an answer to a request: the fault's public text.
pub const FAULT_TEXT: &str = "gatehouse-fault-text";

/// The most bytes of history a parcel carries; older exchanges are left out first.
pub const MAX_HISTORY: usize = 20 * 1024;

/// The most of each side of an exchange that travels with a parcel, in bytes.
const MAX_EXCERPT: usize = 2 * 1024;

/// A message on its way to one target.
#[must_use]
pub fn parcel(message: &Message, body: bytes::Bytes, route: &str, target: &str, delivery_id: &str) -> Parcel {
    let mut parcel = Parcel {
        id: delivery_id.to_owned(),
        content_type: DATA_CONTENT_TYPE.to_owned(),
        headers: Headers::default(),
        body,
    };
    parcel.headers.extend(message.to_headers());
    for (name, value) in [(DELIVERY, delivery_id), (ROUTE, route), (TARGET, target)] {
        parcel.headers.insert(name, value);
    }
    parcel
}

/// The message that a parcel carries.
///
/// # Errors
/// What is missing or cannot be read: such a parcel was not made by a gateway, or was changed.
pub fn message(parcel: &Parcel, limits: &BodyLimits) -> Result<Message, String> {
    let data = json::decode(&parcel.body, limits).map_err(|error| format!("its body is no JSON: {error}"))?;
    with_data(parcel, data)
}

/// The message that a parcel carries, with its body given.
///
/// # Errors
/// As [`message`].
pub fn with_data(parcel: &Parcel, data: Value) -> Result<Message, String> {
    Message::from_headers(|name| parcel.header(name), data)
        .map_err(|name| format!("its header `{name}` is missing or unreadable"))
}

/// The delivery's id; a foreign parcel has only its own.
#[must_use]
pub fn delivery_id(parcel: &Parcel) -> &str {
    parcel.header(DELIVERY).unwrap_or(&parcel.id)
}

/// The attempt that a parcel is on, from 1.
#[must_use]
pub fn attempt(parcel: &Parcel) -> u32 {
    parcel.header(ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Writes on a parcel how long it is to be left alone from now, if at all.
pub fn leave_alone(parcel: &mut Parcel, wait: Option<Duration>) {
    let until = wait.map(|wait| format!("{}/{}", now() + wait.as_millis(), wait.as_millis()));
    match until {
        Some(until) => parcel.headers.insert(NOT_BEFORE, until),
        None => drop(parcel.headers.remove(NOT_BEFORE)),
    }
}

/// How long a parcel is still to be left alone. More than was asked for, or more than `most`: the clock was set meanwhile,
/// and nobody knows how much of the wait is over, so it is.
#[must_use]
pub fn left_alone(parcel: &Parcel, most: Duration) -> Option<Duration> {
    let (until, asked) = parcel.header(NOT_BEFORE)?.split_once('/')?;
    let (until, asked): (u128, u64) = (until.parse().ok()?, asked.parse().ok()?);
    let left = Duration::from_millis(u64::try_from(until.checked_sub(now())?).ok()?);
    (!left.is_zero() && left <= most.min(Duration::from_millis(asked))).then_some(left)
}

fn now() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis()
}

/// The failed attempts that a parcel remembers.
#[must_use]
pub fn history(parcel: &Parcel) -> Vec<Attempt> {
    parcel.header(HISTORY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Writes one more failed attempt on a parcel.
pub fn record_attempt(parcel: &mut Parcel, number: u32, fault: &Fault, instance: &str) {
    let exchange = fault.exchange.as_deref().cloned().unwrap_or_default();
    let cut = |text: Option<String>| text.map(|text| cut(&text, MAX_EXCERPT));
    let attempt = Attempt {
        number,
        at: jiff::Timestamp::now(),
        instance: instance.to_owned(),
        code: fault.code.as_str().to_owned(),
        text: explain(fault),
        sent: cut(exchange.sent),
        answered: cut(exchange.answered),
    };
    record(parcel, attempt);
}

/// Writes on a parcel that it waits for `ahead`, a delivery before it with the same value at `order_by`.
pub fn record_parked(parcel: &mut Parcel, number: u32, ahead: &str, order_by: &str, instance: &str) {
    let attempt = Attempt {
        number,
        at: jiff::Timestamp::now(),
        instance: instance.to_owned(),
        code: PARKED.to_owned(),
        text: format!(
            "not sent: a delivery before it with the same `{order_by}` is dead; it goes by itself when that one has arrived or is discarded (delivery id {ahead})"
        ),
        sent: None,
        answered: None,
    };
    record(parcel, attempt);
    parcel.headers.remove(NOT_BEFORE);
    parcel.headers.insert(CAUSE, PARKED);
    parcel.headers.insert(FINGERPRINT, PARKED);
}

/// Writes an attempt on a parcel: numbers go on where those before the last replay ended.
fn record(parcel: &mut Parcel, mut attempt: Attempt) {
    let mut attempts = history(parcel);
    let before: u32 = parcel.header(BEFORE).and_then(|text| text.parse().ok()).unwrap_or(0);
    attempt.number = attempt.number.saturating_add(before);
    attempts.push(attempt);
    let mut text = serde_json::to_string(&attempts).unwrap_or_default();
    // The newest attempt tells most: older ones lose their exchanges first, then themselves.
    for index in 0..attempts.len().saturating_sub(1) {
        if text.len() <= MAX_HISTORY {
            break;
        }
        attempts[index].sent = None;
        attempts[index].answered = None;
        text = serde_json::to_string(&attempts).unwrap_or_default();
    }
    while text.len() > MAX_HISTORY && attempts.len() > 1 {
        attempts.remove(0);
        text = serde_json::to_string(&attempts).unwrap_or_default();
    }
    parcel.headers.insert(HISTORY, text);
}

/// Writes on a parcel why it died.
pub fn record_death(parcel: &mut Parcel, fault: &Fault) {
    parcel.headers.remove(NOT_BEFORE);
    parcel.headers.insert(CAUSE, fault.code.as_str());
    parcel.headers.insert(FINGERPRINT, fault.fingerprint());
}

/// A part of a delivery as a parcel of its own, dead from the beginning: the same message, with this body alone.
#[must_use]
pub fn part(parcel: &Parcel, refused: &Refused, number: u32, instance: &str) -> Parcel {
    let mut headers = parcel.headers.clone();
    forget_attempts(&mut headers);
    headers.remove(REPLAY);
    headers.insert(DELIVERY, refused.delivery_id.clone());
    headers.insert(SHAPED, "1");
    let mut part = Parcel {
        id: refused.delivery_id.clone(),
        content_type: DATA_CONTENT_TYPE.to_owned(),
        headers,
        body: json::encode(&refused.body).into(),
    };
    record_attempt(&mut part, number, &refused.fault, instance);
    record_death(&mut part, &refused.fault);
    part
}

/// Takes off a parcel what earlier attempts wrote, for a replay.
pub fn forget_attempts(headers: &mut Headers) {
    for name in [ATTEMPT, HISTORY, CAUSE, FINGERPRINT, NOT_BEFORE] {
        headers.remove(name);
    }
    // What a broker wrote when it dead-lettered.
    headers.retain(|name, _| !name.starts_with("x-") && !name.starts_with("gatehouse-death"));
}

/// The letter that a dead parcel becomes. Never fails: what cannot be read is stored as it is.
#[must_use]
pub fn letter(parcel: &Parcel, queue_cause: &str, instance: &str) -> NewLetter {
    let text = |name: &str| parcel.header(name).map(str::to_owned);
    let mut attempts = history(parcel);
    let cause = text(CAUSE).or_else(|| text("gatehouse-death-reason")).unwrap_or_else(|| queue_cause.to_owned());
    if attempts.is_empty() {
        attempts.push(Attempt {
            number: 1,
            at: jiff::Timestamp::now(),
            instance: instance.to_owned(),
            code: cause.clone(),
            text: match cause.as_str() {
                "unroutable" => "no queue wanted it: a binding or a queue of the bus was removed".to_owned(),
                "delivery_limit" => {
                    "it was handed out too often without an answer; possibly only a bystander of crashes".to_owned()
                }
                other => format!("the bus gave it up: {other}"),
            },
            sent: None,
            answered: None,
        });
    }
    let message_id = text("cloudEvents:id").unwrap_or_else(|| parcel.id.clone());
    let fallback = || if parcel.id.is_empty() { uuid::Uuid::now_v7().to_string() } else { parcel.id.clone() };
    NewLetter {
        delivery_id: text(DELIVERY).unwrap_or_else(fallback),
        message_id,
        route: text(ROUTE),
        target: text(TARGET),
        source: text("cloudEvents:source").unwrap_or_else(|| "unknown".to_owned()),
        kind: text("cloudEvents:type"),
        key: text("cloudEvents:key"),
        fingerprint: text(FINGERPRINT).unwrap_or_else(|| cause.clone()),
        cause,
        attempts,
        headers: parcel.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: parcel.body.clone(),
        content_type: parcel.content_type.clone(),
    }
}

/// The answer to a request.
#[must_use]
pub fn answer(outcome: Result<&Value, &Fault>) -> Parcel {
    let mut parcel = Parcel { content_type: DATA_CONTENT_TYPE.to_owned(), ..Parcel::default() };
    match outcome {
        Ok(body) => parcel.body = json::encode(body).into(),
        Err(fault) => {
            parcel.headers.insert(FAULT, fault.code.as_str());
            parcel.headers.insert(FAULT_TEXT, cut(&fault.public, 1024));
        }
    }
    parcel
}

/// A fault as support staff read it: everything but the payload.
fn explain(fault: &Fault) -> String {
    let mut text = fault.public.clone();
    for violation in fault.violations.iter().take(10) {
        text.push_str(&format!("; {}: {}", violation.pointer, violation.message));
    }
    if let Some(private) = &fault.private {
        text.push_str(&format!(" ({private})"));
    }
    cut(&text, 1024)
}

/// At most `max` bytes of a text, ending at a character.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max)])
}

#[cfg(test)]
mod tests {
    use gatehouse_core::fault::{Code, Exchange};

    use super::*;

    #[test]
    fn history_stays_within_its_limit_and_keeps_the_newest() {
        let mut parcel = Parcel::default();
        for number in 1..=100 {
            let exchange = Exchange { sent: Some("给".repeat(5000)), answered: Some("x".repeat(5000)) };
            record_attempt(&mut parcel, number, &Fault::new(Code::Deadline, "too slow").exchange(exchange), "gw");
        }
        assert!(parcel.header(HISTORY).unwrap().len() <= MAX_HISTORY);
        let history = history(&parcel);
        assert_eq!(history.last().unwrap().number, 100);
        assert!(history.last().unwrap().sent.is_some());
    }

    #[test]
    fn a_wait_is_written_and_read_and_a_clock_that_was_set_asks_for_none() {
        let hour = Duration::from_secs(3600);
        let mut parcel = Parcel::default();
        assert_eq!(left_alone(&parcel, hour), None);
        leave_alone(&mut parcel, Some(hour));
        let left = left_alone(&parcel, hour).unwrap();
        assert!(left > hour - Duration::from_secs(60), "{left:?}");
        assert_eq!(left_alone(&parcel, hour / 2), None, "nobody asked for more than the most");
        // The clock was set back by half an hour: a wait of five seconds does not become one of half an hour.
        let set_back = now() + Duration::from_secs(1800).as_millis();
        parcel.headers.insert(NOT_BEFORE, format!("{set_back}/5000"));
        assert_eq!(left_alone(&parcel, hour), None);
        leave_alone(&mut parcel, Some(Duration::ZERO));
        assert_eq!(left_alone(&parcel, hour), None, "it has passed");
        leave_alone(&mut parcel, None);
        assert!(parcel.headers.is_empty());
    }

    #[test]
    fn a_parcel_that_nobody_can_read_still_becomes_a_letter() {
        let parcel = Parcel { id: "p1".to_owned(), body: bytes::Bytes::from_static(b"\xff\x00"), ..Parcel::default() };
        let letter = letter(&parcel, "unroutable", "gw");
        assert_eq!((letter.delivery_id.as_str(), letter.cause.as_str()), ("p1", "unroutable"));
        assert_eq!(letter.body.as_ref(), b"\xff\x00");
    }
}
