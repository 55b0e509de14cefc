//! Schema documents to [`Schemas`]: every global element and type, references resolved, extensions laid out flat.
//!
//! A type is given its index when it is first named and read later, so that types may contain each other; only a base must be
//! read before what derives from it.

mod particles;
mod simple;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use gatehouse_core::diagnostics::{Problems, Severity, closest};
use gatehouse_core::xml::{QName, SOAP_ENC, SOAP12_ENC};
use indexmap::IndexMap;
use roxmltree::{Document, Node};

use crate::wsdl::documents::{Documents, WSDL};
use crate::xsd::builtin::{BUILTINS, Kind, XSD};
use crate::xsd::facets::Facets;
use crate::xsd::model::{
    ANY_TYPE, AttributeUse, Complex, Content, ElementDecl, ElementId, Particle, Schemas, Simple, Term, Type, TypeId,
    Variety, builtin_type,
};
use crate::xsd::symbols::{Kind as Space, Place, Symbols, problem, qname};

/// How deep groups may hold groups.
const MAX_GROUPS: usize = 32;

/// How long a chain of bases may be.
const MAX_BASES: usize = 200;

/// The most particles of all types: groups that hold groups twice grow without bound.
const MAX_PARTICLES: usize = 500_000;

/// The most characters of a documentation that are kept.
const MAX_DOC: usize = 120;

