//! A login before the calls: one operation whose reply holds a token, which every call then carries in a header block or in its
//! body. One login for all callers; a token that is over is renewed once, whoever notices first.

use std::time::Duration;

use gatehouse_core::Value;
use gatehouse_core::diagnostics::{Problem, Problems, SourceFile};
use gatehouse_core::expr::{Expression, Scope};
use gatehouse_core::fault::{Code, Fault, Verdict};
use gatehouse_core::limits::parse_duration;
use gatehouse_core::outcome;
use gatehouse_core::secret::{SecretRef, Secrets};
use gatehouse_core::value::Map;
use gatehouse_core::xml::{Element, QName};
use gatehouse_core::yaml::Located;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::envelope::Version;
use crate::file::{Block, BlockFile, Operation};
use crate::template::{Template, TemplateFile};

/// Logins come no oftener than this, however many calls say that the token is over.
const PAUSE: Duration = Duration::from_secs(1);

/// `login:` of a system.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginFile {
    /// The endpoint of this system that logs in; it needs no route.
    pub(crate) endpoint: Located<String>,
    /// Secrets that `body` sees as `secret.NAME`.
    #[serde(default)]
    pub(crate) secrets: IndexMap<String, SecretRef>,
    /// What is sent: an expression over `secret`, or a map of such.
    pub(crate) body: Located<TemplateFile>,
    /// An expression over `reply` that finds the token.
    pub(crate) token: Located<String>,
    /// The header block in which every call carries it: its `value` sees `token`.
    pub(crate) header: Option<BlockFile>,
    /// Or the field of every call's body that carries it: `token`, `sessionId`.
    pub(crate) argument: Option<Located<String>>,
    /// How long a token is good: `20m`. Default: until the system says that it is over.
    pub(crate) lifetime: Option<Located<String>>,
    /// An expression over `reply` (of a fault: what is in it) and `status` that says that the token is over.
    pub(crate) expired_when: Option<Located<String>>,
}

/// Checked.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) endpoint: String,
    secrets: IndexMap<String, SecretRef>,
    body: Template,
    token: Expression,
    header: Option<Block>,
    argument: Option<String>,
    lifetime: Option<Duration>,
    expired_when: Option<Expression>,
}

impl LoginFile {
    /// Compiles it. `endpoints`: the names of those that are called.
    pub(crate) fn check(
        &self,
        endpoints: &dyn Fn(&str) -> bool,
        file: &SourceFile,
        problems: &mut Problems,
    ) -> Option<Login> {
        if !endpoints(&self.endpoint) {
            let message = format!("`{}` is no endpoint of this system that Gatehouse calls", self.endpoint.value);
            problems.push(Problem::error("login", file, self.endpoint.span.clone(), message));
        }
        let lifetime = self.lifetime.as_ref().and_then(|text| {
            let read = parse_duration(text).filter(|lifetime| !lifetime.is_zero());
            if read.is_none() {
                problems.push(Problem::error("bad-value", file, text.span.clone(), "expected a time such as `20m`"));
            }
            read
        });
        if self.header.is_some() == self.argument.is_some() {
            let message = "say where calls carry the token: `header` or `argument`";
            problems.push(Problem::error("login", file, self.endpoint.span.clone(), message));
        }
        let header = self.header.as_ref().and_then(|block| {
            let value = TemplateFile::check(&block.value, &["token"], file, problems)?;
            let Some(namespace) = &block.namespace else {
                let message = "a header block has a namespace";
                problems.push(Problem::error("no-namespace", file, block.name.span.clone(), message));
                return None;
            };
            let name = QName::new(Some(namespace), &block.name);
            Some(Block { name, must_understand: block.must_understand, value, declared: None })
        });
        let expired_when = self.expired_when.as_ref();
        Some(Login {
            endpoint: self.endpoint.value.clone(),
            secrets: self.secrets.clone(),
            body: TemplateFile::check(&self.body, &["secret"], file, problems)?,
            token: outcome::compile(&self.token, &["reply"], file, problems)?,
            header,
            argument: self.argument.as_ref().map(|argument| argument.value.clone()),
            lifetime,
            expired_when: expired_when.and_then(|text| outcome::compile(text, &["reply", "status"], file, problems)),
        })
    }
}

/// A token, and since when.
struct Session {
    token: String,
    since: Instant,
    is_over: bool,
}

