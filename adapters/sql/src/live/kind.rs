//! What a column of a type holds, and whether what a route gives fits into it without being changed.

use gatehouse_core::Value;
use gatehouse_core::outline::Content;

use crate::file::Database;

/// What a column holds, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of at most so many characters.
    Text(Option<u64>),
    /// Whole numbers between these.
    Integer(i128, i128),
    /// Decimals: digits in all, and behind the point.
    Decimal(Option<(u32, u32)>),
    Float,
    /// A type of its own, as only PostgreSQL has it.
    Boolean,
    Date,
    /// Date and time; with a zone it is a moment.
    Moment {
        zone: bool,
    },
    Time,
    /// A number that SQLite keeps as a float where it is not whole.
    Loose,
    /// Anything else, about which nothing is said.
    Other,
}

/// Whether a content fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Well,
    /// Some of it may not fit: why, and the smallest mend.
    Perhaps(String, String),
    /// None of it fits, or it would be changed.
    Never(String, String),
}

impl Kind {
    /// From a type as the database writes it.
    pub(crate) fn parse(database: Database, text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        if database == Database::Sqlite {
            return sqlite(&lower);
        }
        if lower.ends_with("[]") {
            return Self::Other;
        }
        let (word, arguments) = match lower.split_once('(') {
            Some((word, rest)) => (word.trim(), rest.split(')').next().unwrap_or_default()),
            None => (lower.as_str(), ""),
        };
        let numbers: Vec<u64> = arguments.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        let first = numbers.first().copied();
        let short = |number: Option<&u64>| number.and_then(|number| u32::try_from(*number).ok());
        let whole = |bits: u32| {
            let half = 1_i128 << (bits - 1);
            if lower.contains("unsigned") { Self::Integer(0, 2 * half - 1) } else { Self::Integer(-half, half - 1) }
        };
        match word.split(' ').next().unwrap_or_default() {
            "smallint" => whole(16),
            "integer" | "int" => whole(32),
            "bigint" => whole(64),
            "tinyint" => whole(8),
            "mediumint" => whole(24),
            "numeric" | "decimal" => {
                Self::Decimal(short(numbers.first()).map(|all| (all, short(numbers.get(1)).unwrap_or(0))))
            }
            "real" | "double" | "float" => Self::Float,
            "character" | "varchar" | "char" => Self::Text(first),
            "tinytext" => Self::Text(Some(255)),
            "text" | "mediumtext" | "longtext" | "citext" => Self::Text(None),
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "datetime" => Self::Moment { zone: false },
            "timestamp" if database == Database::MySql => Self::Moment { zone: false },
            "timestamp" => Self::Moment { zone: lower.contains("with time zone") },
            "time" => Self::Time,
            _ => Self::Other,
        }
    }

