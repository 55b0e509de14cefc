//! The program: the only crate that knows everything, wired in flow order.
//!
//! [`site`] reads a folder and checks it with the adapters of [`registry`]; [`engine`] carries messages from the
//! inbound halves over the bus to the outbound halves and into the dead letters; [`admin`] shows it; [`cli`] is what
//! people type; [`demo`] tells the story with stand-in peers.

pub mod admin;
pub mod cli;
pub mod demo;
pub mod engine;
pub mod registry;
pub mod site;
