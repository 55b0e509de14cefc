//! A content type taken apart (RFC 9110 §8.3): the essence, and the parameters that SOAP needs.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

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
            let value = match after.strip_prefix('"').and_then(|after| after.split_once('"')) {
                Some((value, left)) => {
                    rest = left.trim_start_matches([' ', '\t']).trim_start_matches(';');
                    value
                }
                None => {
                    let (value, left) = after.split_once(';').unwrap_or((after, ""));
                    rest = left;
                    value.trim()
                }
            };
            match name.as_str() {
                "charset" => media.charset = Some(value.to_owned()),
                "action" => media.action = Some(value.to_owned()),
                "boundary" => media.boundary = Some(value.to_owned()),
                "start" => media.start = Some(value.to_owned()),
                "start-info" => media.inner = Some(value.to_owned()),
                "type" if media.inner.is_none() => media.inner = Some(value.to_owned()),
                _ => {}
            }
        }
        media
    }
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
            ("application/soap+xml;action=", media("application/soap+xml", None, Some(""))),
            ("", media("", None, None)),
            (";=;=\"", media("", None, None)),
        ];
        for (text, expected) in cases {
            assert_eq!(Media::parse(text), expected, "{text}");
        }
    }
}
