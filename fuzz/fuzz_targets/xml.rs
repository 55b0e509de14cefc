//! The XML gate: what it takes is written again and taken as the same, and becomes a value; what looks through a document takes
//! and refuses the same, whatever it looks for.
#![no_main]

use gatehouse_core::limits::BodyLimits;
use gatehouse_core::reading::Reading;
use gatehouse_core::xml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = BodyLimits::default();
    let read = xml::decode(data, None, &limits);
    let value = read.as_ref().map(|root| root.to_value()).map_err(Clone::clone);
    assert_eq!(xml::skim(data, None, &limits, &Reading::whole()), value);
    assert_eq!(xml::skim(data, None, &limits, &Reading::default()).map(drop), value.map(drop));
    let Ok(root) = read else { return };
    let written = root.encode();
    let again = xml::decode(&written, None, &BodyLimits { bytes: 64 << 20, text: 64 << 20, ..limits });
    assert_eq!(again.as_ref(), Ok(&root), "{}", String::from_utf8_lossy(&written));
});
