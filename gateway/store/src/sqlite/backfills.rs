//! The statements of the backfills.

use gatehouse_core::backfill::Slice;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::audit;
use super::lane::Trouble;
use super::letters::{time, time_text};
use crate::{Backfill, BackfillState, NewBackfill, SliceState, StoreError, Tally, Turn, backfills, text};

const SELECT: &str =
    "SELECT b.id, b.state, b.route, b.endpoint, b.again, b.rate, b.expected, b.actor, b.created, b.changed, b.problem,
        count(s.number), coalesce(sum(s.done), 0), coalesce(sum(s.read), 0), coalesce(sum(s.accepted), 0),
        coalesce(sum(s.recognised), 0), coalesce(sum(s.dropped), 0), coalesce(sum(s.refused), 0)
 FROM backfill b LEFT JOIN backfill_slice s ON s.backfill = b.id";

pub(super) fn put(db: &Connection, new: &NewBackfill) -> Result<i64, Trouble> {
    let now = time_text(Timestamp::now());
    let actor = text::clean(&new.actor);
    let insert = "INSERT INTO backfill (state, route, endpoint, again, rate, expected, actor, created, changed)
                  VALUES ('running', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) RETURNING id";
    let id: i64 = db
        .prepare_cached(insert)?
        .query_row(params![new.route, new.endpoint, new.again, new.rate, new.expected, actor, now], |row| row.get(0))?;
    let mut slices = db.prepare_cached(
        "INSERT INTO backfill_slice (backfill, number, source, by_column, from_value, to_value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let bound = |value: &Option<String>| value.as_deref().map(text::clean);
    for (number, slice) in (1_i64..).zip(&new.slices) {
        let (table, by) = (text::clean(&slice.table), text::clean(&slice.by));
        slices.execute(params![id, number, table, by, bound(&slice.from), bound(&slice.to)])?;
    }
    audit::act(db, actor, "backfill.start", format!("backfill:{id}"), backfills::begun(new))?;
    Ok(id)
}

pub(super) fn list(db: &Connection, state: Option<BackfillState>, limit: u32) -> Result<Vec<Backfill>, Trouble> {
    let sql = format!("{SELECT} WHERE ?1 IS NULL OR b.state = ?1 GROUP BY b.id ORDER BY b.id DESC LIMIT ?2");
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params![state.map(BackfillState::as_str), limit], backfill)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn get(db: &Connection, id: i64) -> Result<Backfill, Trouble> {
    let sql = format!("{SELECT} WHERE b.id = ?1 GROUP BY b.id");
    let found = db.prepare_cached(&sql)?.query_row([id], backfill).optional()?;
    Ok(found.ok_or(StoreError::MissingBackfill(id))?)
}

pub(super) fn slices(db: &Connection, id: i64) -> Result<Vec<SliceState>, Trouble> {
    let sql = "SELECT number, source, by_column, from_value, to_value, after, done, read, accepted, recognised, dropped, refused
               FROM backfill_slice WHERE backfill = ?1 ORDER BY number";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| {
        let slice = Slice { table: row.get(1)?, by: row.get(2)?, from: row.get(3)?, to: row.get(4)? };
        let (number, after, done) = (row.get(0)?, row.get(5)?, row.get(6)?);
        Ok(SliceState { number, slice, after, done, tally: tally(row, 7)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn turn(db: &Connection, id: i64, turn: &Turn, actor: &str) -> Result<(), Trouble> {
    let found = get(db, id)?;
    turn.allowed(id, found.state)?;
    db.prepare_cached("UPDATE backfill SET state = ?2, problem = ?3, changed = ?4 WHERE id = ?1")?.execute(params![
        id,
        turn.to().as_str(),
        turn.problem(),
        time_text(Timestamp::now())
    ])?;
    let detail = turn.problem().unwrap_or_else(|| format!("after {} rows", found.tally.read));
    audit::act(db, actor.to_owned(), turn.action(), format!("backfill:{id}"), detail)
}

pub(super) fn save(
    db: &Connection,
    id: i64,
    number: i64,
    seen: Option<&str>,
    after: Option<&str>,
    tally: Tally,
) -> Result<(), Trouble> {
    let update = "UPDATE backfill_slice SET after = coalesce(?4, after), done = ?4 IS NULL, read = read + ?5,
                         accepted = accepted + ?6, recognised = recognised + ?7, dropped = dropped + ?8, refused = refused + ?9
                  WHERE backfill = ?1 AND number = ?2 AND after IS ?3 AND NOT done";
    let [read, accepted, recognised, dropped, refused] = tally.columns();
    let saved = db
        .prepare_cached(update)?
        .execute(params![id, number, seen, after, read, accepted, recognised, dropped, refused])?;
    if saved == 0 {
        return Err(backfills::overtaken(id, number).into());
    }
    let moved = "UPDATE backfill SET changed = ?2,
                        state = CASE WHEN state IN ('running', 'paused') AND NOT EXISTS
                                (SELECT 1 FROM backfill_slice WHERE backfill = ?1 AND NOT done) THEN 'done' ELSE state END
                 WHERE id = ?1";
    db.prepare_cached(moved)?.execute(params![id, time_text(Timestamp::now())])?;
    Ok(())
}

fn backfill(row: &Row<'_>) -> Result<Backfill, rusqlite::Error> {
    let word: String = row.get(1)?;
    let state = BackfillState::parse(&word).ok_or_else(|| {
        let why = format!("`{word}` is no state of a backfill");
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, why.into())
    })?;
    Ok(Backfill {
        id: row.get(0)?,
        state,
        route: row.get(2)?,
        endpoint: row.get(3)?,
        again: row.get(4)?,
        rate: row.get(5)?,
        expected: row.get(6)?,
        actor: row.get(7)?,
        created: time(row, 8)?,
        changed: time(row, 9)?,
        problem: row.get(10)?,
        slices: row.get(11)?,
        slices_done: row.get(12)?,
        tally: tally(row, 13)?,
    })
}

/// Five counts from `first` on.
fn tally(row: &Row<'_>, first: usize) -> Result<Tally, rusqlite::Error> {
    let count = |at: usize| row.get::<_, i64>(first + at);
    Ok(Tally::of([count(0)?, count(1)?, count(2)?, count(3)?, count(4)?]))
}
