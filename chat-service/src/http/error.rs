//! What the API refuses, and how it says so: one match for all of it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use mongodb::error::ErrorKind;
use service_kit::problem::Problem;
use tracing::error;

use super::rate::TooOften;
use crate::{
    cdc::{chain, error::Failure},
    live::hub::Full,
    message::InvalidText,
    notification::CloseReason,
    reconciliation::State,
    room::{Closed, Refusal},
};

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("no such room")]
    NoRoom,
    #[error("the room was closed")]
    RoomClosed(Closed),
    #[error("trade post {0} is not known here")]
    UnknownPost(i64),
    #[error("trade post {0} was deleted")]
    PostDeleted(i64),
    #[error("trade post {0} is the caller's own")]
    OwnPost(i64),
    #[error("the two have nothing to say to each other")]
    Refused(Refusal),
    #[error("field {field} {problem}")]
    Text {
        field: &'static str,
        problem: InvalidText,
    },
    #[error("field {field} {problem}")]
    Field { field: &'static str, problem: String },
    #[error("no such notification")]
    NoNotification,
    #[error("the caller takes no event stream")]
    NotAcceptable,
    #[error("the caller did it too often")]
    TooOften(TooOften),
    #[error("no stream can be opened")]
    Streams(Full),
    #[error("nobody asked to erase that member")]
    NoErasure,
    #[error("no such reconciliation")]
    NoReconciliation,
    #[error("reconciliation {0} has not ended")]
    Reconciling(String),
    #[error("there was a reconciliation of that id")]
    ReconciliationIdUsed,
    #[error("the reconciliation is {}", .0.name())]
    ReconciliationState(State),
    #[error("no such dead letter")]
    NoDeadLetter,
    #[error("the record is not understood: {0}")]
    NotUnderstood(String),
    #[error("the record cannot be carried out now")]
    Pipeline(#[source] Failure),
    #[error("MongoDB failed")]
    Store(#[from] mongodb::error::Error),
}

/// A capture that is a moment behind is asked again after this long.
const CAPTURE: Duration = Duration::from_secs(1);
/// A server or stream that is away is asked again after this long.
const AWAY: Duration = Duration::from_secs(5);

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NoRoom => Self::not_found("room"),
            ApiError::NoNotification => Self::not_found("notification"),
            ApiError::RoomClosed(Closed {
                trade_post_id,
                reason,
            }) => {
                let (reason, detail) = match reason {
                    CloseReason::TradePostDeleted => (
                        "trade_post_deleted",
                        "The trade post was deleted, and its chats with it.",
                    ),
                    CloseReason::MemberErased => (
                        "member_erased",
                        "Its members have gone, and its messages with them.",
                    ),
                };
                Self::new(StatusCode::GONE, "room-closed", "The room is closed")
                    .detail(detail)
                    .with("reason", reason)
                    .with("trade_post_id", trade_post_id)
            }
            ApiError::UnknownPost(id) => Self::not_found("trade post")
                .detail(format!(
                    "Trade post {id} is not known here. A new one is known in a moment."
                ))
                .retry_after(CAPTURE),
            ApiError::PostDeleted(id) => Self::new(
                StatusCode::GONE,
                "trade-post-deleted",
                "The trade post was deleted",
            )
            .detail(format!(
                "Trade post {id} was deleted; no room can be opened about it."
            ))
            .with("trade_post_id", id),
            ApiError::OwnPost(id) => Self::new(
                StatusCode::CONFLICT,
                "own-trade-post",
                "The trade post is your own",
            )
            .detail(format!("Trade post {id} is yours; a room is opened by a buyer.")),
            ApiError::Refused(refusal) => refused(refusal),
            ApiError::Text { field, problem } => Self::invalid_input().field(field, problem.to_string()),
            ApiError::Field { field, problem } => Self::invalid_input().field(field, problem),
            ApiError::NotAcceptable => Self::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "Only an event stream is given here",
            )
            .detail("Send `Accept: text/event-stream`."),
            ApiError::TooOften(bound) => too_often(bound),
            ApiError::Streams(full) => match full {
                Full::Member(limit) => Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too-many-streams",
                    "Too many event streams",
                )
                .detail(format!(
                    "A member may have {limit} open streams; close one first."
                ))
                .retry_after(AWAY),
                Full::Instance(_) | Full::Closing => Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "instance-full",
                    "No room for another event stream",
                )
                .detail("This instance takes no further stream; try again.")
                .retry_after(CAPTURE),
            },
            ApiError::NoErasure => Self::not_found("erasure"),
            ApiError::NoReconciliation => Self::not_found("reconciliation"),
            ApiError::Reconciling(id) => unfinished(&id),
            ApiError::ReconciliationIdUsed => Self::new(
                StatusCode::CONFLICT,
                "id-used",
                "There was a reconciliation of that id",
            )
            .detail("Each needs an id of its own: it tells its snapshot from others."),
            ApiError::ReconciliationState(state) => wrong_state(state),
            ApiError::NoDeadLetter => Self::not_found("dead letter"),
            ApiError::NotUnderstood(reason) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not-understood",
                "The record is still not understood",
            )
            .detail(reason),
            ApiError::Pipeline(failure) => Self::unavailable(AWAY).detail(chain(&failure)),
            ApiError::Store(error) => {
                error!(%error, "MongoDB failed a request");
                match *error.kind {
                    ErrorKind::BsonDeserialization(_) | ErrorKind::BsonSerialization(_) => Self::internal(),
                    _ => Self::unavailable(AWAY),
                }
            }
        }
    }
}

