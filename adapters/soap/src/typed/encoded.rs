//! What the SOAP encoding adds to XML (SOAP 1.1 §5, SOAP 1.2 part 2 §3): values told once and referred to, and arrays.

use std::collections::HashMap;

use gatehouse_core::xml::{Element, Node, QName, SOAP_ENC, SOAP12_ENC, XSI};
use gatehouse_core::{Map, Value};

use super::read::{Reading, clark};
use crate::xsd::{ANY_TYPE, TypeId};

/// The most nodes that references may unfold to: one value that is referred to by many is written once and read many times.
const MAX_NODES: usize = 100_000;

/// The deepest nesting that references may unfold to.
const MAX_DEPTH: usize = 64;

/// The most places of an array, empty ones included.
const MAX_ITEMS: usize = 100_000;

/// The namespace of the types that Apache's and PHP's toolkits write for maps and lists.
const APACHE: &str = "http://xml.apache.org/xml-soap";

/// Puts what is referred to (`href="#id1"`, in 1.2 `enc:ref="id1"`) where it is referred from, and leaves the roots: both the
/// way of Axis (`multiRef` elements at the end of the body) and that of PHP (an `id` at the first use). `headers` may hold what is
/// referred to as well.
///
/// # Errors
/// A reference to nothing or to itself, or more than can be unfolded.
pub(crate) fn inline(body: Vec<Element>, headers: &[Element]) -> Result<Vec<Element>, String> {
    if !body.iter().any(refers) {
        return Ok(body);
    }
    let mut by_id = HashMap::new();
    for element in body.iter().chain(headers) {
        collect(element, &mut by_id);
    }
    let mut unfolding = Unfolding { by_id, open: Vec::new(), nodes: 0 };
    // What has an id at the top and is no root is only there to be referred to.
    let is_root = |index: usize, element: &Element| {
        let root = element.attribute(Some(SOAP_ENC), "root");
        root.map_or(index == 0 || id_of(element).is_none(), |root| root == "1")
    };
    let roots = body.iter().enumerate().filter(|(index, element)| is_root(*index, element));
    roots.map(|(_, root)| unfolding.element(root, 0)).collect()
}

fn refers(element: &Element) -> bool {
    reference(element).is_some() || element.elements().any(refers)
}

/// The id that an element refers to.
fn reference(element: &Element) -> Option<&str> {
    let href = element.attribute(None, "href").and_then(|href| href.strip_prefix('#'));
    href.or_else(|| element.attribute(Some(SOAP12_ENC), "ref").map(|id| id.trim_start_matches('#')))
}

fn id_of(element: &Element) -> Option<&str> {
    element.attribute(None, "id").or_else(|| element.attribute(Some(SOAP12_ENC), "id"))
}

fn collect<'a>(element: &'a Element, by_id: &mut HashMap<&'a str, &'a Element>) {
    if let Some(id) = id_of(element).filter(|_| reference(element).is_none()) {
        by_id.entry(id).or_insert(element);
    }
    for child in element.elements() {
        collect(child, by_id);
    }
}

struct Unfolding<'a> {
    by_id: HashMap<&'a str, &'a Element>,
    open: Vec<&'a str>,
    nodes: usize,
}

impl<'a> Unfolding<'a> {
    fn element(&mut self, element: &'a Element, depth: usize) -> Result<Element, String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(format!("its references unfold to more than {MAX_NODES} elements or {MAX_DEPTH} levels"));
        }
        let mut unfolded = Element { name: element.name.clone(), attributes: Vec::new(), children: Vec::new() };
        let Some(id) = reference(element).map(|id| self.known(id)).transpose()? else {
            unfolded.attributes = without_ids(element);
            unfolded.children = self.children(element, depth)?;
            return Ok(unfolded);
        };
        let (id, target) = id;
        if self.open.contains(&id) {
            return Err(format!("`#{id}` refers to itself"));
        }
        self.open.push(id);
        unfolded.attributes = without_ids(target);
        unfolded.children = self.children(target, depth)?;
        self.open.pop();
        Ok(unfolded)
    }

    fn known(&self, id: &str) -> Result<(&'a str, &'a Element), String> {
        let found = self.by_id.get_key_value(id).map(|(id, element)| (*id, *element));
        found.ok_or_else(|| format!("`#{id}` is referred to and not there"))
    }

    fn children(&mut self, element: &'a Element, depth: usize) -> Result<Vec<Node>, String> {
        let child = |node: &'a Node| match node {
            Node::Element(child) => self.element(child, depth + 1).map(Node::Element),
            Node::Text(text) => Ok(Node::Text(text.clone())),
        };
        element.children.iter().map(child).collect()
    }
}

fn without_ids(element: &Element) -> Vec<gatehouse_core::xml::Attribute> {
    let of_encoding = |name: &QName| {
        (name.namespace.is_none() && matches!(&*name.local, "id" | "href"))
            || (name.namespace.as_deref() == Some(SOAP12_ENC) && matches!(&*name.local, "id" | "ref"))
            || (name.namespace.as_deref() == Some(SOAP_ENC) && &*name.local == "root")
    };
    element.attributes.iter().filter(|attribute| !of_encoding(&attribute.name)).cloned().collect()
}

/// Whether an element says that it is an array.
pub(super) fn is_array(element: &Element) -> bool {
    let said = element.attribute(Some(XSI), "type").and_then(clark);
    let by_type = said.is_some_and(|name| match name.namespace.as_deref() {
        Some(SOAP_ENC | SOAP12_ENC) => &*name.local == "Array",
        Some(APACHE) => &*name.local == "Vector",
        _ => false,
    });
    by_type
        || element.attribute(Some(SOAP_ENC), "arrayType").is_some()
        || element.attribute(Some(SOAP12_ENC), "itemType").is_some()
        || element.attribute(Some(SOAP12_ENC), "arraySize").is_some()
}

