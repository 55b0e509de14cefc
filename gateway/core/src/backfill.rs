//! What goes between a source and the engine when rows that were read long ago are read once more (`gatehouse backfill`):
//! slices of a table, and the one piece after the other that its reader is handed.
//!
//! The reader of an endpoint does it in its own loop, between two looks for changes. So what is handed over of a row keeps its
//! order: a piece is as new as its look, and a change that is handed over after it is newer.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::arrival::Arrival;
use crate::fault::Fault;

/// What a source still holds of what it has handed over; looked at before a backfill begins.
#[async_trait]
pub trait Archive: Send + Sync {
    /// The tables that can be read once more, each with the column that cuts it into slices: `by`, else the source's own choice.
    ///
    /// # Errors
    /// There is no such table or column.
    async fn spans(&self, table: Option<&str>, by: Option<&str>) -> Result<Vec<Span>, Fault>;

    /// How many rows a slice holds now.
    ///
    /// # Errors
    /// It cannot be counted: a bound that the column cannot be compared with, a source that does not answer.
    async fn count(&self, slice: &Slice) -> Result<u64, Fault>;
}

/// A table and the column that cuts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The table's name, as its messages say it in `meta.table`.
    pub table: String,
    /// The column.
    pub by: String,
    /// Whether its values sort as numbers; else as times or texts.
    pub numbers: bool,
    /// Its least value; `None` where the table is empty.
    pub least: Option<String>,
    /// Its largest value.
    pub largest: Option<String>,
}

/// A part of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The table.
    pub table: String,
    /// The column that cuts it. Rows in which it is empty are in no slice.
    pub by: String,
    /// From this value on.
    pub from: Option<String>,
    /// Up to this value, without it.
    pub to: Option<String>,
}

/// What is to be read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of this slice.
    pub slice: Slice,
    /// After this place, in words that the reader chose itself; `None` at the slice's beginning.
    pub after: Option<String>,
    /// At most so many rows.
    pub rows: u32,
}

/// When the next piece is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now(Piece),
    /// When this has passed: its rate, its targets or its operator holds it.
    In(Duration),
}

/// A backfill, as the reader of its endpoint sees it.
#[async_trait]
pub trait Backfill: Send + Sync {
    /// What is to be read next.
    async fn due(&self) -> Due;

    /// Takes a row, as [`Intake::keep`](crate::adapter::Intake::keep) takes one: done once it is durably somewhere.
    ///
    /// # Errors
    /// The route is gone.
    async fn keep(&self, arrival: Arrival) -> Result<(), Fault>;

    /// Makes a dead letter of a row that cannot be read.
    async fn bury(&self, arrival: Arrival, fault: Fault);

    /// Saves how far the piece's slice is once all its rows are kept or buried; `None`: to its end. Where that cannot be
    /// saved now, the piece comes again.
    async fn save(&self, after: Option<&str>);

    /// It cannot go on until a person has looked.
    async fn stop(&self, fault: Fault);
}
