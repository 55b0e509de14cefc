//! The first files of a database system from its own catalogue: endpoints, a JSON Schema of each table's rows, mapping
//! skeletons. A person changes them afterwards; `gatehouse check` accepts them as they are.

use std::fmt::Write;
use std::sync::Arc;

use gatehouse_core::adapter::SiteFiles;
use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::Secrets;

use crate::capture::source::{self, Column, Described, Source};
use crate::file::{Checked, Database, Table};

/// Columns that are taken for a watermark where nothing else is said, in this order.
const WATERMARKS: [&str; 14] = [
    "updated_at",
    "update_time",
    "updatetime",
    "updated",
    "modified_at",
    "modified_time",
    "modify_time",
    "modified",
    "gmt_modified",
    "last_modified",
    "last_update",
    "last_updated",
    "changed_at",
    "changed",
];

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Relative to the site.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// Where a database is, and what is wanted of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The system's name.
    pub system: String,
    /// `postgres`, `mysql` or `sqlite`.
    pub database: String,
    /// `host:port/database`, or the file.
    pub address: String,
    /// Who logs in.
    pub user: Option<String>,
    /// The secret that is the password, as files name it: `${env:FINANCE_PASSWORD}`.
    pub password: Option<String>,
    /// The tables that are taken up, by name or pattern. None: they are only listed.
    pub tables: Vec<String>,
    /// The tables are written to, not read.
    pub write: bool,
    /// How tables are read: `watermark`, `outbox`, `trigger` or `log`. Default: by watermark where a column looks like one.
    pub by: Option<String>,
}

/// A table as people see it in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its columns: name, type, and what else is to be known.
    pub columns: Vec<(String, String, String)>,
}

/// A database whose catalogue was read.
#[derive(Debug)]
pub struct Catalogue {
    tables: Vec<Described>,
}

impl Wanted {
    fn head(&self) -> String {
        let mut head = format!("version: 1\nsystem: {}\nadapter: sql\n", quoted(&self.system));
        let _ = writeln!(head, "database: {}\naddress: {}", self.database, quoted(&self.address));
        if let Some(user) = &self.user {
            let _ = writeln!(head, "user: {}", quoted(user));
        }
        if let Some(password) = &self.password {
            let _ = writeln!(head, "password: {}", quoted(password));
        }
        head
    }

    /// Reaches the database and reads its catalogue.
    ///
    /// # Errors
    /// It cannot be reached, refuses the credentials, or a table that is named is not there.
    pub async fn read(
        &self,
        site: &dyn SiteFiles,
        secrets: &dyn Secrets,
        problems: &mut Problems,
    ) -> Result<Option<Catalogue>, Fault> {
        let text = format!("{}limits: {{ concurrency: 1 }}\nendpoints: {{}}\n", self.head());
        let file = SourceFile::new(format!("systems/{}.yaml", self.system), text);
        let Some(checked) = crate::file::check(&file, site, problems) else { return Ok(None) };
        let checked = Arc::new(checked);
        let (source, _) = source::open(&checked, secrets).await?;
        let mut tables = Vec::new();
        for table in self.chosen(&checked, source.as_ref()).await? {
            let described = source::describe(source.as_ref(), checked.database, &table).await?;
            // One that went between the list and this look is not there any more: no mistake of anybody's.
            tables.extend(described);
        }
        Ok(Some(Catalogue { tables }))
    }

    async fn chosen(&self, checked: &Checked, source: &dyn Source) -> Result<Vec<Table>, Fault> {
        let own = |table: &Table| table.name == crate::capture::CHANGES || table.name == checked.inbox.name;
        let all: Vec<Table> =
            source::tables(source, checked.database).await?.into_iter().filter(|table| !own(table)).collect();
        if self.tables.is_empty() {
            // In MySQL a schema is another database.
            let own = |table: &Table| checked.database != Database::MySql || table.schema.is_none();
            return Ok(all.into_iter().filter(own).collect());
        }
        let mut chosen: Vec<Table> = Vec::new();
        for wanted in &self.tables {
            let pattern = match wanted.split_once('.') {
                Some((schema, name)) => Table { schema: Some(schema.to_owned()), name: name.to_owned() },
                None => Table { schema: None, name: wanted.clone() },
            };
            let pattern = crate::capture::file::Pattern(pattern);
            // By ODBC every table has a schema, and none is said to be this user's own.
            let bare = checked.database.is_odbc() && pattern.0.schema.is_none();
            let fits = |table: &&Table| match bare {
                true => pattern.fits(&Table { schema: None, name: table.name.clone() }),
                false => pattern.fits(table),
            };
            let found: Vec<_> = all.iter().filter(fits).collect();
            if found.is_empty() {
                let names: Vec<_> = all.iter().map(Table::to_string).collect();
                let close = gatehouse_core::diagnostics::closest(wanted, names.iter().map(String::as_str));
                let mut fault = not_there(wanted);
                if let Some(close) = close {
                    fault.public.push_str(&format!("; did you mean `{close}`?"));
                }
                return Err(fault);
            }
            for table in found {
                if !chosen.contains(table) {
                    chosen.push(table.clone());
                }
            }
        }
        Ok(chosen)
    }
}

