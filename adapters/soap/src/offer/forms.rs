//! What a JSON Schema says, as far as XML Schema can say it too. Judgements that only the first knows (`if`, `not`, conditions
//! over several fields) are left to the type itself; a shape that has no form in XML is told at its place.

use std::collections::HashSet;

use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::{Map, Value};
use indexmap::IndexMap;

use super::pattern;
use super::place::place;

/// How deep references and combinations may lie in each other.
const MAX_DEPTH: usize = 32;

/// A canonical type: its file and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: SourceFile,
    pub(super) root: Value,
}

/// A part of a schema, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<'s> {
    pub(super) source: &'s Source,
    pub(super) schema: &'s Value,
    pub(super) pointer: String,
}

/// What a value looks like.
#[derive(Debug)]
pub(super) struct Form<'s> {
    pub(super) shape: Shape<'s>,
    /// It may be null.
    pub(super) nullable: bool,
}

#[derive(Debug)]
pub(super) enum Shape<'s> {
    /// Anything at all.
    Any,
    Text(Text),
    Object(Object<'s>),
    List {
        item: Option<At<'s>>,
        min: usize,
        max: Option<usize>,
    },
}

/// A built-in type of XML Schema and what is demanded beyond it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) base: &'static str,
    pub(super) facets: Vec<(&'static str, String)>,
}

/// An object's fields, in their order.
#[derive(Debug, Default)]
pub(super) struct Object<'s> {
    pub(super) fields: IndexMap<String, Field<'s>>,
    /// Where it is defined, where it is referred to: then it has a name.
    pub(super) home: Option<String>,
}

#[derive(Debug)]
pub(super) struct Field<'s> {
    pub(super) at: At<'s>,
    pub(super) required: bool,
    /// The texts that other branches of a choice allow as well.
    pub(super) also: Vec<String>,
}

impl<'s> At<'s> {
    pub(super) fn root(source: &'s Source) -> Self {
        Self { source, schema: &source.root, pointer: String::new() }
    }

    /// What is under a keyword, and under a name or number there.
    fn below(&self, keyword: &str, step: &str, schema: &'s Value) -> Self {
        let step = step.replace('~', "~0").replace('/', "~1");
        Self { source: self.source, schema, pointer: format!("{}/{keyword}/{step}", self.pointer) }
    }

    fn get(&self, keyword: &str) -> Option<&'s Value> {
        self.schema.field(keyword)
    }

    /// The parts of `allOf`, `anyOf` or `oneOf`.
    fn parts(&self, keyword: &str) -> Vec<Self> {
        let parts = self.get(keyword).and_then(Value::as_list).unwrap_or_default();
        parts.iter().enumerate().map(|(index, part)| self.below(keyword, &index.to_string(), part)).collect()
    }

    /// What `$ref` leads to in the same file.
    fn target(&self) -> Option<Result<Self, String>> {
        let text = self.get("$ref")?.as_text()?;
        let Some(pointer) = text.strip_prefix('#') else {
            return Some(Err(format!("`{text}` is not in this file")));
        };
        let mut schema = &self.source.root;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match schema {
                Value::List(list) => step.parse().ok().and_then(|index: usize| list.get(index)),
                other => other.field(&step),
            };
            let Some(next) = next else { return Some(Err(format!("there is no `{text}`"))) };
            schema = next;
        }
        Some(Ok(Self { source: self.source, schema, pointer: pointer.to_owned() }))
    }

    /// Tells that it has no form in XML.
    pub(super) fn refuse(&self, problems: &mut Problems, message: &str, help: &str) {
        let file = &self.source.file;
        let span = place(file.text(), &self.pointer);
        problems.push(Problem::error("soap-type", file, span, message).help(help));
    }

    /// The description, or else the title.
    pub(super) fn documentation(&self) -> Option<&'s str> {
        let said = |keyword: &str| self.get(keyword).and_then(Value::as_text);
        said("description").or_else(|| said("title"))
    }

    fn words(&self) -> Vec<&'s str> {
        match self.get("type") {
            Some(Value::Text(word)) => vec![word],
            Some(Value::List(words)) => words.iter().filter_map(Value::as_text).collect(),
            _ => Vec::new(),
        }
    }

    /// The values that it lists: `enum`, `const`, or a choice of such.
    fn values(&self) -> Option<Vec<&'s Value>> {
        if let Some(one) = self.get("const") {
            return Some(vec![one]);
        }
        if let Some(list) = self.get("enum").and_then(Value::as_list) {
            return Some(list.iter().collect());
        }
        let parts = [self.parts("oneOf"), self.parts("anyOf")].into_iter().find(|parts| !parts.is_empty())?;
        let values: Option<Vec<_>> = parts.iter().map(Self::values).collect();
        values.map(|values| values.into_iter().flatten().collect())
    }
}

