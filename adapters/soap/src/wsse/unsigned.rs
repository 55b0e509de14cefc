//! What stands for signatures where they were not built in: types of which there is no value. The check refuses a file that asks for one.

use bytes::Bytes;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::Secrets;
use gatehouse_core::xml::Element;

use super::file::{SignFile, TrustFile};
use super::once::Once;
use crate::envelope::{Envelope, Version};

/// Signs; not here.
pub(crate) enum Sealer {}

/// Judges signatures; not here.
#[derive(Clone)]
pub(crate) enum Inspector {}

fn missing<T>() -> Result<T, Fault> {
    Err(Fault::new(Code::Misconfigured, "this Gatehouse was built without signatures (the feature `ws-security`)"))
}

impl Sealer {
    pub(crate) fn open(_file: &SignFile, _secrets: &dyn Secrets) -> Result<Self, Fault> {
        missing()
    }

    pub(crate) fn seal(
        &self,
        _version: Version,
        _headers: Vec<Element>,
        _body: Vec<Element>,
        _namespace: Option<&str>,
    ) -> Result<Vec<u8>, String> {
        match *self {}
    }
}

impl Inspector {
    pub(crate) fn open(_file: &TrustFile) -> Result<Self, Fault> {
        missing()
    }

    pub(crate) fn verify(
        &self,
        _bytes: &Bytes,
        _charset: Option<&str>,
        _version: Version,
    ) -> Result<(Envelope, Once), String> {
        match *self {}
    }
}
