//! The statements of the dead letters. Each function runs within a transaction of its lane.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rusqlite::types::{ToSqlOutput, Type};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use sha2::{Digest, Sha256};

use super::audit;
use super::lane::Trouble;
use crate::filter::{Argument, Dialect, condition};
use crate::{Attempt, Filter, Letter, NewLetter, State, StoreError, Summary, attempts, rules, text};

const DIALECT: Dialect = Dialect { place: '?', find: "instr" };

/// The longest lease: a year.
const LONGEST_LEASE: Duration = Duration::from_secs(365 * 86_400);

macro_rules! summary_columns {
    () => {
        "id, state, delivery_id, message_id, route, target, source, kind, key, cause, text, attempts, created, changed,
         revision, discarded"
    };
}

pub(super) fn put(db: &Connection, letter: NewLetter) -> Result<i64, Trouble> {
    let known = db
        .prepare_cached("SELECT id, state, claimed_at FROM letter WHERE delivery_id = ?1")?
        .query_row([&letter.delivery_id], |row| Ok((row.get(0)?, state(row, 1)?, maybe_time(row, 2)?)))
        .optional()?;
    match known {
        None => add(db, &letter),
        Some((id, state, claimed_at)) => {
            again(db, id, state, claimed_at, letter)?;
            Ok(id)
        }
    }
}

fn add(db: &Connection, letter: &NewLetter) -> Result<i64, Trouble> {
    let now = Timestamp::now();
    let attempts = attempts::fresh(&BTreeSet::new(), None, letter.attempts.clone());
    let last = attempts.last();
    db.prepare_cached(
        "INSERT INTO letter (delivery_id, message_id, state, route, target, target_system, source, source_system, kind, key,
                             cause, fingerprint, text, attempts, created, changed)
         VALUES (?1, ?2, 'open', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        letter.delivery_id,
        letter.message_id,
        letter.route,
        letter.target,
        letter.target.as_deref().map(text::system),
        letter.source,
        text::system(&letter.source),
        letter.kind,
        letter.key,
        letter.cause,
        letter.fingerprint,
        last.map_or("", |attempt| &attempt.text),
        attempts.len(),
        time_text(last.map_or(now, |attempt| attempt.at)),
        time_text(now),
    ])?;
    let id = db.last_insert_rowid();
    db.prepare_cached(
        "INSERT INTO letter_body (letter, headers, content_type, sha256, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        id,
        headers_text(&letter.headers)?,
        letter.content_type,
        digest(&letter.body),
        &letter.body[..]
    ])?;
    add_attempts(db, id, &attempts)?;
    Ok(id)
}

