//! The statements of the dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit;
use super::run::{Step, Trouble, change, row, rows};
use crate::filter::{Argument, Dialect, condition};
use crate::{Attempt, Filter, Letter, NewLetter, State, StoreError, Summary, attempts, rules, text};

const DIALECT: Dialect = Dialect { place: '$', find: "strpos" };

/// The longest lease: a year.
const LONGEST_LEASE: Duration = Duration::from_secs(365 * 86_400);

macro_rules! summary_columns {
    () => {
        "id, state, delivery_id, message_id, route, target, source, kind, key, cause, text, attempts, created, changed,
         revision, discarded"
    };
}

/// Adds a letter that is not there yet, in one statement; `None` where it is.
pub(super) struct Add<'a> {
    pub(super) letter: &'a NewLetter,
}

#[async_trait]
impl Step for Add<'_> {
    type Output = Option<i64>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Option<i64>, Trouble> {
        let letter = self.letter;
        let attempts = attempts::fresh(&BTreeSet::new(), None, letter.attempts.clone());
        let last = attempts.last();
        let created = last.map(|attempt| SystemTime::from(attempt.at));
        let columns = Columns::of(&attempts);
        let sql = "WITH l AS (
              INSERT INTO letter (delivery_id, message_id, state, route, target, target_system, source, source_system, kind,
                                  key, cause, fingerprint, text, attempts, created)
              VALUES ($1, $2, 'open', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, coalesce($14, now()))
              ON CONFLICT (delivery_id) DO NOTHING RETURNING id
            ), b AS (
              INSERT INTO letter_body (letter, headers, content_type, sha256, body) SELECT id, $15, $16, $17, $18 FROM l
            ), a AS (
              INSERT INTO attempt
              SELECT l.id, u.* FROM l, unnest($19::bigint[], $20::timestamptz[], $21::text[], $22::text[], $23::text[],
                                              $24::text[], $25::text[]) u
            )
            SELECT id FROM l";
        let added = row(
            db,
            sql,
            &[
                &letter.delivery_id,
                &letter.message_id,
                &letter.route,
                &letter.target,
                &letter.target.as_deref().map(text::system),
                &letter.source,
                &text::system(&letter.source),
                &letter.kind,
                &letter.key,
                &letter.cause,
                &letter.fingerprint,
                &last.map_or("", |attempt| &attempt.text),
                &i64::try_from(attempts.len()).unwrap_or(i64::MAX),
                &created,
                &headers_text(&letter.headers)?,
                &letter.content_type,
                &digest(&letter.body),
                &&letter.body[..],
                &columns.numbers,
                &columns.at,
                &columns.instances,
                &columns.codes,
                &columns.texts,
                &columns.sent,
                &columns.answered,
            ],
        )
        .await?;
        Ok(added.map(|row| row.get(0)))
    }
}

/// The same delivery died again, or the same death is told again.
pub(super) struct Again<'a> {
    pub(super) letter: &'a NewLetter,
}

#[async_trait]
impl Step for Again<'_> {
    type Output = i64;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<i64, Trouble> {
        let letter = self.letter;
        let known = "SELECT id, state, claimed_at FROM letter WHERE delivery_id = $1 FOR UPDATE";
        let known = row(db, known, &[&letter.delivery_id]).await?.ok_or(Trouble::Raced)?;
        let (id, state): (i64, State) = (known.get(0), state(&known, 1)?);
        let claimed = maybe_time(&known, 2)?;
        let numbers = rows(db, "SELECT number FROM attempt WHERE letter = $1", &[&id]).await?;
        let numbers = numbers.iter().map(|row| small(row, 0)).collect::<Result<BTreeSet<u32>, _>>()?;
        let replayed = claimed.filter(|_| matches!(state, State::Claimed | State::Published));
        let fresh = attempts::fresh(&numbers, replayed, letter.attempts.clone());
        let Some(last) = fresh.last() else { return Ok(id) };
        let columns = Columns::of(&fresh);
        let insert = "INSERT INTO attempt
            SELECT $1, u.* FROM unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
                                       $8::text[]) u";
        let Columns { numbers: new, at, instances, codes, texts, sent, answered } = &columns;
        change(db, insert, &[&id, new, at, instances, codes, texts, sent, answered]).await?;
        // `claimed_by` stays: it tells a late `mark_published` that it was not too bold.
        let reopen = "UPDATE letter
            SET state = CASE state WHEN 'discarded' THEN state ELSE 'open' END, cause = $2, fingerprint = $3, text = $4,
                attempts = $5, changed = now(), lease_until = NULL
            WHERE id = $1";
        let count = i64::try_from(numbers.len() + fresh.len()).unwrap_or(i64::MAX);
        change(db, reopen, &[&id, &letter.cause, &letter.fingerprint, &last.text, &count]).await?;
        Ok(id)
    }
}

