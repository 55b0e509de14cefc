//! The built-in simple types (XML Schema Part 2 §3): their text as a [`Value`] and back, exactly. Facets that a schema adds
//! are [`super::facets`]'.

use std::sync::LazyLock;

use gatehouse_core::Value;
use gatehouse_core::number::Number;
use regex::Regex;

/// The namespace of XML Schema.
pub(crate) const XSD: &str = "http://www.w3.org/2001/XMLSchema";

/// What the text of a built-in type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text with its white space.
    Text,
    /// Text whose tabs and line ends are spaces (`normalizedString`).
    Replaced,
    /// Text whose white space is single spaces (`token` and what derives from it).
    Collapsed,
    /// `true`, `false`, `1`, `0`.
    Boolean,
    /// A whole number of any length, or within bounds.
    Integer(Option<(i128, i128)>),
    /// A decimal number.
    Decimal,
    /// A float; `INF`, `-INF` and `NaN` stay text.
    Float,
    /// A date, a time or a part of one: text of a shape.
    Moment(Moment),
    /// Bytes in Base64 (RFC 4648 §4); text without white space.
    Base64,
    /// Bytes in hexadecimal digits.
    Hex,
    /// A qualified name, as written.
    QName,
    /// Anything (`anySimpleType`).
    Anything,
}

/// A shape of text about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    DateTime,
    Date,
    Time,
    Duration,
    Year,
    YearMonth,
    Month,
    MonthDay,
    Day,
}

/// A built-in type: its name and kind.
pub(crate) const BUILTINS: [(&str, Kind); 45] = [
    ("anySimpleType", Kind::Anything),
    ("string", Kind::Text),
    ("normalizedString", Kind::Replaced),
    ("token", Kind::Collapsed),
    ("language", Kind::Collapsed),
    ("Name", Kind::Collapsed),
    ("NCName", Kind::Collapsed),
    ("NMTOKEN", Kind::Collapsed),
    ("NMTOKENS", Kind::Collapsed),
    ("ID", Kind::Collapsed),
    ("IDREF", Kind::Collapsed),
    ("IDREFS", Kind::Collapsed),
    ("ENTITY", Kind::Collapsed),
    ("ENTITIES", Kind::Collapsed),
    ("anyURI", Kind::Collapsed),
    ("boolean", Kind::Boolean),
    ("decimal", Kind::Decimal),
    ("integer", Kind::Integer(None)),
    ("nonPositiveInteger", Kind::Integer(Some((i128::MIN, 0)))),
    ("negativeInteger", Kind::Integer(Some((i128::MIN, -1)))),
    ("nonNegativeInteger", Kind::Integer(Some((0, i128::MAX)))),
    ("positiveInteger", Kind::Integer(Some((1, i128::MAX)))),
    ("long", Kind::Integer(Some((i64::MIN as i128, i64::MAX as i128)))),
    ("int", Kind::Integer(Some((i32::MIN as i128, i32::MAX as i128)))),
    ("short", Kind::Integer(Some((i16::MIN as i128, i16::MAX as i128)))),
    ("byte", Kind::Integer(Some((i8::MIN as i128, i8::MAX as i128)))),
    ("unsignedLong", Kind::Integer(Some((0, u64::MAX as i128)))),
    ("unsignedInt", Kind::Integer(Some((0, u32::MAX as i128)))),
    ("unsignedShort", Kind::Integer(Some((0, u16::MAX as i128)))),
    ("unsignedByte", Kind::Integer(Some((0, u8::MAX as i128)))),
    ("float", Kind::Float),
    ("double", Kind::Float),
    ("dateTime", Kind::Moment(Moment::DateTime)),
    ("date", Kind::Moment(Moment::Date)),
    ("time", Kind::Moment(Moment::Time)),
    ("duration", Kind::Moment(Moment::Duration)),
    ("gYear", Kind::Moment(Moment::Year)),
    ("gYearMonth", Kind::Moment(Moment::YearMonth)),
    ("gMonth", Kind::Moment(Moment::Month)),
    ("gMonthDay", Kind::Moment(Moment::MonthDay)),
    ("gDay", Kind::Moment(Moment::Day)),
    ("base64Binary", Kind::Base64),
    ("hexBinary", Kind::Hex),
    ("QName", Kind::QName),
    ("NOTATION", Kind::QName),
];

