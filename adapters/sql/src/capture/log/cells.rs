//! Rows of a binlog as the documents that every other way makes of them. What MariaDB and MySQL write of a value in one way only
//! is made here; texts in another charset than Unicode, floating numbers and shapes the server itself is asked for.

use std::collections::HashMap;

use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::number::Number;
use gatehouse_core::{Value, charset};
use mysql_async::Value as Got;
use mysql_async::binlog::events::{OptionalMetaExtractor, OptionalMetadataField, RowsEventData, TableMapEvent};
use mysql_async::binlog::value::BinlogValue;
use mysql_async::consts::ColumnType;
use mysql_common::io::ParseBuf;

use super::super::{Open, Reader, hand};
use crate::mysql;

/// The charset of bytes that are no text.
const BINARY: u16 = 63;

/// The charsets of a server, by the numbers that its log has.
#[derive(Debug)]
pub(super) struct Charsets {
    names: HashMap<u16, String>,
    zone: String,
}

impl Charsets {
    pub(super) async fn ask(reader: &Reader) -> Result<Self, Fault> {
        let sql = "SELECT id, character_set_name FROM information_schema.collations WHERE id IS NOT NULL";
        let rows = reader.source.ask(sql, &[]).await?;
        let pair = |row: Vec<Option<String>>| {
            let [number, name] = <[Option<String>; 2]>::try_from(row).ok()?;
            Some((number?.parse().ok()?, name?))
        };
        Ok(Self { names: rows.into_iter().filter_map(pair).collect(), zone: reader.checked.zone.clone() })
    }

    /// The name of a charset that is not Unicode in bytes of 8 bits. The newest collations have no number in the catalogue: they
    /// are all Unicode.
    fn foreign(&self, number: u16) -> Option<&str> {
        let name = self.names.get(&number)?;
        let unicode = ["utf8", "utf8mb3", "utf8mb4", "ascii"].contains(&name.as_str());
        (!unicode).then_some(name)
    }
}

/// A value as it stands in the log.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Made(Value),
    /// The server makes it: the expression of a parameter, and the parameter.
    Ask(String, String),
    /// It cannot be read: what stands there, and why.
    Bad(String, Box<Fault>),
}

/// A row's values, of the columns that are wanted.
pub(super) type Cells = Vec<Cell>;

/// A row as it was and as it is; one of them where it is new or gone.
pub(super) type BeforeAfter = (Option<Cells>, Option<Cells>);

/// A table as it was at some place in the log.
#[derive(Debug)]
pub(super) struct Shape {
    /// The name under which it is read.
    pub(super) table: String,
    columns: Vec<Column>,
    zone: String,
}

#[derive(Debug)]
struct Column {
    name: String,
    wanted: bool,
    kind: ColumnType,
    /// What the log says of the type: lengths, digits.
    about: Vec<u8>,
    /// The charset that the site declares, because the database does not know it.
    declared: Option<String>,
    /// The charset, where it is not Unicode.
    foreign: Option<String>,
    binary: bool,
    unsigned: bool,
    /// The words of an ENUM or a SET.
    words: Vec<Vec<u8>>,
    /// The type in the catalogue's words.
    catalogue: String,
    /// Its text is JSON.
    is_document: bool,
}

/// The table that is read under this name.
pub(super) fn open<'a>(reader: &'a Reader, schema: &str, name: &str) -> Option<&'a Open> {
    let same = |open: &&Open, equal: fn(&str, &str) -> bool| {
        let table = &open.described.table;
        equal(table.schema.as_deref().unwrap_or(&reader.checked.target), schema) && equal(&table.name, name)
    };
    // On some machines the server writes names small that were typed otherwise.
    let exact = reader.tables.iter().find(|open| same(open, |one, other| one == other));
    exact.or_else(|| reader.tables.iter().find(|open| same(open, |one, other| one.eq_ignore_ascii_case(other))))
}

