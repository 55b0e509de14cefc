//! Bodies that go over the bus as they came, and answers that come back so: the parcel's body is theirs, and its headers say
//! what they are.

use gatehouse_bus::Parcel;
use gatehouse_core::adapter::Passed;
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::{Value, json};

/// The parcel's body is as it came, of this content type; empty where the sender named none.
const PASSED: &str = "gatehouse-passed";

/// What came along with it, JSON.
const META: &str = "gatehouse-meta";

/// The status of an answer.
const STATUS: &str = "gatehouse-status";

/// Puts a body on a parcel.
pub(super) fn put(parcel: &mut Parcel, passed: &Passed, meta: &Value) {
    parcel.body = passed.body.clone();
    parcel.content_type = passed.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
    parcel.headers.insert(PASSED, passed.content_type.clone().unwrap_or_default());
    if meta.as_map().is_some_and(|meta| !meta.is_empty()) {
        parcel.headers.insert(META, meta.to_string());
    }
    if let Some(status) = passed.status {
        parcel.headers.insert(STATUS, status.to_string());
    }
}

/// The body that was put on a parcel, and what came along.
pub(super) fn take(parcel: &Parcel) -> Option<(Passed, Value)> {
    let content_type = parcel.header(PASSED)?;
    let passed = Passed {
        body: parcel.body.clone(),
        content_type: (!content_type.is_empty()).then(|| content_type.to_owned()),
        status: parcel.header(STATUS).and_then(|status| status.parse().ok()),
    };
    let meta = parcel.header(META).and_then(|text| json::decode(text.as_bytes(), &BodyLimits::default()).ok());
    Some((passed, meta.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_off_a_parcel_as_it_was_put_on() {
        let meta: Value = [("soapaction", Value::from("\"urn:查\""))].into_iter().collect();
        let body = bytes::Bytes::from_static(b"\xff\x00<a/>");
        for (content_type, status) in [(Some("text/xml; charset=gbk".to_owned()), Some(500)), (None, None)] {
            let passed = Passed { body: body.clone(), content_type, status };
            let mut parcel = Parcel::default();
            assert_eq!(take(&parcel), None);
            put(&mut parcel, &passed, &meta);
            assert_eq!(take(&parcel), Some((passed, meta.clone())));
        }
    }
}
