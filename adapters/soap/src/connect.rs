//! `gatehouse connect soap` and `gatehouse wsdl show`: what a WSDL offers, as a tree and as files to begin with. Reads and writes
//! nothing itself.

use std::fmt::Write as _;
use std::sync::Arc;

use gatehouse_core::diagnostics::{Problems, SourceFile};

use crate::body_schema::json_schema;
use crate::outline::{Line, outline};
use crate::wsdl::documents;
use crate::wsdl::{self, Message, Operation, Port, Protocol, Service, Wsdl};
use crate::xsd::ElementId;

/// Where files beside the WSDL are found.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<SourceFile>;

/// The file name under which a document that came from a URL is kept: `http://h/sales?xsd=1` is `sales_xsd_1.xsd`.
#[must_use]
pub fn local_name(url: &str) -> String {
    documents::local_name(url)
}

/// The locations that a document imports or includes, as it writes them. Nothing of one that is not well-formed.
#[must_use]
pub fn imports(file: &SourceFile) -> Vec<String> {
    documents::locations(file)
}

/// The deepest fields of a mapping skeleton.
const SKELETON_DEPTH: usize = 8;

/// The most rows of a mapping skeleton; more would not be read.
const MAX_ROWS: usize = 400;

/// A WSDL that was read.
pub struct Description {
    wsdl: Wsdl,
}