/// Letters as lists show them.
pub(super) struct List<'a> {
    pub(super) filter: &'a Filter,
    pub(super) limit: u32,
    pub(super) after: Option<i64>,
}

#[async_trait]
impl Step for List<'_> {
    type Output = Vec<Summary>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<Summary>, Trouble> {
        let (condition, arguments) = condition(self.filter, self.after, DIALECT);
        let mut values = values(arguments);
        values.push(Box::new(i64::from(self.limit)));
        let (columns, limit) = (summary_columns!(), values.len());
        let sql = format!("SELECT {columns} FROM letter WHERE {condition} ORDER BY id DESC LIMIT ${limit}");
        rows(db, &sql, &lent(&values)).await?.iter().map(summary).collect()
    }
}

/// How many, by state.
pub(super) struct Count<'a> {
    pub(super) filter: &'a Filter,
}

#[async_trait]
impl Step for Count<'_> {
    type Output = BTreeMap<String, u64>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<BTreeMap<String, u64>, Trouble> {
        let (condition, arguments) = condition(self.filter, None, DIALECT);
        let values = values(arguments);
        let sql = format!("SELECT state, count(*) FROM letter WHERE {condition} GROUP BY state");
        let counted = rows(db, &sql, &lent(&values)).await?;
        Ok(counted.iter().map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs())).collect())
    }
}

/// Letters, whole, in the order of their ids; those that are not there are left out.
pub(super) struct Get<'a> {
    pub(super) ids: &'a [i64],
}

#[async_trait]
impl Step for Get<'_> {
    type Output = Vec<Letter>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<Letter>, Trouble> {
        let sql = "SELECT letter, number, at, instance, code, text, sent, answered FROM attempt
                   WHERE letter = ANY ($1) ORDER BY letter, number";
        let mut attempts: HashMap<i64, Vec<Attempt>> = HashMap::new();
        for row in rows(db, sql, &[&self.ids]).await? {
            attempts.entry(row.get(0)).or_default().push(attempt(&row)?);
        }
        let sql = concat!(
            "SELECT ",
            summary_columns!(),
            ", fingerprint, headers, content_type, sha256, body, original
             FROM letter JOIN letter_body ON letter = id WHERE id = ANY ($1) ORDER BY id"
        );
        let letters = rows(db, sql, &[&self.ids]).await?;
        letters.iter().map(|row| letter(row, attempts.remove(&row.get(0)).unwrap_or_default())).collect()
    }
}

/// Takes letters to replay. Run in a transaction.
pub(super) struct Claim<'a> {
    pub(super) ids: &'a [i64],
    pub(super) actor: &'a str,
    pub(super) lease: Duration,
}

#[async_trait]
impl Step for Claim<'_> {
    type Output = Vec<Letter>;
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<Letter>, Trouble> {
        // Locked in one order, so that two who claim the same letters cannot lock each other out; looked at again under
        // the lock, so that one of them takes each.
        let sql = "UPDATE letter
            SET state = 'claimed', claimed_by = $2, claimed_at = now(), lease = make_interval(secs => $3),
                lease_until = now() + make_interval(secs => $3), changed = now()
            WHERE id IN (
              SELECT id FROM letter
              WHERE id = ANY ($1) AND (state = 'open' OR (state IN ('claimed', 'published') AND lease_until <= now()))
              ORDER BY id FOR UPDATE)
            RETURNING id";
        let lease = self.lease.min(LONGEST_LEASE).as_secs_f64();
        let taken = rows(db, sql, &[&self.ids, &self.actor, &lease]).await?;
        let taken: Vec<i64> = taken.iter().map(|row| row.get(0)).collect();
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut letters = Get { ids: &taken }.run(db).await?;
        let place: HashMap<i64, usize> = self.ids.iter().enumerate().rev().map(|(place, id)| (*id, place)).collect();
        letters.sort_by_key(|letter| place.get(&letter.summary.id).copied());
        Ok(letters)
    }
}

