//! The admin listener: health and metrics for machines, the API of `gatehouse letters` and `gatehouse backfill` and of other
//! desks.
//!
//! It is its own listener, on loopback unless the site says otherwise. Health and metrics need no token; everything
//! else does (`Authorization: Bearer …`), and is written into the audit.

pub mod backfills;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as PathParam, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::secret::{Secret, Secrets};
use gatehouse_store::{AuditEntry, Filter};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Gateway;
use crate::engine::letters;
use crate::site::ProcessSecrets;

/// The most letters a call may list or replay.
pub const MAX_PAGE: u32 = 500;

/// The most bytes of a request to this API.
const MAX_BODY: usize = 4 << 20;

/// The file in the data folder that holds the token when the site names none.
pub const TOKEN_FILE: &str = "admin.token";

#[derive(Clone)]
struct Desk {
    gateway: Arc<Gateway>,
    token: Secret,
}

/// Which page of which letters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ListQuery {
    /// The last id of the page before.
    pub after: Option<i64>,
    /// How many, at most [`MAX_PAGE`].
    pub limit: Option<u32>,
}

/// Letters to replay, and who does it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Their ids, at most [`MAX_PAGE`].
    pub ids: Vec<i64>,
    /// Who.
    pub actor: String,
}

/// Why a letter is discarded, and by whom.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardRequest {
    /// Why; not empty.
    pub reason: String,
    /// Who.
    pub actor: String,
}

/// A letter's new body.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The revision that was edited.
    pub revision: u32,
    /// The new body: JSON text.
    pub body: String,
    /// Who.
    pub actor: String,
}

/// A letter as the API shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LetterView {
    /// As lists show it.
    pub letter: gatehouse_store::Summary,
    /// Every attempt.
    pub attempts: Vec<gatehouse_store::Attempt>,
    /// What it travelled with.
    pub headers: std::collections::BTreeMap<String, String>,
    /// The body as it stands now, as text.
    pub body: String,
    /// The body as it died, where it was edited.
    pub original: Option<String>,
    /// What the body is.
    pub content_type: String,
}

/// Reads the token of a site, making it at the first start.
///
/// # Errors
/// The data folder cannot be written, or the named secret is not there.
pub fn token(site: &gatehouse_core::site::Gateway, root: &Path) -> anyhow::Result<Secret> {
    if let Some(secret) = &site.admin.token {
        return ProcessSecrets::new(root).fetch(secret).map_err(|fault| anyhow::anyhow!(fault.public));
    }
    let path = root.join(&site.data).join(TOKEN_FILE);
    match std::fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => return Ok(Secret::new(token.trim())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let token = format!("gh_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        writeln!(file, "{token}")
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Secret::new(token))
}

/// Serves until `stop`; returns the address that it listens on at once.
///
/// # Errors
/// The address is in use.
pub async fn serve(gateway: Arc<Gateway>, root: &Path, stop: CancellationToken) -> anyhow::Result<SocketAddr> {
    let listen = gateway.site.gateway.admin.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} for admin"))?;
    let address = listener.local_addr()?;
    let desk = Desk { token: token(&gateway.site.gateway, root)?, gateway };
    let api = Router::new()
        .route("/api/v1/letters", get(list))
        .route("/api/v1/letters/counts", get(counts))
        .route("/api/v1/letters/replay", post(replay))
        .route("/api/v1/letters/{id}", get(show))
        .route("/api/v1/letters/{id}/discard", post(discard))
        .route("/api/v1/letters/{id}/body", put(edit))
        .route("/api/v1/audit", get(audit))
        .merge(backfills::routes())
        .layer(axum::middleware::from_fn_with_state(desk.clone(), authorised));
    let app = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(api)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(desk);
    tokio::spawn(async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(async move { stop.cancelled().await }).await;
        if let Err(error) = served {
            tracing::error!(%error, "the admin listener stopped");
        }
    });
    Ok(address)
}

