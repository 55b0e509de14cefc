//! Messages in parts: MTOM, SOAP with Attachments.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gatehouse_soap::fuzz::mime(data));
