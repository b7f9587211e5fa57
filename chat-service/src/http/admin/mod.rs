//! For operators: what was deleted, what was not understood, how the consumer is doing; and the erasure of
//! members.
//!
//! Invariant: this is on the listener that is not public, and needs no token.

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};

use super::App;

mod consumer;
mod dead_letters;
mod deletions;
mod members;

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/deletions", get(deletions::list))
        .route("/admin/v1/deletions/{trade_post_id}", get(deletions::of_post))
        .route("/admin/v1/members/{member_id}", delete(members::erase))
        .route("/admin/v1/members/{member_id}/erasure", get(members::erasure))
        .route("/admin/v1/dead-letters", get(dead_letters::list))
        .route("/admin/v1/dead-letters/replay", post(dead_letters::replay_page))
        .route(
            "/admin/v1/dead-letters/{id}",
            get(dead_letters::show).delete(dead_letters::discard),
        )
        .route("/admin/v1/dead-letters/{id}/replay", post(dead_letters::replay))
        .route("/admin/v1/consumer", get(consumer::show))
        .route("/admin/v1/consumer/resume", post(consumer::resume))
}
