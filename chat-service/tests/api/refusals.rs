//! What is not yours, not there or not well-formed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Answer, BUYER, Chat, SELLER, STRANGER};

#[tokio::test]
async fn what_is_not_yours_is_not_there() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "1", "비밀").await;
    chat.get(STRANGER, &format!("/v1/rooms/{room}"))
        .await
        .refused(404, "not-found");
    chat.get(STRANGER, &format!("/v1/rooms/{room}/messages"))
        .await
        .refused(404, "not-found");
    chat.send(STRANGER, &room, "1", "끼어들기")
        .await
        .refused(404, "not-found");
    for list in ["/v1/rooms", "/v1/notifications", "/v1/trade-posts/10/rooms"] {
        assert_eq!(chat.get(STRANGER, list).await.body["items"], json!([]), "{list}");
    }
    assert_eq!(
        chat.get(SELLER, "/v1/notifications").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn ids_that_cannot_be_are_not_there() {
    let chat = Chat::start().await;
    for room in ["0", "x", "000000000000000000000000", "%00"] {
        chat.get(BUYER, &format!("/v1/rooms/{room}"))
            .await
            .refused(404, "not-found");
        chat.send(BUYER, room, "1", "글").await.refused(404, "not-found");
    }
}

#[tokio::test]
async fn every_route_wants_a_token() {
    let chat = Chat::start().await;
    for (method, path) in [
        (Method::GET, "/v1/rooms"),
        (Method::POST, "/v1/rooms"),
        (Method::GET, "/v1/rooms/000000000000000000000000"),
        (Method::GET, "/v1/rooms/000000000000000000000000/messages"),
        (Method::POST, "/v1/rooms/000000000000000000000000/messages"),
        (Method::GET, "/v1/trade-posts/1/rooms"),
        (Method::GET, "/v1/notifications"),
        (Method::GET, "/v1/events"),
    ] {
        let request = || {
            chat.http
                .request(method.clone(), format!("{}{path}", chat.base))
                .json(&json!({}))
        };
        for request in [request(), request().bearer_auth("no.token.at-all")] {
            let answer = Answer::of(request).await;
            answer.refused(401, "unauthenticated");
            assert!(
                answer.headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .starts_with("Bearer")
            );
        }
    }
}

#[tokio::test]
async fn wrong_input_names_the_field() {
    let chat = Chat::start().await;
    let field = |answer: &Answer| answer.body["errors"][0]["field"].clone();
    for (path, name) in [
        ("/v1/rooms?limit=0", "limit"),
        ("/v1/rooms?limit=101", "limit"),
        ("/v1/rooms?limit=-1", "limit"),
        ("/v1/rooms?limit=99999999999999999999", "limit"),
        ("/v1/trade-posts/1/rooms?limit=0", "limit"),
        ("/v1/notifications?limit=1000000000", "limit"),
        ("/v1/rooms?cursor=abc", "cursor"),
        ("/v1/notifications?before=x", "before"),
        ("/v1/trade-posts/x/rooms", "trade_post_id"),
        ("/v1/events?last_event_id=x", "last_event_id"),
    ] {
        let answer = chat.get(BUYER, path).await;
        answer.refused(422, "invalid-input");
        assert_eq!(field(&answer), name, "{path}");
    }
    for (body, name) in [
        (json!({}), "trade_post_id"),
        (json!({ "trade_post_id": "x" }), "trade_post_id"),
        (json!({ "trade_post_id": 1, "more": 1 }), "more"),
    ] {
        let answer = chat.post(BUYER, "/v1/rooms", body).await;
        answer.refused(422, "invalid-input");
        assert_eq!(field(&answer), name);
    }
    let post = |body: &'static str| {
        chat.http
            .post(format!("{}/v1/rooms", chat.base))
            .bearer_auth(chat.token(BUYER))
            .header("content-type", "application/json")
            .body(body)
    };
    assert_eq!(Answer::of(post("{")).await.status, 400);
    let huge: &'static str = Box::leak("x".repeat(100_000).into_boxed_str());
    assert_eq!(Answer::of(post(huge)).await.status, 413);
    let untyped = chat
        .http
        .post(format!("{}/v1/rooms", chat.base))
        .bearer_auth(chat.token(BUYER))
        .body("{}");
    assert_eq!(Answer::of(untyped).await.status, 415);
    assert_eq!(chat.get(BUYER, "/v1/nothing").await.status, 404);
    assert_eq!(
        chat.call(BUYER, Method::DELETE, "/v1/rooms", None).await.status,
        405
    );
}

#[tokio::test]
async fn operators_see_each_dependency_by_name() {
    let chat = Chat::start().await;
    assert_eq!(chat.operator("/livez").await.status, 200);
    let ready = crate::chat::eventually("MongoDB is seen", async || {
        let ready = chat.operator("/readyz").await;
        (ready.body["dependencies"]["mongodb"]["up"] == Value::Bool(true)).then_some(ready)
    })
    .await;
    assert_eq!(ready.status, 503, "Kafka is not there: {ready:?}");
    for name in ["kafka", "schema_registry"] {
        assert_eq!(ready.body["dependencies"][name]["up"], false, "{ready:?}");
    }
    let metrics = chat.metrics().await;
    let documented = include_str!("../../../docs/operations.md");
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<_> = names.filter(|name| !documented.contains(*name)).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    assert!(metrics.contains("streams_open"), "{metrics}");
    chat.stop().await;
}
