//! A SOAP system's file: what serde reads, and its check into operations that cannot be wrong.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use gatehouse_core::adapter::{Direction, Endpoint};
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::limits::{Circuit, CircuitFile, Limits, LimitsFile};
use gatehouse_core::outcome::{OutcomeFile, OutcomeRule};
use gatehouse_core::path::Path;
use gatehouse_core::xml::{self, QName};
use gatehouse_core::yaml::{self, Entries, Located};
use gatehouse_net::auth::{AcceptFile, AuthFile};
use gatehouse_net::{client, path};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::envelope::Version;
use crate::template::{Template, TemplateFile};

/// The names that a header block's expressions see.
const CALL_NAMES: [&str; 3] = ["body", "message", "delivery_id"];

/// The names that a reply's expressions see.
const REPLY_NAMES: [&str; 3] = ["body", "message_id", "reply"];

/// A system that speaks SOAP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemFile {
    /// The version of this file's format: 1.
    #[serde(rename = "version")]
    _version: u32,
    /// The system's name; the file is called so.
    system: Located<String>,
    /// `soap`.
    #[serde(rename = "adapter")]
    _adapter: String,
    /// Where calls go: `https://host:port/path`. Needed where an endpoint is outbound.
    address: Option<Located<String>>,
    /// The version in which it is called: `"1.1"` (default) or `"1.2"`. Inbound endpoints take both.
    soap: Option<Located<String>>,
    /// The charset in which it is called: `GBK`, `UTF-16` … Default UTF-8. What it lacks is written as `&#…;`.
    charset: Option<Located<String>>,
    /// A PEM file with the CA that its certificate is trusted by. Default: the machine's.
    ca_file: Option<PathBuf>,
    /// How Gatehouse proves who it is when it calls. Default: not at all.
    auth: Option<Located<AuthFile>>,
    /// How the system proves who it is when it calls us.
    accept: Option<Located<AcceptFile>>,
    /// What the engine keeps around all endpoints together.
    #[serde(default)]
    limits: LimitsFile,
    /// When the system counts as down.
    #[serde(default)]
    circuit: CircuitFile,
    /// What it offers and sends.
    endpoints: Entries<EndpointFile>,
}

/// One operation: outbound, or inbound where it has `listen`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    /// The operation's local name. Default: the endpoint's name.
    operation: Option<Located<String>>,
    /// The namespace of the operation's element. Default: none.
    namespace: Option<Located<String>>,
    /// The SOAPAction (1.1) or `action` (1.2), without quotes. Out: sent, default empty. In: must match where one is sent.
    action: Option<Located<String>>,
    /// Limits of its own, over the system's.
    #[serde(default)]
    limits: LimitsFile,

    /// Out: the body's element, where it is not called as the operation.
    element: Option<Located<String>>,
    /// Out: whether the elements in it are in the namespace too (`elementFormDefault`). Default true; SAP says false.
    qualified: Option<Located<bool>>,
    /// Out: header blocks to send.
    headers: Option<Located<Vec<BlockFile>>>,
    /// Out: whether the delivery id is sent as the header block `{urn:gatehouse}DeliveryId`. Default true.
    delivery_id: Option<Located<bool>>,
    /// Out: whether no answer is due: an empty 200, 202 or 204 is a yes. Default false.
    one_way: Option<Located<bool>>,
    /// Out: a path below the address.
    path: Option<Located<String>>,
    /// Out: an expression over `reply` (what is in the body's first element) and `status`; false means refused.
    success_when: Option<Located<String>>,
    /// Out: an expression that finds the reason in `reply` where the answer means no.
    error_text: Option<Located<String>>,
    /// Out: an expression that says that a refusal is worth another try.
    retry_when: Option<Located<String>>,

    /// In: the path that it listens on: `/soap/erp`. Several operations may share one.
    listen: Option<Located<String>>,
    /// In: a path into the body to the caller's own message id: `Header.DocumentNo`.
    id: Option<Located<String>>,
    /// In: the header block that holds the caller's own message id. Wins over `id`.
    id_header: Option<NameFile>,
    /// In: what is answered. Default: an empty `<operation>Response` in the operation's namespace, or the route's reply.
    reply: Option<Located<ReplyFile>>,
}

/// A name with its namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NameFile {
    /// The local name.
    name: Located<String>,
    /// The namespace. Default: none.
    namespace: Option<String>,
}

