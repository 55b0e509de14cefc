//! Bodies read by a schema and written by it.
#![no_main]

use std::sync::LazyLock;

use gatehouse_soap::fuzz::Typed;
use libfuzzer_sys::fuzz_target;

static TYPED: LazyLock<Typed> = LazyLock::new(|| Typed::new(include_str!("everything.wsdl")));

fuzz_target!(|data: &[u8]| TYPED.run(data));
