//! The system's file, and what it becomes once it cannot be wrong.

use std::ops::Range;
use std::path::PathBuf;

use crate::ask::{Statement, StatementFile};
use crate::batch::Batch;
use crate::capture::file::{self as capture, Capture, CaptureFile, How};
use crate::dialect::{Dialect, RowLimit};
use crate::lines::{Lines, LinesFile};
pub(crate) use crate::shape::{Mode, Places, Shape};
use gatehouse_core::adapter::{Direction, Endpoint, SiteFiles};
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::expr::Expression;
use gatehouse_core::limits::{Circuit, CircuitFile, Limits, LimitsFile};
use gatehouse_core::outcome::compile;
use gatehouse_core::path::Path;
use gatehouse_core::secret::SecretRef;
use gatehouse_core::yaml::{self, Located};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest identifier that every database takes, in bytes (PostgreSQL's limit).
const MAX_IDENTIFIER: usize = 63;

/// The largest row that is read, where the site does not say otherwise.
const CAPTURED_BODY: usize = 16 << 20;

/// A system that is a database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemFile {
    /// The format of this file: 1.
    pub version: Located<u32>,
    /// Its name, the file's name without `.yaml`.
    pub system: Located<String>,
    /// `sql`.
    pub adapter: Located<String>,
    /// `postgres`, `mysql` (MariaDB too), `sqlite`, or `odbc` for anything with an ODBC driver.
    pub database: Located<String>,
    /// `host:port/database`; for SQLite the file, relative to the site; for ODBC the connection string, without credentials.
    pub address: Located<String>,
    /// By ODBC: how the first rows of an answer are asked for: `limit`, `fetch`, `top` or `rownum`. Default: by the name that the
    /// driver gives the database.
    #[serde(default)]
    pub dialect: Option<Located<String>>,
    /// Who logs in.
    #[serde(default)]
    pub user: Option<String>,
    /// The password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// `off` (default) or `require`.
    #[serde(default)]
    pub tls: Option<Located<String>>,
    /// PEM file with the CA that signed the server's certificate, relative to the site. Default: what the machine trusts.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// The time zone of the session, for columns without one. Default `UTC`.
    #[serde(default)]
    pub zone: Option<Located<String>>,
    /// The table that remembers deliveries.
    #[serde(default)]
    pub inbox: InboxFile,
    /// What the engine keeps around all endpoints together.
    #[serde(default)]
    pub limits: LimitsFile,
    /// When it counts as down.
    #[serde(default)]
    pub circuit: CircuitFile,
    /// What can be written.
    pub endpoints: IndexMap<String, Located<EndpointFile>>,
}

/// The inbox table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InboxFile {
    /// Its name. Default `gatehouse_inbox`.
    pub table: Option<Located<String>>,
    /// Whether Gatehouse may create it. Default true.
    pub create: Option<bool>,
}

/// One endpoint: a table, and how a message becomes its row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointFile {
    /// What is written: a table, `receivable` or `schema.receivable`. Without it the endpoint reads: `capture`.
    #[serde(default)]
    pub table: Option<Located<String>>,
    /// What is read, and how its changes are found.
    #[serde(default)]
    pub capture: Option<Located<CaptureFile>>,
    /// A statement of one's own: a procedure, a query.
    #[serde(default)]
    pub statement: Option<Located<StatementFile>>,
    /// `insert` (default), `upsert`, `update` (a row that is not there is refused) or `delete` (one that is not there is well).
    #[serde(default)]
    pub mode: Option<Located<String>>,
    /// On all but `insert`: the columns of the unique key that finds the row.
    #[serde(default)]
    pub key: Vec<Located<String>>,
    /// On `upsert` and `update`: a condition over `body` and `message`; where it holds, the row with this key is deleted.
    #[serde(default)]
    pub delete_when: Option<Located<String>>,
    /// An expression for each column, over `body`, `message` and `delivery_id`. Default: each field of the body is a column.
    #[serde(default)]
    pub columns: IndexMap<String, Located<String>>,
    /// Path in the body to a list (`items`; `[]`: the body itself): each element is written as if it had come alone, and stays
    /// where others are refused. `body` is then the element; `whole` is the body around it.
    #[serde(default)]
    pub batch: Option<Located<String>>,
    /// Columns whose texts are in a charset that the database does not know, and which: `{ customer: gbk }`. Their bytes are read
    /// and written as they are. Not of a key, nor of a watermark.
    #[serde(default)]
    pub charset: IndexMap<String, Located<String>>,
    /// Rows of a second table from a list of the message, in the same transaction.
    #[serde(default)]
    pub lines: Option<Located<LinesFile>>,
    /// Its own limits, laid over the system's.
    #[serde(default)]
    pub limits: LimitsFile,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Postgres,
    MySql,
    Sqlite,
    /// What its dialect is, is known once it is reached.
    Odbc(Dialect),
}

