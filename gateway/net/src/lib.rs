//! HTTP and TLS wiring: the capped listener, the client pool and the outbound guard.
