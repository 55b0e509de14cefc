//! The types of rows: what a value must become, exactly or not at all.

use std::borrow::Cow;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::number::Number;
use crate::value::Value;

/// Every type with what it takes and makes, for the reference and for did-you-mean.
pub const TYPES: &[(&str, &str)] = &[
    ("any", "whatever it is, as it is"),
    ("string", "text; numbers and booleans become text with the digits they have"),
    ("integer", "a whole number, from a number or text"),
    ("decimal", "a number, from a number or text, with the digits it has"),
    (
        "decimal(2)",
        "a number with at most so many digits after the point; more are refused, or rounded with `round: half_up`",
    ),
    ("boolean", "true or false, also from `true`/`false`, `1`/`0`, `Y`/`N`, `yes`/`no`, `是`/`否`"),
    ("date", "a day, written `2026-11-24`"),
    ("datetime", "a moment, written `2026-11-24T08:00:00+08:00`"),
];

/// A row's type.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Any,
    Text,
    Integer,
    Decimal { digits: Option<u32>, round: bool },
    Boolean,
    Date { read: Option<String>, write: Option<String> },
    DateTime { read: Option<String>, write: Option<String>, zone: Option<TimeZone> },
}

/// Why a type cannot be.
pub(super) enum KindError {
    Unknown,
    Zone,
    Format(String),
}

impl Kind {
    pub(super) fn parse(
        word: &str,
        read: Option<String>,
        write: Option<String>,
        zone: Option<&str>,
        round: bool,
    ) -> Result<Self, KindError> {
        // A format that cannot be written at all is found now, not at the first message.
        for format in read.iter().chain(&write).filter(|format| !format.starts_with("epoch_")) {
            let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
            strtime::format(format, &sample)
                .map_err(|error| KindError::Format(format!("this is no strftime format: {error}")))?;
        }
        Ok(match word {
            "any" => Self::Any,
            "string" => Self::Text,
            "integer" => Self::Integer,
            "decimal" => Self::Decimal { digits: None, round },
            "boolean" => Self::Boolean,
            "date" => Self::Date { read, write },
            "datetime" => {
                let zone = zone.map(TimeZone::get).transpose().map_err(|_| KindError::Zone)?;
                Self::DateTime { read, write, zone }
            }
            other => {
                let digits = other
                    .strip_prefix("decimal(")
                    .and_then(|rest| rest.strip_suffix(')'))
                    .and_then(|digits| digits.trim().parse().ok());
                let digits = digits.filter(|digits| *digits <= 28).ok_or(KindError::Unknown)?;
                Self::Decimal { digits: Some(digits), round }
            }
        })
    }

    /// The value as this type, or why it is none, in words that follow the value: `is no whole number`.
    pub(super) fn convert<'a>(&self, value: &'a Value) -> Result<Cow<'a, Value>, String> {
        match self {
            Self::Any => Ok(Cow::Borrowed(value)),
            Self::Text => match value {
                Value::Text(_) => Ok(Cow::Borrowed(value)),
                other => other
                    .to_plain_text()
                    .map(|text| Cow::Owned(Value::Text(text)))
                    .ok_or_else(|| format!("is {}, not text", other.kind())),
            },
            Self::Integer => {
                let number = number(value).ok_or("is no whole number")?;
                match number.to_decimal() {
                    Some(decimal) if decimal.is_integer() => Ok(owned(value, number, |_| decimal.trunc())),
                    // More than 28 digits: an id, kept as it came.
                    None if number.to_string().trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) => {
                        Ok(Cow::Owned(number.into()))
                    }
                    _ => Err("is no whole number".to_owned()),
                }
            }
            Self::Decimal { digits, round } => {
                let number = number(value).ok_or("is no decimal")?;
                let decimal = number.to_decimal().ok_or("has more than 28 digits")?;
                let Some(digits) = *digits else { return Ok(keep(value, number)) };
                if decimal.normalize().scale() <= digits {
                    return Ok(if decimal.scale() <= digits {
                        keep(value, number)
                    } else {
                        Cow::Owned(Number::from(decimal.normalize()).into())
                    });
                }
                if !round {
                    return Err(format!("has more than {digits} digits after the point"));
                }
                let rounded = decimal.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
                Ok(Cow::Owned(Number::from(rounded).into()))
            }
            Self::Boolean => {
                if let Value::Bool(_) = value {
                    return Ok(Cow::Borrowed(value));
                }
                let text = value.to_plain_text().unwrap_or_default();
                match text.trim().to_lowercase().as_str() {
                    "true" | "1" | "y" | "yes" | "是" => Ok(Cow::Owned(Value::Bool(true))),
                    "false" | "0" | "n" | "no" | "否" => Ok(Cow::Owned(Value::Bool(false))),
                    _ => Err("is neither true nor false".to_owned()),
                }
            }
            Self::Date { read, write } => {
                let text = value.to_plain_text().ok_or("is no date")?;
                let date = match read {
                    None => {
                        text.trim().parse::<jiff::civil::Date>().map_err(|_| "is no date like 2026-11-24".to_owned())?
                    }
                    Some(format) => {
                        let parsed = strtime::parse(format, text.trim()).and_then(|parsed| parsed.to_date());
                        parsed.map_err(|_| format!("is no date of the form `{format}`"))?
                    }
                };
                let written = match write {
                    None => date.to_string(),
                    Some(format) => {
                        strtime::format(format, date).map_err(|_| format!("cannot be written as `{format}`"))?
                    }
                };
                Ok(Cow::Owned(Value::Text(written)))
            }
            Self::DateTime { read, write, zone } => {
                let text = value.to_plain_text().ok_or("is no time")?;
                let moment = moment(text.trim(), read.as_deref(), zone.as_ref())?;
                write_moment(&moment, write.as_deref()).map(Cow::Owned)
            }
        }
    }
}

