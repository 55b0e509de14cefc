//! What follows from a model once it is read: the members of substitution groups, and the flat list of a type's fields.

use gatehouse_core::xml::QName;
use indexmap::IndexMap;
use indexmap::map::Entry;

use super::model::{ANY_TYPE, Complex, Content, ElementDecl, ElementId, Field, Particle, Schemas, Term, Type, TypeId};

impl Schemas {
    /// Finds who may stand in for whom. A member of a member stands in too (Part 1 §3.3.6).
    pub(super) fn substitutions(&mut self) {
        let heads: Vec<_> =
            self.global_elements.values().filter_map(|id| Some((*id, self.element(*id).head.clone()?))).collect();
        for (member, first) in &heads {
            let mut head = Some(first.clone());
            // No chain is longer than there are members.
            for _ in 0..heads.len() {
                let Some(name) = head else { break };
                let members = self.substitutes.entry(name.clone()).or_default();
                if !members.contains(member) {
                    members.push(*member);
                }
                head = self.global(&name).and_then(|id| self.element(id).head.clone());
            }
        }
        for members in self.substitutes.values_mut() {
            members.sort_by_key(|id| id.0);
        }
    }

    /// Fills the fields of every complex type.
    pub(super) fn flatten(&mut self) {
        for index in 0..self.types.len() {
            let Type::Complex(Complex { content: Content::Children(particle), .. }) = &self.types[index] else {
                continue;
            };
            let mut flat = Flat { schemas: self, fields: IndexMap::new(), any: false };
            flat.walk(particle, false, false);
            let (fields, any) = (flat.fields, flat.any);
            if let Type::Complex(complex) = &mut self.types[index] {
                (complex.fields, complex.any) = (fields, any);
            }
        }
    }

    /// Adds an element that no schema declares.
    pub(crate) fn add(&mut self, declared: ElementDecl) -> ElementId {
        self.elements.push(declared);
        ElementId(self.elements.len() as u32 - 1)
    }

    /// Adds an element whose children are the parts of a message: the wrapper of rpc (WSDL 1.1 §3.5).
    pub(crate) fn add_wrapper(&mut self, name: QName, parts: Vec<(ElementDecl, bool)>) -> ElementId {
        let particles = parts.into_iter().map(|(part, required)| {
            let id = self.add(part);
            Particle { min: u32::from(required), max: 1, term: Term::Element(id) }
        });
        let particle = Particle { min: 1, max: 1, term: Term::Sequence(particles.collect()) };
        let mut flat = Flat { schemas: self, fields: IndexMap::new(), any: false };
        flat.walk(&particle, false, false);
        let fields = flat.fields;
        let complex = Complex {
            name: None,
            base: None,
            is_abstract: false,
            mixed: false,
            content: Content::Children(particle),
            attributes: Vec::new(),
            any_attribute: true,
            fields,
            any: false,
        };
        self.types.push(Type::Complex(complex));
        let ty = TypeId(self.types.len() as u32 - 1);
        self.add(ElementDecl { ty, ..ElementDecl::anything(name) })
    }
}

impl ElementDecl {
    /// An element that may hold anything.
    pub(crate) fn anything(name: QName) -> Self {
        let (ty, doc, head, default) = (ANY_TYPE, None, None, None);
        Self { name, ty, nillable: false, is_abstract: false, default, fixed: false, doc, head }
    }
}

impl Content {
    /// Whether it says anything of what is in it.
    pub(super) fn is_typed(&self) -> bool {
        !matches!(self, Self::Anything)
    }
}

impl Particle {
    /// The element, where there is only one.
    pub(super) fn only_element(&self) -> Option<ElementId> {
        match &self.term {
            Term::Element(element) => Some(*element),
            Term::Sequence(inner) | Term::Choice(inner) | Term::All(inner) => match inner.as_slice() {
                [only] => only.only_element(),
                _ => None,
            },
            Term::Any => None,
        }
    }
}

struct Flat<'a> {
    schemas: &'a Schemas,
    fields: IndexMap<QName, Field>,
    any: bool,
}

impl Flat<'_> {
    /// `repeated`: a particle around this one may come again; `optional`: it may be left out, or another chosen.
    fn walk(&mut self, particle: &Particle, repeated: bool, optional: bool) {
        let repeated = repeated || particle.max > 1;
        let optional = optional || particle.min == 0;
        match &particle.term {
            Term::Element(id) => self.element(*id, repeated, optional),
            Term::Sequence(inner) | Term::All(inner) => {
                inner.iter().for_each(|inner| self.walk(inner, repeated, optional));
            }
            Term::Choice(inner) => self.choice(inner, repeated, optional || inner.len() > 1),
            Term::Any => self.any = true,
        }
    }

    /// Only one branch is taken, so a name that stands in two of them comes no oftener for that.
    fn choice(&mut self, branches: &[Particle], repeated: bool, optional: bool) {
        let mut all = IndexMap::<QName, Field>::new();
        for branch in branches {
            let mut flat = Flat { schemas: self.schemas, fields: IndexMap::new(), any: false };
            flat.walk(branch, repeated, optional);
            self.any |= flat.any;
            for (name, field) in flat.fields {
                all.entry(name).and_modify(|known| known.list |= field.list).or_insert(field);
            }
        }
        all.into_values().for_each(|field| self.add(field));
    }

    fn element(&mut self, id: ElementId, list: bool, optional: bool) {
        let declared = self.schemas.element(id);
        let members = self.schemas.substitutes.get(&declared.name);
        let replaceable =
            members.is_some_and(|members| !members.is_empty()) && self.schemas.global(&declared.name) == Some(id);
        let required = !optional && !replaceable;
        if !declared.is_abstract {
            self.add(Field { element: id, list, required, substitutes: None });
        }
        for member in members.filter(|_| replaceable).into_iter().flatten() {
            if !self.schemas.element(*member).is_abstract {
                self.add(Field { element: *member, list, required: false, substitutes: Some(id) });
            }
        }
    }

    fn add(&mut self, field: Field) {
        match self.fields.entry(self.schemas.element(field.element).name.clone()) {
            Entry::Vacant(free) => {
                free.insert(field);
            }
            // The same name in two places of one type: it may come as often as both say.
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.list = true;
                known.required |= field.required;
            }
        }
    }
}
