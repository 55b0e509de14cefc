//! What a set of schemas says, resolved: elements, types, particles, by index. Built by [`super::read`], never changed after.

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_core::xml::QName;
use indexmap::IndexMap;

use super::builtin::{self, Kind};
use super::facets::Facets;

/// An element of [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ElementId(pub(super) u32);

/// A type of [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TypeId(pub(super) u32);

/// `xsd:anyType`.
pub(crate) const ANY_TYPE: TypeId = TypeId(builtin::BUILTINS.len() as u32);

/// Everything that some schema documents define.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    pub(super) elements: Vec<ElementDecl>,
    pub(super) types: Vec<Type>,
    /// Global elements by name.
    pub(super) global_elements: HashMap<QName, ElementId>,
    /// Global types by name.
    pub(super) global_types: HashMap<QName, TypeId>,
    /// The members of a substitution group, the head not among them, by the head; members of members too.
    pub(super) substitutes: HashMap<QName, Vec<ElementId>>,
}

/// An element declaration.
#[derive(Clone, Debug)]
pub(crate) struct ElementDecl {
    /// Its name; in no namespace where the form is unqualified.
    pub(crate) name: QName,
    pub(crate) ty: TypeId,
    pub(crate) nillable: bool,
    /// Only members of its substitution group may stand in a document.
    pub(crate) is_abstract: bool,
    /// The text that an empty element means, or must have.
    pub(crate) default: Option<Arc<str>>,
    pub(crate) fixed: bool,
    /// The first words of its documentation.
    pub(crate) doc: Option<Arc<str>>,
    /// The head of its substitution group.
    pub(crate) head: Option<QName>,
}

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    Simple(Simple),
    Complex(Complex),
}

/// A simple type.
#[derive(Clone, Debug)]
pub(crate) struct Simple {
    pub(crate) name: Option<QName>,
    pub(crate) variety: Variety,
    pub(crate) facets: Facets,
}

/// What a simple type is made of.
#[derive(Clone, Debug)]
pub(crate) enum Variety {
    Atomic(Kind),
    /// Items between white space.
    List(TypeId),
    /// The first member that fits.
    Union(Vec<TypeId>),
}

/// A complex type.
#[derive(Clone, Debug)]
pub(crate) struct Complex {
    pub(crate) name: Option<QName>,
    pub(crate) base: Option<TypeId>,
    pub(crate) is_abstract: bool,
    pub(crate) mixed: bool,
    pub(crate) content: Content,
    pub(crate) attributes: Vec<AttributeUse>,
    /// Attributes that are not declared may come too.
    pub(crate) any_attribute: bool,
    /// The elements that may stand in it, by name: what [`Content::Children`] says, flat.
    pub(crate) fields: IndexMap<QName, Field>,
    /// Whether elements that are not declared may come too.
    pub(crate) any: bool,
}

/// What is in a complex type.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Empty,
    /// Text of a simple type.
    Simple(TypeId),
    Children(Particle),
    /// An array of the SOAP encoding: items of a type, in one dimension or more.
    Array {
        item: TypeId,
        dimensions: u8,
    },
    /// Anything at all (`anyType`).
    Anything,
}

/// An attribute that a complex type has.
#[derive(Clone, Debug)]
pub(crate) struct AttributeUse {
    pub(crate) name: QName,
    pub(crate) ty: TypeId,
    pub(crate) required: bool,
    pub(crate) fixed: Option<Arc<str>>,
}

/// How often something may come.
#[derive(Clone, Debug)]
pub(crate) struct Particle {
    pub(crate) min: u32,
    /// `u32::MAX` is unbounded.
    pub(crate) max: u32,
    pub(crate) term: Term,
}

/// What may come.
#[derive(Clone, Debug)]
pub(crate) enum Term {
    Element(ElementId),
    Sequence(Vec<Particle>),
    Choice(Vec<Particle>),
    All(Vec<Particle>),
    /// Elements that are not declared here.
    Any,
}

/// An element of a complex type, whichever particle it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) element: ElementId,
    /// It may come more than once, so it is always a list.
    pub(crate) list: bool,
    /// Every valid document has it.
    pub(crate) required: bool,
    /// It stands in for this one, whose key in a value it does not share.
    pub(crate) substitutes: Option<ElementId>,
}

impl TypeId {
    /// A number of its own, for names that must differ.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

impl Schemas {
    /// Whether another type derives from this one.
    pub(crate) fn has_derived(&self, complex: &Complex) -> bool {
        let Some(id) = complex.name.as_ref().and_then(|name| self.global_types.get(name)) else { return false };
        self.types.iter().any(|ty| matches!(ty, Type::Complex(other) if other.base == Some(*id)))
    }

