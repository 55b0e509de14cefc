//! The one integration binary. Each module is one question; what needs a server is skipped, loudly, where none is named.

mod broker;
mod chaos;
mod cli;
mod conformance;
mod flow;
mod harness;
mod rabbitmq;
