//! The REST adapter: HTTP endpoints in, HTTP calls out.
