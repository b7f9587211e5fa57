//! Sending and reading messages.

use serde_json::{Value, json};

use crate::chat::{BUYER, Chat, SELLER, delete};

#[tokio::test]
async fn a_message_reaches_the_room_byte_for_byte() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let bodies = [
        "  안녕하세요 😀\n$set {\"a\": 1} '; DROP TABLE\t—끝  ",
        // 각 as one character, and as three that look like it.
        "\u{ac01}",
        "\u{1100}\u{1161}\u{11a8}",
        "e\u{301}",
        "\r\n줄 끝\r\n",
        "\u{feff}\u{202e}\u{200b}글\u{fffd}",
        "$where",
        "{\"$gt\":\"\"}",
    ];
    for (place, body) in bodies.into_iter().enumerate() {
        let sent = chat.send(BUYER, &room, &place.to_string(), body).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        let expected = json!({
            "room_id": room,
            "seq": place + 1,
            "kind": "text",
            "sender_id": BUYER,
            "client_message_id": place.to_string(),
            "body": body,
            "sent_at": sent.body["sent_at"],
        });
        assert_eq!(sent.body, expected);
        let page = chat
            .get(SELLER, &format!("/v1/rooms/{room}/messages?limit=1"))
            .await;
        assert_eq!(page.body["items"], json!([expected]));
        let shown = chat.get(SELLER, &format!("/v1/rooms/{room}")).await;
        assert_eq!(shown.body["last_message"]["body"], body);
    }
}

#[tokio::test]
async fn a_repeated_id_answers_the_first_message() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let first = chat.send(BUYER, &room, "same", "하나").await;
    let second = chat.send(BUYER, &room, "same", "둘").await;
    assert_eq!((second.status.as_u16(), &second.body), (200, &first.body));
    // The other member's ids are their own.
    let other = chat.send(SELLER, &room, "same", "셋").await;
    assert_eq!((other.status.as_u16(), &other.body["seq"]), (201, &2.into()));

    let at_once =
        futures_util::future::join_all((0..10).map(|_| chat.send(BUYER, &room, "at once", "넷"))).await;
    assert!(
        at_once.iter().all(|answer| answer.body["seq"] == 3),
        "{at_once:?}"
    );
    assert_eq!(at_once.iter().filter(|answer| answer.status == 201).count(), 1);
}

#[tokio::test]
async fn sequences_have_no_gaps_when_both_send_at_once() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let sends = (0..30).map(|i| {
        let (chat, room) = (&chat, &room);
        async move {
            chat.send(
                if i % 2 == 0 { BUYER } else { SELLER },
                room,
                &i.to_string(),
                "동시에",
            )
            .await
        }
    });
    for sent in futures_util::future::join_all(sends).await {
        assert_eq!(sent.status, 201, "{sent:?}");
    }
    let page = chat
        .get(BUYER, &format!("/v1/rooms/{room}/messages?after=0&limit=100"))
        .await;
    let seqs: Vec<_> = page.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_go_both_ways() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for i in 1..=7 {
        chat.send(BUYER, &room, &i.to_string(), &format!("{i}")).await;
    }
    let seqs = async |query: &str| {
        let page = chat
            .get(SELLER, &format!("/v1/rooms/{room}/messages?{query}"))
            .await;
        let items = page.body["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|message| message["seq"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(seqs("limit=3").await, [7, 6, 5]);
    assert_eq!(seqs("before=5&limit=3").await, [4, 3, 2]);
    assert_eq!(seqs("after=5").await, [6, 7]);
    assert_eq!(seqs("after=2&before=5").await, [3, 4]);
    assert_eq!(seqs("after=2&limit=2").await, [3, 4]);
    assert_eq!(seqs("before=5&after=2&limit=1").await, [3]);
    assert!(seqs("before=0").await.is_empty());
    assert!(seqs(&format!("after={}", i64::MAX)).await.is_empty());
    let whole =
        |from: i64, to: i64, came: &str| format!("must be a whole number from {from} to {to}, got {came:?}");
    for (query, field, message) in [
        ("before=-1", "before", "must not be negative, is -1".to_owned()),
        (
            "after=-9223372036854775808",
            "after",
            "must not be negative, is -9223372036854775808".to_owned(),
        ),
        (
            "after=9223372036854775808",
            "after",
            "must be 0 to 9223372036854775807, got 9223372036854775808".to_owned(),
        ),
        ("limit=0", "limit", "must be 1 to 100, got 0".to_owned()),
        ("limit=101", "limit", "must be 1 to 100, got 101".to_owned()),
        ("limit=-5", "limit", "must be 1 to 100, got -5".to_owned()),
        ("limit=many", "limit", whole(1, 100, "many")),
        ("before=%ff", "before", whole(0, i64::MAX, "\u{fffd}")),
        (
            "cursor=x",
            "cursor",
            "unknown field `cursor`, expected one of `before`, `after`, `limit`".to_owned(),
        ),
    ] {
        let refused = chat
            .get(SELLER, &format!("/v1/rooms/{room}/messages?{query}"))
            .await;
        let problem = refused.refused(422, "invalid-input");
        let error = &problem["errors"][0];
        assert_eq!(
            (&error["field"], &error["message"]),
            (&Value::from(field), &Value::from(message)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_closed_room_takes_and_shows_nothing() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "1", "아직 있나요?").await;
    chat.capture([(10, 101, delete(200))]).await;
    for answer in [
        chat.send(BUYER, &room, "2", "늦었네요").await,
        chat.get(BUYER, &format!("/v1/rooms/{room}")).await,
        chat.get(SELLER, &format!("/v1/rooms/{room}/messages")).await,
    ] {
        let problem = answer.refused(410, "room-closed");
        assert_eq!(
            (&problem["reason"], &problem["trade_post_id"]),
            (&"trade_post_deleted".into(), &10.into())
        );
    }
    assert_eq!(
        chat.get(BUYER, "/v1/rooms").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn a_text_over_a_limit_names_the_field_both_limits_and_what_came() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for (text, most, found) in [
        ("가", 2_000, "2001 characters and 6003 bytes"),
        ("😀", 1_500, "1501 characters and 6004 bytes"),
    ] {
        let sent = chat.send(BUYER, &room, text, &text.repeat(most)).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        let long = chat.send(BUYER, &room, "long", &text.repeat(most + 1)).await;
        let error = &long.refused(422, "invalid-input")["errors"][0];
        assert_eq!(error["field"], "body");
        assert_eq!(
            error["message"],
            format!("must have at most 2000 characters and 6000 bytes of UTF-8, has {found}")
        );
    }
    let id = "나".repeat(65);
    for (id, body, field, message) in [
        ("", "글", "client_message_id", "must not be empty"),
        (
            &*id,
            "글",
            "client_message_id",
            "must have at most 64 characters and 256 bytes of UTF-8, has 65 characters and 195 bytes",
        ),
        ("2", " \n", "body", "must not be empty"),
        (
            "2",
            "a\u{0}b",
            "body",
            "must not contain control characters, has U+0000 (NUL) as character 2",
        ),
        (
            "2",
            "가나\u{9b}31m",
            "body",
            "must not contain control characters, has U+009B (CSI) as character 3",
        ),
        (
            "\n",
            "글",
            "client_message_id",
            "must not contain control characters, has U+000A (LF) as character 1",
        ),
    ] {
        let refused = chat.send(BUYER, &room, id, body).await;
        let error = &refused.refused(422, "invalid-input")["errors"][0];
        assert_eq!(
            (&error["field"], &error["message"]),
            (&field.into(), &message.into())
        );
    }
}