/// A header block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BlockFile {
    /// Its local name.
    name: Located<String>,
    /// Its namespace; every header block has one (SOAP 1.1 §4.2).
    namespace: Located<String>,
    /// Whether the receiver must fail when it does not know it.
    #[serde(default)]
    must_understand: bool,
    /// What is in it: an expression over `body`, `message` and `delivery_id`, or a map of such.
    value: Located<TemplateFile>,
}

/// An answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplyFile {
    /// The local name of its element. Default: `<operation>Response`.
    element: Option<Located<String>>,
    /// Its namespace. Default: the operation's.
    namespace: Option<String>,
    /// What is in it: an expression over `message_id`, `body` and `reply` (the route's), or a map of such.
    body: Option<Located<TemplateFile>>,
}

/// A checked file.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) circuit: Circuit,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) calls: Calls,
    pub(crate) listeners: Listeners,
}

/// The outbound half.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    /// Empty where no endpoint is outbound.
    pub(crate) address: String,
    pub(crate) version: Version,
    pub(crate) charset: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) auth: AuthFile,
    pub(crate) by_name: HashMap<String, Operation>,
}

/// An outbound operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) element: QName,
    /// The namespace of the elements in it.
    pub(crate) children: Option<String>,
    pub(crate) action: String,
    pub(crate) headers: Vec<Block>,
    pub(crate) delivery_id: bool,
    pub(crate) one_way: bool,
    pub(crate) path: String,
    /// Judges an answer.
    pub(crate) answer: OutcomeRule,
    /// Judges a fault: `success_when` has no say there, so that a rule written for answers cannot take a fault for a yes.
    pub(crate) fault: OutcomeRule,
    pub(crate) max_answer: usize,
}

/// A header block to send.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) name: QName,
    pub(crate) must_understand: bool,
    pub(crate) value: Template,
}

/// The inbound half.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    pub(crate) accept: AcceptFile,
    /// Operations by path.
    pub(crate) by_path: Vec<(String, Vec<Arc<Listener>>)>,
}

/// An inbound operation.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// `system/endpoint`.
    pub(crate) endpoint: String,
    pub(crate) operation: QName,
    pub(crate) action: Option<String>,
    pub(crate) id: Option<Path>,
    pub(crate) id_header: Option<QName>,
    pub(crate) reply: QName,
    pub(crate) reply_body: Option<Template>,
    pub(crate) max_body: usize,
}

/// Reads and checks a file.
pub(crate) fn check(file: &SourceFile, problems: &mut Problems) -> Option<Checked> {
    let read = yaml::read::<SystemFile>(file, problems)?;
    let mut found = Problems::new();
    let checked = Check { file, problems: &mut found, read: &read }.system();
    let sound = !found.has_errors();
    problems.extend(found);
    sound.then_some(checked)
}

struct Check<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
    read: &'a SystemFile,
}