/// Reads a moment. One that names no offset is in the row's zone.
fn moment(text: &str, format: Option<&str>, zone: Option<&TimeZone>) -> Result<Zoned, String> {
    let place = |timestamp: Timestamp| timestamp.to_zoned(zone.cloned().unwrap_or(TimeZone::UTC));
    let local = |time: DateTime| match zone {
        // A time that the zone skips or repeats (daylight saving) would be a guess.
        Some(zone) => zone
            .to_ambiguous_zoned(time)
            .unambiguous()
            .map_err(|_| "is a time that its zone skips or has twice".to_owned()),
        None => Err("names no offset; give the row a `zone`".to_owned()),
    };
    match format {
        Some("epoch_s") => {
            let seconds = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
            seconds.map(place).ok_or_else(|| "is no time in seconds since 1970".to_owned())
        }
        Some("epoch_ms") => {
            let millis = text.parse().ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
            millis.map(place).ok_or_else(|| "is no time in milliseconds since 1970".to_owned())
        }
        Some(format) => {
            let parsed = strtime::parse(format, text).map_err(|_| format!("is no time of the form `{format}`"))?;
            match parsed.to_timestamp() {
                Ok(timestamp) => Ok(place(timestamp)),
                Err(_) => {
                    let time = parsed.to_datetime().or_else(|_| parsed.to_date().map(DateTime::from));
                    local(time.map_err(|_| format!("is no time of the form `{format}`"))?)
                }
            }
        }
        None => match text.parse::<Timestamp>() {
            Ok(timestamp) if zone.is_some() => Ok(place(timestamp)),
            Ok(timestamp) => {
                // Without a zone of its own it keeps the offset that it came with.
                let offset =
                    jiff::fmt::temporal::Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
                Ok(timestamp.to_zoned(offset.map_or(TimeZone::UTC, TimeZone::fixed)))
            }
            Err(_) => local(text.parse().map_err(|_| "is no time like 2026-11-24T08:00:00+08:00".to_owned())?),
        },
    }
}

fn write_moment(moment: &Zoned, format: Option<&str>) -> Result<Value, String> {
    Ok(match format {
        Some("epoch_s") => Number::from(moment.timestamp().as_second()).into(),
        Some("epoch_ms") => Number::from(moment.timestamp().as_millisecond()).into(),
        Some(format) => {
            Value::Text(strtime::format(format, moment).map_err(|_| format!("cannot be written as `{format}`"))?)
        }
        None => Value::Text(moment.timestamp().display_with_offset(moment.offset()).to_string()),
    })
}

/// A number, or text that is one.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::Text(text) => Number::parse(text.trim()),
        _ => None,
    }
}

/// The value itself where it is the number already.
fn keep(value: &Value, number: Number) -> Cow<'_, Value> {
    if matches!(value, Value::Number(_)) { Cow::Borrowed(value) } else { Cow::Owned(number.into()) }
}

/// The value itself where it is a number that is written as the type writes it.
fn owned(value: &Value, number: Number, make: impl Fn(&Number) -> Decimal) -> Cow<'_, Value> {
    let plain = !number.to_string().contains(['.', 'e', 'E']);
    if plain { keep(value, number) } else { Cow::Owned(Number::from(make(&number)).into()) }
}
