//! Bytes as hexadecimal digits and back.

/// The digits of bytes, two a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of digits; `None` where they are none.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for bytes in [&b""[..], b"\x00\xff\xd5\xc5"] {
            assert_eq!(unhex(&hex(bytes)).as_deref(), Some(bytes));
        }
        for none in ["0", "0g", "订单"] {
            assert_eq!(unhex(none), None, "{none}");
        }
    }
}
