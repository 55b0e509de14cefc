//! An element as a list of its fields, for people and for mapping skeletons.

use crate::xsd::{Complex, Content, ElementId, Field, Kind, Schemas, Type, TypeId, Variety};

/// The most fields of one element.
const MAX_FIELDS: usize = 2000;

/// A field of a body.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// How deep it stands, from 0.
    pub(crate) depth: usize,
    /// Its key: `item`, `@sku`, `#text`.
    pub(crate) key: String,
    /// The path to it, as a mapping row says it: `ITEMS.item[].QTY`.
    pub(crate) path: String,
    pub(crate) list: bool,
    /// It and everything around it must be there.
    pub(crate) required: bool,
    pub(crate) nillable: bool,
    /// The mapping type of its text; `None` where it holds other fields.
    pub(crate) leaf: Option<&'static str>,
    /// What it is, for people: `string, at most 10`.
    pub(crate) about: String,
    pub(crate) doc: Option<String>,
}

/// The fields of an element, at most `depth` deep.
pub(crate) fn outline(schemas: &Schemas, id: ElementId, depth: usize) -> Vec<Line> {
    let mut walk = Walk { schemas, most: depth, lines: Vec::new(), open: Vec::new() };
    walk.inside(schemas.element(id).ty, 0, "", true);
    walk.lines
}

struct Walk<'a> {
    schemas: &'a Schemas,
    most: usize,
    lines: Vec<Line>,
    /// The types around, to stop at one that holds itself.
    open: Vec<TypeId>,
}

impl Walk<'_> {
    fn inside(&mut self, ty: TypeId, depth: usize, path: &str, required: bool) {
        let Type::Complex(complex) = self.schemas.ty(ty) else {
            self.push(depth, path, "#text", (false, required, false), self.leaf(ty), None);
            return;
        };
        for attribute in &complex.attributes {
            let key = format!("@{}", attribute.name.local);
            let required = required && attribute.required;
            self.push(depth, path, &key, (false, required, false), self.leaf(attribute.ty), None);
        }
        if let Content::Simple(inner) = complex.content {
            self.push(depth, path, "#text", (false, required, false), self.leaf(inner), None);
        }
        let fields: Vec<Field> = complex.fields.values().copied().collect();
        for field in fields {
            self.field(field, depth, path, required);
        }
        if complex.any {
            self.push(depth, path, "…", (false, false, false), (None, "anything else".to_owned()), None);
        }
    }

    fn field(&mut self, field: Field, depth: usize, path: &str, required: bool) {
        let declared = self.schemas.element(field.element);
        let (ty, doc) = (declared.ty, declared.doc.as_deref().map(str::to_owned));
        let required = required && field.required;
        let flags = (field.list, required, declared.nillable);
        let simple = match self.schemas.ty(ty) {
            Type::Simple(_) => true,
            Type::Complex(complex) => matches!(complex.content, Content::Simple(_)) && complex.attributes.is_empty(),
        };
        if simple {
            return self.push(depth, path, &declared.name.local, flags, self.leaf(ty), doc);
        }
        let about = match self.schemas.complex(ty).map(|complex| &complex.content) {
            Some(Content::Anything) => "anything".to_owned(),
            Some(Content::Array { item, .. }) => format!("array of {}", self.schemas.type_name(*item)),
            _ => self
                .schemas
                .complex(ty)
                .and_then(|complex| complex.name.as_ref())
                .map_or_else(String::new, |name| name.local.to_string()),
        };
        let about = match self.open.contains(&ty) {
            true => format!("{about}, as above"),
            false => about,
        };
        self.push(depth, path, &declared.name.local, flags, (None, about), doc);
        if self.open.contains(&ty) || depth >= self.most || self.lines.len() >= MAX_FIELDS {
            return;
        }
        let inner = self.lines.last().map(|line| line.path.clone()).unwrap_or_default();
        self.open.push(ty);
        match self.schemas.complex(ty) {
            Some(Complex { content: Content::Array { item, dimensions: 1 }, .. }) => {
                let (item, path) = (*item, format!("{inner}[]"));
                match self.schemas.ty(item) {
                    Type::Simple(_) => {
                        let (leaf, about) = self.leaf(item);
                        if let Some(line) = self.lines.last_mut() {
                            (line.leaf, line.path, line.about) = (leaf, path, format!("array of {about}"));
                        }
                    }
                    Type::Complex(_) => self.inside(item, depth + 1, &path, false),
                }
            }
            _ => self.inside(ty, depth + 1, &inner, required),
        }
        self.open.pop();
    }

    fn push(
        &mut self,
        depth: usize,
        path: &str,
        key: &str,
        (list, required, nillable): (bool, bool, bool),
        (leaf, about): (Option<&'static str>, String),
        doc: Option<String>,
    ) {
        if self.lines.len() >= MAX_FIELDS {
            return;
        }
        let step = if key.contains(['.', '[', ']']) { format!("`{key}`") } else { key.to_owned() };
        let joined = if path.is_empty() { step } else { format!("{path}.{step}") };
        let path = if list { format!("{joined}[]") } else { joined };
        self.lines.push(Line { depth, key: key.to_owned(), path, list, required, nillable, leaf, about, doc });
    }

    /// The mapping type of a simple type, and what it is in words.
    fn leaf(&self, ty: TypeId) -> (Option<&'static str>, String) {
        let (simple, name) = match self.schemas.ty(ty) {
            Type::Simple(simple) => (simple, self.schemas.type_name(ty)),
            Type::Complex(Complex { content: Content::Simple(inner), .. }) => return self.leaf(*inner),
            Type::Complex(_) => return (None, String::new()),
        };
        let (word, of) = match &simple.variety {
            Variety::Atomic(kind) => (mapping_type(*kind), kind_word(*kind)),
            Variety::List(_) => ("string", "list"),
            Variety::Union(_) => ("string", "union"),
        };
        let mut about = if name == "(anonymous)" { of.to_owned() } else { name.to_owned() };
        let facets = &simple.facets;
        if let Some(allowed) = &facets.enumeration {
            let shown: Vec<_> = allowed.iter().take(8).map(String::as_str).collect();
            about.push_str(&format!(": {}{}", shown.join(" | "), if allowed.len() > 8 { " | …" } else { "" }));
        }
        match (facets.min_length, facets.max_length) {
            (Some(least), Some(most)) if least == most => about.push_str(&format!(", length {most}")),
            (_, Some(most)) => about.push_str(&format!(", at most {most}")),
            _ => {}
        }
        if let Some(digits) = facets.total_digits {
            about.push_str(&format!(", {digits} digits"));
        }
        if let Some(digits) = facets.fraction_digits {
            about.push_str(&format!(", {digits} after the point"));
        }
        if let Some((pattern, _)) = facets.patterns.last() {
            about.push_str(&format!(", pattern {pattern}"));
        }
        (Some(word), about)
    }
}

fn mapping_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::Integer(_) => "integer",
        Kind::Decimal | Kind::Float => "decimal",
        _ => "string",
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::Integer(_) => "integer",
        Kind::Decimal => "decimal",
        Kind::Float => "double",
        Kind::Moment(_) => "date or time",
        Kind::Base64 => "base64",
        Kind::Hex => "hex",
        _ => "string",
    }
}