/// The same delivery died again, or the same death is told again.
fn again(db: &Connection, id: i64, state: State, claimed: Option<Timestamp>, letter: NewLetter) -> Result<(), Trouble> {
    let known: BTreeSet<u32> = db
        .prepare_cached("SELECT number FROM attempt WHERE letter = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let replayed = claimed.filter(|_| matches!(state, State::Claimed | State::Published));
    let fresh = attempts::fresh(&known, replayed, letter.attempts);
    let Some(last) = fresh.last() else { return Ok(()) };
    add_attempts(db, id, &fresh)?;
    // `claimed_by` stays: it tells a late `mark_published` that it was not too bold.
    db.prepare_cached(
        "UPDATE letter SET state = CASE state WHEN 'discarded' THEN state ELSE 'open' END, cause = ?2, fingerprint = ?3,
                text = ?4, attempts = ?5, changed = ?6, lease_until = NULL
         WHERE id = ?1",
    )?
    .execute(params![
        id,
        letter.cause,
        letter.fingerprint,
        last.text,
        known.len() + fresh.len(),
        time_text(Timestamp::now())
    ])?;
    Ok(())
}

fn add_attempts(db: &Connection, id: i64, attempts: &[Attempt]) -> Result<(), Trouble> {
    let mut insert = db.prepare_cached("INSERT INTO attempt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for attempt in attempts {
        let Attempt { number, at, instance, code, text, sent, answered } = attempt;
        insert.execute(params![id, number, time_text(*at), instance, code, text, sent, answered])?;
    }
    Ok(())
}

pub(super) fn list(db: &Connection, filter: &Filter, limit: u32, after: Option<i64>) -> Result<Vec<Summary>, Trouble> {
    let (condition, arguments) = condition(filter, after, DIALECT);
    let columns = summary_columns!();
    let sql = format!("SELECT {columns} FROM letter WHERE {condition} ORDER BY id DESC LIMIT {limit}");
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(arguments), summary)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn count(db: &Connection, filter: &Filter) -> Result<BTreeMap<String, u64>, Trouble> {
    let (condition, arguments) = condition(filter, None, DIALECT);
    let mut statement =
        db.prepare_cached(&format!("SELECT state, count(*) FROM letter WHERE {condition} GROUP BY state"))?;
    let rows = statement.query_map(params_from_iter(arguments), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn get(db: &Connection, id: i64) -> Result<Letter, Trouble> {
    let head = db
        .prepare_cached(concat!("SELECT ", summary_columns!(), ", fingerprint FROM letter WHERE id = ?1"))?
        .query_row([id], |row| Ok((summary(row)?, row.get::<_, String>(16)?)))
        .optional()?;
    let (summary, fingerprint) = head.ok_or(StoreError::Missing(id))?;
    let attempts = db
        .prepare_cached(
            "SELECT number, at, instance, code, text, sent, answered FROM attempt WHERE letter = ?1 ORDER BY number",
        )?
        .query_map([id], attempt)?
        .collect::<Result<_, _>>()?;
    let (headers, content_type, sha256, body, original) = db
        .prepare_cached("SELECT headers, content_type, sha256, body, original FROM letter_body WHERE letter = ?1")?
        .query_row([id], |row| {
            let (headers, content_type): (String, String) = (row.get(0)?, row.get(1)?);
            let (sha256, body): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
            Ok((headers, content_type, sha256, body, row.get::<_, Option<Vec<u8>>>(4)?))
        })?;
    if digest(&body) != sha256[..] {
        let text =
            format!("the body of letter {id} is not what was written: its SHA-256 differs; nothing is sent from it");
        return Err(StoreError::Damaged(text).into());
    }
    let headers = serde_json::from_str(&headers)
        .map_err(|error| StoreError::Damaged(format!("the headers of letter {id} cannot be read: {error}")))?;
    let (body, original) = (body.into(), original.map(Bytes::from));
    Ok(Letter { summary, fingerprint, attempts, headers, body, original, content_type })
}

pub(super) fn claim(db: &Connection, ids: &[i64], actor: &str, lease: Duration) -> Result<Vec<Letter>, Trouble> {
    let now = Timestamp::now();
    let lease = lease.min(LONGEST_LEASE);
    let until = later(now, lease)?;
    let mut take = db.prepare_cached(
        "UPDATE letter SET state = 'claimed', claimed_by = ?2, claimed_at = ?3, lease_ms = ?4, lease_until = ?5, changed = ?3
         WHERE id = ?1 AND (state = 'open' OR (state IN ('claimed', 'published') AND lease_until <= ?3))",
    )?;
    let (mut taken, mut asked) = (Vec::new(), BTreeSet::new());
    for id in ids.iter().filter(|id| asked.insert(**id)) {
        if take.execute(params![id, actor, time_text(now), millis(lease), time_text(until)])? > 0 {
            taken.push(get(db, *id)?);
        }
    }
    Ok(taken)
}

pub(super) fn mark_published(db: &Connection, id: i64) -> Result<(), Trouble> {
    let now = Timestamp::now();
    let claim = db
        .prepare_cached("SELECT state, claimed_by, coalesce(lease_ms, 0) FROM letter WHERE id = ?1")?
        .query_row([id], |row| Ok((state(row, 0)?, row.get::<_, Option<String>>(1)?, row.get::<_, u64>(2)?)))
        .optional()?;
    let (state, claimed_by, lease) = claim.ok_or(StoreError::Missing(id))?;
    if state != State::Claimed {
        return Ok(rules::settled(id, state, claimed_by.is_some(), "published")?);
    }
    let until = later(now, Duration::from_millis(lease))?;
    db.prepare_cached("UPDATE letter SET state = 'published', lease_until = ?2, changed = ?3 WHERE id = ?1")?
        .execute(params![id, time_text(until), time_text(now)])?;
    Ok(())
}

pub(super) fn release(db: &Connection, id: i64) -> Result<(), Trouble> {
    let claim = db
        .prepare_cached("SELECT state, claimed_by FROM letter WHERE id = ?1")?
        .query_row([id], |row| Ok((state(row, 0)?, row.get::<_, Option<String>>(1)?)))
        .optional()?;
    let (state, claimed_by) = claim.ok_or(StoreError::Missing(id))?;
    if state != State::Claimed {
        return Ok(rules::settled(id, state, claimed_by.is_some(), "released")?);
    }
    db.prepare_cached(
        "UPDATE letter SET state = 'open', claimed_by = NULL, claimed_at = NULL, lease_until = NULL, changed = ?2 WHERE id = ?1",
    )?
    .execute(params![id, time_text(Timestamp::now())])?;
    Ok(())
}

pub(super) fn resolve(db: &Connection, delivery_id: &str) -> Result<bool, Trouble> {
    let resolved = db
        .prepare_cached(
            "UPDATE letter SET state = 'resolved', lease_until = NULL, changed = ?2
             WHERE delivery_id = ?1 AND state IN ('claimed', 'published')",
        )?
        .execute(params![delivery_id, time_text(Timestamp::now())])?;
    Ok(resolved > 0)
}

pub(super) fn edit(db: &Connection, id: i64, revision: u32, body: &Bytes, actor: String) -> Result<(), Trouble> {
    let (state, is) = standing(db, id)?;
    rules::editable(id, state, is, revision)?;
    let before: u64 = db
        .prepare_cached("SELECT length(body) FROM letter_body WHERE letter = ?1")?
        .query_row([id], |row| row.get(0))?;
    db.prepare_cached(
        "UPDATE letter_body SET original = coalesce(original, body), body = ?2, sha256 = ?3 WHERE letter = ?1",
    )?
    .execute(params![id, &body[..], digest(body)])?;
    db.prepare_cached("UPDATE letter SET revision = revision + 1, changed = ?2 WHERE id = ?1")?
        .execute(params![id, time_text(Timestamp::now())])?;
    audit::letter(db, actor, "letter.edit", id, rules::edited(revision, before, body.len()))
}

pub(super) fn discard(db: &Connection, id: i64, reason: &str, actor: String) -> Result<(), Trouble> {
    let (state, _) = standing(db, id)?;
    rules::open_only(id, state, "discarded")?;
    db.prepare_cached("UPDATE letter SET state = 'discarded', discarded = ?2, changed = ?3 WHERE id = ?1")?
        .execute(params![id, reason, time_text(Timestamp::now())])?;
    audit::letter(db, actor, "letter.discard", id, reason.to_owned())
}

/// A letter's state and revision.
fn standing(db: &Connection, id: i64) -> Result<(State, u32), Trouble> {
    let standing = db
        .prepare_cached("SELECT state, revision FROM letter WHERE id = ?1")?
        .query_row([id], |row| Ok((state(row, 0)?, row.get(1)?)))
        .optional()?;
    Ok(standing.ok_or(StoreError::Missing(id))?)
}

fn summary(row: &Row<'_>) -> Result<Summary, rusqlite::Error> {
    Ok(Summary {
        id: row.get(0)?,
        state: state(row, 1)?,
        delivery_id: row.get(2)?,
        message_id: row.get(3)?,
        route: row.get(4)?,
        target: row.get(5)?,
        source: row.get(6)?,
        kind: row.get(7)?,
        key: row.get(8)?,
        cause: row.get(9)?,
        text: row.get(10)?,
        attempts: row.get(11)?,
        created: time(row, 12)?,
        changed: time(row, 13)?,
        revision: row.get(14)?,
        discarded: row.get(15)?,
    })
}

fn attempt(row: &Row<'_>) -> Result<Attempt, rusqlite::Error> {
    Ok(Attempt {
        number: row.get(0)?,
        at: time(row, 1)?,
        instance: row.get(2)?,
        code: row.get(3)?,
        text: row.get(4)?,
        sent: row.get(5)?,
        answered: row.get(6)?,
    })
}

fn state(row: &Row<'_>, column: usize) -> Result<State, rusqlite::Error> {
    let word: String = row.get(column)?;
    State::parse(&word).ok_or_else(|| unreadable(column, format!("`{word}` is no state of a letter").into()))
}

/// A time as it is stored: UTC, to the microsecond, always 27 characters.
pub(super) fn time_text(at: Timestamp) -> String {
    format!("{:.6}", text::micros(at))
}

/// A stored time.
pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, rusqlite::Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: jiff::Error| unreadable(column, error.into()))
}

fn maybe_time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(|error: jiff::Error| unreadable(column, error.into()))
}

fn unreadable(column: usize, why: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why)
}

fn later(now: Timestamp, by: Duration) -> Result<Timestamp, StoreError> {
    let by = SignedDuration::from_millis(millis(by.min(LONGEST_LEASE)));
    now.checked_add(by).map_err(|error| StoreError::Unavailable(format!("the machine's clock is wrong: {error}")))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

fn headers_text(headers: &BTreeMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(headers).map_err(|error| StoreError::Damaged(format!("headers cannot be written: {error}")))
}

impl ToSql for Argument {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        Ok(match self {
            Self::Text(text) => text.as_str().into(),
            Self::Time(at) => time_text(*at).into(),
            Self::Id(id) => (*id).into(),
        })
    }
}