/// The login of a system that runs.
pub(crate) struct Keeper {
    pub(crate) login: Login,
    body: Value,
    session: Mutex<Option<Session>>,
}

impl Keeper {
    /// Fetches the secrets.
    pub(crate) fn open(login: &Login, secrets: &dyn Secrets) -> Result<Self, Fault> {
        let mut map = Map::new();
        for (name, secret) in &login.secrets {
            map.insert(name.clone(), Value::from(secrets.fetch(secret)?.expose()));
        }
        let secret = Value::Map(map);
        let body = login.body.eval(&Scope::new().with("secret", &secret));
        let body =
            body.map_err(|error| Fault::new(Code::Misconfigured, format!("the login cannot be written: {error}")))?;
        Ok(Self { login: login.clone(), body, session: Mutex::new(None) })
    }

    /// The token, by a login where there is none or it is over. Callers wait for one login, and share it.
    pub(crate) async fn token<F, L>(&self, log_in: L) -> Result<String, Fault>
    where
        F: Future<Output = Result<Value, Fault>>,
        L: FnOnce(Value) -> F,
    {
        let mut session = self.session.lock().await;
        if let Some(known) = &*session {
            let aged = self.login.lifetime.is_some_and(|lifetime| known.since.elapsed() >= lifetime);
            if !known.is_over && !aged {
                return Ok(known.token.clone());
            }
            if known.since.elapsed() < PAUSE {
                let text = "the system says at once that a new session is over";
                return Err(Fault::new(Code::Refused, text).verdict(Verdict::RetryAfter(PAUSE)));
            }
        }
        let reply = log_in(self.body.clone()).await?;
        let token = self.login.token.eval(&Scope::new().with("reply", &reply));
        let token = token.ok().and_then(|token| token.to_plain_text()).filter(|token| !token.trim().is_empty());
        let Some(token) = token else {
            let text = format!("the login was answered, but `{}` finds no token in it", self.login.token.text());
            return Err(Fault::new(Code::Misconfigured, text));
        };
        *session = Some(Session { token: token.clone(), since: Instant::now(), is_over: false });
        Ok(token)
    }

    /// Whether an answer says that the token is over. A rule that does not fit the answer says no.
    pub(crate) fn is_expired(&self, status: i64, reply: impl FnOnce() -> Value) -> bool {
        self.login.expired_when.as_ref().is_some_and(|rule| {
            let (status, reply) = (Value::from(status), reply());
            rule.test(&Scope::new().with("reply", &reply).with("status", &status)).unwrap_or(false)
        })
    }

    /// Marks a token as over, unless another caller has renewed it already.
    pub(crate) async fn expire(&self, token: &str) {
        if let Some(session) = &mut *self.session.lock().await
            && session.token == token
        {
            session.is_over = true;
        }
    }

    /// The header block that carries a token, where one does.
    pub(crate) fn block(&self, version: Version, token: &str) -> Result<Option<Element>, Fault> {
        let token = Value::from(token);
        let header = self.login.header.as_ref();
        header.map(|block| block.write(version, &Scope::new().with("token", &token))).transpose()
    }

    /// A call's body with the token in it, where the body carries it. It comes first: positional arguments do.
    pub(crate) fn with_token(&self, body: &Value, token: &str) -> Option<Value> {
        let argument = self.login.argument.as_ref()?;
        let mut map = Map::from([(argument.clone(), Value::from(token))]);
        for (key, value) in body.as_map().into_iter().flatten().filter(|(key, _)| *key != argument) {
            map.insert(key.clone(), value.clone());
        }
        Some(Value::Map(map))
    }

    /// Whether a call needs no token: the login itself.
    pub(crate) fn is_login(&self, endpoint: &str) -> bool {
        self.login.endpoint == endpoint
    }
}

/// The fault of a login that was refused.
pub(crate) fn refused(operation: &Operation, fault: &Fault) -> Fault {
    let text = format!("the login `{}` was refused: {}", operation.element.local, fault.public);
    match fault.verdict {
        // The system may be well again by itself; a wrong password is not.
        Verdict::Retry | Verdict::RetryAfter(_) => Fault::new(Code::Refused, text).verdict(fault.verdict),
        _ => Fault::new(Code::Misconfigured, text),
    }
}
