//! The XML gate: what it takes is written again and taken as the same, and becomes a value.
#![no_main]

use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = BodyLimits::default();
    let Ok(root) = xml::decode(data, None, &limits) else { return };
    let written = root.encode();
    let again = xml::decode(&written, None, &BodyLimits { bytes: 64 << 20, text: 64 << 20, ..limits });
    assert_eq!(again.as_ref(), Ok(&root), "{}", String::from_utf8_lossy(&written));
    let _ = root.to_value();
});
