//! What PostgreSQL's plugin `pgoutput` says, version 1 (manual, "Logical Replication Message Formats"). Only reads: nothing is
//! known here of tables or what comes of a change.

use bytes::{Buf, Bytes};
use gatehouse_core::fault::{Code, Fault};

/// One message.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// A transaction that is committed begins: microseconds since 2000-01-01, its number.
    Begin {
        last: u64,
        at: i64,
        xid: u32,
    },
    /// It ends; the log goes on behind it here.
    Commit {
        end: u64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// A type's name, an origin, an application's own message.
    Other,
}

/// A table as it was at this place in the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Relation {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<Named>,
}

/// A column: its name, its type's number, whether it belongs to what tells rows apart in the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) identity: bool,
}

/// A row, column by column.
pub(super) type Tuple = Vec<Cell>;

/// The row as it was: all of it, or only what tells rows apart.
#[derive(Debug, PartialEq)]
pub(super) struct Old {
    pub(super) whole: bool,
    pub(super) tuple: Tuple,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    /// A large value that did not change, and so does not stand in the log.
    Unchanged,
    Text(Bytes),
}

/// Reads one message.
pub(super) fn read(body: Bytes) -> Result<Message, Fault> {
    let mut from = Reader(body);
    Ok(match from.u8()? {
        b'B' => Message::Begin { last: from.u64()?, at: from.u64()?.cast_signed(), xid: from.u32()? },
        b'C' => {
            from.take(9)?;
            Message::Commit { end: from.u64()? }
        }
        b'R' => {
            let (id, schema, name) = (from.u32()?, from.text()?, from.text()?);
            from.u8()?;
            let columns = (0..from.u16()?).map(|_| {
                let identity = from.u8()? & 1 == 1;
                let (name, kind) = (from.text()?, from.u32()?);
                from.u32()?;
                Ok(Named { name, kind, identity })
            });
            let columns = columns.collect::<Result<_, Fault>>()?;
            // Nothing for the catalogue's own schema.
            let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
            Message::Relation(Relation { id, schema, name, columns })
        }
        b'I' => {
            let relation = from.u32()?;
            from.expect(b"N")?;
            Message::Insert { relation, new: from.tuple()? }
        }
        b'U' => {
            let relation = from.u32()?;
            let old = match from.expect(b"KON")? {
                b'N' => None,
                kind => {
                    let old = Old { whole: kind == b'O', tuple: from.tuple()? };
                    from.expect(b"N")?;
                    Some(old)
                }
            };
            Message::Update { relation, old, new: from.tuple()? }
        }
        b'D' => {
            let relation = from.u32()?;
            let whole = from.expect(b"KO")? == b'O';
            Message::Delete { relation, old: Old { whole, tuple: from.tuple()? } }
        }
        b'T' => {
            let count = from.u32()?;
            from.u8()?;
            Message::Truncate { relations: (0..count).map(|_| from.u32()).collect::<Result<_, _>>()? }
        }
        b'Y' | b'O' | b'M' => Message::Other,
        _ => return Err(odd()),
    })
}

fn odd() -> Fault {
    Fault::new(Code::BadAnswer, "the log says something that is not understood")
}

struct Reader(Bytes);

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes, Fault> {
        if self.0.len() < count {
            return Err(odd());
        }
        Ok(self.0.split_to(count))
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        Ok(self.take(2)?.get_u16())
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        Ok(self.take(4)?.get_u32())
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        Ok(self.take(8)?.get_u64())
    }

    fn expect(&mut self, letters: &[u8]) -> Result<u8, Fault> {
        let letter = self.u8()?;
        if letters.contains(&letter) { Ok(letter) } else { Err(odd()) }
    }

    fn text(&mut self) -> Result<String, Fault> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(odd)?;
        let text = self.take(end)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| odd())
    }

    fn tuple(&mut self) -> Result<Tuple, Fault> {
        let cell = |from: &mut Self| match from.u8()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => {
                let length = from.u32()?;
                Ok(Cell::Text(from.take(length as usize)?))
            }
            _ => Err(odd()),
        };
        (0..self.u16()?).map(|_| cell(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> Vec<u8> {
        let mut body = vec![b'U', 0, 0, 64, 1, b'K', 0, 2, b't', 0, 0, 0, 1, b'7', b'n'];
        body.extend([b'N', 0, 2, b't', 0, 0, 0, 1, b'8', b'u']);
        body
    }

    #[test]
    fn an_update_that_changes_its_key_has_the_old_one() {
        let text = |text: &'static str| Cell::Text(Bytes::from_static(text.as_bytes()));
        let old = Old { whole: false, tuple: vec![text("7"), Cell::Null] };
        let wanted = Message::Update { relation: 0x4001, old: Some(old), new: vec![text("8"), Cell::Unchanged] };
        assert_eq!(read(update().into()).unwrap(), wanted);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        let whole = update();
        for end in 0..whole.len() {
            assert!(read(Bytes::copy_from_slice(&whole[..end])).is_err(), "cut off at {end}");
        }
        assert!(read(Bytes::from_static(b"?")).is_err());
        assert!(read(Bytes::from_static(b"I\0\0\0\x01X")).is_err());
    }

    #[test]
    fn a_table_is_read_with_its_identity() {
        let body = b"R\0\0\0\x07public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff";
        let Message::Relation(relation) = read(Bytes::from_static(body)).unwrap() else { panic!() };
        assert_eq!((relation.schema.as_str(), relation.name.as_str(), relation.id), ("public", "t", 7));
        let columns: Vec<_> =
            relation.columns.iter().map(|column| (column.name.as_str(), column.kind, column.identity)).collect();
        assert_eq!(columns, [("id", 23, true), ("v", 25, false)]);
    }
}