/// The checked system.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) file: SourceFile,
    /// Byte range of its name in the file.
    pub(crate) name_at: Range<usize>,
    pub(crate) database: Database,
    /// By ODBC: how rows are limited, where the file says it.
    #[cfg_attr(not(feature = "odbc"), expect(dead_code, reason = "only a driver is told"))]
    pub(crate) dialect: Option<RowLimit>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The database's name; for SQLite its file.
    pub(crate) target: String,
    pub(crate) user: String,
    pub(crate) password: Option<SecretRef>,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) zone: String,
    pub(crate) inbox: Table,
    pub(crate) create_inbox: bool,
    pub(crate) limits: Limits,
    pub(crate) circuit: Circuit,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) writes: Vec<(String, Write)>,
    pub(crate) statements: Vec<(String, Statement)>,
    pub(crate) captures: Vec<(String, Capture)>,
}

/// What an endpoint writes.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) row: Shape,
    /// Where it holds, the row is deleted instead.
    pub(crate) delete_when: Option<Expression>,
    pub(crate) lines: Option<Lines>,
    /// Where the rows stand, where one delivery brings many.
    pub(crate) batch: Option<Batch>,
}

impl Write {
    /// Whether one of its expressions looks at the message.
    pub(crate) fn names_message(&self) -> bool {
        let lines = self.lines.iter().flat_map(|lines| std::iter::once(&lines.shape).chain(&lines.replace));
        let columns = std::iter::once(&self.row).chain(lines).flat_map(|shape| &shape.columns);
        columns.map(|(_, expression)| expression).chain(&self.delete_when).any(|expression| expression.reads("message"))
    }
}

impl Checked {
    /// Whether something here needs the inbox.
    pub(crate) fn remembers(&self) -> bool {
        !self.writes.is_empty() || self.statements.iter().any(|(_, statement)| !statement.reads)
    }
}

/// A table's name, in its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Whether a word can be a column, table or schema: short, and without what no database quotes.
pub(crate) fn is_identifier(word: &str) -> bool {
    !word.is_empty() && word.len() <= MAX_IDENTIFIER && !word.chars().any(|c| c.is_control() || c == '"' || c == '`')
}

