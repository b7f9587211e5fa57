//! What members have read of their rooms.

use chat_service::notification::Texts;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Answer, BUYER, Chat, SELLER, STRANGER, delete};

async fn mark(chat: &Chat, member: i64, room: &str, up_to: i64) -> Answer {
    chat.put(
        member,
        &format!("/v1/rooms/{room}/read"),
        json!({ "up_to": up_to }),
    )
    .await
}

/// What the room shows the member: unread messages, own marker, the other's marker.
async fn shown(chat: &Chat, member: i64, room: &str) -> [i64; 3] {
    let one = chat.get(member, &format!("/v1/rooms/{room}")).await.body;
    let list = chat.get(member, "/v1/rooms?limit=100").await.body;
    let listed = list["items"].as_array().unwrap();
    let listed = listed.iter().find(|listed| listed["id"] == room).unwrap();
    assert_eq!(*listed, one, "the list shows what the room shows");
    ["unread", "read_up_to", "other_read_up_to"].map(|field| one[field].as_i64().unwrap())
}

/// Sequences of the unread notifications of messages that the member was sent.
async fn untold(chat: &Chat, member: i64) -> Vec<(String, i64)> {
    let list = chat.get(member, "/v1/notifications?unread=true&limit=100").await;
    let items = list.body["items"].as_array().unwrap();
    let mut found: Vec<(String, i64)> = items
        .iter()
        .filter(|item| item["kind"] == "message")
        .map(|item| {
            (
                item["room_id"].as_str().unwrap().to_owned(),
                item["message_seq"].as_i64().unwrap(),
            )
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn messages_of_the_other_member_are_unread_until_the_marker_passes_them() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    assert_eq!(shown(&chat, BUYER, &room).await, [0, 0, 0]);
    // 1 to 3 of the buyer, 4 and 5 of the seller, 6 of the buyer.
    for (place, sender) in [BUYER, BUYER, BUYER, SELLER, SELLER, BUYER]
        .into_iter()
        .enumerate()
    {
        chat.send(sender, &room, &place.to_string(), "글").await;
    }
    assert_eq!(
        shown(&chat, SELLER, &room).await,
        [4, 0, 0],
        "own ones do not count"
    );
    assert_eq!(shown(&chat, BUYER, &room).await, [2, 0, 0]);

    let read = mark(&chat, SELLER, &room, 2).await;
    assert_eq!(
        (read.status.as_u16(), read.body),
        (200, json!({ "read_up_to": 2, "unread": 2 }))
    );
    assert_eq!(mark(&chat, SELLER, &room, 4).await.body["unread"], 1);
    assert_eq!(shown(&chat, SELLER, &room).await, [1, 4, 0]);
    assert_eq!(
        shown(&chat, BUYER, &room).await,
        [2, 0, 4],
        "the other one sees the receipt"
    );

    // Never back, and the same again is fine.
    for up_to in [0, 3, 4] {
        let again = mark(&chat, SELLER, &room, up_to).await;
        assert_eq!(
            (again.status.as_u16(), again.body),
            (200, json!({ "read_up_to": 4, "unread": 1 }))
        );
    }
    assert_eq!(
        mark(&chat, SELLER, &room, 6).await.body,
        json!({ "read_up_to": 6, "unread": 0 })
    );
    chat.send(BUYER, &room, "7", "하나 더").await;
    assert_eq!(shown(&chat, SELLER, &room).await, [1, 6, 0]);

    for (up_to, message) in [
        (8, "must be at most 7, the last there is, is 8"),
        (
            i64::MAX,
            "must be at most 7, the last there is, is 9223372036854775807",
        ),
        (-1, "must not be negative, is -1"),
    ] {
        let refused = mark(&chat, SELLER, &room, up_to).await;
        let error = &refused.refused(422, "invalid-input")["errors"][0];
        assert_eq!(
            (&error["field"], &error["message"]),
            (&"up_to".into(), &message.into())
        );
    }
}

#[tokio::test]
async fn who_reads_a_room_has_read_what_was_told_of_its_messages() {
    let chat = Chat::start().await;
    for post in [10, 11] {
        chat.on_sale(post, 100).await;
    }
    let (room, other) = (chat.room(10).await, chat.room(11).await);
    for place in 1..=3 {
        chat.send(BUYER, &room, &place.to_string(), "글").await;
        chat.send(BUYER, &other, &place.to_string(), "다른 글").await;
    }
    mark(&chat, SELLER, &room, 2).await;
    let mut left = vec![
        (room.clone(), 3),
        (other.clone(), 1),
        (other.clone(), 2),
        (other.clone(), 3),
    ];
    left.sort();
    assert_eq!(
        untold(&chat, SELLER).await,
        left,
        "of this room, up to the marker"
    );
    let list = chat.get(SELLER, "/v1/notifications?limit=100").await;
    let created = |item: &&Value| item["kind"] == "room_created";
    let items = list.body["items"].as_array().unwrap();
    assert!(items.iter().filter(created).all(|item| item["read_at"].is_null()));
    assert_eq!(items.iter().filter(|item| !item["read_at"].is_null()).count(), 2);
}

#[tokio::test]
async fn both_members_are_told_of_a_marker_that_moved() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "1", "글").await;
    mark(&chat, SELLER, &room, 1).await;
    // Moves nothing, tells nobody.
    mark(&chat, SELLER, &room, 1).await;
    mark(&chat, SELLER, &room, 0).await;
    // The seller was told of the room and the message before.
    for (member, seq) in [(SELLER, 3), (BUYER, 1)] {
        let list = chat.get(member, "/v1/notifications").await;
        assert_eq!(list.body["last_event_id"], seq, "once");
        assert!(
            !list.body["items"].to_string().contains("\"read\""),
            "not for lists"
        );
        let kept = chat.store.notifications_after(member, seq - 1, 10).await.unwrap();
        assert_eq!(kept.len(), 1);
        let frame = String::from_utf8(kept[0].frame(&Texts::default()).bytes.to_vec()).unwrap();
        let (head, data) = frame.split_once("data: ").unwrap();
        assert_eq!(head, format!("id: {seq}\nevent: read\n"));
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&data["room_id"], &data["reader_id"], &data["up_to"]),
            (&room.clone().into(), &SELLER.into(), &1.into())
        );
    }
}

