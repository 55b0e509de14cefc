//! Parcels that were published at once, in one AMQP message: a broker spends as much on a message of sixteen small
//! parcels as on one of a single one (`docs/decisions/0018-what-comes-at-once-travels-together.md`).
//!
//! Each parcel is a line of JSON (its id, its content type, its headers, the size of its body), then its body and a line
//! feed, so that a person who looks into a queue can read it. [`gather`] writes such messages, [`parts`] settles them.
//! Not batched: what keeps order, requests, copies (retry, dead), and what is large.

use bytes::Bytes;
use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

use super::parcels;
use crate::{Headers, Parcel};

pub(super) mod gather;
pub(super) mod parts;

/// What a batch says that it is.
const CONTENT_TYPE: &str = "application/vnd.gatehouse.batch";
/// The type of a batch whose parcels may have been in somebody's hands before.
const AGAIN: &str = "again";
/// A larger parcel goes alone: it costs the broker by its bytes.
const MAX_PARCEL: usize = 16 * 1024;
/// A batch fits one AMQP frame (128 KiB, RabbitMQ's default) with its line of JSON.
const MAX_BATCH: usize = 120 * 1024;
/// What a line has beside names and values, and a margin for their escapes.
const LINE: usize = 128;

/// The line before a body.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    content_type: &'a str,
    size: usize,
    headers: &'a Headers,
}

/// The same, read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    id: String,
    #[serde(rename = "type")]
    content_type: String,
    size: usize,
    headers: Headers,
}

/// A parcel of a batch, and its bytes there.
pub(super) struct Part {
    pub(super) parcel: Parcel,
    pub(super) bytes: Bytes,
}

/// About how many bytes a parcel takes in a batch; `None` where it has to go alone.
pub(super) fn size(parcel: &Parcel) -> Option<usize> {
    let mut size = LINE + parcel.id.len() + parcel.content_type.len() + parcel.body.len();
    for (name, value) in parcel.headers.iter() {
        // What cannot be sent at all is refused where it goes alone.
        if name.len() > usize::from(u8::MAX) || parcels::is_brokers(name) {
            return None;
        }
        size += name.len() + value.len() + 6;
    }
    let short = [&parcel.id, &parcel.content_type].iter().all(|text| text.len() <= usize::from(u8::MAX));
    (short && size <= MAX_PARCEL).then_some(size)
}

/// Whether a batch of so many bytes has room for one of so many more.
pub(super) fn has_room(taken: usize, more: usize) -> bool {
    taken + more <= MAX_BATCH
}

/// The body of a batch.
pub(super) fn write<'a>(parcels: impl Iterator<Item = &'a Parcel>, size: usize) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(size);
    for Parcel { id, content_type, headers, body } in parcels {
        let line = Line { id, content_type, size: body.len(), headers };
        serde_json::to_writer(&mut out, &line).map_err(|error| error.to_string())?;
        out.push(b'\n');
        out.extend_from_slice(body);
        out.push(b'\n');
    }
    Ok(out.into())
}

/// The properties of a batch that is called by the id of its first parcel.
pub(super) fn properties(first: &str, again: bool) -> BasicProperties {
    let named = parcels::persistent(first.chars().take(60).collect::<String>().into());
    let named = named.with_content_type(CONTENT_TYPE.into());
    if again { named.with_type(AGAIN.into()) } else { named }
}

/// Whether a message says that it is a batch of ours.
pub(super) fn is_one(properties: &BasicProperties) -> bool {
    properties.content_type().as_ref().is_some_and(|name| name.as_str() == CONTENT_TYPE)
}

/// Whether its parcels may have been in somebody's hands before, whatever the broker says of the message.
pub(super) fn again(properties: &BasicProperties) -> bool {
    properties.kind().as_ref().is_some_and(|kind| kind.as_str() == AGAIN)
}

/// The parcels of a batch; `None` where it is damaged: then nothing of it is believed.
pub(super) fn split(body: &Bytes) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let line = at + body[at..].iter().position(|byte| *byte == b'\n')?;
        let Read { id, content_type, size, headers } = serde_json::from_slice(&body[at..line]).ok()?;
        let end = (line + 1).checked_add(size)?;
        if body.get(end) != Some(&b'\n') {
            return None;
        }
        let parcel = Parcel { id, content_type, headers, body: body.slice(line + 1..end) };
        parts.push(Part { parcel, bytes: body.slice(at..=end) });
        at = end + 1;
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parcels() -> impl Strategy<Value = Vec<Parcel>> {
        let body = proptest::collection::vec(any::<u8>(), 0..200);
        let headers = proptest::collection::btree_map("[a-z:-]{1,12}", "\\PC{0,20}", 0..5);
        let one = ("\\PC{1,20}", "[a-z/]{0,12}", headers, body).prop_map(|(id, content_type, headers, body)| Parcel {
            id,
            content_type,
            headers: headers.into_iter().collect(),
            body: body.into(),
        });
        proptest::collection::vec(one, 1..8)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(parcels in parcels()) {
            let body = write(parcels.iter(), 0).expect("written");
            let parts = split(&body).expect("a batch");
            let read: Vec<_> = parts.iter().map(|part| part.parcel.clone()).collect();
            prop_assert_eq!(&read, &parcels);
            // Some of them are a batch again, by their bytes alone.
            let some: Vec<u8> = parts.iter().skip(1).flat_map(|part| part.bytes.to_vec()).collect();
            let again: Vec<_> = split(&some.into()).unwrap_or_default().into_iter().map(|part| part.parcel).collect();
            prop_assert_eq!(&again[..], &parcels[1..]);
        }

        /// Bytes that something damaged are a batch of other parcels or none, never a panic; what was cut off is none, or
        /// its beginning.
        #[test]
        fn damage_is_no_panic(parcels in parcels(), cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>()) {
            let body = write(parcels.iter(), 0).expect("written");
            let mut broken = body.to_vec();
            broken[flip.index(body.len())] ^= 0x15;
            let _ = split(&broken.into());
            let part = body.slice(..cut.index(body.len()));
            let read: Vec<_> = split(&part).unwrap_or_default().into_iter().map(|part| part.parcel).collect();
            prop_assert!(parcels.starts_with(&read));
        }
    }

    #[test]
    fn a_size_beyond_all_bounds_is_damage() {
        for size in ["18446744073709551615", "-1", "7"] {
            let body = format!("{{\"id\":\"1\",\"type\":\"\",\"size\":{size},\"headers\":{{}}}}\nx\n");
            assert!(split(&body.into()).is_none(), "{size}");
        }
        assert!(split(&Bytes::new()).is_none());
    }

    #[test]
    fn what_is_large_or_odd_goes_alone() {
        let parcel = Parcel { id: "1".to_owned(), ..Parcel::default() };
        assert!(size(&parcel).is_some());
        assert_eq!(size(&Parcel { body: vec![0; MAX_PARCEL].into(), ..parcel.clone() }), None);
        assert_eq!(size(&Parcel { id: "x".repeat(256), ..parcel.clone() }), None);
        let with = |name: &str| Parcel { headers: [(name, "")].into(), ..parcel.clone() };
        assert_eq!(size(&with("x-death")), None);
        assert_eq!(size(&with(&"x".repeat(256))), None);
    }
}
