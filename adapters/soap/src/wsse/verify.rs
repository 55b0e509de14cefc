//! Judges the block of a caller: one token, the right password, not too old, and not seen before.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::{Secret, Secrets};
use gatehouse_core::xml::Element;
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::file::AcceptTokenFile;
use super::once::{Once, Seen};
use super::{PROFILE, WSSE, WSU, digest, is_security};
use crate::envelope::Version;

/// How far a caller's clock may be ahead of ours.
pub(super) const SKEW: Duration = Duration::from_secs(60);

/// How old a token may be, where the file does not say.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// The longest nonce, in bytes.
const MAX_NONCE: usize = 256;

/// Judges blocks.
#[derive(Clone)]
pub(crate) struct Verifier {
    username: String,
    password: Secret,
    text: bool,
    window: Duration,
    /// Nonces.
    seen: Seen,
}

impl Verifier {
    /// Fetches the password.
    pub(crate) fn open(file: &AcceptTokenFile, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let window = file.window.map_or(WINDOW, |seconds| Duration::from_secs(seconds.into()));
        let password = secrets.fetch(&file.password)?;
        Ok(Self { username: file.username.clone(), password, text: file.text, window, seen: Seen::new(window) })
    }

    /// Judges the header blocks of a message. What comes back holds its nonce's place.
    ///
    /// # Errors
    /// `Unauthenticated`, the same whatever is missing or wrong, so that nothing can be learnt from it.
    pub(crate) fn verify(&self, version: Version, headers: &[Element]) -> Result<Once, Fault> {
        self.verify_at(version, headers, Timestamp::now())
    }

    pub(super) fn verify_at(&self, version: Version, headers: &[Element], now: Timestamp) -> Result<Once, Fault> {
        let ours = headers.iter().filter(|block| is_security(block) && is_for_us(version, block)).collect::<Vec<_>>();
        let good = match ours.as_slice() {
            [block] => self.is_good(block, now),
            _ => None,
        };
        good.ok_or_else(|| Fault::new(Code::Unauthenticated, "the credentials are missing or wrong"))
    }

    fn is_good(&self, block: &Element, now: Timestamp) -> Option<Once> {
        // A signature or a token of another kind means something; what is not understood is not passed over.
        let known =
            |element: &Element| element.name.is(Some(WSSE), "UsernameToken") || element.name.is(Some(WSU), "Timestamp");
        if !block.elements().all(known) {
            return None;
        }
        if let Some(stamp) = optional(block, WSU, "Timestamp")? {
            let expires = optional(stamp, WSU, "Expires")?.map(time).unwrap_or(Some(now))?;
            let created = optional(stamp, WSU, "Created")?.map(time).unwrap_or(Some(now))?;
            if expires < now || created > now.saturating_add(SKEW).ok()? {
                return None;
            }
        }
        self.token(optional(block, WSSE, "UsernameToken")??, now)
    }

    fn token(&self, token: &Element, now: Timestamp) -> Option<Once> {
        let username = optional(token, WSSE, "Username")??.text();
        let password = optional(token, WSSE, "Password")??;
        let kind = password.attribute(None, "Type").map(str::trim);
        let kind = kind.map_or("PasswordText", |kind| kind.strip_prefix(PROFILE).unwrap_or(kind));
        let created = optional(token, WSU, "Created")?;
        let given = password.text();
        let right = match kind {
            "PasswordText" if self.text => given.as_bytes().ct_eq(self.password.expose().as_bytes()),
            "PasswordDigest" => {
                let nonce = optional(token, WSSE, "Nonce")??.text();
                let nonce = STANDARD.decode(nonce.trim()).ok().filter(|nonce| !nonce.is_empty())?;
                let expected = digest(&nonce, created?.text().trim(), self.password.expose());
                given.trim().as_bytes().ct_eq(expected.as_bytes())
            }
            _ => return None,
        };
        let named = username.trim().as_bytes().ct_eq(self.username.as_bytes());
        if !bool::from(right & named) {
            return None;
        }
        if let Some(created) = created {
            let at = time(created)?;
            let oldest = now.saturating_sub(self.window).ok()?;
            if at < oldest || at > now.saturating_add(SKEW).ok()? {
                return None;
            }
        }
        // Only what was right takes a place among the nonces.
        match optional(token, WSSE, "Nonce")? {
            Some(nonce) => {
                let nonce = nonce.text();
                Some(nonce.trim().as_bytes())
                    .filter(|nonce| nonce.len() <= MAX_NONCE)
                    .and_then(|nonce| self.seen.take(nonce))
            }
            None => Some(Once::unmarked()),
        }
    }
}

/// The child of this name; `Some(None)` where there is none, `None` where there are two: one would be judged and another read.
#[expect(clippy::option_option, reason = "absent is lawful, twice is not")]
pub(super) fn optional<'a>(parent: &'a Element, namespace: &str, local: &str) -> Option<Option<&'a Element>> {
    let mut found = parent.elements().filter(|element| element.name.is(Some(namespace), local));
    let first = found.next();
    found.next().is_none().then_some(first)
}

pub(super) fn time(element: &Element) -> Option<Timestamp> {
    element.text().trim().parse().ok()
}

/// Whether a block is for the one who answers, and not for somebody on the way.
fn is_for_us(version: Version, block: &Element) -> bool {
    let role = match version {
        Version::V11 => "actor",
        Version::V12 => "role",
    };
    let role = block.attribute(Some(version.namespace()), role).unwrap_or_default();
    role.is_empty() || role.ends_with("/next") || role.ends_with("/ultimateReceiver")
}
