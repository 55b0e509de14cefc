//! Credentials: how callers prove who they are (`accept:`), and how Gatehouse does when it calls (`auth:`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::{Secret, SecretRef, Secrets};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use subtle::ConstantTimeEq;

/// `accept:` of a system: how it proves who it is. With both, either is enough.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AcceptFile {
    /// A key in a header.
    pub api_key: Option<AcceptKeyFile>,
    /// HTTP Basic (RFC 7617).
    pub basic: Option<BasicFile>,
}

/// A key that callers send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptKeyFile {
    /// The header that holds it: `X-Api-Key`.
    pub header: String,
    /// The key.
    pub value: SecretRef,
    /// A second key that is good too, while keys are being changed.
    #[serde(default)]
    pub also: Option<SecretRef>,
}

/// A name and a password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicFile {
    /// The name.
    pub username: String,
    /// The password.
    pub password: SecretRef,
}

/// `auth:` of a system: how Gatehouse proves who it is. At most one of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthFile {
    /// A key in a header.
    pub api_key: Option<ApiKeyFile>,
    /// HTTP Basic (RFC 7617).
    pub basic: Option<BasicFile>,
    /// A bearer token (RFC 6750).
    pub bearer: Option<SecretRef>,
}

/// A key that Gatehouse sends.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyFile {
    /// The header that holds it.
    pub header: String,
    /// The key.
    pub value: SecretRef,
    /// A word before the key, as in `Authorization: Zoho-oauthtoken KEY`.
    #[serde(default)]
    pub scheme: Option<String>,
}

/// What a caller may prove itself with. Nothing at all lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    keys: Option<(HeaderName, Vec<Secret>)>,
    basic: Option<(String, Secret)>,
}

impl AcceptFile {
    /// The header names that are no header names.
    #[must_use]
    pub fn bad_header(&self) -> Option<&str> {
        self.api_key.as_ref().map(|key| key.header.as_str()).filter(|name| name.parse::<HeaderName>().is_err())
    }

    /// Fetches the secrets.
    ///
    /// # Errors
    /// A secret that is not there.
    pub fn open(&self, secrets: &dyn Secrets) -> Result<Accept, Fault> {
        let keys = match &self.api_key {
            None => None,
            Some(key) => {
                let values =
                    [Some(&key.value), key.also.as_ref()].into_iter().flatten().map(|value| secrets.fetch(value));
                Some((header_name(&key.header)?, values.collect::<Result<_, _>>()?))
            }
        };
        let basic = self
            .basic
            .as_ref()
            .map(|basic| Ok::<_, Fault>((basic.username.clone(), secrets.fetch(&basic.password)?)))
            .transpose()?;
        Ok(Accept { keys, basic })
    }
}

impl Accept {
    /// Judges a caller's headers, in a time that does not tell how nearly right they are.
    ///
    /// # Errors
    /// `Unauthenticated`, the same whether a credential is missing or wrong.
    pub fn verify(&self, headers: &HeaderMap) -> Result<(), Fault> {
        if self.keys.is_none() && self.basic.is_none() {
            return Ok(());
        }
        let same = |given: &[u8], secret: &Secret| bool::from(given.ct_eq(secret.expose().as_bytes()));
        if let Some((name, values)) = &self.keys
            && let Some(given) = headers.get(name)
            && values.iter().fold(false, |found, value| same(given.as_bytes(), value) | found)
        {
            return Ok(());
        }
        if let Some((username, password)) = &self.basic
            && let Some(given) = basic(headers)
            && let Some((user, pass)) = given.split_once(':')
            && (same(pass.as_bytes(), password) & bool::from(user.as_bytes().ct_eq(username.as_bytes())))
        {
            return Ok(());
        }
        Err(Fault::new(Code::Unauthenticated, "the credentials are missing or wrong"))
    }
}

fn basic(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok()).flatten()?;
    String::from_utf8(decoded).ok()
}

impl AuthFile {
    /// Whether more than one is said.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        [self.api_key.is_some(), self.basic.is_some(), self.bearer.is_some()].into_iter().filter(|said| *said).count()
            > 1
    }

    /// Fetches the secret: the header to send, marked so that it is never shown.
    ///
    /// # Errors
    /// A secret that is not there, or that no header can carry.
    pub fn open(&self, secrets: &dyn Secrets) -> Result<Option<(HeaderName, HeaderValue)>, Fault> {
        let (name, value) = if let Some(key) = &self.api_key {
            let secret = secrets.fetch(&key.value)?;
            let scheme = key.scheme.as_ref().map(|scheme| format!("{scheme} ")).unwrap_or_default();
            (header_name(&key.header)?, format!("{scheme}{}", secret.expose()))
        } else if let Some(basic) = &self.basic {
            let secret = secrets.fetch(&basic.password)?;
            (AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{}:{}", basic.username, secret.expose()))))
        } else if let Some(token) = &self.bearer {
            (AUTHORIZATION, format!("Bearer {}", secrets.fetch(token)?.expose()))
        } else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Fault::new(Code::Misconfigured, "a secret has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

fn header_name(name: &str) -> Result<HeaderName, Fault> {
    name.parse().map_err(|_| Fault::new(Code::Misconfigured, format!("`{name}` is no header name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Secrets for Fixed {
        fn fetch(&self, secret: &SecretRef) -> Result<Secret, Fault> {
            Ok(Secret::new(format!("s-{secret}")))
        }
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        [(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn callers_are_known_by_key_or_password() {
        let key = |name: &str| SecretRef::Env(name.to_owned());
        let file = AcceptFile {
            api_key: Some(AcceptKeyFile { header: "X-Api-Key".to_owned(), value: key("A"), also: Some(key("B")) }),
            basic: Some(BasicFile { username: "shop".to_owned(), password: key("P") }),
        };
        let accept = file.open(&Fixed).unwrap();
        for good in [
            headers("x-api-key", "s-${env:A}"),
            headers("x-api-key", "s-${env:B}"),
            headers("authorization", &format!("basic {}", STANDARD.encode("shop:s-${env:P}"))),
        ] {
            assert!(accept.verify(&good).is_ok());
        }
        for bad in [
            HeaderMap::new(),
            headers("x-api-key", "s-${env:C}"),
            headers("authorization", "Basic !!"),
            headers("authorization", &format!("Basic {}", STANDARD.encode("shop:wrong"))),
        ] {
            assert_eq!(accept.verify(&bad).unwrap_err().code, Code::Unauthenticated);
        }
    }

    #[test]
    fn what_we_send_is_never_shown() {
        let auth = AuthFile { bearer: Some(SecretRef::Env("T".to_owned())), ..AuthFile::default() };
        let (name, value) = auth.open(&Fixed).unwrap().unwrap();
        assert_eq!((name, value.as_bytes()), (AUTHORIZATION, b"Bearer s-${env:T}".as_slice()));
        assert_eq!(format!("{value:?}"), "Sensitive");
    }
}
