//! Reading a body under a cap and a deadline.

/// A body that has not been read.
pub struct Incoming {}