fn not_there(table: &str) -> Fault {
    Fault::new(Code::Misconfigured, format!("there is no table `{table}`, or this user may not see it"))
}

impl Catalogue {
    /// The tables as a list for people.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        let listed = |table: &Described| {
            let about = |column: &Column| match (table.key.contains(&column.name), column.nullable) {
                (true, _) => "key",
                (false, false) => "required",
                (false, true) => "",
            };
            let columns = table.columns.iter();
            Listed {
                name: table.table.to_string(),
                columns: columns
                    .map(|column| (column.name.clone(), column.kind.clone(), about(column).to_owned()))
                    .collect(),
            }
        };
        self.tables.iter().map(listed).collect()
    }

    /// The files of a system with an endpoint for each table.
    ///
    /// # Errors
    /// A sentence: a table cannot be read the way that is wanted.
    pub fn files(&self, wanted: &Wanted) -> Result<Vec<NewFile>, String> {
        let mut system = format!("{}endpoints:\n", wanted.head());
        let mut files = Vec::new();
        for table in &self.tables {
            let name = table.table.to_string().replace('.', "-");
            let (endpoint, kind) = (name.clone(), format!("{}.{name}", wanted.system));
            let _ = writeln!(system, "  {}:", quoted(&endpoint));
            if wanted.write {
                written(&mut system, table);
            } else {
                captured(&mut system, table, wanted)?;
            }
            files.push(NewFile { path: format!("types/{kind}.schema.json"), text: schema(table, &kind) });
            let mapping = if wanted.write { format!("{kind}-to-{}", wanted.system) } else { format!("{kind}-in") };
            files.push(NewFile {
                path: format!("mappings/{mapping}.yaml"),
                text: rows(table, &mapping, (!wanted.write).then_some(kind.as_str())),
            });
        }
        files.insert(0, NewFile { path: format!("systems/{}.yaml", wanted.system), text: system });
        Ok(files)
    }
}

/// The lines of an endpoint that writes into a table.
fn written(system: &mut String, table: &Described) {
    let _ = writeln!(system, "    table: {}", quoted(&table.table.to_string()));
    if table.key.is_empty() {
        let _ = writeln!(system, "    mode: insert");
    } else {
        let key = table.key.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(system, "    mode: upsert\n    key: [{key}]");
    }
}

/// The lines of an endpoint that reads a table.
fn captured(system: &mut String, table: &Described, wanted: &Wanted) -> Result<(), String> {
    let (by, odbc) = (wanted.by.as_deref(), wanted.database == "odbc");
    let column = WATERMARKS.iter().find_map(|name| {
        let fits = |column: &&Column| column.name.eq_ignore_ascii_case(name);
        table.columns.iter().find(fits).map(|column| column.name.as_str())
    });
    let name = quoted(&table.table.to_string());
    let key = if table.key.is_empty() {
        let first = table.columns.first().map(|column| quoted(&column.name)).unwrap_or_default();
        format!(", key: [{first}]")
    } else {
        String::new()
    };
    let line = match (by, column) {
        (None | Some("watermark"), Some(column)) => {
            format!("{{ table: {name}, by: watermark, watermark: {}{key} }}", quoted(column))
        }
        (None, None) if odbc => {
            return Err(format!(
                "`{}` has no column that looks like a watermark (`updated_at`, `gmt_modified`, …): say `--by outbox` or `--by trigger` (whose triggers you may have to write by hand), or `--write` to write into it",
                table.table
            ));
        }
        (Some("log"), _) if odbc => {
            return Err("by ODBC no log is read: take `--by watermark`, `outbox` or `trigger`".to_owned());
        }
        (Some("watermark"), None) => {
            return Err(format!(
                "`{}` has no column that looks like a watermark (`updated_at`, `gmt_modified`, …): take `--by trigger`, or write the system's file by hand",
                table.table
            ));
        }
        (Some("outbox"), _) => format!("{{ table: {name}, by: outbox, sent: delete{key} }}"),
        (Some("log"), _) => format!("{{ table: {name}, by: log{key} }}"),
        (None | Some("trigger"), _) => format!("{{ table: {name}, by: trigger{key} }}"),
        (Some(other), _) => {
            return Err(format!("`{other}` is no way to read: there are watermark, outbox, trigger and log"));
        }
    };
    if table.key.is_empty() {
        let _ = writeln!(system, "    # It has no primary key: say here which columns tell its rows apart.");
    }
    let _ = writeln!(system, "    capture: {line}");
    Ok(())
}

