//! A member's list of notifications.

use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{BUYER, Chat, SELLER, STRANGER, delete};

/// The sequences that a list shows.
async fn list(chat: &Chat, member: i64, query: &str) -> Vec<i64> {
    let list = chat.get(member, &format!("/v1/notifications?{query}")).await;
    assert_eq!(list.status, 200, "{list:?}");
    let items = list.body["items"].as_array().unwrap();
    items.iter().map(|item| item["seq"].as_i64().unwrap()).collect()
}

/// A room whose seller was told of it under 1, and of five messages under 2 to 6.
async fn six_told(chat: &Chat) -> String {
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for place in 1..=5 {
        chat.send(BUYER, &room, &place.to_string(), &format!("{place}번째"))
            .await;
    }
    room
}

async fn read(chat: &Chat, member: i64, seq: i64) -> u16 {
    let path = format!("/v1/notifications/{seq}/read");
    chat.call(member, Method::PUT, &path, None).await.status.as_u16()
}

#[tokio::test]
async fn a_list_shows_what_happened_and_whether_it_was_read() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let sent = chat.send(BUYER, &room, "1", "안녕하세요").await;
    assert_eq!(read(&chat, SELLER, 2).await, 204);
    let open = chat.get(SELLER, "/v1/notifications").await.body;
    assert_eq!(open["items"][0]["message"], sent.body);
    // What is kept of a closed room is for nobody to read.
    chat.capture([(10, 101, delete(200))]).await;
    let list = chat.get(SELLER, "/v1/notifications").await.body;
    let item = |place: usize| list["items"][place].clone();
    let time = |place: usize, field: &str| item(place)[field].clone();
    assert_eq!(
        list,
        json!({
            "items": [
                {
                    "seq": 3, "kind": "room_closed", "reason": "trade_post_deleted",
                    "room_id": room, "trade_post_id": 10,
                    "created_at": time(0, "created_at"), "read_at": null,
                },
                {
                    "seq": 2, "kind": "message", "message_seq": 1,
                    "room_id": room, "trade_post_id": 10,
                    "created_at": time(1, "created_at"), "read_at": time(1, "read_at"),
                },
                {
                    "seq": 1, "kind": "room_created", "room_id": room, "trade_post_id": 10,
                    "created_at": time(2, "created_at"), "read_at": null,
                },
            ],
            "last_event_id": 3,
        })
    );
    assert!(time(1, "read_at").is_string());
}

