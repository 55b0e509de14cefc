//! The documents of a WSDL to [`Wsdl`] (WSDL 1.1, W3C Note 2001; SOAP 1.2 binding, W3C Member Submission 2006).

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_core::diagnostics::{Problem, Problems, Severity, SourceFile};
use gatehouse_core::xml::QName;
use roxmltree::{Document, Node};

use super::documents::{Documents, Find, WSDL, parse};
use super::model::{FaultMessage, HeaderFault, Message, Operation, Port, Protocol, Service, Wsdl};
use crate::envelope::Version;
use crate::xsd::{ElementDecl, ElementId, Reader, Schemas, XSD, problem, qname};

/// Drafts of XML Schema that some old WSDLs are still written in.
const DRAFTS: [&str; 2] = ["http://www.w3.org/1999/XMLSchema", "http://www.w3.org/2000/10/XMLSchema"];

/// Reads a WSDL and what it imports. `None` where a problem makes it unusable; every one is told.
pub(crate) fn read(root: SourceFile, find: Find<'_>, problems: &mut Problems) -> Option<Wsdl> {
    let mut found = Problems::new();
    let documents = Documents::gather(root, find, &mut found);
    let parsed: Vec<_> = documents.files.iter().map(parse).collect();
    let mut definitions = Definitions::default();
    let mut schemas = Vec::new();
    for (file, document) in parsed.iter().enumerate() {
        let Some(root) = document.as_ref().map(Document::root_element) else { continue };
        match (root.tag_name().namespace(), root.tag_name().name()) {
            (Some(WSDL), "definitions") => {
                definitions.add(file, root);
                let types = root.children().filter(|node| is(*node, "types"));
                schemas.extend(types.flat_map(|types| types.children()).filter_map(
                    |node| match node.tag_name().name() {
                        "schema" => Some((file, node)),
                        _ => None,
                    },
                ));
            }
            (Some("http://www.w3.org/ns/wsdl"), _) => {
                let message = "this is WSDL 2.0; SOAP systems offer WSDL 1.1 too, under `?wsdl`";
                found.push(problem("wsdl-version", &documents.files[file], root, message));
            }
            _ if file == 0 => {
                let message = format!("`{}` is no WSDL: expected `definitions`", root.tag_name().name());
                found.push(problem("wsdl-root", &documents.files[file], root, message));
            }
            // A schema that a `wsdl:import` names, which the standard does not foresee and many tools write.
            (Some(XSD), "schema") => schemas.push((file, root)),
            _ => {}
        }
    }
    let mut reader = Reader::new(&documents, &parsed, &mut found);
    for (file, node) in schemas {
        reader.add(file, node);
    }
    let mut schemas = reader.finish();
    for (file, document) in parsed.iter().enumerate() {
        let drafts = document.iter().flat_map(|document| document.root_element().descendants());
        if let Some(node) = drafts.filter(|node| is_draft(*node)).min_by_key(|node| node.range().start) {
            let message = "the schema is written in a draft of XML Schema of 1999 or 2000, which nobody reads any more";
            found.push(problem("xsd-draft", &documents.files[file], node, message).help(
                "change its namespace to `http://www.w3.org/2001/XMLSchema` and look at the types: `timeInstant` is \
                 `dateTime`, `binary` is `base64Binary`",
            ));
        }
    }
    let services = {
        let mut reading =
            Reading { documents: &documents, schemas: &mut schemas, problems: &mut found, definitions: &definitions };
        definitions.services.iter().map(|(file, node)| reading.service(*file, *node)).collect()
    };
    let sound = !found.has_errors();
    problems.extend(found);
    drop(definitions);
    drop(parsed);
    sound.then(|| Wsdl { services, schemas, documents })
}

fn is_draft(node: Node<'_, '_>) -> bool {
    node.tag_name().namespace().is_some_and(|namespace| DRAFTS.contains(&namespace))
}

/// Named things, each with its file.
type Space<'a> = HashMap<QName, (usize, Node<'a, 'a>)>;

/// The named parts of all documents, by where they stand.
#[derive(Default)]
struct Definitions<'a> {
    messages: Space<'a>,
    port_types: Space<'a>,
    bindings: Space<'a>,
    services: Vec<(usize, Node<'a, 'a>)>,
}