/// What to write for a system.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The system's name: `erp`.
    pub system: String,
    /// The path of the WSDL in the site: `wsdl/sales.wsdl`.
    pub wsdl: String,
    /// The port; the first that speaks SOAP where it is not named.
    pub port: Option<String>,
    /// The operations; all where none is named.
    pub operations: Vec<String>,
    /// The path on which the system calls the gateway; without it the gateway calls the system.
    pub listen: Option<String>,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Relative to the site.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl Description {
    /// Reads a WSDL; `None` where it cannot be used. Everything that is wrong with it is told.
    pub fn read(root: SourceFile, find: Find<'_>, problems: &mut Problems) -> Option<Self> {
        wsdl::read(root, find, problems).map(|wsdl| Self { wsdl })
    }

    /// The names of the files that it is made of, itself first; not those of the built-in catalogue.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.wsdl.documents.files.iter().map(SourceFile::name).filter(|name| !name.starts_with("catalogue:"))
    }

    /// Services, ports, operations and fields, for people. `only`: these operations; `depth`: fields no deeper.
    #[must_use]
    pub fn tree(&self, only: &[String], depth: usize) -> String {
        let mut out = String::new();
        for service in &self.wsdl.services {
            let _ = writeln!(out, "service {}{}", service.name, about(service.doc.as_ref()));
            for port in &service.ports {
                let speaks = match port.protocol {
                    Protocol::Soap(version) => format!("SOAP {}", version.number()),
                    Protocol::Other => "not SOAP".to_owned(),
                };
                let _ = writeln!(out, "  port {}  {speaks}  {}", port.name, port.address);
                for operation in port.operations.iter().filter(|one| only.is_empty() || only.contains(&one.name)) {
                    self.operation(&mut out, operation, depth);
                }
            }
        }
        let (elements, types) = self.wsdl.schemas.counts();
        let _ = writeln!(out, "{elements} elements and {types} types are declared");
        out
    }

    fn operation(&self, out: &mut String, operation: &Operation, depth: usize) {
        let style = match (operation.rpc, operation.input.as_ref().is_some_and(|input| input.encoded)) {
            (true, true) => "rpc/encoded",
            (true, false) => "rpc/literal",
            (false, _) => "document/literal",
        };
        let one_way = if operation.output.is_none() { ", one-way" } else { "" };
        let _ = writeln!(out, "    {}  {style}{one_way}{}", operation.name, about(operation.doc.as_ref()));
        if !operation.action.is_empty() {
            let _ = writeln!(out, "      action {}", operation.action);
        }
        for (word, message) in [("request", &operation.input), ("reply", &operation.output)] {
            for id in message.iter().flat_map(|message: &Message| &message.body) {
                self.element(out, word, *id, depth);
            }
            for id in message.iter().flat_map(|message| &message.headers) {
                self.element(out, &format!("{word} header"), *id, depth);
            }
            for fault in message.iter().flat_map(|message| &message.header_faults) {
                let about = &self.wsdl.schemas.element(fault.about).name.local;
                self.element(out, &format!("header fault of {about}"), fault.block, depth);
            }
            for part in message.iter().flat_map(|message| &message.attachments) {
                let _ = writeln!(out, "      {word} attachment {part}");
            }
        }
        for fault in &operation.faults {
            match fault.detail {
                Some(id) => self.element(out, &format!("fault {}", fault.name), id, depth),
                None => {
                    let _ = writeln!(out, "      fault {}", fault.name);
                }
            }
        }
    }

    fn element(&self, out: &mut String, word: &str, id: ElementId, depth: usize) {
        let _ = writeln!(out, "      {word} {}", self.wsdl.schemas.element(id).name);
        for line in outline(&self.wsdl.schemas, id, depth) {
            let list = if line.list { "[]" } else { "" };
            let key = format!("{}{}{list}", "  ".repeat(line.depth), line.key);
            let _ = writeln!(out, "        {key:<32} {}", remark(&line));
        }
    }

    /// The files to begin with: the system's, a JSON Schema for each body, a mapping skeleton for each operation.
    ///
    /// # Errors
    /// A port or an operation that the WSDL does not have, in a sentence.
    pub fn files_for(&self, wanted: &Wanted) -> Result<Vec<NewFile>, String> {
        let ports: Vec<_> = self.wsdl.soap_ports().collect();
        let found = match &wanted.port {
            Some(name) => ports.iter().find(|(_, port)| port.name == *name),
            None => ports.first(),
        };
        let Some((service, port)) = found else {
            let names: Vec<_> = ports.iter().map(|(_, port)| port.name.as_str()).collect();
            return Err(match &wanted.port {
                Some(name) => format!("there is no SOAP port `{name}`; there are: {}", names.join(", ")),
                None => "no port of the WSDL speaks SOAP".to_owned(),
            });
        };
        let mut chosen: Vec<&Arc<Operation>> = Vec::new();
        for name in &wanted.operations {
            let Some(operation) = port.operation(name) else {
                let names: Vec<_> = port.operations.iter().map(|operation| operation.name.as_str()).collect();
                return Err(format!(
                    "the port `{}` has no operation `{name}`; it has: {}",
                    port.name,
                    names.join(", ")
                ));
            };
            chosen.push(operation);
        }
        if chosen.is_empty() {
            chosen.extend(&port.operations);
        }
        // Overloaded operations have one name; an endpoint has one operation.
        let mut names = std::collections::HashSet::new();
        chosen.retain(|operation| names.insert(operation.name.as_str()));
        let mut files = vec![self.system_file(wanted, service, port, &chosen)];
        for operation in &chosen {
            self.operation_files(wanted, operation, &mut files);
        }
        Ok(files)
    }

    fn system_file(&self, wanted: &Wanted, service: &Service, port: &Port, chosen: &[&Arc<Operation>]) -> NewFile {
        let system = &wanted.system;
        let secret = system.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let version = port.version().map_or("1.1", |version| version.number());
        let mut text = format!(
            "# {}: written from the WSDL by `gatehouse connect soap`, to be changed by you.\nversion: 1\nsystem: {system}\n\
             adapter: soap\nwsdl: {}\nport: {}   # SOAP {version}\n",
            one_line(&service.name),
            quoted(&wanted.wsdl),
            quoted(&port.name),
        );
        match &wanted.listen {
            Some(_) => {
                let _ = writeln!(
                    text,
                    "accept:\n  basic: {{ username: {system}, password: \"${{env:{secret}_INBOUND_PASSWORD}}\" }}"
                );
            }
            None => {
                if gatehouse_net::client::check_address(&port.address).is_err() {
                    let _ = writeln!(
                        text,
                        "# The WSDL says `{}`, which is no address: write the real one.",
                        one_line(&port.address)
                    );
                }
                let _ = writeln!(
                    text,
                    "address: {}\n# auth:\n#   basic: {{ username: bus, password: \"${{env:{secret}_PASSWORD}}\" }}\n\
                     limits: {{ concurrency: 8, timeout: 30s }}",
                    quoted(match gatehouse_net::client::check_address(&port.address) {
                        Ok(_) => &port.address,
                        Err(_) => "http://127.0.0.1:8080/",
                    }),
                );
            }
        }
        text.push_str("endpoints:\n");
        for operation in chosen {
            if let Some(doc) = &operation.doc {
                let _ = writeln!(text, "  # {}", one_line(doc));
            }
            match &wanted.listen {
                Some(path) => {
                    let _ = writeln!(text, "  {}: {{ listen: {} }}", quoted(&operation.name), quoted(path));
                }
                None => {
                    let _ = writeln!(text, "  {}:", quoted(&operation.name));
                    let _ = writeln!(text, "    operation: {}", quoted(&operation.name));
                    if operation.output.is_some() {
                        text.push_str("    # A 200 alone means little: say what in the reply means yes.\n");
                        text.push_str("    # success_when: reply.RESULT == \"OK\"\n    # error_text: reply.MESSAGE\n");
                    }
                }
            }
        }
        NewFile { path: format!("systems/{system}.yaml"), text }
    }

    fn operation_files(&self, wanted: &Wanted, operation: &Operation, files: &mut Vec<NewFile>) {
        let (system, name) = (&wanted.system, &operation.name);
        for (suffix, word, message) in [("", "request", &operation.input), (".reply", "reply", &operation.output)] {
            let Some([only]) = message.as_ref().map(|message| message.body.as_slice()) else { continue };
            let ty = format!("{system}.{name}{suffix}");
            let title = format!("The {word} of {name} of {system}");
            let schema = json_schema(&self.wsdl.schemas, *only, &ty, &title);
            files.push(NewFile { path: format!("types/{ty}.schema.json"), text: pretty(&schema) + "\n" });
        }
        let Some([body]) = operation.input.as_ref().map(|input| input.body.as_slice()) else { return };
        let lines = outline(&self.wsdl.schemas, *body, SKELETON_DEPTH);
        files.push(mapping(wanted, operation, &lines));
    }
}