/// What a table of the log is to us; `None` where it is not read.
pub(super) async fn shape(
    reader: &Reader,
    map: &TableMapEvent<'static>,
    charsets: &Charsets,
) -> Result<Option<Shape>, Fault> {
    let Some(open) = open(reader, &map.database_name(), &map.table_name()) else { return Ok(None) };
    let documents = documents_of(reader, open).await?;
    let bad = |error: std::io::Error| {
        Fault::new(Code::BadAnswer, "the log says something that is not understood").private(error.to_string())
    };
    let (mut names, mut sets, mut enums) = (Vec::new(), Vec::new(), Vec::new());
    for field in map.iter_optional_meta() {
        match field.map_err(bad)? {
            OptionalMetadataField::ColumnName(found) => {
                for name in found.iter_names() {
                    names.push(name.map_err(bad)?.name().into_owned());
                }
            }
            OptionalMetadataField::SetStrValue(found) => {
                for words in found.iter_values() {
                    sets.push(words.map_err(bad)?.values().iter().map(|word| word.value_raw().to_vec()).collect());
                }
            }
            OptionalMetadataField::EnumStrValue(found) => {
                for words in found.iter_values() {
                    enums.push(words.map_err(bad)?.values().iter().map(|word| word.value_raw().to_vec()).collect());
                }
            }
            _ => {}
        }
    }
    let count = usize::try_from(map.columns_count()).unwrap_or(usize::MAX);
    if names.len() != count {
        let text = format!(
            "the log has no names of the columns of `{}`: SET GLOBAL binlog_row_metadata = FULL, and read it anew",
            open.name()
        );
        return Err(Fault::new(Code::Misconfigured, text));
    }
    let (mut sets, mut enums) = (sets.into_iter(), enums.into_iter());
    let mut columns = Vec::with_capacity(count);
    for (at, name) in names.into_iter().enumerate() {
        let kind = map.get_column_type(at).ok().flatten().unwrap_or(ColumnType::MYSQL_TYPE_UNKNOWN);
        let words = match kind {
            ColumnType::MYSQL_TYPE_SET => sets.next().unwrap_or_default(),
            ColumnType::MYSQL_TYPE_ENUM => enums.next().unwrap_or_default(),
            _ => Vec::new(),
        };
        let described = open.described.column(&name);
        let catalogue = described.map(|column| column.kind.to_ascii_lowercase()).unwrap_or_default();
        let declared = described.and_then(|column| column.charset.clone());
        let wanted = reader.capture.columns.is_empty() || open.columns.iter().any(|column| column.name == name);
        columns.push(Column {
            wanted,
            kind,
            about: map.get_column_metadata(at).unwrap_or_default().to_vec(),
            declared,
            foreign: None,
            binary: false,
            unsigned: false,
            words,
            catalogue,
            is_document: documents.contains(&name),
            name,
        });
    }
    let about = OptionalMetaExtractor::new(map.iter_optional_meta()).map_err(bad)?;
    let numbers = columns.iter().filter(|column| column.kind.is_numeric_type()).count();
    let mut signs = about.iter_signedness().take(numbers);
    for column in columns.iter_mut().filter(|column| column.kind.is_numeric_type()) {
        column.unsigned = signs.next().unwrap_or_default();
    }
    let numbers = charset_numbers(&about, &columns).map_err(bad)?;
    for (column, number) in columns.iter_mut().zip(numbers) {
        column.binary = number == BINARY;
        column.foreign = charsets.foreign(number).filter(|_| number != BINARY).map(str::to_owned);
    }
    Ok(Some(Shape { table: open.name(), columns, zone: charsets.zone.clone() }))
}

/// The charset of each column; 0 where it has none.
fn charset_numbers(about: &OptionalMetaExtractor<'_>, columns: &[Column]) -> std::io::Result<Vec<u16>> {
    let (mut texts, mut words) = (about.iter_charset(), about.iter_enum_and_set_charset());
    let number = |column: &Column| {
        let next = match column.kind {
            kind if kind.is_character_type() => texts.next(),
            kind if kind.is_enum_or_set_type() => words.next(),
            _ => None,
        };
        next.transpose().map(Option::unwrap_or_default)
    };
    columns.iter().map(number).collect()
}

