//! The one integration binary. Each module is one question; what needs a server is skipped, loudly, where none is named.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and a skip is said loudly"
)]

mod amqps;
mod batches;
mod broker;
mod capture;
mod chaos;
mod cli;
mod conformance;
mod databases;
mod faults;
mod flow;
mod harness;
mod interop;
mod peers;
mod proxy;
mod rabbitmq;
mod tidy;