/// The index of a built-in type.
pub(crate) fn find(local: &str) -> Option<usize> {
    // What Axis and PHP write for `base64Binary` in the namespace of the encoding.
    let local = if local == "base64" { "base64Binary" } else { local };
    BUILTINS.iter().position(|(name, _)| *name == local)
}

impl Kind {
    /// The text of an element or attribute as a value.
    ///
    /// # Errors
    /// What the text is not.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        let collapsed = || text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let trimmed = text.trim_ascii();
        Ok(match self {
            Self::Text | Self::Anything => Value::from(text),
            Self::Replaced => Value::from(text.replace(['\t', '\n', '\r'], " ")),
            Self::Collapsed => Value::from(collapsed()),
            Self::QName => Value::from(trimmed),
            Self::Boolean => Value::Bool(boolean(trimmed)?),
            Self::Integer(bounds) => Value::Number(integer(trimmed, bounds)?),
            Self::Decimal => Value::Number(decimal(trimmed)?),
            Self::Float => match trimmed {
                "INF" | "-INF" | "NaN" => Value::from(trimmed),
                _ => Value::Number(float(trimmed)?),
            },
            Self::Moment(moment) => Value::from(moment.check(trimmed)?),
            Self::Base64 => Value::from(base64(text)?),
            Self::Hex => Value::from(hex(trimmed)?),
        })
    }

    /// A value as the text of an element or attribute.
    ///
    /// # Errors
    /// What the value is not.
    pub(crate) fn write(self, value: &Value) -> Result<String, String> {
        let text = value.to_plain_text().ok_or_else(|| format!("{} where {} is due", value.kind(), self.noun()))?;
        let trimmed = text.trim_ascii();
        Ok(match self {
            Self::Text | Self::Anything | Self::Replaced | Self::Collapsed => text,
            Self::QName => trimmed.to_owned(),
            Self::Boolean => boolean(trimmed)?.to_string(),
            Self::Integer(bounds) => integer(&plain(value, trimmed), bounds)?.to_string(),
            Self::Decimal => decimal(&plain(value, trimmed))?.to_string(),
            Self::Float => match trimmed {
                "INF" | "-INF" | "NaN" => trimmed.to_owned(),
                _ => float(trimmed)?.to_string(),
            },
            Self::Moment(moment) => moment.check(trimmed)?.to_owned(),
            Self::Base64 => base64(&text)?,
            Self::Hex => hex(trimmed)?.to_owned(),
        })
    }

    /// What it is, for people.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Text | Self::Replaced | Self::Collapsed | Self::Anything => "text",
            Self::Boolean => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Decimal => "a decimal number",
            Self::Float => "a number",
            Self::Moment(moment) => moment.noun(),
            Self::Base64 => "bytes in Base64",
            Self::Hex => "bytes in hexadecimal digits",
            Self::QName => "a qualified name",
        }
    }
}

/// A number without an exponent, which `decimal` does not have: `1e3` of a mapping is written as `1000`.
fn plain(value: &Value, text: &str) -> String {
    let decimal = value.as_number().filter(|_| text.contains(['e', 'E'])).and_then(Number::to_decimal);
    decimal.map_or_else(|| text.to_owned(), |decimal| decimal.normalize().to_string())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("is not true or false".to_owned()),
    }
}

/// Digits as JSON writes them: no plus, no leading zeros, a digit before and after the point.
fn literal(text: &str) -> Option<String> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

