//! What goes between an inbound half and the engine: leave to send, an arrival, and the place in a source that is read.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::fault::Fault;
use crate::limits::Limits;
use crate::passed::Wants;
use crate::value::Value;
use crate::xml::Element;

/// Leave to send one arrival; what a caller may be told of its rate.
#[derive(Clone, Debug)]
#[must_use = "an admission that is not used has still been counted"]
pub struct Admission {
    /// `system/endpoint`.
    pub endpoint: Arc<str>,
    /// The endpoint's limits.
    pub limits: Limits,
    /// How many more may come at once now, where a rate is set.
    pub remaining: Option<u32>,
    /// What is wanted of the arrival.
    pub wants: Wants,
}

/// Something that came in, decoded.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The decoded body.
    pub body: Value,
    /// The XML that the body was read from, where it was XML and is [wanted](Wants::document): mappings with prefixes look
    /// up namespaces in it.
    pub document: Option<Element>,
    /// The caller's own id for it, if it sends one: 1 to 255 visible characters.
    pub id: Option<String>,
    /// Named things beside the body (path parameters, chosen headers): expressions and mappings see them as `meta`.
    pub meta: Value,
    /// W3C trace context of the caller.
    pub traceparent: Option<String>,
    /// What came: kept where no message comes of it, and compared where its id comes again, so that another body under the same
    /// id is told. The bytes as they came; where those are others at each attempt (boundaries, nonces, times of signing) or
    /// hold a password, the body as JSON.
    pub original: Bytes,
    /// Their content type.
    pub content_type: Cow<'static, str>,
}

/// How far a source has been read, held by the one gateway that reads it. Only words that the adapter chose itself stand in
/// it: no other part of Gatehouse reads them.
#[async_trait]
pub trait Cursor: Send + Sync {
    /// What was saved last; `None` where the source was never read.
    fn value(&self) -> Option<&str>;

    /// Whether this gateway is still the one that reads; asked before each look, also where nothing is to be saved.
    fn is_held(&self) -> bool;

    /// Saves how far it has been read: only what is durably on the bus may be counted.
    ///
    /// # Errors
    /// `Conflict` where another gateway reads the source now: stop. `Unavailable` while the store cannot be written.
    async fn save(&mut self, value: &str) -> Result<(), Fault>;
}

/// How far behind its source a reader is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Changes that wait in the source, where it can tell.
    pub waiting: Option<u64>,
    /// The age of the oldest of them.
    pub age: Option<Duration>,
    /// How much of its log the source holds back for the reader, in bytes, where it does.
    pub bytes: Option<u64>,
    /// What a person should know or do, one sentence each.
    pub notes: Vec<String>,
}
