//! The guard of a source whose log is read: a slot keeps the server from removing its log, and a full disk stops the database.
//! So what is held is looked at, told before it is too much, and, where that is declared, let go.

use gatehouse_core::Value;
use gatehouse_core::fault::Fault;

use super::super::Reader;
use super::super::file::{Above, How};
use super::{binlog_server, slot};
use crate::file::Database;

/// What a look at the source's disk came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// How much of the log is held for us or not read yet, in bytes.
    pub(super) bytes: Option<u64>,
    /// It is more than it may be.
    pub(super) over: bool,
    /// What a person should know.
    pub(super) note: Option<String>,
}

/// Whether too long a log is let go, and everything read from its beginning.
pub(super) fn drops(reader: &Reader) -> bool {
    matches!(reader.capture.how, How::Log { above: Above::Anew, .. })
}

/// Looks how much of the log the server holds for a reader.
pub(super) async fn look(reader: &Reader, mark: Option<&Value>) -> Result<Look, Fault> {
    let How::Log { most, .. } = reader.capture.how else { return Ok(Look::default()) };
    if reader.database != Database::Postgres {
        // Nothing is held for us: the server removes its log when it is old enough.
        let bytes = binlog_server::unread(reader, mark).await?;
        let over = bytes.is_some_and(|bytes| bytes > most);
        let note = over.then(|| {
            format!("more than {} MiB of the log are not read yet (`lag`): the server removes it when it is old enough, read or not", most >> 20)
        });
        return Ok(Look { bytes, over, note });
    }
    let Some(slot) = slot::slot(reader).await? else { return Ok(Look::default()) };
    let (over, mib) = (slot.held > most, most >> 20);
    let note = if over && drops(reader) {
        Some(format!(
            "the source held more than {mib} MiB of its log for this endpoint: it was let go, and every table is read from its beginning"
        ))
    } else if over {
        Some(format!(
            "the source holds more than {mib} MiB of its log for this endpoint (`lag`): look at its disk, and at what keeps the reader or a transaction waiting"
        ))
    } else if slot.held > most / 2 {
        Some(format!("the source holds more than half of {mib} MiB of its log for this endpoint (`lag`)"))
    } else if slot.left.is_some_and(|left| left < slot.held) {
        Some("the slot is half way to being lost (`max_slot_wal_keep_size` of the server)".to_owned())
    } else {
        None
    };
    Ok(Look { bytes: Some(slot.held), over, note })
}
