//! A deleted post takes its chats with it.

use chrono::{DateTime, Utc};
use mongodb::bson::doc;
use serde_json::Value;

use crate::chat::{BUYER, Chat, SELLER, STRANGER, delete, eventually, upsert};
use chat_service::cdc::change_event::Change;

/// Rooms and messages of a post that are left in MongoDB.
pub async fn left(chat: &Chat, rooms: &[String]) -> u64 {
    let ids: Vec<mongodb::bson::oid::ObjectId> = rooms
        .iter()
        .map(|room| mongodb::bson::oid::ObjectId::parse_str(room).unwrap())
        .collect();
    let rooms = chat
        .store
        .rooms
        .count_documents(doc! { "_id": { "$in": &ids } })
        .await
        .unwrap();
    rooms
        + chat
            .store
            .messages
            .count_documents(doc! { "room_id": { "$in": &ids } })
            .await
            .unwrap()
}

pub async fn deletion(chat: &Chat, post: i64) -> Value {
    eventually("the deletion is done", async || {
        let answer = chat.operator(&format!("/admin/v1/deletions/{post}")).await;
        let found = answer.body["items"][0].clone();
        (found["state"] == "done").then_some(found)
    })
    .await
}

/// How often the member was told that a room was closed.
async fn told(chat: &Chat, member: i64) -> usize {
    let answer = chat.get(member, "/v1/notifications?limit=100").await;
    let items = answer.body["items"].as_array().unwrap().clone();
    items.iter().filter(|item| item["kind"] == "room_closed").count()
}

#[tokio::test]
async fn rooms_close_members_are_told_and_everything_is_erased() {
    let chat = Chat::start_with(&["--erase-chunk", "3"]).await;
    chat.on_sale(10, 100).await;
    chat.on_sale(11, 100).await;
    let rooms = [chat.room_of(10, BUYER).await, chat.room_of(10, STRANGER).await];
    let other = chat.room_of(11, BUYER).await;
    for i in 0..10 {
        chat.send(BUYER, &rooms[0], &i.to_string(), "질문").await;
        chat.send(BUYER, &other, &i.to_string(), "다른 글").await;
    }
    chat.send(STRANGER, &rooms[1], "1", "저요").await;

    assert_eq!(
        chat.capture([(10, 101, delete(200)), (10, 102, Change::Tombstone)])
            .await,
        2
    );
    let done = deletion(&chat, 10).await;
    assert_eq!(
        (&done["rooms"], &done["messages"], &done["lsn"]),
        (&2.into(), &11.into(), &200.into())
    );
    assert_eq!(
        (&done["rooms_erased"], &done["messages_erased"]),
        (&2.into(), &11.into())
    );
    let time = |name: &str| done[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let times = ["received_at", "closed_at", "begun_at", "done_at"].map(time);
    assert!(times.is_sorted(), "{done}");
    assert_eq!(done["committed_at"], "1970-01-01T00:00:01Z");
    assert_eq!(left(&chat, &rooms).await, 0);
    assert_eq!(
        left(&chat, &[other]).await,
        11,
        "the other post's chat is as it was"
    );
    assert_eq!(
        [
            told(&chat, SELLER).await,
            told(&chat, BUYER).await,
            told(&chat, STRANGER).await
        ],
        [2, 1, 1]
    );
    // Also after the room is gone its members get a reason, and nobody else does.
    chat.get(BUYER, &format!("/v1/rooms/{}", rooms[0]))
        .await
        .refused(410, "room-closed");
    chat.send(SELLER, &rooms[0], "x", "?")
        .await
        .refused(410, "room-closed");
    chat.get(STRANGER, &format!("/v1/rooms/{}", rooms[0]))
        .await
        .refused(404, "not-found");
    let messages = chat.get(SELLER, "/v1/notifications?limit=100").await;
    assert!(
        !messages.body.to_string().contains("질문"),
        "no copy of a text is left: {messages:?}"
    );
}

#[tokio::test]
async fn a_replay_changes_nothing_and_tells_nobody_again() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    chat.room(10).await;
    let topic = [
        (10, 1, upsert(100)),
        (10, 2, delete(200)),
        (10, 3, Change::Tombstone),
    ];
    assert_eq!(chat.capture(topic.clone()).await, 1);
    for _ in 0..3 {
        assert_eq!(chat.capture(topic.clone()).await, 0);
        assert_eq!(chat.capture(topic[1..].to_vec()).await, 0);
    }
    assert_eq!(told(&chat, BUYER).await, 1);
    let last = chat.get(BUYER, "/v1/notifications").await;
    assert_eq!(
        last.body["last_event_id"], 1,
        "the sequence has no gaps: {last:?}"
    );
}

#[tokio::test]
async fn a_post_created_again_keeps_its_new_rooms() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let old = chat.room(10).await;
    assert_eq!(
        chat.capture([
            (10, 2, delete(200)),
            (10, 3, Change::Tombstone),
            (10, 4, upsert(300))
        ])
        .await,
        1
    );
    let new = chat.room(10).await;
    assert_ne!(old, new);
    deletion(&chat, 10).await;
    // The old delete comes again, late.
    assert_eq!(
        chat.capture([(10, 2, delete(200)), (10, 3, Change::Tombstone)])
            .await,
        0
    );
    assert_eq!(
        chat.capture([(10, 5, delete(200)), (10, 6, Change::Tombstone)])
            .await,
        0
    );
    assert_eq!(chat.get(BUYER, &format!("/v1/rooms/{new}")).await.status, 200);
    chat.get(BUYER, &format!("/v1/rooms/{old}"))
        .await
        .refused(410, "room-closed");
}

#[tokio::test]
async fn many_posts_go_in_one_batch() {
    let chat = Chat::start().await;
    let posts = 1..=120;
    chat.capture(posts.clone().map(|post| (post, post, upsert(post))))
        .await;
    for post in posts.clone().step_by(2) {
        let room = chat.room(post).await;
        chat.send(BUYER, &room, "1", "안녕하세요").await;
    }
    assert_eq!(
        chat.capture(posts.clone().map(|post| (post, 1000 + post, delete(1000 + post))))
            .await,
        60
    );
    for post in posts.step_by(2) {
        deletion(&chat, post).await;
    }
    assert_eq!(chat.store.rooms.count_documents(doc! {}).await.unwrap(), 0);
    assert_eq!(chat.store.messages.count_documents(doc! {}).await.unwrap(), 0);
    assert_eq!(
        (
            told(&chat, BUYER).await,
            chat.store.last_seq(BUYER).await.unwrap()
        ),
        (60, 60)
    );
}