#[tokio::test]
async fn counts_are_right_after_reading_and_sending_at_once() {
    let chat = Chat::start().await;
    let other = chat.beside(&[]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "first", "글").await;
    let sends = join_all((0..40).map(|place| {
        let base = [&chat.base, &other.base][place % 2];
        let sender = [SELLER, BUYER, BUYER][place % 3];
        let (chat, room) = (&chat, &room);
        async move {
            chat.send_at(base, sender, room, &place.to_string(), "동시에")
                .await
        }
    }));
    let reads = join_all((1..=20_u8).map(|up_to| {
        let base = [&chat.base, &other.base][usize::from(up_to % 2)];
        let (chat, path) = (&chat, format!("/v1/rooms/{room}/read"));
        let body = json!({ "up_to": up_to });
        async move {
            let read = chat.call_at(base, SELLER, Method::PUT, &path, Some(body)).await;
            (i64::from(up_to), read)
        }
    }));
    let (sends, reads) = tokio::join!(sends, reads);
    assert!(sends.iter().all(|sent| sent.status == 201), "{sends:?}");
    let marker = reads
        .iter()
        .filter(|(_, read)| read.status == 200)
        .map(|(up_to, _)| *up_to)
        .max()
        .expect("the first message was there");
    let page = chat
        .get(
            SELLER,
            &format!("/v1/rooms/{room}/messages?after={marker}&limit=100"),
        )
        .await;
    let behind = page.body["items"].as_array().unwrap();
    let unread: Vec<i64> = behind
        .iter()
        .filter(|message| message["sender_id"] == BUYER)
        .map(|message| message["seq"].as_i64().unwrap())
        .collect();
    let count = i64::try_from(unread.len()).unwrap();
    assert_eq!(shown(&chat, SELLER, &room).await, [count, marker, 0]);
    let untold: Vec<i64> = untold(&chat, SELLER)
        .await
        .into_iter()
        .map(|(_, seq)| seq)
        .collect();
    assert_eq!(
        untold, unread,
        "what is not read is what is not read of the notifications"
    );
}

#[tokio::test]
async fn only_members_of_an_open_room_read_it() {
    let chat = Chat::start_with(&["--erase-after", "1h"]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "1", "글").await;
    mark(&chat, STRANGER, &room, 1).await.refused(404, "not-found");
    mark(&chat, STRANGER, "000000000000000000000000", 1)
        .await
        .refused(404, "not-found");
    chat.capture([(10, 101, delete(200))]).await;
    mark(&chat, SELLER, &room, 1).await.refused(410, "room-closed");
    mark(&chat, STRANGER, &room, 1).await.refused(404, "not-found");
}
