//! Everything of one member is erased.

use std::fmt::Write;

use chat_service::{
    message::Content,
    store::{Window, erasures::LeaseLost, messages::Outgoing, now},
};
use futures_util::{TryStreamExt, future::join_all};
use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Answer, BUYER, Chat, SELLER, STRANGER, delete, eventually};

/// In every message of the buyer's, and in no other.
const SECRET: &str = "우리 집 주소는";

async fn erase(chat: &Chat, member: i64) -> Value {
    let asked = chat
        .operate(Method::DELETE, &format!("/admin/v1/members/{member}"), None)
        .await;
    assert_eq!(asked.status, 202, "{asked:?}");
    asked.body
}

async fn erased(chat: &Chat, member: i64) -> Value {
    eventually("the member is erased", async || {
        let answer = chat
            .operator(&format!("/admin/v1/members/{member}/erasure"))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.body["state"] == "done").then_some(answer.body)
    })
    .await
}

async fn leave(chat: &Chat, member: i64, room: &str) -> Answer {
    chat.call(member, Method::POST, &format!("/v1/rooms/{room}/leave"), None)
        .await
}

async fn items(chat: &Chat, member: i64, path: &str) -> Vec<Value> {
    let answer = chat.get(member, path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["items"].as_array().unwrap().clone()
}

/// Everything in the database, as text.
async fn everything(chat: &Chat) -> String {
    let mut all = String::new();
    for collection in chat.store.db.list_collection_names().await.unwrap() {
        let documents = chat
            .store
            .db
            .collection::<Document>(&collection)
            .find(doc! {})
            .await
            .unwrap();
        let documents: Vec<Document> = documents.try_collect().await.unwrap();
        writeln!(all, "{collection}: {documents:?}").unwrap();
    }
    all
}

#[tokio::test]
async fn what_a_member_said_is_gone_and_the_other_one_keeps_the_room() {
    let chat = Chat::start_with(&["--erase-chunk", "3"]).await;
    for post in [10, 11] {
        chat.on_sale(post, 100).await;
    }
    let [room, other] = [chat.room(10).await, chat.room_of(11, STRANGER).await];
    for n in 0..10 {
        chat.send(BUYER, &room, &format!("b{n}"), SECRET).await;
        chat.send(SELLER, &room, &format!("s{n}"), "네").await;
        chat.send(STRANGER, &other, &n.to_string(), "안녕하세요").await;
    }
    chat.send(BUYER, &room, "last", SECRET).await;
    chat.call(BUYER, Method::PUT, &format!("/v1/blocks/{STRANGER}"), None)
        .await;
    chat.call(STRANGER, Method::PUT, &format!("/v1/blocks/{BUYER}"), None)
        .await;
    let told_before = items(&chat, SELLER, "/v1/notifications?limit=100").await.len();

    assert_eq!(erase(&chat, BUYER).await["state"], "pending");
    let done = erased(&chat, BUYER).await;
    assert_eq!(
        (&done["rooms"], &done["messages"], &done["notifications"]),
        (&json!(1), &json!(11), &json!(10))
    );
    let left = everything(&chat).await;
    assert!(!left.contains(SECRET), "{left}");

    // Their token sees nothing, and can do nothing.
    for list in ["/v1/rooms", "/v1/notifications", "/v1/blocks"] {
        assert_eq!(items(&chat, BUYER, list).await, Vec::<Value>::new(), "{list}");
    }
    let messages = format!("/v1/rooms/{room}/messages");
    chat.get(BUYER, &format!("/v1/rooms/{room}"))
        .await
        .refused(404, "not-found");
    chat.get(BUYER, &messages).await.refused(404, "not-found");
    chat.send(BUYER, &room, "again", SECRET)
        .await
        .refused(404, "not-found");
    leave(&chat, BUYER, &room).await.refused(404, "not-found");
    let open = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 11 }))
        .await;
    assert_eq!(open.refused(403, "member-erased")["reason"], "you");
    let block = chat
        .call(BUYER, Method::PUT, &format!("/v1/blocks/{SELLER}"), None)
        .await;
    assert_eq!(block.refused(403, "member-erased")["reason"], "you");
    assert_eq!(chat.store.last_seq(BUYER).await.unwrap(), 0);

    // The other one reads what is left, and who is not there cannot be written to.
    let page = items(&chat, SELLER, &format!("{messages}?after=0&limit=100")).await;
    assert_eq!(page.len(), 21);
    for message in &page {
        let expected = if message["sender_id"] == BUYER {
            "erased"
        } else {
            "text"
        };
        assert_eq!(message["kind"], expected, "{message}");
        assert_eq!(
            message.get("body").is_some(),
            message["sender_id"] == SELLER,
            "{message}"
        );
        assert_eq!(
            message.get("client_message_id").is_some(),
            message["sender_id"] == SELLER,
            "{message}"
        );
    }
    let listed = items(&chat, SELLER, "/v1/rooms").await;
    assert_eq!(listed.len(), 2);
    let shown = listed.iter().find(|shown| shown["id"] == room.as_str()).unwrap();
    assert_eq!(shown["last_message"]["kind"], "erased");
    let sent = chat.send(SELLER, &room, "after", "어디 가셨어요?").await;
    assert_eq!(sent.refused(403, "member-erased")["reason"], "other");
    let told = items(&chat, SELLER, "/v1/notifications?limit=100").await;
    assert_eq!(told.len(), told_before);
    // Nothing of anybody else's went along.
    assert_eq!(
        items(&chat, STRANGER, &format!("/v1/rooms/{other}/messages"))
            .await
            .len(),
        10
    );
    assert_eq!(items(&chat, STRANGER, "/v1/blocks").await.len(), 1);
}

