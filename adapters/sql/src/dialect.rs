//! How a database that is reached by ODBC wants its SQL: what its driver says of itself, or the system's file.

#[cfg(any(feature = "odbc", test))]
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::yaml::Located;

use crate::file::{Checker, Database};

/// The words of `dialect`, as people are shown them.
const WORDS: &str = "`limit` (… LIMIT 10), `fetch` (… FETCH FIRST 10 ROWS ONLY), `top` (SELECT TOP 10 …) or `rownum` (WHERE ROWNUM <= 10)";

/// What stands for each dialect in the names that databases give themselves, in small letters. Where a name has two, the first
/// counts.
#[cfg(any(feature = "odbc", test))]
const NAMES: [(&str, RowLimit, Option<Like>); 22] = [
    ("postgres", RowLimit::Limit, Some(Like::Postgres)),
    ("kingbase", RowLimit::Limit, None),
    ("gauss", RowLimit::Limit, None),
    ("vastbase", RowLimit::Limit, None),
    ("highgo", RowLimit::Limit, None),
    ("mysql", RowLimit::Limit, None),
    ("mariadb", RowLimit::Limit, None),
    ("sqlite", RowLimit::Limit, Some(Like::Sqlite)),
    ("oceanbase", RowLimit::Limit, None),
    ("tidb", RowLimit::Limit, None),
    ("gbase", RowLimit::Limit, None),
    ("dm dbms", RowLimit::Limit, None),
    ("dameng", RowLimit::Limit, None),
    ("hana", RowLimit::Limit, None),
    ("h2", RowLimit::Limit, None),
    ("oracle", RowLimit::RowNum, None),
    ("db2", RowLimit::Fetch, None),
    ("derby", RowLimit::Fetch, None),
    ("sql server", RowLimit::Top, None),
    ("sybase", RowLimit::Top, None),
    ("adaptive server", RowLimit::Top, None),
    ("access", RowLimit::Top, None),
];

/// How a database wants its SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Stands around identifiers.
    pub(crate) mark: char,
    pub(crate) limit: RowLimit,
    /// The database that it is, where Gatehouse speaks that one by itself.
    pub(crate) like: Option<Like>,
}

/// How the first rows of an answer are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowLimit {
    /// `… LIMIT 10`
    Limit,
    /// `… FETCH FIRST 10 ROWS ONLY`
    Fetch,
    /// `SELECT TOP 10 …`
    Top,
    /// `SELECT * FROM (…) WHERE ROWNUM <= 10`
    RowNum,
}

/// A database whose own SQL is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(feature = "odbc", test)), expect(dead_code, reason = "only a driver says this"))]
pub(crate) enum Like {
    Postgres,
    Sqlite,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { mark: '"', limit: RowLimit::Limit, like: None }
    }
}

impl Dialect {
    /// Of what a driver says, unless the system's file says otherwise.
    ///
    /// # Errors
    /// Neither tells how rows are limited.
    #[cfg(any(feature = "odbc", test))]
    pub(crate) fn find(product: &str, mark: char, declared: Option<RowLimit>) -> Result<Self, Fault> {
        let lower = product.to_lowercase();
        let known = NAMES.iter().find(|(name, ..)| lower.contains(name));
        let like = known.and_then(|(_, _, like)| *like);
        match declared.or(known.map(|(_, limit, _)| *limit)) {
            Some(limit) => Ok(Self { mark, limit, like }),
            None => {
                let text = format!(
                    "its driver calls the database `{product}`, and how that one is asked for its first rows is not known here: say `dialect` in the system's file, {WORDS}"
                );
                Err(Fault::new(Code::Misconfigured, text).verdict(Verdict::Hold))
            }
        }
    }