fn unfinished(id: &str) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "reconciliation-unfinished",
        "Another reconciliation has not ended",
    )
    .detail(format!(
        "Reconciliation {id} has not ended. End it with POST /admin/v1/reconciliations/{id}/cancel, or wait for it if \
         it is closing."
    ))
    .with("id", id)
}

fn wrong_state(state: State) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "wrong-state",
        "The reconciliation is in another state",
    )
    .detail(format!(
        "It is {}; that does not lead on from there.",
        state.name()
    ))
    .with("state", state.name())
}

fn too_often(TooOften { action, rate, wait }: TooOften) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate-limited",
        "Too many requests of this kind",
    )
    .detail(format!(
        "A member may do `{}` at the rate {rate} (so many per unit, so many at once).",
        action.name()
    ))
    .with("action", action.name())
    .with("limit", rate)
    .retry_after(wait)
}

fn refused(refusal: Refusal) -> Problem {
    let (code, title, reason, detail) = match refusal {
        Refusal::BlockedByCaller => (
            "blocked",
            "Blocked",
            "by_you",
            "You block this member; take the block back first.",
        ),
        Refusal::BlockedByOther => ("blocked", "Blocked", "by_other", "This member blocks you."),
        Refusal::CallerErased => (
            "member-erased",
            "The member was erased",
            "you",
            "Everything of you was erased here; nothing new is taken.",
        ),
        Refusal::OtherErased => (
            "member-erased",
            "The member was erased",
            "other",
            "This member is not here any more; a room with them can only be read.",
        ),
    };
    Problem::new(StatusCode::FORBIDDEN, code, title)
        .detail(detail)
        .with("reason", reason)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::rate::Action;

    #[test]
    fn every_refusal_has_its_status() {
        let closed = Closed {
            trade_post_id: 7,
            reason: CloseReason::TradePostDeleted,
        };
        let down = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for (error, status, code) in [
            (ApiError::NoRoom, 404, "not-found"),
            (ApiError::NoNotification, 404, "not-found"),
            (ApiError::RoomClosed(closed), 410, "room-closed"),
            (ApiError::UnknownPost(7), 404, "not-found"),
            (ApiError::PostDeleted(7), 410, "trade-post-deleted"),
            (ApiError::OwnPost(7), 409, "own-trade-post"),
            (ApiError::Refused(Refusal::BlockedByOther), 403, "blocked"),
            (ApiError::Refused(Refusal::OtherErased), 403, "member-erased"),
            (
                ApiError::Text {
                    field: "body",
                    problem: InvalidText::Empty,
                },
                422,
                "invalid-input",
            ),
            (
                ApiError::Field {
                    field: "limit",
                    problem: "must be positive".into(),
                },
                422,
                "invalid-input",
            ),
            (ApiError::NotAcceptable, 406, "not-acceptable"),
            (
                ApiError::TooOften(TooOften {
                    action: Action::SendMessage,
                    rate: "10/s:40".into(),
                    wait: Duration::from_millis(1),
                }),
                429,
                "rate-limited",
            ),
            (ApiError::Streams(Full::Member(10)), 429, "too-many-streams"),
            (ApiError::Streams(Full::Instance(10)), 429, "instance-full"),
            (ApiError::Streams(Full::Closing), 429, "instance-full"),
            (ApiError::NoErasure, 404, "not-found"),
            (ApiError::NoDeadLetter, 404, "not-found"),
            (ApiError::NoReconciliation, 404, "not-found"),
            (
                ApiError::Reconciling("r1".into()),
                409,
                "reconciliation-unfinished",
            ),
            (ApiError::ReconciliationIdUsed, 409, "id-used"),
            (ApiError::ReconciliationState(State::Closing), 409, "wrong-state"),
            (ApiError::NotUnderstood("wrong".into()), 422, "not-understood"),
            (
                ApiError::Pipeline(Failure::Store(down().into())),
                503,
                "unavailable",
            ),
            (ApiError::Store(down().into()), 503, "unavailable"),
        ] {
            let text = error.to_string();
            let problem = Problem::from(error);
            assert_eq!(
                (problem.status().as_u16(), problem.code()),
                (status, code),
                "{text}"
            );
        }
    }
}
