//! What a driver hands over of a row, and the JSON document that is made of it: by ODBC no database is asked for documents of
//! its own, because no two make them in the same words.

use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::json;
use gatehouse_core::number::Number;
use odbc_api::{ColumnDescription, Cursor, DataType, Error};

use crate::capture::source::{Column, Document, Raw, Texts};

/// What a statement answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Name and type of each column.
    pub(super) columns: Vec<(String, DataType)>,
    pub(super) rows: Vec<Raw>,
    pub(super) affected: u64,
}

/// What the driver says of a column of an answer. Not one attribute at a time: some drivers say less so.
pub(super) fn describe(cursor: &mut impl Cursor, at: u16) -> Result<ColumnDescription, Error> {
    let mut column = ColumnDescription::default();
    cursor.describe_col(at, &mut column)?;
    Ok(column)
}

/// Reads at most so many rows.
pub(super) fn read(cursor: &mut impl Cursor, answer: &mut Answer, most: usize) -> Result<(), Error> {
    let count = u16::try_from(cursor.num_result_cols()?).unwrap_or(0);
    for at in 1..=count {
        let column = describe(cursor, at)?;
        answer.columns.push((column.name_to_string().unwrap_or_default(), column.data_type));
    }
    while answer.rows.len() < most
        && let Some(mut row) = cursor.next_row()?
    {
        let mut read = Raw::with_capacity(usize::from(count));
        for (at, (_, kind)) in (1..=count).zip(&answer.columns) {
            let mut bytes = Vec::new();
            // As text a driver would write bytes each in its own way.
            let there = match is_binary(kind) {
                true => row.get_binary(at, &mut bytes)?,
                false => row.get_text(at, &mut bytes)?,
            };
            if there && is_binary(kind) {
                bytes = format!("\\x{}", hex::encode(&bytes)).into_bytes();
            }
            read.push(there.then_some(bytes));
        }
        answer.rows.push(read);
    }
    Ok(())
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary { .. } | DataType::Varbinary { .. } | DataType::LongVarbinary { .. })
}

fn is_number(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Integer
            | DataType::SmallInt
            | DataType::BigInt
            | DataType::TinyInt
            | DataType::Numeric { .. }
            | DataType::Decimal { .. }
    )
}

/// Whether documents have it as a number. A statement's answer leaves floating numbers as they are written.
fn is_any_number(kind: &DataType) -> bool {
    is_number(kind) || matches!(kind, DataType::Float { .. } | DataType::Real | DataType::Double)
}

/// A number in the words of a driver: some leave out the zero before the point.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    Number::parse(text).or_else(|| match text.strip_prefix('-') {
        Some(rest) if rest.starts_with('.') => Number::parse(&format!("-0{rest}")),
        None if text.starts_with('.') => Number::parse(&format!("0{text}")),
        _ => None,
    })
}

/// The driver hands over bytes in a charset of its own: what is guessed of them would be written elsewhere.
fn foreign(column: &str, row: usize) -> Fault {
    let text = format!(
        "column `{column}` of row {row} of the answer is not UTF-8: let the driver say Unicode, in `address` (`CHARSET=UTF8` or what it calls it) or in its environment (`NLS_LANG=.AL32UTF8`, `DB2CODEPAGE=1208`), or convert the column in the statement"
    );
    Fault::new(Code::Malformed, text)
}

impl Answer {
    /// The rows as texts.
    ///
    /// # Errors
    /// `Malformed` with the column and the row that are not UTF-8.
    pub(super) fn texts(self) -> Result<Vec<Texts>, Fault> {
        let columns = &self.columns;
        let text = |row: usize, at: usize, bytes: Option<Vec<u8>>| {
            let name = || columns.get(at).map(|(name, _)| name.as_str()).unwrap_or_default();
            bytes.map(String::from_utf8).transpose().map_err(|_| foreign(name(), row + 1))
        };
        let texts = |(row, raw): (usize, Raw)| {
            raw.into_iter().enumerate().map(|(at, bytes)| text(row, at, bytes)).collect::<Result<Texts, _>>()
        };
        self.rows.into_iter().enumerate().map(texts).collect()
    }