impl Check<'_> {
    fn system(mut self) -> Checked {
        let read = self.read;
        let limits = read.limits.check(Limits::default(), self.file, self.problems);
        let circuit = read.circuit.check(self.file, self.problems);
        let mut checked = Checked {
            name: read.system.value.clone(),
            limits,
            circuit,
            endpoints: Vec::new(),
            calls: self.calls(),
            listeners: Listeners {
                accept: read.accept.as_ref().map(|accept| accept.value.clone()).unwrap_or_default(),
                by_path: Vec::new(),
            },
        };
        if read.endpoints.0.is_empty() {
            self.mend("no-endpoints", &read.system, "the system has no endpoints", "say what it offers or sends");
        }
        for (name, endpoint) in &read.endpoints.0 {
            let limits = endpoint.limits.check(limits, self.file, self.problems);
            let (direction, summary) = match &endpoint.listen {
                Some(path) => {
                    self.listener(name, endpoint, path, &limits, &mut checked.listeners.by_path);
                    (Direction::Inbound, format!("SOAP {} {}", path.value, name.value))
                }
                None => {
                    let operation = self.operation(name, endpoint, &limits);
                    let summary = format!("SOAP {}", operation.element.local);
                    checked.calls.by_name.insert(name.value.clone(), operation);
                    (Direction::Outbound, summary)
                }
            };
            let (name, span) = (name.value.clone(), name.span.clone());
            checked.endpoints.push(Endpoint { name, direction, limits, summary, span });
        }
        self.sides(&checked);
        checked
    }

    /// What each side needs of the system as a whole.
    fn sides(&mut self, checked: &Checked) {
        let read = self.read;
        if !checked.calls.by_name.is_empty() && read.address.is_none() {
            self.mend(
                "no-address",
                &read.system,
                "the system is called but has no address",
                "add `address: https://host:port/path`",
            );
        }
        if !checked.listeners.by_path.is_empty() && read.accept.is_none() {
            let message = "anybody may call this system's endpoints";
            let problem = Problem::warning("no-accept", self.file, read.system.span.clone(), message)
                .help("add `accept: { basic: { username: NAME, password: \"${env:PASSWORD}\" } }`");
            self.problems.push(problem);
        }
        if let Some(accept) = &read.accept
            && let Some(header) = accept.bad_header()
        {
            self.error("bad-header", accept, format!("`{header}` is no header name"));
        }
        if let Some(auth) = &read.auth
            && auth.is_ambiguous()
        {
            self.mend("two-credentials", auth, "more than one way to prove who Gatehouse is", "keep one");
        }
    }

    fn calls(&mut self) -> Calls {
        let read = self.read;
        if let Some(address) = &read.address
            && let Err(reason) = client::check_address(address)
        {
            self.error("bad-address", address, reason);
        }
        let version = match read.soap.as_ref().map(|soap| (soap, soap.as_str())) {
            None | Some((_, "1.1")) => Version::V11,
            Some((_, "1.2")) => Version::V12,
            Some((soap, _)) => {
                self.mend("bad-value", soap, "there are SOAP 1.1 and 1.2", "write `soap: \"1.1\"`");
                Version::V11
            }
        };
        if let Some(charset) = &read.charset
            && let Err(error) = gatehouse_core::charset::encode("", charset)
        {
            self.error("bad-value", charset, error.reason);
        }
        Calls {
            address: read.address.as_ref().map(|address| address.value.clone()).unwrap_or_default(),
            version,
            charset: read.charset.as_ref().map_or_else(|| "utf-8".to_owned(), |charset| charset.value.clone()),
            ca_file: read.ca_file.clone(),
            auth: read.auth.as_ref().map(|auth| auth.value.clone()).unwrap_or_default(),
            by_name: HashMap::new(),
        }
    }

    fn operation(&mut self, name: &Located<String>, read: &EndpointFile, limits: &Limits) -> Operation {
        let inbound_only = [
            ("id", read.id.as_ref().map(|id| &id.span)),
            ("id_header", read.id_header.as_ref().map(|id| &id.name.span)),
            ("reply", read.reply.as_ref().map(|reply| &reply.span)),
        ];
        self.misplaced(&inbound_only, "an endpoint that is called", "add `listen: /path` if the system calls it");
        let local = self.local(read.element.as_ref().or(read.operation.as_ref()).unwrap_or(name));
        let namespace = read.namespace.as_ref().map(|namespace| namespace.value.clone());
        let qualified = read.qualified.as_ref().is_none_or(|qualified| qualified.value);
        if let Some(action) = &read.action {
            self.action(action);
        }
        let path = read.path.as_ref().map(|path| path.value.clone()).unwrap_or_default();
        if let Some(located) = &read.path
            && (!path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err())
        {
            self.error("bad-path", located, "a path begins with `/` and has no spaces");
        }
        let rule = |success_when: &Option<Located<String>>| OutcomeFile {
            success_when: success_when.clone(),
            error_text: read.error_text.clone(),
            retry_when: read.retry_when.clone(),
        };
        let answer = rule(&read.success_when).check(self.file, self.problems);
        // The same texts again: their problems have been told.
        let fault = rule(&None).check(self.file, &mut Problems::new());
        Operation {
            element: QName::new(namespace.as_deref(), &local),
            children: namespace.filter(|_| qualified),
            action: read.action.as_ref().map(|action| action.value.clone()).unwrap_or_default(),
            headers: read
                .headers
                .iter()
                .flat_map(|headers| &headers.value)
                .filter_map(|block| self.block(block))
                .collect(),
            delivery_id: read.delivery_id.as_ref().is_none_or(|send| send.value),
            one_way: read.one_way.as_ref().is_some_and(|one_way| one_way.value),
            path,
            answer,
            fault,
            max_answer: limits.body,
        }
    }

    fn block(&mut self, read: &BlockFile) -> Option<Block> {
        let local = self.local(&read.name);
        if read.namespace.trim().is_empty() {
            self.error("no-namespace", &read.namespace, "a header block has a namespace");
        }
        let value = TemplateFile::check(&read.value, &CALL_NAMES, self.file, self.problems)?;
        let name = QName::new(Some(&read.namespace), &local);
        Some(Block { name, must_understand: read.must_understand, value })
    }

    fn listener(
        &mut self,
        name: &Located<String>,
        read: &EndpointFile,
        listen: &Located<String>,
        limits: &Limits,
        by_path: &mut Vec<(String, Vec<Arc<Listener>>)>,
    ) {
        let outbound_only = [
            ("element", read.element.as_ref().map(|field| &field.span)),
            ("qualified", read.qualified.as_ref().map(|field| &field.span)),
            ("headers", read.headers.as_ref().map(|field| &field.span)),
            ("delivery_id", read.delivery_id.as_ref().map(|field| &field.span)),
            ("one_way", read.one_way.as_ref().map(|field| &field.span)),
            ("path", read.path.as_ref().map(|field| &field.span)),
            ("success_when", read.success_when.as_ref().map(|field| &field.span)),
            ("error_text", read.error_text.as_ref().map(|field| &field.span)),
            ("retry_when", read.retry_when.as_ref().map(|field| &field.span)),
        ];
        self.misplaced(&outbound_only, "an endpoint that listens", "leave out `listen` if Gatehouse calls it");
        let well_formed =
            path::normalise(listen).is_ok_and(|path| path == listen.value) && !listen.contains(['?', '#']);
        if !well_formed || listen.len() < 2 || listen.ends_with('/') {
            self.error("bad-path", listen, "expected a plain path such as `/soap/erp`");
        }
        let local = self.local(read.operation.as_ref().unwrap_or(name));
        let namespace = read.namespace.as_ref().map(|namespace| namespace.value.as_str());
        let operation = QName::new(namespace, &local);
        if let Some(action) = &read.action {
            self.action(action);
        }
        let id = read.id.as_ref().and_then(|id| match Path::parse(id) {
            Ok(path) if path.lists() == 0 => Some(path),
            Ok(_) => {
                self.error("bad-path", id, "an id is one value: a path without `[]`");
                None
            }
            Err((_, reason)) => {
                self.error("bad-path", id, reason);
                None
            }
        });
        let id_header = read.id_header.as_ref().map(|id| {
            let local = self.local(&id.name);
            QName::new(id.namespace.as_deref(), &local)
        });
        let reply = read.reply.as_ref().map(|reply| &reply.value);
        let element = match reply.and_then(|reply| reply.element.as_ref()) {
            Some(element) => self.local(element),
            None => format!("{local}Response"),
        };
        let reply_body = reply
            .and_then(|reply| reply.body.as_ref())
            .and_then(|body| TemplateFile::check(body, &REPLY_NAMES, self.file, self.problems));
        let listener = Listener {
            endpoint: format!("{}/{}", self.read.system.value, name.value),
            operation,
            action: read.action.as_ref().map(|action| action.value.clone()),
            id,
            id_header,
            reply: QName::new(reply.and_then(|reply| reply.namespace.as_deref()).or(namespace), &element),
            reply_body,
            max_body: limits.body,
        };
        let index = by_path.iter().position(|(path, _)| *path == listen.value).unwrap_or(by_path.len());
        if index == by_path.len() {
            by_path.push((listen.value.clone(), Vec::new()));
        }
        let shared = &mut by_path[index].1;
        if let Some(first) = shared.iter().find(|other| other.operation == listener.operation) {
            let message = format!("`{}` already takes `{}` on {}", first.endpoint, listener.operation, listen.value);
            let problem = Problem::error("same-operation", self.file, name.span.clone(), message)
                .help("give one of them another `operation`, `namespace` or `listen`");
            self.problems.push(problem);
        }
        shared.push(Arc::new(listener));
    }

    /// A local name, told where it is none.
    fn local(&mut self, name: &Located<String>) -> String {
        if !xml::is_name(name) {
            self.mend(
                "xml-name",
                name,
                format!("`{}` is no XML name", name.value),
                "a name has letters, digits, `.`, `-`, `_`, and does not begin with a digit",
            );
        }
        name.value.clone()
    }

    fn action(&mut self, action: &Located<String>) {
        if !action.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\') {
            self.error("bad-value", action, "an action is a URI: visible ASCII characters, no quotes");
        }
    }

    fn misplaced(&mut self, fields: &[(&str, Option<&std::ops::Range<usize>>)], kind: &str, help: &str) {
        for (field, span) in fields {
            if let Some(span) = span {
                let message = format!("`{field}` means nothing in {kind}");
                self.problems.push(Problem::error("misplaced", self.file, (*span).clone(), message).help(help));
            }
        }
    }

    fn mend<T>(&mut self, code: &'static str, at: &Located<T>, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::error(code, self.file, at.span.clone(), message).help(help));
    }

    fn error<T>(&mut self, code: &'static str, at: &Located<T>, message: impl Into<String>) {
        self.problems.push(Problem::error(code, self.file, at.span.clone(), message));
    }
}
