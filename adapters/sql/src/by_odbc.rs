//! What a system's file says of a database that is reached by ODBC, and whether this program can.

use gatehouse_core::yaml::Located;

use crate::dialect::Dialect;
use crate::file::{Checker, Database};

/// Words of a connection string that name credentials.
const CREDENTIALS: [&str; 6] = ["pwd", "password", "uid", "user", "userid", "username"];

#[cfg(not(feature = "odbc"))]
const ABSENT: &str = "this program was built without ODBC: build it with `--features odbc`";

/// This program has no ODBC.
#[cfg(not(feature = "odbc"))]
pub(crate) fn absent() -> gatehouse_core::fault::Fault {
    gatehouse_core::fault::Fault::new(gatehouse_core::fault::Code::Misconfigured, ABSENT)
}

impl Checker<'_> {
    /// `database: odbc`.
    #[cfg_attr(
        feature = "odbc",
        expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "without ODBC it tells")
    )]
    pub(crate) fn odbc(&mut self, word: &Located<String>) -> Option<Database> {
        #[cfg(not(feature = "odbc"))]
        self.error("no-odbc", &word.span, ABSENT);
        let _ = word;
        Some(Database::Odbc(Dialect::default()))
    }

    /// `address` as a connection string.
    pub(crate) fn connection_string(&mut self, at: &Located<String>) -> Option<(String, u16, String)> {
        let words = at.split(';').filter_map(|pair| pair.split_once('='));
        for (word, _) in words {
            if CREDENTIALS.contains(&word.trim().to_ascii_lowercase().as_str()) {
                let text = format!("`{}` in a connection string: write `user` and `password` beside it", word.trim());
                self.error("secret-in-clear", &at.span, text);
                return None;
            }
        }
        if !at.contains('=') || at.contains(['\0', '\n']) {
            self.error(
                "bad-address",
                &at.span,
                "expected a connection string: `Driver={PostgreSQL Unicode};Server=…;Database=…`, or `DSN=…`",
            );
            return None;
        }
        Some((String::new(), 0, at.value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_core::diagnostics::{Problems, SourceFile};

    use super::*;

    #[test]
    fn a_connection_string_holds_no_credentials() {
        let file = SourceFile::new("systems/x.yaml", "");
        let told = |text: &str| {
            let mut problems = Problems::new();
            let at = Located { value: text.to_owned(), span: 0..0 };
            let read = Checker { file: &file, problems: &mut problems }.connection_string(&at);
            assert_eq!(read.is_none(), problems.has_errors(), "{text}");
            read.is_some()
        };
        assert!(told("Driver={PostgreSQL Unicode};Server=127.0.0.1;Database=erp"));
        assert!(told("DSN=finance"));
        for bad in ["DSN=finance;PWD=hunter2", "DSN=x; uid = sa", "finance", ""] {
            assert!(!told(bad), "{bad}");
        }
    }
}
