//! What a database would change without a word when it is written, and so is refused before: digits that a column does not
//! keep, and texts that a column reads as something else than they say.

use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault, Violation};

use super::catalogue::Live;
use super::kind::Kind;
use crate::work::Row;

/// Texts that PostgreSQL reads as a number or a time of its own.
const NOT_A_NUMBER: [&str; 7] = ["nan", "inf", "infinity", "+inf", "-inf", "+infinity", "-infinity"];
const NOT_A_TIME: [&str; 8] = ["infinity", "-infinity", "epoch", "now", "today", "tomorrow", "yesterday", "allballs"];

/// Judges a row by its table.
///
/// # Errors
/// `Invalid` with the first column that would not keep what it is given.
pub(crate) fn judge(row: &Row, live: &Live) -> Result<(), Fault> {
    for (name, value) in &row.columns {
        let Some(column) = live.column(name) else { continue };
        let Some(reason) = changed(&column.kind, value) else { continue };
        let violation = Violation { pointer: format!("{}.{name}", row.table), message: reason.clone() };
        let text = format!("column `{name}` of `{}`, {}: {reason}", row.table, column.text);
        return Err(Fault::new(Code::Invalid, text).violations(vec![violation]));
    }
    Ok(())
}

/// What would be changed.
fn changed(kind: &Kind, value: &Value) -> Option<String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.trim().to_ascii_lowercase(),
        _ => return None,
    };
    let is_number = matches!(kind, Kind::Integer(..) | Kind::Decimal(_) | Kind::Float);
    if is_number && NOT_A_NUMBER.contains(&text.as_str()) {
        return Some("that is no number".to_owned());
    }
    if matches!(kind, Kind::Date | Kind::Moment { .. } | Kind::Time) && NOT_A_TIME.contains(&text.as_str()) {
        return Some("that is no time".to_owned());
    }
    let (scale, digits) = (kind.scale()?, digits_after_point(&text)?);
    (digits > i64::from(scale)).then(|| {
        let word = if digits == 1 { "digit" } else { "digits" };
        format!("it has {digits} {word} after the point, and the column keeps {scale}")
    })
}

/// The digits after the point that count; `None` where it is no number.
fn digits_after_point(text: &str) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let kept = fraction.trim_end_matches('0');
    if kept.is_empty() {
        // 1200e-1 is 120: zeros at the end of the whole count against the exponent.
        let zeros = whole.len() - whole.trim_end_matches('0').len();
        let all_zero = zeros == whole.len();
        return Some(if all_zero { 0 } else { (-exponent - i64::try_from(zeros).ok()?).max(0) });
    }
    Some((i64::try_from(kept.len()).ok()?.saturating_sub(exponent)).max(0))
}

#[cfg(test)]
mod tests {
    use gatehouse_core::Number;

    use super::*;

    #[test]
    fn digits_that_count_are_counted() {
        for (text, digits) in [
            ("1", 0),
            ("1.50", 1),
            ("-0.001", 3),
            ("1e2", 0),
            ("1e-2", 2),
            ("1200e-1", 0),
            ("1.25e1", 1),
            ("0e-9", 0),
            (".5", 1),
            ("+5.", 0),
        ] {
            assert_eq!(digits_after_point(text), Some(digits), "{text}");
        }
        for text in ["", ".", "1,5", "0x1", "1.5.", "e5", "一"] {
            assert_eq!(digits_after_point(text), None, "{text}");
        }
    }

    #[test]
    fn what_would_change_is_told() {
        let money = Kind::Decimal(Some((12, 2)));
        let number = |text: &str| Value::Number(Number::parse(text).unwrap());
        assert!(changed(&money, &number("1.005")).is_some());
        assert!(changed(&money, &Value::from("1.005")).is_some());
        assert!(changed(&money, &number("1.10")).is_none());
        assert!(changed(&Kind::Integer(0, 255), &number("1.5")).is_some());
        assert!(changed(&Kind::Integer(0, 255), &number("1.0")).is_none());
        assert!(changed(&Kind::Decimal(None), &Value::from("NaN")).is_some());
        assert!(changed(&Kind::Date, &Value::from("Infinity")).is_some());
        assert!(changed(&Kind::Text(None), &Value::from("NaN")).is_none());
    }
}
