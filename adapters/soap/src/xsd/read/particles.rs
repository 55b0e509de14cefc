//! What stands in a complex type: sequences, choices, groups, and the elements in them.

use gatehouse_core::xml::QName;

use super::{MAX_GROUPS, MAX_PARTICLES, Place, Reader, Space, is};
use crate::xsd::builtin::XSD;
use crate::xsd::model::{Content, ElementDecl, ElementId, Particle, Term};

impl<'a> Reader<'a> {
    /// The particle in a type, extension or restriction.
    pub(super) fn children(&mut self, place: Place<'a>) -> Content {
        let found = place
            .node
            .children()
            .find(|child| ["sequence", "choice", "all", "group"].iter().any(|name| is(*child, name)));
        let Some(node) = found else { return Content::Empty };
        match self.particle(Place { node, ..place }) {
            Some(particle) => Content::Children(particle),
            None => Content::Empty,
        }
    }

    pub(super) fn particle(&mut self, place: Place<'a>) -> Option<Particle> {
        let node = place.node;
        if node.tag_name().namespace() != Some(XSD) {
            return None;
        }
        self.particles += 1;
        if self.particles >= MAX_PARTICLES {
            // Told once.
            if self.particles == MAX_PARTICLES {
                self.tell(place, format!("the schemas unfold to more than {MAX_PARTICLES} particles"));
            }
            return None;
        }
        let count = |name: &str| match node.attribute(name).map(str::trim) {
            Some("unbounded") => u32::MAX,
            Some(text) => text.parse().unwrap_or(1),
            None => 1,
        };
        let (min, max) = (count("minOccurs"), count("maxOccurs"));
        let term = match node.tag_name().name() {
            "element" => Term::Element(self.element(place)?),
            "sequence" => Term::Sequence(self.particles(place)),
            "choice" => Term::Choice(self.particles(place)),
            "all" => Term::All(self.particles(place)),
            "any" => Term::Any,
            "group" => {
                let name = self.name(place, node.attribute("ref")?)?;
                let Some(group) = self.symbols.find(Space::Group, place, &name) else {
                    self.undefined("group", place, &name);
                    return None;
                };
                if self.groups >= MAX_GROUPS {
                    self.tell(place, "groups hold groups without end".to_owned());
                    return None;
                }
                self.groups += 1;
                let inner = group.node.children().find_map(|node| self.particle(Place { node, ..group }));
                self.groups -= 1;
                Term::Sequence(vec![inner?])
            }
            _ => return None,
        };
        (max > 0).then_some(Particle { min, max, term })
    }

    pub(super) fn particles(&mut self, place: Place<'a>) -> Vec<Particle> {
        place.node.children().filter_map(|node| self.particle(Place { node, ..place })).collect()
    }

    /// A local element, or the global one that it refers to.
    pub(super) fn element(&mut self, place: Place<'a>) -> Option<ElementId> {
        let node = place.node;
        if let Some(text) = node.attribute("ref") {
            let mut name = self.name(place, text)?;
            if !self.symbols.elements.contains_key(&name) && name.namespace.is_none() {
                name.namespace = self.symbols.schemas[place.schema].target.clone();
            }
            let found = self.global_element(&name);
            if found.is_none() && name.namespace.as_deref() == Some(XSD) {
                // What .NET writes for a DataSet: a schema, then anything.
                return Some(self.push(ElementDecl::anything(name)));
            }
            if found.is_none() {
                self.undefined("element", place, &name);
                return Some(self.push(ElementDecl::anything(name)));
            }
            return found;
        }
        let Some(local) = node.attribute("name") else {
            self.tell(place, "an element has a name or a ref".to_owned());
            return None;
        };
        let schema = &self.symbols.schemas[place.schema];
        let qualified = node.attribute("form").map_or(schema.elements_qualified, |form| form == "qualified");
        let name = QName::new(schema.target.as_deref().filter(|_| qualified), local.trim());
        let declared = self.declaration(name, place);
        Some(self.push(declared))
    }

    pub(super) fn push(&mut self, declared: ElementDecl) -> ElementId {
        self.out.elements.push(declared);
        ElementId(self.out.elements.len() as u32 - 1)
    }
}
