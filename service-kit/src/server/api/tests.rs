//! What the layers make of requests that go wrong, and of those from pages of other origins.

use axum::body::Body;
use axum::routing::get;
use clap::Parser;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::extract::Json;
use crate::metrics::Metrics;
use crate::origin::Origins;

const DEADLINE: Duration = Duration::from_millis(50);
const PAGE: &str = "https://market.example";

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    origins: Origins,
}

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
            upload: DEADLINE / 2,
            head: DEADLINE,
        },
        Cli::parse_from(["x", "--allowed-origin", PAGE])
            .origins
            .cors(true),
    )
}

async fn send(app: &Router, request: Request) -> (Response<()>, Vec<u8>) {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    (
        Response::from_parts(parts, ()),
        body.collect().await.unwrap().to_bytes().to_vec(),
    )
}

/// A body that does not say how long it is.
fn unannounced(chunks: impl futures_util::Stream<Item = &'static str> + Send + 'static) -> Request {
    Request::post("/posts/1")
        .header("content-type", "application/json")
        .body(Body::from_stream(chunks.map(Ok::<_, std::io::Error>)))
        .unwrap()
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
    // Also where nobody reads the body, and before it has come.
    let announced = Request::get("/posts/1").header("content-length", "17");
    let announced = announced.body(Body::empty()).unwrap();
    let endless = stream::repeat("[");
    let slow = stream::iter(["{"]).chain(stream::pending());
    for (request, status, code) in [
        (get("/nowhere"), 404, "unknown-route"),
        (delete, 405, "method-not-allowed"),
        (get("/panic"), 500, "internal"),
        (get("/never"), 503, "timeout"),
        (json_body("\"0123456789abcdef\""), 413, "body-too-large"),
        (announced, 413, "body-too-large"),
        (unannounced(endless), 413, "body-too-large"),
        (unannounced(slow), 408, "body-too-slow"),
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
        assert_eq!(body["limit"] == 16, status == 413, "{body}");
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

#[tokio::test(start_paused = true)]
async fn a_page_of_an_allowed_origin_can_read_every_answer() {
    let app = app(&Metrics::new());
    let from = |origin: &str, path: &str| {
        let request = Request::get(path).header("origin", origin);
        request.body(Body::empty()).unwrap()
    };
    for path in ["/posts/1", "/nowhere", "/panic", "/never"] {
        let (response, _) = send(&app, from(PAGE, path)).await;
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], PAGE, "{path}");
        assert_eq!(headers["access-control-allow-credentials"], "true", "{path}");
        let exposed = headers["access-control-expose-headers"].to_str().unwrap();
        assert_eq!(exposed, "etag,location,retry-after,x-request-id");
        assert!(
            headers["vary"].to_str().unwrap().contains("origin"),
            "{headers:?}"
        );
    }
    for origin in [
        "https://evil.example",
        "http://market.example",
        "https://market.example.evil.example",
        "null",
        "*",
    ] {
        let (response, _) = send(&app, from(origin, "/posts/1")).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert!(!headers.contains_key("access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_for_what_the_api_takes() {
    let metrics = Metrics::new();
    let app = app(&metrics);
    let preflight = Request::options("/posts/1")
        .header("origin", PAGE)
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "authorization,content-type");
    let (response, body) = send(&app, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!((response.status().as_u16(), body.len()), (200, 0));
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], PAGE);
    assert_eq!(
        headers["access-control-allow-methods"],
        "GET,POST,PUT,PATCH,DELETE"
    );
    assert_eq!(
        headers["access-control-allow-headers"],
        "authorization,content-type,if-match,if-none-match,idempotency-key,last-event-id,x-request-id"
    );
    assert_eq!(headers["access-control-max-age"], "3600");
    assert!(headers.contains_key(REQUEST_ID));
    let counted = r#"http_requests_total{method="OPTIONS",route="/posts/{id}",status="200"} 1"#;
    assert!(metrics.encode().unwrap().contains(counted));
}

#[tokio::test]
async fn without_allowed_origins_there_is_no_cors() {
    assert!(Cli::parse_from(["x"]).origins.cors(false).is_none());
    let router = Router::new().route("/", get("hello"));
    let metrics = HttpMetrics::new(&Metrics::new());
    let app = api(router, &metrics, Limits::default(), None);
    let preflight = Request::options("/").header("origin", PAGE);
    let (response, _) = send(&app, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 405);
    assert!(
        !response
            .headers()
            .keys()
            .any(|name| name.as_str().starts_with("access-control"))
    );
}