/// The form of a part of a schema; `None` where it was told.
pub(super) fn form<'s>(at: &At<'s>, problems: &mut Problems, depth: usize) -> Option<Form<'s>> {
    if depth > MAX_DEPTH {
        at.refuse(problems, "refers to itself, or is nested too deep", "an object may refer to itself through a field");
        return None;
    }
    if let Some(target) = at.target() {
        let target = match target {
            Ok(target) => target,
            Err(reason) => {
                at.refuse(problems, &reason, "write it under `$defs` of this file");
                return None;
            }
        };
        let mut found = form(&target, problems, depth + 1)?;
        if let Shape::Object(object) = &mut found.shape {
            object.home.get_or_insert(target.pointer);
        }
        return Some(found);
    }
    let words = at.words();
    let mut nullable = words.contains(&"null");
    let words: Vec<_> = words.into_iter().filter(|word| *word != "null").collect();
    if let Some(values) = at.values() {
        nullable |= values.contains(&&Value::Null);
        let shape = listed(at, &values, problems)?;
        return Some(Form { shape, nullable });
    }
    let is_null = |part: &At<'_>| part.words() == ["null"];
    let branches: Vec<_> = [at.parts("oneOf"), at.parts("anyOf")].into_iter().flatten().collect();
    nullable |= branches.iter().any(is_null);
    let mut branches = branches.iter().filter(|part| !is_null(part));
    if let (Some(only), None) = (branches.next(), branches.next())
        && words.is_empty()
        && at.get("properties").is_none()
    {
        let found = form(only, problems, depth + 1)?;
        return Some(Form { nullable: nullable || found.nullable, ..found });
    }
    let combined = ["allOf", "oneOf", "anyOf", "properties"].iter().any(|keyword| at.get(keyword).is_some());
    let shape = match words.as_slice() {
        ["object"] => object(at, problems, depth)?,
        [] if combined => object(at, problems, depth)?,
        ["array"] => list(at),
        [word] => Shape::Text(text(at, word)),
        [] => Shape::Any,
        // Whatever comes is told as text; the type judges it.
        words if words.contains(&"string") && !words.contains(&"object") && !words.contains(&"array") => {
            Shape::Text(Text { base: "string", facets: Vec::new() })
        }
        ["integer", "number"] | ["number", "integer"] => Shape::Text(text(at, "number")),
        words => {
            let message = format!("a field that is {} has no one form in XML", words.join(" or "));
            at.refuse(problems, &message, "keep one type");
            return None;
        }
    };
    Some(Form { shape, nullable })
}

fn object<'s>(at: &At<'s>, problems: &mut Problems, depth: usize) -> Option<Shape<'s>> {
    let mut object = Object::default();
    gather(at, &mut object, problems, depth)?;
    // An object whose fields nobody names is carried as it is.
    Some(if object.fields.is_empty() { Shape::Any } else { Shape::Object(object) })
}

