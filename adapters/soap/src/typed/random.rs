//! Values made at random that a schema takes: by its model, so that what the model means is what is tried.

use gatehouse_core::number::Number;
use gatehouse_core::{Map, Value};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{TEXT_KEY, TYPE_KEY, simple};
use crate::xsd::{ANY_TYPE, Complex, Content, ElementId, Kind, Particle, Schemas, Simple, Term, Type, TypeId, Variety};

/// How deep values are made; deeper, only what must be there is.
const DEEP: usize = 6;

/// Deeper than this, a value is given up: the schema demands what holds itself.
const TOO_DEEP: usize = 14;

/// Makes values.
pub(super) struct Random<'s> {
    schemas: &'s Schemas,
    rng: SmallRng,
}

impl<'s> Random<'s> {
    pub(super) fn new(schemas: &'s Schemas, seed: u64) -> Self {
        Self { schemas, rng: SmallRng::seed_from_u64(seed) }
    }

    /// A value of an element; `None` where none was found.
    pub(super) fn element(&mut self, id: ElementId, depth: usize) -> Option<Value> {
        let declared = self.schemas.element(id);
        let needs_more = |complex: &Complex| complex.attributes.iter().any(|attribute| attribute.required);
        let bare = !self.schemas.complex(declared.ty).is_some_and(needs_more);
        if declared.nillable && bare && self.rng.random_bool(0.2) {
            return Some(Value::Null);
        }
        if let (Some(fixed), true) = (&declared.default, declared.fixed) {
            return simple::read(self.schemas, declared.ty, fixed).ok();
        }
        let value = self.of_type(declared.ty, depth)?;
        // An empty element means its default.
        (declared.default.is_none() || value.to_plain_text().is_none_or(|text| !text.is_empty())).then_some(value)
    }

    fn of_type(&mut self, ty: TypeId, depth: usize) -> Option<Value> {
        if depth > TOO_DEEP {
            return None;
        }
        if ty == ANY_TYPE {
            return Some(Value::from("anything"));
        }
        let complex = match self.schemas.ty(ty) {
            Type::Simple(simple) => return self.simple(ty, simple),
            Type::Complex(complex) => complex,
        };
        if complex.is_abstract || (complex.name.is_some() && self.rng.random_bool(0.1)) {
            if let Some(derived) = self.derived(ty, depth) {
                return Some(derived);
            }
            if complex.is_abstract {
                return None;
            }
        }
        self.complex(complex, depth)
    }

    /// A value of a type that derives from this one, and says so.
    fn derived(&mut self, base: TypeId, depth: usize) -> Option<Value> {
        let all: Vec<_> = self.schemas.derived_from(base);
        let (name, ty) = all.choose(&mut self.rng)?.clone();
        let complex = self.schemas.complex(ty).filter(|complex| !complex.is_abstract)?;
        // A local name that two types have says too little.
        if self.schemas.types_called(&name.local).count() != 1 || !matches!(complex.content, Content::Children(_)) {
            return None;
        }
        let Value::Map(inner) = self.complex(complex, depth)? else { return None };
        let mut map = Map::from([(TYPE_KEY.to_owned(), Value::from(&*name.local))]);
        map.extend(inner);
        Some(Value::Map(map))
    }

    fn complex(&mut self, complex: &Complex, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        for attribute in &complex.attributes {
            if attribute.required || (depth < DEEP && self.rng.random_bool(0.5)) {
                let value = match &attribute.fixed {
                    Some(fixed) => simple::read(self.schemas, attribute.ty, fixed).ok(),
                    None => self.of_type(attribute.ty, depth + 1),
                };
                match value {
                    Some(value) => {
                        map.insert(format!("@{}", attribute.name.local), value);
                    }
                    None if attribute.required => return None,
                    None => {}
                }
            }
        }
        match &complex.content {
            Content::Simple(ty) => {
                let text = self.of_type(*ty, depth + 1)?;
                if complex.attributes.is_empty() {
                    return Some(text);
                }
                map.insert(TEXT_KEY.to_owned(), text);
            }
            Content::Children(particle) => self.particle(complex, particle, &mut map, depth)?,
            Content::Empty => {}
            Content::Anything | Content::Array { .. } => return None,
        }
        Some(Value::Map(map))
    }

