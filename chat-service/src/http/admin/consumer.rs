//! How the consumer of this instance is doing, and how it goes on after a flood of dead letters.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service_kit::extract::Json;

use super::super::{App, error::ApiError};
use crate::view::time;

#[derive(Serialize)]
pub struct ConsumerView {
    /// Partitions that this instance is assigned; other instances have the others.
    partitions: Vec<PartitionView>,
    /// Why no records are taken, if so.
    waiting: Option<WaitingView>,
    last_effect: Option<EffectView>,
    heartbeat_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct PartitionView {
    topic: String,
    partition: i32,
    next_offset: Option<i64>,
    end_offset: Option<i64>,
    lag: Option<i64>,
}

#[derive(Serialize)]
struct WaitingView {
    cause: &'static str,
    detail: String,
    since: DateTime<Utc>,
    tries: u32,
}

#[derive(Serialize)]
struct EffectView {
    committed_at: DateTime<Utc>,
    effective_at: DateTime<Utc>,
}

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
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    dead_letters: u64,
}

/// Lets that many records pass as dead letters where the consumer stands still because of too many.
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
    app.pipeline.allow(dead_letters);
    Ok(StatusCode::NO_CONTENT)
}
