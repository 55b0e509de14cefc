//! What a system offers or sends, and which way messages go through it.

use crate::limits::Limits;

/// One thing that a system offers or sends.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name within the system: `CreateSalesOrder`.
    pub name: String,
    /// Which way messages go through it.
    pub direction: Direction,
    /// Its own limits, already laid over the system's.
    pub limits: Limits,
    /// One line for people: `POST /hooks/orders`.
    pub summary: String,
    /// Whether bodies can go through it as they came (`pass_through`).
    pub passes: bool,
    /// Byte range of its name in the system's file.
    pub span: std::ops::Range<usize>,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the system to Gatehouse.
    Inbound,
    /// From Gatehouse to the system.
    Outbound,
}
