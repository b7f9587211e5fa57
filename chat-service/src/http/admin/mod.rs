//! For operators: what was deleted, what was not understood, how the consumer is doing, what may have been
//! missed; orphans, and the erasure of members.
//!
//! Invariant: this is on the listener that is not public, and needs no token.

use std::sync::Arc;

use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::App;

mod consumer;
mod dead_letters;
mod deletions;
mod gaps;
mod members;
mod orphans;

/// What is not a route's.
#[derive(OpenApi)]
#[openapi(info(
    title = "chat-service for operators",
    description = "What was deleted, what was not understood, how the consumer is doing; and the erasure of members."
))]
struct Document;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(deletions::list))
        .routes(routes!(deletions::of_post))
        .routes(routes!(members::erase))
        .routes(routes!(members::erasure))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay_page))
        .routes(routes!(dead_letters::show, dead_letters::discard))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(gaps::list))
        .routes(routes!(gaps::resolve))
        .routes(routes!(orphans::list))
        .routes(routes!(orphans::sweep))
        .routes(routes!(consumer::show))
        .routes(routes!(consumer::resume))
}
