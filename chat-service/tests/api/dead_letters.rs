//! Operators look at records that were not understood, replay them and discard them. The records are
//! real ones of `schemas/fixtures`; there is no registry, so their schemas come from MongoDB.

use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use chat_service::store::{
    dead_letters::{DeadLetter, binary},
    now,
};
use mongodb::bson::{DateTime, doc, oid::ObjectId};
use reqwest::Method;
use serde_json::json;

use crate::chat::{Chat, SELLER, eventually};

/// The post of the recorded change `c`.
const POST: i64 = 2;

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/fixtures");
    fs::read(folder.join(name)).unwrap()
}

async fn keep_schemas(chat: &Chat) {
    for id in [1, 2] {
        let text = String::from_utf8(fixture(&format!("schema-{id}.json"))).unwrap();
        chat.store.keep_writer_schema(id, &text).await.unwrap();
    }
}

fn letter(offset: i64, key: &[u8], value: &[u8]) -> DeadLetter {
    DeadLetter {
        id: ObjectId::new(),
        topic: "trade.public.trade_posts".into(),
        partition: 1,
        offset,
        timestamp: Some(DateTime::from_millis(1_700_000_000_000)),
        key: Some(binary(key)),
        value: Some(binary(value)),
        headers: Vec::new(),
        reason: "a field was missing".into(),
        created_at: now(),
    }
}

#[tokio::test]
async fn a_dead_letter_is_listed_and_shown_whole() {
    let chat = Chat::start().await;
    let (key, value) = (fixture("c.key"), fixture("c.value"));
    let letters: Vec<DeadLetter> = (0..3).map(|offset| letter(offset, &key, &value)).collect();
    chat.store.bury(&letters).await.unwrap();
    chat.store.bury(&letters).await.unwrap();

    let page = chat.operator("/admin/v1/dead-letters?limit=2").await;
    assert_eq!(page.body["items"].as_array().unwrap().len(), 2, "{page:?}");
    assert_eq!(page.body["items"][0]["offset"], 0);
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let rest = chat
        .operator(&format!("/admin/v1/dead-letters?limit=2&cursor={cursor}"))
        .await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1, "each once");
    let id = rest.body["items"][0]["id"].as_str().unwrap();
    let shown = chat.operator(&format!("/admin/v1/dead-letters/{id}")).await.body;
    assert_eq!(shown["offset"], 2);
    assert_eq!(shown["key"], BASE64_STANDARD.encode(&key));
    assert_eq!(shown["value"], BASE64_STANDARD.encode(&value));
    assert_eq!(shown["reason"], "a field was missing");

    // The same offset of a topic that was made anew is another record.
    let anew = DeadLetter {
        timestamp: Some(DateTime::from_millis(1_800_000_000_000)),
        ..letter(0, &key, &value)
    };
    chat.store.bury(&[anew]).await.unwrap();
    let all = chat.operator("/admin/v1/dead-letters").await.body;
    assert_eq!(all["items"].as_array().unwrap().len(), 4);
    chat.stop().await;
}

#[tokio::test]
async fn a_replayed_record_takes_effect_and_is_no_dead_letter_any_more() {
    let chat = Chat::start().await;
    keep_schemas(&chat).await;
    let create = letter(7, &fixture("c.key"), &fixture("c.value"));
    let broken = letter(8, &fixture("c.key"), &fixture("c.value")[..20]);
    chat.store.bury(&[create.clone(), broken.clone()]).await.unwrap();

    let path =
        |letter: &DeadLetter, what: &str| format!("/admin/v1/dead-letters/{}{what}", letter.id.to_hex());
    let refused = chat.operate(Method::POST, &path(&broken, "/replay"), None).await;
    let detail = refused.refused(422, "not-understood")["detail"].as_str().unwrap();
    assert!(detail.contains("value"), "{detail}");
    let page = chat
        .operate(Method::POST, "/admin/v1/dead-letters/replay", None)
        .await;
    assert_eq!(page.body["replayed"], 1, "{page:?}");
    assert_eq!(page.body["failed"][0]["id"], broken.id.to_hex());
    let post = chat.store.post(POST).await.unwrap().unwrap();
    assert_eq!(post.title.as_deref(), Some("자전거 팔아요"));

    chat.operate(Method::GET, &path(&create, ""), None)
        .await
        .refused(404, "not-found");
    let discarded = chat.operate(Method::DELETE, &path(&broken, ""), None).await;
    assert_eq!(discarded.status, 204);
    chat.operate(Method::DELETE, &path(&broken, ""), None)
        .await
        .refused(404, "not-found");
    let left = chat.operator("/admin/v1/dead-letters").await;
    assert_eq!(left.body["items"], json!([]));
    chat.stop().await;
}

