//! Texts as every store can hold them. A dead letter is whatever came in, and it must be stored whatever it is: a text that
//! a database would refuse is changed here, visibly, in one way for all of them. Bodies are bytes and are never touched.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{Attempt, NewLetter};

/// The longest id in bytes; a longer one is named by its hash. PostgreSQL cannot index texts over about 2,700 bytes.
const LONGEST_ID: usize = 512;

/// NUL, which PostgreSQL's text cannot hold, becomes its visible sign.
pub(crate) fn clean(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "␀") } else { text.to_owned() }
}

/// An id that can be indexed.
pub(crate) fn id(text: &str) -> String {
    if text.len() <= LONGEST_ID {
        return clean(text);
    }
    format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes())))
}

/// The system of a `system/endpoint`.
pub(crate) fn system(endpoint: &str) -> &str {
    endpoint.split_once('/').map_or(endpoint, |(system, _)| system)
}

/// To the microsecond, which is what PostgreSQL keeps.
pub(crate) fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A letter whose texts every store can hold.
pub(crate) fn letter(letter: NewLetter) -> NewLetter {
    let maybe = |text: Option<String>| text.map(|text| clean(&text));
    NewLetter {
        delivery_id: id(&letter.delivery_id),
        message_id: id(&letter.message_id),
        route: maybe(letter.route),
        target: maybe(letter.target),
        source: clean(&letter.source),
        kind: maybe(letter.kind),
        key: maybe(letter.key),
        cause: clean(&letter.cause),
        fingerprint: clean(&letter.fingerprint),
        attempts: letter.attempts.into_iter().map(attempt).collect(),
        // They are stored as JSON, which writes NUL as six characters.
        headers: letter.headers,
        body: letter.body,
        content_type: clean(&letter.content_type),
    }
}

fn attempt(attempt: Attempt) -> Attempt {
    Attempt {
        number: attempt.number,
        at: micros(attempt.at),
        instance: clean(&attempt.instance),
        code: clean(&attempt.code),
        text: clean(&attempt.text),
        sent: attempt.sent.map(|text| clean(&text)),
        answered: attempt.answered.map(|text| clean(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_be_indexed_and_stays_distinct() {
        assert_eq!(id("订单-4711"), "订单-4711");
        assert_eq!(id("a\0b"), "a␀b");
        let (long, other) = ("x".repeat(5000), "x".repeat(5001));
        assert!(id(&long).len() <= LONGEST_ID);
        assert_ne!(id(&long), id(&other));
        assert_eq!(id(&long), id(&long));
    }

    #[test]
    fn the_system_stands_before_the_first_slash() {
        assert_eq!(system("erp/CreateSalesOrder"), "erp");
        assert_eq!(system("erp/a/b"), "erp");
        assert_eq!(system("unknown"), "unknown");
    }
}
