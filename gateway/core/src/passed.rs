//! Bodies that go through as they came (`pass_through` on a route): bytes that nobody shapes, with what must go along.

use std::sync::Arc;

use bytes::Bytes;

use crate::reading::Reading;

/// A body that goes on as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The bytes.
    pub body: Bytes,
    /// Their content type, as the sender named it.
    pub content_type: Option<String>,
    /// Of an answer: its status, where the protocol has one.
    pub status: Option<u16>,
}

/// What the routes of an inbound endpoint want of its arrivals. Decoders need not make more.
#[derive(Clone, Debug)]
pub struct Wants {
    /// What they read of the body.
    pub body: Arc<Reading>,
    /// Whether a mapping looks up namespaces in the document, where it is XML.
    pub document: bool,
    /// The body goes on as it came.
    pub as_it_came: bool,
}

impl Default for Wants {
    /// All of the body, in Gatehouse's own shape.
    fn default() -> Self {
        Self { body: Arc::new(Reading::whole()), document: true, as_it_came: false }
    }
}
