//! A content type taken apart (RFC 9110 §8.3): the essence, and the parameters that SOAP needs.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::envelope::Version;

/// A content type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// `text/xml`, in lower case.
    pub(crate) essence: String,
    /// The charset of the body.
    pub(crate) charset: Option<String>,
    /// The action of a SOAP 1.2 message (RFC 3902).
    pub(crate) action: Option<String>,
    /// What stands between the parts of a message with attachments (RFC 2046 §5.1.1).
    pub(crate) boundary: Option<String>,
    /// The part that is the envelope (RFC 2387 §3.2).
    pub(crate) start: Option<String>,
    /// The media type of the envelope: `start-info` of MTOM, else `type`.
    pub(crate) inner: Option<String>,
}

impl Media {
    /// Whether it is an envelope with attachments.
    pub(crate) fn is_related(&self) -> bool {
        self.essence == "multipart/related"
    }

    /// The version of SOAP that it says, of an envelope with attachments that of the envelope; 1.1 where it says none.
    pub(crate) fn version(&self) -> Version {
        let said = if self.is_related() { self.inner.as_deref().unwrap_or_default() } else { self.essence.as_str() };
        if said.starts_with(Version::V12.media_type()) { Version::V12 } else { Version::V11 }
    }

    /// The content type of some headers; `None` where there is none, or one that cannot be read.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get(CONTENT_TYPE)?.to_str().ok().map(Self::parse)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let (essence, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut media = Self { essence: essence.trim().to_ascii_lowercase(), ..Self::default() };
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
            let after = after.trim_start();
            let value = match after.strip_prefix('"').and_then(quoted) {
                Some((value, left)) => {
                    rest = left.trim_start_matches([' ', '\t']).trim_start_matches(';');
                    value
                }
                None => {
                    let (value, left) = after.split_once(';').unwrap_or((after, ""));
                    rest = left;
                    value.trim().to_owned()
                }
            };
            match name.as_str() {
                "charset" => media.charset = Some(value),
                "action" => media.action = Some(value),
                "boundary" => media.boundary = Some(value),
                "start" => media.start = Some(value),
                "start-info" => media.inner = Some(value),
                "type" if media.inner.is_none() => media.inner = Some(value),
                _ => {}
            }
        }
        // JAX-WS says the action within `start-info`: `application/soap+xml;action="urn:a"`.
        if media.action.is_none()
            && let Some((_, parameters)) = media.inner.as_deref().and_then(|inner| inner.split_once(';'))
        {
            media.action = Self::parse(&format!(";{parameters}")).action;
        }
        media
    }
}

/// A quoted string (RFC 9110 §5.6.4) whose first quote is gone, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read() {
        let media = |essence: &str, charset: Option<&str>, action: Option<&str>| Media {
            essence: essence.to_owned(),
            charset: charset.map(str::to_owned),
            action: action.map(str::to_owned),
            ..Media::default()
        };
        let cases = [
            ("text/xml", media("text/xml", None, None)),
            ("Text/XML; Charset=\"GBK\"", media("text/xml", Some("GBK"), None)),
            ("text/xml;charset=utf-8 ; x=y", media("text/xml", Some("utf-8"), None)),
            (
                "application/soap+xml; action=\"urn:a;b=c\"; charset=utf-8",
                media("application/soap+xml", Some("utf-8"), Some("urn:a;b=c")),
            ),
            (
                "application/soap+xml; action=\"a\\\"b\\\\\"; charset=x",
                media("application/soap+xml", Some("x"), Some("a\"b\\")),
            ),
            ("application/soap+xml;action=", media("application/soap+xml", None, Some(""))),
            ("", media("", None, None)),
            (";=;=\"", media("", None, None)),
        ];
        for (text, expected) in cases {
            assert_eq!(Media::parse(text), expected, "{text}");
        }
    }

    /// What JAX-WS RI sends: a quoted parameter with quotes in it before the boundary.
    #[test]
    fn an_action_within_start_info_is_found() {
        let text = "multipart/related;start=\"<rootpart*1@example.jaxws.sun.com>\";type=\"application/xop+xml\";\
                    start-info=\"application/soap+xml;action=\\\"urn:a;b\\\"\";boundary=\"uuid:1\"";
        let media = Media::parse(text);
        assert_eq!(media.start.as_deref(), Some("<rootpart*1@example.jaxws.sun.com>"));
        assert_eq!(media.inner.as_deref(), Some("application/soap+xml;action=\"urn:a;b\""));
        assert_eq!(media.action.as_deref(), Some("urn:a;b"));
        assert_eq!(media.boundary.as_deref(), Some("uuid:1"));
    }
}
