//! Simple types: restrictions with their facets, lists, unions; and text with attributes.

use std::sync::Arc;

use gatehouse_core::number::Number;
use roxmltree::Node;

use super::{Place, Reader, is};
use crate::xsd::builtin::{Kind, XSD};
use crate::xsd::facets::{self, Facets};
use crate::xsd::model::{Complex, Content, Simple, Type, TypeId, Variety};

impl<'a> Reader<'a> {
    pub(super) fn simple(&mut self, place: Place<'a>) -> Simple {
        let name = self.own_name(place);
        let mut simple = Simple { name, variety: Variety::Atomic(Kind::Text), facets: Facets::default() };
        let inner = |node: Node<'a, 'a>| node.children().filter(|child| is(*child, "simpleType"));
        for node in place.node.children() {
            let place = Place { node, ..place };
            if is(node, "restriction") {
                let base = match node.attribute("base") {
                    Some(base) => Some(self.type_named(place, base)),
                    None => inner(node).next().map(|node| self.anonymous(Place { node, ..place })),
                };
                self.restrict(&mut simple, base, place);
            } else if is(node, "list") {
                let item = match node.attribute("itemType") {
                    Some(item) => Some(self.type_named(place, item)),
                    None => inner(node).next().map(|node| self.anonymous(Place { node, ..place })),
                };
                simple.variety = Variety::List(item.unwrap_or(TypeId(0)));
            } else if is(node, "union") {
                let named = node.attribute("memberTypes").unwrap_or_default().split_ascii_whitespace();
                let mut members: Vec<_> = named.map(|member| self.type_named(place, member)).collect();
                members.extend(inner(node).map(|node| self.anonymous(Place { node, ..place })));
                simple.variety = Variety::Union(members);
            }
        }
        simple
    }

    /// Takes over a base and lays the facets in a `restriction` over it.
    pub(super) fn restrict(&mut self, simple: &mut Simple, base: Option<TypeId>, place: Place<'a>) {
        if let Some(base) = base {
            self.read(base);
            let of_content = match self.out.ty(base) {
                Type::Complex(Complex { content: Content::Simple(inner), .. }) => *inner,
                _ => base,
            };
            if let Type::Simple(base) = self.out.ty(of_content) {
                simple.variety = base.variety.clone();
                simple.facets = base.facets.clone();
            }
        }
        let mut enumeration = Vec::new();
        let mut patterns = Vec::new();
        for facet in place.node.children().filter(|node| node.tag_name().namespace() == Some(XSD)) {
            let value = facet.attribute("value").unwrap_or_default();
            let (count, number) = (value.trim().parse().ok(), Number::parse(value.trim()));
            let facets = &mut simple.facets;
            match facet.tag_name().name() {
                "enumeration" => enumeration.push(value.to_owned()),
                "pattern" => patterns.push(value),
                "length" => (facets.min_length, facets.max_length) = (count, count),
                "minLength" => facets.min_length = count,
                "maxLength" => facets.max_length = count,
                "totalDigits" => facets.total_digits = count,
                "fractionDigits" => facets.fraction_digits = count,
                "minInclusive" => facets.least = number.map(|number| (number, false)),
                "minExclusive" => facets.least = number.map(|number| (number, true)),
                "maxInclusive" => facets.most = number.map(|number| (number, false)),
                "maxExclusive" => facets.most = number.map(|number| (number, true)),
                "whiteSpace" => facets.collapse = value == "collapse",
                _ => {}
            }
        }
        if !enumeration.is_empty() {
            simple.facets.enumeration = Some(enumeration.into());
        }
        // Several patterns of one step are alternatives (Part 2 §4.3.4.3).
        if !patterns.is_empty() {
            let joined = patterns.join("|");
            simple.facets.patterns.extend(facets::pattern(&joined).map(|pattern| (Arc::from(joined), pattern)));
        }
    }

    pub(super) fn simple_content(&mut self, place: Place<'a>, base: TypeId, extends: bool) -> Content {
        let inner = match self.out.ty(base) {
            Type::Simple(_) => base,
            Type::Complex(Complex { content: Content::Simple(inner), .. }) => *inner,
            Type::Complex(_) => TypeId(0),
        };
        if extends {
            return Content::Simple(inner);
        }
        let mut simple = Simple { name: None, variety: Variety::Atomic(Kind::Text), facets: Facets::default() };
        self.restrict(&mut simple, Some(inner), place);
        let id = self.allot();
        self.out.types[id.0 as usize] = Type::Simple(simple);
        Content::Simple(id)
    }
}
