//! Chats that `--erase-after` keeps: there for nobody, and gone when their time has come.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::json;

use crate::{
    chat::{BUYER, Chat, SELLER, STRANGER, delete, eventually},
    deletion::{deletion, left},
    events::{next, open},
};

const EVIDENCE: &str = "계좌번호는 110-222-333333";

/// A closed room with messages of both members, which are kept.
async fn kept(chat: &Chat) -> String {
    chat.on_sale(10, 100).await;
    chat.on_sale(11, 100).await;
    let room = chat.room(10).await;
    for (member, id) in [(BUYER, "1"), (SELLER, "2"), (BUYER, "3")] {
        assert_eq!(chat.send(member, &room, id, EVIDENCE).await.status, 201);
    }
    assert_eq!(chat.capture([(10, 101, delete(200))]).await, 1);
    room
}

#[tokio::test]
async fn kept_chats_are_there_for_nobody() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    let room = kept(&chat).await;
    // Open rooms beside it are as they were.
    let other = chat.room(11).await;
    chat.send(BUYER, &other, "1", "다른 글이에요").await;

    for member in [SELLER, BUYER] {
        let read = json!({ "client_message_id": "1", "body": EVIDENCE });
        for (method, path, body) in [
            (Method::GET, format!("/v1/rooms/{room}"), None),
            (Method::GET, format!("/v1/rooms/{room}/messages"), None),
            (
                Method::GET,
                format!("/v1/rooms/{room}/messages?after=0&limit=1"),
                None,
            ),
            (Method::POST, format!("/v1/rooms/{room}/messages"), Some(read)),
        ] {
            let answer = chat.call(member, method, &path, body).await;
            answer.refused(410, "room-closed");
            assert!(!answer.body.to_string().contains(EVIDENCE), "{answer:?}");
        }
        for (path, items) in [
            ("/v1/rooms", 1),
            ("/v1/trade-posts/10/rooms", 0),
            (
                "/v1/notifications?limit=100",
                if member == SELLER { 6 } else { 2 },
            ),
        ] {
            let answer = chat.get(member, path).await;
            assert_eq!(
                answer.body["items"].as_array().unwrap().len(),
                items,
                "{path}: {answer:?}"
            );
            assert!(!answer.body.to_string().contains(EVIDENCE), "{path}: {answer:?}");
        }
    }
    chat.post(BUYER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await
        .refused(410, "trade-post-deleted");
    let answer = chat.get(STRANGER, &format!("/v1/rooms/{room}/messages")).await;
    answer.refused(404, "not-found");

    // Who reads the stream from its begin is told what happened, and not what was said.
    let mut stream = open(&chat, SELLER, Some(0)).await;
    let mut texts = Vec::new();
    for _ in 0..6 {
        let (_, name, data) = next(&mut stream).await;
        assert!(!data.to_string().contains(EVIDENCE), "{data}");
        texts.extend((name == "message").then(|| data["message"]["body"].clone()));
    }
    assert_eq!(texts, [json!(null), json!(null), json!("다른 글이에요")]);

    let told = chat.operator("/admin/v1/deletions/10").await;
    assert_eq!(told.body["items"][0]["state"], "pending");
    assert_eq!(told.body["items"][0]["begun_at"], json!(null));
    assert!(!told.body.to_string().contains(EVIDENCE));
    assert_eq!(left(&chat, &[room]).await, 4, "and yet they are kept");
}

#[tokio::test]
async fn kept_chats_are_erased_when_their_time_has_come() {
    let chat = Chat::start_with(&["--erase-after", "2s"]).await;
    let room = kept(&chat).await;
    assert_eq!(left(&chat, std::slice::from_ref(&room)).await, 4);
    let done = deletion(&chat, 10).await;
    let time = |field: &str| done[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(time("erase_at") - time("received_at"), TimeDelta::seconds(2));
    assert!(time("begun_at") >= time("erase_at"), "{done}");
    assert_eq!(left(&chat, &[room]).await, 0);
}

/// Two chats of one post, kept since different times: the second was opened after the post was created
/// again, and each deletion has a time of its own.
#[tokio::test]
async fn each_deletion_has_its_own_time() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    let first = kept(&chat).await;
    chat.on_sale(10, 300).await;
    let second = chat.room(10).await;
    chat.send(BUYER, &second, "1", EVIDENCE).await;
    assert_eq!(chat.capture([(10, 301, delete(400))]).await, 1);
    let past = mongodb::bson::DateTime::from_millis(0);
    let is_first = mongodb::bson::doc! { "_id": "10@200" };
    let over = mongodb::bson::doc! { "$set": { "lease.until": past } };
    chat.store.deletions.update_one(is_first, over).await.unwrap();
    eventually("the first is erased", async || {
        (left(&chat, std::slice::from_ref(&first)).await == 0).then_some(())
    })
    .await;
    let answer = chat.operator("/admin/v1/deletions/10").await;
    let items = answer.body["items"].as_array().unwrap();
    let states: Vec<_> = items.iter().map(|item| (&item["lsn"], &item["state"])).collect();
    assert_eq!(states[0], (&json!(400), &json!("pending")));
    assert_eq!(left(&chat, &[second]).await, 2);
}