/// The columns of a MariaDB table whose texts are JSON: it keeps them as texts with a check.
async fn documents_of(reader: &Reader, open: &Open) -> Result<Vec<String>, Fault> {
    let sql = "SELECT check_clause FROM information_schema.check_constraints
               WHERE constraint_schema = COALESCE(?, DATABASE()) AND table_name = ?";
    let table = &open.described.table;
    let values = [table.schema.as_deref().map_or(Value::Null, Value::from), Value::from(table.name.as_str())];
    let rows = match reader.source.ask(sql, &values).await {
        Ok(rows) => rows,
        // MySQL's catalogue names no table there; its JSON is a type of its own.
        Err(fault) if fault.code == Code::Misconfigured => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let column = |clause: String| {
        let name = clause.strip_prefix("json_valid(`")?.strip_suffix("`)")?;
        Some(name.replace("``", "`"))
    };
    Ok(rows.into_iter().flatten().flatten().filter_map(column).collect())
}

impl Shape {
    /// The rows of an event, before and after: their wanted values, in the order of the columns.
    pub(super) fn rows(&self, event: &RowsEventData<'_>) -> Result<Vec<BeforeAfter>, Fault> {
        let (before, after) = (event.columns_before_image(), event.columns_after_image());
        let count = self.columns.len();
        if [before, after].into_iter().flatten().any(|columns| columns.len() != count || columns.not_all()) {
            return Err(Fault::new(
                Code::Misconfigured,
                "the log has only parts of rows: SET GLOBAL binlog_row_image = FULL, and let sessions begin anew",
            ));
        }
        let mut from = ParseBuf(event.rows_data());
        let mut rows = Vec::new();
        while !from.is_empty() {
            let before = before.is_some().then(|| self.row(&mut from));
            rows.push((before, after.is_some().then(|| self.row(&mut from))));
        }
        Ok(rows)
    }

    /// A row's values. Of one that cannot be read only what stands there is known; where it is not even known where it ends, it is
    /// the last one, and takes what is behind it in its event with it.
    fn row<'a>(&'a self, from: &mut ParseBuf<'a>) -> Cells {
        let cut_off = |name: &str| {
            let text = format!(
                "the log cannot be read from `{name}` of this row on: it and the rows behind it in the same event are not known"
            );
            Cell::Bad(String::new(), Box::new(Fault::new(Code::Malformed, text)))
        };
        let nulls = from.checked_eat(self.columns.len().div_ceil(8));
        let mut cells = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            let value = nulls.and_then(|nulls| {
                if nulls.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1) {
                    return Some(BinlogValue::Value(Got::NULL));
                }
                if column.kind == ColumnType::MYSQL_TYPE_TIME2 {
                    let digits = column.about.first().copied().unwrap_or(0);
                    return from.checked_eat(3 + usize::from(digits.div_ceil(2))).map(time).map(BinlogValue::Value);
                }
                from.parse((column.kind, column.about.as_slice(), column.unsigned, false)).ok()
            });
            let Some(value) = value else {
                cells.push(cut_off(&column.name));
                *from = ParseBuf(&[]);
                return cells;
            };
            if column.wanted {
                cells.push(self.cell(column, &value).unwrap_or_else(|fault| Cell::Bad(raw(&value), Box::new(fault))));
            }
        }
        cells
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.columns.iter().filter(|column| column.wanted).map(|column| &column.name)
    }

    fn cell(&self, column: &Column, value: &BinlogValue<'_>) -> Result<Cell, Fault> {
        use ColumnType as Kind;
        let odd = || Fault::new(Code::Malformed, format!("the log's value of `{}` cannot be read", column.name));
        let value = match value {
            BinlogValue::Value(value) => value,
            BinlogValue::Jsonb(document) => {
                let document = Got::try_from(BinlogValue::Jsonb(document.clone())).map_err(|_| odd())?;
                let Got::Bytes(bytes) = document else { return Err(odd()) };
                return column.document(&String::from_utf8(bytes).map_err(|_| odd())?);
            }
            BinlogValue::JsonDiff(_) => return Err(odd()),
        };
        let number =
            |text: String| Number::parse(&text).map(|number| Cell::Made(Value::Number(number))).ok_or_else(odd);
        let digits = column.about.first().copied().unwrap_or(0);
        Ok(match (column.kind, value) {
            (_, Got::NULL) => Cell::Made(Value::Null),
            (Kind::MYSQL_TYPE_ENUM, Got::Int(at)) => {
                let word = usize::try_from(*at - 1).ok().and_then(|at| column.words.get(at));
                column.text(word.map(Vec::as_slice).unwrap_or_default())?
            }
            (Kind::MYSQL_TYPE_SET, Got::Bytes(bits)) => {
                let is_set = |at: usize| bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
                let words = column.words.iter().enumerate().filter(|(at, _)| is_set(*at));
                column.text(&words.map(|(_, word)| word.as_slice()).collect::<Vec<_>>().join(&b','))?
            }
            (Kind::MYSQL_TYPE_BIT, Got::Bytes(bits)) => {
                number(bits.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).to_string())?
            }
            (Kind::MYSQL_TYPE_YEAR, Got::Bytes(year)) => {
                let year = String::from_utf8_lossy(year);
                // The year 0 is written as 1900, which is none of its years.
                number(if year == "1900" { "0".to_owned() } else { year.into_owned() })?
            }
            (Kind::MYSQL_TYPE_TIMESTAMP | Kind::MYSQL_TYPE_TIMESTAMP2, value) => {
                Cell::Made(Value::from(self.moment(value, digits).ok_or_else(odd)?))
            }
            (Kind::MYSQL_TYPE_GEOMETRY, Got::Bytes(shape)) => {
                let hex = hex::encode(shape.get(4..).unwrap_or_default());
                Cell::Ask("ST_AsText(ST_GeomFromWKB(UNHEX(?)))".to_owned(), hex)
            }
            (_, Got::Bytes(bytes)) if column.kind.is_numeric_type() || column.kind == Kind::MYSQL_TYPE_NEWDECIMAL => {
                number(String::from_utf8(bytes.clone()).map_err(|_| odd())?)?
            }
            (_, Got::Bytes(bytes)) if column.binary => {
                let length = if column.kind == Kind::MYSQL_TYPE_STRING { column.length() } else { 0 };
                // The log leaves zeros at the end of a BINARY off.
                let zeros = length.saturating_sub(bytes.len());
                Cell::Made(Value::from(format!("\\x{}{}", hex::encode(bytes), "00".repeat(zeros))))
            }
            (_, Got::Bytes(bytes)) => column.text(bytes)?,
            // Narrow numbers come as signed ones.
            (Kind::MYSQL_TYPE_LONGLONG, Got::Int(value)) if column.unsigned => {
                number(value.cast_unsigned().to_string())?
            }
            (_, Got::Int(value)) => number(value.to_string())?,
            (_, Got::UInt(value)) => number(value.to_string())?,
            (_, Got::Float(value)) => Cell::Ask(column.floating("FLOAT"), value.to_string()),
            (_, Got::Double(value)) => Cell::Ask(column.floating("DOUBLE"), value.to_string()),
            (Kind::MYSQL_TYPE_NEWDATE | Kind::MYSQL_TYPE_DATE, Got::Date(year, month, day, ..)) => {
                Cell::Made(Value::from(format!("{year:04}-{month:02}-{day:02}")))
            }
            (_, Got::Date(year, month, day, hour, minute, second, micros)) => {
                let fraction = fraction(*micros, digits);
                let text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}");
                Cell::Made(Value::from(text))
            }
            (_, Got::Time(negative, days, hours, minute, second, micros)) => {
                let (sign, hours) = (if *negative { "-" } else { "" }, days * 24 + u32::from(*hours));
                let fraction = fraction(*micros, digits);
                Cell::Made(Value::from(format!("{sign}{hours:02}:{minute:02}:{second:02}{fraction}")))
            }
        })
    }

    /// A moment in the session's zone, as the server would write it.
    fn moment(&self, value: &Got, digits: u8) -> Option<String> {
        let text = match value {
            Got::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Got::Int(seconds) => seconds.to_string(),
            _ => return None,
        };
        let (seconds, micros) = text.split_once('.').unwrap_or((&text, "0"));
        let (seconds, micros) = (seconds.parse::<i64>().ok()?, micros.parse::<u32>().ok()?);
        let fraction = fraction(micros, digits);
        if seconds == 0 && micros == 0 {
            return Some(format!("0000-00-00 00:00:00{fraction}"));
        }
        let offset = mysql::offset(&self.zone);
        let zone = match offset.get(1..).and_then(|rest| rest.split_once(':')) {
            Some((hours, minutes)) => {
                let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
                let seconds = if offset.starts_with('-') { -seconds } else { seconds };
                jiff::tz::TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?)
            }
            None => jiff::tz::TimeZone::get(&offset).ok()?,
        };
        let moment = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(zone);
        Some(format!("{}{fraction}", moment.strftime("%Y-%m-%d %H:%M:%S")))
    }
}

