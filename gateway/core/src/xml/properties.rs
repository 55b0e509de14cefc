//! Properties of the XML codec, over documents made at random.

use proptest::prelude::*;

use super::tests::read;
use super::*;
use crate::limits::BodyLimits;

fn text() -> impl Strategy<Value = String> {
    let c = prop_oneof![
        6 => any::<char>().prop_filter("a character of XML", |c| super::names::is_char(*c)),
        4 => proptest::sample::select(vec!['\r', '\n', '\t', ' ', '<', '>', '&', ']', '"', '\'', '中', '\u{85}', '\u{2028}']),
    ];
    proptest::collection::vec(c, 1..12).prop_map(|chars| chars.into_iter().collect())
}

fn qname() -> impl Strategy<Value = QName> {
    let namespace = proptest::sample::select(vec![None, Some("urn:a"), Some("urn:b&<\">"), Some(XSI), Some(XML)]);
    (namespace, "[a-z_订][a-z0-9.·-]{0,3}").prop_map(|(namespace, local)| QName::new(namespace, &local))
}

pub(super) fn element() -> impl Strategy<Value = Element> {
    let attributes = || {
        proptest::collection::vec((qname(), text()), 0..4).prop_map(|pairs| {
            let mut attributes: Vec<Attribute> = Vec::new();
            for (name, value) in pairs {
                if !attributes.iter().any(|attribute| attribute.name == name) {
                    attributes.push(Attribute { name, value });
                }
            }
            attributes
        })
    };
    let leaf = (qname(), attributes(), proptest::option::of(text())).prop_map(|(name, attributes, text)| Element {
        name,
        attributes,
        children: text.map(Node::Text).into_iter().collect(),
    });
    leaf.prop_recursive(4, 30, 5, move |inner| {
        let child = prop_oneof![inner.prop_map(Node::Element), text().prop_map(Node::Text)];
        (qname(), attributes(), proptest::collection::vec(child, 0..5)).prop_map(|(name, attributes, nodes)| {
            let mut element = Element { name, attributes, children: Vec::new() };
            for node in nodes {
                match node {
                    Node::Text(text) => element = element.with_text(text),
                    child @ Node::Element(_) => element.children.push(child),
                }
            }
            element
        })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(
        element in element(),
        charset in proptest::sample::select(vec!["UTF-8", "UTF-16", "utf-16le", "GB18030"]),
        prefixed in any::<bool>(),
    ) {
        let prefixes: &[_] = if prefixed { &[("m", "urn:a"), ("n", "urn:b&<\">")] } else { &[] };
        let options = WriteOptions { charset, prefixes, ..WriteOptions::default() };
        let bytes = element.encode_with(&options).unwrap();
        prop_assert_eq!(decode(&bytes, None, &BodyLimits::default()), Ok(element.clone()));
        prop_assert_eq!(decode(&element.encode(), None, &BodyLimits::default()), Ok(element));
    }

    #[test]
    fn markup_never_panics(text in "[<>/?!&;=\"'\\[\\] ab:x#\\-DOCTYPE中\u{0}]{0,40}") {
        let _ = read(&text);
        let _ = read(&format!("<a>{text}</a>"));
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode(&bytes, None, &BodyLimits::default());
    }
}
