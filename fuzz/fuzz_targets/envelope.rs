//! SOAP envelopes, as they are opened where they arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gatehouse_soap::fuzz::envelope(data));