#[tokio::test]
async fn pages_go_both_ways_and_leave_out_what_was_read() {
    let chat = Chat::start().await;
    six_told(&chat).await;
    for (query, expected) in [
        ("", vec![6, 5, 4, 3, 2, 1]),
        ("limit=2", vec![6, 5]),
        ("before=5&limit=2", vec![4, 3]),
        ("after=2&limit=2", vec![3, 4]),
        ("after=6", vec![]),
        ("after=1&before=4", vec![2, 3]),
        ("unread=true", vec![6, 5, 4, 3, 2, 1]),
        ("unread=false&limit=1", vec![6]),
    ] {
        assert_eq!(list(&chat, SELLER, query).await, expected, "{query}");
    }
    for seq in [5, 2, 5] {
        assert_eq!(read(&chat, SELLER, seq).await, 204);
    }
    for (query, expected) in [
        ("unread=true", vec![6, 4, 3, 1]),
        ("unread=true&limit=2", vec![6, 4]),
        ("unread=true&before=4", vec![3, 1]),
        ("unread=true&after=1&limit=2", vec![3, 4]),
        ("", vec![6, 5, 4, 3, 2, 1]),
    ] {
        assert_eq!(list(&chat, SELLER, query).await, expected, "{query}");
    }
    for (query, field) in [
        ("unread=1", "unread"),
        ("unread=yes", "unread"),
        ("before=-1", "before"),
        ("after=x", "after"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
    ] {
        let answer = chat.get(SELLER, &format!("/v1/notifications?{query}")).await;
        let problem = answer.refused(422, "invalid-input");
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
}

#[tokio::test]
async fn all_up_to_one_are_read_at_once() {
    let chat = Chat::start().await;
    six_told(&chat).await;
    let up_to = async |member, up_to: Value| {
        chat.put(member, "/v1/notifications/read", json!({ "up_to": up_to }))
            .await
    };
    assert_eq!(up_to(SELLER, json!(4)).await.status, 204);
    assert_eq!(list(&chat, SELLER, "unread=true").await, [6, 5]);
    let first = chat.get(SELLER, "/v1/notifications?after=3&limit=1").await.body;
    assert_eq!(up_to(SELLER, json!(6)).await.status, 204);
    assert_eq!(up_to(SELLER, json!(0)).await.status, 204);
    assert!(list(&chat, SELLER, "unread=true").await.is_empty());
    let again = chat.get(SELLER, "/v1/notifications?after=3&limit=1").await.body;
    assert_eq!(first, again, "the time of the first reading stays");
    for (asked, message) in [
        (json!(7), "must be at most 6, the last there is, is 7"),
        (json!(-1), "must not be negative, is -1"),
    ] {
        let refused = up_to(SELLER, asked).await;
        let error = &refused.refused(422, "invalid-input")["errors"][0];
        assert_eq!(
            (&error["field"], &error["message"]),
            (&json!("up_to"), &json!(message))
        );
    }
    for wrong in [json!("4"), json!(4.5), Value::Null] {
        let refused = up_to(SELLER, wrong).await;
        assert_eq!(
            refused.refused(422, "invalid-input")["errors"][0]["field"],
            "up_to"
        );
    }
    // Who was told nothing has nothing to read.
    assert_eq!(up_to(STRANGER, json!(0)).await.status, 204);
    up_to(STRANGER, json!(1)).await.refused(422, "invalid-input");
}

#[tokio::test]
async fn a_deleted_one_is_not_listed_and_its_number_stays_used() {
    let chat = Chat::start().await;
    let room = six_told(&chat).await;
    for seq in [3, 6, 3] {
        let deleted = chat.delete(SELLER, &format!("/v1/notifications/{seq}")).await;
        assert_eq!(deleted.status, 204, "also again: {deleted:?}");
    }
    assert_eq!(list(&chat, SELLER, "").await, [5, 4, 2, 1]);
    assert_eq!(list(&chat, SELLER, "unread=true").await, [5, 4, 2, 1]);
    assert_eq!(read(&chat, SELLER, 3).await, 404);
    chat.send(BUYER, &room, "next", "다음").await;
    assert_eq!(list(&chat, SELLER, "limit=1").await, [7]);
    for seq in ["0", "8", "-1", "9223372036854775807"] {
        let path = format!("/v1/notifications/{seq}");
        chat.delete(SELLER, &path).await.refused(404, "not-found");
        let read = chat
            .call(SELLER, Method::PUT, &format!("{path}/read"), None)
            .await;
        read.refused(404, "not-found");
    }
    for seq in ["x", "1.5", "9223372036854775808"] {
        let refused = chat.delete(SELLER, &format!("/v1/notifications/{seq}")).await;
        assert_eq!(refused.refused(422, "invalid-input")["errors"][0]["field"], "seq");
    }
}

#[tokio::test]
async fn a_room_stays_gone_for_who_deleted_the_news_of_it() {
    let chat = Chat::start().await;
    let room = six_told(&chat).await;
    chat.capture([(10, 101, delete(200))]).await;
    assert_eq!(chat.delete(BUYER, "/v1/notifications/1").await.status, 204);
    assert!(list(&chat, BUYER, "").await.is_empty());
    chat.get(BUYER, &format!("/v1/rooms/{room}"))
        .await
        .refused(410, "room-closed");
}

#[tokio::test]
async fn markers_of_rooms_are_not_in_the_list() {
    let chat = Chat::start().await;
    let room = six_told(&chat).await;
    chat.put(SELLER, &format!("/v1/rooms/{room}/read"), json!({ "up_to": 5 }))
        .await;
    assert_eq!(
        chat.get(SELLER, "/v1/notifications").await.body["last_event_id"],
        7
    );
    assert_eq!(list(&chat, SELLER, "limit=1").await, [6]);
    assert_eq!(list(&chat, SELLER, "unread=true").await, [1]);
    assert!(list(&chat, BUYER, "").await.is_empty());
    // So they cannot be read or deleted there.
    assert_eq!(read(&chat, SELLER, 7).await, 404);
    chat.delete(SELLER, "/v1/notifications/7")
        .await
        .refused(404, "not-found");
}

#[tokio::test]
async fn nobody_touches_what_another_member_was_told() {
    let chat = Chat::start().await;
    six_told(&chat).await;
    for member in [BUYER, STRANGER] {
        assert!(list(&chat, member, "").await.is_empty());
        for seq in 1..=6 {
            assert_eq!(read(&chat, member, seq).await, 404);
            let deleted = chat.delete(member, &format!("/v1/notifications/{seq}")).await;
            deleted.refused(404, "not-found");
        }
        chat.put(member, "/v1/notifications/read", json!({ "up_to": 6 }))
            .await
            .refused(422, "invalid-input");
    }
    assert_eq!(list(&chat, SELLER, "unread=true").await, [6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn notifications_expire_after_the_configured_time() {
    let chat = Chat::start_with(&["--notification-ttl", "7d"]).await;
    let command = doc! { "listIndexes": "notifications" };
    let indexes = chat.store.db.run_command(command).await.unwrap();
    let indexes = indexes
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    let expiring: Vec<&Document> = indexes
        .iter()
        .filter_map(|index| index.as_document())
        .filter(|index| index.contains_key("expireAfterSeconds"))
        .collect();
    assert_eq!(expiring.len(), 1);
    assert_eq!(
        expiring[0].get_document("key").unwrap(),
        &doc! { "created_at": 1 }
    );
    let seconds = expiring[0]["expireAfterSeconds"].clone();
    let seconds: u32 = mongodb::bson::deserialize_from_bson(seconds).unwrap();
    assert_eq!(seconds, 7 * 24 * 60 * 60);
}
