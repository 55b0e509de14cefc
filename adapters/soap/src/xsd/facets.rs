//! What a schema demands of a simple type beyond its built-in kind (XML Schema Part 2 §4.3).

use std::sync::Arc;

use gatehouse_core::Value;
use gatehouse_core::number::Number;
use regex::Regex;

/// The facets of a simple type, those of its bases included. Absent means free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facets {
    /// The texts that are allowed.
    pub(crate) enumeration: Option<Arc<[String]>>,
    /// In characters, bytes or items.
    pub(crate) min_length: Option<usize>,
    pub(crate) max_length: Option<usize>,
    pub(crate) total_digits: Option<usize>,
    pub(crate) fraction_digits: Option<usize>,
    /// The least number and whether it is itself out.
    pub(crate) least: Option<(Number, bool)>,
    pub(crate) most: Option<(Number, bool)>,
    /// All must match; each with its text.
    pub(crate) patterns: Vec<(Arc<str>, Regex)>,
    /// White space is collapsed whatever the kind says.
    pub(crate) collapse: bool,
}

impl Facets {
    /// Judges a value whose text is `text`.
    ///
    /// # Errors
    /// What is wrong with it, to follow the name of the field.
    pub(crate) fn check(&self, text: &str, value: &Value) -> Result<(), String> {
        if let Some(allowed) = &self.enumeration
            && !allowed.iter().any(|one| one == text)
        {
            let shown = allowed.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if allowed.len() > 8 { ", …" } else { "" };
            return Err(format!("is none of {shown}{more}"));
        }
        let length = || match value {
            Value::List(list) => list.len(),
            _ => text.chars().count(),
        };
        if let Some(least) = self.min_length
            && length() < least
        {
            return Err(format!("is shorter than {least}"));
        }
        if let Some(most) = self.max_length
            && length() > most
        {
            return Err(format!("is longer than {most}"));
        }
        if let Value::Number(number) = value {
            self.check_number(text, number)?;
        }
        match self.patterns.iter().find(|(_, pattern)| !pattern.is_match(text)) {
            Some((pattern, _)) => Err(format!("does not match the pattern `{pattern}`")),
            None => Ok(()),
        }
    }

    fn check_number(&self, text: &str, number: &Number) -> Result<(), String> {
        let (whole, fraction) =
            text.trim_start_matches('-').split_once('.').unwrap_or((text.trim_start_matches('-'), ""));
        let fraction = fraction.trim_end_matches('0');
        if let Some(most) = self.fraction_digits
            && fraction.len() > most
        {
            return Err(format!("has more than {most} digits after the point"));
        }
        if let Some(most) = self.total_digits
            && whole.trim_start_matches('0').len() + fraction.len() > most
        {
            return Err(format!("has more than {most} digits"));
        }
        // Beyond 28 digits a bound cannot be compared here; the system itself will judge.
        let Some(value) = number.to_decimal() else { return Ok(()) };
        if let Some((least, open)) = &self.least
            && let Some(bound) = least.to_decimal()
            && (value < bound || (*open && value == bound))
        {
            return Err(format!("is below {least}"));
        }
        if let Some((most, open)) = &self.most
            && let Some(bound) = most.to_decimal()
            && (value > bound || (*open && value == bound))
        {
            return Err(format!("is above {most}"));
        }
        Ok(())
    }
}

/// Characters that begin a name, and those that go on in one (XML 1.0 §2.3), without brackets.
const INITIAL: &str =
    ":A-Z_a-z\\u{C0}-\\u{D6}\\u{D8}-\\u{F6}\\u{F8}-\\u{2FF}\\u{370}-\\u{37D}\\u{37F}-\\u{1FFF}\\u{3001}-\\u{D7FF}";
const FOLLOWING: &str =
    "-.0-9:A-Z_a-z\\u{B7}\\u{C0}-\\u{D6}\\u{D8}-\\u{F6}\\u{F8}-\\u{37D}\\u{37F}-\\u{1FFF}\\u{3001}-\\u{D7FF}";

/// A pattern of XML Schema as one of [`regex`]: anchored, with the escapes that only XML has and the subtraction of classes (Part 2
/// appendix F). `None` where it says what cannot be said (a block of Unicode); the facet is then left to the system that gets the
/// document.
pub(crate) fn pattern(text: &str) -> Option<Regex> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                'i' => out.push_str(&format!("[{INITIAL}]")),
                'I' => out.push_str(&format!("[^{INITIAL}]")),
                'c' => out.push_str(&format!("[{FOLLOWING}]")),
                'C' => out.push_str(&format!("[^{FOLLOWING}]")),
                // Symbols are part of words there.
                'w' => out.push_str("[^\\p{P}\\p{Z}\\p{C}]"),
                'W' => out.push_str("[\\p{P}\\p{Z}\\p{C}]"),
                escaped => {
                    out.push('\\');
                    out.push(escaped);
                }
            },
            '[' if depth == 0 => {
                depth = 1;
                out.push('[');
                out.extend(chars.next_if_eq(&'^'));
            }
            '[' if out.ends_with('-') => {
                depth += 1;
                out.push_str("-[");
                out.extend(chars.next_if_eq(&'^'));
            }
            ']' if depth > 0 => {
                depth -= 1;
                out.push(']');
            }
            // Characters like any other there.
            '[' | '&' | '~' if depth > 0 => out.extend(['\\', c]),
            '^' | '$' if depth == 0 => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    if out.contains("\\p{Is") || out.contains("\\P{Is") {
        return None;
    }
    regex::RegexBuilder::new(&format!("^(?:{out})$")).size_limit(1 << 20).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facets_judge() {
        let number = |text: &str| Value::Number(Number::parse(text).unwrap());
        let facets = Facets {
            total_digits: Some(5),
            fraction_digits: Some(2),
            least: Some((0.into(), true)),
            most: Some((500.into(), false)),
            ..Facets::default()
        };
        let judge = |text: &str| facets.check(text, &number(text)).is_ok();
        assert!(judge("0.01") && judge("500") && judge("123.450"));
        assert!(!judge("0") && !judge("500.01") && !judge("1.234") && !judge("-1"));
        let facets =
            Facets { patterns: vec![("[A-Z]{2}\\d+".into(), pattern("[A-Z]{2}\\d+").unwrap())], ..Facets::default() };
        assert!(facets.check("SO1", &Value::from("SO1")).is_ok());
        assert!(facets.check("xSO1", &Value::from("xSO1")).is_err());
        let matches = |text: &str, value: &str| pattern(text).unwrap().is_match(value);
        assert!(matches("[a-z-[aeiou]]+", "bcd") && !matches("[a-z-[aeiou]]+", "bad"));
        assert!(matches("订单-[0-9]+", "订单-7") && matches("a$^b", "a$^b") && matches("[+&~[]+", "&[~+"));
        assert!(matches("\\i\\c*", "a-1") && !matches("\\i\\c*", "1a") && matches("\\w", "€") && !matches("\\w", "-"));
        assert!(pattern("\\p{IsBasicLatin}").is_none() && pattern("[a").is_none());
        let facets = Facets { min_length: Some(2), max_length: Some(3), ..Facets::default() };
        assert!(facets.check("订单", &Value::from("订单")).is_ok());
        assert!(facets.check("订", &Value::from("订")).is_err());
    }
}
