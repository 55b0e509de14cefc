//! What every implementation of a contract must do: one suite each.
//! Conformance suites: what every implementation of a contract must do.

mod bus;
mod store;
