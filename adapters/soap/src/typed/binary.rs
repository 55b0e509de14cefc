//! Where an element that a schema describes holds bytes: its `base64Binary` elements, whatever type they say they have.

use gatehouse_core::xml::{Element, Node, QName, XSI};

use super::read::clark;
use crate::xsd::{Content, ElementId, Kind, Schemas, Simple, Type, TypeId, Variety};

/// The type of an element whose text refers to an attachment (WS-I Attachments Profile 1.0 §4.4).
const SWA_REF: (&str, &str) = ("http://ws-i.org/profiles/basic/1.1/xsd", "swaRef");

/// Hands over every element in `element`, which is declared as `id`, that holds bytes.
pub(crate) fn each_binary(
    schemas: &Schemas,
    id: ElementId,
    element: &mut Element,
    found: &mut dyn FnMut(&mut Element),
) {
    Walk { schemas, found }.typed(schemas.element(id).ty, element);
}

struct Walk<'a> {
    schemas: &'a Schemas,
    found: &'a mut dyn FnMut(&mut Element),
}

impl Walk<'_> {
    fn typed(&mut self, declared: TypeId, element: &mut Element) {
        let ty = said(element).and_then(|name| self.schemas.named_type(&name)).unwrap_or(declared);
        let schemas = self.schemas;
        match schemas.ty(ty) {
            Type::Simple(simple) => self.simple(simple, element),
            Type::Complex(complex) => match &complex.content {
                Content::Simple(inner) => {
                    if let Type::Simple(simple) = schemas.ty(*inner) {
                        self.simple(simple, element);
                    }
                }
                Content::Array { item, dimensions } => self.items(*item, *dimensions, element),
                Content::Children(_) => {
                    for child in children(element) {
                        let field = complex.fields.get(&child.name).map(|field| field.element);
                        if let Some(id) = field.or_else(|| schemas.global(&child.name)) {
                            self.typed(schemas.element(id).ty, child);
                        }
                    }
                }
                Content::Empty | Content::Anything => {}
            },
        }
    }

    fn items(&mut self, item: TypeId, dimensions: u8, element: &mut Element) {
        for child in children(element) {
            if dimensions > 1 {
                self.items(item, dimensions - 1, child);
            } else {
                self.typed(item, child);
            }
        }
    }

    fn simple(&mut self, simple: &Simple, element: &mut Element) {
        let refers = simple.name.as_ref().is_some_and(|name| name.is(Some(SWA_REF.0), SWA_REF.1));
        if refers || matches!(simple.variety, Variety::Atomic(Kind::Base64)) {
            (self.found)(element);
        }
    }
}

/// The type that an element says.
fn said(element: &Element) -> Option<QName> {
    element.attribute(Some(XSI), "type").and_then(clark)
}

fn children(element: &mut Element) -> impl Iterator<Item = &mut Element> {
    element.children.iter_mut().filter_map(|node| match node {
        Node::Element(child) => Some(child),
        Node::Text(_) => None,
    })
}
