//! What every route has in common when a request is wrong.

use std::path::Path;
use std::time::Duration;

use local_stack::tokens::Signer;
use reqwest::Method;
use serde_json::json;

use crate::service::{Answer, Service, config, eventually, new_database, sample, token};

/// The first of them take a body.
const WRITES: [(Method, &str); 6] = [
    (Method::POST, "/v1/trade-posts"),
    (Method::PATCH, "/v1/trade-posts/1"),
    (Method::PUT, "/v1/trade-posts/1/buyer"),
    (Method::DELETE, "/v1/trade-posts/1"),
    (Method::PUT, "/v1/trade-posts/1/favorite"),
    (Method::DELETE, "/v1/trade-posts/1/favorite"),
];
const OWN: [(Method, &str); 3] = [
    (Method::GET, "/v1/me/posts"),
    (Method::GET, "/v1/me/purchases"),
    (Method::GET, "/v1/me/favorites"),
];

#[tokio::test]
async fn an_array_is_no_body() {
    let service = Service::start("problems_array").await;
    let keywords = (Method::POST, "/v1/me/keywords");
    for (method, path) in WRITES.into_iter().take(3).chain([keywords]) {
        let request = service.request(method, path).bearer_auth(token(7));
        Answer::of(request.json(&json!([202])))
            .await
            .assert_invalid(&[("body", "invalid type: sequence, expected an object")]);
    }
}

#[tokio::test]
async fn what_is_a_members_own_needs_a_token_and_reading_posts_does_not() {
    let service = Service::start("problems_token").await;
    let title = "Authentication required";
    for (method, path) in WRITES.into_iter().chain(OWN) {
        let request = service.request(method.clone(), path).json(&sample(&json!({})));
        let missing = Answer::of(request).await;
        missing.assert_problem(
            401,
            "unauthenticated",
            title,
            "The request has no Authorization header. Send `Authorization: Bearer <token>`.",
        );
        assert_eq!(missing.header("www-authenticate"), "Bearer");

        let malformed = Answer::of(service.request(method.clone(), path).bearer_auth("secret")).await;
        let detail = "The token is malformed: it is not a signed JSON Web Token.";
        malformed.assert_problem(401, "unauthenticated", title, detail);

        let mut forged = token(7);
        forged.pop();
        forged.push_str("AA");
        let forged = Answer::of(service.request(method, path).bearer_auth(forged)).await;
        assert_eq!(forged.status, 401);
    }
    assert_eq!(service.get("/v1/trade-posts").await.status, 200);
    assert_eq!(service.get("/v1/trade-posts/1").await.status, 404);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let service = Service::start("problems_routes").await;
    let unknown = service.get("/v1/nothing").await;
    unknown.assert_problem(
        404,
        "unknown-route",
        "Unknown route",
        "There is nothing at `/v1/nothing`.",
    );
    // Operators' routes are on the other listener only.
    assert_eq!(service.get("/metrics").await.status, 404);

    let wrong = Answer::of(service.request(Method::PUT, "/v1/trade-posts/1")).await;
    let detail = "`/v1/trade-posts/1` does not take PUT; the Allow header lists what it takes.";
    wrong.assert_problem(405, "method-not-allowed", "Method not allowed", detail);
    assert_eq!(wrong.header("allow"), "GET,HEAD,PATCH,DELETE");
    assert!(!wrong.header("x-request-id").is_empty());
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_apart() {
    let service = Service::start("problems_bodies").await;
    for (method, path) in &WRITES[..3] {
        let request = || {
            service
                .request(method.clone(), path)
                .bearer_auth(token(7))
                .header("content-type", "application/json")
        };
        let malformed = Answer::of(request().body("{")).await;
        let detail = "The request body is not JSON: EOF while parsing an object at line 1 column 1.";
        malformed.assert_problem(400, "malformed-json", "Malformed JSON", detail);

        let large = Answer::of(request().body(" ".repeat(256 * 1024 + 1))).await;
        let detail = "The request body may have 262144 bytes; it has 262145 bytes.";
        assert_eq!(
            (large.status, &large.body),
            (
                413,
                &json!({
                    "type": "urn:marketplace:problem:body-too-large", "title": "Request body too large",
                    "status": 413, "detail": detail, "limit": 262_144,
                })
            )
        );

        let text = service
            .request(method.clone(), path)
            .bearer_auth(token(7))
            .body("title=x");
        let detail = "Send a JSON body with `Content-Type: application/json`.";
        Answer::of(text).await.assert_problem(
            415,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        );
    }
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_write_from_a_browser() {
    const PAGE: &str = "https://market.example";
    let mut config = config(&new_database("problems_cors").await);
    config.origins.allowed_origin = vec![PAGE.parse().unwrap()];
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let preflight = async |origin: &str| {
        let request = service
            .request(Method::OPTIONS, "/v1/trade-posts/1")
            .header("origin", origin)
            .header("access-control-request-method", "PATCH")
            .header(
                "access-control-request-headers",
                "authorization,content-type,if-match",
            );
        request.send().await.unwrap()
    };
    let allowed = preflight(PAGE).await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], PAGE);
    let headers = allowed.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    assert!(headers.contains("if-match"), "{headers}");
    // Its pages have no cookie here.
    assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    let other = preflight("https://evil.example").await;
    assert!(!other.headers().contains_key("access-control-allow-origin"));

    let request = service
        .request(Method::GET, "/v1/trade-posts/1")
        .header("origin", PAGE);
    let answer = Answer::of(request).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (404, PAGE)
    );
    assert_eq!(
        answer.header("access-control-expose-headers"),
        "etag,location,retry-after,x-request-id"
    );
}

#[tokio::test]
async fn a_key_rotates_without_a_restart() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotation");
    let signer = |name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Signer::open_or_create(&folder).unwrap()
    };
    let (old, new) = (signer("old"), signer("new"));
    let jwks = folder.join("jwks.json");
    std::fs::write(&jwks, old.jwks_json()).unwrap();
    let mut config = config(&new_database("problems_keys").await);
    config.auth.jwt_jwks = jwks.display().to_string();
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let status = async |signer: &Signer| {
        let token = signer.token(7, Duration::from_mins(1)).unwrap();
        let request = service
            .request(Method::DELETE, "/v1/trade-posts/1")
            .bearer_auth(token);
        Answer::of(request).await.status
    };
    assert_eq!((status(&old).await, status(&new).await), (404, 401));
    std::fs::write(&jwks, new.jwks_json()).unwrap();
    eventually("the new key is taken", async || status(&new).await == 404).await;
    assert_eq!(status(&old).await, 401);
}
