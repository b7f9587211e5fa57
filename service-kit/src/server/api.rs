//! The layers that every public API has, in one place and one order.
//!
//! From the outside in: request id, span, metrics and access line; CORS; panic to problem; the deadline
//! for the response's head; the limits of the body; the routes with 404 and 405 as problems. Invariant:
//! whatever happens inside, the client gets an HTTP answer with an `x-request-id`, and a page that may
//! use the API can read it.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use tokio::time::{Instant, timeout};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tracing::{Instrument, debug, info_span, warn};
use uuid::Uuid;

use crate::metrics::{HttpMetrics, UNMATCHED};
use crate::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A client's own request id is kept up to this length.
const MAX_REQUEST_ID: usize = 64;

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request body; more is 413.
    pub body: usize,
    /// Time that reading the body may take; more is 408.
    pub upload: Duration,
    /// Time until the response's head, reading the request's body included; more is 503. A streaming
    /// response body may take as long as it wants.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 256 * 1024,
            upload: Duration::from_secs(10),
            head: Duration::from_secs(15),
        }
    }
}

/// Puts the common layers around `router`. Routes added afterwards are outside of them.
pub fn api(router: Router, metrics: &HttpMetrics, limits: Limits, cors: Option<CorsLayer>) -> Router {
    let router = router
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(limits.body))
        .layer(from_fn_with_state(limits, body_limits))
        .layer(from_fn_with_state(limits.head, head_deadline))
        .layer(CatchPanicLayer::custom(panicked));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
    .layer(from_fn_with_state(metrics.clone(), observe))
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown-route", "Unknown route")
        .detail(format!("There is nothing at `{}`.", uri.path()))
}

async fn method_not_allowed(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
    )
    .detail(format!(
        "`{}` does not take {}; the Allow header lists what it takes.",
        request.uri().path(),
        request.method(),
    ))
}

/// Refuses a body by what its head says, before any of it is read, and tells extractors the limits.
async fn body_limits(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.body as u64) {
        return limits.body_too_large(length).into_response();
    }
    request.extensions_mut().insert(limits);
    next.run(request).await
}

impl Limits {
    /// 413; `length` is what the request's head says.
    pub(crate) fn body_too_large(self, length: Option<u64>) -> Problem {
        let limit = self.body;
        let came = length.map_or("more".to_owned(), |length| format!("{length} bytes"));
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "Request body too large",
        )
        .detail(format!("The request body may have {limit} bytes; it has {came}."))
        .with("limit", limit)
    }

    /// 408.
    pub(crate) fn body_too_slow(self) -> Problem {
        let limit = self.upload;
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            "Request body too slow",
        )
        .detail(format!(
            "The request body has to arrive within {limit:?}; send it again."
        ))
    }
}

async fn head_deadline(State(deadline): State<Duration>, request: Request, next: Next) -> Response {
    let Ok(response) = timeout(deadline, next.run(request)).await else {
        warn!("no answer within {deadline:?}, the request is given up");
        return Problem::timeout(Duration::from_secs(1)).into_response();
    };
    response
}

/// The panic hook has logged the panic already.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal().into_response()
}

async fn observe(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let id = request_id(&request);
    let span = info_span!(
        "request",
        request.id = id.to_str().unwrap_or_default(),
        http.method = %method,
        http.path = path
    );

    let mut response = next.run(request).instrument(span.clone()).await;

    let took = begin.elapsed();
    let status = response.status();
    metrics.observe(&method, route, status, took);
    span.in_scope(|| {
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        debug!(
            http.route = route,
            duration_ms,
            "{method} {path} answered {}",
            status.as_u16()
        );
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The id that the client or a proxy gave, if it is short and plain, or a new one.
fn request_id(request: &Request) -> HeaderValue {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
    match request.headers().get(REQUEST_ID) {
        Some(id) if (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(plain) => id.clone(),
        _ => HeaderValue::try_from(Uuid::now_v7().to_string()).expect("a UUID is a valid header value"),
    }
}

#[cfg(test)]
mod tests;