    /// The rows as objects, their numbers as numbers.
    ///
    /// # Errors
    /// As [`Self::texts`].
    pub(super) fn objects(self) -> Result<Vec<Value>, Fault> {
        let columns = self.columns.clone();
        let object = |row: Texts| {
            let field = |(text, (name, kind)): (Option<String>, &(String, DataType))| {
                let value = match text {
                    None => Value::Null,
                    Some(text) if is_number(kind) => number(&text).map_or(Value::Text(text), Value::Number),
                    Some(text) => Value::Text(text),
                };
                (name.clone(), value)
            };
            row.into_iter().zip(&columns).map(field).collect()
        };
        Ok(self.texts()?.into_iter().map(object).collect())
    }

    /// The rows as documents of these columns; what the answer has beyond them says whether a row is past.
    pub(super) fn documents(self, columns: &[Column]) -> Vec<Document> {
        let kinds: Vec<_> = self.columns.into_iter().map(|(_, kind)| kind).collect();
        let document = |row: Raw| {
            let past =
                row.get(columns.len()).is_none_or(|past| past.as_deref().is_some_and(|past| past.trim_ascii() == b"1"));
            let mut bytes = vec![b'{'];
            for ((column, kind), value) in columns.iter().zip(&kinds).zip(&row) {
                if bytes.len() > 1 {
                    bytes.push(b',');
                }
                bytes.extend(json::encode(&Value::from(column.name.as_str())));
                bytes.push(b':');
                write(&mut bytes, column, kind, value.as_deref());
            }
            bytes.push(b'}');
            Document { bytes, past }
        };
        self.rows.into_iter().map(document).collect()
    }
}

/// One value of a document.
fn write(into: &mut Vec<u8>, column: &Column, kind: &DataType, value: Option<&[u8]>) {
    let Some(bytes) = value else { return into.extend_from_slice(b"null") };
    if column.charset.is_some() && !is_any_number(kind) && !is_binary(kind) {
        return into.extend(format!("\"\\\\x{}\"", hex::encode(bytes)).into_bytes());
    }
    let text = std::str::from_utf8(bytes).ok();
    if let (true, Some(number)) = (is_any_number(kind), text.and_then(number)) {
        return into.extend_from_slice(number.literal().as_bytes());
    }
    if let (DataType::Bit, Some(word @ ("0" | "1"))) = (kind, text) {
        return into.extend_from_slice(if word == "1" { b"true" } else { b"false" });
    }
    // Byte by byte: what is no text is told where the row is read, with its place.
    into.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => into.extend([b'\\', *byte]),
            0..0x20 => into.extend(format!("\\u{byte:04x}").into_bytes()),
            _ => into.push(*byte),
        }
    }
    into.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_digits_and_bytes() {
        let column = |name: &str, charset: Option<&str>| Column {
            name: name.to_owned(),
            kind: String::new(),
            nullable: true,
            charset: charset.map(str::to_owned),
        };
        let numeric = DataType::Numeric { precision: 30, scale: 2 };
        let text = DataType::Varchar { length: None };
        let answer = Answer {
            columns: [numeric, numeric, DataType::Double, text, text, DataType::Bit, text, text]
                .map(|kind| (String::new(), kind))
                .to_vec(),
            rows: vec![
                [
                    Some(&b"12345678901234567890.10"[..]),
                    Some(b"-.5"),
                    Some(b"NaN"),
                    Some("张\"\\\n".as_bytes()),
                    Some(b"\xd5\xc5"),
                    Some(b"1"),
                    None,
                    Some(b"\xd5\xc5"),
                ]
                .into_iter()
                .map(|value| value.map(<[u8]>::to_vec))
                .collect(),
            ],
            affected: 0,
        };
        let names = ["钱", "b", "c", "d", "e", "f", "g", "h"];
        let columns: Vec<_> = names.iter().map(|name| column(name, (*name == "e").then_some("gbk"))).collect();
        let documents = answer.documents(&columns);
        let mut wanted = r#"{"钱":12345678901234567890.10,"b":-0.5,"c":"NaN","d":"张\"\\\u000a","e":"\\xd5c5","f":true,"g":null,"h":""#
            .as_bytes()
            .to_vec();
        wanted.extend(b"\xd5\xc5\"}");
        assert_eq!(documents[0].bytes, wanted, "{}", String::from_utf8_lossy(&documents[0].bytes));
        assert!(documents[0].past);
    }
}
