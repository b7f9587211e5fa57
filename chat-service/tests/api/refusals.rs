//! What is not yours, not there or not well-formed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Answer, BUYER, Chat};

#[tokio::test]
async fn ids_that_cannot_be_are_not_there() {
    let chat = Chat::start().await;
    let foreign = chat.get(BUYER, "/v1/rooms/%ff").await;
    assert_eq!(
        foreign.refused(422, "invalid-input")["errors"][0]["field"],
        "room_id"
    );
    for room in ["0", "x", "000000000000000000000000", "%00"] {
        chat.get(BUYER, &format!("/v1/rooms/{room}"))
            .await
            .refused(404, "not-found");
        chat.send(BUYER, room, "1", "글").await.refused(404, "not-found");
    }
}

#[tokio::test]
async fn bodies_that_are_no_text_no_json_or_no_end_are_refused() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let post = async |body: Vec<u8>| {
        let request = chat
            .http
            .post(format!("{}/v1/rooms/{room}/messages", chat.base))
            .bearer_auth(chat.token(BUYER))
            .header("content-type", "application/json")
            .body(body);
        Answer::of(request).await
    };
    let of = |text: &[u8]| [br#"{"client_message_id":"1","body":""#, text, br#""}"#].concat();
    let huge = 10 * 1024 * 1024;
    for (what, body, status, code) in [
        ("nothing", Vec::new(), 400, "malformed-json"),
        (
            "half of it",
            br#"{"client_message_id":"1","#.to_vec(),
            400,
            "malformed-json",
        ),
        (
            "more behind it",
            [of("글".as_bytes()), b"{}".to_vec()].concat(),
            400,
            "malformed-json",
        ),
        ("no UTF-8", of(b"\xea\xb0"), 400, "malformed-json"),
        (
            "UTF-16",
            "글".encode_utf16().flat_map(u16::to_be_bytes).collect(),
            400,
            "malformed-json",
        ),
        ("half a pair", of(br"\ud83d"), 400, "malformed-json"),
        ("a raw line break", of(b"a\nb"), 400, "malformed-json"),
        (
            "very deep",
            [vec![b'['; 30_000], vec![b']'; 1_000]].concat(),
            422,
            "invalid-input",
        ),
        ("an array", b"[]".to_vec(), 422, "invalid-input"),
        (
            "twice the same",
            br#"{"body":"a","body":"b","client_message_id":"1"}"#.to_vec(),
            422,
            "invalid-input",
        ),
        (
            "a number",
            br#"{"body":1,"client_message_id":"1"}"#.to_vec(),
            422,
            "invalid-input",
        ),
        ("escaped NUL", of(br"\u0000"), 422, "invalid-input"),
        ("10 MiB", of(&vec![b'a'; huge]), 413, "body-too-large"),
        ("10 MiB of nothing", vec![b' '; huge], 413, "body-too-large"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        answer.refused(status, code);
    }
    let page = chat.get(BUYER, &format!("/v1/rooms/{room}/messages")).await;
    assert_eq!(page.body["items"], json!([]), "none of it was kept");
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
