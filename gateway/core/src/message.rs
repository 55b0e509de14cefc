//! The canonical message: CloudEvents 1.0 attributes, Gatehouse's extensions, and a body of a declared type.
//!
//! How its attributes travel as AMQP properties and headers is here too ([`Message::to_headers`]), so that every bus
//! carries the same names. The body travels beside them as JSON.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::value::Value;

/// The specification that the attributes follow.
pub const SPEC_VERSION: &str = "1.0";

/// A canonical message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// CloudEvents `id`: the caller's idempotency key, else a UUIDv7. Unique within `source`.
    pub id: String,
    /// CloudEvents `source`: the endpoint it came from, `shop/orders`.
    pub source: String,
    /// CloudEvents `type`: the name of the canonical type, `order.paid`.
    pub kind: String,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    /// CloudEvents `time`: when it arrived.
    pub time: Timestamp,
    /// CloudEvents `dataschema`: the version of the type that the body was judged by.
    pub data_schema: Option<String>,
    /// Extension: the business key that support staff search for.
    pub key: Option<String>,
    /// Extension: the conversation that this message belongs to; its own id where it began one.
    pub correlation: Option<String>,
    /// Extension: the message that this one follows from.
    pub causation: Option<String>,
    /// Extension (distributed tracing): W3C `traceparent`.
    pub traceparent: Option<String>,
    /// The body.
    pub data: Value,
}

/// The content type of a canonical body, wherever it travels.
pub const DATA_CONTENT_TYPE: &str = "application/json";

impl Message {
    /// The attributes as header pairs, without the body and without what is absent. Names are CloudEvents' with the
    /// AMQP binding's prefix (`cloudEvents:` is spelt with a colon there; RabbitMQ takes it as it is).
    #[must_use]
    pub fn to_headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        fn optional(value: &Option<String>) -> Option<Cow<'_, str>> {
            value.as_deref().map(Cow::Borrowed)
        }
        let all = [
            ("cloudEvents:causation", optional(&self.causation)),
            ("cloudEvents:correlation", optional(&self.correlation)),
            ("cloudEvents:dataschema", optional(&self.data_schema)),
            ("cloudEvents:id", Some(self.id.as_str().into())),
            ("cloudEvents:key", optional(&self.key)),
            ("cloudEvents:source", Some(self.source.as_str().into())),
            ("cloudEvents:specversion", Some(SPEC_VERSION.into())),
            ("cloudEvents:subject", optional(&self.subject)),
            ("cloudEvents:time", Some(self.time.to_string().into())),
            ("cloudEvents:type", Some(self.kind.as_str().into())),
            ("traceparent", optional(&self.traceparent)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The message as expressions see it: `message.id`, `message.key`, `message.data.…`, and the attempt that is made.
    #[must_use]
    pub fn to_value(&self, attempt: u32) -> Value {
        let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        [
            ("id", Value::from(self.id.as_str())),
            ("source", Value::from(self.source.as_str())),
            ("type", Value::from(self.kind.as_str())),
            ("time", Value::from(self.time.to_string())),
            ("key", optional(&self.key)),
            ("subject", optional(&self.subject)),
            ("correlation", optional(&self.correlation)),
            ("attempt", Value::from(i64::from(attempt))),
            ("data", self.data.clone()),
        ]
        .into_iter()
        .collect()
    }

    /// The message back from its headers and its body.
    ///
    /// # Errors
    /// The name of the attribute that is missing or cannot be read.
    pub fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a str>, data: Value) -> Result<Self, &'static str> {
        let optional = |name: &str| header(name).map(str::to_owned);
        if header("cloudEvents:specversion") != Some(SPEC_VERSION) {
            return Err("cloudEvents:specversion");
        }
        Ok(Self {
            id: optional("cloudEvents:id").ok_or("cloudEvents:id")?,
            source: optional("cloudEvents:source").ok_or("cloudEvents:source")?,
            kind: optional("cloudEvents:type").ok_or("cloudEvents:type")?,
            subject: optional("cloudEvents:subject"),
            time: header("cloudEvents:time").and_then(|time| time.parse().ok()).ok_or("cloudEvents:time")?,
            data_schema: optional("cloudEvents:dataschema"),
            key: optional("cloudEvents:key"),
            correlation: optional("cloudEvents:correlation"),
            causation: optional("cloudEvents:causation"),
            traceparent: optional("traceparent"),
            data,
        })
    }
}

/// The id of one delivery: the same for every attempt and every replay of one message to one target, so that a target
/// that remembers it sees one effect. `generation` is 0 unless an operator asks for a second effect on purpose.
#[must_use]
pub fn delivery_id(message_id: &str, source: &str, route: &str, target: &str, generation: u32) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in [message_id, source, route, target] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(generation.to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let text = "\\PC{1,40}";
        let maybe = || proptest::option::of(text);
        ((text, text, text, 0_i64..4_000_000_000_000), (maybe(), maybe(), maybe(), maybe(), maybe(), maybe())).prop_map(
            |((id, source, kind, millis), (subject, data_schema, key, correlation, causation, traceparent))| Message {
                id,
                source,
                kind,
                subject,
                time: Timestamp::from_millisecond(millis).unwrap(),
                data_schema,
                key,
                correlation,
                causation,
                traceparent,
                data: Value::Null,
            },
        )
    }

    proptest! {
        #[test]
        fn headers_carry_every_attribute(message in message()) {
            let headers = message.to_headers();
            let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_ref());
            prop_assert_eq!(Message::from_headers(find, Value::Null), Ok(message.clone()));
        }
    }

    #[test]
    fn a_delivery_id_tells_its_parts_apart() {
        let id = delivery_id("m1", "shop/orders", "paid", "erp/Create", 0);
        assert_eq!(id, delivery_id("m1", "shop/orders", "paid", "erp/Create", 0));
        assert_eq!(id.len(), 32);
        for other in [
            delivery_id("m1s", "hop/orders", "paid", "erp/Create", 0),
            delivery_id("m1", "shop/orders", "paid", "crm/Create", 0),
            delivery_id("m1", "shop/orders", "paid", "erp/Create", 1),
        ] {
            assert_ne!(id, other);
        }
    }
}
