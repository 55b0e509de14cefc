//! Parcels as AMQP messages, both ways. Nothing that arrives is refused here: a message that is not ours becomes a
//! parcel with what can be read, so that somebody can make a dead letter of it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde::Serializer as _;

use super::names::Names;
use crate::{Headers, Parcel};

/// Names and values together; AMQP sends them in one frame, and the frame has other things in it.
const MAX_HEADERS: usize = 32 * 1024;
/// Which program wrote a message.
const APP: &str = "gatehouse";
/// The message's attributes and Gatehouse's own headers, in one JSON object of texts: a header each costs the broker
/// and the client a quarter of their rate (`docs/decisions/0007-headers-travel-together.md`).
const PACKED: &str = "gatehouse-headers";
/// Longer values (the history of attempts) keep a header of their own.
const MAX_PACKED_VALUE: usize = 1024;
/// On parcels from the dead and the unroutable queue: the queue that it was meant for.
pub(super) const QUEUE: &str = "gatehouse-queue";
/// Why the broker itself moved it to the dead queue: `delivery_limit`, `expired`, `rejected`, `maxlen`.
const DEATH_REASON: &str = "gatehouse-death-reason";
/// From which queue the broker moved it.
const DEATH_QUEUE: &str = "gatehouse-death-queue";
/// When, in seconds since 1970.
const DEATH_TIME: &str = "gatehouse-death-time";
/// Headers whose bytes were no UTF-8 or no text at all, by name, joined with commas.
const UNREADABLE: &str = "gatehouse-unreadable";

/// What is written on a message beside the parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The address of the one who waits for an answer, and by what it knows the answer.
    pub(super) reply_to: Option<ShortString>,
    pub(super) correlation_id: Option<ShortString>,
    /// Milliseconds until it is of no use any more.
    pub(super) expiration: Option<ShortString>,
    /// Need not survive a restart of the broker.
    pub(super) transient: bool,
}

/// The properties of a parcel's message. The error says what does not fit.
pub(super) fn properties(
    id: String,
    content_type: String,
    headers: Headers,
    stamp: Stamp,
) -> Result<BasicProperties, String> {
    let size = headers.size();
    if size > MAX_HEADERS {
        return Err(format!("its headers have {size} bytes, and at most {MAX_HEADERS} fit"));
    }
    let mut table = BTreeMap::new();
    if let Some(text) = pack(&headers) {
        table.insert(ShortString::from(PACKED), AMQPValue::LongString(text.into()));
    }
    let packed = !table.is_empty();
    for (name, value) in headers {
        if is_brokers(&name) || (packed && goes_together(&name, &value)) {
            continue;
        }
        let name = ShortString::try_new(name.into_string()).map_err(|e| format!("a header's name is too long: {e}"))?;
        table.insert(name, AMQPValue::LongString(value.as_str().into()));
    }
    let short =
        |what: &str, text: String| ShortString::try_new(text).map_err(|e| format!("its {what} is too long: {e}"));
    let mut properties = persistent(short("id", id)?).with_headers(FieldTable::from(table));
    if stamp.transient {
        properties = properties.with_delivery_mode(1);
    }
    if !content_type.is_empty() {
        properties = properties.with_content_type(short("content type", content_type)?);
    }
    if let Some(reply_to) = stamp.reply_to {
        properties = properties.with_reply_to(reply_to);
    }
    if let Some(correlation_id) = stamp.correlation_id {
        properties = properties.with_correlation_id(correlation_id);
    }
    if let Some(expiration) = stamp.expiration {
        properties = properties.with_expiration(expiration);
    }
    Ok(properties)
}

/// What is on every message of ours.
pub(super) fn persistent(id: ShortString) -> BasicProperties {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    BasicProperties::default().with_delivery_mode(2).with_message_id(id).with_timestamp(now).with_app_id(APP.into())
}