pub(crate) fn check(file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Checked> {
    let read: SystemFile = yaml::read(file, problems)?;
    let mut found = Problems::new();
    let mut checker = Checker { file, problems: &mut found };
    let limits = read.limits.check(Limits { concurrency: 8, ..Limits::default() }, file, checker.problems);
    let circuit = read.circuit.check(file, checker.problems);
    let database = checker.database(&read.database);
    let dialect = checker.dialect(read.dialect.as_ref(), database);
    let address = database.and_then(|database| checker.address(&read.address, database, site));
    let tls = match read.tls.as_ref().map(|word| word.as_str()) {
        None | Some("off") => false,
        Some("require") => true,
        Some(_) => {
            let span = read.tls.as_ref().map_or(0..0, |word| word.span.clone());
            checker.error("bad-value", &span, "expected `off` or `require`");
            false
        }
    };
    if let (Some(Database::Postgres | Database::MySql), None) = (database, &read.user) {
        checker.error("no-user", &read.system.span, "a database server needs `user` (and mostly `password`)");
    }
    let inbox = match &read.inbox.table {
        None => Some(Table { schema: None, name: "gatehouse_inbox".to_owned() }),
        Some(table) => checker.table(table),
    };
    let zone = read.zone.as_ref().map_or("UTC", |zone| zone.as_str()).to_owned();
    if let (Err(_), Some(at)) = (jiff::tz::TimeZone::get(&zone), &read.zone) {
        checker.error("unknown-zone", &at.span, "there is no such time zone: zones are named like `Asia/Shanghai`");
    }
    let (mut endpoints, mut writes, mut captures) = (Vec::new(), Vec::new(), Vec::new());
    let mut statements = Vec::new();
    for (name, endpoint) in &read.endpoints {
        let base = if endpoint.capture.is_some() { Limits { body: CAPTURED_BODY, ..limits } } else { limits };
        let own = endpoint.limits.check(base, file, checker.problems);
        let (direction, summary) = match (&endpoint.table, &endpoint.capture, &endpoint.statement) {
            (Some(table), None, None) => {
                let mode = endpoint.mode.as_ref().map_or("insert", |mode| mode.as_str());
                writes.extend(checker.write(endpoint, table).map(|write| (name.clone(), write)));
                (Direction::Outbound, format!("{mode} into {}", table.value))
            }
            (None, Some(read), None) => {
                checker.only_writes_say(endpoint, "capture");
                let pattern = |at: &Located<String>, problems: &mut Problems| Checker { file, problems }.table(at);
                let checked = capture::check(read, pattern, file, checker.problems);
                let finds: Vec<_> = read.key.iter().chain(&read.watermark).collect();
                let charsets = checker.charsets(&endpoint.charset, &finds);
                if let (Some((_, label)), "log", Some(Database::Postgres)) =
                    (endpoint.charset.first(), read.by.as_str(), database)
                {
                    let text = "PostgreSQL's log has texts in UTF-8 only: take `watermark`, `outbox` or `trigger`";
                    checker.error("not-here", &label.span, text);
                }
                let checked = checked.map(|capture| Capture { charsets, ..capture });
                let is_log = checked.as_ref().is_some_and(|capture| matches!(capture.how, How::Log { .. }));
                if is_log && database.is_some_and(Database::is_odbc) {
                    checker.error(
                        "no-log",
                        &read.by.span,
                        "by ODBC no log is read: take `watermark`, `outbox` or `trigger`",
                    );
                }
                let tables: Vec<_> = read.table.iter().chain(&read.tables).map(|table| table.as_str()).collect();
                captures.extend(checked.map(|capture| (name.clone(), capture)));
                (Direction::Inbound, format!("read {} by {}", tables.join(", "), read.by.value))
            }
            (None, None, Some(statement)) => {
                checker.only_writes_say(endpoint, "statement");
                if let Some(label) = endpoint.charset.values().next() {
                    let text =
                        "`charset` belongs to `table` and `capture`; a statement of one's own converts by itself";
                    checker.error("not-here", &label.span, text);
                }
                let checked = statement.check(file, checker.problems);
                statements.extend(checked.map(|checked| (name.clone(), checked)));
                let words: Vec<_> = statement.sql.split_whitespace().take(6).collect();
                (Direction::Outbound, words.join(" "))
            }
            (None, None, None) => {
                let text = "an endpoint needs `table` (it writes), `statement` (it runs one) or `capture` (it reads)";
                checker.error("no-table", &endpoint.span, text);
                continue;
            }
            _ => {
                let text = "an endpoint has one of `table`, `statement` and `capture`";
                checker.error("two-ways", &endpoint.span, text);
                continue;
            }
        };
        endpoints.push(Endpoint {
            name: name.clone(),
            direction,
            limits: own,
            summary,
            passes: false,
            span: endpoint.span.clone(),
        });
    }
    let sound = !found.has_errors();
    problems.extend(found);
    let (host, port, target) = address?;
    sound.then_some(())?;
    Some(Checked {
        name: read.system.value,
        file: file.clone(),
        name_at: read.system.span,
        database: database?,
        dialect,
        host,
        port,
        target,
        user: read.user.unwrap_or_default(),
        password: read.password,
        tls,
        ca_file: read.ca_file.map(|path| site.locate(&path)),
        zone,
        inbox: inbox?,
        create_inbox: read.inbox.create.unwrap_or(true),
        limits,
        circuit,
        endpoints,
        writes,
        statements,
        captures,
    })
}

pub(crate) struct Checker<'a> {
    pub(crate) file: &'a SourceFile,
    pub(crate) problems: &'a mut Problems,
}

