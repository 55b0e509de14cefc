//! How far a capture has come, as it stands in the cursor: for each table how far the snapshot is, and from where on changes
//! are looked for.

use std::collections::BTreeMap;

use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::{Value, json};

/// A capture's place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Position {
    /// Tells this reading of the source from an earlier one that was forgotten: part of each row's id.
    pub(crate) run: String,
    pub(crate) tables: BTreeMap<String, TablePosition>,
    /// By log: where it is read on, in the database's own words.
    pub(crate) log: Option<Value>,
}

/// A table's place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TablePosition {
    pub(crate) snapshot: Snapshot,
    /// By watermark: everything up to this has been handed over.
    pub(crate) floor: Value,
}

/// How far the first reading of a table is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Snapshot {
    /// Not begun.
    Waiting,
    /// Handed over up to the row with this key.
    After(Vec<Value>),
    /// Done, or not wanted.
    Done,
}

impl Position {
    /// Reads what was saved.
    pub(crate) fn read(saved: Option<&str>) -> Result<Self, Fault> {
        let Some(saved) = saved else { return Ok(Self::default()) };
        let limits = BodyLimits { bytes: 16 << 20, ..BodyLimits::default() };
        let damaged = |why: String| {
            let text = format!("the place in the source cannot be read ({why}); a newer gateway may have written it");
            Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold)
        };
        let value = json::decode(saved.as_bytes(), &limits).map_err(|error| damaged(error.reason.clone()))?;
        if value.field("v") != Some(&Value::from(1)) {
            return Err(damaged("its version is not 1".to_owned()));
        }
        let run = value.field("run").and_then(Value::as_text).unwrap_or_default().to_owned();
        let mut position = Self { run, log: value.field("log").cloned(), ..Self::default() };
        for (table, place) in value.field("tables").and_then(Value::as_map).into_iter().flatten() {
            let snapshot = match place.field("snapshot") {
                Some(Value::List(key)) => Snapshot::After(key.clone()),
                Some(Value::Bool(true)) => Snapshot::Done,
                _ => Snapshot::Waiting,
            };
            let floor = place.field("floor").cloned().unwrap_or(Value::Null);
            position.tables.insert(table.to_string(), TablePosition { snapshot, floor });
        }
        Ok(position)
    }

    /// The text to save.
    pub(crate) fn text(&self) -> String {
        let table = |(name, place): (&String, &TablePosition)| {
            let snapshot = match &place.snapshot {
                Snapshot::Waiting => Value::Bool(false),
                Snapshot::After(key) => Value::List(key.clone()),
                Snapshot::Done => Value::Bool(true),
            };
            let fields = [("snapshot".to_owned(), snapshot), ("floor".to_owned(), place.floor.clone())];
            (name.clone(), fields.into_iter().collect::<Value>())
        };
        let tables: Value = self.tables.iter().map(table).collect();
        let mut fields = vec![("v", Value::from(1)), ("run", Value::from(self.run.as_str())), ("tables", tables)];
        fields.extend(self.log.clone().map(|log| ("log", log)));
        let value: Value = fields.into_iter().collect();
        String::from_utf8_lossy(&json::encode(&value)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was_saved() {
        let big = json::decode(b"[12345678901234567890, \"\\u8ba2\\u5355\"]", &BodyLimits::default()).unwrap();
        let Value::List(key) = big else { panic!() };
        let tables = [
            ("a".to_owned(), TablePosition { snapshot: Snapshot::After(key), floor: Value::from("2026-11-24") }),
            ("b".to_owned(), TablePosition { snapshot: Snapshot::Done, floor: Value::Null }),
        ];
        let mut position = Position { run: "r1".to_owned(), tables: tables.into_iter().collect(), log: None };
        assert_eq!(Position::read(Some(&position.text())).unwrap(), position);
        position.log = Some(Value::List(vec![Value::from("16/B3748000")]));
        assert_eq!(Position::read(Some(&position.text())).unwrap(), position);
        assert_eq!(Position::read(None).unwrap(), Position::default());
        assert!(Position::read(Some("{\"v\":2}")).unwrap_err().public.contains("newer"));
    }
}
