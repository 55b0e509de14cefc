//! A statement of one's own: a procedure with its result codes, a query for enrichment or a waiting caller. Parameters are
//! named in the SQL (`:no`) and always bound; nothing of a message ever becomes part of the statement.

use gatehouse_core::Value;
use gatehouse_core::adapter::Call;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::expr::{Expression, Scope};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::outcome::{OutcomeFile, OutcomeRule, compile};
use gatehouse_core::yaml::Located;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::Database;

/// The most rows of one answer.
pub(crate) const MAX_ROWS: usize = 10_000;

/// A statement of one's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementFile {
    /// The SQL; `:name` stands for a parameter: `CALL post_bill(:no, :amount)`.
    pub sql: Located<String>,
    /// An expression for each parameter, over `body`, `message` and `delivery_id`.
    #[serde(default)]
    pub parameters: IndexMap<String, Located<String>>,
    /// A query asked afterwards in the same session, whose rows are the reply: `SELECT @code AS code` after MySQL's out-parameters.
    #[serde(default)]
    pub result: Option<Located<String>>,
    /// It changes nothing: no row in the inbox, asked again as often as wanted. Default false.
    #[serde(default)]
    pub reads: Option<bool>,
    /// An expression over `reply.rows` (a list of objects) and `reply.affected`; false means refused, and all is rolled back.
    #[serde(default)]
    pub success_when: Option<Located<String>>,
    /// An expression that finds the reason in `reply`.
    #[serde(default)]
    pub error_text: Option<Located<String>>,
    /// An expression that says that a refusal is worth another try.
    #[serde(default)]
    pub retry_when: Option<Located<String>>,
}

/// A checked statement.
#[derive(Debug)]
pub(crate) struct Statement {
    sql: Vec<Piece>,
    parameters: Vec<(String, Expression)>,
    pub(crate) result: Option<String>,
    pub(crate) reads: bool,
    pub(crate) outcome: OutcomeRule,
}

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Parameter(String),
}

/// One delivery's statement, ready to run.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) delivery_id: &'a str,
    pub(crate) message_id: &'a str,
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
    pub(crate) statement: &'a Statement,
}

impl StatementFile {
    /// Checks it; every parameter of the SQL has an expression, and the other way round.
    pub(crate) fn check(&self, file: &SourceFile, problems: &mut Problems) -> Option<Statement> {
        let sql = pieces(&self.sql);
        let mut parameters = Vec::new();
        for (name, text) in &self.parameters {
            if !sql.contains(&Piece::Parameter(name.clone())) {
                let message = format!("the SQL has no parameter `:{name}`");
                problems.push(Problem::error("unknown-parameter", file, text.span.clone(), message));
            }
            let compiled = compile(text, &["body", "message", "delivery_id"], file, problems);
            parameters.extend(compiled.map(|expression| (name.clone(), expression)));
        }
        let mut sound = parameters.len() == self.parameters.len();
        for piece in &sql {
            if let Piece::Parameter(name) = piece
                && !self.parameters.contains_key(name)
            {
                let message = format!("the parameter `:{name}` has no expression in `parameters`");
                let problem = Problem::error("unknown-parameter", file, self.sql.span.clone(), message);
                problems.push(problem.did_you_mean(name, self.parameters.keys().map(String::as_str)));
                sound = false;
            }
        }
        let outcome = OutcomeFile {
            success_when: self.success_when.clone(),
            error_text: self.error_text.clone(),
            retry_when: self.retry_when.clone(),
            ..OutcomeFile::default()
        };
        let outcome = outcome.check(file, problems);
        let result = self.result.as_ref().map(|sql| sql.value.clone());
        sound.then_some(Statement { sql, parameters, result, reads: self.reads.unwrap_or(false), outcome })
    }
}