#[tokio::test]
async fn a_replayed_delete_closes_rooms_and_an_old_one_does_not_undo_a_new_post() {
    let chat = Chat::start().await;
    keep_schemas(&chat).await;
    let delete = letter(9, &fixture("d.key"), &fixture("d.value"));
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    chat.store.bury(std::slice::from_ref(&delete)).await.unwrap();
    let replay = format!("/admin/v1/dead-letters/{}/replay", delete.id.to_hex());
    let replayed = chat.operate(Method::POST, &replay, None).await;
    assert_eq!(replayed.body["rooms_closed"], 1, "{replayed:?}");
    chat.get(SELLER, &format!("/v1/rooms/{room}"))
        .await
        .refused(410, "room-closed");

    chat.on_sale(POST, i64::MAX - 1).await;
    let room = chat.room(POST).await;
    chat.store.bury(std::slice::from_ref(&delete)).await.unwrap();
    let replayed = chat.operate(Method::POST, &replay, None).await;
    assert_eq!(replayed.body["rooms_closed"], 0, "{replayed:?}");
    assert_eq!(chat.get(SELLER, &format!("/v1/rooms/{room}")).await.status, 200);
    chat.stop().await;
}

#[tokio::test]
async fn without_registry_a_record_of_an_unknown_schema_is_kept_for_later() {
    let chat = Chat::start().await;
    let letter = letter(7, &fixture("c.key"), &fixture("c.value"));
    chat.store.bury(std::slice::from_ref(&letter)).await.unwrap();
    let replay = format!("/admin/v1/dead-letters/{}/replay", letter.id.to_hex());
    let answer = chat.operate(Method::POST, &replay, None).await;
    answer.refused(503, "unavailable");
    assert!(chat.store.dead_letter(letter.id).await.unwrap().is_some());
    chat.stop().await;
}

#[tokio::test]
async fn metrics_and_the_consumer_tell_what_waits() {
    let chat = Chat::start().await;
    chat.store.bury(&[letter(7, b"", b"")]).await.unwrap();
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    chat.capture([(POST, 2, crate::chat::delete(2))]).await;
    for (path, body) in [
        ("/v1/rooms".to_owned(), json!({ "trade_post_id": POST })),
        (
            format!("/v1/rooms/{room}/messages"),
            json!({ "client_message_id": "1", "body": "?" }),
        ),
    ] {
        assert_eq!(chat.post(crate::chat::BUYER, &path, body).await.status, 410);
    }
    for wanted in [
        "dead_letters 1",
        "fence_hits_total{request=\"open_room\"} 1",
        "fence_hits_total{request=\"send_message\"} 1",
    ] {
        eventually(wanted, async || {
            let metrics = chat.metrics().await;
            metrics.lines().any(|line| line == wanted).then_some(())
        })
        .await;
    }
    let consumer = chat.operator("/admin/v1/consumer").await;
    assert_eq!(
        consumer.body,
        json!({
            "partitions": [], "waiting": null, "last_effect": null, "heartbeat_at": null, "suspected_gaps": 0,
        })
    );
    chat.operate(
        Method::POST,
        "/admin/v1/consumer/resume",
        Some(json!({ "dead_letters": 0 })),
    )
    .await
    .refused(422, "invalid-input");
    let unfinished = doc! { "state": { "$ne": "done" } };
    eventually("the deletion is done", async || {
        let left = chat.store.deletions.count_documents(unfinished.clone()).await;
        (left.unwrap() == 0).then_some(())
    })
    .await;
    chat.stop().await;
}
