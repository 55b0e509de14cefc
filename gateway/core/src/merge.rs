//! Several sources, one record: what each of them last said of a key, and the record that the rules make of it.
//!
//! Of each source the newest record stands, whatever the order of arrival; the merged record is a function of these alone. So a
//! repeat changes nothing and nothing depends on who came first. Pure: where the records stand is the engine's.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::fault::{Code, Fault, Violation};
use crate::json;
use crate::path::{Path, Step};
use crate::value::{Map, Value};

/// How records of one key become one.
#[derive(Clone, Debug)]
pub struct Merge {
    /// The fields that say which records are of one thing.
    pub key: Vec<Path>,
    /// The field that says which record is newer.
    pub latest: Path,
    /// The sources, the most trusted first.
    pub sources: Vec<Source>,
    /// What holds for a field that is not named.
    pub otherwise: Rule,
    /// What holds for fields that are.
    pub fields: Vec<(String, Rule)>,
}

/// One of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `crm/customers`.
    pub endpoint: String,
    /// Stands before the first field of its key, so that its ids cannot be another source's.
    pub prefix: Option<String>,
}

/// Which source's value survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// That of the newest record that has one; of equally new ones that of the more trusted source.
    Latest,
    /// That of the first of these sources that has one, then of the others in their order.
    Prefer(Vec<String>),
    /// All that have one must have the same.
    Agree,
}

/// What each source last said of one key, by its endpoint.
pub type Records = BTreeMap<String, Value>;

/// A field about which sources do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The field.
    pub field: String,
    /// The sources that have a value in it.
    pub sources: Vec<String>,
}

impl Merge {
    /// Puts the source's prefix before the first field of the key.
    pub fn name(&self, source: &str, body: &mut Value) {
        let prefix = self.sources.iter().find(|known| known.endpoint == source).and_then(|known| known.prefix.as_ref());
        let (Some(prefix), Some(path)) = (prefix, self.key.first()) else { return };
        if let Some(value) = find_mut(path, body)
            && let Some(text) = value.to_plain_text()
        {
            *value = Value::from(format!("{prefix}{text}"));
        }
    }

    /// The key of a record, as one text.
    ///
    /// # Errors
    /// `Invalid`: a part of it is empty.
    pub fn key(&self, body: &Value) -> Result<String, Fault> {
        let mut parts = Vec::with_capacity(self.key.len());
        let mut missing = Vec::new();
        for path in &self.key {
            match path.find(body).and_then(Value::to_plain_text).filter(|text| !text.trim().is_empty()) {
                Some(text) => parts.push(text),
                None => missing.push(Violation {
                    pointer: pointer(path),
                    message: "records are merged by this field, and it is empty".to_owned(),
                }),
            }
        }
        if !missing.is_empty() {
            return Err(Fault::new(Code::Invalid, "the record has no key to be merged by").violations(missing));
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            _ => Ok(String::from_utf8_lossy(&json::encode(&Value::from(parts))).into_owned()),
        }
    }

    /// Takes up what a source says; tells whether it changes what stood there. An older record changes nothing.
    pub fn join(&self, records: &mut Records, source: &str, body: Value) -> bool {
        match records.get(source) {
            Some(before) if self.newer(&body, before) != Ordering::Greater => false,
            _ => {
                records.insert(source.to_owned(), body);
                true
            }
        }
    }

    /// The merged record.
    ///
    /// # Errors
    /// The fields that sources must agree on, and do not.
    pub fn merged(&self, records: &Records) -> Result<Value, Vec<Conflict>> {
        let told: Vec<Told<'_>> = self
            .sources
            .iter()
            .filter_map(|source| {
                let body = records.get(&source.endpoint)?;
                Some(Told { source: &source.endpoint, stamp: Stamp::of(self.latest.find(body)), body: body.as_map()? })
            })
            .collect();
        let (mut record, mut conflicts) = (Map::new(), Vec::new());
        for name in told.iter().flat_map(|told| told.body.keys()) {
            if record.contains_key(name) {
                continue;
            }
            let has = |told: &&Told<'_>| told.body.get(name).is_some_and(|value| *value != Value::Null);
            let having: Vec<&Told<'_>> = told.iter().filter(has).collect();
            let chosen = match self.rule(name) {
                // Of equal ones the first, which is the most trusted.
                Rule::Latest => having.iter().rev().max_by(|a, b| a.stamp.cmp(&b.stamp)).copied(),
                Rule::Prefer(order) => {
                    let place = |told: &Told<'_>| order.iter().position(|source| source == told.source);
                    having.iter().min_by_key(|told| place(told).unwrap_or(usize::MAX)).copied()
                }
                Rule::Agree => {
                    let first = having.first().copied();
                    if having.iter().any(|told| told.body.get(name) != first.and_then(|first| first.body.get(name))) {
                        let sources = having.iter().map(|told| told.source.to_owned()).collect();
                        conflicts.push(Conflict { field: name.to_string(), sources });
                    }
                    first
                }
            };
            let value = chosen.and_then(|told| told.body.get(name)).cloned().unwrap_or(Value::Null);
            record.insert(name.clone(), value);
        }
        if conflicts.is_empty() { Ok(Value::Map(record)) } else { Err(conflicts) }
    }

