//! From the document that a database made of a row to the row: texts become Unicode, by the charset that the site declares for
//! their column. Bytes that are no text are told with their place, and never guessed at.

use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::{Value, charset, json};

use super::hand;
use super::{Open, source::Document};

/// A row and its document, in Unicode.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) value: Value,
    pub(super) document: String,
}

/// A row that cannot be taken.
#[derive(Debug)]
pub(super) struct Unread {
    /// The row as far as it can be shown: bytes that are no text stand as `\xd5c5`.
    pub(super) document: String,
    /// What of it could be read.
    pub(super) value: Option<Value>,
    /// The columns that could not.
    pub(super) bad: Vec<String>,
    pub(super) fault: Fault,
}

impl Unread {
    /// A row of which nothing could be read but this text.
    pub(super) fn whole(document: String, fault: Fault) -> Box<Self> {
        Box::new(Self { document, value: None, bad: Vec::new(), fault })
    }

    /// The values of some columns, where all of them could be read.
    pub(super) fn values(&self, columns: &[String]) -> Option<Vec<Value>> {
        let row = self.value.as_ref().filter(|_| !columns.iter().any(|column| self.bad.contains(column)))?;
        Some(hand::values(row, columns))
    }
}

impl Open {
    /// Reads a document.
    pub(super) fn row(&self, document: &Document) -> Result<Row, Box<Unread>> {
        self.row_of(&document.bytes, true)
    }

    /// Reads a document's bytes; `digits` says that texts with a declared charset stand in it as digits.
    pub(super) fn row_of(&self, bytes: &[u8], digits: bool) -> Result<Row, Box<Unread>> {
        let unicode = std::str::from_utf8(bytes);
        let foreign = self.columns.iter().any(|column| column.charset.is_some());
        if let (Ok(text), false) = (unicode, foreign) {
            return match hand::decode(text) {
                Ok(value) => Ok(Row { value, document: text.to_owned() }),
                Err(fault) => Err(Unread::whole(text.to_owned(), fault)),
            };
        }
        // Byte by byte as characters: all that holds a document together is ASCII, and each text keeps its own bytes.
        let plain: String = bytes.iter().copied().map(char::from).collect();
        let value = match hand::decode(&plain) {
            Ok(value) => value,
            Err(fault) => return Err(Unread::whole(format!("\\x{}", hex::encode(bytes)), fault)),
        };
        let Value::Map(fields) = value else {
            return Err(Unread::whole(plain, Fault::new(Code::Malformed, "the row is no object")));
        };
        let mut bad: Vec<(String, String)> = Vec::new();
        let fields: Value = fields
            .into_iter()
            // A name is of the catalogue, and so Unicode.
            .map(|(name, value)| (String::from_utf8(latin(&name)).unwrap_or_else(|_| name.to_string()), value))
            // What is not read need not be readable; a column that came since is.
            .filter(|(name, _)| {
                self.described.column(name).is_none() || self.columns.iter().any(|known| known.name == *name)
            })
            .map(|(name, value)| {
                let value = self.text_of(&name, value, digits).unwrap_or_else(|(shown, why)| {
                    bad.push((name.clone(), why));
                    shown
                });
                (name, value)
            })
            .collect();
        let document = String::from_utf8_lossy(&json::encode(&fields)).into_owned();
        let Some((column, why)) = bad.first() else { return Ok(Row { value: fields, document }) };
        let key = hand::words(&hand::values(&fields, &self.key_names()));
        let text = format!("column `{column}` of `{}` in the row with the key `{key}`: {why}", self.name());
        let bad = bad.iter().map(|(column, _)| column.clone()).collect();
        Err(Box::new(Unread { document, value: Some(fields), bad, fault: Fault::new(Code::Malformed, text) }))
    }