    fn particle(&mut self, complex: &Complex, particle: &Particle, map: &mut Map, depth: usize) -> Option<()> {
        let most = particle.max.min(particle.min + 2);
        let times = if depth >= DEEP { particle.min } else { self.rng.random_range(particle.min..=most) };
        for _ in 0..times {
            match &particle.term {
                Term::Element(id) => {
                    let candidates = self.candidates(*id);
                    let id = *candidates.choose(&mut self.rng)?;
                    match self.element(id, depth + 1) {
                        Some(value) => self.add(complex, id, value, map)?,
                        None if particle.min == 0 => return Some(()),
                        None => return None,
                    }
                }
                Term::Sequence(inner) | Term::All(inner) => {
                    for inner in inner {
                        self.particle(complex, inner, map, depth)?;
                    }
                }
                Term::Choice(branches) => {
                    let branch = branches.choose(&mut self.rng)?;
                    // A branch that may be empty says nothing of itself: the writer may take another.
                    self.particle(complex, &Particle { min: branch.min.max(1), ..branch.clone() }, map, depth)?;
                }
                Term::Any if particle.min == 0 => {}
                Term::Any => return None,
            }
        }
        Some(())
    }

    fn candidates(&self, id: ElementId) -> Vec<ElementId> {
        let declared = self.schemas.element(id);
        let members = match self.schemas.global(&declared.name) == Some(id) {
            true => self.schemas.members(&declared.name),
            false => &[],
        };
        let all = std::iter::once(id).chain(members.iter().copied());
        all.filter(|id| !self.schemas.element(*id).is_abstract).collect()
    }

    /// Puts a value under its key: in a list where the field is one. `None` where two fields have one key.
    fn add(&self, complex: &Complex, id: ElementId, value: Value, map: &mut Map) -> Option<()> {
        let name = &self.schemas.element(id).name;
        let field = complex.fields.get(name)?;
        if complex.fields.keys().filter(|other| other.local == name.local).count() > 1 {
            return None;
        }
        let key = name.local.to_string();
        match (field.list, map.get_mut(&key)) {
            (true, Some(Value::List(list))) => list.push(value),
            (true, _) => {
                map.insert(key, Value::List(vec![value]));
            }
            (false, None) => {
                map.insert(key, value);
            }
            (false, Some(_)) => return None,
        }
        Some(())
    }

    fn simple(&mut self, ty: TypeId, simple: &Simple) -> Option<Value> {
        if let Some(allowed) = &simple.facets.enumeration {
            let text = allowed.choose(&mut self.rng)?;
            return simple::read(self.schemas, ty, text).ok();
        }
        // What the facets demand is found by trying; a pattern that no try meets is given up.
        for _ in 0..40 {
            let text = match &simple.variety {
                Variety::Atomic(kind) => self.atomic(*kind, simple),
                Variety::List(item) => {
                    let least = simple.facets.min_length.unwrap_or(1).max(1);
                    let count = self.rng.random_range(least..=least + 2);
                    let items: Option<Vec<_>> = (0..count).map(|_| self.of_type(*item, 0)?.to_plain_text()).collect();
                    items?.join(" ")
                }
                Variety::Union(members) => {
                    let member = *members.choose(&mut self.rng)?;
                    self.of_type(member, 0)?.to_plain_text()?
                }
            };
            if let Ok(value) = simple::read(self.schemas, ty, &text) {
                return Some(value);
            }
        }
        None
    }

