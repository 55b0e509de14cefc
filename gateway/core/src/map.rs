//! The map inside a [`Value`]: keeps the order in which its keys came, each key once.
//!
//! Nearly every map that passes here has a handful of keys, so a key is found by looking along them; hashing each would
//! cost more, on the way in and on the way out of every message. Above [`FEW`] keys there is an index too, hashed with a
//! random key (SipHash): the keys are the caller's, and ten thousand of them must not cost their square. A key of up to
//! 24 bytes stands in the map itself. Decision 0013 says what that brought.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;

use compact_str::CompactString;

use crate::value::Value;

/// A key. Short ones cost no allocation.
pub type Name = CompactString;

/// Up to so many keys are looked along.
const FEW: usize = 16;

/// A map that keeps the order in which its keys came.
#[derive(Clone, Default)]
pub struct Map {
    entries: Vec<(Name, Value)>,
    /// Where each key stands; only above [`FEW`] keys.
    #[expect(clippy::box_collection, reason = "a map stands in every value, and values are moved all the time")]
    index: Option<Box<HashMap<Name, usize>>>,
}

impl Map {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty, with room.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Self {
        Self { entries: Vec::with_capacity(keys), index: None }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|(name, _)| name == key),
            Some(index) => index.get(key).copied(),
        }
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    /// The value under a key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let at = self.position(key)?;
        Some(&mut self.entries[at].1)
    }

    /// Where a key stands, counted from 0, and its value.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<(usize, &Value)> {
        self.position(key).map(|at| (at, &self.entries[at].1))
    }

    /// A key as it stands here, and its value.
    #[must_use]
    pub fn get_key_value(&self, key: &str) -> Option<(&Name, &Value)> {
        let (name, value) = &self.entries[self.position(key)?];
        Some((name, value))
    }

    /// Whether there is such a key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Puts a value under a key: a new key goes to the end, a known one keeps its place. Gives back what was there.
    pub fn insert(&mut self, key: impl Into<Name>, value: Value) -> Option<Value> {
        let key = key.into();
        match self.position(&key) {
            Some(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            None => {
                self.push(key, value);
                None
            }
        }
    }

    /// The value under a key; null is put there first where the key is new.
    pub fn slot(&mut self, key: &str) -> &mut Value {
        let at = match self.position(key) {
            Some(at) => at,
            None => self.push(key.into(), Value::Null),
        };
        &mut self.entries[at].1
    }

    /// Puts a key that is known to be new at the end; tells where it stands.
    pub(crate) fn push(&mut self, key: Name, value: Value) -> usize {
        let at = self.entries.len();
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), at);
        }
        self.entries.push((key, value));
        if self.index.is_none() && self.entries.len() > FEW {
            self.rebuild();
        }
        at
    }

    /// Puts a value under a key; what comes again makes a list of all that came.
    pub fn append(&mut self, key: impl Into<Name>, value: Value) {
        let key = key.into();
        match self.get_mut(&key) {
            None => {
                self.push(key, value);
            }
            Some(Value::List(list)) => list.push(value),
            Some(first) => {
                let before = std::mem::take(first);
                *first = Value::List(vec![before, value]);
            }
        }
    }

    /// Takes a key out; those behind it move up.
    pub fn shift_remove(&mut self, key: &str) -> Option<Value> {
        let at = self.position(key)?;
        let (_, value) = self.entries.remove(at);
        self.rebuild();
        Some(value)
    }

    /// Keeps the keys for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(name, value)| keep(name, value));
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.index = (self.entries.len() > FEW)
            .then(|| Box::new(self.entries.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect()));
    }

    /// The keys and values, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries.iter())
    }

    /// The keys and values, in order, the values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Name, &mut Value)> {
        self.entries.iter_mut().map(|(name, value)| (&*name, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Name> + ExactSizeIterator {
        self.entries.iter().map(|(name, _)| name)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The values, in the order of their keys, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// The values, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = Value> {
        self.entries.into_iter().map(|(_, value)| value)
    }

    /// The first key and its value.
    #[must_use]
    pub fn first(&self) -> Option<(&Name, &Value)> {
        self.entries.first().map(|(name, value)| (name, value))
    }

    /// The last key and its value.
    #[must_use]
    pub fn last(&self) -> Option<(&Name, &Value)> {
        self.entries.last().map(|(name, value)| (name, value))
    }
}

/// As [`Value`] is compared: the order of keys does not matter.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl Eq for Map {}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<Name>> Extend<(K, Value)> for Map {
    fn extend<I: IntoIterator<Item = (K, Value)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl<K: Into<Name>> FromIterator<(K, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let mut map = Self::with_capacity(pairs.size_hint().0.min(FEW));
        map.extend(pairs);
        map
    }
}

impl<K: Into<Name>, const N: usize> From<[(K, Value); N]> for Map {
    fn from(pairs: [(K, Value); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<Q: Borrow<str> + ?Sized> std::ops::Index<&Q> for Map {
    type Output = Value;

    /// # Panics
    /// Where there is no such key, as every map of Rust; [`Map::get`] does not.
    fn index(&self, key: &Q) -> &Value {
        match self.get(key.borrow()) {
            Some(value) => value,
            None => panic!("there is no key `{}`", key.borrow()),
        }
    }
}

impl IntoIterator for Map {
    type Item = (Name, Value);
    type IntoIter = std::vec::IntoIter<(Name, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Name, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The keys and values of a [`Map`], in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(std::slice::Iter<'a, (Name, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Name, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(name, value)| (name, value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Beside a list of pairs, over the border between few keys and many, and back.
        #[test]
        fn it_is_an_ordered_map(steps in proptest::collection::vec((0..4_u8, 0..40_u8, any::<i64>()), 0..200)) {
            let (mut map, mut pairs) = (Map::new(), Vec::<(String, Value)>::new());
            for (what, key, number) in steps {
                let (key, value) = (format!("key-{key}-with-more-than-twenty-four-bytes"), Value::from(number));
                let at = pairs.iter().position(|(name, _)| *name == key);
                match what {
                    0 | 1 => {
                        map.insert(key.as_str(), value.clone());
                        match at {
                            Some(at) => pairs[at].1 = value,
                            None => pairs.push((key, value)),
                        }
                    }
                    2 => {
                        let before = at.map(|at| pairs.remove(at).1);
                        prop_assert_eq!(map.shift_remove(&key), before);
                    }
                    _ => {
                        *map.slot(&key) = value.clone();
                        match at {
                            Some(at) => pairs[at].1 = value,
                            None => pairs.push((key, value)),
                        }
                    }
                }
                let found: Vec<_> = map.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                prop_assert_eq!(&found, &pairs);
                prop_assert!(pairs.iter().all(|(name, value)| map.get(name) == Some(value)));
                prop_assert!(!map.contains_key("never"));
            }
        }
    }

    #[test]
    fn order_does_not_count_in_a_comparison() {
        let pair = |name: &'static str, number: i64| (name, Value::from(number));
        let one: Map = [pair("a", 1), pair("b", 2)].into_iter().collect();
        assert_eq!(one, [pair("b", 2), pair("a", 1)].into_iter().collect());
        assert_ne!(one, [pair("b", 2), pair("a", 2)].into_iter().collect());
        assert_ne!(one, [pair("a", 1)].into_iter().collect());
    }

    #[test]
    fn a_value_is_small() {
        assert!(size_of::<Value>() <= 32, "{} bytes: values are moved all the time", size_of::<Value>());
    }
}