/// Whether an element says that it is a map of keys to values.
pub(super) fn is_map(element: &Element) -> bool {
    element.attribute(Some(XSI), "type").and_then(clark).is_some_and(|name| name.is(Some(APACHE), "Map"))
}

/// `item` elements with a `key` and a `value`.
pub(super) fn map(reading: &mut Reading<'_>, element: &Element) -> Value {
    let mut map = Map::new();
    for item in element.elements() {
        let key = item.child("key").map(Element::text).unwrap_or_default();
        let value = item.child("value").map(|value| reading.anything(value)).unwrap_or_default();
        map.insert(key, value);
    }
    Value::Map(map)
}

/// An array's items as a list; lists in a list where it has more dimensions. Places that a sparse array leaves out are null.
pub(super) fn array(reading: &mut Reading<'_>, item: TypeId, dimensions: u8, element: &Element) -> Value {
    let said = ArrayType::of(element);
    let declared = said.item.and_then(|name| reading.schemas.named_type(&name));
    let item = declared.filter(|_| item == ANY_TYPE).unwrap_or(item);
    // `T[][3]` is an array of three arrays, each of which says its own type; `T[2,3]` has two dimensions itself.
    let sizes = said.sizes;
    let is_nested = said.nested || (dimensions > 1 && sizes.len() < 2 && element.elements().any(is_array));
    let total = sizes.iter().try_fold(1_usize, |total, size| total.checked_mul(*size)).unwrap_or(usize::MAX);
    let sparse = element.elements().any(|item| position(item, &sizes).is_some());
    let mut items = Vec::new();
    let mut next = element.attribute(Some(SOAP_ENC), "offset").and_then(|text| place(text, &sizes)).unwrap_or(0);
    for (index, child) in element.elements().enumerate() {
        let at = position(child, &sizes).unwrap_or(next);
        if at >= MAX_ITEMS {
            reading.findings.within(index.to_string(), |findings| {
                findings.tell(format!("stands beyond the {MAX_ITEMS} places that an array may have"));
            });
            break;
        }
        if items.len() <= at {
            items.resize(at + 1, Value::Null);
        }
        reading.findings.path.push(at.to_string().into());
        items[at] = match () {
            () if child.is_nil() => Value::Null,
            () if is_nested => array(reading, item, dimensions.saturating_sub(1), child),
            () if item == ANY_TYPE => reading.anything(child),
            () => reading.typed(item, child, None),
        };
        reading.findings.path.pop();
        next = at + 1;
    }
    if (sparse || next > items.len()) && (items.len()..=MAX_ITEMS).contains(&total) {
        items.resize(total, Value::Null);
    }
    fold(items, &sizes)
}

/// Cuts a flat list into rows, row after row (SOAP 1.1 §5.4.2).
fn fold(items: Vec<Value>, sizes: &[usize]) -> Value {
    match sizes {
        [_, inner @ ..] if !inner.is_empty() => {
            let row =
                inner.iter().try_fold(1_usize, |total, size| total.checked_mul(*size)).unwrap_or(usize::MAX).max(1);
            let mut rows = Vec::new();
            let mut items = items.into_iter().peekable();
            while items.peek().is_some() {
                rows.push(fold(items.by_ref().take(row).collect(), inner));
            }
            Value::List(rows)
        }
        _ => Value::List(items),
    }
}

/// Where an item of a sparse array stands: `position="[2]"`, `position="[1,0]"`.
fn position(item: &Element, sizes: &[usize]) -> Option<usize> {
    item.attribute(Some(SOAP_ENC), "position").and_then(|text| place(text, sizes))
}

fn place(text: &str, sizes: &[usize]) -> Option<usize> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut at = 0_usize;
    for (index, part) in inside.split(',').enumerate() {
        let part: usize = part.trim().parse().ok()?;
        at = match index {
            0 => part,
            _ => at.checked_mul(*sizes.get(index)?)?.checked_add(part)?,
        };
    }
    Some(at)
}

/// What an array says of itself.
struct ArrayType {
    item: Option<QName>,
    sizes: Vec<usize>,
    /// Its items are arrays.
    nested: bool,
}

impl ArrayType {
    fn of(element: &Element) -> Self {
        let numbers = |text: &str, by: char| -> Vec<usize> {
            text.split(by).filter_map(|size| size.trim().parse().ok()).collect()
        };
        if let Some(text) = element.attribute(Some(SOAP_ENC), "arrayType") {
            // The namespace may hold brackets; the sizes come last.
            let (name, rest) = match text.rfind('}') {
                Some(end) => {
                    let open = text[end..].find('[').map_or(text.len(), |open| end + open);
                    text.split_at(open)
                }
                None => text.split_at(text.find('[').unwrap_or(text.len())),
            };
            let last = rest.rsplit('[').next().unwrap_or_default().trim_end_matches(']');
            return Self { item: clark(name), sizes: numbers(last, ','), nested: rest.matches('[').count() > 1 };
        }
        let item = element.attribute(Some(SOAP12_ENC), "itemType").and_then(clark);
        let sizes = element.attribute(Some(SOAP12_ENC), "arraySize").unwrap_or_default();
        // `*` for the first size: as many as there are.
        let sizes = sizes.replace('*', &element.elements().count().to_string());
        Self { item, sizes: numbers(&sizes, ' '), nested: false }
    }
}
