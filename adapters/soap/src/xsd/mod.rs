//! XML Schema 1.0 as SOAP systems use it: read into a model by which documents are written and read. It is no validator of
//! schemas: what contradicts itself in ways that do not show in a document is let be. Not built: `key`, `unique`, `keyref`.
//!
//! [`model`] is what a set of schemas says, [`read`] makes it from documents, [`builtin`] and [`facets`] know the simple types.

mod builtin;
mod facets;
mod flat;
mod model;
mod read;
mod symbols;

#[cfg(test)]
pub(crate) use builtin::Moment;
pub(crate) use builtin::{Kind, XSD};
#[cfg(test)]
pub(crate) use facets::pattern;
pub(crate) use model::*;
pub(crate) use read::Reader;
pub(crate) use symbols::{problem, qname};