#[tokio::test]
async fn a_sellers_posts_take_no_room_any_more() {
    let chat = Chat::start().await;
    for post in [10, 11] {
        chat.on_sale(post, 100).await;
    }
    let room = chat.room(10).await;
    erase(&chat, SELLER).await;
    erased(&chat, SELLER).await;
    for post in [10, 11] {
        let open = chat
            .post(BUYER, "/v1/rooms", json!({ "trade_post_id": post }))
            .await;
        assert_eq!(open.refused(403, "member-erased")["reason"], "other");
    }
    assert_eq!(items(&chat, SELLER, "/v1/trade-posts/10/rooms").await.len(), 0);
    assert_eq!(items(&chat, BUYER, "/v1/rooms").await[0]["id"], room.as_str());
    // The post goes, and with it the room; whom there is is told.
    assert_eq!(chat.capture([(10, 2, delete(200))]).await, 1);
    chat.get(BUYER, &format!("/v1/rooms/{room}"))
        .await
        .refused(410, "room-closed");
    assert_eq!(items(&chat, SELLER, "/v1/notifications").await.len(), 0);
}

#[tokio::test]
async fn a_room_that_nobody_is_left_in_goes() {
    let chat = Chat::start_with(&["--erase-chunk", "2"]).await;
    let mut rooms = Vec::new();
    for post in [10, 11, 12] {
        chat.on_sale(post, 100).await;
        let room = chat.room(post).await;
        for n in 0..3 {
            chat.send(BUYER, &room, &format!("b{n}"), SECRET).await;
            chat.send(SELLER, &room, &format!("s{n}"), "네").await;
        }
        rooms.push(room);
    }
    // Left before the other one is erased, and after.
    leave(&chat, SELLER, &rooms[0]).await;
    erase(&chat, BUYER).await;
    erased(&chat, BUYER).await;
    assert_eq!(items(&chat, SELLER, "/v1/rooms").await.len(), 2);
    assert_eq!(leave(&chat, SELLER, &rooms[1]).await.status, 204);
    erased(&chat, BUYER).await;
    for room in &rooms[..2] {
        let gone = chat.get(SELLER, &format!("/v1/rooms/{room}")).await;
        assert_eq!(gone.refused(410, "room-closed")["reason"], "member_erased");
        chat.get(BUYER, &format!("/v1/rooms/{room}"))
            .await
            .refused(404, "not-found");
    }
    let closed = items(&chat, SELLER, "/v1/notifications").await;
    let closed = closed.iter().filter(|told| told["kind"] == "room_closed");
    assert_eq!(
        closed.map(|told| &told["reason"]).collect::<Vec<_>>(),
        ["member_erased"; 2]
    );
    let count = async || {
        let rooms = chat.store.rooms.count_documents(doc! {}).await.unwrap();
        (rooms, chat.store.messages.count_documents(doc! {}).await.unwrap())
    };
    assert_eq!(count().await, (1, 6));
    // Both are erased.
    erase(&chat, SELLER).await;
    erased(&chat, SELLER).await;
    assert_eq!(count().await, (0, 0));
    let left = everything(&chat).await;
    assert!(!left.contains("네"), "{left}");
}

#[tokio::test]
async fn what_waits_to_be_erased_with_its_post_loses_its_texts_now() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "1", SECRET).await;
    let step = chat_service::cdc::plan::plan([chat_service::cdc::change_event::Event::Post(
        chat_service::cdc::change_event::ChangeEvent {
            trade_post_id: 10,
            position: chat_service::cdc::change_event::Position {
                partition: 0,
                offset: 2,
            },
            change: delete(200),
        },
    )]);
    let keep = std::time::Duration::from_hours(1);
    chat_service::cdc::close::carry_out(&chat.store, &step[0], now(), keep)
        .await
        .unwrap();
    erase(&chat, BUYER).await;
    erased(&chat, BUYER).await;
    let left = everything(&chat).await;
    assert!(!left.contains(SECRET), "{left}");
    assert_eq!(
        chat.store.rooms.count_documents(doc! {}).await.unwrap(),
        1,
        "it is still the deletion's"
    );
}

