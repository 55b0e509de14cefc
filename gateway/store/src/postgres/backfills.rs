//! The statements of the backfills.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use gatehouse_core::backfill::Slice;
use tokio_postgres::Row;

use super::audit;
use super::letters::time;
use super::run::{Step, Trouble, change, row, rows};
use crate::{Backfill, BackfillState, NewBackfill, SliceState, StoreError, Tally, Turn, backfills, text};

const SELECT: &str =
    "SELECT b.id, b.state, b.route, b.endpoint, b.again, b.rate, b.expected, b.actor, b.created, b.changed, b.problem,
        count(s.number), coalesce(sum(s.done::int), 0)::bigint, coalesce(sum(s.read), 0)::bigint,
        coalesce(sum(s.accepted), 0)::bigint, coalesce(sum(s.recognised), 0)::bigint,
        coalesce(sum(s.dropped), 0)::bigint, coalesce(sum(s.refused), 0)::bigint
 FROM backfill b LEFT JOIN backfill_slice s ON s.backfill = b.id";

/// Begins one. Run in a transaction.
pub(super) struct Put<'a> {
    pub(super) new: &'a NewBackfill,
}

#[async_trait]
impl Step for Put<'_> {
    type Output = i64;
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<i64, Trouble> {
        let new = self.new;
        let actor = text::clean(&new.actor);
        let expected = new.expected.and_then(|count| i64::try_from(count).ok());
        let insert = "INSERT INTO backfill (state, route, endpoint, again, rate, expected, actor)
                      VALUES ('running', $1, $2, $3, $4, $5, $6) RETURNING id";
        let made = row(db, insert, &[&new.route, &new.endpoint, &new.again, &new.rate, &expected, &actor]).await?;
        let id: i64 = made.ok_or(Trouble::Raced)?.get(0);
        let texts =
            |of: fn(&Slice) -> &String| new.slices.iter().map(|slice| text::clean(of(slice))).collect::<Vec<_>>();
        let bounds = |of: fn(&Slice) -> &Option<String>| {
            new.slices.iter().map(|slice| of(slice).as_deref().map(text::clean)).collect::<Vec<_>>()
        };
        let insert = "INSERT INTO backfill_slice (backfill, number, source, by_column, from_value, to_value)
                      SELECT $1, n, t, b, f, u FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])
                                                    WITH ORDINALITY AS s (t, b, f, u, n)";
        let (tables, by) = (texts(|slice| &slice.table), texts(|slice| &slice.by));
        change(db, insert, &[&id, &tables, &by, &bounds(|slice| &slice.from), &bounds(|slice| &slice.to)]).await?;
        audit::act(db, &actor, "backfill.start", format!("backfill:{id}"), backfills::begun(new)).await?;
        Ok(id)
    }
}

/// Some of them, newest first.
pub(super) struct List {
    pub(super) state: Option<BackfillState>,
    pub(super) limit: u32,
}

#[async_trait]
impl Step for List {
    type Output = Vec<Backfill>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<Backfill>, Trouble> {
        let sql = format!("{SELECT} WHERE $1::text IS NULL OR b.state = $1 GROUP BY b.id ORDER BY b.id DESC LIMIT $2");
        let state = self.state.map(BackfillState::as_str);
        rows(db, &sql, &[&state, &i64::from(self.limit)]).await?.iter().map(backfill).collect()
    }
}

/// One of them.
pub(super) struct Get {
    pub(super) id: i64,
}

#[async_trait]
impl Step for Get {
    type Output = Backfill;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Backfill, Trouble> {
        let sql = format!("{SELECT} WHERE b.id = $1 GROUP BY b.id");
        let found = row(db, &sql, &[&self.id]).await?;
        backfill(&found.ok_or(StoreError::MissingBackfill(self.id))?)
    }
}

/// The slices of one.
pub(super) struct Slices {
    pub(super) id: i64,
}

