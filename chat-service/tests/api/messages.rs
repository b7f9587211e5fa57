//! Sending and reading messages.

use chat_service::message::MAX_BODY_CHARS;

use crate::chat::{BUYER, Chat, SELLER, delete};

#[tokio::test]
async fn a_message_reaches_the_room_as_it_was_sent() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let body = "  안녕하세요 😀\n$set {\"a\": 1} '; DROP TABLE\t—끝  ";
    let sent = chat.send(BUYER, &room, "1", body).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(
        (&sent.body["seq"], sent.body["body"].as_str()),
        (&1.into(), Some(body))
    );
    let page = chat.get(SELLER, &format!("/v1/rooms/{room}/messages")).await;
    assert_eq!(page.body["items"][0], sent.body);
    assert_eq!(
        chat.get(SELLER, &format!("/v1/rooms/{room}")).await.body["last_message"]["body"],
        body
    );
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
async fn a_text_over_the_limits_names_field_and_limit() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let long = chat
        .send(BUYER, &room, "1", &"가".repeat(MAX_BODY_CHARS + 1))
        .await;
    let error = &long.refused(422, "invalid-input")["errors"][0];
    assert_eq!(error["field"], "body");
    assert_eq!(error["message"], "must have at most 2000 characters, has 2001");
    assert_eq!(
        chat.send(BUYER, &room, "1", &"😀".repeat(MAX_BODY_CHARS))
            .await
            .status,
        201
    );
    for (id, body, field) in [
        ("", "글", "client_message_id"),
        ("2", " ", "body"),
        ("2", "a\u{0}b", "body"),
    ] {
        let refused = chat.send(BUYER, &room, id, body).await;
        assert_eq!(refused.refused(422, "invalid-input")["errors"][0]["field"], field);
    }
}
