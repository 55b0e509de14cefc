//! What the fuzz targets in `fuzz/` may call: each function takes any bytes, must not panic, and asserts what must hold of what it took.

use bytes::Bytes;
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml;

use crate::addressing::Addressing;
use crate::envelope::Envelope;
use crate::fault::PeerFault;
use crate::media::Media;
use crate::typed::{self, Mode};
use crate::wsdl::{self, Wsdl};
use crate::{body_schema, mime, outline, request};

/// The largest message here.
const MAX: usize = 1 << 20;

/// A message: a first line with its content type, then its bytes. As it is opened where it arrives.
pub fn envelope(data: &[u8]) {
    let (head, bytes) = head(data);
    let media = Media::parse(head);
    let version = media.version();
    let Ok(mut envelope) = request::open(&Bytes::copy_from_slice(bytes), &media, version, MAX) else { return };
    assert_eq!(envelope.version, version);
    let _ = Addressing::of(&envelope.headers);
    if envelope.unfold().is_err() {
        return;
    }
    for element in &envelope.body {
        let _ = PeerFault::read(element);
        let _ = element.to_value();
    }
}

/// A message in parts: a first line with its content type, then its bytes.
pub fn mime(data: &[u8]) {
    let (head, bytes) = head(data);
    let Ok(package) = mime::read(&Media::parse(head), &Bytes::copy_from_slice(bytes)) else { return };
    assert!(package.root.len() <= bytes.len());
    let limits = BodyLimits { bytes: MAX, text: MAX, ..BodyLimits::default() };
    let Ok(mut root) = xml::decode(&package.root, package.media.charset.as_deref(), &limits) else { return };
    if package.resolve(&mut root, MAX).is_ok() {
        let _ = Envelope::take(root);
    }
}

/// A WSDL: every import of it finds the same text again. What loads can be shown, described, written and read.
pub fn wsdl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let find = |path: &str| Some(SourceFile::new(path, text));
    let mut problems = Problems::new();
    let loaded = wsdl::read(SourceFile::new("a.wsdl", text), &find, &mut problems);
    for problem in problems.iter() {
        let _ = problem.render(false);
    }
    let Some(Wsdl { services, schemas, .. }) = loaded else { return };
    let operations = services.iter().flat_map(|service| &service.ports).flat_map(|port| &port.operations);
    for operation in operations.take(8) {
        for message in [&operation.input, &operation.output].into_iter().flatten() {
            for id in &message.body {
                let _ = outline::outline(&schemas, *id, 4);
                let _ = body_schema::json_schema(&schemas, *id, "a", "a");
                let _ = typed::write(&schemas, *id, &gatehouse_core::Value::map(), message.encoded);
            }
        }
    }
}

/// A body of an operation that has a bit of everything: what is read by its schema is written by it again, and read as the same.
pub struct Typed {
    wsdl: Wsdl,
}

impl Typed {
    /// Loads `text`, a WSDL with its types in it.
    ///
    /// # Panics
    /// Where it does not load.
    #[must_use]
    #[expect(clippy::expect_used, reason = "it is the target's own")]
    pub fn new(text: &str) -> Self {
        let wsdl = wsdl::read(SourceFile::new("a.wsdl", text), &|_| None, &mut Problems::new());
        Self { wsdl: wsdl.expect("the target's WSDL loads") }
    }

    /// Reads one.
    pub fn run(&self, data: &[u8]) {
        let Ok(root) = xml::decode(data, Some("utf-8"), &BodyLimits::default()) else { return };
        let schemas = &self.wsdl.schemas;
        let Some(id) = schemas.global(&root.name) else { return };
        let _ = typed::read(schemas, id, &root, Mode::Lenient);
        let Ok(value) = typed::read(schemas, id, &root, Mode::Strict) else { return };
        // The order of elements is not judged where they come in, so not everything that is read can be written.
        let Ok(written) = typed::write(schemas, id, &value, false) else { return };
        let again = xml::decode(&written.encode(), Some("utf-8"), &BodyLimits::default());
        let again = again.map(|root| typed::read(schemas, id, &root, Mode::Strict));
        assert!(matches!(&again, Ok(Ok(again)) if *again == value), "{value} was written and read as {again:?}");
    }
}

fn head(data: &[u8]) -> (&str, &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, rest) = data.split_at(end);
    (std::str::from_utf8(head).unwrap_or_default(), rest.get(1..).unwrap_or_default())
}