    fn atomic(&mut self, kind: Kind, simple: &Simple) -> String {
        let rng = &mut self.rng;
        let (hours, minutes, day, month) =
            (rng.random_range(0..24), rng.random_range(0..60), rng.random_range(1..29), rng.random_range(1..13));
        let year = rng.random_range(1000..9999);
        use crate::xsd::Moment;
        match kind {
            Kind::Text | Kind::Replaced | Kind::Collapsed | Kind::Anything => self.words(simple),
            Kind::QName => "name".to_owned(),
            Kind::Boolean => ["true", "false", "1", "0"].choose(rng).copied().unwrap_or("true").to_owned(),
            Kind::Integer(bounds) => {
                // The judge knows no more than 24 digits.
                let edge = 10_i128.pow(20);
                let (least, most) = bounds.map_or((-edge, edge), |(least, most)| (least.max(-edge), most.min(edge)));
                let bound = |bound: &Option<(Number, bool)>, or: i128| {
                    bound.as_ref().and_then(|(number, _)| number.to_i64()).map_or(or, i128::from)
                };
                let (least, most) = (bound(&simple.facets.least, least), bound(&simple.facets.most, most));
                let near = if rng.random_bool(0.5) { most.min(least.saturating_add(100)) } else { most };
                rng.random_range(least.min(near)..=near).to_string()
            }
            Kind::Decimal => {
                let digits = simple.facets.fraction_digits.unwrap_or(3).min(3);
                let whole: u64 =
                    if rng.random_bool(0.5) { rng.random_range(0..100) } else { rng.random_range(0..99_999_999_999) };
                match digits {
                    0 => whole.to_string(),
                    _ => format!("{whole}.{}", "123".get(..digits).unwrap_or("1")),
                }
            }
            Kind::Float => ["1.5E3", "-0.25", "INF", "12345.678"].choose(rng).copied().unwrap_or("0").to_owned(),
            Kind::Moment(moment) => match moment {
                Moment::DateTime => format!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:09.5+08:00"),
                Moment::Date => format!("{year}-{month:02}-{day:02}"),
                Moment::Time => format!("{hours:02}:{minutes:02}:59Z"),
                Moment::Duration => format!("P{day}DT{hours}H"),
                Moment::Year => year.to_string(),
                Moment::YearMonth => format!("{year}-{month:02}"),
                Moment::Month => format!("--{month:02}"),
                Moment::MonthDay => format!("--{month:02}-{day:02}"),
                Moment::Day => format!("---{day:02}"),
            },
            Kind::Base64 => ["aGVsbG8=", "AA==", "5Lit5paH"].choose(rng).copied().unwrap_or("").to_owned(),
            Kind::Hex => ["00ff", "DEADBEEF"].choose(rng).copied().unwrap_or("").to_owned(),
        }
    }

    /// A text of the length that is asked for: names, digits, and what must be escaped.
    fn words(&mut self, simple: &Simple) -> String {
        let least = simple.facets.min_length.unwrap_or(0);
        let most = simple.facets.max_length.unwrap_or(12).min(least + 12).max(least);
        let length = self.rng.random_range(least..=most);
        let name = simple.name.as_ref().map(|name| name.local.to_string()).unwrap_or_default();
        let strict = matches!(
            name.as_str(),
            "language"
                | "Name"
                | "NCName"
                | "NMTOKEN"
                | "NMTOKENS"
                | "ID"
                | "IDREF"
                | "IDREFS"
                | "ENTITY"
                | "ENTITIES"
                | "anyURI"
        );
        // Identities refer to each other in ways that a model does not know.
        if strict || !matches!(simple.variety, Variety::Atomic(Kind::Text)) {
            return "abcdefghijklm".chars().cycle().take(length.max(1)).collect();
        }
        let alphabet: Vec<char> = match self.rng.random_range(0..3) {
            0 => "0123456789".chars().collect(),
            1 => "ABCXYZ".chars().collect(),
            _ => "ab<&>\"' 订单]é\n\t".chars().collect(),
        };
        (0..length).map(|_| *alphabet.choose(&mut self.rng).unwrap_or(&'x')).collect()
    }
}
