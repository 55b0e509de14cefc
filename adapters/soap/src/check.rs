//! The check of a SOAP system's file into operations that cannot be wrong.

mod declared;

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_core::adapter::{Direction, Endpoint, SiteFiles};
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::limits::Limits;
use gatehouse_core::nested::Nested;
use gatehouse_core::outcome::OutcomeFile;
use gatehouse_core::path::Path;
use gatehouse_core::xml::{self, QName};
use gatehouse_core::yaml::{self, Located};
use gatehouse_net::{client, path};

use crate::attachments::{Attachments, AttachmentsFile};
use crate::bind::{Bound, bind};
use crate::contract::Contract;
use crate::envelope::Version;
use crate::file::{Calls, Checked, EndpointFile, Listener, Listeners, Operation, SystemFile};
use crate::offer::{self, Offer};
use crate::template::TemplateFile;
use crate::wsse;

/// The names that a header block's expressions see.
const CALL_NAMES: [&str; 3] = ["body", "message", "delivery_id"];

/// The names that a reply's expressions see.
const REPLY_NAMES: [&str; 3] = ["body", "message_id", "reply"];

/// The names that the rules for answers see.
const ANSWER_NAMES: [&str; 3] = ["reply", "status", "headers"];

/// Whether two operations on one path cannot be told apart: by the element that begins the body, or by the action.
fn is_same(one: &Listener, other: &Listener) -> bool {
    let said = |listener: &Listener| listener.action.clone().filter(|action| !action.is_empty());
    let by_action = matches!((said(one), said(other)), (Some(one), Some(other)) if one != other);
    one.operation == other.operation && one.is_empty() == other.is_empty() && !by_action
}

/// Reads and checks a file.
pub(crate) fn check(file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Checked> {
    let read = yaml::read::<SystemFile>(file, problems)?;
    let mut found = Problems::new();
    let bound = bind(&read, file, site, &mut found);
    let checked = Check { file, site, problems: &mut found, read: &read, bound, offers: HashMap::new() }.system();
    let sound = !found.has_errors();
    problems.extend(found);
    sound.then_some(checked)
}

struct Check<'a> {
    file: &'a SourceFile,
    site: &'a dyn SiteFiles,
    problems: &'a mut Problems,
    read: &'a SystemFile,
    bound: Option<Bound>,
    /// The contracts that are made from canonical types, by path.
    offers: HashMap<String, Offer>,
}

