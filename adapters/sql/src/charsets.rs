//! `charset:` of an endpoint: columns whose texts are in a charset that the database does not know, such as GBK in a column that
//! was declared latin1 by an application that is older than anybody's memory. Their bytes are taken and given as they are.

use gatehouse_core::charset;
use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::yaml::Located;
use indexmap::IndexMap;

use crate::capture::source::Described;
use crate::file::{Checker, is_identifier};

/// Columns, and the charset of each.
pub(crate) type Charsets = Vec<(String, String)>;

impl Checker<'_> {
    /// `charset`, beside columns that find rows: what is compared is compared by the database, which does not know it.
    pub(crate) fn charsets(
        &mut self,
        read: &IndexMap<String, Located<String>>,
        finds: &[&Located<String>],
    ) -> Charsets {
        let mut charsets = Charsets::new();
        for (column, label) in read {
            if !is_identifier(column) {
                self.error("bad-name", &label.span, format!("`{column}` cannot be a column"));
            }
            if let Err(error) = charset::encode("", label) {
                self.error("unknown-charset", &label.span, error.reason);
            }
            if finds.iter().any(|name| name.as_str() == column) {
                self.error("not-here", &label.span, finder(column));
            }
            charsets.push((column.clone(), label.value.clone()));
        }
        charsets
    }
}

fn finder(column: &str) -> String {
    format!("`{column}` finds or sorts rows, which the database does by its own charset: it can have no `charset` here")
}

/// Says of the columns of a table what the database does not know of them.
///
/// # Errors
/// A column of the key, which the catalogue only tells.
pub(crate) fn declare(described: &mut Described, charsets: &[(String, String)], finds: &[String]) -> Result<(), Fault> {
    let key = if finds.is_empty() { described.key.clone() } else { finds.to_vec() };
    for column in &mut described.columns {
        let declared = charsets.iter().find(|(name, _)| *name == column.name);
        if declared.is_some() && key.contains(&column.name) {
            return Err(Fault::new(Code::Misconfigured, finder(&column.name)));
        }
        column.charset = declared.map(|(_, label)| label.clone());
    }
    Ok(())
}

/// Refuses a column that none of the tables has.
pub(crate) fn known<'a>(
    charsets: &[(String, String)],
    columns: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Fault> {
    for (name, _) in charsets {
        if columns.clone().all(|column| column != name) {
            let help = closest(name, columns).map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
            let text = format!("`charset` names a column `{name}` that is not there{help}");
            return Err(Fault::new(Code::Misconfigured, text));
        }
    }
    Ok(())
}

/// The bytes of a text in a charset.
///
/// # Errors
/// The reason in words: the first character that the charset lacks.
pub(crate) fn encode(text: &str, label: &str) -> Result<Vec<u8>, String> {
    charset::encode(text, label).map_err(|error| format!("{} (at byte {})", error.reason, error.offset))
}
