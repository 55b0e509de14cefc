//! WSDL 1.1 at run time: files to a model by which calls are written and read, offline.
//!
//! [`documents`] gathers the files, [`catalogue`] has the schemas that nobody ships, [`read`](mod@read) makes the [`model`],
//! [`serve`] gives the files to who asks for them.

mod catalogue;
pub(crate) mod documents;
mod model;
mod read;
mod serve;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use model::*;
pub(crate) use read::{read, unusable};