impl Check<'_> {
    fn system(mut self) -> Checked {
        let read = self.read;
        let limits = read.limits.check(Limits::default(), self.file, self.problems);
        let circuit = read.circuit.check(self.file, self.problems);
        self.offers = offer::of_endpoints(read, self.file, self.site, self.problems);
        let mut checked = Checked {
            name: read.system.value.clone(),
            limits,
            circuit,
            endpoints: Vec::new(),
            calls: self.calls(),
            listeners: Listeners {
                accept: wsse::check_accept(read, self.site, self.file, self.problems),
                sign: wsse::check_sign(read, self.site, self.file, self.problems),
                wsdl: self.bound.as_ref().map(|bound| bound.wsdl.clone()),
                offers: self.offers.iter().map(|(path, offer)| (path.clone(), offer.wsdl.clone())).collect(),
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
                    checked.calls.by_name.insert(name.value.clone(), Arc::new(operation));
                    (Direction::Outbound, summary)
                }
            };
            let (name, span) = (name.value.clone(), name.span.clone());
            checked.endpoints.push(Endpoint { name, direction, limits, summary, passes: false, span });
        }
        if let Some(login) = &read.login {
            let known = |name: &str| checked.calls.by_name.contains_key(name);
            checked.calls.login = login.check(&known, self.file, self.problems);
        }
        self.sides(&checked);
        checked
    }

    /// What each side needs of the system as a whole.
    fn sides(&mut self, checked: &Checked) {
        let read = self.read;
        if !checked.calls.by_name.is_empty() && checked.calls.address.is_empty() {
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
        if checked.calls.by_name.is_empty()
            && let Some(verify) = &read.verify
        {
            self.mend("misplaced", verify, "`verify` is for answers, and the system is never called", "leave it out");
        }
        if checked.listeners.by_path.is_empty()
            && let Some(sign) = &read.sign
        {
            self.mend("misplaced", sign, "`sign` is for answers, and the system never calls", "leave it out");
        }
        if let Some(accept) = &read.accept
            && let Some(header) = accept.http().bad_header()
        {
            self.error("bad-header", accept, format!("`{header}` is no header name"));
        }
        if let Some(auth) = &read.auth
            && auth.http().is_ambiguous()
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
        let of_wsdl = self.bound.as_ref().map(|bound| bound.address.clone());
        let of_wsdl = of_wsdl.filter(|address| client::check_address(address).is_ok());
        let address = read.address.as_ref().map(|address| address.value.clone()).or(of_wsdl);
        let version = match &read.soap {
            None => self.bound.as_ref().map_or(Version::V11, |bound| bound.version),
            Some(soap) => Version::numbered(soap).unwrap_or_else(|| {
                self.mend("bad-value", soap, "there are SOAP 1.1 and 1.2", "write `soap: \"1.1\"`");
                Version::V11
            }),
        };
        if let Some(charset) = &read.charset
            && let Err(error) = gatehouse_core::charset::encode("", charset)
        {
            self.error("bad-value", charset, error.reason);
        }
        Calls {
            address: address.unwrap_or_default(),
            version,
            charset: read.charset.as_ref().map_or_else(|| "utf-8".to_owned(), |charset| charset.value.clone()),
            ca_file: read.ca_file.as_ref().map(|path| self.site.locate(path)),
            auth: wsse::check_auth(read, self.site, self.file, self.problems),
            verify: wsse::check_verify(read, self.site, self.file, self.problems),
            login: None,
            by_name: HashMap::new(),
        }
    }

    fn operation(&mut self, name: &Located<String>, read: &EndpointFile, limits: &Limits) -> Operation {
        let inbound_only = [
            ("id", read.id.as_ref().map(|id| &id.span)),
            ("id_header", read.id_header.as_ref().map(|id| &id.name.span)),
            ("type", read.kind.as_ref().map(|kind| &kind.span)),
            ("reply", read.reply.as_ref().map(|reply| &reply.span)),
            ("fault", read.fault.as_ref().map(|fault| &fault.span)),
            ("header_faults", read.header_faults.as_ref().map(|faults| &faults.span)),
        ];
        self.misplaced(&inbound_only, "an endpoint that is called", "add `listen: /path` if the system calls it");
        let contract = self.contract(name, read);
        let local = self.local(read.element.as_ref().or(read.operation.as_ref()).unwrap_or(name));
        let namespace = read.namespace.as_ref().map(|namespace| namespace.value.clone());
        let element = QName::new(namespace.as_deref(), &local);
        let element = contract.as_ref().and_then(Contract::request_name).unwrap_or(element);
        let action = read.action.as_ref().map(|action| action.value.clone());
        let said = || contract.as_ref().map(|contract| contract.operation.action.clone());
        let qualified = read.qualified.as_ref().is_none_or(|qualified| qualified.value);
        let one_way = contract.as_ref().is_some_and(|contract| contract.operation.output.is_none());
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
            reject_when: read.reject_when.clone(),
        };
        let answer = rule(&read.success_when).check_over(&ANSWER_NAMES, self.file, self.problems);
        // The same texts again: their problems have been told.
        let fault = rule(&None).check_over(&ANSWER_NAMES, self.file, &mut Problems::new());
        let declared = contract.as_ref().map(Contract::request_headers).unwrap_or_default();
        let reply_headers = contract.as_ref().map(Contract::reply_headers).unwrap_or_default();
        let about_blocks = contract.iter().flat_map(Contract::header_faults).map(|fault| fault.block);
        let header_faults: Vec<_> = about_blocks.collect();
        Operation {
            element,
            children: namespace.filter(|_| qualified),
            action: action.or_else(said).unwrap_or_default(),
            attachments: self.attachments(read, contract.is_some()),
            nested: read.nested.check(self.file, self.problems),
            nested_reply: read
                .nested_reply
                .as_ref()
                .map_or_else(Nested::default, |nested| nested.check(self.file, self.problems)),
            headers: read
                .headers
                .iter()
                .flat_map(|headers| &headers.value)
                .filter_map(|block| self.block(block, &declared, &CALL_NAMES))
                .collect(),
            answer_blocks: [reply_headers.as_slice(), &header_faults].concat(),
            reply_headers,
            details: contract.as_ref().map(Contract::details).unwrap_or_default(),
            header_faults,
            understands: read
                .understands
                .iter()
                .flat_map(|names| &names.value)
                .map(|name| QName::new(name.namespace.as_deref(), &self.local(&name.name)))
                .collect(),
            delivery_id: read.delivery_id.as_ref().is_none_or(|send| send.value),
            one_way: read.one_way.as_ref().map_or(one_way, |one_way| one_way.value),
            path,
            answer,
            fault,
            max_answer: limits.body,
            contract,
        }
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
            ("nested_reply", read.nested_reply.as_ref().map(|field| &field.span)),
            ("path", read.path.as_ref().map(|field| &field.span)),
            ("success_when", read.success_when.as_ref().map(|field| &field.span)),
            ("error_text", read.error_text.as_ref().map(|field| &field.span)),
            ("retry_when", read.retry_when.as_ref().map(|field| &field.span)),
            ("reject_when", read.reject_when.as_ref().map(|field| &field.span)),
            ("understands", read.understands.as_ref().map(|field| &field.span)),
        ];
        self.misplaced(&outbound_only, "an endpoint that listens", "leave out `listen` if Gatehouse calls it");
        let well_formed =
            path::normalise(listen).is_ok_and(|path| path == listen.value) && !listen.contains(['?', '#']);
        if !well_formed || listen.len() < 2 || listen.ends_with('/') {
            self.error("bad-path", listen, "expected a plain path such as `/soap/erp`");
        }
        let contract = match read.kind {
            Some(_) => self.offered(name, read, listen),
            None => self.contract(name, read),
        };
        if let (None, Some(kind)) = (&read.kind, read.reply.as_ref().and_then(|reply| reply.value.kind.as_ref())) {
            let message = "the `type` of a reply means nothing without a `type` of what comes";
            let help = match self.bound {
                Some(_) => "leave it out: the WSDL says what is answered",
                None => "add `type: NAME` to the endpoint, or leave it out: `body` and `element` say what is answered",
            };
            self.mend("reply-type", kind, message, help);
        }
        let local = self.local(read.operation.as_ref().unwrap_or(name));
        let namespace = read.namespace.as_ref().map(|namespace| namespace.value.as_str());
        let operation = QName::new(namespace, &local);
        let operation = contract.as_ref().and_then(Contract::request_name).unwrap_or(operation);
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
        let own = reply.and_then(|reply| reply.namespace.as_ref()).map(|namespace| namespace.value.as_str());
        let of_file = QName::new(own.or(namespace), &element);
        let said = || contract.as_ref().map(|contract| contract.operation.action.clone());
        let of_reply = contract.as_ref().map(Contract::reply_headers).unwrap_or_default();
        let of_faults = contract.as_ref().map(Contract::details).unwrap_or_default();
        let detail = read
            .fault
            .as_ref()
            .and_then(|fault| self.of_fault(&fault.value, &of_faults, "the element in a fault's detail"));
        let header_faults = self.header_faults(read, contract.as_ref());
        let blocks = reply.and_then(|reply| reply.headers.as_ref()).into_iter().flatten();
        let listener = Listener {
            endpoint: format!("{}/{}", self.read.system.value, name.value),
            operation,
            action: read.action.as_ref().map(|action| action.value.clone()).or_else(said),
            id,
            id_header,
            reply: contract.as_ref().and_then(Contract::reply_name).unwrap_or(of_file),
            reply_body,
            reply_headers: blocks.filter_map(|block| self.block(block, &of_reply, &REPLY_NAMES)).collect(),
            request_headers: contract.as_ref().map(Contract::request_headers).unwrap_or_default(),
            detail,
            header_faults,
            attachments: self.attachments(read, contract.is_some()),
            contract,
            nested: read.nested.check(self.file, self.problems),
            max_body: limits.body,
        };
        let index = by_path.iter().position(|(path, _)| *path == listen.value).unwrap_or(by_path.len());
        if index == by_path.len() {
            by_path.push((listen.value.clone(), Vec::new()));
        }
        let shared = &mut by_path[index].1;
        if let Some(first) = shared.iter().find(|other| is_same(other, &listener)) {
            let message = format!("`{}` already takes `{}` on {}", first.endpoint, listener.operation, listen.value);
            let problem = Problem::error("same-operation", self.file, name.span.clone(), message)
                .help("give one of them another `operation`, `namespace`, `action` or `listen`");
            self.problems.push(problem);
        }
        shared.push(Arc::new(listener));
    }

    fn attachments(&mut self, read: &EndpointFile, typed: bool) -> Option<Attachments> {
        let read = read.attachments.as_ref()?;
        AttachmentsFile::check(read, typed, self.file, self.problems)
    }

    /// The operation in the WSDL. What that says, the file does not say again.
    fn contract(&mut self, name: &Located<String>, read: &EndpointFile) -> Option<Contract> {
        let bound = self.bound.clone()?;
        let said = [
            ("element", read.element.as_ref().map(|field| &field.span)),
            ("namespace", read.namespace.as_ref().map(|field| &field.span)),
            ("qualified", read.qualified.as_ref().map(|field| &field.span)),
        ];
        self.misplaced(&said, "a system with a WSDL", "leave it out: the WSDL says it");
        bound.contract(read.operation.as_ref().unwrap_or(name), self.file, self.problems)
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
