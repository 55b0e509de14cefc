//! Request paths, normalised once, before both authentication and routing, so that they cannot disagree.

use gatehouse_core::fault::{Code, Fault};

/// The longest path with its query, in bytes.
pub const MAX_TARGET: usize = 8 * 1024;

/// Decodes and normalises a raw path: `//` merged, percent-encoding decoded where that is safe.
///
/// # Errors
/// `Malformed`: an encoded slash, backslash or NUL, a dot segment, bytes that are no UTF-8, a control character.
pub fn normalise(raw: &str) -> Result<String, Fault> {
    let bad = |what: &str| Fault::new(Code::Malformed, format!("the path {what}"));
    if raw.len() > MAX_TARGET {
        return Err(bad("is too long"));
    }
    if !raw.starts_with('/') {
        return Err(bad("does not begin with a slash"));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            let (high, low) = (digit(), digit());
            let (Some(high), Some(low)) = (high, low) else { return Err(bad("has a broken percent-encoding")) };
            // Two hexadecimal digits always fit.
            let decoded = u8::try_from(high * 16 + low).unwrap_or(0);
            if decoded == b'/' {
                return Err(bad("has an encoded slash"));
            }
            decoded
        } else {
            byte
        };
        if byte == b'\\' || byte < 0x20 || byte == 0x7f {
            return Err(bad("has a character that does not belong there"));
        }
        if !(byte == b'/' && bytes.last() == Some(&b'/')) {
            bytes.push(byte);
        }
    }
    let path = String::from_utf8(bytes).map_err(|_| bad("is no UTF-8"))?;
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(bad("has a dot segment"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_or_refused() {
        assert_eq!(normalise("/a//b/%E8%AE%A2%E5%8D%95").unwrap(), "/a/b/订单");
        for bad in [
            "/a/../b",
            "/a/%2e%2e/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%00",
            "/a%5cb",
            "/a\\b",
            "/a%",
            "/a%zz",
            "/%ff",
            "a",
            "*",
            "/%c0%ae",
        ] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
    }
}
