//! Forms as elements and types of XML Schema, and what a reader must add to what comes by them: an empty list is no element at
//! all in XML, and stands in a body where its type demands the list.

use std::collections::{HashMap, HashSet};

use gatehouse_core::diagnostics::Problems;
use gatehouse_core::xml::{self, Element};
use gatehouse_core::{Map, Value};

use super::forms::{At, Field, Form, Object, Shape, Source, Text, form};

/// The namespace of XML Schema.
pub(super) use crate::xsd::XSD;

/// The prefix of the contract's own types.
pub(super) const OWN: &str = "t";

/// The objects of some types, by number, and the lists that each must have.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    objects: Vec<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// Fields whose list may be empty and must be there.
    required: Vec<String>,
    /// Fields that hold objects, or lists of them.
    inner: Vec<(String, usize)>,
}

impl Lists {
    /// Puts the empty lists of an object where its type demands them.
    pub(super) fn fill(&self, object: usize, value: &mut Value) {
        let Value::Map(map) = value else { return };
        let Some(known) = self.objects.get(object) else { return };
        for name in &known.required {
            if !map.contains_key(name) {
                map.insert(name.clone(), Value::List(Vec::new()));
            }
        }
        for (name, inner) in &known.inner {
            match map.get_mut(name) {
                Some(Value::List(items)) => items.iter_mut().for_each(|item| self.fill(*inner, item)),
                Some(one) => self.fill(*inner, one),
                None => {}
            }
        }
    }
}

/// Writes types.
pub(super) struct Writer<'p> {
    pub(super) problems: &'p mut Problems,
    /// Those that have a name, in the order in which they were met.
    pub(super) types: Vec<Element>,
    names: HashSet<String>,
    /// Name and number of what is defined in a place of a file.
    homes: HashMap<(String, String), (String, usize)>,
    pub(super) lists: Lists,
}

/// A type as an element says it.
enum Said {
    Named(String),
    Within(Element),
}

pub(super) fn node(local: &str) -> Element {
    Element::new(Some(XSD), local)
}

pub(super) fn named(local: &str, name: &str) -> Element {
    node(local).with_attribute(None, "name", name)
}

/// With documentation, where there is some; it comes first in whatever it is about.
fn about(element: Element, text: Option<&str>) -> Element {
    match text {
        Some(text) => {
            element.with_child(node("annotation").with_child(node("documentation").with_text(readable(text))))
        }
        None => element,
    }
}

/// Text without what XML cannot carry.
pub(super) fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

impl<'p> Writer<'p> {
    pub(super) fn new(problems: &'p mut Problems) -> Self {
        let (types, names, homes) = (Vec::new(), HashSet::new(), HashMap::new());
        Self { problems, types, names, homes, lists: Lists::default() }
    }

    /// The element of an operation, whose children are the fields of a type; and the type's number.
    pub(super) fn wrapper(&mut self, name: &str, source: &Source) -> Option<(Element, usize)> {
        let at = At::root(source);
        let found = form(&at, self.problems, 0)?;
        let object = match found.shape {
            Shape::Object(object) => object,
            // No arguments at all.
            Shape::Any if source.root.field("additionalProperties") == Some(&Value::Bool(false)) => Object::default(),
            _ => {
                let message = "this is no object with fields, and an operation has named arguments";
                at.refuse(self.problems, message, "name its `properties`, or put it into a field of an object");
                return None;
            }
        };
        // What refers to the whole (`#`) needs a name for it; the wrapper's own type has none.
        let number = self.allot();
        let inside = self.complex(&object, number)?;
        Some((about(named("element", name), at.documentation()).with_child(inside), number))
    }

    fn allot(&mut self) -> usize {
        self.lists.objects.push(Known::default());
        self.lists.objects.len() - 1
    }

    /// A complex type of an object's fields.
    fn complex(&mut self, object: &Object<'_>, number: usize) -> Option<Element> {
        let (attributes, fields): (Vec<_>, Vec<_>) = object.fields.iter().partition(|(name, _)| name.starts_with('@'));
        let attributes: Option<Vec<_>> =
            attributes.into_iter().map(|(name, field)| self.attribute(name, field)).collect();
        if let [(name, field)] = fields.as_slice()
            && *name == "#text"
        {
            let found = form(&field.at, self.problems, 0)?;
            let base = match found.shape {
                Shape::Text(Text { base, .. }) => base,
                Shape::Any => "anySimpleType",
                Shape::Object(_) | Shape::List { .. } => {
                    field.at.refuse(self.problems, "`#text` is text", "give it a type that is text");
                    return None;
                }
            };
            let extension = node("extension").with_attribute(None, "base", format!("xsd:{base}"));
            let extension = attributes?.into_iter().fold(extension, Element::with_child);
            return Some(node("complexType").with_child(node("simpleContent").with_child(extension)));
        }
        let mut sequence = node("sequence");
        let mut sound = true;
        for (name, field) in fields {
            match self.field(name, field, number) {
                Some(element) => sequence = sequence.with_child(element),
                // The others are looked at all the same: every problem is told.
                None => sound = false,
            }
        }
        let complex = node("complexType").with_child(sequence);
        let complex = attributes?.into_iter().fold(complex, Element::with_child);
        sound.then_some(complex)
    }

    fn check_name(&mut self, local: &str, at: &At<'_>) -> Option<()> {
        if xml::is_name(local) {
            return Some(());
        }
        let shown: String = local.chars().take(40).flat_map(char::escape_debug).collect();
        let help = "a name has letters, digits, `.`, `-`, `_`, and does not begin with a digit; rename it in a mapping";
        at.refuse(self.problems, &format!("`{shown}` is no XML name"), help);
        None
    }

