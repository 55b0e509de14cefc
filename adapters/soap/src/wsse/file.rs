//! `auth:` and `accept:` of a SOAP system: those of HTTP, and what stands in the envelope: a UsernameToken or a signature; and `verify:`
//! and `sign:`, the signatures of answers.

use std::path::PathBuf;

use gatehouse_core::secret::SecretRef;
use gatehouse_net::auth::{AcceptFile, AcceptKeyFile, ApiKeyFile, AuthFile, BasicFile};
use schemars::JsonSchema;
use serde::Deserialize;

/// How Gatehouse proves who it is. At most one way of HTTP, and beside it a UsernameToken where one is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SoapAuthFile {
    /// A key in a header.
    pub(crate) api_key: Option<ApiKeyFile>,
    /// HTTP Basic (RFC 7617).
    pub(crate) basic: Option<BasicFile>,
    /// A bearer token (RFC 6750).
    pub(crate) bearer: Option<SecretRef>,
    /// A WS-Security UsernameToken in the envelope's header.
    pub(crate) username_token: Option<SendTokenFile>,
    /// A signature of WS-Security over the body and a Timestamp.
    pub(crate) signature: Option<SignFile>,
}

/// A signature that Gatehouse makes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "ws-security"), expect(dead_code, reason = "read, and then refused"))]
pub(crate) struct SignFile {
    /// A PEM file with the certificate, which is sent along.
    pub(crate) certificate_file: PathBuf,
    /// Its private key in PEM: RSA, or EC on P-256 or P-384.
    pub(crate) key: SecretRef,
    /// For how many seconds a message is good. Default 300.
    #[serde(default)]
    pub(crate) timestamp: Option<u32>,
    /// Whether who gets it must refuse it when it does not know WS-Security. Default true.
    #[serde(default = "yes")]
    pub(crate) must_understand: bool,
    /// Whether the header blocks are signed too. Default false.
    #[serde(default)]
    pub(crate) headers: bool,
}

/// The signatures of the system's answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyFile {
    /// Who signs them. An answer that is not signed so is no answer.
    pub(crate) signature: TrustFile,
    /// Whether a fault counts as what it says though nobody has signed it: many systems sign none. Default false.
    #[serde(default)]
    pub(crate) unsigned_faults: bool,
}

/// The signatures of what Gatehouse answers the system.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignAnswersFile {
    /// The certificate and the key.
    pub(crate) signature: SignFile,
    /// Whether faults are signed too, for callers that have proven who they are. Default true.
    #[serde(default = "yes")]
    pub(crate) faults: bool,
}

/// A UsernameToken that Gatehouse sends.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendTokenFile {
    /// The name.
    pub(crate) username: String,
    /// The password.
    pub(crate) password: SecretRef,
    /// Send a digest with a nonce and the time instead of the password itself. Default false.
    #[serde(default)]
    pub(crate) digest: bool,
    /// Add a Timestamp that says for how many seconds the message is good. Default: none.
    #[serde(default)]
    pub(crate) timestamp: Option<u32>,
    /// Whether the system must refuse the call when it does not know WS-Security. Default true.
    #[serde(default = "yes")]
    pub(crate) must_understand: bool,
}

/// How a system proves who it is. One of them is enough.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SoapAcceptFile {
    /// A key in a header.
    pub(crate) api_key: Option<AcceptKeyFile>,
    /// HTTP Basic (RFC 7617).
    pub(crate) basic: Option<BasicFile>,
    /// A WS-Security UsernameToken in the envelope's header.
    pub(crate) username_token: Option<AcceptTokenFile>,
    /// A signature of WS-Security over the body and a Timestamp.
    pub(crate) signature: Option<TrustFile>,
}

/// Whose signatures are good.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrustFile {
    /// PEM files with the certificates that may sign, one each; two while the system changes its own.
    pub(crate) certificate_files: Vec<PathBuf>,
    /// PEM files with CAs: who has a certificate of theirs may sign, as far as `subjects` names it.
    pub(crate) ca_files: Vec<PathBuf>,
    /// With `ca_files`: whose certificates they are, as `CN=oa,O=Example,C=CN` (RFC 4514), or `"*"` for anybody.
    pub(crate) subjects: Vec<String>,
    /// How many seconds a message is good after it was signed; for so long it is remembered. Default 300.
    pub(crate) window: Option<u32>,
}

/// A UsernameToken that callers send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptTokenFile {
    /// The name.
    pub(crate) username: String,
    /// The password.
    pub(crate) password: SecretRef,
    /// Take the password in clear too, not only its digest. Over TLS only. Default false.
    #[serde(default)]
    pub(crate) text: bool,
    /// How many seconds a token is good after it was made; a nonce is remembered for so long. Default 300.
    #[serde(default)]
    pub(crate) window: Option<u32>,
}

fn yes() -> bool {
    true
}

impl SoapAuthFile {
    /// What HTTP carries.
    pub(crate) fn http(&self) -> AuthFile {
        AuthFile { api_key: self.api_key.clone(), basic: self.basic.clone(), bearer: self.bearer.clone() }
    }
}

impl SoapAcceptFile {
    /// What HTTP carries.
    pub(crate) fn http(&self) -> AcceptFile {
        AcceptFile { api_key: self.api_key.clone(), basic: self.basic.clone() }
    }

    /// Whether HTTP carries anything.
    pub(crate) fn has_http(&self) -> bool {
        self.api_key.is_some() || self.basic.is_some()
    }
}
