//! The system's file, and what it becomes once it cannot be wrong.

use std::sync::Arc;

use gatehouse_core::adapter::{Direction, Endpoint, SiteFiles, Wants};
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::expr::{Expression, Names};
use gatehouse_core::limits::{Circuit, CircuitFile, Limits, LimitsFile};
use gatehouse_core::nested::{Nested, NestedFile};
use gatehouse_core::outcome::{OutcomeFile, OutcomeRule, compile, expression_problem};
use gatehouse_core::path::Path;
use gatehouse_core::reading::Reading;
use gatehouse_core::yaml::{self, Located};
use gatehouse_net::auth::{AcceptFile, AuthFile};
use gatehouse_net::client::check_address;
use http::header::HeaderName;
use http::{Method, StatusCode};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::template::Template;

/// A system that speaks REST.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemFile {
    /// The format of this file: 1.
    pub version: Located<u32>,
    /// Its name, the file's name without `.yaml`.
    pub system: Located<String>,
    /// `rest`.
    pub adapter: Located<String>,
    /// Where it is called: `https://crm.example.com/api`. Needed where an endpoint has `call`.
    #[serde(default)]
    pub address: Option<Located<String>>,
    /// PEM file with the CA that signed its certificate. Default: what the machine trusts.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// How Gatehouse proves who it is when it calls.
    #[serde(default)]
    pub auth: AuthFile,
    /// How the system proves who it is when it sends. Without it anybody who reaches the listener may send.
    #[serde(default)]
    pub accept: AcceptFile,
    /// What the engine keeps around all endpoints together.
    #[serde(default)]
    pub limits: LimitsFile,
    /// When it counts as down.
    #[serde(default)]
    pub circuit: CircuitFile,
    /// What it offers (`call`) and sends (`receive`).
    pub endpoints: IndexMap<String, Located<EndpointFile>>,
}

/// One endpoint: either `receive` or `call`, and what goes with it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointFile {
    /// Inbound: method and path, with parameters: `POST /hooks/orders/{shop}`.
    pub receive: Option<Located<String>>,
    /// Inbound: where the message's own id stands: `header Idempotency-Key` or `body order_id`. Default: a new id each time.
    pub id: Option<Located<String>>,
    /// Inbound: headers that mappings see as `meta.<name>`, in small letters with `_` for `-`.
    pub meta: Vec<Located<String>>,
    /// Inbound: what the caller is answered. Default: 202 and `{"message_id": …}`.
    pub reply: Option<ReplyFile>,
    /// Outbound: method and path, with parameters: `PUT /customers/{no}`.
    pub call: Option<Located<String>>,
    /// Outbound: an expression for each parameter of the path. Default: the body's field of that name.
    pub path: IndexMap<String, Located<String>>,
    /// Outbound: an expression for each query parameter; null leaves it out.
    pub query: IndexMap<String, Located<String>>,
    /// Outbound: an expression for each header; null leaves it out.
    pub headers: IndexMap<String, Located<String>>,
    /// Outbound: how the body is sent: `json` (default), `xml`, `form` or `none`.
    pub send: Option<Located<String>>,
    /// Outbound: the root element of an XML body. Default `root`.
    pub element: Option<String>,
    /// Outbound: the charset of the body: `utf-8` (default), `gbk`, `gb18030`.
    pub charset: Option<Located<String>>,
    /// Outbound: an expression over `reply` and `status`; false means refused. Default: any 2xx.
    pub success_when: Option<Located<String>>,
    /// Outbound: an expression that finds the reason in `reply`.
    pub error_text: Option<Located<String>>,
    /// Outbound: an expression that says that a refusal is worth another try.
    pub retry_when: Option<Located<String>>,
    /// Documents in strings: a path into the body, and the encodings around what stands there, the outermost first:
    /// `{ "parameters[1]": [json] }`. Words: `xml`, `xml-document`, `json`, `xml-unescape`, `base64`.
    pub nested: NestedFile,
    /// Outbound: the same for the reply.
    pub nested_reply: NestedFile,
    /// Its own limits, laid over the system's.
    pub limits: LimitsFile,
}

/// What a caller is answered.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyFile {
    /// The status, 200 to 299. Default 202.
    pub status: Option<Located<u16>>,
    /// A fixed text: `success`.
    pub text: Option<String>,
    /// A JSON object: an expression over `message_id` and `body` for each field.
    pub json: IndexMap<String, Located<String>>,
}