/// What travels in [`PACKED`], as text; `None` where there is nothing, or where its escapes make it too long.
fn pack(headers: &Headers) -> Option<Vec<u8>> {
    let mut together = headers.iter().filter(|(name, value)| goes_together(name, value)).peekable();
    together.peek()?;
    let mut text = Vec::with_capacity(512);
    serde_json::Serializer::new(&mut text).collect_map(together).ok()?;
    (text.len() <= MAX_HEADERS).then_some(text)
}

fn goes_together(name: &str, value: &str) -> bool {
    (name.starts_with("cloudEvents:") || name.starts_with("gatehouse-"))
        && name != PACKED
        && value.len() <= MAX_PACKED_VALUE
}

/// The headers in [`PACKED`]; `None` where it is none of ours.
fn unpack(value: &AMQPValue) -> Option<Headers> {
    match value {
        AMQPValue::LongString(text) => serde_json::from_slice(text.as_bytes()).ok(),
        _ => None,
    }
}

/// What the broker reads or writes itself. On a publish it would be obeyed or believed (`CC` sends a second copy; 3.10
/// counts deaths from what a client sent), so it is never sent; and it is evidence, not content, so it is not given on.
pub(super) fn is_brokers(name: &str) -> bool {
    const NAMES: [&str; 4] = ["CC", "BCC", "x-delivery-count", "x-acquired-count"];
    const BEGINNINGS: [&str; 4] = ["x-death", "x-first-death-", "x-last-death-", "x-opt-"];
    let begins =
        |with: &&str| name.len() >= with.len() && name.as_bytes()[..with.len()].eq_ignore_ascii_case(with.as_bytes());
    NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)) || BEGINNINGS.iter().any(begins)
}

/// What a parcel tells about where its message was meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing: it is where it was meant to go.
    Here,
    /// The dead queue: what the gateway moved there says all by itself; what the broker moved is told, and why.
    Moved,
    /// The unroutable queue: always.
    Elsewhere,
}

/// The parcel of a message, whoever wrote it.
pub(super) fn parcel(delivery: &mut Delivery, names: &Names, origin: Origin) -> Parcel {
    let properties = &delivery.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(|v| v.as_str().to_owned()).unwrap_or_default();
    let ours = is_ours(properties);
    let packed = properties.headers().as_ref().filter(|_| ours).and_then(|table| table.inner().get(PACKED));
    let packed = packed.and_then(unpack);
    let was_packed = packed.is_some();
    let mut headers = packed.unwrap_or_default();
    let mut unreadable = Vec::new();
    if let Some(table) = properties.headers() {
        for (name, value) in table.inner() {
            let unpacked = was_packed && name.as_str() == PACKED;
            if !unpacked && !is_brokers(name.as_str()) {
                let (value, readable) = value_text(value);
                if !readable {
                    unreadable.push(name.as_str().to_owned());
                }
                headers.insert(name.as_str(), value);
            }
        }
    }
    note_origin(properties, &delivery.routing_key, names, origin, &mut headers);
    if !ours {
        note_foreign(properties, &mut headers);
    }
    if !unreadable.is_empty() {
        headers.insert(UNREADABLE, unreadable.join(","));
    }
    Parcel {
        id: text(properties.message_id()),
        content_type: text(properties.content_type()),
        headers,
        body: std::mem::take(&mut delivery.data).into(),
    }
}

/// Whether a message says that a gateway wrote it.
pub(super) fn is_ours(properties: &BasicProperties) -> bool {
    properties.app_id().as_ref().is_some_and(|app| app.as_str() == APP)
}

/// Where a message was meant to go, and what the broker says became of it, among a parcel's headers.
pub(super) fn note_origin(
    properties: &BasicProperties,
    key: &ShortString,
    names: &Names,
    origin: Origin,
    headers: &mut Headers,
) {
    let mut elsewhere = origin == Origin::Elsewhere;
    if let Some(table) = properties.headers().as_ref().filter(|_| origin != Origin::Here) {
        elsewhere |= note_death(table, names, headers);
    }
    if elsewhere && !key.as_str().is_empty() {
        headers.insert_if_absent(QUEUE, || names.for_callers(key.as_str()));
    }
}

