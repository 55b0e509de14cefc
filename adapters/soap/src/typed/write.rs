//! A value to an element that a schema takes: in its order, in its namespaces, and nothing that it does not know.

use gatehouse_core::diagnostics::closest;
use gatehouse_core::fault::Violation;
use gatehouse_core::xml::{Attribute, Element, Node, QName, SOAP_ENC, XSI};
use gatehouse_core::{Map, Name, Value};

use super::{Findings, TEXT_KEY, TYPE_KEY, simple};
use crate::xsd::{ANY_TYPE, Complex, Content, ElementId, Particle, Schemas, Term, Type, TypeId, XSD};

/// Writes an element that is declared as `id`. `encoded`: with the type of each, and arrays as SOAP 1.1 §5.4 says.
///
/// # Errors
/// What the schema does not take, with pointers into the value.
pub(crate) fn write(schemas: &Schemas, id: ElementId, value: &Value, encoded: bool) -> Result<Element, Vec<Violation>> {
    let mut writing = Writing { schemas, encoded, findings: Findings::default() };
    // The wrapper of an rpc call is no value and says no type.
    let declared = schemas.element(id);
    let mut element = Element { name: declared.name.clone(), attributes: Vec::new(), children: Vec::new() };
    match schemas.ty(declared.ty) {
        Type::Complex(complex) if complex.name.is_none() => writing.complex(complex, value, &mut element),
        _ => writing.content(id, value, &mut element),
    }
    if writing.findings.found.is_empty() { Ok(element) } else { Err(writing.findings.found) }
}

struct Writing<'a> {
    schemas: &'a Schemas,
    encoded: bool,
    findings: Findings,
}

/// What is left to write of a map.
struct Left<'v> {
    map: &'v Map,
    /// The keys whose list is one value: that of an array or of a list of words.
    whole: Vec<&'v str>,
    /// How many items of each key are written, in the map's order.
    written: Vec<usize>,
}

impl<'v> Left<'v> {
    fn items(&self, key: &str) -> &'v [Value] {
        let Some((at, value)) = self.map.find(key) else { return &[] };
        let items = match value {
            Value::List(items) if !self.whole.contains(&key) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        &items[self.written[at].min(items.len())..]
    }

    fn written(&self, key: &str) -> usize {
        self.map.find(key).map_or(0, |(at, _)| self.written[at])
    }

    fn take(&mut self, key: &str, count: usize) {
        if let Some((at, _)) = self.map.find(key) {
            self.written[at] += count;
        }
    }
}

impl<'a> Writing<'a> {
    /// Fills an element with a value of its declared type.
    fn content(&mut self, id: ElementId, value: &Value, element: &mut Element) {
        let declared = self.schemas.element(id);
        if value == &Value::Null {
            if !declared.nillable && declared.ty != ANY_TYPE {
                self.findings.tell("is null, and the schema does not let it be nil");
            }
            // What is nil still has its attributes (Part 1 §3.3.4), and null holds none.
            let complex = self.schemas.complex(declared.ty);
            if let Some(needed) = complex.and_then(|complex| complex.attributes.iter().find(|one| one.required)) {
                self.findings.tell(format!("is null, and the schema demands its attribute `{}`", needed.name.local));
            }
            element.attributes.push(xsi("nil", "true"));
            return;
        }
        self.typed(declared.ty, value, element);
    }

    fn typed(&mut self, declared: TypeId, value: &Value, element: &mut Element) {
        let ty = self.chosen(declared, value);
        if ty != declared || self.encoded {
            self.say_type(ty, value, element);
        }
        match self.schemas.ty(ty) {
            Type::Simple(_) => self.text(ty, value.field(TEXT_KEY).unwrap_or(value), element),
            Type::Complex(complex) => self.complex(complex, value, element),
        }
    }

