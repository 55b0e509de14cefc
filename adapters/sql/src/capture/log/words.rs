//! What a statement that stands in a binlog as text means to a reader of rows. Only its first words are looked at.

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Begin,
    Commit,
    Rollback,
    /// A table is emptied.
    Truncate {
        schema: Option<String>,
        table: String,
    },
    /// It changes rows, which do not stand in the log themselves.
    Statement,
    /// It defines something, or nothing that matters here.
    Other,
}

/// Reads a statement's first words.
pub(super) fn read(text: &str) -> Said {
    let mut rest = text;
    let first = word(&mut rest).to_ascii_uppercase();
    match first.as_str() {
        "BEGIN" | "START" => Said::Begin,
        "COMMIT" => Said::Commit,
        // `ROLLBACK TO` a savepoint ends nothing.
        "ROLLBACK" if word(&mut rest).is_empty() => Said::Rollback,
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" => Said::Statement,
        "TRUNCATE" => truncated(rest).unwrap_or(Said::Other),
        _ => Said::Other,
    }
}

fn truncated(mut rest: &str) -> Option<Said> {
    let mut name = name(&mut rest)?;
    if name.1.eq_ignore_ascii_case("table") && !name.0 {
        name = self::name(&mut rest)?;
    }
    skip(&mut rest);
    Some(match rest.strip_prefix('.') {
        None => Said::Truncate { schema: None, table: name.1 },
        Some(mut rest) => Said::Truncate { schema: Some(name.1), table: self::name(&mut rest)?.1 },
    })
}

/// Passes over spaces and comments.
fn skip(rest: &mut &str) {
    loop {
        *rest = rest.trim_start();
        let end = if rest.starts_with("/*") && !rest.starts_with("/*!") && !rest.starts_with("/*M!") {
            rest.find("*/").map(|at| at + 2)
        } else if rest.starts_with("-- ") || rest.starts_with('#') {
            Some(rest.find('\n').map_or(rest.len(), |at| at + 1))
        } else {
            return;
        };
        *rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
    }
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    skip(rest);
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word
}

/// A name, and whether it was quoted.
fn name(rest: &mut &str) -> Option<(bool, String)> {
    skip(rest);
    let quote = rest.chars().next().filter(|c| matches!(c, '`' | '"'));
    let Some(quote) = quote else {
        let plain = word(rest);
        return (!plain.is_empty()).then(|| (false, plain.to_owned()));
    };
    let mut name = String::new();
    let mut inside = rest.get(1..)?.char_indices().peekable();
    while let Some((at, c)) = inside.next() {
        if c != quote {
            name.push(c);
        } else if inside.next_if(|(_, next)| *next == quote).is_some() {
            name.push(quote);
        } else {
            *rest = rest.get(at + 2..)?;
            return Some((true, name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_known_by_their_first_words() {
        let truncate = |schema: Option<&str>, table: &str| Said::Truncate {
            schema: schema.map(str::to_owned),
            table: table.to_owned(),
        };
        for (text, wanted) in [
            ("BEGIN", Said::Begin),
            ("COMMIT", Said::Commit),
            ("ROLLBACK", Said::Rollback),
            ("ROLLBACK TO `a`", Said::Other),
            ("# Dumm", Said::Other),
            ("", Said::Other),
            ("/* app */ insert into t values (1)", Said::Statement),
            ("CREATE TABLE t (id INT)", Said::Other),
            ("TRUNCATE TABLE t", truncate(None, "t")),
            ("truncate /* x */ `a``b` . `订单`", truncate(Some("a`b"), "订单")),
            ("truncate table `table`", truncate(None, "table")),
            ("TRUNCATE `table`", truncate(None, "table")),
            ("TRUNCATE `open", Said::Other),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }
}
