//! What somebody reads of a body: all of it, or what stands at a few paths. Decoders that are told so need not build the
//! rest.

use crate::path::{Path, Step};

/// What is read of a body. The default reads nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    whole: bool,
    fields: Vec<(String, Reading)>,
}

impl Reading {
    /// Everything.
    #[must_use]
    pub fn whole() -> Self {
        Self { whole: true, fields: Vec::new() }
    }

    /// Whether all of it is read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether nothing of it is read.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.whole && self.fields.is_empty()
    }

    /// Adds all of it.
    pub fn add_all(&mut self) {
        self.whole = true;
        self.fields.clear();
    }

    /// Adds what stands at a path.
    pub fn add(&mut self, path: &Path) {
        let names = path.steps().iter().filter_map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Each | Step::Index(_) => None,
        });
        names.fold(self, |reading, name| reading.field(name)).add_all();
    }

    /// What is read below a name, to add to it.
    pub(crate) fn field(&mut self, name: &str) -> &mut Self {
        if self.whole {
            return self;
        }
        let known = self.fields.iter().position(|(known, _)| known == name);
        let at = known.unwrap_or_else(|| {
            self.fields.push((name.to_owned(), Self::default()));
            self.fields.len() - 1
        });
        &mut self.fields[at].1
    }

    /// What is read below a name; `None` where nothing is.
    #[must_use]
    pub fn below(&self, name: &str) -> Option<&Self> {
        if self.whole {
            return Some(self);
        }
        self.fields.iter().find(|(known, _)| known == name).map(|(_, reading)| reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_the_wider_wins() {
        let mut reading = Reading::default();
        assert!(reading.is_nothing());
        for path in ["a.b[].c", "a.b[0].d", "e", "e.f"] {
            reading.add(&Path::parse(path).unwrap());
        }
        let b = reading.below("a").and_then(|a| a.below("b")).unwrap();
        assert!(b.below("c").is_some_and(Reading::is_whole) && b.below("d").is_some() && b.below("x").is_none());
        assert!(reading.below("e").is_some_and(Reading::is_whole));
        assert!(!reading.is_whole() && reading.below("z").is_none());
        reading.add_all();
        assert!(reading.below("z").is_some_and(Reading::is_whole));
    }
}
