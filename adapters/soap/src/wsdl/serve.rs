//! A WSDL for who asks for it (`?wsdl`): the site's own files, with the address of this gateway and with imports that lead back
//! to it.

use roxmltree::Node;

use super::documents::{Import, WSDL, parse};
use super::model::Wsdl;
use crate::envelope::Version;

impl Wsdl {
    /// The document that a query asks for: `wsdl` is the WSDL itself, `wsdl=2` and `xsd=2` the second of its other files.
    /// `base` is the address under which it was asked for, without the query.
    pub(crate) fn document(&self, query: &str, base: &str) -> Option<String> {
        let (kind, number) = query.split_once('=').unwrap_or((query, "0"));
        if !kind.eq_ignore_ascii_case("wsdl") && !kind.eq_ignore_ascii_case("xsd") {
            return None;
        }
        // `?wsdl=1.0` and the like are what some tools append.
        let index: usize = number.parse().unwrap_or(0);
        let file = self.documents.files.get(index)?;
        let document = parse(file)?;
        let base = escaped(base);
        let mut changes = Vec::new();
        for node in document.root_element().descendants() {
            if let Some(import) = Import::of(node)
                && let Some(target) = self.documents.target(index, &import)
                && let Some(attribute) = location(node)
            {
                let kind = if node.tag_name().namespace() == Some(WSDL) { "wsdl" } else { "xsd" };
                changes.push((attribute.range_value(), format!("{base}?{kind}={target}")));
            } else if is_address(node)
                && let Some(attribute) = location(node)
            {
                changes.push((attribute.range_value(), base.clone()));
            }
        }
        changes.sort_by_key(|(range, _)| range.start);
        let text = file.text();
        let mut out = String::with_capacity(text.len() + 256);
        // Whatever the file is in, it is sent in UTF-8.
        let body = document.root_element().range().start;
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let mut from = body;
        for (range, value) in changes {
            out.push_str(&text[from..range.start]);
            out.push_str(&value);
            from = range.end;
        }
        out.push_str(&text[from..document.root_element().range().end]);
        out.push('\n');
        Some(out)
    }
}

fn location<'a>(node: Node<'a, 'a>) -> Option<roxmltree::Attribute<'a, 'a>> {
    node.attributes().find(|attribute| matches!(attribute.name(), "location" | "schemaLocation"))
}

/// The address of a SOAP port (not that of an HTTP GET binding, which is not offered here).
fn is_address(node: Node<'_, '_>) -> bool {
    Version::BOTH.into_iter().any(|version| node.has_tag_name((version.binding(), "address")))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&apos;")
}