/// Reads schemas.
pub(crate) struct Reader<'a> {
    documents: &'a Documents,
    parsed: &'a [Option<Document<'a>>],
    problems: &'a mut Problems,
    symbols: Symbols<'a>,
    out: Schemas,
    /// Types that have an index and are not read yet.
    unread: HashMap<TypeId, Place<'a>>,
    queue: VecDeque<TypeId>,
    /// Types that are redefined, by where they stand: they have no name of their own any more.
    behind: HashMap<(usize, u32), TypeId>,
    /// Bases whose reading has begun, to find a type that derives from itself.
    open: Vec<TypeId>,
    groups: usize,
    particles: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        documents: &'a Documents,
        parsed: &'a [Option<Document<'a>>],
        problems: &'a mut Problems,
    ) -> Self {
        let atomic = |(name, kind): &(&str, Kind)| {
            let name = Some(QName::new(Some(XSD), name));
            Type::Simple(Simple { name, variety: Variety::Atomic(*kind), facets: Facets::default() })
        };
        let mut types: Vec<_> = BUILTINS.iter().map(atomic).collect();
        types.push(Type::Complex(Complex {
            name: Some(QName::new(Some(XSD), "anyType")),
            base: None,
            is_abstract: false,
            mixed: true,
            content: Content::Anything,
            attributes: Vec::new(),
            any_attribute: true,
            fields: IndexMap::new(),
            any: true,
        }));
        Self {
            documents,
            parsed,
            problems,
            symbols: Symbols::default(),
            out: Schemas { types, ..Schemas::default() },
            unread: HashMap::new(),
            behind: HashMap::new(),
            queue: VecDeque::new(),
            open: Vec::new(),
            groups: 0,
            particles: 0,
        }
    }

    /// Takes up a `schema` element and what it leads to.
    pub(crate) fn add(&mut self, file: usize, node: Node<'a, 'a>) {
        self.symbols.add(file, node, None, self.documents, self.parsed);
    }

    /// Reads all that was taken up.
    pub(crate) fn finish(mut self) -> Schemas {
        for (name, place) in std::mem::take(&mut self.symbols.order) {
            match place.node.tag_name().name() {
                "element" => {
                    self.global_element(&name);
                }
                "simpleType" | "complexType" => {
                    self.global_type(&name);
                }
                _ => {}
            }
        }
        while let Some(id) = self.queue.pop_front() {
            self.read(id);
        }
        self.out.substitutions();
        self.out.flatten();
        self.out
    }

    fn global_element(&mut self, name: &QName) -> Option<ElementId> {
        if let Some(id) = self.out.global_elements.get(name) {
            return Some(*id);
        }
        let place = *self.symbols.elements.get(name)?;
        let id = ElementId(self.out.elements.len() as u32);
        self.out.global_elements.insert(name.clone(), id);
        // Its place is taken before its type is looked at: the type may refer to the element.
        self.out.elements.push(ElementDecl {
            name: name.clone(),
            ty: ANY_TYPE,
            nillable: false,
            is_abstract: false,
            default: None,
            fixed: false,
            doc: None,
            head: None,
        });
        let declared = self.declaration(name.clone(), place);
        self.out.elements[id.0 as usize] = declared;
        Some(id)
    }

    fn declaration(&mut self, name: QName, place: Place<'a>) -> ElementDecl {
        let node = place.node;
        let flag = |name: &str| matches!(node.attribute(name), Some("true" | "1"));
        let head = node.attribute("substitutionGroup").and_then(|head| self.name(place, head));
        let fixed = node.attribute("fixed");
        let ty = self.type_of(place).or_else(|| {
            // Without a type of its own, a member has that of its head (Part 1 §3.3.2).
            let head = self.global_element(head.as_ref()?)?;
            Some(self.out.element(head).ty)
        });
        ElementDecl {
            name,
            ty: ty.unwrap_or(ANY_TYPE),
            nillable: flag("nillable"),
            is_abstract: flag("abstract"),
            default: fixed.or(node.attribute("default")).map(Arc::from),
            fixed: fixed.is_some(),
            doc: documentation(node),
            head,
        }
    }

    /// The type that an element or attribute says, by name or within it.
    fn type_of(&mut self, place: Place<'a>) -> Option<TypeId> {
        if let Some(name) = place.node.attribute("type") {
            return Some(self.type_named(place, name));
        }
        let inner = place.node.children().find(|child| is(*child, "simpleType") || is(*child, "complexType"))?;
        Some(self.anonymous(Place { node: inner, ..place }))
    }

    fn anonymous(&mut self, place: Place<'a>) -> TypeId {
        let id = self.allot();
        self.unread.insert(id, place);
        self.queue.push_back(id);
        id
    }

    fn allot(&mut self) -> TypeId {
        let id = TypeId(self.out.types.len() as u32);
        self.out.types.push(Type::Complex(self.anything()));
        id
    }

    fn anything(&self) -> Complex {
        Complex {
            name: None,
            base: None,
            is_abstract: false,
            mixed: false,
            content: Content::Empty,
            attributes: Vec::new(),
            any_attribute: false,
            fields: IndexMap::new(),
            any: false,
        }
    }

    fn global_type(&mut self, name: &QName) -> Option<TypeId> {
        if let Some(id) = self.out.global_types.get(name) {
            return Some(*id);
        }
        let place = *self.symbols.types.get(name)?;
        let id = self.anonymous(place);
        self.out.global_types.insert(name.clone(), id);
        Some(id)
    }

    /// The type that is meant by its name within its own redefinition.
    fn redefined_type(&mut self, place: Place<'a>, name: &QName) -> Option<TypeId> {
        let found = self.symbols.find(Space::Type, place, name)?;
        if self.symbols.types.get(name).is_some_and(|current| current.node == found.node) {
            return None;
        }
        let key = (self.symbols.schemas[found.schema].file, found.node.id().get());
        if let Some(id) = self.behind.get(&key) {
            return Some(*id);
        }
        let id = self.anonymous(found);
        self.behind.insert(key, id);
        Some(id)
    }

    fn type_named(&mut self, place: Place<'a>, text: &str) -> TypeId {
        let Some(name) = self.name(place, text) else { return ANY_TYPE };
        if let Some(id) = builtin_type(&name).or_else(|| self.redefined_type(place, &name)) {
            return id;
        }
        if let Some(id) = self.global_type(&name) {
            return id;
        }
        match name.namespace.as_deref() {
            Some(SOAP_ENC | SOAP12_ENC) if &*name.local == "Array" => {
                let id = self.allot();
                let array = Complex { content: Content::Array { item: ANY_TYPE, dimensions: 1 }, ..self.anything() };
                self.out.types[id.0 as usize] = Type::Complex(Complex { name: Some(name.clone()), ..array });
                self.out.global_types.insert(name, id);
                id
            }
            // What else the encodings and the schema language itself name is carried as it is.
            Some(SOAP_ENC | SOAP12_ENC | XSD) => ANY_TYPE,
            _ => {
                // A chameleon's own types have the namespace of who includes it.
                let target = self.symbols.schemas[place.schema].target.clone();
                if name.namespace.is_none()
                    && let Some(id) = self.global_type(&QName { namespace: target, local: name.local.clone() })
                {
                    return id;
                }
                self.undefined("type", place, &name);
                ANY_TYPE
            }
        }
    }

    fn undefined(&mut self, what: &str, place: Place<'a>, name: &QName) {
        let known = match what {
            "type" => &self.symbols.types,
            "element" => &self.symbols.elements,
            "group" => &self.symbols.groups,
            "attribute group" => &self.symbols.attribute_groups,
            _ => &self.symbols.attributes,
        };
        let near = closest(&name.local, known.keys().map(|name| &*name.local)).map(str::to_owned);
        let elsewhere = known.keys().find(|other| other.local == name.local).cloned();
        let file = &self.documents.files[self.symbols.schemas[place.schema].file];
        let message = format!("the {what} `{name}` is not defined; what it stands for is carried as it is");
        let mut problem = problem("xsd-undefined", file, place.node, message);
        problem.severity = Severity::Warning;
        if let Some(elsewhere) = elsewhere {
            problem = problem.help(format!("there is `{elsewhere}`: is a prefix or an import wrong?"));
        } else if let Some(near) = near {
            problem = problem.help(format!("did you mean `{near}`?"));
        }
        self.problems.push(problem);
    }

    fn name(&mut self, place: Place<'a>, text: &str) -> Option<QName> {
        let name = qname(place.node, text);
        if name.is_none() {
            self.tell(place, format!("the prefix of `{text}` is bound to no namespace"));
        }
        name
    }

    fn tell(&mut self, place: Place<'a>, message: String) {
        let file = &self.documents.files[self.symbols.schemas[place.schema].file];
        self.problems.push(problem("xsd", file, place.node, message));
    }

    /// Reads a type, if that is not done.
    fn read(&mut self, id: TypeId) {
        let Some(place) = self.unread.get(&id).copied() else { return };
        if self.open.contains(&id) {
            self.tell(place, "the type derives from itself".to_owned());
            return;
        }
        if self.open.len() >= MAX_BASES {
            self.tell(place, format!("the type has more than {MAX_BASES} bases above it"));
            return;
        }
        self.open.push(id);
        let ty = match place.node.tag_name().name() {
            "simpleType" => Type::Simple(self.simple(place)),
            _ => Type::Complex(self.complex(place)),
        };
        self.open.pop();
        self.unread.remove(&id);
        self.out.types[id.0 as usize] = ty;
    }

    fn own_name(&self, place: Place<'a>) -> Option<QName> {
        let target = self.symbols.schemas[place.schema].target.as_deref();
        place.node.attribute("name").map(|name| QName::new(target, name.trim()))
    }

    fn complex(&mut self, place: Place<'a>) -> Complex {
        let node = place.node;
        let flag = |node: Node<'_, '_>, name: &str| matches!(node.attribute(name), Some("true" | "1"));
        let mut complex = Complex {
            name: self.own_name(place),
            is_abstract: flag(node, "abstract"),
            mixed: flag(node, "mixed"),
            ..self.anything()
        };
        let content = node.children().find(|child| is(*child, "simpleContent") || is(*child, "complexContent"));
        let Some(content) = content else {
            complex.content = self.children(place);
            self.attributes(place, &mut complex);
            return complex;
        };
        complex.mixed |= flag(content, "mixed");
        let Some(step) = content.children().find(|child| is(*child, "extension") || is(*child, "restriction")) else {
            self.tell(place, "expected an extension or a restriction here".to_owned());
            return complex;
        };
        let place = Place { node: step, ..place };
        let Some(base_name) = step.attribute("base") else {
            self.tell(place, "the base is not named".to_owned());
            return complex;
        };
        let base = self.type_named(place, base_name);
        self.read(base);
        complex.base = Some(base).filter(|base| *base != ANY_TYPE);
        if let Type::Complex(base) = self.out.ty(base) {
            complex.attributes.clone_from(&base.attributes);
            complex.any_attribute = base.any_attribute && base.content.is_typed();
            complex.mixed |= base.mixed && base.content.is_typed();
        }
        let extends = is(step, "extension");
        complex.content = match is(content, "simpleContent") {
            true => self.simple_content(place, base, extends),
            false => self.complex_content(place, base, extends),
        };
        self.attributes(place, &mut complex);
        complex
    }

    fn complex_content(&mut self, place: Place<'a>, base: TypeId, extends: bool) -> Content {
        let inherited = match self.out.ty(base) {
            Type::Complex(base) => base.content.clone(),
            Type::Simple(_) => Content::Empty,
        };
        if let Content::Array { item, dimensions } = inherited {
            return self.array(place, item, dimensions);
        }
        let own = self.children(place);
        match (extends, inherited, own) {
            (true, Content::Children(first), Content::Children(second)) => {
                Content::Children(Particle { min: 1, max: 1, term: Term::Sequence(vec![first, second]) })
            }
            (true, inherited @ Content::Children(_), _) => inherited,
            (_, _, own) => own,
        }
    }

    /// A type derived from the array of an encoding: what `arrayType` says, or the one element in it.
    fn array(&mut self, place: Place<'a>, item: TypeId, dimensions: u8) -> Content {
        let said = place
            .node
            .children()
            .filter(|child| is(*child, "attribute"))
            .find_map(|child| child.attribute((WSDL, "arrayType")).map(|text| (child, text.to_owned())));
        if let Some((node, text)) = said {
            let (name, brackets) = text.split_once('[').unwrap_or((&text, ""));
            let dimensions = 1 + brackets.matches([',', '[']).count().min(7) as u8;
            let item = self.type_named(Place { node, ..place }, name);
            return Content::Array { item, dimensions };
        }
        if let Content::Children(particle) = self.children(place)
            && let Some(element) = particle.only_element()
        {
            return Content::Array { item: self.out.element(element).ty, dimensions };
        }
        Content::Array { item, dimensions }
    }

    fn attributes(&mut self, place: Place<'a>, complex: &mut Complex) {
        for node in place.node.children() {
            let place = Place { node, ..place };
            if is(node, "anyAttribute") {
                complex.any_attribute = true;
            } else if is(node, "attribute") {
                self.attribute(place, complex);
            } else if is(node, "attributeGroup")
                && let Some(name) = node.attribute("ref").and_then(|text| self.name(place, text))
            {
                match self.symbols.find(Space::AttributeGroup, place, &name) {
                    Some(group) if self.groups < MAX_GROUPS => {
                        self.groups += 1;
                        self.attributes(group, complex);
                        self.groups -= 1;
                    }
                    Some(_) => self.tell(place, "groups hold groups without end".to_owned()),
                    None => self.undefined("attribute group", place, &name),
                }
            }
        }
    }

    fn attribute(&mut self, place: Place<'a>, complex: &mut Complex) {
        let node = place.node;
        let (name, ty) = match (node.attribute("ref"), node.attribute("name")) {
            (Some(text), _) => {
                let Some(name) = self.name(place, text) else { return };
                let Some(global) = self.symbols.attributes.get(&name).copied() else {
                    // Attributes of the encodings, and of namespaces that bring no schema: carried as text.
                    complex.any_attribute = true;
                    return;
                };
                (name, self.type_of(global))
            }
            (None, Some(local)) => {
                let schema = &self.symbols.schemas[place.schema];
                let qualified = node.attribute("form").map_or(schema.attributes_qualified, |form| form == "qualified");
                let name = QName::new(schema.target.as_deref().filter(|_| qualified), local.trim());
                (name, self.type_of(place))
            }
            (None, None) => return,
        };
        complex.attributes.retain(|known| known.name != name);
        if node.attribute("use") != Some("prohibited") {
            complex.attributes.push(AttributeUse {
                name,
                ty: ty.unwrap_or(TypeId(0)),
                required: node.attribute("use") == Some("required"),
                fixed: node.attribute("fixed").map(Arc::from),
            });
        }
    }
}

/// Whether a node is an element of the schema language with this name.
fn is(node: Node<'_, '_>, local: &str) -> bool {
    node.tag_name().name() == local && node.tag_name().namespace() == Some(XSD)
}

/// The first words of the documentation in a node.
pub(crate) fn documentation(node: Node<'_, '_>) -> Option<Arc<str>> {
    let annotation = node.children().find(|child| is(*child, "annotation"))?;
    let text = annotation.children().find(|child| is(*child, "documentation"))?.text()?;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = words.chars().take(MAX_DOC).collect();
    (!cut.is_empty()).then(|| Arc::from(cut))
}
