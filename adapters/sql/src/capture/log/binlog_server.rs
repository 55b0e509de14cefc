//! What a binlog needs of its server: settings and rights, each refused with its mend, where it stands now, and whether the
//! place in it is lost.

use std::time::Duration;

use futures_util::StreamExt;
use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault, Verdict};
use mysql_async::Error;
use mysql_async::binlog::EventType;

use super::super::Reader;
use super::super::install::Status;
use super::binlog::{self, Mark};
use crate::mysql;

/// The settings that are looked at, what each must be, and what a server that does not know it is taken to have.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("log_bin", "ON", "OFF"),
    ("binlog_format", "ROW", "ROW"),
    ("binlog_row_image", "FULL", "FULL"),
    ("binlog_row_metadata", "FULL", ""),
    ("binlog_row_value_options", "", ""),
    ("binlog_transaction_compression", "OFF", "OFF"),
    ("log_bin_compress", "OFF", "OFF"),
];

/// Types that the log holds in a form of their own.
const UNREAD: [&str; 5] = ["uuid", "inet4", "inet6", "vector", "xmltype"];

/// The rights that are needed, in words that run.
const RIGHTS: &str = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO …";

/// A fault of the log's connection.
pub(super) fn explain(error: &Error) -> Fault {
    match error {
        Error::Server(server) if [1227, 1045, 1044].contains(&server.code) => {
            let text = format!("this user may not read the log ({}): {RIGHTS}", server.message);
            Fault::new(Code::Misconfigured, text)
        }
        // The server has not what is asked for; whether it was removed is looked at when the log is opened again.
        Error::Server(server) if server.code == 1236 => {
            Fault::new(Code::Unreachable, format!("the server gives no more of its log: {}", server.message))
        }
        error => mysql::explain(error),
    }
}

/// What is set otherwise than it must be, a sentence each.
async fn wrong(reader: &Reader) -> Result<Vec<String>, Fault> {
    let names: Vec<_> = SETTINGS.iter().map(|(name, ..)| format!("'{name}'")).collect();
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(", "));
    let rows = reader.source.ask(&sql, &[]).await?;
    let set = |name: &str| {
        let row = rows.iter().find(|row| row.first().and_then(Option::as_deref) == Some(name))?;
        row.get(1)?.clone()
    };
    let mut wrong = Vec::new();
    for (name, wanted, unknown) in SETTINGS {
        let is = set(name).unwrap_or_else(|| unknown.to_owned());
        if is.eq_ignore_ascii_case(wanted) {
            continue;
        }
        wrong.push(match name {
            "log_bin" => "the server keeps no binlog: set `log_bin` and `server_id` in its file and start it anew".to_owned(),
            _ if set(name).is_none() => format!("the server knows no `{name}` (MariaDB 10.5 and MySQL 8.0 do): read `by: trigger`"),
            _ => format!("`{name}` is `{is}`: SET GLOBAL {name} = '{wanted}', write it into the server's file, and let sessions begin anew"),
        });
    }
    Ok(wrong)
}

/// Refuses to begin where changes would go unseen.
pub(super) async fn must_be_there(reader: &Reader) -> Result<(), Fault> {
    let wrong = wrong(reader).await?;
    if !wrong.is_empty() {
        return Err(Fault::new(Code::Misconfigured, wrong.join("; ")).verdict(Verdict::Hold));
    }
    for open in &reader.tables {
        let unread = |kind: &str| UNREAD.iter().any(|word| kind.eq_ignore_ascii_case(word));
        if let Some(column) = open.columns.iter().find(|column| unread(&column.kind)) {
            let text = format!(
                "`{}` of `{}` is a {}, which the log holds in a form of its own: leave it out with `columns`, or read `by: trigger`",
                column.name,
                open.name(),
                column.kind
            );
            return Err(Fault::new(Code::Misconfigured, text));
        }
    }
    // The truest look at the rights: to begin.
    let now = now(reader).await?;
    binlog::stream(reader, &now, binlog::beside(reader)).await?.close().await.map_err(|error| explain(&error))
}