#[tokio::test]
async fn operators_are_told_what_they_asked_for() {
    let chat = Chat::start().await;
    chat.operator("/admin/v1/members/7/erasure")
        .await
        .refused(404, "not-found");
    for wrong in ["0", "-1", "somebody"] {
        let asked = chat
            .operate(Method::DELETE, &format!("/admin/v1/members/{wrong}"), None)
            .await;
        asked.refused(422, "invalid-input");
    }
    // Nobody has heard of that member; from now on nobody will.
    erase(&chat, 7).await;
    let done = erased(&chat, 7).await;
    assert_eq!((&done["rooms"], &done["messages"]), (&json!(0), &json!(0)));
    assert_eq!(erase(&chat, 7).await["done_at"], done["done_at"], "asked again");
    chat.on_sale(10, 100).await;
    let open = chat.post(7, "/v1/rooms", json!({ "trade_post_id": 10 })).await;
    open.refused(403, "member-erased");
    // It is no route of the public's.
    let public = chat
        .call(BUYER, Method::DELETE, "/admin/v1/members/7", None)
        .await;
    public.refused(404, "unknown-route");
}

#[tokio::test]
async fn a_worker_that_died_is_followed_by_another() {
    let chat = Chat::start_with(&["--erase-chunk", "2"]).await;
    let mut rooms = Vec::new();
    for post in [10, 11, 12] {
        chat.on_sale(post, 100).await;
        rooms.push(chat.room(post).await);
    }
    for room in &rooms {
        for n in 0..5 {
            chat.send(BUYER, room, &n.to_string(), SECRET).await;
        }
    }
    // Due when the service does not look yet, and leased until long after that.
    let hours = |hours: i64| DateTime::from_millis(now().timestamp_millis() + hours * 3_600_000);
    chat.store.request_erasure(BUYER, hours(1)).await.unwrap();
    let lease = chat.store.lease_erasure(hours(2)).await.unwrap().unwrap();
    assert!(chat.store.take_out(lease, 2).await.unwrap());
    let room = chat.store.rooms_to_erase(BUYER, 1).await.unwrap()[0];
    assert_eq!(chat.store.erase_said(lease, room, 1, 4).await.unwrap(), 3);
    let half = chat
        .operator(&format!("/admin/v1/members/{BUYER}/erasure"))
        .await
        .body;
    assert_eq!(
        (&half["state"], &half["rooms"], &half["messages"]),
        (&json!("erasing"), &json!(2), &json!(3))
    );
    assert_eq!(items(&chat, BUYER, "/v1/rooms").await.len(), 1);

    // The lease runs out.
    let due = doc! { "$set": { "due_at": now() } };
    chat.store
        .erasures
        .update_one(doc! { "_id": BUYER }, due)
        .await
        .unwrap();
    let done = erased(&chat, BUYER).await;
    assert_eq!(
        (&done["rooms"], &done["messages"]),
        (&json!(3), &json!(15)),
        "each counted once"
    );
    let left = everything(&chat).await;
    assert!(!left.contains(SECRET), "{left}");
    // Who was only slow notices that it is not the owner any more.
    let late = chat.store.erase_said(lease, room, 1, 6).await.unwrap_err();
    assert!(late.get_custom::<LeaseLost>().is_some(), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_slips_past_an_erasure() {
    let chat = Chat::start_with(&["--erase-chunk", "5"]).await;
    let _second = chat.beside(&["--erase-chunk", "5"]).await;
    for round in 0..4 {
        let buyer = 100 + round;
        let posts: Vec<i64> = (0..6).map(|n| 10 * (round + 1) + n).collect();
        for post in &posts {
            chat.on_sale(*post, 100).await;
        }
        let room = chat.room_of(posts[0], buyer).await;
        let id = ObjectId::parse_str(&room).unwrap();
        chat.send(buyer, &room, "first", SECRET).await;
        let sends = (0..20).map(async |n| {
            let beside = Outgoing {
                room_id: id,
                sender_id: buyer,
                client_message_id: format!("beside {n}"),
                body: SECRET.into(),
            };
            chat.store.send(&[beside], now()).await.unwrap();
            chat.send(SELLER, &room, &n.to_string(), "네").await;
        });
        let opens = posts[1..].iter().map(async |post| {
            chat.store.open_room(*post, buyer, now()).await.unwrap();
        });
        tokio::join!(join_all(sends), join_all(opens), erase(&chat, buyer));
        erased(&chat, buyer).await;
        let own = doc! { "members": buyer };
        assert_eq!(chat.store.rooms.count_documents(own).await.unwrap(), 0);
        let left = everything(&chat).await;
        assert!(!left.contains(SECRET), "{left}");
        for inbox in ["inboxes", "notifications"] {
            let theirs = doc! { "$or": [{ "_id": buyer }, { "member_id": buyer }] };
            let left = chat
                .store
                .db
                .collection::<Document>(inbox)
                .count_documents(theirs)
                .await
                .unwrap();
            assert_eq!(left, 0, "{inbox}");
        }
        let messages = chat.store.messages(id, Window::default(), 1_000).await.unwrap();
        assert!(
            messages
                .iter()
                .any(|message| matches!(message.content, Content::Erased { .. }))
        );
    }
    let told = chat.store.notifications_after(SELLER, 0, 10_000).await.unwrap();
    let sequences: Vec<i64> = told.iter().map(|told| told.seq).collect();
    let last = chat.store.last_seq(SELLER).await.unwrap();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
}
