//! Anything with an ODBC driver: Oracle, DB2, Dameng, Kingbase, an old SQL Server. Written to, asked in statements of one's
//! own, and read by watermark, outbox and trigger. The calls of ODBC block, so each runs on a thread of the runtime's blocking pool, at most as
//! many at a time as the system's concurrency allows.

mod link;
mod read;
mod sql;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gatehouse_core::Value;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::Limits;
use tokio::sync::Semaphore;

use crate::ask::{Asked, MAX_ROWS};
use crate::capture::source::{Column, Document, Query, Raw, Source};
use crate::dialect::Dialect;
use crate::file::{Checked, Database, Mode, Table};
use crate::live::catalogue::Live;
use crate::outbound::{Backend, Kind, Written, fault, missing, outcomes, rows_of, still_entered};
use crate::work::Work;
use link::Link;
use read::Answer;

/// A database by ODBC.
pub(crate) struct Odbc {
    idle: Arc<Mutex<Vec<Link>>>,
    places: Arc<Semaphore>,
    /// The connection string, credentials and all: never shown.
    text: Arc<str>,
    /// How long a statement may take, in seconds.
    seconds: usize,
    checked: Arc<Checked>,
}

impl Odbc {
    /// Keeps what it takes to log in; the first connection is made when it is needed.
    pub(crate) fn open(checked: Arc<Checked>, password: Option<&str>) -> Self {
        let mut text = checked.target.trim_end_matches(';').to_owned();
        for (word, value) in [("UID", Some(checked.user.as_str())), ("PWD", password)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                text.push_str(&format!(";{word}={}", odbc_api::escape_attribute_value(value)));
            }
        }
        let Limits { concurrency, timeout, .. } = checked.limits;
        Self {
            idle: Arc::default(),
            places: Arc::new(Semaphore::new((concurrency as usize).max(1))),
            text: text.into(),
            seconds: usize::try_from(timeout.mul_f64(0.9).as_secs()).unwrap_or(usize::MAX).max(1),
            checked,
        }
    }

    /// Runs something on a connection, on a thread that may block.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Link) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let internal = |error: String| Fault::new(Code::Internal, error);
        let place = self.places.clone().acquire_owned().await.map_err(|error| internal(error.to_string()))?;
        let (idle, text, zone) = (self.idle.clone(), self.text.clone(), self.checked.zone.clone());
        let run = tokio::task::spawn_blocking(move || {
            // Held until the thread is done, also where nobody waits for it any more.
            let _place = place;
            let known = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let link = match known {
                Some(link) => link,
                None => Link::open(&text, &zone)?,
            };
            let outcome = work(&link);
            let lost = |fault: &Fault| matches!(fault.code, Code::Unreachable | Code::Unknown);
            if !outcome.as_ref().err().is_some_and(lost) && link.is_well() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
            }
            outcome
        });
        run.await.map_err(|error| internal(error.to_string()))?
    }

    async fn answer(&self, query: &Query) -> Result<Answer, Fault> {
        let values: Vec<_> = query.values.iter().map(sql::text).collect();
        let (sql, kinds, seconds) = (query.sql.clone(), query.kinds.clone(), self.seconds);
        self.on(move |link| link.ask_typed(&sql, &values, &kinds, usize::MAX, seconds)).await
    }

    /// Which of these have been entered.
    async fn found(&self, ids: Vec<String>) -> Result<HashSet<String>, Fault> {
        let (inbox, seconds) = (self.checked.inbox.clone(), self.seconds);
        self.on(move |link| entered(link, &inbox, ids.iter().map(String::as_str), seconds)).await
    }
}

fn entered<'a>(
    link: &Link,
    inbox: &Table,
    ids: impl Iterator<Item = &'a str>,
    seconds: usize,
) -> Result<HashSet<String>, Fault> {
    let sql = link.quote.entered(inbox);
    let mut found = HashSet::new();
    for id in ids {
        let answer = link.ask(&sql, &[Some(id.as_bytes().to_vec())], 1, seconds)?;
        found.extend(answer.rows.first().map(|_| id.to_owned()));
    }
    Ok(found)
}