fn integer(text: &str, bounds: Option<(i128, i128)>) -> Result<Number, String> {
    // `5.0` is what a mapping's `decimal` makes of a whole number; its value is one.
    let whole = text.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|b| b == b'0')).map_or(text, |(w, _)| w);
    let literal = literal(whole).filter(|literal| !literal.contains('.')).ok_or("is not a whole number")?;
    let literal = if literal == "-0" { "0".to_owned() } else { literal };
    if let Some((least, most)) = bounds {
        let fits = match literal.parse::<i128>() {
            Ok(number) => (least..=most).contains(&number),
            Err(_) => {
                if literal.starts_with('-') {
                    least == i128::MIN
                } else {
                    most == i128::MAX
                }
            }
        };
        if !fits {
            let edge = |edge: i128, open: i128| if edge == open { "…".to_owned() } else { edge.to_string() };
            return Err(format!("is not between {} and {}", edge(least, i128::MIN), edge(most, i128::MAX)));
        }
    }
    Number::parse(&literal).ok_or_else(|| "is not a whole number".to_owned())
}

fn decimal(text: &str) -> Result<Number, String> {
    literal(text).and_then(|literal| Number::parse(&literal)).ok_or_else(|| "is not a decimal number".to_owned())
}

fn float(text: &str) -> Result<Number, String> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let exponent_is_sound = exponent.is_none_or(|exponent| exponent.parse::<i32>().is_ok());
    let literal = literal(mantissa).filter(|_| exponent_is_sound).map(|mantissa| match exponent {
        Some(exponent) => format!("{mantissa}E{}", exponent.trim_start_matches('+')),
        None => mantissa,
    });
    literal.and_then(|literal| Number::parse(&literal)).ok_or_else(|| "is not a number".to_owned())
}

fn base64(text: &str) -> Result<String, String> {
    let bare: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let unpadded = bare.trim_end_matches('=');
    let lawful = bare.len().is_multiple_of(4)
        && bare.len() - unpadded.len() <= 2
        && unpadded.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    if lawful { Ok(bare) } else { Err("is not Base64".to_owned()) }
}

fn hex(text: &str) -> Result<&str, String> {
    let lawful = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if lawful { Ok(text) } else { Err("is not pairs of hexadecimal digits".to_owned()) }
}

/// A pattern that is written here and therefore compiles.
macro_rules! shape {
    ($pattern:expr) => {{
        static SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($pattern).ok());
        SHAPE.as_ref()
    }};
}

impl Moment {
    /// The text, if it has the shape and, for dates, stands in the calendar.
    fn check(self, text: &str) -> Result<&str, String> {
        let shape = match self {
            Self::DateTime => {
                shape!(r"^-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$")
            }
            Self::Date => shape!(r"^-?\d{4,}-\d\d-\d\d(Z|[+-]\d\d:\d\d)?$"),
            Self::Time => shape!(r"^\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$"),
            Self::Duration => shape!(r"^-?P(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$"),
            Self::Year => shape!(r"^-?\d{4,}(Z|[+-]\d\d:\d\d)?$"),
            Self::YearMonth => shape!(r"^-?\d{4,}-(0[1-9]|1[0-2])(Z|[+-]\d\d:\d\d)?$"),
            Self::Month => shape!(r"^--(0[1-9]|1[0-2])(Z|[+-]\d\d:\d\d)?$"),
            Self::MonthDay => shape!(r"^--(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(Z|[+-]\d\d:\d\d)?$"),
            Self::Day => shape!(r"^---(0[1-9]|[12]\d|3[01])(Z|[+-]\d\d:\d\d)?$"),
        };
        let shaped = shape.is_some_and(|shape| shape.is_match(text)) && !text.ends_with(['P', 'T']);
        if shaped && self.is_in_calendar(text) { Ok(text) } else { Err(format!("is not {}", self.noun())) }
    }

