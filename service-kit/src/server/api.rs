//! The layers that every public API has, in one place and one order.
//!
//! From the outside in: request id, span, metrics and access line; panic to problem; the deadline for
//! the response's head; the body limit; the routes with 404 and 405 as problems. Invariant: whatever
//! happens inside, the client gets an HTTP answer with an `x-request-id`.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use tokio::time::{Instant, timeout};
use tower_http::catch_panic::CatchPanicLayer;
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
    /// Bytes of a request body that an extractor reads; more is 413.
    pub body: usize,
    /// Time until the response's head, reading the request's body included; more is 503. A streaming
    /// response body may take as long as it wants.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 256 * 1024,
            head: Duration::from_secs(10),
        }
    }
}

/// Puts the common layers around `router`. Routes added afterwards are outside of them.
pub fn api(router: Router, metrics: &HttpMetrics, limits: Limits) -> Router {
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(limits.body))
        .layer(from_fn_with_state(limits.head, head_deadline))
        .layer(CatchPanicLayer::custom(panicked))
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

async fn head_deadline(State(deadline): State<Duration>, request: Request, next: Next) -> Response {
    let Ok(response) = timeout(deadline, next.run(request)).await else {
        warn!("no answer within {deadline:?}, the request is given up");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "No answer in time")
            .detail("The request took too long and was given up; what it asked for may have been done.")
            .retry_after(Duration::from_secs(1))
            .into_response();
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
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::extract::Json;
    use crate::metrics::Metrics;

    const DEADLINE: Duration = Duration::from_millis(50);

    async fn slow_body() -> Body {
        Body::from_stream(stream::once(async {
            tokio::time::sleep(4 * DEADLINE).await;
            Ok::<_, std::io::Error>("slow, but sent")
        }))
    }

    async fn panicking() -> &'static str {
        panic!("a bug")
    }

    fn app(metrics: &Metrics) -> Router {
        let router = Router::new()
            .route(
                "/posts/{id}",
                get("a post").post(async |Json(body): Json<Value>| body.to_string()),
            )
            .route("/panic", get(panicking))
            .route("/never", get(async || std::future::pending::<()>().await))
            .route("/slow-body", get(slow_body));
        api(
            router,
            &HttpMetrics::new(metrics),
            Limits {
                body: 16,
                head: DEADLINE,
            },
        )
    }

    async fn send(app: &Router, request: Request) -> (Response<()>, Vec<u8>) {
        let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
        (
            Response::from_parts(parts, ()),
            body.collect().await.unwrap().to_bytes().to_vec(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_around_a_handler_is_a_problem() {
        let metrics = Metrics::new();
        let app = app(&metrics);
        let json_body = |body: &'static str| {
            Request::post("/posts/1")
                .header("content-type", "application/json")
                .body(Body::from(body))
                .unwrap()
        };
        let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        let delete = Request::delete("/posts/1").body(Body::empty()).unwrap();
        for (request, status, code) in [
            (get("/nowhere"), 404, "unknown-route"),
            (delete, 405, "method-not-allowed"),
            (get("/panic"), 500, "internal"),
            (get("/never"), 503, "timeout"),
            (json_body("\"0123456789abcdef\""), 413, "body-too-large"),
        ] {
            let (response, body) = send(&app, request).await;
            assert_eq!(response.status(), status, "{code}");
            assert_eq!(
                response.headers()["content-type"],
                "application/problem+json",
                "{code}"
            );
            assert!(response.headers().contains_key(REQUEST_ID), "{code}");
            assert_eq!(response.headers().contains_key("allow"), status == 405, "{code}");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["type"], json!(format!("urn:marketplace:problem:{code}")));
        }
        let (response, body) = send(&app, get("/slow-body")).await;
        assert_eq!(
            (response.status().as_u16(), body.as_slice()),
            (200, b"slow, but sent".as_slice())
        );

        let text = metrics.encode().unwrap();
        for line in [
            r#"http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
            r#"http_requests_total{method="DELETE",route="/posts/{id}",status="405"} 1"#,
            r#"http_requests_total{method="GET",route="/panic",status="500"} 1"#,
            r#"http_requests_total{method="GET",route="/never",status="503"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_plain_request_id_is_kept_and_any_other_replaced() {
        let app = app(&Metrics::new());
        let send_id = async |id: &str| {
            let request = Request::get("/posts/1")
                .header(REQUEST_ID, id)
                .body(Body::empty())
                .unwrap();
            send(&app, request).await.0.headers()[REQUEST_ID]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(send_id("trace-1.2:3_4").await, "trace-1.2:3_4");
        for id in ["", "with space", "{\"json\":1}", &"a".repeat(65)] {
            assert!(Uuid::parse_str(&send_id(id).await).is_ok(), "{id}");
        }
    }
}