async fn authorised(State(desk): State<Desk>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let equal = given.is_some_and(|given| given.as_bytes().ct_eq(desk.token.expose().as_bytes()).into());
    if equal {
        return next.run(request).await;
    }
    refused(&Fault::new(Code::Unauthenticated, "this needs the admin token: `Authorization: Bearer …`"))
}

async fn readyz(State(desk): State<Desk>) -> Response {
    match desk.gateway.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))).into_response(),
    }
}

async fn metrics(State(desk): State<Desk>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], desk.gateway.metrics.render()).into_response()
}

async fn list(State(desk): State<Desk>, Query(page): Query<ListQuery>, Query(filter): Query<LooseFilter>) -> Response {
    let limit = page.limit.unwrap_or(50).clamp(1, MAX_PAGE);
    answer(desk.gateway.letters.store().letters(&filter.0, limit, page.after).await)
}

async fn counts(State(desk): State<Desk>, Query(filter): Query<LooseFilter>) -> Response {
    answer(desk.gateway.letters.store().count_letters(&filter.0).await)
}

async fn show(State(desk): State<Desk>, PathParam(id): PathParam<i64>) -> Response {
    let letter = desk.gateway.letters.store().letter(id).await;
    answer(letter.map(|letter| LetterView {
        body: String::from_utf8_lossy(&letter.body).into_owned(),
        original: letter.original.map(|body| String::from_utf8_lossy(&body).into_owned()),
        letter: letter.summary,
        attempts: letter.attempts,
        headers: letter.headers,
        content_type: letter.content_type,
    }))
}

async fn replay(State(desk): State<Desk>, Json(request): Json<ReplayRequest>) -> Response {
    if request.ids.len() > MAX_PAGE as usize {
        return refused(&Fault::new(Code::TooLarge, format!("at most {MAX_PAGE} letters a call")));
    }
    let entry = audit_entry(
        &request.actor,
        "letter.replay",
        &format!("{} letters", request.ids.len()),
        &format!("{:?}", request.ids),
    );
    if let Err(error) = desk.gateway.letters.store().audit(&entry).await {
        return refused(&letters::fault(error));
    }
    answer(desk.gateway.letters.replay(&request.ids, &request.actor).await)
}

async fn discard(
    State(desk): State<Desk>,
    PathParam(id): PathParam<i64>,
    Json(request): Json<DiscardRequest>,
) -> Response {
    if request.reason.trim().is_empty() {
        return refused(&Fault::new(Code::Invalid, "say why: a discarded letter never arrives"));
    }
    answer(desk.gateway.letters.store().discard(id, &request.reason, &request.actor).await)
}

async fn edit(State(desk): State<Desk>, PathParam(id): PathParam<i64>, Json(request): Json<EditRequest>) -> Response {
    match desk.gateway.letters.edit(id, request.revision, request.body.as_bytes(), &request.actor).await {
        Ok(()) => Json(()).into_response(),
        Err(fault) => refused(&fault),
    }
}

async fn audit(State(desk): State<Desk>, Query(page): Query<ListQuery>) -> Response {
    answer(desk.gateway.letters.store().audit_entries(page.limit.unwrap_or(50).clamp(1, MAX_PAGE)).await)
}

/// A filter out of a query string that also holds the page: unknown names are the page's.
struct LooseFilter(Filter);

impl<'de> Deserialize<'de> for LooseFilter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        pairs.retain(|name, _| name != "after" && name != "limit");
        let filter = pairs.into_iter().map(|(name, value)| (name, serde_json::Value::String(value))).collect();
        serde_json::from_value(serde_json::Value::Object(filter)).map(Self).map_err(serde::de::Error::custom)
    }
}

fn audit_entry(actor: &str, action: &str, subject: &str, detail: &str) -> AuditEntry {
    AuditEntry {
        at: jiff::Timestamp::now(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
    }
}

fn answer<T: Serialize>(outcome: Result<T, gatehouse_store::StoreError>) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(error) => refused(&letters::fault(error)),
    }
}

fn refused(fault: &Fault) -> Response {
    let problem = gatehouse_net::problem::Problem::from(fault);
    (problem.status, [(header::CONTENT_TYPE, "application/problem+json")], Bytes::from(problem.body())).into_response()
}
