//! The OpenAPI document of a service: what its routes say of themselves, completed by what every route has.
//!
//! A handler names the answers that are its own. The problem shape, the token, and what the extractors and
//! [`crate::server::api`] answer whatever the route does, are added here. Invariant: every answer that is not
//! a success is a problem in the document, as it is on the wire.

mod page;

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Object, OpenApi, Ref, RefOr, Response, ResponseBuilder, Type};
use utoipa::{PartialSchema, ToSchema};

pub use self::page::PATH as PAGE;
use crate::problem::{Body, Problem};
use crate::server::Limits;

/// Where a service answers its document.
pub const PATH: &str = "/openapi.json";
/// Name of the security scheme of `Authorization: Bearer`.
pub const TOKEN: &str = "token";

const ABOUT: &str = "\n\nEvery error is a problem of RFC 9457, `application/problem+json`. A path that is not in here is \
    answered 404, `unknown-route`, and a method that a path does not take 405, `method-not-allowed`.";

/// Adds what is the same for all services. `limits` are those of the routes.
///
/// # Panics
/// If the problem shape has no name, which it has.
pub fn complete(mut document: OpenApi, limits: Limits) -> OpenApi {
    let shared = shared(limits);
    let about = document.info.description.get_or_insert_default();
    about.push_str(ABOUT);
    let by_default = wants_token(document.security.as_deref().unwrap_or_default());
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let token = operation.security.as_deref().map_or(by_default, wants_token);
        let body = operation.request_body.is_some();
        let input = body || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
        let given = |by| match by {
            By::Any => true,
            By::Token => token,
            By::Body => body,
            By::Input => input,
        };
        let responses = &mut operation.responses.responses;
        for shared in shared.iter().filter(|shared| given(shared.by)) {
            responses
                .entry(status(&shared.problem))
                .or_insert_with(|| Ref::from_response_name(shared.name).into());
        }
        for (status, response) in responses {
            if let RefOr::T(response) = response
                && !status.starts_with('2')
            {
                make_problem(response, status, None);
            }
        }
    }
    let components = document.components.get_or_insert_default();
    for shared in shared {
        let mut response = ResponseBuilder::new().description(shared.description).build();
        let example = shared.problem.to_json();
        make_problem(&mut response, &status(&shared.problem), Some(example));
        components
            .responses
            .insert(shared.name.to_owned(), response.into());
    }
    let mut schemas = vec![(Body::name().into_owned(), Body::schema())];
    Body::schemas(&mut schemas);
    components.schemas.extend(schemas);
    if by_default {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("A JSON Web Token whose `sub` is the member's id."));
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme.build()));
    }
    document
}

/// The text in which a document is served and kept.
///
/// # Panics
/// If the document is no JSON, which it is.
pub fn text(document: &OpenApi) -> String {
    document.to_pretty_json().expect("a document is JSON") + "\n"
}

/// Serves the document at [`PATH`], and at [`PAGE`] a page that shows it.
pub fn serve<S: Clone + Send + Sync + 'static>(router: Router<S>, document: &OpenApi) -> Router<S> {
    let text = Bytes::from(text(document));
    let answer = get(async move || ([(CONTENT_TYPE, "application/json")], text));
    page::serve(router.route(PATH, answer))
}

/// An answer that a route gives without its handler.
struct Shared {
    by: By,
    /// Among the document's components.
    name: &'static str,
    description: &'static str,
    /// An example.
    problem: Problem,
}

/// What a route has to have to give an answer.
#[derive(Clone, Copy)]
enum By {
    Any,
    Token,
    Body,
    /// A body or parameters.
    Input,
}

fn shared(limits: Limits) -> [Shared; 8] {
    let shared = |by, name, description, problem| Shared {
        by,
        name,
        description,
        problem,
    };
    [
        shared(
            By::Body,
            "MalformedBody",
            "`malformed-json`, `unreadable-body`: the body is not JSON, or ended early.",
            Problem::new(StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON")
                .detail("The request body is not JSON: EOF while parsing an object at line 1 column 1."),
        ),
        shared(
            By::Token,
            "Unauthenticated",
            "`unauthenticated`: no token, or one that does not prove who is asking.",
            Problem::unauthenticated("The token has expired."),
        ),
        shared(
            By::Body,
            "BodyTooSlow",
            "`body-too-slow`: the body did not arrive in time.",
            limits.body_too_slow(),
        ),
        shared(
            By::Any,
            "BodyTooLarge",
            "`body-too-large`: the body has more bytes than any request may have.",
            limits.body_too_large(Some(10 << 20)),
        ),
        shared(
            By::Body,
            "UnsupportedMediaType",
            "`unsupported-media-type`: the body does not say that it is JSON.",
            Problem::unsupported_media_type(),
        ),
        shared(
            By::Input,
            "InvalidInput",
            "`invalid-input`: parameters or fields are not acceptable; `errors` names each.",
            Problem::invalid_input().field("limit", "must be 1 to 100, got 1000"),
        ),
        shared(
            By::Any,
            "Internal",
            "`internal`: the service failed, and has logged why.",
            Problem::internal(),
        ),
        shared(
            By::Any,
            "Unavailable",
            "`unavailable`, `timeout`: a server that the service depends on is away or slow.",
            Problem::unavailable(Duration::from_secs(2)),
        ),
    ]
}

fn status(problem: &Problem) -> String {
    problem.status().as_str().to_owned()
}

/// Gives an answer the body and the headers that a problem of its status has.
fn make_problem(response: &mut Response, status: &str, example: Option<Value>) {
    let schema = Ref::from_schema_name(Body::name());
    let content = ContentBuilder::new().schema(Some(schema)).example(example);
    response
        .content
        .insert("application/problem+json".to_owned(), content.build().into());
    let (name, kind, description) = match status {
        "401" => ("WWW-Authenticate", Type::String, "`Bearer`"),
        "429" | "503" => (
            "Retry-After",
            Type::Integer,
            "Seconds to wait before trying again.",
        ),
        _ => return,
    };
    let header = HeaderBuilder::new()
        .schema(Some(Object::with_type(kind)))
        .description(Some(description));
    response.headers.insert(name.to_owned(), header.build().into());
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        patch,
        delete,
        ..
    } = item;
    [get, put, post, patch, delete].into_iter().flatten()
}

fn wants_token(requirements: &[SecurityRequirement]) -> bool {
    // An empty requirement is how a route says that it needs nothing.
    requirements
        .iter()
        .any(|requirement| *requirement != SecurityRequirement::default())
}
