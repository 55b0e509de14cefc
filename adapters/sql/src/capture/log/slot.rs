//! What a log of PostgreSQL needs in the database, a publication and a slot of one name for each endpoint: the statements that
//! make and remove them, what is there, and whether the place in the log is lost.

use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault, Verdict};
use sha2::{Digest, Sha256};

use super::super::file::{Above, How, Lost};
use super::super::install::Status;
use super::super::source::Texts;
use super::super::sql::text;
use super::super::{Open, Reader};
use crate::file::Database;
use crate::statement::{quote, table as named};

const DATABASE: Database = Database::Postgres;

/// A place in the log as PostgreSQL writes it: `16/B3748000`.
pub(super) fn lsn_text(place: u64) -> String {
    format!("{:X}/{:X}", place >> 32, place & 0xffff_ffff)
}

/// Reads a place in the log.
pub(super) fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

/// The name of an endpoint's slot and publication: readable, and its own in the whole server.
pub(super) fn name(reader: &Reader) -> String {
    let mut hash = Sha256::new();
    for part in [&reader.checked.target, &reader.checked.name, &reader.endpoint] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let words: String = format!("{}_{}", reader.checked.name, reader.endpoint).chars().map(plain).take(40).collect();
    format!("gatehouse_{words}_{}", hex::encode(&hash.finalize()[..5]))
}

/// What the server says of a slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    status: String,
    /// What it was told last.
    confirmed: u64,
    /// Where the server's log ends.
    end: u64,
    /// How much of the log it holds back from being removed, in bytes.
    pub(super) held: u64,
    /// How much more of the log may be written before it is lost, where the server bounds it.
    pub(super) left: Option<u64>,
}

/// Asks for a reader's slot.
pub(super) async fn slot(reader: &Reader) -> Result<Option<Slot>, Fault> {
    let sql = "SELECT CASE WHEN s.active THEN '1' ELSE '0' END, coalesce(s.wal_status, 'lost'), s.confirmed_flush_lsn::text, e.l::text,
                      greatest(coalesce(e.l - s.restart_lsn, 0), 0)::text, s.safe_wal_size::text
               FROM pg_replication_slots s,
                    (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END) e(l)
               WHERE s.slot_name = $1 AND s.database = current_database() AND s.plugin = 'pgoutput'";
    let rows = reader.source.ask(sql, &[Value::from(name(reader))]).await?;
    let read = |row: Texts| {
        let [active, status, confirmed, end, held, left] = <[Option<String>; 6]>::try_from(row).ok()?;
        let place = |text: Option<String>| text.as_deref().and_then(lsn);
        Some(Slot {
            active: active.as_deref() == Some("1"),
            status: status?,
            confirmed: place(confirmed).unwrap_or(0),
            end: place(end)?,
            held: held?.parse().ok()?,
            left: left.and_then(|left| left.parse::<i64>().ok()).map(|left| u64::try_from(left).unwrap_or(0)),
        })
    };
    Ok(rows.into_iter().next().and_then(read))
}

/// Why the place in the log is lost, if it is. What was saved is never behind what the server was told.
pub(super) async fn lost(reader: &Reader, mark: Option<&Value>) -> Result<Option<String>, Fault> {
    let name = name(reader);
    let saved = mark.and_then(super::postgres::done);
    let Some(slot) = slot(reader).await? else {
        return Ok(Some(format!("the slot `{name}` is not there any more")));
    };
    if slot.status == "lost" {
        return Ok(Some(format!(
            "the server has removed log that the slot `{name}` still needed (`max_slot_wal_keep_size`)"
        )));
    }
    Ok(saved.and_then(|saved| {
        if slot.confirmed > saved {
            Some(format!("the slot `{name}` was made anew, or somebody else has read from it"))
        } else if slot.end < saved {
            Some("the server's log ends before what was read of it: it was restored from an earlier state".to_owned())
        } else {
            None
        }
    }))
}

/// Makes the slot anew; the old one, if there is one, is gone with what it held.
pub(super) async fn renew(reader: &Reader) -> Result<(), Fault> {
    let mut tries = 0;
    while slot(reader).await?.is_some() {
        match reader.source.define(&[drop_slot(reader)]).await {
            Ok(()) => break,
            // Its connection has just been closed, and the server has not seen it yet.
            Err(_) if tries < 50 => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            Err(fault) => return Err(fault),
        }
        tries += 1;
    }
    reader.source.define(&[create_slot(reader)]).await
}

