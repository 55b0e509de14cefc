//! The embedded bus: durable queues in one file, for one process.