/// What a column's value is in JSON, and the type of its row in a mapping.
fn value(column: &Column) -> (&'static str, Option<&'static str>) {
    let kind = column.kind.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| kind.starts_with(word));
    if is(&["tinyint", "smallint", "mediumint", "int", "bigint", "year", "serial"]) && !kind.contains("interval") {
        ("integer", Some("integer"))
    } else if is(&["decimal", "numeric"]) {
        // SQLite may keep a text in it.
        ("any", Some("decimal"))
    } else if is(&["real", "double", "float", "bool", "json", "array", "bit"]) || kind.ends_with("[]") {
        ("any", None)
    } else {
        ("string", None)
    }
}

/// The JSON Schema of a table's rows.
fn schema(table: &Described, kind: &str) -> String {
    let mut lines = Vec::new();
    for column in &table.columns {
        let name = json_text(&column.name);
        let about = json_text(&column.kind);
        let nullable = column.nullable && !table.key.contains(&column.name);
        let kind = match (value(column).0, nullable) {
            ("any", _) => String::new(),
            (word, true) => format!("\"type\": [\"{word}\", \"null\"], "),
            (word, false) => format!("\"type\": \"{word}\", "),
        };
        lines.push(format!("    {name}: {{ {kind}\"description\": {about} }}"));
    }
    let required: Vec<_> = table.key.iter().map(|column| json_text(column)).collect();
    format!(
        "{{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": {},\n  \"type\": \"object\",\n  \"properties\": {{\n{}\n  }},\n  \"required\": [{}]\n}}\n",
        json_text(kind),
        lines.join(",\n"),
        required.join(", ")
    )
}

/// The mapping skeleton: each column under its own name.
fn rows(table: &Described, mapping: &str, to: Option<&str>) -> String {
    let mut text = format!("version: 1\nmapping: {}\n", quoted(mapping));
    if let Some(to) = to {
        let _ = writeln!(text, "to: {}", quoted(to));
    }
    text.push_str("rows:\n");
    for column in &table.columns {
        let name = quoted(&column.name);
        let kind = value(column).1.map(|kind| format!(", type: {kind}")).unwrap_or_default();
        let required = if table.key.contains(&column.name) { ", required: true" } else { "" };
        // A name with a dot would be a path.
        if column.name.contains(['.', '[', ']', '@', '#']) {
            let _ = writeln!(text, "  # {name}: its name is a path here; take it with `value`");
            continue;
        }
        let _ = writeln!(text, "  - {{ to: {name}, from: {name}{kind}{required} }}");
    }
    text
}

/// A word in YAML, in quotes where it needs them.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && word.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '_')
        && !matches!(
            word.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain { word.to_owned() } else { json_text(word) }
}

fn json_text(word: &str) -> String {
    gatehouse_core::Value::from(word).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_yaml_would_read_them_otherwise() {
        for (word, wanted) in [
            ("orders", "orders"),
            ("订单", "订单"),
            ("no", "\"no\""),
            ("a b", "\"a b\""),
            ("1st", "\"1st\""),
            ("a: b", "\"a: b\""),
            ("/data/x.db", "/data/x.db"),
            ("${env:X}", "\"${env:X}\""),
        ] {
            assert_eq!(quoted(word), wanted);
        }
    }
}
