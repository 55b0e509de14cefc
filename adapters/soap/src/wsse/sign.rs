//! The block that a call carries; new at every attempt.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse_core::fault::Fault;
use gatehouse_core::secret::{Secret, Secrets};
use gatehouse_core::xml::Element;
use jiff::Timestamp;

use super::file::SendTokenFile;
use super::{BASE64, PROFILE, WSSE, WSU, digest};
use crate::envelope::Version;

/// Makes blocks.
pub(crate) struct Signer {
    file: SendTokenFile,
    password: Secret,
}

impl Signer {
    /// Fetches the password.
    pub(crate) fn open(file: &SendTokenFile, secrets: &dyn Secrets) -> Result<Self, Fault> {
        Ok(Self { file: file.clone(), password: secrets.fetch(&file.password)? })
    }

    /// The password, where the block holds it in clear.
    pub(crate) fn in_clear(&self) -> Option<&str> {
        (!self.file.digest).then(|| self.password.expose())
    }

    /// A block of this moment.
    pub(crate) fn block(&self, version: Version) -> Element {
        self.block_at(version, Timestamp::now(), &rand::random())
    }

    pub(super) fn block_at(&self, version: Version, now: Timestamp, nonce: &[u8; 16]) -> Element {
        let own = |local: &str| Element::new(Some(WSSE), local);
        let time = |local: &str, at: Timestamp| Element::new(Some(WSU), local).with_text(stamp(at));
        let mut block = own("Security");
        if self.file.must_understand {
            block = block.with_attribute(Some(version.namespace()), "mustUnderstand", version.yes());
        }
        if let Some(seconds) = self.file.timestamp {
            let until = now.saturating_add(Duration::from_secs(seconds.into())).unwrap_or(now);
            let stamp = Element::new(Some(WSU), "Timestamp");
            block = block.with_child(stamp.with_child(time("Created", now)).with_child(time("Expires", until)));
        }
        let mut token = own("UsernameToken").with_child(own("Username").with_text(&*self.file.username));
        let password = own("Password");
        if self.file.digest {
            let digest = digest(nonce, &stamp(now), self.password.expose());
            token = token
                .with_child(password.with_attribute(None, "Type", format!("{PROFILE}PasswordDigest")).with_text(digest))
                .with_child(own("Nonce").with_attribute(None, "EncodingType", BASE64).with_text(STANDARD.encode(nonce)))
                .with_child(time("Created", now));
        } else {
            let text = self.password.expose();
            token = token
                .with_child(password.with_attribute(None, "Type", format!("{PROFILE}PasswordText")).with_text(text));
        }
        block.with_child(token)
    }
}

/// A time in UTC with milliseconds, as every toolkit reads it.
pub(super) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
