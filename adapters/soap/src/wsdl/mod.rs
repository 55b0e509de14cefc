//! WSDL 1.1 at run time: files to a model by which calls are written and read, offline.
//!
//! [`documents`] gathers the files, [`catalogue`] has the schemas that nobody ships, [`read`](mod@read) makes the [`model`].

mod catalogue;
pub(crate) mod documents;
mod model;
mod read;

#[cfg(test)]
mod tests;

pub(crate) use model::*;
pub(crate) use read::read;