/// The checked system.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) address: Option<String>,
    pub(crate) ca_file: Option<std::path::PathBuf>,
    pub(crate) auth: AuthFile,
    pub(crate) accept: AcceptFile,
    pub(crate) limits: Limits,
    pub(crate) circuit: Circuit,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) received: Vec<Received>,
    pub(crate) called: Vec<Called>,
}

/// An inbound endpoint.
#[derive(Debug)]
pub(crate) struct Received {
    /// `system/endpoint`.
    pub(crate) full_name: String,
    pub(crate) method: Method,
    pub(crate) template: Template,
    pub(crate) id: Option<IdSource>,
    pub(crate) meta: Vec<(HeaderName, String)>,
    pub(crate) reply: Reply,
    pub(crate) nested: Nested,
}

impl Received {
    /// What is read of a body where the routes want this of it.
    pub(crate) fn reading(&self, wants: &Wants) -> Arc<Reading> {
        let mut reading = wants.body.clone();
        if let Some(IdSource::Body(path)) = self.id.as_ref().filter(|_| !reading.is_whole()) {
            Arc::make_mut(&mut reading).add(path);
        }
        // What is in a string can be looked at only where all of it is read.
        if !self.nested.is_empty() && !reading.is_nothing() { Arc::new(Reading::whole()) } else { reading }
    }
}

/// Where a message's own id stands.
#[derive(Debug)]
pub(crate) enum IdSource {
    Header(HeaderName),
    Body(Path),
}

/// What a caller is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) text: Option<String>,
    pub(crate) json: Vec<(String, Expression)>,
}

/// An outbound endpoint.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) method: Method,
    pub(crate) template: Template,
    pub(crate) path: Vec<(String, Expression)>,
    pub(crate) query: Vec<(String, Expression)>,
    pub(crate) headers: Vec<(HeaderName, Expression)>,
    pub(crate) send: Send,
    pub(crate) charset: String,
    pub(crate) outcome: OutcomeRule,
    pub(crate) nested: Nested,
    pub(crate) nested_reply: Nested,
}

/// How a body is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Send {
    Json,
    Xml { element: String },
    Form,
    Nothing,
}

pub(crate) fn check(file: &SourceFile, site: &dyn SiteFiles, problems: &mut Problems) -> Option<Checked> {
    let read: SystemFile = yaml::read(file, problems)?;
    let mut found = Problems::new();
    let mut checker = Checker { file, problems: &mut found, system: &read.system.value };
    let limits = read.limits.check(Limits::default(), file, checker.problems);
    let circuit = read.circuit.check(file, checker.problems);
    let (mut endpoints, mut received, mut called) = (Vec::new(), Vec::new(), Vec::new());
    for (name, endpoint) in &read.endpoints {
        let own = endpoint.limits.check(limits, file, checker.problems);
        let span = endpoint.span.clone();
        let mut push = |direction, summary: &str| {
            let summary = summary.to_owned();
            endpoints.push(Endpoint {
                name: name.clone(),
                direction,
                limits: own,
                summary,
                passes: true,
                span: span.clone(),
            });
        };
        match (&endpoint.receive, &endpoint.call) {
            (Some(line), None) => {
                push(Direction::Inbound, line);
                received.extend(checker.received(name, line, endpoint));
            }
            (None, Some(line)) => {
                push(Direction::Outbound, line);
                called.extend(checker.called(name, line, endpoint));
            }
            _ => checker.error("direction", &span, format!("`{name}` needs either `receive` or `call`")),
        }
    }
    checker.whole(&read, &received, !called.is_empty());
    let sound = !found.has_errors();
    problems.extend(found);
    sound.then(|| Checked {
        name: read.system.value,
        address: read.address.map(|address| address.value),
        ca_file: read.ca_file.map(|path| site.locate(&path)),
        auth: read.auth,
        accept: read.accept,
        limits,
        circuit,
        endpoints,
        received,
        called,
    })
}

struct Checker<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
    system: &'a str,
}