fn pretty(value: &gatehouse_core::Value) -> String {
    let bytes = gatehouse_core::json::encode(value);
    let parsed = serde_json::from_slice::<serde_json::Value>(&bytes);
    parsed.and_then(|parsed| serde_json::to_string_pretty(&parsed)).unwrap_or_default()
}

/// The skeleton: each field from a field of the same name, to be changed to what the canonical type calls it.
fn mapping(wanted: &Wanted, operation: &Operation, lines: &[Line]) -> NewFile {
    let (system, name) = (&wanted.system, &operation.name);
    let (mapping, change) = match wanted.listen {
        Some(_) => {
            (format!("{system}-{name}"), "change each `to` to the field of your type, and name that under `to:`")
        }
        None => (
            format!("to-{system}-{name}"),
            "change each `from` to the field of your type; remove rows that you do not need",
        ),
    };
    let mut text = format!("# {name} of {system}: {change}.\nversion: 1\nmapping: {}\nrows:\n", quoted(&mapping));
    let leaves: Vec<_> = lines.iter().filter_map(|line| Some((line, line.leaf?))).collect();
    for (line, leaf) in leaves.iter().take(MAX_ROWS) {
        let path = quoted(&line.path);
        let required = if line.required && wanted.listen.is_none() { ", required: true" } else { "" };
        let row = format!("  - {{ to: {path}, from: {path}, type: {leaf}{required} }}");
        let doc = line
            .doc
            .as_deref()
            .map(|doc| format!(". {}", one_line(doc).chars().take(60).collect::<String>()))
            .unwrap_or_default();
        let _ = writeln!(text, "{row:<70} # {}{doc}", remark(line));
    }
    if leaves.is_empty() {
        text = format!("# {name} of {system} has no fields.\nversion: 1\nmapping: {}\nrows: []\n", quoted(&mapping));
    }
    if leaves.len() > MAX_ROWS {
        let _ = writeln!(text, "# {} more fields: `gatehouse wsdl show` has them all.", leaves.len() - MAX_ROWS);
    }
    NewFile { path: format!("mappings/{mapping}.yaml"), text }
}

fn remark(line: &Line) -> String {
    let mut words = vec![one_line(&line.about)];
    words.push(match (line.required, line.list) {
        (true, true) => "one or more".to_owned(),
        (true, false) => "required".to_owned(),
        (false, _) => "optional".to_owned(),
    });
    if line.nillable {
        words.push("may be nil".to_owned());
    }
    words.retain(|word| !word.is_empty());
    words.join("; ")
}

fn about(doc: Option<&Arc<str>>) -> String {
    doc.map(|doc| format!("  # {}", one_line(doc))).unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text as YAML has it, in quotes where it needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "~" | ""
    );
    let starts_well = text.chars().next().is_some_and(char::is_alphabetic) || text.starts_with('/');
    if !word && starts_well && text.chars().all(plain) && !text.ends_with(':') {
        return text.to_owned();
    }
    format!("\"{}\"", one_line(text).replace('\\', "\\\\").replace('"', "\\\""))
}