impl<'a> Definitions<'a> {
    fn add(&mut self, file: usize, root: Node<'a, 'a>) {
        let target = root.attribute("targetNamespace");
        for node in root.children().filter(|node| node.tag_name().namespace() == Some(WSDL)) {
            let name = QName::new(target, node.attribute("name").unwrap_or_default().trim());
            let space = match node.tag_name().name() {
                "message" => &mut self.messages,
                "portType" => &mut self.port_types,
                "binding" => &mut self.bindings,
                "service" => {
                    self.services.push((file, node));
                    continue;
                }
                _ => continue,
            };
            space.entry(name).or_insert((file, node));
        }
    }
}

struct Reading<'a, 'b> {
    documents: &'b Documents,
    schemas: &'b mut Schemas,
    problems: &'b mut Problems,
    definitions: &'b Definitions<'a>,
}

impl<'a> Reading<'a, '_> {
    fn service(&mut self, file: usize, node: Node<'a, 'a>) -> Service {
        let ports = node.children().filter(|node| is(*node, "port"));
        Service {
            name: node.attribute("name").unwrap_or_default().to_owned(),
            doc: documentation(node),
            ports: ports.filter_map(|port| self.port(file, port)).collect(),
        }
    }

    fn port(&mut self, file: usize, node: Node<'a, 'a>) -> Option<Port> {
        let (bound, binding) = self.named(file, node, "binding", |definitions| &definitions.bindings)?;
        let soap = Version::BOTH.into_iter().find_map(|version| {
            let element = binding.children().find(|child| child.has_tag_name((version.binding(), "binding")))?;
            Some((version.binding(), version, element))
        });
        let address = node.children().find(|child| child.tag_name().name() == "address");
        let (portfile, port_type) = self.named(bound, binding, "type", |definitions| &definitions.port_types)?;
        let style = soap.and_then(|(_, _, element)| element.attribute("style")).unwrap_or("document");
        let mut operations = Vec::new();
        for bound_operation in binding.children().filter(|node| is(*node, "operation")) {
            let name = bound_operation.attribute("name").unwrap_or_default();
            let abstract_ = matching(port_type, bound_operation);
            let Some(abstract_) = abstract_ else {
                let message = format!("the port type has no operation `{name}`; it is left out");
                self.warn("wsdl-operation", bound, bound_operation, message);
                continue;
            };
            let operation = Bound { file: bound, node: bound_operation, portfile, abstract_ };
            let read = self.operation(&operation, name, soap.map(|(ns, ..)| ns), style);
            // An operation whose messages are not there was told of; it cannot be called.
            let whole = |way: &str, read: &Option<Message>| {
                read.is_some() || soap.is_none() || !abstract_.children().any(|child| is(child, way))
            };
            if whole("input", &read.input) && whole("output", &read.output) {
                operations.push(Arc::new(read));
            }
        }
        Some(Port {
            name: node.attribute("name").unwrap_or_default().to_owned(),
            protocol: soap.map_or(Protocol::Other, |(_, version, _)| Protocol::Soap(version)),
            address: address.and_then(|node| node.attribute("location")).unwrap_or_default().trim().to_owned(),
            operations,
        })
    }

    fn operation(&mut self, bound: &Bound<'a>, name: &str, soap: Option<&str>, style: &str) -> Operation {
        let doc = documentation(bound.abstract_);
        let Some(soap) = soap else {
            let (name, action) = (name.to_owned(), String::new());
            return Operation { name, doc, action, rpc: false, input: None, output: None, faults: Vec::new() };
        };
        let own = bound.node.children().find(|child| child.has_tag_name((soap, "operation")));
        let rpc = own.and_then(|own| own.attribute("style")).unwrap_or(style) == "rpc";
        let wrapper = Wrapper { soap, rpc, operation: name };
        Operation {
            name: name.to_owned(),
            doc,
            action: own.and_then(|own| own.attribute("soapAction")).unwrap_or_default().trim().to_owned(),
            rpc,
            input: self.message(bound, "input", &wrapper),
            output: self.message(bound, "output", &wrapper),
            faults: self.faults(bound),
        }
    }

    fn message(&mut self, bound: &Bound<'a>, way: &str, wrapper: &Wrapper<'_>) -> Option<Message> {
        let abstract_ = bound.abstract_.children().find(|child| is(*child, way))?;
        let (file, message) = self.named(bound.portfile, abstract_, "message", |definitions| &definitions.messages)?;
        let binding = bound.node.children().find(|child| is(*child, way));
        let soap = |local: &'static str| {
            // Also within `mime:multipartRelated` / `mime:part` (WSDL 1.1 §5).
            binding
                .into_iter()
                .flat_map(|node| node.descendants())
                .filter(move |node| node.has_tag_name((wrapper.soap, local)))
        };
        let body = soap("body").next();
        let chosen: Option<Vec<&str>> =
            body.and_then(|body| body.attribute("parts")).map(|parts| parts.split_ascii_whitespace().collect());
        let (mut headers, mut header_faults, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for header in soap("header") {
            let Some(about) = self.block(bound.file, header, message, &mut taken) else { continue };
            headers.push(about);
            for fault in header.children().filter(|node| node.has_tag_name((wrapper.soap, "headerfault"))) {
                let block = self.block(bound.file, fault, message, &mut taken);
                header_faults.extend(block.map(|block| HeaderFault { about, block }));
            }
        }
        let attachments: Vec<String> = binding
            .into_iter()
            .flat_map(|node| node.descendants())
            .filter(|node| node.has_tag_name(("http://schemas.xmlsoap.org/wsdl/mime/", "content")))
            .filter_map(|node| node.attribute("part").map(str::to_owned))
            .collect();
        let encoded = body.and_then(|body| body.attribute("use")) == Some("encoded");
        let in_body = |node: &Node<'a, 'a>| {
            let name = node.attribute("name").unwrap_or_default();
            let named = chosen.as_ref().is_none_or(|chosen| chosen.contains(&name));
            named
                && !attachments.iter().any(|part| part == name)
                && !(chosen.is_none() && taken.iter().any(|part| part == name))
        };
        let selected: Vec<_> = parts(message).filter(in_body).collect();
        let body = if wrapper.rpc {
            let namespace = body.and_then(|body| body.attribute("namespace"));
            let suffix = if way == "output" { "Response" } else { "" };
            let name = QName::new(namespace, &format!("{}{suffix}", wrapper.operation));
            let children = selected.into_iter().filter_map(|part| self.rpc_part(file, part, encoded)).collect();
            vec![self.schemas.add_wrapper(name, children)]
        } else {
            selected.into_iter().filter_map(|part| self.element_of(file, part)).collect()
        };
        Some(Message { body, encoded, headers, header_faults, attachments })
    }

    /// The block that a `soap:header` or `soap:headerfault` names. A part of the message itself that it takes does not stand in the body.
    fn block(
        &mut self,
        file: usize,
        node: Node<'a, 'a>,
        message: Node<'a, 'a>,
        taken: &mut Vec<String>,
    ) -> Option<ElementId> {
        let (from, named) = self.named(file, node, "message", |d| &d.messages)?;
        let part = node.attribute("part").unwrap_or_default();
        if named == message {
            taken.push(part.to_owned());
        }
        let Some(part) = parts(named).find(|node| node.attribute("name") == Some(part)) else {
            self.warn("wsdl-part", file, node, format!("the message has no part `{part}`"));
            return None;
        };
        self.element_of(from, part)
    }

    /// A part of an rpc message: an element of its name in no namespace (WS-I Basic Profile R2735).
    fn rpc_part(&mut self, file: usize, part: Node<'a, 'a>, encoded: bool) -> Option<(ElementDecl, bool)> {
        let name = QName::new(None, part.attribute("name").unwrap_or_default().trim());
        if part.attribute("element").is_some() {
            let element = self.element_of(file, part)?;
            let declared = self.schemas.element(element).clone();
            return Some((declared, true));
        }
        let ty = part.attribute("type")?;
        let Some(ty) = qname(part, ty).and_then(|name| self.schemas.named_type(&name)) else {
            self.warn("wsdl-type", file, part, format!("the type `{ty}` is not defined; the part is carried as it is"));
            return Some((ElementDecl::anything(name), false));
        };
        // What is encoded says nil where it has nothing; old servers leave it out.
        Some((ElementDecl { ty, nillable: encoded, ..ElementDecl::anything(name) }, !encoded))
    }

    /// The element of a document part or header.
    fn element_of(&mut self, file: usize, part: Node<'a, 'a>) -> Option<ElementId> {
        let Some(text) = part.attribute("element") else {
            // `type` in document style: an element named as the part (used by headers of encoded services).
            let (declared, _) = self.rpc_part(file, part, false)?;
            return Some(self.schemas.add(declared));
        };
        let name = qname(part, text)?;
        if let Some(id) = self.schemas.global(&name) {
            return Some(id);
        }
        if name.namespace.as_deref() == Some(XSD) {
            return Some(self.schemas.add(ElementDecl::anything(name)));
        }
        self.warn("wsdl-element", file, part, format!("the element `{name}` is not defined; it is carried as it is"));
        Some(self.schemas.add(ElementDecl::anything(name)))
    }

    fn faults(&mut self, bound: &Bound<'a>) -> Vec<FaultMessage> {
        let mut faults = Vec::new();
        for fault in bound.abstract_.children().filter(|child| is(*child, "fault")) {
            let name = fault.attribute("name").unwrap_or_default().to_owned();
            let Some((file, message)) = self.named(bound.portfile, fault, "message", |d| &d.messages) else { continue };
            let detail = parts(message).next().and_then(|part| self.element_of(file, part));
            faults.push(FaultMessage { name, detail });
        }
        faults
    }

    /// What an attribute refers to.
    fn named(
        &mut self,
        file: usize,
        node: Node<'a, 'a>,
        attribute: &str,
        space: impl for<'d> Fn(&'d Definitions<'a>) -> &'d Space<'a>,
    ) -> Option<(usize, Node<'a, 'a>)> {
        let Some(text) = node.attribute(attribute) else {
            self.tell("wsdl-reference", file, node, format!("`{attribute}` is missing"));
            return None;
        };
        let name = qname(node, text);
        let space = space(self.definitions);
        if let Some(found) = name.as_ref().and_then(|name| space.get(name)) {
            return Some(*found);
        }
        let local = text.rsplit(':').next().unwrap_or(text);
        // Old tools forget prefixes. Where only one thing has the local name, it is meant.
        let mut elsewhere = space.iter().filter(|(other, _)| &*other.local == local);
        if let (Some((_, found)), None) = (elsewhere.next(), elsewhere.next()) {
            return Some(*found);
        }
        let message = match &name {
            Some(name) => format!("there is no {attribute} `{name}`; what needs it is left out"),
            None => format!("the prefix of `{text}` is bound to no namespace; what needs it is left out"),
        };
        let mut problem = problem("wsdl-reference", &self.documents.files[file], node, message);
        problem.severity = Severity::Warning;
        self.problems.push(problem.did_you_mean(local, space.keys().map(|name| &*name.local)));
        None
    }

    fn tell(&mut self, code: &'static str, file: usize, node: Node<'_, '_>, message: String) {
        self.problems.push(problem(code, &self.documents.files[file], node, message));
    }

    /// Public WSDLs are full of loose ends in operations that nobody calls: what can be used still is.
    fn warn(&mut self, code: &'static str, file: usize, node: Node<'_, '_>, message: String) {
        let problem = problem(code, &self.documents.files[file], node, message);
        self.problems.push(Problem { severity: Severity::Warning, ..problem });
    }
}

