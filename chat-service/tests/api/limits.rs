//! What one member may cost: how often, how much, from which pages.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use crate::chat::{Answer, BUYER, Chat, SELLER, STRANGER};

const PAGE: &str = "https://market.example";

/// The answer refuses more of that action, and the metrics have counted so many such answers.
async fn refused(chat: &Chat, answer: &Answer, action: &str, limit: &str, times: usize) {
    answer.refused(429, "rate-limited");
    assert_eq!(
        (&answer.body["action"], &answer.body["limit"]),
        (&action.into(), &limit.into())
    );
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{answer:?}");
    let counted = format!("rate_limited_total{{request=\"{action}\"}} {times}");
    let metrics = chat.metrics().await;
    assert!(
        metrics.lines().any(|line| line == counted),
        "{counted} is not in\n{metrics}"
    );
}

#[tokio::test]
async fn a_member_who_sends_too_fast_waits_and_others_do_not() {
    let chat = Chat::start_with(&["--send-rate=20/m:3"]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for id in ["1", "2", "3"] {
        assert_eq!(chat.send(BUYER, &room, id, "빨리").await.status, 201);
    }
    let answer = chat.send(BUYER, &room, "4", "더 빨리").await;
    refused(&chat, &answer, "send_message", "20/m:3", 1).await;
    assert_eq!(chat.send(SELLER, &room, "1", "천천히").await.status, 201);

    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    sleep(Duration::from_secs(wait)).await;
    assert_eq!(chat.send(BUYER, &room, "4", "더 빨리").await.status, 201);
    let messages = chat.get(BUYER, &format!("/v1/rooms/{room}/messages")).await;
    assert_eq!(
        messages.body["items"].as_array().unwrap().len(),
        5,
        "what was refused is not there"
    );
}

#[tokio::test]
async fn a_member_who_opens_too_many_rooms_waits() {
    let chat = Chat::start_with(&["--room-rate=1/h:2"]).await;
    for post in [10, 11, 12] {
        chat.on_sale(post, 100 + post).await;
    }
    chat.room(10).await;
    chat.room(11).await;
    let answer = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 12 }))
        .await;
    refused(&chat, &answer, "open_room", "1/h:2", 1).await;
    chat.room_of(12, STRANGER).await;
}

#[tokio::test]
async fn a_member_who_opens_streams_in_a_loop_waits() {
    let chat = Chat::start_with(&["--stream-rate=1/h:2"]).await;
    let request = |method: Method| {
        chat.http
            .request(method, format!("{}/v1/events", chat.base))
            .bearer_auth(chat.token(BUYER))
    };
    for _ in 0..2 {
        assert_eq!(request(Method::GET).send().await.unwrap().status(), 200);
    }
    refused(
        &chat,
        &Answer::of(request(Method::GET)).await,
        "open_stream",
        "1/h:2",
        1,
    )
    .await;
    // A look at the headers opens none.
    assert_eq!(request(Method::HEAD).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_huge_or_broken_body_is_refused_with_the_limit() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let post = |path: &str, body: Vec<u8>| {
        chat.http
            .post(format!("{}{path}", chat.base))
            .bearer_auth(chat.token(BUYER))
            .header("content-type", "application/json")
            .body(body)
    };
    let messages = format!("/v1/rooms/{room}/messages");
    for path in ["/v1/rooms", &messages, "/v1/nothing"] {
        let answer = Answer::of(post(path, vec![b'a'; 10 * 1024 * 1024])).await;
        answer.refused(413, "body-too-large");
        assert_eq!(answer.body["limit"], 32 * 1024, "{path}");
    }
    for bytes in [&b"\xff"[..], b"\xed\x95", b"\xc0\xaf", b"\xed\xa0\x80"] {
        let body = [br#"{"client_message_id": "1", "body": ""#, bytes, br#""}"#].concat();
        Answer::of(post(&messages, body))
            .await
            .refused(400, "malformed-json");
    }
}

#[tokio::test]
async fn only_pages_of_allowed_origins_get_cors() {
    let preflight = async |chat: &Chat, origin: &str| {
        let request = chat
            .http
            .request(Method::OPTIONS, format!("{}/v1/rooms", chat.base))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type,last-event-id",
            );
        request.send().await.unwrap()
    };
    let chat = Chat::start_with(&["--allowed-origin", PAGE]).await;
    let answer = preflight(&chat, PAGE).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
    assert!(
        !answer.headers().contains_key("access-control-allow-credentials"),
        "there is no cookie"
    );
    let answer = preflight(&chat, "https://evil.example").await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    // Also an error can be read.
    let request = chat
        .http
        .get(format!("{}/v1/rooms", chat.base))
        .header("origin", PAGE);
    let answer = Answer::of(request).await;
    answer.refused(401, "unauthenticated");
    assert_eq!(answer.headers["access-control-allow-origin"], PAGE);

    let closed = Chat::start().await;
    let answer = preflight(&closed, PAGE).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}