/// Where the log ends now.
pub(super) async fn now(reader: &Reader) -> Result<Mark, Fault> {
    let asked = match reader.source.ask("SHOW MASTER STATUS", &[]).await {
        // MySQL 8.4 has only the new words.
        Err(fault) if fault.verdict == Verdict::Reject => reader.source.ask("SHOW BINARY LOG STATUS", &[]).await,
        asked => asked,
    };
    let rows = asked.map_err(|fault| match fault.verdict {
        Verdict::Retry => fault,
        _ => Fault::new(Code::Misconfigured, format!("this user may not see where the log stands: {RIGHTS}"))
            .private(fault.private.unwrap_or_default()),
    })?;
    let row = rows.into_iter().next().unwrap_or_default();
    match (row.first().cloned().flatten(), row.get(1).cloned().flatten().and_then(|place| place.parse().ok())) {
        (Some(file), Some(place)) => Ok(Mark::new(file, place, 0)),
        _ => Err(Fault::new(Code::Misconfigured, "the server keeps no binlog")),
    }
}

/// The files of the log and their sizes.
async fn files(reader: &Reader) -> Result<Vec<(String, u64)>, Fault> {
    let rows = reader.source.ask("SHOW BINARY LOGS", &[]).await?;
    let file = |row: Vec<Option<String>>| {
        Some((row.first().cloned().flatten()?, row.get(1).cloned().flatten()?.parse().ok()?))
    };
    Ok(rows.into_iter().filter_map(file).collect())
}

/// Why the place in the log is lost, if it is.
pub(super) async fn lost(reader: &Reader, mark: Option<&Value>) -> Result<Option<String>, Fault> {
    let Some(mark) = mark.and_then(Mark::read) else { return Ok(None) };
    let file = &mark.file;
    let Some((_, size)) = files(reader).await?.into_iter().find(|(name, _)| name == file) else {
        return Ok(Some(format!(
            "the server has removed `{file}` (`binlog_expire_logs_seconds`, `PURGE BINARY LOGS`)"
        )));
    };
    if size < mark.place {
        return Ok(Some(format!(
            "`{file}` ends before what was read of it: the server was restored from an earlier state"
        )));
    }
    if mark.begun == 0 {
        return Ok(None);
    }
    let other = begun(reader, &mark).await? != mark.begun;
    Ok(other.then(|| format!("`{file}` is another file than the one that was read: the log was begun anew")))
}

/// Where the log ends now, with what tells its file from another one of the same name.
pub(super) async fn from_now_on(reader: &Reader) -> Result<Mark, Fault> {
    let mut now = now(reader).await?;
    now.begun = begun(reader, &now).await?;
    Ok(now)
}

/// When the file of a mark was begun, in seconds.
async fn begun(reader: &Reader, mark: &Mark) -> Result<u32, Fault> {
    let mut stream = binlog::stream(reader, mark, binlog::beside(reader)).await?;
    let begun = async {
        while let Some(event) = stream.next().await {
            let header = event.map_err(|error| explain(&error))?.header();
            if header.event_type() == Ok(EventType::FORMAT_DESCRIPTION_EVENT) {
                return Ok(header.timestamp());
            }
        }
        Err(Fault::new(Code::Unreachable, "the server ended the log"))
    };
    let begun = tokio::time::timeout(Duration::from_secs(10), begun).await;
    let begun = begun.unwrap_or_else(|_| Err(Fault::new(Code::Unreachable, "the log did not start in time")))?;
    stream.close().await.map_err(|error| explain(&error))?;
    Ok(begun)
}

/// How much of the log is not read yet, in bytes.
pub(super) async fn unread(reader: &Reader, mark: Option<&Value>) -> Result<Option<u64>, Fault> {
    let Some(mark) = mark.and_then(Mark::read) else { return Ok(None) };
    let files = files(reader).await?;
    let later = files.iter().skip_while(|(name, _)| *name != mark.file);
    Ok(Some(later.map(|(_, size)| size).sum::<u64>().saturating_sub(mark.place)))
}

/// What is there.
pub(super) async fn status(reader: &Reader) -> Result<Status, Fault> {
    let wrong = wrong(reader).await?;
    let mut status = Status { whole: wrong.is_empty(), lines: wrong };
    if status.whole {
        must_be_there(reader).await?;
        let lines = reader.tables.iter().map(|open| format!("{}: in the log, with the whole row before", open.name()));
        status.lines.push("the log can be read; nothing is to be installed".to_owned());
        status.lines.extend(lines);
    }
    Ok(status)
}