/// `claimed → published`.
pub(super) struct MarkPublished {
    pub(super) id: i64,
}

#[async_trait]
impl Step for MarkPublished {
    type Output = ();
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "UPDATE letter SET state = 'published', lease_until = now() + lease, changed = now()
                   WHERE id = $1 AND state = 'claimed'";
        unclaim(db, self.id, sql, "published").await
    }
}

/// `claimed → open`.
pub(super) struct Release {
    pub(super) id: i64,
}

#[async_trait]
impl Step for Release {
    type Output = ();
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let sql = "UPDATE letter SET state = 'open', claimed_by = NULL, claimed_at = NULL, lease_until = NULL, changed = now()
                   WHERE id = $1 AND state = 'claimed'";
        unclaim(db, self.id, sql, "released").await
    }
}

async fn unclaim<C: GenericClient + Sync>(db: &C, id: i64, sql: &str, wish: &str) -> Result<(), Trouble> {
    if change(db, sql, &[&id]).await? > 0 {
        return Ok(());
    }
    let found = row(db, "SELECT state, claimed_by IS NOT NULL FROM letter WHERE id = $1", &[&id]).await?;
    let found = found.ok_or(StoreError::Missing(id))?;
    Ok(rules::settled(id, state(&found, 0)?, found.get(1), wish)?)
}

/// `claimed` or `published` → `resolved`.
pub(super) struct Resolve<'a> {
    pub(super) delivery_id: &'a str,
}

#[async_trait]
impl Step for Resolve<'_> {
    type Output = bool;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<bool, Trouble> {
        let sql = "UPDATE letter SET state = 'resolved', lease_until = NULL, changed = now()
                   WHERE delivery_id = $1 AND state IN ('claimed', 'published')";
        Ok(change(db, sql, &[&self.delivery_id]).await? > 0)
    }
}

/// A new body. Run in a transaction.
pub(super) struct Edit<'a> {
    pub(super) id: i64,
    pub(super) revision: u32,
    pub(super) body: &'a Bytes,
    pub(super) actor: &'a str,
}

#[async_trait]
impl Step for Edit<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let Self { id, revision, body, actor } = self;
        let (state, is) = standing(db, *id).await?;
        rules::editable(*id, state, is, *revision)?;
        let length = row(db, "SELECT length(body)::bigint FROM letter_body WHERE letter = $1", &[id]).await?;
        let length = length.ok_or(StoreError::Missing(*id))?.get::<_, i64>(0).unsigned_abs();
        let sql =
            "UPDATE letter_body SET original = coalesce(original, body), body = $2, sha256 = $3 WHERE letter = $1";
        change(db, sql, &[id, &&body[..], &digest(body)]).await?;
        change(db, "UPDATE letter SET revision = revision + 1, changed = now() WHERE id = $1", &[id]).await?;
        audit::letter(db, actor, "letter.edit", *id, rules::edited(*revision, length, body.len())).await
    }
}

/// `open → discarded`. Run in a transaction.
pub(super) struct Discard<'a> {
    pub(super) id: i64,
    pub(super) reason: &'a str,
    pub(super) actor: &'a str,
}

#[async_trait]
impl Step for Discard<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let (state, _) = standing(db, self.id).await?;
        rules::open_only(self.id, state, "discarded")?;
        let sql = "UPDATE letter SET state = 'discarded', discarded = $2, changed = now() WHERE id = $1";
        change(db, sql, &[&self.id, &self.reason]).await?;
        audit::letter(db, self.actor, "letter.discard", self.id, self.reason.to_owned()).await
    }
}

/// A letter's state and revision, held until the end of the transaction.
async fn standing<C: GenericClient + Sync>(db: &C, id: i64) -> Result<(State, u32), Trouble> {
    let found = row(db, "SELECT state, revision FROM letter WHERE id = $1 FOR UPDATE", &[&id]).await?;
    let found = found.ok_or(StoreError::Missing(id))?;
    Ok((state(&found, 0)?, small(&found, 1)?))
}