    /// Whether what a route gives fits.
    pub(crate) fn fit(&self, database: Database, content: &Content) -> Fit {
        let never = |why: &str, mend: &str| Fit::Never(why.to_owned(), mend.to_owned());
        let perhaps = |why: &str, mend: &str| Fit::Perhaps(why.to_owned(), mend.to_owned());
        let is_time = matches!(self, Self::Date | Self::Moment { .. } | Self::Time);
        let is_number = matches!(self, Self::Integer(..) | Self::Decimal(_) | Self::Float);
        match (content, self) {
            (Content::List | Content::Map, _) => {
                never("a column holds one value", "map it to one, or write a list with `lines` or `batch`")
            }
            (Content::OneOf(values), _) => {
                let wrong = values.iter().find_map(|value| self.refuses(database, value).map(|why| (value, why)));
                wrong.map_or(Fit::Well, |(value, why)| {
                    let shown: String = value.to_plain_text().unwrap_or_default().chars().take(40).collect();
                    never(&format!("`{shown}` {why}"), "change the value, or the column")
                })
            }
            (Content::Text(Some(longest)), Self::Text(Some(most))) if longest > most => Fit::Perhaps(
                format!("a text may have {longest} characters"),
                format!("give the field `maxLength: {most}` in its type, or make the column longer"),
            ),
            (Content::Text(_), Self::Integer(..)) => {
                perhaps("a text may be no whole number", "say `type: integer` in the mapping")
            }
            (Content::Text(_), Self::Decimal(_) | Self::Float) => {
                perhaps("a text may be no number", "say `type: decimal` in the mapping")
            }
            (Content::Text(_), Self::Date) => perhaps("a text may be no date", "say `type: date` in the mapping"),
            (Content::Text(_), Self::Moment { .. }) => {
                perhaps("a text may be no time", "say `type: datetime` in the mapping")
            }
            (Content::Date | Content::Moment, _) if is_number || matches!(self, Self::Boolean | Self::Loose) => {
                never("a date is no number", "map another field, or make the column a date")
            }
            (Content::Moment, Self::Date) => {
                never("its time of day would be cut off", "say `type: date` in the mapping")
            }
            (Content::Date, Self::Time) => never("a date is no time of day", "map another field"),
            (Content::Moment, Self::Moment { zone: false }) if database == Database::MySql => never(
                "the database reads no offset (`+08:00`) here",
                "add `write: \"%Y-%m-%d %H:%M:%S\"` and a `zone` to the mapping's row",
            ),
            (Content::Moment, Self::Moment { zone: false }) => perhaps(
                "the column has no zone: the offset is dropped",
                "add `write: \"%Y-%m-%d %H:%M:%S\"` and a `zone` to the mapping's row, or make it timestamptz",
            ),
            (Content::Moment, Self::Text(Some(most))) if *most < 25 => perhaps(
                "a moment has 25 characters and more",
                "add `write` to the mapping's row, or make the column longer",
            ),
            (Content::Date, Self::Text(Some(most))) if *most < 10 => {
                never("a date has 10 characters", "make the column longer")
            }
            (Content::Boolean, Self::Integer(..) | Self::Decimal(_) | Self::Float)
                if database == Database::Postgres =>
            {
                never(
                    "true and false are no numbers",
                    "add `values: { \"true\": 1, \"false\": 0 }` and `type: integer` to the mapping's row",
                )
            }
            (Content::Boolean, _) if is_time => never("true and false are no time", "map another field"),
            (Content::Integer | Content::Decimal(_), _) if is_time && database == Database::Postgres => never(
                "a number is no time",
                "say `type: datetime` in the mapping, with `format: epoch_s` where it counts seconds",
            ),
            (Content::Decimal(_), Self::Boolean) => never("a decimal is neither true nor false", "map another field"),
            (Content::Decimal(Some(digits)), Self::Integer(..)) if *digits > 0 => never(
                "what stands after the point would be lost",
                "say `type: integer` in the mapping, or make the column a decimal",
            ),
            (Content::Decimal(Some(digits)), Self::Decimal(Some((_, scale)))) if digits > scale => never(
                &format!("it may have {digits} digits after the point, and would be rounded"),
                &format!("say `type: decimal({scale})` in the mapping, or make the column wider"),
            ),
            (Content::Decimal(None), Self::Integer(..)) => perhaps(
                "a decimal may be no whole number",
                "say `type: integer` in the mapping, or make the column a decimal",
            ),
            (Content::Decimal(digits), Self::Float) if *digits != Some(0) => {
                perhaps("a float does not keep every digit", "make the column a decimal")
            }
            (Content::Decimal(Some(digits)), Self::Loose) if *digits > 0 => never(
                "SQLite would make a float of it, so the write is refused",
                "declare the column TEXT, or map whole cents",
            ),
            (Content::Decimal(None), Self::Loose) => {
                perhaps("SQLite would make a float of a fraction, so its write is refused", "declare the column TEXT")
            }
            _ => Fit::Well,
        }
    }

    /// Why a column does not take a value that is known beforehand.
    fn refuses(&self, database: Database, value: &Value) -> Option<String> {
        let text = value.to_plain_text()?;
        match self {
            Self::Text(Some(most)) if text.chars().count() as u64 > *most => {
                Some(format!("has {} characters", text.chars().count()))
            }
            Self::Integer(least, most) => match value {
                Value::Bool(_) if database == Database::Postgres => Some("is no number".to_owned()),
                Value::Bool(_) => None,
                _ => match text.parse::<i128>() {
                    Ok(number) if (*least..=*most).contains(&number) => None,
                    Ok(_) => Some("is out of range".to_owned()),
                    Err(_) => Some("is no whole number".to_owned()),
                },
            },
            Self::Decimal(_) | Self::Float if matches!(value, Value::Text(_)) && text.parse::<f64>().is_err() => {
                Some("is no number".to_owned())
            }
            Self::Date | Self::Moment { .. } if text.parse::<jiff::civil::Date>().is_err() && !text.contains(':') => {
                Some("is no date".to_owned())
            }
            _ => None,
        }
    }

