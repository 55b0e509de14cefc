//! The pure heart of Gatehouse.
//!
//! What a message is, how bytes become a [`Value`] and back, how a mapping table turns one shape into another, how an
//! expression is judged, what a site's files mean and what is wrong with them, and the contract that every adapter
//! fulfils. Nothing here reads a clock, opens a socket or a file, spawns a task or writes a log: whatever a function
//! needs, it is handed.
//!
//! The rooms, in the order in which a message meets them: [`charset`], [`json`] and [`xml`] decode bytes to a [`Value`];
//! [`nested`] opens documents in strings; [`mapping`] shapes it, with [`expr`] for conditions; [`schema`] judges it; [`merge`] makes one of what several sources say; [`message`] carries it; [`adapter`] is
//! the contract of those who bring it in and take it out; [`fault`] is how anything of this goes wrong. [`site`] is the
//! folder of files that says all that, and [`diagnostics`] how its mistakes are told.

pub mod adapter;
mod arrival;
pub mod backfill;
pub mod charset;
#[cfg(test)]
mod corpus;
pub mod diagnostics;
mod endpoint;
pub mod expr;
pub mod fault;
pub mod json;
pub mod limits;
mod map;
pub mod mapping;
pub mod merge;
pub mod message;
pub mod nested;
pub mod number;
pub mod outcome;
pub mod outline;
mod passed;
pub mod path;
pub mod reading;
pub mod receipt;
mod reply;
pub mod schema;
pub mod secret;
pub mod site;
pub mod value;
pub mod xml;
pub mod yaml;

pub use fault::Fault;
pub use message::Message;
pub use number::Number;
pub use value::{Map, Name, Value};