/// Attempts as the arrays of one statement.
#[derive(Default)]
struct Columns<'a> {
    numbers: Vec<i64>,
    at: Vec<SystemTime>,
    instances: Vec<&'a str>,
    codes: Vec<&'a str>,
    texts: Vec<&'a str>,
    sent: Vec<Option<&'a str>>,
    answered: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(attempts: &'a [Attempt]) -> Self {
        let mut columns = Self::default();
        for attempt in attempts {
            columns.numbers.push(attempt.number.into());
            columns.at.push(attempt.at.into());
            columns.instances.push(&attempt.instance);
            columns.codes.push(&attempt.code);
            columns.texts.push(&attempt.text);
            columns.sent.push(attempt.sent.as_deref());
            columns.answered.push(attempt.answered.as_deref());
        }
        columns
    }
}

fn values(arguments: Vec<Argument>) -> Vec<Box<dyn ToSql + Sync + Send>> {
    let value = |argument| -> Box<dyn ToSql + Sync + Send> {
        match argument {
            Argument::Text(text) => Box::new(text),
            Argument::Time(at) => Box::new(SystemTime::from(at)),
            Argument::Id(id) => Box::new(id),
        }
    };
    arguments.into_iter().map(value).collect()
}

fn lent(values: &[Box<dyn ToSql + Sync + Send>]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
}

fn letter(row: &Row, attempts: Vec<Attempt>) -> Result<Letter, Trouble> {
    let summary = summary(row)?;
    let id = summary.id;
    let (headers, sha256, body): (&str, &[u8], &[u8]) = (row.get(17), row.get(19), row.get(20));
    if digest(body) != sha256 {
        let text =
            format!("the body of letter {id} is not what was written: its SHA-256 differs; nothing is sent from it");
        return Err(StoreError::Damaged(text).into());
    }
    let headers = serde_json::from_str(headers)
        .map_err(|error| StoreError::Damaged(format!("the headers of letter {id} cannot be read: {error}")))?;
    Ok(Letter {
        summary,
        fingerprint: row.get(16),
        attempts,
        headers,
        body: Bytes::copy_from_slice(body),
        original: row.get::<_, Option<&[u8]>>(21).map(Bytes::copy_from_slice),
        content_type: row.get(18),
    })
}

fn summary(row: &Row) -> Result<Summary, Trouble> {
    Ok(Summary {
        id: row.get(0),
        state: state(row, 1)?,
        delivery_id: row.get(2),
        message_id: row.get(3),
        route: row.get(4),
        target: row.get(5),
        source: row.get(6),
        kind: row.get(7),
        key: row.get(8),
        cause: row.get(9),
        text: row.get(10),
        attempts: small(row, 11)?,
        created: time(row, 12)?,
        changed: time(row, 13)?,
        revision: small(row, 14)?,
        discarded: row.get(15),
    })
}

fn attempt(row: &Row) -> Result<Attempt, Trouble> {
    Ok(Attempt {
        number: small(row, 1)?,
        at: time(row, 2)?,
        instance: row.get(3),
        code: row.get(4),
        text: row.get(5),
        sent: row.get(6),
        answered: row.get(7),
    })
}

fn state(row: &Row, column: usize) -> Result<State, Trouble> {
    let word: &str = row.get(column);
    let state = State::parse(word);
    Ok(state.ok_or_else(|| StoreError::Damaged(format!("`{word}` is no state of a letter")))?)
}

/// A stored time.
pub(super) fn time(row: &Row, column: usize) -> Result<Timestamp, Trouble> {
    maybe_time(row, column)?.ok_or_else(|| StoreError::Damaged("a time is missing".to_owned()).into())
}

fn maybe_time(row: &Row, column: usize) -> Result<Option<Timestamp>, Trouble> {
    let stored: Option<SystemTime> = row.get(column);
    let read = stored.map(Timestamp::try_from).transpose();
    Ok(read.map_err(|error| StoreError::Damaged(format!("a time cannot be read: {error}")))?)
}

fn small(row: &Row, column: usize) -> Result<u32, Trouble> {
    let stored: i64 = row.get(column);
    Ok(u32::try_from(stored).map_err(|_| StoreError::Damaged(format!("{stored} is out of range")))?)
}

fn digest(body: &[u8]) -> Vec<u8> {
    Sha256::digest(body).to_vec()
}

fn headers_text(headers: &BTreeMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(headers).map_err(|error| StoreError::Damaged(format!("headers cannot be written: {error}")))
}
