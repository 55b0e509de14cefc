//! What every implementation of a contract must do: one suite each.

mod bus;
mod store;
