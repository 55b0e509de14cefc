//! Names and values on a parcel: a dozen or so, most of them short, made and read for every delivery. So they lie in one
//! piece of memory, sorted by name, and what is short (24 bytes) in that piece itself.

use std::fmt;

use compact_str::CompactString;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many a parcel has without growing: a message's attributes and the gateway's own.
const USUAL: usize = 16;

/// Names and values. Each name once; order does not matter.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(CompactString, CompactString)>);

impl Headers {
    /// A value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.place(name).ok().map(|at| self.0[at].1.as_str())
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Sets a value; the one before is gone.
    pub fn insert(&mut self, name: impl Into<CompactString>, value: impl Into<CompactString>) {
        let (name, value) = (name.into(), value.into());
        if self.0.is_empty() {
            self.0.reserve(USUAL);
        }
        // Names come sorted where they were written sorted.
        if self.0.last().is_none_or(|(last, _)| *last < name) {
            return self.0.push((name, value));
        }
        match self.place(&name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Sets a value where there is none of this name.
    pub fn insert_if_absent(&mut self, name: &str, value: impl FnOnce() -> String) {
        if !self.contains(name) {
            self.insert(name, value());
        }
    }

    /// Takes a value off.
    pub fn remove(&mut self, name: &str) -> Option<CompactString> {
        self.place(name).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps those that this says yes to.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<CompactString>, V: Into<CompactString>> Extend<(N, V)> for Headers {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl<N: Into<CompactString>, V: Into<CompactString>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        headers.extend(pairs);
        headers
    }
}

impl<N: Into<CompactString>, V: Into<CompactString>, const COUNT: usize> From<[(N, V); COUNT]> for Headers {
    fn from(pairs: [(N, V); COUNT]) -> Self {
        pairs.into_iter().collect()
    }
}

impl IntoIterator for Headers {
    type Item = (CompactString, CompactString);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// As an object of texts.
impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, value)) = map.next_entry::<CompactString, CompactString>()? {
                    headers.insert(name, value);
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// They are a map: whatever is done to both, they say the same.
        #[test]
        fn they_are_a_map(steps in proptest::collection::vec(("[a-e]{0,2}", "\\PC{0,30}", any::<bool>()), 0..40)) {
            let (mut headers, mut map) = (Headers::default(), BTreeMap::new());
            for (name, value, puts) in steps {
                if puts {
                    headers.insert(name.as_str(), value.as_str());
                    map.insert(name, value);
                } else {
                    prop_assert_eq!(headers.remove(&name).map(String::from), map.remove(&name));
                }
            }
            prop_assert_eq!(headers.len(), map.len());
            prop_assert!(map.iter().all(|(name, value)| headers.get(name) == Some(value)));
            let text = serde_json::to_string(&headers).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(serde_json::from_str::<Headers>(&text).unwrap(), headers);
        }
    }
}
