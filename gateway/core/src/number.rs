//! A number that keeps its digits: `1.50` stays `1.50`, a 64-bit id keeps every bit, no float is ever made.
//!
//! Arithmetic is not done here; [`Number::to_decimal`] hands it to a decimal library.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use rust_decimal::Decimal;

/// A number as JSON writes it (RFC 8259 §6), digit for digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number(Repr);

/// Integers that fit are kept without an allocation; `Text` is used only where the digits could not be made again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Repr {
    Int(i64),
    Text(CompactString),
}

impl Number {
    /// Reads a JSON number literal; `None` where it is not one (`+1`, `01`, `.5`, `1.`, `NaN`).
    #[must_use]
    pub fn parse(literal: &str) -> Option<Self> {
        is_json_number(literal.as_bytes()).then(|| Self::from_literal(literal))
    }

    /// Takes a literal whose form the caller has just checked.
    pub(crate) fn from_literal(literal: &str) -> Self {
        debug_assert!(is_json_number(literal.as_bytes()));
        // An integer that fits an i64 has one JSON spelling (no leading zeros, no `+`), so its digits can be made again;
        // but `-0` must keep its sign. 20 is a sign and 19 digits.
        if literal.len() <= 20
            && literal != "-0"
            && let Ok(int) = literal.parse::<i64>()
        {
            return Self(Repr::Int(int));
        }
        Self(Repr::Text(literal.into()))
    }

    /// Its digits, as they were written.
    #[must_use]
    pub fn literal(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Int(int) => Cow::Owned(int.to_string()),
            Repr::Text(text) => Cow::Borrowed(text),
        }
    }

    /// The number where it was written as an integer that an `i64` holds; `5.0` and `5e0` were not.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match &self.0 {
            Repr::Int(int) => Some(*int),
            Repr::Text(_) => None,
        }
    }

    /// Whether it has nothing behind the decimal point, told by its digits: `5.0`, `1e400` and `120e-1` have nothing.
    pub(crate) fn is_whole(&self) -> bool {
        let Repr::Text(text) = &self.0 else { return true };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = whole.trim_start_matches('-');
        // Where the last digit that counts stands: so many places behind the point, or before it (negative).
        let behind = match fraction.rfind(|digit| digit != '0') {
            Some(at) => at as i128 + 1,
            None => match whole.rfind(|digit| digit != '0') {
                Some(at) => at as i128 + 1 - whole.len() as i128,
                None => return true,
            },
        };
        // An exponent that no i128 holds is beyond any number of digits that fits in memory: its sign tells.
        let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i128::MIN } else { i128::MAX });
        behind <= exponent
    }

    /// The number as an `i64`, if it is a whole number of that size (`5`, `5.0` and `5e0` are).
    #[must_use]
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Int(int) => Some(*int),
            Repr::Text(text) => text
                .parse()
                .ok()
                .or_else(|| self.to_decimal().filter(|d| d.is_integer()).and_then(|d| d.try_into().ok())),
        }
    }

    /// The number as a decimal: exact, or `None` where 28 digits do not hold it.
    #[must_use]
    pub fn to_decimal(&self) -> Option<Decimal> {
        match &self.0 {
            Repr::Int(int) => Some(Decimal::from(*int)),
            Repr::Text(text) => Decimal::from_str_exact(text)
                .ok()
                .or_else(|| text.contains(['e', 'E']).then(|| Decimal::from_scientific(text).ok()).flatten()),
        }
    }
}

impl From<i64> for Number {
    fn from(int: i64) -> Self {
        Self(Repr::Int(int))
    }
}

impl From<Decimal> for Number {
    fn from(decimal: Decimal) -> Self {
        Self::from_literal(&decimal.to_string())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Int(int) => int.fmt(f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

/// Whether the whole of `bytes` is a number by RFC 8259 §6.
fn is_json_number(bytes: &[u8]) -> bool {
    fn digits(bytes: &[u8]) -> Option<&[u8]> {
        let end = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
        (end > 0).then(|| &bytes[end..])
    }
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let Some(mut rest) = (match unsigned {
        [b'0', rest @ ..] => Some(rest),
        _ => digits(unsigned),
    }) else {
        return false;
    };
    if let [b'.', fraction @ ..] = rest {
        let Some(after) = digits(fraction) else { return false };
        rest = after;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let unsigned = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let Some(after) = digits(unsigned) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_survive() {
        for literal in
            ["0", "-0", "1.50", "12345678901234567.89", "9223372036854775807", "-3055041260160661500", "1e400"]
        {
            assert_eq!(Number::parse(literal).expect(literal).to_string(), literal);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for literal in ["", "-", "+1", "01", ".5", "1.", "1e", "1e+", "NaN", "0x1", "1 ", "１"] {
            assert_eq!(Number::parse(literal), None, "{literal}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        let exact = |literal: &str| Number::parse(literal).and_then(|n| n.to_decimal()).map(|d| d.to_string());
        assert_eq!(exact("12345678901234567.89").as_deref(), Some("12345678901234567.89"));
        assert_eq!(exact("1.5e3").as_deref(), Some("1500"));
        assert_eq!(exact("1e400"), None);
        assert_eq!(Number::parse("5.0").and_then(|n| n.to_i64()), Some(5));
        assert_eq!(Number::parse("-9223372036854775808"), Some(i64::MIN.into()));
        assert_eq!(Number::parse("5.1").and_then(|n| n.to_i64()), None);
    }

    #[test]
    fn whole_numbers_are_told_by_their_digits() {
        for whole in [
            "0",
            "-0.00",
            "5",
            "5.0",
            "1.50e1",
            "1.50e2",
            "120e-1",
            "1e400",
            "12345678901234567890",
            "0e-99999999999999999999",
        ] {
            assert!(Number::parse(whole).expect(whole).is_whole(), "{whole}");
        }
        for broken in [
            "5.1",
            "1.55e1",
            "125e-1",
            "1e-400",
            "12345678901234567.89",
            "1e-99999999999999999999999999999999999999999",
        ] {
            assert!(!Number::parse(broken).expect(broken).is_whole(), "{broken}");
        }
    }
}