    /// What holds for a field.
    #[must_use]
    pub fn rule(&self, field: &str) -> &Rule {
        self.fields.iter().find(|(name, _)| name == field).map_or(&self.otherwise, |(_, rule)| rule)
    }

    /// Which of two records of one source is newer. Two that are equally new are told apart by what is in them, so that
    /// whichever comes first, the same one stands.
    fn newer(&self, one: &Value, other: &Value) -> Ordering {
        let stamp = |body: &Value| Stamp::of(self.latest.find(body));
        stamp(one).cmp(&stamp(other)).then_with(|| json::encode(one).cmp(&json::encode(other)))
    }
}

/// Conflicts as a fault that says where to look. It shows no values.
#[must_use]
pub fn disagreement(conflicts: &[Conflict]) -> Fault {
    let violation = |conflict: &Conflict| Violation {
        pointer: format!("/{}", conflict.field),
        message: format!("it differs between {}: mend it in one of them", conflict.sources.join(" and ")),
    };
    Fault::new(Code::Conflict, "sources that must agree do not").violations(conflicts.iter().map(violation).collect())
}

/// What one source says, with how new it is.
struct Told<'a> {
    source: &'a str,
    stamp: Stamp,
    body: &'a Map,
}

/// How new a record is. A record that does not say is older than any that does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stamp {
    Absent,
    Number(Decimal),
    Moment(Timestamp),
    Text(String),
}

impl Stamp {
    fn of(value: Option<&Value>) -> Self {
        match value {
            Some(Value::Number(number)) => {
                number.to_decimal().map_or_else(|| Self::Text(number.to_string()), Self::Number)
            }
            Some(Value::Text(text)) => text.parse().map_or_else(|_| Self::Text(text.clone()), Self::Moment),
            _ => Self::Absent,
        }
    }
}

fn find_mut<'a>(path: &Path, body: &'a mut Value) -> Option<&'a mut Value> {
    path.steps().iter().try_fold(body, |value, step| match step {
        Step::Name(name) => value.as_map_mut()?.get_mut(name),
        Step::Each | Step::Index(_) => None,
    })
}

