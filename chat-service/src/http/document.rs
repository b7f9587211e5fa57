//! The public routes, and the OpenAPI documents that these and the operators' make.
//!
//! Invariant: a route is in the document because it is here.

use service_kit::openapi;
use utoipa::{
    OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AppState, LIMITS, admin, blocks, events, messages, notifications, rooms, session};

/// What is not a route's.
#[derive(OpenApi)]
#[openapi(
    info(title = "chat-service", description = "Chats about trade posts, and what members are told of them."),
    security(("token" = []))
)]
struct Public;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Public::openapi())
        .routes(routes!(rooms::list, rooms::open))
        .routes(routes!(rooms::show))
        .routes(routes!(rooms::read))
        .routes(routes!(rooms::leave))
        .routes(routes!(rooms::of_post))
        .routes(routes!(messages::page, messages::send))
        .routes(routes!(notifications::list))
        .routes(routes!(notifications::read_up_to))
        .routes(routes!(notifications::delete))
        .routes(routes!(notifications::read))
        .routes(routes!(blocks::list))
        .routes(routes!(blocks::block, blocks::unblock))
        .routes(routes!(events::stream))
        .routes(routes!(session::open, session::close))
}

/// The document of the public API.
pub fn public() -> utoipa::openapi::OpenApi {
    let mut document = openapi::complete(routes().into_openapi(), LIMITS);
    let cookie = ApiKeyValue::with_description(
        "__Secure-session",
        "Of browsers, for the event stream alone. Its name is the service's configuration; without one there is \
         no cookie.",
    );
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    document
}

/// The document of the operators' API.
pub fn operators() -> utoipa::openapi::OpenApi {
    openapi::complete(admin::routes().into_openapi(), LIMITS)
}
