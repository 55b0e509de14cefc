//! A pattern of JSON Schema (ECMA 262) as one of XML Schema (Part 2 appendix F), which is anchored at both ends and has less.

/// The pattern, or `None` where XML Schema cannot say it: the type itself judges it then.
pub(super) fn translate(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let from_start = chars.next_if_eq(&'^').is_some();
    let (mut in_class, mut groups, mut to_end, mut alternatives) = (false, 0_usize, false, false);
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push_str(&escape(chars.next()?, in_class)?),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // A bracket in a class is itself; there it would begin a subtraction.
            '[' if in_class => out.push_str("\\["),
            _ if in_class => out.push(c),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // `[]` and `[^]` mean nothing and anything there, and begin a bracket here.
                if chars.peek() == Some(&']') {
                    return None;
                }
            }
            '(' => {
                groups += 1;
                out.push('(');
                if chars.next_if_eq(&'?').is_some() && chars.next() != Some(':') {
                    return None;
                }
            }
            ')' => {
                groups = groups.checked_sub(1)?;
                out.push(')');
            }
            '|' => {
                alternatives |= groups == 0;
                out.push('|');
            }
            '$' if chars.peek().is_none() => to_end = true,
            '^' | '$' => return None,
            '*' | '+' | '?' | '}' => {
                out.push(c);
                // What is lazy matches the same texts, and has no word there.
                chars.next_if_eq(&'?');
            }
            c => out.push(c),
        }
    }
    let anchored = from_start || to_end;
    if in_class || groups > 0 || (alternatives && anchored) {
        return None;
    }
    if alternatives {
        out = format!("({out})");
    }
    let open = |anchored: bool| if anchored { "" } else { "[\\s\\S]*" };
    Some(format!("{}{out}{}", open(from_start), open(to_end)))
}

/// What is behind a backslash.
fn escape(c: char, in_class: bool) -> Option<String> {
    Some(match (c, in_class) {
        ('d', false) => "[0-9]".to_owned(),
        ('d', true) => "0-9".to_owned(),
        ('w', false) => "[0-9A-Za-z_]".to_owned(),
        ('w', true) => "0-9A-Za-z_".to_owned(),
        ('D', false) => "[^0-9]".to_owned(),
        ('W', false) => "[^0-9A-Za-z_]".to_owned(),
        ('s' | 'S' | 'n' | 'r' | 't', _) => format!("\\{c}"),
        (c, _) if r"\|.?*+(){}[]-^".contains(c) => format!("\\{c}"),
        ('/' | '"' | '\'' | '@' | '#' | '%' | '&' | ',' | ':' | ';' | '=' | '_' | '~' | '$' | ' ', _) => c.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_say_the_same_or_nothing() {
        let cases = [
            ("^[A-Z]{3}$", Some("[A-Z]{3}")),
            ("^\\d{4}-\\w+$", Some("[0-9]{4}-[0-9A-Za-z_]+")),
            ("ab", Some("[\\s\\S]*ab[\\s\\S]*")),
            ("^ab", Some("ab[\\s\\S]*")),
            ("a|b", Some("[\\s\\S]*(a|b)[\\s\\S]*")),
            ("^(?:a|b)+?$", Some("(a|b)+")),
            ("^[\\d\\-_/[]$", Some("[0-9\\-_/\\[]")),
            ("^a|b$", None),
            ("^(?=x)x$", None),
            ("(a)\\1", None),
            ("a^b", None),
            ("\\bx\\b", None),
            ("[^]", None),
        ];
        for (from, to) in cases {
            assert_eq!(translate(from).as_deref(), to, "{from}");
        }
        // What is said there is what it was here.
        for (pattern, yes, no) in
            [("^[A-Z]{3}$", "CNY", "CNYX"), ("\\+86", "x+86y", "86"), ("^订单-\\d+", "订单-7x", "订单-")]
        {
            let said = crate::xsd::pattern(&translate(pattern).unwrap()).unwrap();
            assert!(said.is_match(yes) && !said.is_match(no), "{pattern}");
        }
    }
}