/// The newest entry of `x-death`: it is ordered so. False where the broker moved nothing but what waited on the ladder.
fn note_death(table: &FieldTable, names: &Names, headers: &mut Headers) -> bool {
    let Some(AMQPValue::FieldArray(deaths)) = table.inner().get("x-death") else { return false };
    let Some(AMQPValue::FieldTable(newest)) = deaths.as_slice().first() else { return false };
    let of = |name: &str| newest.inner().get(name).map(|value| value_text(value).0);
    let queue = of("queue").map(|queue| names.for_callers(&queue)).unwrap_or_default();
    if queue.starts_with("gatehouse.retry.") {
        return false;
    }
    headers.insert(DEATH_QUEUE, queue);
    for (name, value) in [(DEATH_REASON, of("reason")), (DEATH_TIME, of("time"))] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    true
}

/// Properties that we do not write ourselves, for the one who has to find out whose message this is.
fn note_foreign(properties: &BasicProperties, headers: &mut Headers) {
    let known = [
        ("amqp-app-id", properties.app_id()),
        ("amqp-type", properties.kind()),
        ("amqp-correlation-id", properties.correlation_id()),
        ("amqp-reply-to", properties.reply_to()),
        ("amqp-content-encoding", properties.content_encoding()),
        ("amqp-user-id", properties.user_id()),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            headers.insert_if_absent(name, || value.as_str().to_owned());
        }
    }
}