    /// A value of a column as Unicode; else its bytes as people are shown them, and why.
    fn text_of(&self, column: &str, value: Value, digits: bool) -> Result<Value, (Value, String)> {
        let Value::Text(text) = value else {
            return nested(&value).ok_or_else(|| (value, "a text in its document is not UTF-8".to_owned()));
        };
        let declared =
            self.columns.iter().find(|known| known.name == column).and_then(|known| known.charset.as_deref());
        let bytes = match (declared, digits) {
            (Some(_), true) => text.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok()).ok_or_else(|| {
                let why = "its trigger is older than `charset`, and wrote what the database took it for: run `gatehouse capture install`";
                (Value::from(text.as_str()), why.to_owned())
            })?,
            _ => latin(&text),
        };
        let told = |why: String| (Value::from(format!("\\x{}", hex::encode(&bytes))), why);
        match declared {
            Some(label) => charset::decode(&bytes, Some(label))
                .map(|text| Value::from(text.as_ref()))
                .map_err(|error| told(format!("{} at byte {} of its text", error.reason, error.offset))),
            // Not the other decoder: a mark at its beginning belongs to the text.
            None => std::str::from_utf8(&bytes).map(Value::from).map_err(|error| {
                let at = error.valid_up_to();
                told(format!("it is not UTF-8 at byte {at} of its text: say with `charset` what it is"))
            }),
        }
    }
}

/// What a document within a document was before it went byte by byte; `None` where a text in it is not UTF-8.
fn nested(value: &Value) -> Option<Value> {
    let text = |text: &str| String::from_utf8(latin(text)).ok();
    Some(match value {
        Value::Text(plain) => Value::from(text(plain)?),
        Value::List(list) => Value::List(list.iter().map(nested).collect::<Option<_>>()?),
        Value::Map(fields) => {
            let field = |(name, value)| Some((text(name)?, nested(value)?));
            fields
                .iter()
                .map(|(name, value)| field((&**name, value)))
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .collect()
        }
        other => other.clone(),
    })
}

/// The bytes of characters that stand for one each; what is written as an escape (`\u8ba2`) has its own.
fn latin(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::source::{Column, Described};
    use super::*;
    use crate::file::Table;

    fn open() -> Open {
        let column = |name: &str, charset: Option<&str>| Column {
            name: name.to_owned(),
            kind: "text".to_owned(),
            nullable: true,
            charset: charset.map(str::to_owned),
        };
        let columns = vec![column("id", None), column("名", Some("gbk")), column("b", None), column("doc", None)];
        let table = Table { schema: None, name: "t".to_owned() };
        let described = Described { table, columns: columns.clone(), key: vec!["id".to_owned()] };
        Open { key: vec![columns[0].clone()], columns, order_by: Vec::new(), described }
    }

    #[test]
    fn texts_become_unicode_and_keep_everything_else() {
        let text = r#"{"id":12345678901234567890.10,"名":"\\xd5c5","b":"订\\x41\n","doc":{"单":["价"]}}"#;
        let row = open().row_of(text.as_bytes(), true).unwrap();
        assert_eq!(row.document, r#"{"id":12345678901234567890.10,"名":"张","b":"订\\x41\n","doc":{"单":["价"]}}"#);
        // A trigger of PostgreSQL has the bytes themselves, and a text that looks like digits is one.
        let mut raw = r#"{"id":1,"名":""#.as_bytes().to_vec();
        raw.extend(b"\\\\x41\xd5\xc5\"}");
        assert_eq!(open().row_of(&raw, false).unwrap().value.field("名"), Some(&Value::from("\\x41张")));
        let older = open().row_of("{\"id\":1,\"名\":\"ÕÅ\"}".as_bytes(), true).unwrap_err();
        assert!(older.fault.public.contains("older than `charset`"), "{}", older.fault);
    }

    #[test]
    fn bytes_that_are_no_text_are_told_with_their_place() {
        let bad = open().row_of(r#"{"id":7,"名":"\\xd5c5c8","b":null}"#.as_bytes(), true).unwrap_err();
        for word in ["column `名` of `t` in the row with the key `7`", "at byte 2"] {
            assert!(bad.fault.public.contains(word), "{}", bad.fault);
        }
        assert_eq!(bad.document, r#"{"id":7,"名":"\\xd5c5c8","b":null}"#);
        assert_eq!(bad.values(&["id".to_owned()]), Some(vec![Value::from(7)]));
        assert_eq!(bad.values(&["名".to_owned()]), None, "what could not be read is no place to go on from");
        let undeclared = open().row_of(b"{\"id\":8,\"b\":\"a\xff\"}", true).unwrap_err();
        assert!(undeclared.fault.public.contains("not UTF-8 at byte 1"), "{}", undeclared.fault);
        assert!(open().row_of(b"{\"id\":8,\"doc\":{\"a\":\"\xff\"}}", true).is_err());
        assert!(open().row_of(b"{\"id\":8,\"b\":\"\xff", true).unwrap_err().document.starts_with("\\x7b"));
    }
}