/// A path of names as a JSON Pointer.
fn pointer(path: &Path) -> String {
    let names = path.steps().iter().filter_map(|step| match step {
        Step::Name(name) => Some(format!("/{}", name.replace('~', "~0").replace('/', "~1"))),
        Step::Each | Step::Index(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::BodyLimits;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn value(text: &str) -> Value {
        json::decode(text.as_bytes(), &BodyLimits::default()).unwrap()
    }

    fn merge(fields: &[(&str, Rule)]) -> Merge {
        let source = |endpoint: &str| Source { endpoint: endpoint.into(), prefix: None };
        Merge {
            key: vec![path("no"), path("phone")],
            latest: path("at"),
            sources: ["crm/c", "erp/c", "shop/c"].map(source).to_vec(),
            otherwise: Rule::Latest,
            fields: fields.iter().map(|(name, rule)| ((*name).to_owned(), rule.clone())).collect(),
        }
    }

    fn joined(merge: &Merge, said: &[(&str, &str)]) -> Records {
        let mut records = Records::new();
        for (source, body) in said {
            merge.join(&mut records, source, value(body));
        }
        records
    }

    #[test]
    fn each_field_survives_by_its_rule() {
        let prefer = Rule::Prefer(vec!["erp/c".into(), "shop/c".into()]);
        let merge = merge(&[("limit", prefer), ("tax", Rule::Agree)]);
        let records = joined(
            &merge,
            &[
                ("crm/c", r#"{"no":1,"at":"2026-08-02T00:00:00Z","name":"甲","limit":10,"tax":"T","note":null}"#),
                ("erp/c", r#"{"no":1,"at":"2026-08-01T00:00:00Z","name":"乙","limit":20.50,"tax":"T","bank":"B"}"#),
                ("shop/c", r#"{"no":1,"at":"2026-08-02T08:00:00+08:00","name":"丙","limit":30,"mail":"m"}"#),
            ],
        );
        let merged = merge.merged(&records).unwrap();
        // Equally new, the more trusted; `limit` from erp, digits and all; columns of every source; null where nobody has any.
        let wanted = r#"{"no":1,"at":"2026-08-02T00:00:00Z","name":"甲","limit":20.50,"tax":"T","note":null,"bank":"B","mail":"m"}"#;
        assert_eq!(merged, value(wanted));
    }

    #[test]
    fn a_conflict_names_field_and_sources_and_no_value() {
        let merge = merge(&[("tax", Rule::Agree)]);
        let records =
            joined(&merge, &[("crm/c", r#"{"at":1,"tax":"secret-1"}"#), ("shop/c", r#"{"at":2,"tax":"secret-2"}"#)]);
        let conflicts = merge.merged(&records).unwrap_err();
        assert_eq!(conflicts, [Conflict { field: "tax".into(), sources: vec!["crm/c".into(), "shop/c".into()] }]);
        let fault = disagreement(&conflicts);
        assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
        let healed = joined(
            &merge,
            &[
                ("crm/c", r#"{"at":1,"tax":"a"}"#),
                ("shop/c", r#"{"at":2,"tax":"b"}"#),
                ("crm/c", r#"{"at":3,"tax":"b"}"#),
            ],
        );
        assert_eq!(merge.merged(&healed).unwrap().field("tax"), Some(&Value::from("b")));
    }

    #[test]
    fn a_key_is_all_of_its_fields() {
        let mut merge = merge(&[]);
        merge.sources[1].prefix = Some("E-".into());
        let mut body = value(r#"{"no":1001,"phone":"13800138000"}"#);
        assert_eq!(merge.key(&body).unwrap(), r#"["1001","13800138000"]"#);
        merge.name("crm/c", &mut body);
        assert_eq!(merge.key(&body).unwrap(), r#"["1001","13800138000"]"#);
        merge.name("erp/c", &mut body);
        assert_eq!(merge.key(&body).unwrap(), r#"["E-1001","13800138000"]"#);
        let fault = merge.key(&value(r#"{"no":" ","phone":null}"#)).unwrap_err();
        assert_eq!(fault.violations.iter().map(|v| v.pointer.as_str()).collect::<Vec<_>>(), ["/no", "/phone"]);
    }

    #[test]
    fn stamps_of_every_kind_are_in_one_order() {
        let kinds = [
            "null",
            "-1",
            "2",
            "10",
            "\"2026-08-01T00:00:00+08:00\"",
            "\"2026-08-01T00:00:00Z\"",
            "\"2026-08\"",
            "\"x\"",
        ];
        let stamps: Vec<_> = kinds.iter().map(|text| Stamp::of(Some(&value(text)))).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
    }

    /// Records of three sources with few stamps and values, so that ties and conflicts are many.
    fn said() -> impl Strategy<Value = Vec<(usize, Value)>> {
        let field = proptest::option::of(0_i64..3);
        let body = (0_i64..4, field.clone(), field.clone(), field).prop_map(|(at, a, b, c)| {
            let fields = [("at", Some(at)), ("a", a), ("b", b), ("c", c)];
            fields.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?)))).collect::<Value>()
        });
        proptest::collection::vec((0_usize..3, body), 1..12)
    }

    fn rules() -> impl Strategy<Value = Merge> {
        let rule = prop_oneof![
            Just(Rule::Latest),
            Just(Rule::Agree),
            Just(vec!["crm/c".to_owned(), "erp/c".to_owned(), "shop/c".to_owned()])
                .prop_shuffle()
                .prop_map(Rule::Prefer),
        ];
        (rule.clone(), rule).prop_map(|(a, b)| merge(&[("a", a), ("b", b)]))
    }

    fn all(merge: &Merge, said: &[(usize, Value)]) -> Records {
        let mut records = Records::new();
        for (source, body) in said {
            merge.join(&mut records, &merge.sources[*source].endpoint, body.clone());
        }
        records
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(
            merge in rules(),
            (said, other) in said().prop_flat_map(|said| (Just(said.clone()), Just(said).prop_shuffle())),
        ) {
            let (one, two) = (all(&merge, &said), all(&merge, &other));
            prop_assert_eq!(merge.merged(&one), merge.merged(&two));
            prop_assert_eq!(one, two);
        }

        #[test]
        fn a_repeat_changes_nothing(merge in rules(), said in said(), again in proptest::collection::vec(any::<proptest::sample::Index>(), 1..8)) {
            let mut records = all(&merge, &said);
            let before = records.clone();
            for index in again {
                let (source, body) = &said[index.index(said.len())];
                let endpoint = merge.sources[*source].endpoint.clone();
                prop_assert!(!merge.join(&mut records, &endpoint, body.clone()));
            }
            prop_assert_eq!(records, before);
        }

        #[test]
        fn the_latest_wins(merge in rules(), said in said()) {
            // By the book: of each source its newest, of those the newest that has the field.
            let Ok(merged) = merge.merged(&all(&merge, &said)) else { return Ok(()) };
            let stamp = |body: &Value| body.field("at").and_then(Value::as_number).and_then(crate::Number::to_i64);
            let mut best: Option<(Option<i64>, Value)> = None;
            for source in 0..3 {
                let newest = said.iter().filter(|(of, _)| *of == source).map(|(_, body)| body)
                    .max_by_key(|body| (stamp(body), json::encode(body)));
                if let Some(body) = newest
                    && let Some(value) = body.field("c")
                    && best.as_ref().is_none_or(|(at, _)| *at < stamp(body))
                {
                    best = Some((stamp(body), value.clone()));
                }
            }
            prop_assert_eq!(merged.field("c").cloned(), best.map(|(_, value)| value));
        }
    }
}