fn create_slot(reader: &Reader) -> String {
    format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", text(DATABASE, &name(reader)))
}

fn drop_slot(reader: &Reader) -> String {
    let name = text(DATABASE, &name(reader));
    format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}")
}

/// The tables that are published, as the server's numbers; `None` where there is no publication.
async fn published(reader: &Reader) -> Result<Option<Vec<String>>, Fault> {
    let sql = "SELECT coalesce(r.prrelid::text, '') FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid WHERE p.pubname = $1";
    let rows = reader.source.ask(sql, &[Value::from(name(reader))]).await?;
    Ok((!rows.is_empty()).then(|| rows.into_iter().flatten().flatten().filter(|number| !number.is_empty()).collect()))
}

/// What a table's log tells of rows as they were.
struct Identity {
    number: String,
    whole: bool,
    columns: Vec<String>,
    /// Columns that the server computes do not stand in the log.
    computed: Vec<String>,
}

async fn identity(reader: &Reader, open: &Open) -> Result<Option<Identity>, Fault> {
    let sql = "SELECT c.oid::text, CASE c.relreplident WHEN 'f' THEN '1' ELSE '0' END,
                      coalesce((SELECT jsonb_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                                WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END), '[]')::text,
                      coalesce((SELECT jsonb_agg(a.attname::text) FROM pg_attribute a
                                WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped), '[]')::text
               FROM pg_class c WHERE c.oid = to_regclass($1)";
    let rows = reader.source.ask(sql, &[Value::from(named(DATABASE, &open.described.table))]).await?;
    let row = rows.into_iter().next().and_then(|row| <[Option<String>; 4]>::try_from(row).ok());
    let Some([Some(number), Some(whole), Some(columns), Some(computed)]) = row else { return Ok(None) };
    let names = |text: &str| -> Result<Vec<String>, Fault> {
        let list = super::super::hand::decode(text)?;
        Ok(list.as_list().into_iter().flatten().filter_map(Value::as_text).map(str::to_owned).collect())
    };
    Ok(Some(Identity { number, whole: whole == "1", columns: names(&columns)?, computed: names(&computed)? }))
}

/// Refuses a table whose log would not say which row has changed, and in which, once published, nothing could be changed.
fn enough(open: &Open, identity: &Identity) -> Result<(), Fault> {
    if identity.whole {
        return Ok(());
    }
    let table = open.name();
    let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL", named(DATABASE, &open.described.table));
    if identity.columns.is_empty() {
        let text = format!(
            "`{table}` has no replica identity: once it is published, every UPDATE and DELETE in it would fail. Give it a primary key, or run: {full}"
        );
        return Err(Fault::new(Code::Misconfigured, text));
    }
    let named: Vec<&String> = open.key.iter().map(|column| &column.name).chain(&open.order_by).collect();
    match named.into_iter().find(|column| !identity.columns.contains(column)) {
        None => Ok(()),
        Some(column) => {
            let text = format!(
                "the log of `{table}` does not have `{column}` of rows that are deleted, only what is in its replica identity ({}). Run: {full}",
                identity.columns.join(", ")
            );
            Err(Fault::new(Code::Misconfigured, text))
        }
    }
}

/// The statements that make what an endpoint needs, in their order, each in a transaction of its own.
pub(super) async fn statements(reader: &Reader) -> Result<Vec<String>, Fault> {
    for open in &reader.tables {
        if let Some(identity) = identity(reader, open).await? {
            enough(open, &identity)?;
        }
    }
    let publication = quote(DATABASE, &name(reader));
    let tables: Vec<_> = reader.tables.iter().map(|open| named(DATABASE, &open.described.table)).collect();
    let tables = tables.join(", ");
    let mut all = vec![match published(reader).await? {
        // A partitioned table is told under its own name.
        None => format!("CREATE PUBLICATION {publication} FOR TABLE {tables} WITH (publish_via_partition_root = true)"),
        Some(_) => format!("ALTER PUBLICATION {publication} SET TABLE {tables}"),
    }];
    if slot(reader).await?.is_none() {
        all.push(create_slot(reader));
    }
    Ok(all)
}

