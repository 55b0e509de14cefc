//! HTTP and TLS wiring, shared by every adapter that speaks HTTP: the capped listener that adapters mount endpoints on,
//! and the client that they call out with. It knows nothing of messages.

pub mod body;
pub mod client;
pub mod door;
