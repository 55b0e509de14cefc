//! What of a request's head is ambiguous: two programs on its way could read it in two ways, so it is refused.

use gatehouse_core::fault::{Code, Fault};
use http::header::HOST;
use http::{HeaderMap, Version};

/// Judges the headers of one request.
///
/// # Errors
/// `Malformed`: HTTP/1.1 without exactly one `Host` (RFC 9112 §3.2), or a header that comes with `_` and with `-`
/// (`x_id` and `x-id`: a CGI-like peer takes them for the same).
pub(crate) fn judge(version: Version, headers: &HeaderMap) -> Result<(), Fault> {
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(Fault::new(Code::Malformed, format!("a request names one `Host`; this one names {hosts}")));
    }
    for name in headers.keys().map(http::HeaderName::as_str).filter(|name| name.contains('_')) {
        let twin = name.replace('_', "-");
        if headers.contains_key(twin.as_str()) {
            return Err(Fault::new(Code::Malformed, format!("both `{name}` and `{twin}` are there: send one of them")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(names: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), http::HeaderValue::from_static("v"));
        }
        headers
    }

    #[test]
    fn one_host_and_no_twins() {
        for (version, names, sound) in [
            (Version::HTTP_11, &["host", "x_id"][..], true),
            (Version::HTTP_11, &["host", "x_id", "x-other"], true),
            (Version::HTTP_11, &["host", "host"], false),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_2, &[], true),
            (Version::HTTP_11, &["host", "x_api_key", "x-api-key"], false),
        ] {
            assert_eq!(judge(version, &headers(names)).is_ok(), sound, "{version:?} {names:?}");
        }
    }
}
