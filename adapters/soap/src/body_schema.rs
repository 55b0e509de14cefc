//! An element's type as a JSON Schema (2020-12) of its value: what mappings and editors can check against.

use gatehouse_core::{Map, Value};

use crate::xsd::{ANY_TYPE, Complex, Content, ElementId, Kind, Schemas, Simple, Type, TypeId, Variety};

/// The schema of the value that stands for an element.
pub(crate) fn json_schema(schemas: &Schemas, id: ElementId, name: &str, title: &str) -> Value {
    let mut building = Building { schemas, defs: Map::new(), open: Vec::new() };
    let body = building.of_type(schemas.element(id).ty, true);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("$id".to_owned(), format!("urn:gatehouse:{name}").into());
    schema.insert("title".to_owned(), title.into());
    if let Value::Map(body) = body {
        schema.extend(body);
    }
    if !building.defs.is_empty() {
        schema.insert("$defs".to_owned(), Value::Map(building.defs));
    }
    Value::Map(schema)
}

struct Building<'a> {
    schemas: &'a Schemas,
    defs: Map,
    open: Vec<TypeId>,
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    entries.into_iter().collect()
}

impl Building<'_> {
    /// `inline`: written here, not under `$defs`.
    fn of_type(&mut self, ty: TypeId, inline: bool) -> Value {
        let complex = match self.schemas.ty(ty) {
            Type::Simple(simple) => return self.simple(simple),
            Type::Complex(complex) => complex,
        };
        if ty == ANY_TYPE {
            return Value::map();
        }
        let Some(name) = complex.name.as_ref().filter(|_| !inline) else {
            // An anonymous type holds itself only through an element that it names; that has a name of its own.
            return if self.open.len() < 64 {
                self.within(ty, |building| building.complex(complex))
            } else {
                Value::map()
            };
        };
        // Two namespaces may have the same name: the second gets its index.
        let key =
            match self.schemas.types_called(&name.local).filter(|other| self.schemas.complex(*other).is_some()).count()
            {
                1 => name.local.to_string(),
                _ => format!("{}.{}", name.local, ty.number()),
            };
        if !self.defs.contains_key(&key) {
            self.defs.insert(key.clone(), Value::map());
            let schema = self.within(ty, |building| building.complex(complex));
            self.defs.insert(key.clone(), schema);
        }
        object([("$ref", format!("#/$defs/{}", key.replace('~', "~0").replace('/', "~1")).into())])
    }

    fn within(&mut self, ty: TypeId, work: impl FnOnce(&mut Self) -> Value) -> Value {
        self.open.push(ty);
        let done = work(self);
        self.open.pop();
        done
    }

    fn complex(&mut self, complex: &Complex) -> Value {
        match &complex.content {
            Content::Anything => return Value::map(),
            Content::Array { item, dimensions } => {
                let mut schema = self.of_type(*item, false);
                for _ in 0..*dimensions {
                    schema = object([("type", "array".into()), ("items", nullable(schema))]);
                }
                return schema;
            }
            Content::Simple(ty) if complex.attributes.is_empty() && !complex.any_attribute => {
                return self.of_type(*ty, false);
            }
            Content::Simple(_) | Content::Empty | Content::Children(_) => {}
        }
        let mut properties = Map::new();
        let mut required = Vec::new();
        for attribute in &complex.attributes {
            let key = format!("@{}", attribute.name.local);
            if attribute.required {
                required.push(Value::from(key.as_str()));
            }
            properties.insert(key, self.of_type(attribute.ty, false));
        }
        if let Content::Simple(ty) = complex.content {
            properties.insert("#text".to_owned(), self.of_type(ty, false));
        }
        for field in complex.fields.values() {
            let declared = self.schemas.element(field.element);
            let key = declared.name.local.to_string();
            let mut schema = self.of_type(declared.ty, false);
            if declared.nillable {
                schema = nullable(schema);
            }
            if field.list {
                schema = object([("type", "array".into()), ("items", schema)]);
            }
            if let (Some(doc), Value::Map(map)) = (&declared.doc, &mut schema)
                && !map.contains_key("$ref")
            {
                map.insert("description".to_owned(), Value::from(&**doc));
            }
            if field.required {
                required.push(Value::from(key.as_str()));
            }
            properties.insert(key, schema);
        }
        if complex.mixed {
            properties.insert("#text".to_owned(), object([("type", "string".into())]));
        }
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), Value::Map(properties));
        if !required.is_empty() {
            schema.insert("required".to_owned(), Value::List(required));
        }
        // A type that others derive from may stand for them, with what they add.
        let open = complex.any || complex.any_attribute || self.schemas.has_derived(complex);
        if !open {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
        Value::Map(schema)
    }

    fn simple(&mut self, simple: &Simple) -> Value {
        let mut schema = Map::new();
        match &simple.variety {
            Variety::Atomic(kind) => {
                if let Some(word) = json_type(*kind) {
                    schema.insert("type".to_owned(), word.into());
                }
            }
            Variety::List(item) => {
                let items = self.of_type(*item, false);
                return object([("type", "array".into()), ("items", items)]);
            }
            Variety::Union(_) => return Value::map(),
        }
        let is_text = schema.get("type").and_then(Value::as_text) == Some("string");
        let facets = &simple.facets;
        if let Some(allowed) = facets.enumeration.as_ref().filter(|_| is_text) {
            let allowed = allowed.iter().map(|one| Value::from(one.as_str())).collect();
            return object([("enum", Value::List(allowed))]);
        }
        let mut put = |key: &str, value: Option<usize>| {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                schema.insert(key.to_owned(), value.into());
            }
        };
        if is_text {
            put("minLength", facets.min_length);
            put("maxLength", facets.max_length);
        } else {
            let bounds =
                [(&facets.least, "minimum", "exclusiveMinimum"), (&facets.most, "maximum", "exclusiveMaximum")];
            for (bound, closed, open) in bounds {
                if let Some((number, is_open)) = bound {
                    schema.insert((if *is_open { open } else { closed }).to_owned(), number.clone().into());
                }
            }
        }
        Value::Map(schema)
    }
}

fn json_type(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Boolean => Some("boolean"),
        Kind::Integer(_) => Some("integer"),
        Kind::Decimal => Some("number"),
        // `INF` and `NaN` are texts.
        Kind::Float | Kind::Anything => None,
        _ => Some("string"),
    }
}

fn nullable(schema: Value) -> Value {
    match &schema {
        Value::Map(map) if map.is_empty() => schema,
        _ => object([("anyOf", Value::List(vec![schema, object([("type", "null".into())])]))]),
    }
}