/// Enters what is new; an entry that somebody else makes at the same moment fails, and all is tried again later.
fn enter(link: &Link, inbox: &Table, works: &[Arc<Work>], seconds: usize) -> Result<HashSet<String>, Fault> {
    let known = entered(link, inbox, works.iter().map(|work| work.delivery_id.as_str()), seconds)?;
    let mut fresh = HashSet::new();
    for work in works {
        if known.contains(&work.delivery_id) || !fresh.insert(work.delivery_id.clone()) {
            continue;
        }
        let values = [&work.delivery_id, &work.message_id].map(|id| Some(id.clone().into_bytes()));
        link.ask(&link.quote.enter(inbox), &values, 0, seconds).map_err(|told| match told.code {
            Code::Refused => {
                let text = "the delivery is being written by somebody else".to_owned();
                fault(Kind::Again, text, told.private.unwrap_or_default())
            }
            _ => told,
        })?;
    }
    Ok(fresh)
}

/// Writes the rows of what is new.
fn write(link: &Link, works: &[Arc<Work>], written: &[Written], seconds: usize) -> Result<(), Fault> {
    for row in rows_of(works, written) {
        let ((sql, values), otherwise) = link.quote.steps(row);
        let count = link.ask(&sql, &values, 0, seconds)?.affected;
        match (count, otherwise) {
            (0, Some((sql, values))) => {
                link.ask(&sql, &values, 0, seconds)?;
            }
            (0, None) if row.mode == Mode::Update => return Err(missing(row)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether an upsert's row came in while it was being written: then its insert failed by chance, and not by itself.
fn came_meanwhile(link: &Link, works: &[Arc<Work>], seconds: usize) -> bool {
    let [work] = works else { return false };
    let upserts = work.rows.iter().filter(|row| row.mode == Mode::Upsert);
    let mut counts = upserts.map(|row| {
        let (sql, values) = link.quote.count(row);
        link.ask(&sql, &values, 1, seconds).ok()?.texts().ok()?.into_iter().next()?.into_iter().next()?
    });
    counts.any(|count| count.is_some_and(|count| count != "0"))
}

#[async_trait]
impl Backend for Odbc {
    async fn write(&self, works: &[Arc<Work>]) -> Result<Vec<Written>, Fault> {
        let (inbox, seconds, mine) = (self.checked.inbox.clone(), self.seconds, works.to_vec());
        let ids: Vec<String> = works.iter().map(|work| work.delivery_id.clone()).collect();
        let run = self.on(move |link| {
            let done = link.transaction(|| {
                let written = outcomes(&mine, enter(link, &inbox, &mine, seconds)?);
                write(link, &mine, &written, seconds)?;
                Ok(written)
            });
            done.map_err(|told| {
                let by_chance = told.code == Code::Refused && came_meanwhile(link, &mine, seconds);
                let again = |told: Fault| fault(Kind::Again, told.public, told.private.unwrap_or_default());
                if by_chance { again(told) } else { told }
            })
        });
        match run.await {
            // The COMMIT was sent, and nobody knows.
            Err(lost) if lost.code == Code::Unknown => {
                let words: Vec<&str> = ids.iter().map(String::as_str).collect();
                still_entered(self.found(ids.clone()).await, &words, lost)?;
                Ok(works.iter().map(|_| Written::Now).collect())
            }
            other => other,
        }
    }

    async fn run(&self, asked: &Asked<'_>) -> Result<Option<Value>, Fault> {
        let (inbox, seconds, reads) = (self.checked.inbox.clone(), self.seconds, asked.statement.reads);
        let work = Work {
            delivery_id: asked.delivery_id.to_owned(),
            message_id: asked.message_id.to_owned(),
            rows: Vec::new(),
        };
        let work = [Arc::new(work)];
        let (sql, result) = (asked.sql.clone(), asked.statement.result.clone());
        let values: Vec<_> = asked.values.iter().map(sql::text).collect();
        // The judge stays here; the connection's thread waits for its word before it commits.
        let (told, rows) = tokio::sync::oneshot::channel();
        let (say, word) = std::sync::mpsc::sync_channel::<bool>(1);
        let run = self.on(move |link| {
            let refused = || Fault::new(Code::Refused, "the answer means no");
            link.transaction(|| {
                if !reads && enter(link, &inbox, &work, seconds)?.is_empty() {
                    return Ok(false);
                }
                let answer = link.ask(&sql, &values, MAX_ROWS + 1, seconds)?;
                let affected = answer.affected;
                let mut rows = answer.objects()?;
                if let Some(result) = &result {
                    rows = link.ask(result, &[], MAX_ROWS + 1, seconds)?.objects()?;
                }
                let _ = told.send((rows, affected));
                if word.recv() == Ok(true) { Ok(true) } else { Err(refused()) }
            })
        });
        let judged = async {
            let Ok((rows, affected)) = rows.await else { return None };
            let reply = asked.judge(rows, affected);
            let _ = say.send(reply.is_ok());
            Some(reply)
        };
        let (ran, judged) = futures_util::future::join(run, judged).await;
        match (ran, judged) {
            (Ok(false), _) => Ok(None),
            (Ok(true), Some(reply)) => reply.map(Some),
            // Rolled back because of what was judged.
            (Err(_), Some(Err(refused))) => Err(refused),
            (Err(lost), Some(Ok(reply))) if lost.code == Code::Unknown && !reads => {
                let found = self.found(vec![asked.delivery_id.to_owned()]).await;
                still_entered(found, &[asked.delivery_id], lost).map(|()| Some(reply))
            }
            (Err(told), _) => Err(told),
            (Ok(true), None) => Err(Fault::new(Code::Internal, "a statement ended without an answer")),
        }
    }

    async fn create_inbox(&self) -> Result<(), Fault> {
        let (inbox, seconds) = (self.checked.inbox.clone(), self.seconds);
        self.on(move |link| {
            let sql = link.quote.create_inbox(&inbox, &link.product);
            match link.ask(&sql, &[], 0, seconds) {
                Ok(_) => Ok(()),
                // Two gateways at once: the other one has made it.
                Err(_) if link.live(&inbox)?.is_some() => Ok(()),
                Err(told) => Err(told),
            }
        })
        .await
    }
}

#[async_trait]
impl Source for Odbc {
    async fn fetch(&self, query: &Query) -> Result<Vec<Raw>, Fault> {
        Ok(self.answer(query).await?.rows)
    }

    async fn documents(&self, query: &Query, columns: &[&Column]) -> Result<Vec<Document>, Fault> {
        let columns: Vec<Column> = columns.iter().copied().cloned().collect();
        Ok(self.answer(query).await?.documents(&columns))
    }

    async fn change(&self, statements: &[Query]) -> Result<(), Fault> {
        let (statements, seconds) = (statements.to_vec(), self.seconds);
        self.on(move |link| {
            link.transaction(|| {
                statements.iter().try_for_each(|query| {
                    let values: Vec<_> = query.values.iter().map(sql::text).collect();
                    link.ask_typed(&query.sql, &values, &query.kinds, 0, seconds).map(|_| ())
                })
            })
        })
        .await
    }

    async fn define(&self, statements: &[String]) -> Result<(), Fault> {
        let (statements, seconds) = (statements.to_vec(), self.seconds);
        // Between two statements changes may go unseen, unless the database takes definitions back with their transaction.
        self.on(move |link| {
            link.transaction(|| statements.iter().try_for_each(|sql| link.ask(sql, &[], 0, seconds).map(|_| ())))
        })
        .await
    }

    async fn speaks(&self, _: Database) -> Result<Database, Fault> {
        let declared = self.checked.dialect;
        let find = move |link: &Link| Dialect::find(&link.product, link.quote.0, declared);
        self.on(find).await.map(Database::Odbc)
    }

    async fn open_transactions(&self) -> Result<Option<BTreeSet<String>>, Fault> {
        Ok(None)
    }

    async fn described(&self, table: &Table) -> Result<Option<(Live, Vec<String>)>, Fault> {
        let table = table.clone();
        self.on(move |link| {
            let Some(live) = link.live(&table)? else { return Ok(None) };
            // Not every driver tells keys.
            let key = link.primary_key(&table).unwrap_or_default();
            Ok(Some((live, key)))
        })
        .await
    }

    async fn listed(&self) -> Result<Vec<Table>, Fault> {
        self.on(Link::tables).await
    }
}
