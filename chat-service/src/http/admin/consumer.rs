//! How the consumer of this instance is doing, and how it goes on after a flood of dead letters.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service_kit::extract::Json;

use super::super::{App, error::ApiError};
use crate::view::time;

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Consumer)]
pub struct ConsumerView {
    /// Partitions that this instance is assigned; other instances have the others.
    partitions: Vec<PartitionView>,
    /// Why no records are taken, if so.
    #[schema(required)]
    waiting: Option<WaitingView>,
    #[schema(required)]
    last_effect: Option<EffectView>,
    #[schema(required)]
    heartbeat_at: Option<DateTime<Utc>>,
    /// How often changes may have been missed that nobody has seen to, on all instances; not known at first.
    #[schema(required)]
    suspected_gaps: Option<u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Partition)]
struct PartitionView {
    topic: String,
    partition: i32,
    #[schema(required)]
    next_offset: Option<i64>,
    #[schema(required)]
    end_offset: Option<i64>,
    #[schema(required)]
    lag: Option<i64>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Waiting)]
struct WaitingView {
    cause: &'static str,
    detail: String,
    since: DateTime<Utc>,
    tries: u32,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Effect)]
struct EffectView {
    committed_at: DateTime<Utc>,
    effective_at: DateTime<Utc>,
}

/// Show how the consumer of this instance is doing
#[utoipa::path(
    get,
    path = "/admin/v1/consumer",
    operation_id = "show_consumer",
    tag = "consumer",
    responses(
        (status = 200, description = "Its partitions, and why it waits, if it does.", body = ConsumerView),
    ),
)]
pub async fn show(State(app): State<Arc<App>>) -> Json<ConsumerView> {
    let state = app.pipeline.status.get();
    let partitions = state.partitions.into_iter();
    Json(ConsumerView {
        partitions: partitions
            .map(|((topic, partition), known)| PartitionView {
                topic,
                partition,
                next_offset: known.next,
                end_offset: known.end,
                lag: known.lag,
            })
            .collect(),
        waiting: state.waiting.map(|waiting| WaitingView {
            cause: waiting.cause,
            detail: waiting.detail,
            since: time(waiting.since),
            tries: waiting.tries,
        }),
        last_effect: state.last_effect.map(|effect| EffectView {
            committed_at: time(effect.committed_at),
            effective_at: time(effect.at),
        }),
        heartbeat_at: state.heartbeat.map(time),
        suspected_gaps: state.suspected_gaps,
    })
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    #[schema(value_type = i64, minimum = 1, maximum = 4_294_967_295_i64, examples(500))]
    dead_letters: u32,
}

/// Let records pass as dead letters
///
/// That many, where the consumer stands still because of too many.
#[utoipa::path(
    post,
    path = "/admin/v1/consumer/resume",
    operation_id = "resume_consumer",
    tag = "consumer",
    request_body = Resume,
    responses(
        (status = 204, description = "They may pass."),
    ),
)]
pub async fn resume(
    State(app): State<Arc<App>>,
    Json(Resume { dead_letters }): Json<Resume>,
) -> Result<StatusCode, ApiError> {
    if dead_letters == 0 {
        return Err(ApiError::Field {
            field: "dead_letters",
            problem: "must be at least 1".into(),
        });
    }
    app.pipeline.allow(dead_letters.into());
    Ok(StatusCode::NO_CONTENT)
}
