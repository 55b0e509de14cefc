//! Secrets: how a file names them, and how they are carried without being shown.
//!
//! A file says `${env:NAME}` or `${file:/path}`, never the secret. `check` reads only the reference; the value is
//! fetched when a system connects.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::fault::Fault;

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("pattern" = r"^\$\{(env|file):[^}]+\}$"))]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; one line end at its end is left off.
    File(String),
}

impl SecretRef {
    /// Reads `${env:NAME}` or `${file:/path}`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inside = text.strip_prefix("${")?.strip_suffix('}')?;
        match inside.split_once(':')? {
            ("env", name) if !name.is_empty() => Some(Self::Env(name.to_owned())),
            ("file", path) if !path.is_empty() => Some(Self::File(path.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{path}}}"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            // The text is not shown: it may be the secret itself.
            serde::de::Error::custom("a secret is named, not written: use ${env:NAME} or ${file:/path}")
        })
    }
}

/// A secret's value. Its `Debug` and `Display` show nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the wire only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Fetches secrets; the server's reads the environment and files.
pub trait Secrets: Send + Sync {
    /// The value of a secret.
    ///
    /// # Errors
    /// [`Code::Misconfigured`](crate::fault::Code::Misconfigured) where it is not set, not readable or empty.
    fn fetch(&self, secret: &SecretRef) -> Result<Secret, Fault>;
}