impl Checker<'_> {
    pub(crate) fn error(&mut self, code: &'static str, at: &std::ops::Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::error(code, self.file, at.clone(), message));
    }

    fn database(&mut self, word: &Located<String>) -> Option<Database> {
        match word.as_str() {
            "postgres" => Some(Database::Postgres),
            "mysql" | "mariadb" => Some(Database::MySql),
            "sqlite" => Some(Database::Sqlite),
            "odbc" => self.odbc(word),
            other => {
                let problem = Problem::error(
                    "unknown-database",
                    self.file,
                    word.span.clone(),
                    format!("there is no database `{other}`"),
                );
                self.problems.push(problem.help("there are: postgres, mysql (MariaDB too), sqlite, odbc"));
                None
            }
        }
    }

    fn address(
        &mut self,
        at: &Located<String>,
        database: Database,
        site: &dyn SiteFiles,
    ) -> Option<(String, u16, String)> {
        if database == Database::Sqlite {
            return Some((String::new(), 0, site.locate(at).to_string_lossy().into_owned()));
        }
        if database.is_odbc() {
            return self.connection_string(at);
        }
        let default = if database == Database::Postgres { 5432 } else { 3306 };
        let bare = at.split_once("://").map_or(at.as_str(), |(_, rest)| rest);
        if bare.contains('@') {
            self.error(
                "secret-in-clear",
                &at.span,
                "an address holds no credentials: write `user` and `password` beside it",
            );
            return None;
        }
        let parsed = bare.split_once('/').and_then(|(server, name)| {
            let (host, port) = match server.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (server, default),
            };
            (!host.is_empty() && !name.is_empty() && !name.contains(['/', '?']))
                .then(|| (host.to_owned(), port, name.to_owned()))
        });
        if parsed.is_none() {
            self.error("bad-address", &at.span, "expected `host:port/database`");
        }
        parsed
    }

    pub(crate) fn table(&mut self, at: &Located<String>) -> Option<Table> {
        let (schema, name) = match at.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, at.as_str()),
        };
        if !is_identifier(name) || schema.is_some_and(|schema| !is_identifier(schema)) || name.contains('.') {
            self.error(
                "bad-name",
                &at.span,
                format!("expected a table's name of at most {MAX_IDENTIFIER} bytes, or `schema.table`"),
            );
            return None;
        }
        Some(Table { schema: schema.map(str::to_owned), name: name.to_owned() })
    }

    /// What an endpoint writes.
    fn write(&mut self, endpoint: &EndpointFile, table: &Located<String>) -> Option<Write> {
        let batch = match &endpoint.batch {
            None => None,
            Some(at) => Some(self.batch(at)?),
        };
        let names: &[&str] = match &batch {
            None => &["body", "message", "delivery_id"],
            Some(_) => &["body", "whole", "message", "delivery_id"],
        };
        let all = &["insert", "upsert", "update", "delete"];
        let charsets = self.charsets(&endpoint.charset, &endpoint.key.iter().collect::<Vec<_>>());
        let row = self.shape(table, (endpoint.mode.as_ref(), all), &endpoint.key, &endpoint.columns, names);
        let row = row.map(|row| Shape { charsets, ..row });
        let lines = match &endpoint.lines {
            None => None,
            Some(lines) => Some(self.lines(lines, names)?),
        };
        let row = row?;
        let delete_when = match &endpoint.delete_when {
            None => None,
            Some(text) => {
                if !matches!(row.mode, Mode::Upsert | Mode::Update) {
                    let hint = "`delete_when` belongs to `mode: upsert` or `mode: update`";
                    self.error("not-here", &text.span, hint);
                }
                Some(compile(text, &names[..names.len() - 1], self.file, self.problems)?)
            }
        };
        Some(Write { row, delete_when, lines, batch })
    }

    /// Refuses what belongs to writing a table beside another way.
    fn only_writes_say(&mut self, endpoint: &EndpointFile, way: &str) {
        let places = [
            ("mode", endpoint.mode.as_ref().map(|at| &at.span)),
            ("key", endpoint.key.first().map(|at| &at.span)),
            ("columns", endpoint.columns.values().next().map(|at| &at.span)),
            ("delete_when", endpoint.delete_when.as_ref().map(|at| &at.span)),
            ("lines", endpoint.lines.as_ref().map(|at| &at.span)),
            ("batch", endpoint.batch.as_ref().map(|at| &at.span)),
        ];
        for (name, at) in places {
            if let Some(at) = at {
                self.error("not-here", at, format!("`{name}` belongs to `table`, not to `{way}`"));
            }
        }
    }

    pub(crate) fn path(&mut self, at: &Located<String>) -> Option<Path> {
        Path::parse(at).map_err(|(_, reason)| self.error("bad-path", &at.span, reason)).ok()
    }
}