    /// The named types that derive from this one, at one remove or more.
    #[cfg(test)]
    pub(crate) fn derived_from(&self, base: TypeId) -> Vec<(QName, TypeId)> {
        let mut found: Vec<_> = self.global_types.iter().map(|(name, id)| (name.clone(), *id)).collect();
        found.retain(|(_, id)| {
            *id != base && base != ANY_TYPE && self.complex(*id).is_some() && self.derives(*id, base)
        });
        // The same each time, whatever the map's order.
        found.sort_by_key(|(_, id)| id.0);
        found
    }

    pub(crate) fn element(&self, id: ElementId) -> &ElementDecl {
        &self.elements[id.0 as usize]
    }

    pub(crate) fn ty(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    pub(crate) fn complex(&self, id: TypeId) -> Option<&Complex> {
        match self.ty(id) {
            Type::Complex(complex) => Some(complex),
            Type::Simple(_) => None,
        }
    }

    /// A global element.
    pub(crate) fn global(&self, name: &QName) -> Option<ElementId> {
        self.global_elements.get(name).copied()
    }

    /// Whether a type is an array of the SOAP encoding.
    pub(crate) fn is_array(&self, id: TypeId) -> bool {
        self.complex(id).is_some_and(|complex| matches!(complex.content, Content::Array { .. }))
    }

    /// Whether one value of a type is a list.
    pub(crate) fn takes_list(&self, id: TypeId) -> bool {
        let of_words = matches!(self.ty(id), Type::Simple(Simple { variety: Variety::List(_), .. }));
        of_words || self.is_array(id)
    }

    /// The global element of this local name, where there is only one.
    pub(crate) fn only_global(&self, local: &str) -> Option<ElementId> {
        let mut found = self.global_elements.iter().filter(|(name, _)| &*name.local == local);
        let first = found.next()?;
        found.next().is_none().then_some(*first.1)
    }

    /// A type by name: global, built in, or built in by the name that the SOAP encoding gives it.
    pub(crate) fn named_type(&self, name: &QName) -> Option<TypeId> {
        self.global_types.get(name).copied().or_else(|| builtin_type(name))
    }

    /// The global types of this local name, and the built-in one.
    pub(crate) fn types_called(&self, local: &str) -> impl Iterator<Item = TypeId> {
        let global = self.global_types.iter().filter(move |(name, _)| &*name.local == local).map(|(_, id)| *id);
        let built_in = builtin_type(&QName::new(Some(builtin::XSD), local));
        global.chain(built_in)
    }

    /// The members of the substitution group of an element.
    pub(crate) fn members(&self, head: &QName) -> &[ElementId] {
        self.substitutes.get(head).map_or(&[], Vec::as_slice)
    }

    /// Who may stand in for an element; abstract ones too.
    pub(crate) fn stand_ins(&self, id: ElementId) -> &[ElementId] {
        let name = &self.element(id).name;
        // Most schemas have no such groups, and only a global element has one.
        if self.substitutes.is_empty() || self.global(name) != Some(id) { &[] } else { self.members(name) }
    }

    /// Whether a type is another or derives from it.
    pub(crate) fn derives(&self, from: TypeId, base: TypeId) -> bool {
        let mut at = Some(from);
        // A chain of bases is no longer than there are types.
        for _ in 0..self.types.len() {
            match at {
                Some(id) if id == base => return true,
                Some(id) => at = self.complex(id).and_then(|complex| complex.base),
                None => break,
            }
        }
        base == ANY_TYPE || matches!((self.ty(from), self.ty(base)), (Type::Simple(_), Type::Simple(_)))
    }

    /// The name of a type, for people: `int`, `Address`, `(anonymous)`.
    pub(crate) fn type_name(&self, id: TypeId) -> &str {
        let name = match self.ty(id) {
            Type::Simple(simple) => simple.name.as_ref(),
            Type::Complex(complex) => complex.name.as_ref(),
        };
        name.map_or("(anonymous)", |name| &name.local)
    }

    /// How many elements and types there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.global_elements.len(), self.global_types.len())
    }
}

/// The built-in type of a name in the namespace of XML Schema or of a SOAP encoding.
pub(crate) fn builtin_type(name: &QName) -> Option<TypeId> {
    use gatehouse_core::xml::{SOAP_ENC, SOAP12_ENC};
    let namespace = name.namespace.as_deref()?;
    if namespace != builtin::XSD && namespace != SOAP_ENC && namespace != SOAP12_ENC {
        return None;
    }
    if namespace == builtin::XSD && matches!(&*name.local, "anyType" | "ur-type") {
        return Some(ANY_TYPE);
    }
    builtin::find(&name.local).map(|index| TypeId(index as u32))
}