    fn attribute(&mut self, name: &str, field: &Field<'_>) -> Option<Element> {
        let local = name.trim_start_matches('@');
        self.check_name(local, &field.at)?;
        let found = form(&field.at, self.problems, 0)?;
        let Shape::Text(text) = found.shape else {
            field.at.refuse(self.problems, "an attribute is text", "leave out the `@`");
            return None;
        };
        let attribute = about(named("attribute", local), field.at.documentation());
        let attribute = typed(attribute, simple(text, &field.also));
        Some(if field.required { attribute.with_attribute(None, "use", "required") } else { attribute })
    }

    fn field(&mut self, name: &str, field: &Field<'_>, number: usize) -> Option<Element> {
        self.check_name(name, &field.at)?;
        let mut found = form(&field.at, self.problems, 0)?;
        let (mut least, mut most) = (usize::from(field.required), "1".to_owned());
        let mut of_item;
        let mut at = &field.at;
        if let Shape::List { item, min, max } = found.shape {
            if field.required && min == 0 {
                self.lists.objects[number].required.push(name.to_owned());
            }
            least = least.min(1) * min;
            most = max.map_or_else(|| "unbounded".to_owned(), |max| max.to_string());
            let Some(inside) = item else { return Some(occurs(any(named("element", name)), least, &most)) };
            of_item = inside;
            at = &of_item;
            found = form(at, self.problems, 0)?;
            if let Shape::List { .. } = found.shape {
                let help = "put the inner list into an object with a field of its own";
                at.refuse(self.problems, "a list of lists has no form in XML", help);
                return None;
            }
            of_item = at.clone();
            at = &of_item;
        }
        let Form { shape, nullable } = found;
        let said = match shape {
            Shape::Any | Shape::List { .. } => None,
            Shape::Text(text) => Some(simple(text, &field.also)),
            Shape::Object(object) => {
                let (said, inner) = self.object(&object, at)?;
                self.lists.objects[number].inner.push((name.to_owned(), inner));
                Some(said)
            }
        };
        let element = about(named("element", name), field.at.documentation());
        let element = match said {
            Some(said) => typed(element, said),
            None => any(element),
        };
        let element = if nullable { element.with_attribute(None, "nillable", "true") } else { element };
        Some(occurs(element, least, &most))
    }

    /// The type of an object: under a name where others may refer to it.
    fn object(&mut self, object: &Object<'_>, at: &At<'_>) -> Option<(Said, usize)> {
        let Some(home) = &object.home else {
            let number = self.allot();
            return self.complex(object, number).map(|complex| (Said::Within(complex), number));
        };
        let key = (at.source.file.name().to_owned(), home.clone());
        if let Some((name, number)) = self.homes.get(&key) {
            return Some((Said::Named(format!("{OWN}:{name}")), *number));
        }
        let name = self.name_of(home);
        let number = self.allot();
        // Known before it is written: it may hold itself.
        self.homes.insert(key, (name.clone(), number));
        let mut complex = self.complex(object, number)?;
        complex.attributes.insert(0, named("complexType", &name).attributes.remove(0));
        self.types.push(complex);
        Some((Said::Named(format!("{OWN}:{name}")), number))
    }

    /// A name that no other type has, after the last step of a pointer.
    fn name_of(&mut self, pointer: &str) -> String {
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let word = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
        let mut name: String = last.chars().map(word).collect();
        if !xml::is_name(&name) {
            name = format!("Type{name}");
        }
        if !xml::is_name(&name) {
            name = "Type".to_owned();
        }
        let base = name.clone();
        let mut more = 1;
        while !self.names.insert(name.clone()) {
            more += 1;
            name = format!("{base}_{more}");
        }
        name
    }
}

fn any(element: Element) -> Element {
    element.with_attribute(None, "type", "xsd:anyType")
}

fn typed(element: Element, said: Said) -> Element {
    match said {
        Said::Named(name) => element.with_attribute(None, "type", name),
        Said::Within(ty) => element.with_child(ty),
    }
}

fn occurs(element: Element, least: usize, most: &str) -> Element {
    let element = if least == 1 { element } else { element.with_attribute(None, "minOccurs", least.to_string()) };
    if most == "1" { element } else { element.with_attribute(None, "maxOccurs", most) }
}

/// A built-in type, or one with facets.
fn simple(text: Text, also: &[String]) -> Said {
    if text.facets.is_empty() {
        return Said::Named(format!("xsd:{}", text.base));
    }
    let restriction = node("restriction").with_attribute(None, "base", format!("xsd:{}", text.base));
    let more = also.iter().map(|text| ("enumeration", text.clone()));
    let mut seen = HashSet::new();
    let facets = text.facets.into_iter().chain(more).filter(|facet| seen.insert(facet.clone()));
    let facet = |(name, value): (&str, String)| node(name).with_attribute(None, "value", value);
    Said::Within(node("simpleType").with_child(facets.map(facet).fold(restriction, Element::with_child)))
}

/// The value of an operation's empty reply: nothing but the id under which the message is known.
pub(super) fn receipt(name: &str) -> Element {
    let id = named("element", super::RECEIPT).with_attribute(None, "type", "xsd:string");
    named("element", name).with_child(node("complexType").with_child(node("sequence").with_child(id)))
}

/// The receipt as a value.
pub(crate) fn receipt_value(message_id: &str) -> Value {
    Value::Map(Map::from([(super::RECEIPT.to_owned(), Value::from(message_id))]))
}