    /// The type that a value says, if it may stand for the declared one.
    fn chosen(&mut self, declared: TypeId, value: &Value) -> TypeId {
        let Some(said) = value.field(TYPE_KEY).and_then(Value::as_text) else { return declared };
        let derived = self.schemas.types_called(said).find(|ty| self.schemas.derives(*ty, declared));
        derived.unwrap_or_else(|| {
            let base = self.schemas.type_name(declared);
            self.findings.tell(format!("no type `{said}` derives from `{base}`"));
            declared
        })
    }

    fn say_type(&self, ty: TypeId, value: &Value, element: &mut Element) {
        let name = match self.schemas.ty(ty) {
            Type::Simple(simple) => simple.name.as_ref(),
            Type::Complex(complex) if matches!(complex.content, Content::Array { .. } | Content::Anything) => None,
            Type::Complex(complex) => complex.name.as_ref(),
        };
        let of_value = || match value {
            Value::Bool(_) => Some(QName::new(Some(XSD), "boolean")),
            Value::Number(number) if number.to_i64().is_some() => Some(QName::new(Some(XSD), "long")),
            Value::Number(_) => Some(QName::new(Some(XSD), "decimal")),
            Value::Text(_) => Some(QName::new(Some(XSD), "string")),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        };
        let name = if ty == ANY_TYPE { of_value() } else { name.cloned() };
        if let Some(name) = name {
            element.attributes.push(xsi("type", &name.to_string()));
        }
    }