impl Checker<'_> {
    fn error(&mut self, code: &'static str, at: &std::ops::Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::error(code, self.file, at.clone(), message));
    }

    /// What concerns the system as a whole.
    fn whole(&mut self, read: &SystemFile, received: &[Received], calls: bool) {
        match &read.address {
            Some(address) => {
                if let Err(reason) = check_address(address) {
                    self.error("bad-address", &address.span, reason);
                }
            }
            None if calls => {
                self.error("no-address", &read.system.span, "an endpoint with `call` needs the system's `address`")
            }
            None => {}
        }
        if read.auth.is_ambiguous() {
            self.error(
                "two-credentials",
                &read.system.span,
                "`auth` says more than one of `api_key`, `basic` and `bearer`",
            );
        }
        if let Some(name) = read.accept.bad_header() {
            let text = format!("`{name}` is no header name");
            self.error("bad-header", &read.system.span, text);
        }
        let open = read.accept.api_key.is_none() && read.accept.basic.is_none();
        if open && !received.is_empty() {
            self.problems.push(
                Problem::warning(
                    "no-credentials",
                    self.file,
                    read.system.span.clone(),
                    format!("anybody who reaches the listener can send as `{}`", self.system),
                )
                .help("add `accept:` with an `api_key` or `basic`"),
            );
        }
        for (index, one) in received.iter().enumerate() {
            if let Some(other) = received[..index]
                .iter()
                .find(|other| other.method == one.method && other.template.overlaps(&one.template))
            {
                let text = format!("`{}` and `{}` take the same requests", other.full_name, one.full_name);
                self.error("duplicate", &read.system.span, text);
            }
        }
    }

    fn line(&mut self, line: &Located<String>) -> Option<(Method, Template)> {
        let parsed = line.split_once(' ').and_then(|(method, path)| {
            let method = ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method).then(|| method.parse().ok())??;
            Some((method, path.trim()))
        });
        let Some((method, path)) = parsed else {
            self.error(
                "bad-value",
                &line.span,
                "expected a method (GET, POST, PUT, PATCH, DELETE) and a path, such as `POST /orders/{shop}`",
            );
            return None;
        };
        match Template::parse(path) {
            Ok(template) => Some((method, template)),
            Err(reason) => {
                self.error("bad-path", &line.span, reason);
                None
            }
        }
    }

    fn received(&mut self, name: &str, line: &Located<String>, endpoint: &Located<EndpointFile>) -> Option<Received> {
        let outbound_only = !endpoint.path.is_empty()
            || !endpoint.query.is_empty()
            || !endpoint.headers.is_empty()
            || endpoint.send.is_some();
        if outbound_only
            || endpoint.success_when.is_some()
            || endpoint.error_text.is_some()
            || endpoint.charset.is_some()
            || !endpoint.nested_reply.is_empty()
        {
            self.error("direction", &endpoint.span, format!("`{name}` receives: `path`, `query`, `headers`, `send`, `charset`, `nested_reply` and `success_when` belong to `call`"));
        }
        let (method, template) = self.line(line)?;
        let id = endpoint.id.as_ref().and_then(|id| self.id(id));
        let meta = endpoint.meta.iter().filter_map(|header| {
            let parsed = header.parse::<HeaderName>().ok();
            if parsed.is_none() {
                self.error("bad-header", &header.span, format!("`{}` is no header name", header.value));
            }
            parsed.map(|parsed| (parsed.clone(), parsed.as_str().replace('-', "_")))
        });
        let meta = meta.collect();
        let reply = self.reply(endpoint.reply.as_ref());
        let nested = endpoint.nested.check(self.file, self.problems);
        Some(Received { full_name: format!("{}/{name}", self.system), method, template, id, meta, reply, nested })
    }

    fn id(&mut self, id: &Located<String>) -> Option<IdSource> {
        let source = match id.split_once(' ') {
            Some(("header", name)) => name.trim().parse().ok().map(IdSource::Header),
            Some(("body", path)) => Path::parse(path.trim()).ok().filter(|path| path.lists() == 0).map(IdSource::Body),
            _ => None,
        };
        if source.is_none() {
            self.error(
                "bad-value",
                &id.span,
                "expected `header NAME` or `body PATH`, such as `header Idempotency-Key` or `body order_id`",
            );
        }
        source
    }

    fn reply(&mut self, reply: Option<&ReplyFile>) -> Reply {
        let Some(reply) = reply else { return Reply { status: StatusCode::ACCEPTED, text: None, json: Vec::new() } };
        let status = reply.status.as_ref().map_or(Some(StatusCode::ACCEPTED), |status| {
            StatusCode::from_u16(status.value).ok().filter(StatusCode::is_success)
        });
        if let (None, Some(at)) = (status, &reply.status) {
            self.error(
                "bad-value",
                &at.span,
                "expected a status from 200 to 299: the answer is sent only after the message is safe",
            );
        }
        let json = reply.json.iter().filter_map(|(name, text)| {
            Some((name.clone(), compile(text, &["message_id", "body"], self.file, self.problems)?))
        });
        Reply { status: status.unwrap_or(StatusCode::ACCEPTED), text: reply.text.clone(), json: json.collect() }
    }

    fn called(&mut self, name: &str, line: &Located<String>, endpoint: &Located<EndpointFile>) -> Option<Called> {
        if endpoint.id.is_some() || endpoint.reply.is_some() || !endpoint.meta.is_empty() {
            self.error(
                "direction",
                &endpoint.span,
                format!("`{name}` is called: `id`, `meta` and `reply` belong to `receive`"),
            );
        }
        let (method, template) = self.line(line)?;
        for (parameter, text) in &endpoint.path {
            if !template.parameters().any(|known| known == parameter) {
                self.error("unknown-parameter", &text.span, format!("the path has no `{{{parameter}}}`"));
            }
        }
        let mut path = Vec::new();
        for parameter in template.parameters() {
            match endpoint.path.get(parameter) {
                Some(text) => path.extend(self.expression(text).map(|expression| (parameter.to_owned(), expression))),
                None => match Expression::compile(&format!("body.{parameter}"), &Names::Open) {
                    Ok(expression) => path.push((parameter.to_owned(), expression)),
                    Err(_) => self.error(
                        "no-parameter",
                        &endpoint.span,
                        format!("say under `path` where `{{{parameter}}}` comes from"),
                    ),
                },
            }
        }
        let query =
            endpoint.query.iter().filter_map(|(name, text)| Some((name.clone(), self.expression(text)?))).collect();
        let mut headers = Vec::new();
        for (name, text) in &endpoint.headers {
            match name.parse::<HeaderName>() {
                Ok(name) if !is_ours(&name) => {
                    headers.extend(self.expression(text).map(|expression| (name, expression)))
                }
                Ok(name) => self.error("bad-header", &text.span, format!("`{name}` is set by Gatehouse itself")),
                Err(_) => self.error("bad-header", &text.span, format!("`{name}` is no header name")),
            }
        }
        let send = match endpoint.send.as_ref().map(|word| word.as_str()) {
            None if method == Method::GET || method == Method::DELETE => Send::Nothing,
            None | Some("json") => Send::Json,
            Some("xml") => Send::Xml { element: endpoint.element.clone().unwrap_or_else(|| "root".to_owned()) },
            Some("form") => Send::Form,
            Some("none") => Send::Nothing,
            Some(_) => {
                let span = endpoint.send.as_ref().map_or(endpoint.span.clone(), |word| word.span.clone());
                self.error("bad-value", &span, "expected `json`, `xml`, `form` or `none`");
                Send::Nothing
            }
        };
        let charset = endpoint.charset.as_ref().map_or("utf-8", |charset| charset.as_str()).to_owned();
        if let (Err(error), Some(at)) = (gatehouse_core::charset::encode("", &charset), &endpoint.charset) {
            self.error("bad-charset", &at.span, error.to_string());
        }
        let outcome = OutcomeFile {
            success_when: endpoint.success_when.clone(),
            error_text: endpoint.error_text.clone(),
            retry_when: endpoint.retry_when.clone(),
            ..OutcomeFile::default()
        };
        let outcome = outcome.check(self.file, self.problems);
        let nested = endpoint.nested.check(self.file, self.problems);
        let nested_reply = endpoint.nested_reply.check(self.file, self.problems);
        let name = name.to_owned();
        Some(Called { name, method, template, path, query, headers, send, charset, outcome, nested, nested_reply })
    }

    fn expression(&mut self, text: &Located<String>) -> Option<Expression> {
        let names = ["body", "message", "delivery_id", "meta"].map(str::to_owned).to_vec();
        Expression::compile(text, &Names::Closed(names))
            .map_err(|error| self.problems.push(expression_problem(text, error, self.file)))
            .ok()
    }
}

/// Headers that only Gatehouse or the HTTP library may set.
fn is_ours(name: &HeaderName) -> bool {
    ["host", "content-length", "transfer-encoding", "connection", "idempotency-key", "traceparent", "te", "upgrade"]
        .contains(&name.as_str())
}