/// A value as text, and whether nothing was lost by that.
fn value_text(value: &AMQPValue) -> (String, bool) {
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), true),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), false),
    };
    match value {
        AMQPValue::LongString(text) => bytes(text.as_bytes()),
        AMQPValue::ByteArray(array) => bytes(array.as_slice()),
        AMQPValue::ShortString(text) => (text.as_str().to_owned(), true),
        AMQPValue::Boolean(v) => (v.to_string(), true),
        AMQPValue::ShortShortInt(v) => (v.to_string(), true),
        AMQPValue::ShortShortUInt(v) => (v.to_string(), true),
        AMQPValue::ShortInt(v) => (v.to_string(), true),
        AMQPValue::ShortUInt(v) => (v.to_string(), true),
        AMQPValue::LongInt(v) => (v.to_string(), true),
        AMQPValue::LongUInt(v) => (v.to_string(), true),
        AMQPValue::LongLongInt(v) => (v.to_string(), true),
        AMQPValue::Timestamp(v) => (v.to_string(), true),
        AMQPValue::Float(v) => (v.to_string(), true),
        AMQPValue::Double(v) => (v.to_string(), true),
        AMQPValue::Void => (String::new(), true),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => {
            (format!("{value:?}"), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, LongString};

    use super::*;

    fn delivery(properties: BasicProperties) -> Delivery {
        let mut delivery = Delivery::mock(1, "gatehouse.work".into(), "t.work.a.b".into(), false, b"body".to_vec());
        delivery.properties = properties;
        delivery
    }

    fn sent(headers: &[(&str, &str)]) -> Result<BasicProperties, String> {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        properties("id-1".to_owned(), "application/json".to_owned(), headers, Stamp::default())
    }

    #[test]
    fn a_parcel_comes_back_as_it_went() {
        let properties = sent(&[("gatehouse-attempt", "2"), ("键", "值")]).expect("fits");
        assert_eq!(properties.delivery_mode(), &Some(2));
        let parcel = parcel(&mut delivery(properties), &Names::new("t"), Origin::Here);
        assert_eq!((parcel.id.as_str(), parcel.content_type.as_str()), ("id-1", "application/json"));
        assert_eq!(parcel.body.as_ref(), b"body");
        assert_eq!(parcel.headers.len(), 2);
        assert_eq!(parcel.header("键"), Some("值"));
    }

    #[test]
    fn attributes_travel_together_and_long_ones_alone() {
        let long = "x".repeat(MAX_PACKED_VALUE + 1);
        let all = [
            ("cloudEvents:id", "so-1"),
            ("cloudEvents:key", "\"客户\"\u{1}"),
            ("gatehouse-attempts", long.as_str()),
            ("gatehouse-route", "r"),
            ("traceparent", "00-1-2-01"),
        ];
        let properties = sent(&all).expect("fits");
        let names: Vec<String> =
            properties.headers().clone().expect("some").inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["gatehouse-attempts", PACKED, "traceparent"]);
        let parcel = parcel(&mut delivery(properties), &Names::new("t"), Origin::Here);
        assert_eq!(parcel.headers.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_message_with_a_header_each_is_read_too() {
        let mut table = FieldTable::default();
        table.insert("cloudEvents:id".into(), AMQPValue::LongString("so-1".into()));
        let properties = BasicProperties::default().with_app_id(APP.into()).with_headers(table);
        let parcel = parcel(&mut delivery(properties), &Names::new("t"), Origin::Here);
        assert_eq!(parcel.header("cloudEvents:id"), Some("so-1"));
    }

    #[test]
    fn escapes_that_would_not_fit_together_go_alone() {
        let value = "\u{1}".repeat(1000);
        let names: Vec<String> = (0..20).map(|n| format!("gatehouse-{n:02}")).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let properties = sent(&all).expect("fits");
        let parcel = parcel(&mut delivery(properties), &Names::new("t"), Origin::Here);
        assert_eq!(parcel.headers.len(), 20);
        assert!(parcel.headers.iter().all(|(_, found)| found == value));
    }

    #[test]
    fn what_the_broker_would_obey_is_never_sent() {
        let properties = sent(&[
            ("CC", "a"),
            ("bcc", "a"),
            ("x-death", "a"),
            ("X-Death", "a"),
            ("x-first-death-queue", "a"),
            ("x-delivery-count", "9"),
            ("x-deaf", "kept"),
        ])
        .expect("fits");
        let names: Vec<String> =
            properties.headers().clone().expect("some").inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["x-deaf"]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(sent(&[("n", &"v".repeat(MAX_HEADERS))]).expect_err("too big").contains("32768"));
        assert!(sent(&[(&"n".repeat(256), "v")]).expect_err("too long").contains("name"));
        let long = properties("i".repeat(256), String::new(), Headers::default(), Stamp::default());
        assert!(long.expect_err("too long").contains("id"));
    }

    #[test]
    fn a_foreign_message_is_read_as_far_as_it_goes() {
        let mut table = FieldTable::default();
        table.insert("n".into(), AMQPValue::LongInt(-5));
        table.insert("gbk".into(), AMQPValue::LongString(LongString::from(vec![0xc4, 0xe3])));
        let properties = BasicProperties::default().with_headers(table).with_correlation_id("c-1".into());
        let parcel = parcel(&mut delivery(properties), &Names::new("t"), Origin::Here);
        assert_eq!(parcel.id, "");
        assert_eq!(parcel.header("n"), Some("-5"));
        assert_eq!(parcel.header(UNREADABLE), Some("gbk"));
        assert_eq!(parcel.header("amqp-correlation-id"), Some("c-1"));
        assert_eq!(parcel.header(QUEUE), None);
    }

    #[test]
    fn a_death_by_the_broker_is_told() {
        let mut newest = FieldTable::default();
        newest.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
        newest.insert("queue".into(), AMQPValue::LongString("t.work.a.b".into()));
        newest.insert("time".into(), AMQPValue::Timestamp(1_700_000_000));
        let mut table = FieldTable::default();
        table.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(newest)])));
        let parcel =
            parcel(&mut delivery(BasicProperties::default().with_headers(table)), &Names::new("t"), Origin::Moved);
        assert_eq!(parcel.header(DEATH_REASON), Some("delivery_limit"));
        assert_eq!(parcel.header(DEATH_QUEUE), Some("gatehouse.work.a.b"));
        assert_eq!(parcel.header(DEATH_TIME), Some("1700000000"));
        assert_eq!(parcel.header(QUEUE), Some("gatehouse.work.a.b"));
        assert_eq!(parcel.header("x-death"), None);
    }
}