/// Adds the fields of a schema, of all that it demands, and of what it lets choose.
fn gather<'s>(at: &At<'s>, object: &mut Object<'s>, problems: &mut Problems, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        at.refuse(problems, "refers to itself, or is nested too deep", "an object may refer to itself through a field");
        return None;
    }
    if let Some(Ok(target)) = at.target() {
        return gather(&target, object, problems, depth + 1);
    }
    let keyed = at.get("additionalProperties").is_some_and(|more| matches!(more, Value::Map(map) if !map.is_empty()));
    if keyed || at.get("patternProperties").is_some() {
        let help = "make it a list of objects with a name and a value";
        at.refuse(problems, "an object whose names are free has no form in XML", help);
        return None;
    }
    for (name, schema) in at.get("properties").and_then(Value::as_map).into_iter().flatten() {
        let at = at.below("properties", name, schema);
        // `allOf` often says more of a field whose type another part says.
        let says_type =
            |at: &At<'_>| ["type", "$ref", "enum", "const", "oneOf", "anyOf"].iter().any(|k| at.get(k).is_some());
        match object.fields.get_mut(name.as_str()) {
            Some(known) if !says_type(&known.at) => known.at = at,
            Some(_) => {}
            None => {
                object.fields.insert(name.to_string(), Field { at, required: false, also: Vec::new() });
            }
        }
    }
    for part in at.parts("allOf") {
        gather(&part, object, problems, depth + 1)?;
    }
    for keyword in ["oneOf", "anyOf"] {
        choose(&at.parts(keyword), object, problems, depth)?;
    }
    for name in at.get("required").and_then(Value::as_list).into_iter().flatten().filter_map(Value::as_text) {
        if let Some(field) = object.fields.get_mut(name) {
            field.required = true;
        }
    }
    Some(())
}

/// What one of several branches has: all of their fields, those required that every branch requires.
fn choose<'s>(branches: &[At<'s>], object: &mut Object<'s>, problems: &mut Problems, depth: usize) -> Option<()> {
    let mut read = Vec::new();
    for branch in branches {
        let mut one = Object::default();
        gather(branch, &mut one, problems, depth + 1)?;
        read.push(one);
    }
    let names: Vec<HashSet<String>> = read
        .iter()
        .map(|one| one.fields.iter().filter(|(_, field)| field.required).map(|(name, _)| name.clone()).collect())
        .collect();
    for (name, mut field) in read.into_iter().flat_map(|one| one.fields) {
        field.required = names.iter().all(|names| names.contains(&name));
        let texts = |at: &At<'_>| -> Option<Vec<String>> {
            at.values()?.into_iter().map(|value| value.as_text().map(str::to_owned)).collect()
        };
        match object.fields.get_mut(&name) {
            None => {
                object.fields.insert(name, field);
            }
            Some(known) if known.at.schema == field.at.schema => known.required |= field.required,
            Some(known) => match (texts(&known.at), texts(&field.at)) {
                (Some(_), Some(more)) => known.also.extend(more),
                _ => {
                    let message = format!("`{name}` has another form in another branch, and only one in XML");
                    field.at.refuse(problems, &message, "give it the same schema in every branch, or another name");
                    return None;
                }
            },
        }
    }
    Some(())
}

fn list<'s>(at: &At<'s>) -> Shape<'s> {
    let count = |keyword: &str| {
        let number = at.get(keyword).and_then(Value::as_number);
        number.and_then(gatehouse_core::number::Number::to_i64).and_then(|count| usize::try_from(count).ok())
    };
    let item = at.get("items").map(|schema| At { source: at.source, schema, pointer: format!("{}/items", at.pointer) });
    Shape::List { item, min: count("minItems").unwrap_or(0), max: count("maxItems") }
}

/// A value that is one of a list.
fn listed<'s>(at: &At<'_>, values: &[&Value], problems: &mut Problems) -> Option<Shape<'s>> {
    let of = |is: fn(&&&Value) -> bool| values.iter().filter(|value| ***value != Value::Null).all(|value| is(&value));
    let base = match () {
        () if of(|value| matches!(value, Value::Text(_))) => "string",
        () if of(|value| matches!(value, Value::Bool(_))) => {
            return Some(Shape::Text(Text { base: "boolean", facets: Vec::new() }));
        }
        () if of(|value| matches!(value, Value::Number(number) if number.to_i64().is_some())) => "integer",
        () if of(|value| matches!(value, Value::Number(_))) => "decimal",
        () => {
            at.refuse(problems, "values of several kinds have no one form in XML", "keep those of one kind");
            return None;
        }
    };
    let facets = values.iter().filter_map(|value| value.to_plain_text()).map(|text| ("enumeration", text));
    Some(Shape::Text(Text { base, facets: facets.collect() }))
}

