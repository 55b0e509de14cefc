//! Paths with parameters: `/orders/{shop}/lines`. Matched on the way in, filled on the way out.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What is encoded in one segment (RFC 3986 `pchar` is what stays).
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A path with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    Parameter(String),
}

impl Template {
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        let Some(path) = path.strip_prefix('/') else {
            return Err(format!("the path `{path}` must begin with a slash"));
        };
        let mut segments: Vec<Segment> = Vec::new();
        for segment in path.split('/') {
            let parsed = match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                    Segment::Parameter(name.to_owned())
                }
                Some(name) => return Err(format!("`{{{name}}}` is no parameter: a name has letters, digits and `_`")),
                None if segment.contains(['{', '}', '?', '#', ' ']) => {
                    return Err(format!("`{segment}` cannot stand in a path; a parameter is a whole segment"));
                }
                None => Segment::Fixed(segment.to_owned()),
            };
            if segments.contains(&parsed) && matches!(parsed, Segment::Parameter(_)) {
                return Err(format!("the parameter `{segment}` comes twice"));
            }
            segments.push(parsed);
        }
        Ok(Self { segments })
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments
            .iter()
            .filter_map(|segment| if let Segment::Parameter(name) = segment { Some(name.as_str()) } else { None })
    }

    /// The fixed part before the first parameter: where it is mounted.
    pub(crate) fn prefix(&self) -> String {
        let fixed = self
            .segments
            .iter()
            .map_while(|segment| if let Segment::Fixed(text) = segment { Some(text.as_str()) } else { None });
        fixed.fold(String::new(), |prefix, segment| prefix + "/" + segment)
    }

    /// The parameters' values, if the path is of this form.
    pub(crate) fn matches<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut given = path.strip_prefix('/')?.split('/');
        let mut values = Vec::new();
        for segment in &self.segments {
            let part = given.next()?;
            match segment {
                Segment::Fixed(text) if text == part => {}
                Segment::Parameter(name) if !part.is_empty() => values.push((name.as_str(), part)),
                _ => return None,
            }
        }
        given.next().is_none().then_some(values)
    }

    /// Whether some path is of both forms.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|pair| !matches!(pair, (Segment::Fixed(a), Segment::Fixed(b)) if a != b))
    }

    /// The path with its parameters filled in, percent-encoded.
    pub(crate) fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Fixed(text) => path.push_str(text),
                Segment::Parameter(name) => {
                    let value = value(name).filter(|value| !value.is_empty() && value != "." && value != "..");
                    let value = value.ok_or_else(|| format!("the path's `{{{name}}}` has no usable value"))?;
                    path.extend(utf8_percent_encode(&value, SEGMENT));
                }
            }
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_and_fill() {
        let template = Template::parse("/shops/{shop}/orders/{no}").unwrap();
        assert_eq!(template.prefix(), "/shops");
        assert_eq!(template.matches("/shops/甲/orders/1"), Some(vec![("shop", "甲"), ("no", "1")]));
        for other in ["/shops/a/orders", "/shops//orders/1", "/shops/a/orders/1/x", "/shop/a/orders/1"] {
            assert_eq!(template.matches(other), None, "{other}");
        }
        let fill =
            |shop: &str| template.fill(|name| Some(if name == "shop" { shop.to_owned() } else { "1".to_owned() }));
        assert_eq!(fill("a/b?c").unwrap(), "/shops/a%2Fb%3Fc/orders/1");
        assert!(fill("..").is_err() && fill("").is_err());
        for bad in ["orders", "/a{b}", "/{a}/{a}", "/{}", "/{a b}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