#[async_trait]
impl Step for Slices {
    type Output = Vec<SliceState>;
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<Vec<SliceState>, Trouble> {
        let sql = "SELECT number, source, by_column, from_value, to_value, after, done, read, accepted, recognised, dropped, refused
                   FROM backfill_slice WHERE backfill = $1 ORDER BY number";
        let state = |row: &Row| {
            let slice = Slice { table: row.get(1), by: row.get(2), from: row.get(3), to: row.get(4) };
            SliceState { number: row.get(0), slice, after: row.get(5), done: row.get(6), tally: tally(row, 7) }
        };
        Ok(rows(db, sql, &[&self.id]).await?.iter().map(state).collect())
    }
}

/// Pauses, resumes, cancels or halts one. Run in a transaction.
pub(super) struct Turned<'a> {
    pub(super) id: i64,
    pub(super) turn: &'a Turn,
    pub(super) actor: &'a str,
}

#[async_trait]
impl Step for Turned<'_> {
    type Output = ();
    const HARMLESS_TWICE: bool = false;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        rows(db, "SELECT 1 FROM backfill WHERE id = $1 FOR UPDATE", &[&self.id]).await?;
        let found = Get { id: self.id }.run(db).await?;
        self.turn.allowed(self.id, found.state)?;
        let sql = "UPDATE backfill SET state = $2, problem = $3, changed = now() WHERE id = $1";
        change(db, sql, &[&self.id, &self.turn.to().as_str(), &self.turn.problem()]).await?;
        let detail = self.turn.problem().unwrap_or_else(|| format!("after {} rows", found.tally.read));
        audit::act(db, self.actor, self.turn.action(), format!("backfill:{}", self.id), detail).await
    }
}

/// Saves how far a slice is. Run in a transaction.
pub(super) struct Save<'a> {
    pub(super) id: i64,
    pub(super) number: i64,
    pub(super) seen: Option<&'a str>,
    pub(super) after: Option<&'a str>,
    pub(super) tally: Tally,
}

#[async_trait]
impl Step for Save<'_> {
    type Output = ();
    // A second time it is told that it is overtaken, by itself: whoever saves looks again, and finds it saved.
    const HARMLESS_TWICE: bool = true;

    async fn run<C: GenericClient + Sync>(&self, db: &C) -> Result<(), Trouble> {
        let update = "UPDATE backfill_slice SET after = coalesce($4, after), done = $4::text IS NULL, read = read + $5,
                             accepted = accepted + $6, recognised = recognised + $7, dropped = dropped + $8, refused = refused + $9
                      WHERE backfill = $1 AND number = $2 AND after IS NOT DISTINCT FROM $3 AND NOT done";
        let [read, accepted, recognised, dropped, refused] = self.tally.columns();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
            [&self.id, &self.number, &self.seen, &self.after, &read, &accepted, &recognised, &dropped, &refused];
        if change(db, update, &values).await? == 0 {
            return Err(backfills::overtaken(self.id, self.number).into());
        }
        let moved = "UPDATE backfill SET changed = now(),
                            state = CASE WHEN state IN ('running', 'paused') AND NOT EXISTS
                                    (SELECT 1 FROM backfill_slice WHERE backfill = $1 AND NOT done) THEN 'done' ELSE state END
                     WHERE id = $1";
        change(db, moved, &[&self.id]).await?;
        Ok(())
    }
}

fn backfill(row: &Row) -> Result<Backfill, Trouble> {
    let word: String = row.get(1);
    let state = BackfillState::parse(&word)
        .ok_or_else(|| StoreError::Damaged(format!("`{word}` is no state of a backfill")))?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok(Backfill {
        id: row.get(0),
        state,
        route: row.get(2),
        endpoint: row.get(3),
        again: row.get(4),
        rate: row.get(5),
        expected: row.get::<_, Option<i64>>(6).and_then(|count| u64::try_from(count).ok()),
        actor: row.get(7),
        created: time(row, 8)?,
        changed: time(row, 9)?,
        problem: row.get(10),
        slices: count(11),
        slices_done: count(12),
        tally: tally(row, 13),
    })
}

/// Five counts from `first` on.
fn tally(row: &Row, first: usize) -> Tally {
    let count = |at: usize| row.get::<_, i64>(first + at);
    Tally::of([count(0), count(1), count(2), count(3), count(4)])
}