/// A time span as the log packs it: a number of 3 bytes and up to 3 of a fraction, moved by half of what they hold. (The
/// library's reader overflows where one is negative and has a fraction.)
fn time(bytes: &[u8]) -> Got {
    let all = bytes.iter().fold(0_i64, |all, byte| all << 8 | i64::from(*byte));
    let places = u32::try_from(bytes.len().saturating_sub(3)).unwrap_or(0);
    let packed = all - (0x80_0000 << (8 * places));
    let (size, whole) = (packed.unsigned_abs(), packed.unsigned_abs() >> (8 * places));
    let fraction = size & ((1 << (8 * places)) - 1);
    let micros = fraction * 100_u64.pow(3 - places.min(3));
    let part = |shift: u32, bits: u32| u8::try_from(whole >> shift & ((1 << bits) - 1)).unwrap_or(0);
    let hours = u32::try_from(whole >> 12 & 0x3ff).unwrap_or(0);
    let (days, hours) = (hours / 24, u8::try_from(hours % 24).unwrap_or(0));
    Got::Time(packed < 0, days, hours, part(6, 6), part(0, 6), u32::try_from(micros).unwrap_or(0))
}

/// So many digits of a fraction of a second.
fn fraction(micros: u32, digits: u8) -> String {
    let all = format!("{micros:06}");
    match all.get(..usize::from(digits.min(6))) {
        None | Some("") => String::new(),
        Some(some) => format!(".{some}"),
    }
}

