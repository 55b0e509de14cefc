//! A table of numbers is read by pieces of ten; who takes them, and the place, are the test's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gatehouse_core::adapter::{Admission, Arrival, Behind, Cursor, Receipt, SiteFiles};
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::Code;
use tokio::sync::watch;

use super::super::ahead::Pace;
use super::super::position::{Position, TablePosition};
use super::super::source::{Column, Described, Raw, Source};
use super::*;
use crate::file::{Checked, Table};

const ROWS: i64 = 95;
const PATIENCE: Duration = Duration::from_secs(20);

const SYSTEM: &str = "version: 1
system: src
adapter: sql
database: sqlite
address: src.db
endpoints:
  rows:
    capture: { table: t, by: watermark, watermark: id, batch: 10 }
";

struct NoFiles;

impl SiteFiles for NoFiles {
    fn file(&self, _path: &str) -> Option<SourceFile> {
        None
    }

    fn locate(&self, path: &str) -> PathBuf {
        Path::new(path).to_owned()
    }
}

/// The table, how often it was asked, and which of these times it is gone.
struct Numbers {
    asked: watch::Sender<usize>,
    gone: usize,
}

#[async_trait]
impl Source for Numbers {
    async fn fetch(&self, query: &Query) -> Result<Vec<Raw>, Fault> {
        let after = query.values.first().and_then(Value::to_plain_text).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.asked.send_modify(|asked| *asked += 1);
        if *self.asked.borrow() == self.gone {
            return Err(Fault::new(Code::Unreachable, "gone"));
        }
        Ok((after + 1..=ROWS.min(after + 10)).map(|id| vec![Some(format!("{{\"id\":{id}}}").into_bytes())]).collect())
    }

    async fn change(&self, _statements: &[Query]) -> Result<(), Fault> {
        unreachable!("nothing is changed")
    }

    async fn define(&self, _statements: &[String]) -> Result<(), Fault> {
        unreachable!("nothing is changed")
    }

    async fn open_transactions(&self) -> Result<Option<BTreeSet<String>>, Fault> {
        Ok(None)
    }
}

/// Who takes rows, and what was confirmed: each piece only once the next one was read.
struct Taker {
    asked: watch::Receiver<usize>,
    pieces: Mutex<usize>,
    /// Ids by row, confirmed or not.
    told: Mutex<BTreeMap<i64, BTreeSet<String>>>,
    confirmed: Arc<Mutex<i64>>,
    /// The piece that is never confirmed.
    stuck: Option<usize>,
    /// Told once it has come.
    at_it: watch::Sender<bool>,
}

#[async_trait]
impl Intake for Taker {
    fn admit(&self, _endpoint: &str) -> Result<Admission, Fault> {
        unreachable!("whole pieces come")
    }

    async fn accept(&self, _admission: Admission, _arrival: Arrival) -> Result<Receipt, Fault> {
        unreachable!("whole pieces come")
    }

    async fn keep(&self, _endpoint: &str, lines: Vec<Vec<Arrival>>) -> Result<(), Fault> {
        let number = {
            let mut pieces = self.pieces.lock().unwrap();
            *pieces += 1;
            *pieces
        };
        let mut last = 0;
        for arrival in lines.into_iter().flatten() {
            let id = arrival.body.field("id").unwrap().to_plain_text().unwrap().parse().unwrap();
            last = last.max(id);
            self.told.lock().unwrap().entry(id).or_default().insert(arrival.id.unwrap());
        }
        if last < ROWS {
            let mut asked = self.asked.clone();
            let ahead = tokio::time::timeout(PATIENCE, asked.wait_for(|asked| *asked > number)).await;
            let asked = *ahead.expect("the next piece is read before this one is confirmed").unwrap();
            assert_eq!(asked, number + 1, "one piece ahead, and no more");
        }
        if self.stuck == Some(number) {
            self.at_it.send_replace(true);
            std::future::pending::<()>().await;
        }
        *self.confirmed.lock().unwrap() = last;
        Ok(())
    }

    async fn cursor(&self, _endpoint: &str) -> Result<Box<dyn Cursor>, Fault> {
        unreachable!("the test has it")
    }

    async fn bury(&self, _endpoint: &str, _arrival: Arrival, _fault: Fault) {
        unreachable!("every row can be read")
    }

    fn behind(&self, _endpoint: &str, _behind: Behind) {}
}