fn text(at: &At<'_>, word: &str) -> Text {
    let Some(map) = at.schema.as_map() else { return Text { base: "string", facets: Vec::new() } };
    let (base, facets) = match word {
        "boolean" => ("boolean", Vec::new()),
        "integer" => (integer(map), bounds(map).into_iter().filter(|(_, text)| !text.contains('.')).collect()),
        "number" => ("decimal", bounds(map)),
        _ => match map.get("format").and_then(Value::as_text) {
            Some("date") => ("date", Vec::new()),
            Some("date-time") => ("dateTime", Vec::new()),
            Some("time") => ("time", Vec::new()),
            Some("duration") => ("duration", Vec::new()),
            _ if map.get("contentEncoding").and_then(Value::as_text) == Some("base64") => ("base64Binary", Vec::new()),
            _ => ("string", lengths(map)),
        },
    };
    Text { base, facets }
}

fn lengths(map: &Map) -> Vec<(&'static str, String)> {
    let mut facets = Vec::new();
    for keyword in ["minLength", "maxLength"] {
        let number = map.get(keyword).and_then(Value::as_number).and_then(gatehouse_core::number::Number::to_i64);
        facets.extend(number.filter(|number| *number >= 0).map(|number| (keyword, number.to_string())));
    }
    let said = map.get("pattern").and_then(Value::as_text).and_then(pattern::translate);
    facets.extend(said.map(|said| ("pattern", said)));
    facets
}

/// A number's digits without an exponent, which a facet does not have.
fn digits(value: &Value) -> Option<String> {
    let number = value.as_number()?;
    let text = number.to_string();
    if text.contains(['e', 'E']) { Some(number.to_decimal()?.normalize().to_string()) } else { Some(text) }
}

fn bounds(map: &Map) -> Vec<(&'static str, String)> {
    let pairs = [
        ("minimum", "minInclusive"),
        ("exclusiveMinimum", "minExclusive"),
        ("maximum", "maxInclusive"),
        ("exclusiveMaximum", "maxExclusive"),
    ];
    let mut facets: Vec<(&'static str, String)> = Vec::new();
    for (keyword, facet) in pairs {
        let edge = &facet[..3];
        // XML Schema takes one of the two.
        let known = facets.iter().any(|(other, _)| other.starts_with(edge));
        facets.extend(map.get(keyword).and_then(digits).filter(|_| !known).map(|digits| (facet, digits)));
    }
    // `multipleOf: 0.01` is two digits after the point.
    let step = map.get("multipleOf").and_then(digits);
    if let Some(zeros) =
        step.as_deref().and_then(|step| step.strip_prefix("0.")).and_then(|rest| rest.strip_suffix('1'))
        && zeros.bytes().all(|byte| byte == b'0')
    {
        facets.push(("fractionDigits", (zeros.len() + 1).to_string()));
    }
    facets
}

/// The narrowest type that callers have a word of their own for.
fn integer(map: &Map) -> &'static str {
    let bound = |keywords: [&str; 2]| {
        let found = keywords.iter().find_map(|keyword| map.get(keyword));
        found.and_then(Value::as_number).and_then(gatehouse_core::number::Number::to_i64)
    };
    let (least, most) = (bound(["minimum", "exclusiveMinimum"]), bound(["maximum", "exclusiveMaximum"]));
    match (map.get("format").and_then(Value::as_text), least, most) {
        (Some("int32"), ..) => "int",
        (Some("int64"), ..) => "long",
        (_, Some(least), Some(most)) if least >= i64::from(i32::MIN) && most <= i64::from(i32::MAX) => "int",
        (_, Some(_), Some(_)) => "long",
        _ => "integer",
    }
}