    /// Years beyond four digits are taken by their shape.
    fn is_in_calendar(self, text: &str) -> bool {
        let date = |text: &str| text.get(..10).is_some_and(|date| date.parse::<jiff::civil::Date>().is_ok());
        let time = |text: &str| {
            let hour = text.get(..8);
            hour.is_some_and(|hour| hour == "24:00:00" || hour.parse::<jiff::civil::Time>().is_ok())
        };
        let four_digits = text.find(['-', 'T']) == Some(4);
        match self {
            Self::DateTime if four_digits => date(text) && text.get(11..).is_some_and(time),
            Self::Date if four_digits => date(text),
            Self::Time => time(text),
            _ => true,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::DateTime => "a date with a time (2026-08-01T10:30:00+08:00)",
            Self::Date => "a date (2026-08-01)",
            Self::Time => "a time (10:30:00)",
            Self::Duration => "a duration (P1DT2H)",
            Self::Year => "a year",
            Self::YearMonth => "a year and month (2026-08)",
            Self::Month => "a month (--08)",
            Self::MonthDay => "a month and day (--08-01)",
            Self::Day => "a day of the month (---01)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Kind {
        BUILTINS[find(name).unwrap()].1
    }

    #[test]
    fn texts_become_values_and_come_back() {
        let cases = [
            ("int", " 42 ", "42"),
            ("int", "+007", "7"),
            ("integer", "123456789012345678901234567890", "123456789012345678901234567890"),
            ("long", "-3055041260160661500", "-3055041260160661500"),
            ("unsignedLong", "18446744073709551615", "18446744073709551615"),
            ("decimal", "12345678901234567.890", "12345678901234567.890"),
            ("decimal", "+.5", "0.5"),
            ("decimal", "007.", "7"),
            ("double", "1.5E+3", "1.5E3"),
            ("boolean", "1", "true"),
            ("token", " a \n b ", "\"a b\""),
            ("normalizedString", "a\tb", "\"a b\""),
            ("string", " a ", "\" a \""),
            ("double", "-INF", "\"-INF\""),
            ("dateTime", "2024-02-29T23:59:59.999+08:00", "\"2024-02-29T23:59:59.999+08:00\""),
            ("date", "2024-02-29Z", "\"2024-02-29Z\""),
            ("base64Binary", "aGVs\n bG8=", "\"aGVsbG8=\""),
            ("gMonthDay", "--02-29", "\"--02-29\""),
            ("duration", "P1Y2M3DT4H5M6.7S", "\"P1Y2M3DT4H5M6.7S\""),
        ];
        for (name, text, json) in cases {
            let value = kind(name).read(text).unwrap_or_else(|error| panic!("{name} {text}: {error}"));
            assert_eq!(value.to_string(), json, "{name} {text}");
            let written = kind(name).write(&value).unwrap();
            assert_eq!(kind(name).read(&written).unwrap(), value, "{name} {text}");
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_told() {
        let cases = [
            ("int", "2147483648"),
            ("int", ""),
            ("int", "1.5"),
            ("byte", "-129"),
            ("positiveInteger", "0"),
            ("unsignedLong", "-1"),
            ("decimal", "1e3"),
            ("decimal", "1,5"),
            ("decimal", "."),
            ("double", "1e"),
            ("boolean", "yes"),
            ("date", "2023-02-29"),
            ("dateTime", "2026-08-01 10:00:00"),
            ("time", "25:00:00"),
            ("duration", "P"),
            ("duration", "P1DT"),
            ("base64Binary", "abc"),
            ("hexBinary", "0g"),
        ];
        for (name, text) in cases {
            assert!(kind(name).read(text).is_err(), "{name} {text}");
        }
    }

    #[test]
    fn a_mapping_s_numbers_are_written_without_exponent() {
        let number = |text: &str| Value::Number(Number::parse(text).unwrap());
        assert_eq!(kind("decimal").write(&number("1.5e3")).unwrap(), "1500");
        assert_eq!(kind("int").write(&number("5.00")).unwrap(), "5");
        assert_eq!(kind("int").write(&Value::from("12")).unwrap(), "12");
        assert_eq!(kind("boolean").write(&Value::Bool(true)).unwrap(), "true");
        assert!(kind("int").write(&number("5.5")).is_err());
        assert!(kind("string").write(&Value::map()).is_err());
    }
}