/// A value that is not understood, as a person may be shown it.
fn raw(value: &BinlogValue<'_>) -> String {
    match value {
        BinlogValue::Value(Got::Bytes(bytes)) => {
            String::from_utf8(bytes.clone()).unwrap_or_else(|_| format!("\\x{}", hex::encode(bytes)))
        }
        BinlogValue::Value(value) => value.as_sql(true),
        BinlogValue::Jsonb(_) | BinlogValue::JsonDiff(_) => String::new(),
    }
}

impl Column {
    /// The length of a column of fixed length, in bytes (`CHAR`, `BINARY`).
    fn length(&self) -> usize {
        let (high, low) = (self.about.first().copied().unwrap_or(0), self.about.get(1).copied().unwrap_or(0));
        // Two bits of a long length stand, turned over, in the type.
        usize::from(low) | usize::from(!high & 0x30) << 4
    }

    fn text(&self, bytes: &[u8]) -> Result<Cell, Fault> {
        if let Some(label) = &self.declared {
            return match charset::decode(bytes, Some(label)) {
                Ok(text) => Ok(Cell::Made(Value::from(text.as_ref()))),
                Err(error) => {
                    let text = format!("column `{}`: {} at byte {} of its text", self.name, error.reason, error.offset);
                    Err(Fault::new(Code::Malformed, text))
                }
            };
        }
        if let Some(charset) = self.foreign.as_ref().filter(|_| !bytes.is_ascii()) {
            return Ok(Cell::Ask(
                format!("CONVERT(CONVERT(UNHEX(?) USING {charset}) USING utf8mb4)"),
                hex::encode(bytes),
            ));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Fault::new(Code::Malformed, format!("`{}` holds a text that is not UTF-8", self.name)))?;
        if self.is_document { self.document(text) } else { Ok(Cell::Made(Value::from(text))) }
    }