    /// A query of at most so many rows: `list` stands behind SELECT, `rest` behind it.
    pub(crate) fn limited(self, list: &str, rest: &str, most: u32) -> String {
        match self.limit {
            RowLimit::Limit => format!("SELECT {list} {rest} LIMIT {most}"),
            RowLimit::Fetch => format!("SELECT {list} {rest} FETCH FIRST {most} ROWS ONLY"),
            RowLimit::Top => format!("SELECT TOP {most} {list} {rest}"),
            RowLimit::RowNum => format!("SELECT * FROM (SELECT {list} {rest}) WHERE ROWNUM <= {most}"),
        }
    }
}

/// The statement that sets the zone of a session, where it is known how. The zone is one that there is.
#[cfg(feature = "odbc")]
pub(crate) fn set_zone(product: &str, zone: &str) -> Option<String> {
    let lower = product.to_lowercase();
    let is = |names: &[&str]| names.iter().any(|name| lower.contains(name));
    if is(&["postgres", "kingbase", "gauss", "vastbase", "highgo"]) {
        Some(format!("SET TIME ZONE '{zone}'"))
    } else if is(&["oracle"]) {
        Some(format!("ALTER SESSION SET TIME_ZONE = '{zone}'"))
    } else {
        None
    }
}

impl Database {
    /// The database whose own SQL is spoken, also where it is reached by ODBC.
    pub(crate) fn spoken(self) -> Option<Self> {
        match self {
            Self::Odbc(dialect) => dialect.like.map(|like| match like {
                Like::Postgres => Self::Postgres,
                Like::Sqlite => Self::Sqlite,
            }),
            own => Some(own),
        }
    }

    pub(crate) fn is_odbc(self) -> bool {
        matches!(self, Self::Odbc(_))
    }
}

impl Checker<'_> {
    /// `dialect`, which only a database by ODBC has.
    pub(crate) fn dialect(&mut self, word: Option<&Located<String>>, database: Option<Database>) -> Option<RowLimit> {
        let word = word?;
        if database.is_some_and(|database| !database.is_odbc()) {
            self.error("not-here", &word.span, "`dialect` belongs to `database: odbc`; this one's is known");
            return None;
        }
        match word.as_str() {
            "limit" => Some(RowLimit::Limit),
            "fetch" => Some(RowLimit::Fetch),
            "top" => Some(RowLimit::Top),
            "rownum" => Some(RowLimit::RowNum),
            _ => {
                self.error("bad-value", &word.span, format!("expected {WORDS}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_says_or_the_file_does() {
        let find = |product, declared| Dialect::find(product, '"', declared);
        for (product, limit) in [
            ("PostgreSQL", RowLimit::Limit),
            ("KingbaseES", RowLimit::Limit),
            ("DM DBMS", RowLimit::Limit),
            ("Oracle", RowLimit::RowNum),
            ("DB2/LINUXX8664", RowLimit::Fetch),
            ("Microsoft SQL Server", RowLimit::Top),
            ("ACCESS", RowLimit::Top),
        ] {
            assert_eq!(find(product, None).unwrap().limit, limit, "{product}");
        }
        assert_eq!(find("Oracle", Some(RowLimit::Fetch)).unwrap().limit, RowLimit::Fetch);
        assert!(find("Informix", None).unwrap_err().public.contains("`Informix`"));
        assert_eq!(find("Informix", Some(RowLimit::Limit)).unwrap().like, None);
    }

    #[test]
    fn the_first_rows_are_asked_for_in_each() {
        let asked = |limit| Dialect { limit, ..Dialect::default() }.limited("a", "FROM t ORDER BY a", 7);
        assert_eq!(asked(RowLimit::Limit), "SELECT a FROM t ORDER BY a LIMIT 7");
        assert_eq!(asked(RowLimit::Fetch), "SELECT a FROM t ORDER BY a FETCH FIRST 7 ROWS ONLY");
        assert_eq!(asked(RowLimit::Top), "SELECT TOP 7 a FROM t ORDER BY a");
        assert_eq!(asked(RowLimit::RowNum), "SELECT * FROM (SELECT a FROM t ORDER BY a) WHERE ROWNUM <= 7");
    }
}
