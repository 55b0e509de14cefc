//! HTTP and TLS wiring, shared by every adapter that speaks HTTP: the capped listener that adapters mount endpoints on,
//! the client that they call out with, credentials both ways, and problem documents. It knows nothing of messages.

pub mod auth;
pub mod body;
pub mod client;
pub mod door;
mod head;
pub mod parse;
pub mod path;
pub mod problem;
pub mod retry;
mod tls;
pub mod trace;