    fn document(&self, text: &str) -> Result<Cell, Fault> {
        hand::decode(text).map(Cell::Made).map_err(|fault| {
            let text = format!("`{}` holds a document that cannot be read: {}", self.name, fault.public);
            Fault { public: text, ..fault }
        })
    }

    /// The expression of a floating number; one with a fixed count of digits is written with all of them.
    fn floating(&self, word: &str) -> String {
        match self.catalogue.split_once('(').and_then(|(_, rest)| rest.split_once(')')) {
            Some((digits, _)) if digits.contains(',') => format!("CAST(? AS DECIMAL({digits}))"),
            _ => format!("CAST(? AS {word})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_negative_and_have_a_fraction() {
        let packed = |negative: bool, whole: i64, fraction: i64, places: u32| {
            let size = (whole << (8 * places)) + fraction;
            let all = (0x80_0000 << (8 * places)) + if negative { -size } else { size };
            all.to_be_bytes()[5 - places as usize..].to_vec()
        };
        let hms = |hours: i64, minutes: i64, seconds: i64| hours << 12 | minutes << 6 | seconds;
        assert_eq!(time(&packed(true, hms(101, 2, 3), 45, 1)), Got::Time(true, 4, 5, 2, 3, 450_000));
        assert_eq!(time(&packed(false, hms(838, 59, 59), 0, 0)), Got::Time(false, 34, 22, 59, 59, 0));
        assert_eq!(time(&packed(true, 0, 1, 3)), Got::Time(true, 0, 0, 0, 0, 1));
        assert_eq!(time(&packed(false, hms(1, 0, 0), 1234, 2)), Got::Time(false, 0, 1, 0, 0, 123_400));
    }

    #[test]
    fn fractions_have_as_many_digits_as_the_column() {
        for (micros, digits, wanted) in [(120_000, 0, ""), (120_000, 3, ".120"), (1, 6, ".000001"), (0, 2, ".00")] {
            assert_eq!(fraction(micros, digits), wanted);
        }
    }

    #[test]
    fn a_row_that_is_cut_off_is_the_last_of_its_event() {
        let column = |name: &str, kind, about: &[u8], wanted| Column {
            name: name.to_owned(),
            wanted,
            kind,
            about: about.to_vec(),
            declared: None,
            foreign: None,
            binary: false,
            unsigned: false,
            words: Vec::new(),
            catalogue: String::new(),
            is_document: false,
        };
        let columns = vec![
            column("id", ColumnType::MYSQL_TYPE_LONG, &[], true),
            column("name", ColumnType::MYSQL_TYPE_VARCHAR, &[40, 0], false),
        ];
        let shape = Shape { table: "t".to_owned(), columns, zone: "UTC".to_owned() };
        // The second name says that it is longer than what there is.
        let bytes = [0, 1, 0, 0, 0, 2, b'o', b'k', 0, 2, 0, 0, 0, 30, b'x'];
        let mut from = ParseBuf(&bytes);
        let first = shape.row(&mut from);
        assert!(matches!(first.as_slice(), [Cell::Made(id)] if id.to_string() == "1"), "{first:?}");
        let second = shape.row(&mut from);
        assert!(
            matches!(second.as_slice(), [Cell::Made(_), Cell::Bad(_, fault)] if fault.public.contains("from `name`")),
            "{second:?}"
        );
        assert!(from.is_empty());
        assert!(matches!(shape.row(&mut from).as_slice(), [Cell::Bad(..)]));
    }
}
