//! Leaving a room, and coming back.

use futures_util::future::join_all;
use serde_json::json;

use crate::chat::{Answer, BUYER, Chat, SELLER, STRANGER, delete};

async fn leave(chat: &Chat, member: i64, room: &str) -> Answer {
    chat.call(
        member,
        reqwest::Method::POST,
        &format!("/v1/rooms/{room}/leave"),
        None,
    )
    .await
}

/// The rooms that the member's list shows.
async fn listed(chat: &Chat, member: i64) -> Vec<String> {
    let list = chat.get(member, "/v1/rooms").await;
    let rooms = list.body["items"].as_array().unwrap();
    rooms
        .iter()
        .map(|room| room["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_room_that_was_left_is_hidden_from_its_leaver_until_a_new_message() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    chat.on_sale(11, 100).await;
    let [room, other] = [chat.room(10).await, chat.room(11).await];
    chat.send(BUYER, &room, "1", "안녕하세요").await;
    for _ in 0..2 {
        assert_eq!(leave(&chat, BUYER, &room).await.status, 204);
        assert_eq!(listed(&chat, BUYER).await, std::slice::from_ref(&other));
    }
    assert_eq!(listed(&chat, SELLER).await, [room.clone(), other.clone()]);
    // It is hidden and not gone.
    assert_eq!(chat.get(BUYER, &format!("/v1/rooms/{room}")).await.status, 200);

    chat.send(SELLER, &room, "2", "네, 안녕하세요").await;
    assert_eq!(listed(&chat, BUYER).await, [room.clone(), other.clone()]);
    let shown = chat.get(BUYER, "/v1/rooms").await.body["items"][0].clone();
    assert_eq!(shown["unread"], 1);

    // Who sends or opens is there again.
    leave(&chat, BUYER, &room).await;
    chat.send(BUYER, &room, "3", "생각해 봤는데요").await;
    assert_eq!(listed(&chat, BUYER).await.len(), 2);
    leave(&chat, BUYER, &room).await;
    assert_eq!(chat.room(10).await, room);
    assert_eq!(listed(&chat, BUYER).await.len(), 2);
    leave(&chat, SELLER, &room).await;
    assert_eq!(listed(&chat, SELLER).await, [other]);
}

#[tokio::test]
async fn a_room_of_others_or_a_closed_one_cannot_be_left() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    leave(&chat, STRANGER, &room).await.refused(404, "not-found");
    leave(&chat, BUYER, "not-an-id").await.refused(404, "not-found");
    assert_eq!(listed(&chat, BUYER).await.len(), 1);
    chat.capture([(10, 2, delete(200))]).await;
    let closed = leave(&chat, BUYER, &room).await;
    assert_eq!(closed.refused(410, "room-closed")["reason"], "trade_post_deleted");
}

#[tokio::test]
async fn a_room_that_both_left_is_closed_with_its_post() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for member in [BUYER, SELLER] {
        leave(&chat, member, &room).await;
    }
    assert_eq!(chat.capture([(10, 2, delete(200))]).await, 1);
    for member in [BUYER, SELLER] {
        leave(&chat, member, &room).await.refused(410, "room-closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_and_sending_at_once_loses_neither() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for round in 0..20 {
        let sends = (0..4).map(async |n| {
            let sent = chat.send(SELLER, &room, &format!("{round}-{n}"), "저기요").await;
            assert_eq!(sent.status, 201, "{sent:?}");
        });
        let leaves = (0..4).map(async |_| assert_eq!(leave(&chat, BUYER, &room).await.status, 204));
        tokio::join!(join_all(sends), join_all(leaves));
        assert_eq!(leave(&chat, BUYER, &room).await.status, 204);
        assert!(listed(&chat, BUYER).await.is_empty(), "after the last message");
        chat.send(SELLER, &room, &format!("{round}-last"), "저기요").await;
        assert_eq!(listed(&chat, BUYER).await.len(), 1, "before the last message");
    }
    let room = chat.get(BUYER, "/v1/rooms").await.body["items"][0].clone();
    assert_eq!(
        (&room["unread"], &room["last_message"]["seq"]),
        (&json!(100), &json!(100))
    );
}
