//! Names with their namespaces in a value, whose own names are local: under `{namespace}local`, and only those that
//! somebody asks for.
//!
//! A value keeps what it has: the names are laid beside the local ones. How much is copied is bounded by the paths that
//! ask, not by the document.

use super::{Element, QName, XSI};
use crate::path::Step;
use crate::value::Value;

/// The names that are asked for, as a tree of steps.
#[derive(Clone, Debug, Default)]
pub struct WantedNames {
    steps: Vec<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    /// As it stands in the path.
    key: String,
    /// The expanded name; `None` for a local name on the way to one.
    name: Option<QName>,
    attribute: bool,
    below: WantedNames,
}

impl WantedNames {
    /// Asks for every name of one path.
    pub fn add(&mut self, path: &[Step]) {
        let Some((step, rest)) = path.split_first() else { return };
        let Step::Name(key) = step else { return self.add(rest) };
        let index = self.steps.iter().position(|known| known.key == *key).unwrap_or_else(|| {
            let (attribute, bare) = key.strip_prefix('@').map_or((false, key.as_str()), |bare| (true, bare));
            let name = clark(bare).map(|(namespace, local)| QName::new(Some(namespace), local));
            self.steps.push(Wanted { key: key.clone(), name, attribute, below: Self::default() });
            self.steps.len() - 1
        });
        self.steps[index].below.add(rest);
    }

    /// Whether nobody asks for any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Namespace and local name of `{namespace}local` or `@{namespace}local`.
#[must_use]
pub fn clark(key: &str) -> Option<(&str, &str)> {
    let (namespace, local) = key.strip_prefix('@').unwrap_or(key).strip_prefix('{')?.rsplit_once('}')?;
    (!namespace.is_empty() && !local.is_empty()).then_some((namespace, local))
}

impl Element {
    /// Lays the wanted names of this element into its value, as [`Element::to_value`] made it (documents in it may have
    /// been opened since). What is not there is not laid; a part of the value that has another shape than the element
    /// is left alone.
    pub fn lay_names(&self, value: &mut Value, wanted: &WantedNames) {
        let Value::Map(map) = value else { return };
        for want in &wanted.steps {
            match &want.name {
                Some(name) if want.attribute => {
                    let found = self.attributes.iter().find(|attribute| attribute.name == *name);
                    if let Some(attribute) = found.filter(|attribute| attribute.name.namespace.as_deref() != Some(XSI))
                    {
                        map.insert(want.key.clone(), Value::Text(attribute.value.clone()));
                    }
                }
                Some(name) => {
                    let found = self.elements().filter(|element| element.name == *name);
                    let mut items: Vec<Value> = found
                        .map(|element| {
                            let mut item = element.to_value();
                            element.lay_names(&mut item, &want.below);
                            item
                        })
                        .collect();
                    match items.len() {
                        0 => {}
                        1 => drop(map.insert(want.key.clone(), items.remove(0))),
                        _ => drop(map.insert(want.key.clone(), Value::List(items))),
                    }
                }
                None => {
                    let same: Vec<_> = self.elements().filter(|element| *element.name.local == *want.key).collect();
                    match (same.as_slice(), map.get_mut(&want.key)) {
                        (same, Some(Value::List(items))) if items.len() == same.len() => {
                            for (element, item) in same.iter().zip(items) {
                                element.lay_names(item, &want.below);
                            }
                        }
                        ([element], Some(item)) => element.lay_names(item, &want.below),
                        _ => {}
                    }
                }
            }
        }
    }
}
