//! The backfills of the admin listener, for `gatehouse backfill`. Each act is in the audit, in the transaction that does it.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_store::Turn;
use serde::{Deserialize, Serialize};

use super::{Desk, ListQuery, MAX_PAGE, answer, refused};
use crate::engine::backfill::Wish;

/// Who turns a backfill.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TurnRequest {
    /// Who.
    pub actor: String,
}

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/api/v1/backfills", get(list).post(begin))
        .route("/api/v1/backfills/{id}", get(show))
        .route("/api/v1/backfills/{id}/{verb}", post(turn))
}

async fn begin(State(desk): State<Desk>, Json(wish): Json<Wish>) -> Response {
    told(desk.gateway.backfills.begin(&wish).await)
}

async fn list(State(desk): State<Desk>, Query(page): Query<ListQuery>) -> Response {
    answer(desk.gateway.backfills.list(page.limit.unwrap_or(50).clamp(1, MAX_PAGE)).await)
}

async fn show(State(desk): State<Desk>, Path(id): Path<i64>) -> Response {
    answer(desk.gateway.backfills.show(id).await)
}

async fn turn(
    State(desk): State<Desk>,
    Path((id, verb)): Path<(i64, String)>,
    Json(request): Json<TurnRequest>,
) -> Response {
    let turn = match verb.as_str() {
        "pause" => Turn::Pause,
        "resume" => Turn::Resume,
        "cancel" => Turn::Cancel,
        _ => return refused(&Fault::new(Code::NotFound, "a backfill can be paused, resumed or cancelled")),
    };
    told(desk.gateway.backfills.turn(id, &turn, &request.actor).await)
}

fn told<T: Serialize>(outcome: Result<T, Fault>) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(fault) => refused(&fault),
    }
}
