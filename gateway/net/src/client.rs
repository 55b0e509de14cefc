//! The client: a pool a system, with every limit set.