impl Statement {
    /// The SQL and its values for one delivery.
    ///
    /// # Errors
    /// `Invalid` with the parameter that cannot be computed.
    pub(crate) fn plan<'a>(&'a self, database: Database, call: &Call<'a>) -> Result<Asked<'a>, Fault> {
        let message = call.message.to_value(call.attempt);
        let id = Value::from(call.delivery_id);
        let scope = Scope::new().with("body", call.body).with("message", &message).with("delivery_id", &id);
        let mut computed = IndexMap::new();
        for (name, expression) in &self.parameters {
            let invalid = |reason: String| Fault::new(Code::Invalid, format!("the parameter `:{name}`: {reason}"));
            let value =
                expression.eval(&scope).map_err(|reason| invalid(format!("`{}`: {reason}", expression.text())))?;
            if matches!(value, Value::List(_) | Value::Map(_)) {
                return Err(invalid(format!("it is {}, and a parameter holds one value", value.kind())));
            }
            if value.as_text().is_some_and(|text| text.contains('\0')) {
                return Err(invalid("the text holds a NUL, which no database text can".to_owned()));
            }
            computed.insert(name.as_str(), value);
        }
        let (mut sql, mut values) = (String::new(), Vec::new());
        for piece in &self.sql {
            match piece {
                Piece::Text(text) => sql.push_str(text),
                Piece::Parameter(name) => {
                    values.push(computed.get(name.as_str()).cloned().unwrap_or(Value::Null));
                    match database {
                        Database::Postgres => sql.push_str(&format!("${}", values.len())),
                        Database::MySql | Database::Sqlite | Database::Odbc(_) => sql.push('?'),
                    }
                }
            }
        }
        Ok(Asked { delivery_id: call.delivery_id, message_id: &call.message.id, sql, values, statement: self })
    }
}

impl Asked<'_> {
    /// Judges an answer: the reply, or why it means no.
    pub(crate) fn judge(&self, rows: Vec<Value>, affected: u64) -> Result<Value, Fault> {
        if rows.len() > MAX_ROWS {
            let text = format!("the statement answers with more than {MAX_ROWS} rows: give it a LIMIT");
            return Err(Fault::new(Code::TooLarge, text));
        }
        let affected = Value::from(i64::try_from(affected).unwrap_or(i64::MAX));
        let reply: Value = [("rows", Value::List(rows)), ("affected", affected)].into_iter().collect();
        self.statement.outcome.judge(200, &reply, None)?;
        Ok(reply)
    }

    /// Whether the statement answers with rows (`SELECT`, `WITH`, `VALUES`, `SHOW`).
    pub(crate) fn is_query(&self) -> bool {
        is_query(&self.sql)
    }
}

/// Whether a statement is a query.
pub(crate) fn is_query(sql: &str) -> bool {
    let word = sql.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "with", "values", "show", "table"].contains(&word.to_ascii_lowercase().as_str())
}

/// Takes a statement apart: `:name` is a parameter, but not within quotes, comments and `::` casts.
fn pieces(sql: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '\'' | '"' | '`' => rest[1..].find(first).map(|end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n'),
            '/' if rest.starts_with("/*") => rest.find("*/").map(|end| end + 2),
            ':' if rest.starts_with("::") => Some(2),
            ':' => {
                let name: String = rest[1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if name.is_empty() {
                    Some(1)
                } else {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    rest = &rest[1 + name.len()..];
                    pieces.push(Piece::Parameter(name));
                    continue;
                }
            }
            other => Some(other.len_utf8()),
        };
        let end = skipped.unwrap_or(rest.len());
        text.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_where_they_are_some() {
        let shown = |sql: &str| {
            let part = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Parameter(name) => format!("<{name}>"),
            };
            pieces(sql).iter().map(part).collect::<String>()
        };
        for (sql, wanted) in [
            ("CALL p(:no, :金额)", "CALL p(<no>, <金额>)"),
            ("SELECT ':no', \":no\", `:no`, a::text, :b::int", "SELECT ':no', \":no\", `:no`, a::text, <b>::int"),
            ("SELECT 1 -- :no\n, :no /* :x */", "SELECT 1 -- :no\n, <no> /* :x */"),
            ("SELECT 'it''s :no', :a", "SELECT 'it''s :no', <a>"),
            ("SELECT ':open", "SELECT ':open"),
            ("x := :y", "x := <y>"),
        ] {
            assert_eq!(shown(sql), wanted);
        }
        assert!(is_query(" select 1") && is_query("WITH a AS (SELECT 1) SELECT * FROM a") && !is_query("CALL p()"));
    }
}