/// Where the reader saves its place: it is looked at whether all before it is confirmed.
struct Saved {
    confirmed: Arc<Mutex<i64>>,
    values: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Cursor for Saved {
    fn value(&self) -> Option<&str> {
        None
    }

    fn is_held(&self) -> bool {
        true
    }

    async fn save(&mut self, value: &str) -> Result<(), Fault> {
        let confirmed = *self.confirmed.lock().unwrap();
        assert_eq!(reached(value), Some(confirmed), "neither past what is confirmed nor behind it");
        self.values.lock().unwrap().push(value.to_owned());
        Ok(())
    }
}

/// The last row before a place.
fn reached(saved: &str) -> Option<i64> {
    match &Position::read(Some(saved)).unwrap().tables["t"].snapshot {
        Snapshot::After(key) => key.first()?.to_plain_text()?.parse().ok(),
        Snapshot::Waiting | Snapshot::Done => None,
    }
}

fn checked() -> Checked {
    let file = SourceFile::new("systems/src.yaml", SYSTEM);
    let mut problems = Problems::new();
    let checked = crate::file::check(&file, &NoFiles, &mut problems);
    checked.unwrap_or_else(|| panic!("{:?}", problems.sorted()))
}

struct Run {
    reader: Reader,
    open: Open,
    taker: Arc<Taker>,
    saved: Arc<Mutex<Vec<String>>>,
}

fn run(stuck: Option<usize>) -> Run {
    let (asked, count) = watch::channel(0);
    let id = Column { name: "id".to_owned(), kind: "integer".to_owned(), nullable: false, charset: None };
    let table = Table { schema: None, name: "t".to_owned() };
    let described = Described { table, columns: vec![id.clone()], key: vec!["id".to_owned()] };
    let open = Open { described, columns: vec![id.clone()], key: vec![id], order_by: vec!["id".to_owned()] };
    let checked = Arc::new(checked());
    let capture = checked.captures[0].1.clone();
    let source = Arc::new(Numbers { asked, gone: 0 });
    let tables = vec![open.clone()];
    let database = checked.database;
    let reader = Reader { checked, database, endpoint: "rows".to_owned(), capture, source, password: None, tables };
    let taker = Taker {
        asked: count,
        pieces: Mutex::default(),
        told: Mutex::default(),
        confirmed: Arc::default(),
        stuck,
        at_it: watch::channel(false).0,
    };
    Run { reader, open, taker: Arc::new(taker), saved: Arc::default() }
}

impl Run {
    fn place(&self, snapshot: Snapshot) -> Place {
        let table = TablePosition { snapshot, floor: Value::Null };
        let tables = BTreeMap::from([("t".to_owned(), table)]);
        let position = Position { run: "r".to_owned(), tables, log: None };
        let cursor = Saved { confirmed: self.taker.confirmed.clone(), values: self.saved.clone() };
        Place {
            cursor: Box::new(cursor),
            position,
            marks: HashMap::new(),
            log: None,
            awaited: HashMap::new(),
            counted: None,
            moved: false,
            pace: Pace::default(),
        }
    }

    async fn step(&self, place: &mut Place) -> Result<(), Fault> {
        step(&self.reader, &self.open, place, self.taker.as_ref(), Instant::now() + PATIENCE).await
    }
}

#[tokio::test]
async fn the_next_piece_is_read_meanwhile_and_the_place_follows_what_is_confirmed() {
    let run = run(None);
    let mut place = run.place(Snapshot::After(Vec::new()));
    run.step(&mut place).await.unwrap();
    assert_eq!(place.position.tables["t"].snapshot, Snapshot::Done);
    assert!(place.moved, "the last piece's place is the caller's to save");
    let places: Vec<_> = run.saved.lock().unwrap().iter().filter_map(|saved| reached(saved)).collect();
    assert_eq!(places, [10, 20, 30, 40, 50, 60, 70, 80, 90]);
    let told = run.taker.told.lock().unwrap();
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), (1..=ROWS).collect::<Vec<_>>());
    assert!(told.values().all(|ids| ids.len() == 1));
}

#[tokio::test]
async fn a_reader_that_dies_with_a_piece_read_ahead_leaves_no_gap() {
    for stuck in 1..=9 {
        let first = run(Some(stuck));
        let mut place = first.place(Snapshot::After(Vec::new()));
        let mut at_it = first.taker.at_it.subscribe();
        tokio::select! {
            ended = first.step(&mut place) => panic!("it goes on past what is not confirmed: {ended:?}"),
            at_it = tokio::time::timeout(PATIENCE, at_it.wait_for(|at_it| *at_it)) => drop(at_it.expect("it comes")),
        }
        let saved = first.saved.lock().unwrap().last().cloned();
        let from = saved.as_deref().and_then(reached).unwrap_or(0);
        assert_eq!(from, (i64::try_from(stuck).unwrap() - 1) * 10);
        // Another reader goes on from there.
        let second = run(None);
        let after = if from == 0 { Vec::new() } else { vec![Value::from(from)] };
        let mut place = second.place(Snapshot::After(after));
        second.step(&mut place).await.unwrap();
        let mut all = first.taker.told.lock().unwrap().clone();
        for (row, ids) in second.taker.told.lock().unwrap().iter() {
            all.entry(*row).or_default().extend(ids.iter().cloned());
        }
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), (1..=ROWS).collect::<Vec<_>>(), "none is lost");
        assert!(all.values().all(|ids| ids.len() == 1), "a row that comes twice has the id that it had");
    }
}

#[tokio::test]
async fn a_source_that_fails_ahead_costs_nothing_that_was_handed_over() {
    let mut run = run(None);
    let (asked, count) = watch::channel(0);
    run.reader.source = Arc::new(Numbers { asked, gone: 4 });
    if let Some(taker) = Arc::get_mut(&mut run.taker) {
        taker.asked = count;
    }
    let mut place = run.place(Snapshot::After(Vec::new()));
    assert_eq!(run.step(&mut place).await.unwrap_err().code, Code::Unreachable);
    let saved = run.saved.lock().unwrap().last().cloned();
    assert_eq!(saved.as_deref().and_then(reached), Some(30), "the piece before it was handed over and counts");
}