    /// How many digits after the point a column keeps; `None` where it keeps what it gets.
    pub(crate) fn scale(&self) -> Option<u32> {
        match self {
            Self::Integer(..) => Some(0),
            Self::Decimal(Some((_, scale))) => Some(*scale),
            _ => None,
        }
    }
}

/// By the rules of type affinity (SQLite manual, "Datatypes In SQLite", 3.1).
fn sqlite(lower: &str) -> Kind {
    if lower.contains("int") {
        Kind::Loose
    } else if lower.is_empty() || ["char", "clob", "text", "blob"].iter().any(|word| lower.contains(word)) {
        Kind::Text(None)
    } else {
        Kind::Loose
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_databases_write_them() {
        let read = |database, text| Kind::parse(database, text);
        for (text, wanted) in [
            ("character varying(40)", Kind::Text(Some(40))),
            ("character varying", Kind::Text(None)),
            ("character(3)", Kind::Text(Some(3))),
            ("numeric(12,2)", Kind::Decimal(Some((12, 2)))),
            ("numeric", Kind::Decimal(None)),
            ("timestamp(3) with time zone", Kind::Moment { zone: true }),
            ("timestamp without time zone", Kind::Moment { zone: false }),
            ("double precision", Kind::Float),
            ("integer[]", Kind::Other),
            ("jsonb", Kind::Other),
        ] {
            assert_eq!(read(Database::Postgres, text), wanted, "{text}");
        }
        assert_eq!(read(Database::MySql, "bigint(20) unsigned"), Kind::Integer(0, i128::from(u64::MAX)));
        assert_eq!(read(Database::MySql, "decimal(10,0)"), Kind::Decimal(Some((10, 0))));
        assert_eq!(read(Database::MySql, "timestamp"), Kind::Moment { zone: false });
        assert_eq!(read(Database::Sqlite, "DECIMAL(10,2)"), Kind::Loose);
        assert_eq!(read(Database::Sqlite, "VARCHAR(4)"), Kind::Text(None));
    }

    #[test]
    fn what_would_be_changed_never_fits() {
        let fits = |database, kind: &str, content: &Content| Kind::parse(database, kind).fit(database, content);
        let money = Content::Decimal(Some(4));
        assert!(matches!(fits(Database::Postgres, "numeric(12,2)", &money), Fit::Never(..)));
        assert_eq!(fits(Database::Postgres, "numeric(12,4)", &money), Fit::Well);
        assert!(matches!(fits(Database::MySql, "int(11)", &money), Fit::Never(..)));
        assert!(matches!(fits(Database::Sqlite, "REAL", &money), Fit::Never(..)));
        assert_eq!(fits(Database::Sqlite, "TEXT", &money), Fit::Well);
        assert!(matches!(fits(Database::MySql, "datetime", &Content::Moment), Fit::Never(..)));
        assert_eq!(fits(Database::Postgres, "timestamp with time zone", &Content::Moment), Fit::Well);
        assert!(matches!(fits(Database::Postgres, "date", &Content::Moment), Fit::Never(..)));
        assert!(matches!(fits(Database::Postgres, "character varying(3)", &Content::Text(Some(4))), Fit::Perhaps(..)));
        let words = Content::OneOf(vec![Value::from("paid"), Value::from("refunded")]);
        assert!(matches!(fits(Database::MySql, "varchar(4)", &words), Fit::Never(..)));
        assert_eq!(fits(Database::MySql, "varchar(8)", &words), Fit::Well);
        assert_eq!(fits(Database::MySql, "tinyint(1)", &Content::Boolean), Fit::Well);
        assert!(matches!(fits(Database::Postgres, "integer", &Content::Boolean), Fit::Never(..)));
    }
}
