//! A parcel as a row: headers as JSON text (so that `sqlite3` shows them), the body as it came, a checksum over all.
//! SQLite itself would not notice a flipped byte in a body.

use bytes::Bytes;

use super::place::Place;
use crate::{Parcel, PublishError};

/// Header names and values together, in bytes: the contract of [`Parcel`].
const HEADERS_MAX: usize = 32 * 1024;

/// A parcel with its headers written down, ready for the file. Made on the caller's side: the writer's time is scarce.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) parcel: Parcel,
    pub(super) headers: String,
    pub(super) sum: u32,
}

impl Written {
    pub(super) fn new(parcel: Parcel) -> Result<Self, PublishError> {
        let size = parcel.headers.size();
        if size > HEADERS_MAX {
            let text = format!("its headers have {size} bytes, {HEADERS_MAX} are allowed: send less in headers");
            return Err(PublishError::Refused(text));
        }
        let headers =
            serde_json::to_string(&parcel.headers).map_err(|error| PublishError::Refused(error.to_string()))?;
        let sum = sum(&parcel.id, &parcel.content_type, &headers, &parcel.body);
        Ok(Self { parcel, headers, sum })
    }

    /// What the queue's byte limit counts.
    pub(super) fn size(&self) -> u64 {
        (self.parcel.id.len() + self.parcel.content_type.len() + self.headers.len() + self.parcel.body.len()) as u64
    }
}

/// A parcel read back.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) at: i64,
    pub(super) size: u64,
    /// `None` where the row is not what was written.
    pub(super) parcel: Option<Parcel>,
}

/// Reads the columns of `file::COLUMNS`. A value of another kind than ours, bad JSON and a wrong checksum are damage of
/// this one row; what SQLite itself says is damage of the file.
pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Found> {
    let place = Place(row.get(0)?);
    let at = row.get_ref(1)?.as_i64().unwrap_or_default();
    let size = row.get_ref(2)?.as_i64().ok().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    let (id, kind, headers) = (row.get_ref(3)?, row.get_ref(4)?, row.get_ref(5)?);
    let (body, kept) = (row.get_ref(6)?, row.get_ref(7)?);
    let parcel = (|| {
        let (id, kind, headers) = (id.as_str().ok()?, kind.as_str().ok()?, headers.as_str().ok()?);
        let (body, kept) = (body.as_blob().ok()?, kept.as_i64().ok()?);
        if i64::from(sum(id, kind, headers, body)) != kept {
            return None;
        }
        Some(Parcel {
            id: id.to_owned(),
            content_type: kind.to_owned(),
            headers: serde_json::from_str(headers).ok()?,
            body: Bytes::copy_from_slice(body),
        })
    })();
    Ok(Found { place, at, size, parcel })
}

fn sum(id: &str, content_type: &str, headers: &str, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [id.as_bytes(), content_type.as_bytes(), headers.as_bytes(), body] {
        // The length first: bytes cannot move from one part to its neighbour unseen.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}
