//! For operators: what was deleted, what was not understood, how the consumer is doing, what may have been
//! missed and its repair; orphans, and the erasure of members.
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
mod reconciliations;

/// What is not a route's.
#[derive(OpenApi)]
#[openapi(info(
    title = "chat-service for operators",
    description = "What was deleted, what was not understood, how the consumer is doing, what may have been missed and its repair; orphans, and the erasure of members."
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
        .routes(routes!(reconciliations::list, reconciliations::begin))
        .routes(routes!(reconciliations::show))
        .routes(routes!(reconciliations::candidates))
        .routes(routes!(reconciliations::keyword_candidates))
        .routes(routes!(reconciliations::drain))
        .routes(routes!(reconciliations::confirm))
        .routes(routes!(reconciliations::cancel))
        .routes(routes!(gaps::list))
        .routes(routes!(gaps::resolve))
        .routes(routes!(orphans::list))
        .routes(routes!(orphans::sweep))
        .routes(routes!(consumer::show))
        .routes(routes!(consumer::resume))
}