    fn text(&mut self, ty: TypeId, value: &Value, element: &mut Element) {
        match simple::write(self.schemas, ty, value) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => element.children.push(Node::Text(text)),
            Err(error) => self.findings.tell(error),
        }
    }

    fn complex(&mut self, complex: &Complex, value: &Value, element: &mut Element) {
        if complex.is_abstract {
            self.findings.tell(format!("is of an abstract type; say which by `{TYPE_KEY}`"));
        }
        match &complex.content {
            Content::Anything => return self.anything(value, element),
            Content::Array { item, dimensions } => return self.array(*item, *dimensions, value, element),
            Content::Simple(ty) => {
                if let Value::Map(map) = value {
                    self.attributes(complex, map, element);
                    if let Some(key) = map.keys().find(|key| !key.starts_with('@') && *key != TEXT_KEY) {
                        self.findings.within(key.as_str(), |findings| {
                            findings.tell("is not foreseen here: the element holds text")
                        });
                    }
                    let empty = Value::from("");
                    return self.text(*ty, map.get(TEXT_KEY).unwrap_or(&empty), element);
                }
                self.attributes(complex, &Map::new(), element);
                return self.text(*ty, value, element);
            }
            Content::Empty | Content::Children(_) => {}
        }
        let none = Map::new();
        let map = match value {
            Value::Map(map) => map,
            // An element without content is also written as empty text.
            Value::Text(text) if text.is_empty() => &none,
            Value::Text(text) if complex.mixed => {
                element.children.push(Node::Text(text.clone()));
                &none
            }
            other => return self.findings.tell(format!("is {} where an object is due", other.kind())),
        };
        self.attributes(complex, map, element);
        if let Some(text) = map.get(TEXT_KEY) {
            match text.to_plain_text().filter(|_| complex.mixed) {
                Some(text) => element.children.push(Node::Text(text)),
                None => self
                    .findings
                    .within(TEXT_KEY, |findings| findings.tell("is not foreseen here: the element holds no text")),
            }
        }
        let whole = map.iter().filter(|(key, value)| matches!(value, Value::List(_)) && self.is_whole(complex, key));
        let whole = whole.map(|(key, _)| key.as_str()).collect();
        let mut left = Left { map, whole, written: vec![0; map.len()] };
        if let Content::Children(particle) = &complex.content {
            self.particle(complex, particle, &mut left, element);
        }
        self.leftovers(complex, &left);
    }

    /// Whether a list under this key is one value and not several elements.
    fn is_whole(&self, complex: &Complex, key: &str) -> bool {
        let field = complex.fields.iter().find(|(name, _)| *name.local == *key).map(|(_, field)| field);
        field.is_some_and(|field| {
            let ty = self.schemas.element(field.element).ty;
            !field.list && (self.schemas.takes_list(ty) || (self.encoded && ty == ANY_TYPE))
        })
    }

    fn particle(&mut self, complex: &Complex, particle: &Particle, left: &mut Left<'_>, element: &mut Element) {
        match &particle.term {
            Term::Element(id) => self.elements(*id, particle, left, element),
            Term::Sequence(inner) | Term::All(inner) => {
                let mut done = 0;
                while done < particle.max
                    && (done < particle.min || inner.iter().any(|inner| self.has(inner, complex, left)))
                {
                    let before = element.children.len();
                    for inner in inner {
                        self.particle(complex, inner, left, element);
                    }
                    done += 1;
                    if element.children.len() == before {
                        break;
                    }
                }
            }
            Term::Choice(branches) => {
                let mut done = 0;
                while done < particle.max {
                    // The branch that has most of what is there: branches may begin alike.
                    let best =
                        branches.iter().map(|branch| (self.weight(branch, complex, left), branch)).max_by(|a, b| {
                            // The first of equals.
                            a.0.cmp(&b.0).then(std::cmp::Ordering::Greater)
                        });
                    match best {
                        Some((weight, branch)) if weight > 0 => {
                            let before = element.children.len();
                            let once = Particle { min: branch.min.max(1), ..branch.clone() };
                            self.particle(complex, &once, left, element);
                            if element.children.len() == before {
                                break;
                            }
                        }
                        _ => break,
                    }
                    done += 1;
                }
                if done < particle.min.min(1) && !branches.iter().any(|branch| self.may_be_empty(branch)) {
                    let names: Vec<_> = branches.iter().filter_map(|branch| self.first_name(branch)).collect();
                    self.findings.tell(format!("needs one of {}", names.join(", ")));
                }
            }
            Term::Any => self.undeclared(complex, left, element),
        }
    }

    /// As many of an element as the particle takes.
    fn elements(&mut self, id: ElementId, particle: &Particle, left: &mut Left<'_>, element: &mut Element) {
        let mut room = particle.max as usize;
        let mut done = 0;
        for candidate in self.candidates(id) {
            let declared = self.schemas.element(candidate);
            let key = Name::from(&*declared.name.local);
            let items = left.items(&key);
            let count = items.len().min(room);
            let is_list = matches!(left.map.get(&key), Some(Value::List(_))) && !left.whole.contains(&key.as_str());
            let first = left.written(&key);
            for (index, item) in items[..count].iter().enumerate() {
                // Null of what may be left out and cannot be nil: left out.
                if item == &Value::Null && !declared.nillable && particle.min == 0 && declared.ty != ANY_TYPE {
                    continue;
                }
                let mut child = Element { name: declared.name.clone(), attributes: Vec::new(), children: Vec::new() };
                self.findings.path.push(key.clone());
                if is_list {
                    self.findings.path.push((first + index).to_string().into());
                }
                self.content(candidate, item, &mut child);
                if is_list {
                    self.findings.path.pop();
                }
                self.findings.path.pop();
                element.children.push(Node::Element(child));
            }
            left.take(&key, count);
            room -= count;
            done += count;
        }
        if done < particle.min as usize {
            self.absent(id, element);
        }
    }

    /// An element that the schema demands and the value does not have.
    fn absent(&mut self, id: ElementId, element: &mut Element) {
        let declared = self.schemas.element(id);
        let mut child = Element { name: declared.name.clone(), attributes: Vec::new(), children: Vec::new() };
        match &declared.default {
            Some(default) => child.children.push(Node::Text(default.to_string())),
            None if declared.nillable => child.attributes.push(xsi("nil", "true")),
            None => {
                return self.findings.within(&*declared.name.local, |findings| findings.tell("is missing"));
            }
        }
        element.children.push(Node::Element(child));
    }

    /// An element and those that may stand in for it.
    fn candidates(&self, id: ElementId) -> impl Iterator<Item = ElementId> + use<'a> {
        let schemas = self.schemas;
        let declared = schemas.element(id);
        let own = std::iter::once(id).filter(|_| !declared.is_abstract);
        own.chain(schemas.stand_ins(id).iter().copied().filter(|member| !schemas.element(*member).is_abstract))
    }

    fn has(&self, particle: &Particle, complex: &Complex, left: &Left<'_>) -> bool {
        self.weight(particle, complex, left) > 0
    }

    /// How many of the names in a particle have something left.
    fn weight(&self, particle: &Particle, complex: &Complex, left: &Left<'_>) -> usize {
        match &particle.term {
            Term::Element(id) => {
                let left = |id: &ElementId| !left.items(&self.schemas.element(*id).name.local).is_empty();
                usize::from(self.candidates(*id).any(|id| left(&id)))
            }
            Term::Sequence(inner) | Term::Choice(inner) | Term::All(inner) => {
                inner.iter().map(|inner| self.weight(inner, complex, left)).sum()
            }
            Term::Any => usize::from(undeclared(complex, left).next().is_some()),
        }
    }

    fn may_be_empty(&self, particle: &Particle) -> bool {
        particle.min == 0
            || match &particle.term {
                Term::Element(_) => false,
                Term::Sequence(inner) | Term::All(inner) => inner.iter().all(|inner| self.may_be_empty(inner)),
                Term::Choice(inner) => inner.is_empty() || inner.iter().any(|inner| self.may_be_empty(inner)),
                Term::Any => true,
            }
    }

    fn first_name(&self, particle: &Particle) -> Option<String> {
        match &particle.term {
            Term::Element(id) => Some(format!("`{}`", self.schemas.element(*id).name.local)),
            Term::Sequence(inner) | Term::Choice(inner) | Term::All(inner) => {
                inner.iter().find_map(|inner| self.first_name(inner))
            }
            Term::Any => None,
        }
    }

    /// What no schema declares, where anything may stand.
    fn undeclared(&mut self, complex: &Complex, left: &mut Left<'_>, element: &mut Element) {
        let keys: Vec<String> = undeclared(complex, left).map(str::to_owned).collect();
        for key in keys {
            let items = left.items(&key);
            for item in items {
                self.findings.path.push(key.as_str().into());
                let child = match self.schemas.only_global(&key) {
                    Some(id) => {
                        let name = self.schemas.element(id).name.clone();
                        let mut child = Element { name, attributes: Vec::new(), children: Vec::new() };
                        self.content(id, item, &mut child);
                        Some(child)
                    }
                    None => Element::from_value(&key, None, item).map_err(|error| self.findings.tell(error)).ok(),
                };
                self.findings.path.pop();
                element.children.extend(child.map(Node::Element));
            }
            left.take(&key, items.len());
        }
    }

    fn leftovers(&mut self, complex: &Complex, left: &Left<'_>) {
        for (key, value) in left.map {
            if key.starts_with('@') || key == TEXT_KEY || left.items(key).is_empty() {
                continue;
            }
            let known = complex.fields.keys().any(|name| *name.local == **key);
            let text = match value {
                Value::List(items) if known => {
                    format!("has {} items; the schema takes {} here", items.len(), items.len() - left.items(key).len())
                }
                _ if known => "cannot stand beside the others here: the schema has a choice".to_owned(),
                _ => {
                    let near = closest(key, complex.fields.keys().map(|name| &*name.local));
                    let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    format!("is not foreseen here{help}")
                }
            };
            self.findings.within(key.as_str(), |findings| findings.tell(text));
        }
    }

    fn attributes(&mut self, complex: &Complex, map: &Map, element: &mut Element) {
        for declared in &complex.attributes {
            let key = format!("@{}", declared.name.local);
            let value = map.get(&key).filter(|value| **value != Value::Null);
            let text = match (value, &declared.fixed) {
                (Some(value), _) => match simple::write(self.schemas, declared.ty, value) {
                    Ok(text) => text,
                    Err(error) => {
                        self.findings.within(key, |findings| findings.tell(error));
                        continue;
                    }
                },
                (None, Some(fixed)) if declared.required => fixed.to_string(),
                (None, _) if declared.required => {
                    self.findings.within(key, |findings| findings.tell("is missing"));
                    continue;
                }
                (None, _) => continue,
            };
            element.attributes.push(Attribute { name: declared.name.clone(), value: text });
        }
        for (key, value) in map {
            let Some(local) = key.strip_prefix('@').filter(|_| key != TYPE_KEY) else { continue };
            if complex.attributes.iter().any(|declared| *declared.name.local == *local) {
                continue;
            }
            match value.to_plain_text().filter(|_| complex.any_attribute && gatehouse_core::xml::is_name(local)) {
                Some(text) => element.attributes.push(Attribute { name: QName::new(None, local), value: text }),
                None => self.findings.within(key.as_str(), |findings| findings.tell("is not foreseen here")),
            }
        }
    }

    /// A value whose type the schema leaves open, as the mapping's own words have it.
    fn anything(&mut self, value: &Value, element: &mut Element) {
        match value {
            Value::List(_) if self.encoded => return self.array(ANY_TYPE, 1, value, element),
            Value::Map(map) if self.encoded && !map.keys().any(|key| key.starts_with(['@', '#'])) => {
                for (key, value) in map {
                    let mut child = Element::new(None, key);
                    self.findings.path.push(key.clone());
                    match value {
                        _ if !gatehouse_core::xml::is_name(key) => self.findings.tell("is no XML name"),
                        Value::Null => child.attributes.push(xsi("nil", "true")),
                        value => self.typed(ANY_TYPE, value, &mut child),
                    }
                    self.findings.path.pop();
                    element.children.push(Node::Element(child));
                }
                return;
            }
            _ => {}
        }
        match Element::from_value_in(&element.name, None, value) {
            Ok(written) => {
                element.attributes.extend(written.attributes);
                element.children.extend(written.children);
            }
            Err(error) => self.findings.tell(error),
        }
    }

    /// `arrayType="xsd:string[2]"`, and an `item` for each (SOAP 1.1 §5.4.2).
    fn array(&mut self, item: TypeId, dimensions: u8, value: &Value, element: &mut Element) {
        let one;
        let items = match value {
            Value::List(items) => items.as_slice(),
            Value::Text(text) if text.is_empty() => &[],
            other => {
                one = [other.clone()];
                &one
            }
        };
        let name = match self.schemas.ty(item) {
            Type::Simple(simple) => simple.name.clone(),
            Type::Complex(complex) => complex.name.clone(),
        };
        let name = name.unwrap_or_else(|| QName::new(Some(XSD), "anyType"));
        element.attributes.retain(|attribute| !attribute.name.is(Some(XSI), "type"));
        let inner = "[]".repeat(usize::from(dimensions.saturating_sub(1)));
        if self.encoded {
            element.attributes.push(xsi("type", &QName::new(Some(SOAP_ENC), "Array").to_string()));
        }
        let array_type = Attribute {
            name: QName::new(Some(SOAP_ENC), "arrayType"),
            value: format!("{name}{inner}[{}]", items.len()),
        };
        element.attributes.push(array_type);
        for (index, value) in items.iter().enumerate() {
            self.findings.path.push(index.to_string().into());
            let mut child = Element::new(None, "item");
            match value {
                Value::Null => child.attributes.push(xsi("nil", "true")),
                value if dimensions > 1 => self.array(item, dimensions - 1, value, &mut child),
                value => self.typed(item, value, &mut child),
            }
            self.findings.path.pop();
            element.children.push(Node::Element(child));
        }
    }
}

/// The keys with something left that no field of the type has.
fn undeclared<'v>(complex: &Complex, left: &Left<'v>) -> impl Iterator<Item = &'v str> {
    left.map.keys().map(Name::as_str).filter(|key| {
        !key.starts_with('@')
            && *key != TEXT_KEY
            && !left.items(key).is_empty()
            && !complex.fields.keys().any(|name| *name.local == **key)
    })
}

fn xsi(local: &str, value: &str) -> Attribute {
    Attribute { name: QName::new(Some(XSI), local), value: value.to_owned() }
}
