//! Elements to values and back as a schema says: repeated elements are lists even with one item, numbers and booleans are what
//! they are, nil is not absent is not empty.
//!
//! A value has the keys of design.md §7: local names, `@name` for attributes, `#text` for text beside attributes or elements;
//! an element that says another type than was declared has it under `@xsi:type`. [`read`](mod@read) and
//! [`write`](mod@write) are the two directions, [`simple`] the texts, [`encoded`] what SOAP 1.1 §5 adds: references and arrays,
//! [`binary`] finds the bytes that may travel beside the envelope.

mod binary;
mod encoded;
mod read;
mod simple;
mod write;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use gatehouse_core::Name;
use gatehouse_core::fault::Violation;

pub(crate) use binary::each_binary;
pub(crate) use encoded::inline;
pub(crate) use read::{Mode, read};
pub(crate) use write::write;

/// The key under which an element's own type stands, where it is not the declared one.
const TYPE_KEY: &str = "@xsi:type";

/// The key of text beside attributes or elements.
const TEXT_KEY: &str = "#text";

/// The most violations that are told at once.
const MAX_VIOLATIONS: usize = 20;

/// Where in a value something is wrong, and what; collected.
#[derive(Default)]
struct Findings {
    /// Names and numbers of items.
    path: Vec<Name>,
    found: Vec<Violation>,
}

impl Findings {
    fn tell(&mut self, message: impl Into<String>) {
        if self.found.len() < MAX_VIOLATIONS {
            self.found.push(Violation { pointer: self.pointer(), message: message.into() });
        }
    }

    /// A JSON pointer (RFC 6901).
    fn pointer(&self) -> String {
        self.path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
    }

    /// Does something one step further in.
    fn within<T>(&mut self, step: impl Into<Name>, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step.into());
        let done = work(self);
        self.path.pop();
        done
    }
}

/// A text of a message, cut.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 { format!("{cut}…") } else { cut }
}
