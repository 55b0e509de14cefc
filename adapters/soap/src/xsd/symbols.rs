//! The global names of some schema documents, each with the node that defines it; and names in attributes, resolved.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gatehouse_core::diagnostics::{Problem, SourceFile};
use gatehouse_core::xml::QName;
use roxmltree::{Document, Node};

use super::builtin::XSD;
use crate::wsdl::documents::{Documents, Import};

/// A `schema` element, and how it is read.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    /// The file that it stands in.
    pub(super) file: usize,
    /// Its own target namespace; that of the schema that includes it where it has none.
    pub(super) target: Option<Arc<str>>,
    pub(super) elements_qualified: bool,
    pub(super) attributes_qualified: bool,
}

/// Where a global name is defined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) schema: usize,
    pub(super) node: Node<'a, 'a>,
}

/// The global names.
#[derive(Debug, Default)]
pub(super) struct Symbols<'a> {
    pub(super) schemas: Vec<Schema>,
    pub(super) elements: HashMap<QName, Place<'a>>,
    pub(super) types: HashMap<QName, Place<'a>>,
    pub(super) attributes: HashMap<QName, Place<'a>>,
    pub(super) groups: HashMap<QName, Place<'a>>,
    pub(super) attribute_groups: HashMap<QName, Place<'a>>,
    /// In the order of the documents, so that what is built is the same each time.
    pub(super) order: Vec<(QName, Place<'a>)>,
    seen: HashSet<(usize, u32, Option<Arc<str>>)>,
    /// What `redefine` puts another definition before: the definitions behind the one that counts, the nearest first.
    redefined: HashMap<(Kind, QName), Vec<Place<'a>>>,
}

/// A space of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Element,
    Type,
    Attribute,
    Group,
    AttributeGroup,
}

impl Kind {
    fn of(node: Node<'_, '_>) -> Option<Self> {
        Some(match node.tag_name().name() {
            "element" => Self::Element,
            "simpleType" | "complexType" => Self::Type,
            "attribute" => Self::Attribute,
            "group" => Self::Group,
            "attributeGroup" => Self::AttributeGroup,
            _ => return None,
        })
    }
}

impl<'a> Symbols<'a> {
    /// Takes up a `schema` element, and all that it includes and imports.
    pub(super) fn add(
        &mut self,
        file: usize,
        node: Node<'a, 'a>,
        including: Option<Arc<str>>,
        documents: &Documents,
        parsed: &'a [Option<Document<'a>>],
    ) {
        let target = node.attribute("targetNamespace").filter(|uri| !uri.is_empty()).map(Arc::from).or(including);
        if !self.seen.insert((file, node.id().get(), target.clone())) {
            return;
        }
        let qualified = |name: &str| node.attribute(name) == Some("qualified");
        self.schemas.push(Schema {
            file,
            target: target.clone(),
            elements_qualified: qualified("elementFormDefault"),
            attributes_qualified: qualified("attributeFormDefault"),
        });
        let schema = self.schemas.len() - 1;
        for child in node.children().filter(Node::is_element) {
            if let Some(import) = Import::of(child) {
                if child.tag_name().name() == "redefine" {
                    child.children().for_each(|inner| self.redefine(schema, inner, target.as_deref()));
                }
                let root = documents.target(file, &import).and_then(|index| Some((index, parsed[index].as_ref()?)));
                if let Some((index, document)) = root {
                    let root = document.root_element();
                    let include = child.tag_name().name() != "import";
                    if root.tag_name().namespace() == Some(XSD) && root.tag_name().name() == "schema" {
                        self.add(index, root, target.clone().filter(|_| include), documents, parsed);
                    }
                }
                continue;
            }
            self.define(schema, child, target.as_deref());
        }
    }

    fn space(&mut self, kind: Kind) -> &mut HashMap<QName, Place<'a>> {
        match kind {
            Kind::Element => &mut self.elements,
            Kind::Type => &mut self.types,
            Kind::Attribute => &mut self.attributes,
            Kind::Group => &mut self.groups,
            Kind::AttributeGroup => &mut self.attribute_groups,
        }
    }

    fn define(&mut self, schema: usize, node: Node<'a, 'a>, target: Option<&str>) {
        let (Some(XSD), Some(name)) = (node.tag_name().namespace(), node.attribute("name")) else { return };
        let Some(kind) = Kind::of(node) else { return };
        let name = QName::new(target, name.trim());
        let place = Place { schema, node };
        // The same schema may stand in several files; the first is taken.
        match self.space(kind).entry(name.clone()) {
            Entry::Vacant(free) => {
                free.insert(place);
                self.order.push((name, place));
            }
            Entry::Occupied(_) => {
                if let Some(behind) = self.redefined.get_mut(&(kind, name)) {
                    behind.push(place);
                }
            }
        }
    }

    /// Puts a definition in a `redefine` before what it redefines (Part 1 §4.2.2), which comes with the file that it names.
    fn redefine(&mut self, schema: usize, node: Node<'a, 'a>, target: Option<&str>) {
        let (Some(XSD), Some(name)) = (node.tag_name().namespace(), node.attribute("name")) else { return };
        let Some(kind) = Kind::of(node) else { return };
        let name = QName::new(target, name.trim());
        let place = Place { schema, node };
        let key = (kind, name.clone());
        if let Some(behind) = self.redefined.get_mut(&key) {
            // A redefinition of what is redefined further out.
            behind.push(place);
            return;
        }
        let before = self.space(kind).insert(name.clone(), place);
        self.redefined.insert(key, before.into_iter().collect());
        if before.is_none() {
            self.order.push((name, place));
        }
    }

    /// What a name means where it stands: within the redefinition of that name it is what is redefined.
    pub(super) fn find(&self, kind: Kind, place: Place<'a>, name: &QName) -> Option<Place<'a>> {
        let space = match kind {
            Kind::Element => &self.elements,
            Kind::Type => &self.types,
            Kind::Attribute => &self.attributes,
            Kind::Group => &self.groups,
            Kind::AttributeGroup => &self.attribute_groups,
        };
        let current = space.get(name).copied();
        if self.redefined.is_empty() {
            return current;
        }
        let Some(behind) = self.redefined.get(&(kind, name.clone())) else { return current };
        let chain: Vec<_> = current.into_iter().chain(behind.iter().copied()).collect();
        let within = place.node.ancestors().find_map(|node| chain.iter().position(|one| one.node == node));
        // What has nothing behind it refers to itself, which is told as for any other.
        within.and_then(|index| chain.get(index + 1)).copied().or(current)
    }
}

/// A qualified name in an attribute or in text, by the prefixes that are in scope at `node`. `None` where its prefix is not.
pub(crate) fn qname(node: Node<'_, '_>, text: &str) -> Option<QName> {
    let text = text.trim();
    match text.split_once(':') {
        Some(("xml", local)) => Some(QName::new(Some(gatehouse_core::xml::XML), local)),
        Some((prefix, local)) => Some(QName::new(Some(node.lookup_namespace_uri(Some(prefix))?), local)),
        None => Some(QName::new(node.lookup_namespace_uri(None), text)),
    }
}

/// A problem at the start tag of a node.
pub(crate) fn problem(
    code: &'static str,
    file: &SourceFile,
    node: Node<'_, '_>,
    message: impl Into<String>,
) -> Problem {
    let range = node.range();
    let tag = file.text()[range.clone()].find('>').map_or(range.end, |end| range.start + end + 1);
    Problem::error(code, file, range.start..tag, message)
}