/// An operation of a binding, and that of the port type which it binds.
struct Bound<'a> {
    file: usize,
    node: Node<'a, 'a>,
    portfile: usize,
    abstract_: Node<'a, 'a>,
}

/// How the body of an operation's messages is put together.
struct Wrapper<'s> {
    soap: &'s str,
    rpc: bool,
    operation: &'s str,
}

/// The operation of a port type that one of a binding means: by name, and where names are overloaded by those of its messages
/// (WSDL 1.1 §2.5).
fn matching<'a>(port_type: Node<'a, 'a>, bound: Node<'a, 'a>) -> Option<Node<'a, 'a>> {
    let name = |node: Node<'a, 'a>, way: &str| {
        node.children().find(|child| is(*child, way)).and_then(|child| child.attribute("name"))
    };
    let same: Vec<_> = port_type
        .children()
        .filter(|node| is(*node, "operation") && node.attribute("name") == bound.attribute("name"))
        .collect();
    let exact = same.iter().find(|node| {
        ["input", "output"].iter().all(|way| name(bound, way).is_none() || name(bound, way) == name(**node, way))
    });
    exact.or(same.first()).copied()
}

fn parts<'a>(message: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    message.children().filter(|node| is(*node, "part"))
}

fn is(node: Node<'_, '_>, local: &str) -> bool {
    node.has_tag_name((WSDL, local))
}

fn documentation(node: Node<'_, '_>) -> Option<Arc<str>> {
    let text = node.children().find(|child| is(*child, "documentation"))?.text()?;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = words.chars().take(120).collect();
    (!cut.is_empty()).then(|| Arc::from(cut))
}

/// A problem of a WSDL told at the place that names it in a system's file.
pub(crate) fn unusable(file: &SourceFile, span: std::ops::Range<usize>, path: &str) -> Problem {
    Problem::error("wsdl", file, span, format!("`{path}` cannot be used")).help("see what is told of the file itself")
}