/// The statements that take it away.
pub(super) fn removal(reader: &Reader) -> Vec<String> {
    vec![drop_slot(reader), format!("DROP PUBLICATION IF EXISTS {}", quote(DATABASE, &name(reader)))]
}

/// What is there.
pub(super) async fn status(reader: &Reader) -> Result<Status, Fault> {
    let name = name(reader);
    let mut status = Status { lines: Vec::new(), whole: true };
    match slot(reader).await? {
        None => {
            status.whole = false;
            status.lines.push(format!("slot {name}: not there"));
        }
        Some(slot) => {
            status.whole &= slot.status != "lost";
            let read = if slot.active { "is being read" } else { "is not being read" };
            let left = slot.left.map(|left| format!(", lost after {left} more")).unwrap_or_default();
            status
                .lines
                .push(format!("slot {name}: {read}, {}, holds {} bytes of the log{left}", slot.status, slot.held));
        }
    }
    let published = published(reader).await?;
    for open in &reader.tables {
        let Some(identity) = identity(reader, open).await? else { continue };
        let there = published.as_ref().is_some_and(|tables| tables.contains(&identity.number));
        status.whole &= there;
        let word = if there { "published" } else { "not published" };
        let before = if identity.whole {
            "updates and deletes have the whole row before".to_owned()
        } else {
            format!("deletes have {}, updates have no row before", identity.columns.join(", "))
        };
        status.lines.push(format!("{}: {word}; {before}", open.name()));
    }
    Ok(status)
}

/// Refuses to begin where changes would go unseen.
pub(super) async fn must_be_there(reader: &Reader) -> Result<(), Fault> {
    let level = reader.source.ask("SELECT current_setting('wal_level')", &[]).await?;
    let level = level.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
    if level != "logical" {
        let text = format!(
            "the server's `wal_level` is `{level}`: set it to `logical` and start the server anew, or read `by: trigger`"
        );
        return Err(Fault::new(Code::Misconfigured, text));
    }
    let install = format!("make it with `gatehouse capture install {}`", reader.full_name());
    if published(reader).await?.is_none() {
        let text = format!("there is no publication `{}`; {install}", name(reader));
        return Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold));
    }
    let renewed = matches!(reader.capture.how, How::Log { lost: Lost::Anew, .. } | How::Log { above: Above::Anew, .. });
    if !renewed && slot(reader).await?.is_none() {
        let text = format!("there is no slot `{}`; {install}", name(reader));
        return Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold));
    }
    Ok(())
}

/// Keeps of the tables those that are published, without the columns that do not stand in the log; a sentence for each other.
pub(super) async fn keep_published(reader: &Reader, tables: &mut Vec<Open>) -> Result<Vec<String>, Fault> {
    let published = published(reader).await?.unwrap_or_default();
    let mut notes = Vec::new();
    for mut open in std::mem::take(tables) {
        // One that went between the list and this look is not there any more.
        let Some(identity) = identity(reader, &open).await? else { continue };
        if !published.contains(&identity.number) {
            let (table, endpoint) = (open.name(), reader.full_name());
            notes.push(format!(
                "table `{table}` is not published, so it is not read: run `gatehouse capture install {endpoint}`"
            ));
            continue;
        }
        enough(&open, &identity)?;
        if let Some(column) = reader.capture.columns.iter().find(|column| identity.computed.contains(column)) {
            let text =
                format!("`{column}` of `{}` is computed by the database and does not stand in its log", open.name());
            return Err(Fault::new(Code::Misconfigured, text));
        }
        open.columns.retain(|column| !identity.computed.contains(&column.name));
        tables.push(open);
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_postgresql_does() {
        for (place, word) in [(0, "0/0"), (0x16_b374_8000, "16/B3748000"), (u64::MAX, "FFFFFFFF/FFFFFFFF")] {
            assert_eq!((lsn_text(place).as_str(), lsn(word)), (word, Some(place)));
        }
        assert_eq!((lsn("16"), lsn("x/1"), lsn("1/123456789")), (None, None, None));
    }
}
