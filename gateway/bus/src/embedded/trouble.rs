//! What can be wrong with the file, told apart by what must be done about it. It is not told to callers here: the
//! writer makes publish and settle errors of it.

use std::path::Path;

use rusqlite::ErrorCode;

/// One failure of the file. The text is for people and holds no payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No room. Nothing of the transaction is on the disk; the next one may fit.
    Full(String),
    /// Somebody else holds a lock. Nothing of the transaction is on the disk.
    Busy(String),
    /// Reading, writing or syncing failed: what the file holds is no longer known, so it is opened and read again.
    Io(String),
    /// The file is not what we wrote. Never served; a person must look.
    Damaged(String),
}

impl Trouble {
    pub(super) fn of(error: &rusqlite::Error, path: &Path) -> Self {
        let file = path.display();
        let Some(code) = error.sqlite_error_code() else {
            return Self::Damaged(format!("{file} holds a value that Gatehouse did not write ({error})"));
        };
        match code {
            ErrorCode::DiskFull => Self::Full(format!(
                "no room for {file}: free space on its disk, or move the data folder to a larger one"
            )),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy(format!(
                "{file} is in use by another process (a second gateway, or sqlite3): end it, or give this one a data folder of its own"
            )),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(format!(
                "{file} is damaged ({error}): keep a copy, then restore it from a backup or try `sqlite3 {file} .recover`"
            )),
            _ => Self::Io(format!(
                "{file} cannot be read or written ({error}): look at the disk and the rights of its folder"
            )),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Full(text) | Self::Busy(text) | Self::Io(text) | Self::Damaged(text) => text,
        }
    }

    /// Whether the open file can no longer be trusted.
    pub(super) fn distrusts_file(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Damaged(_))
    }
}
