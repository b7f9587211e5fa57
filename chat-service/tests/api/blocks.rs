//! Blocking a member, and what that stops.

use std::collections::BTreeSet;

use chat_service::store::{
    messages::{Outgoing, Sent},
    now,
};
use futures_util::future::join_all;
use mongodb::bson::{doc, oid::ObjectId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{BUYER, Chat, SELLER, STRANGER};

async fn block(chat: &Chat, member: i64, blocked: i64) {
    let answer = chat
        .call(member, Method::PUT, &format!("/v1/blocks/{blocked}"), None)
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn unblock(chat: &Chat, member: i64, blocked: i64) {
    let answer = chat
        .call(member, Method::DELETE, &format!("/v1/blocks/{blocked}"), None)
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn blocks(chat: &Chat, member: i64) -> Vec<Value> {
    let answer = chat.get(member, "/v1/blocks").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn neither_of_the_two_sends_or_opens_a_room_while_one_blocks_the_other() {
    let chat = Chat::start().await;
    for post in [10, 11] {
        chat.on_sale(post, 100).await;
    }
    let room = chat.room(10).await;
    let others = chat.room_of(10, STRANGER).await;
    chat.send(BUYER, &room, "1", "안녕하세요").await;
    block(&chat, SELLER, BUYER).await;
    block(&chat, SELLER, BUYER).await;

    let theirs = chat.send(SELLER, &room, "2", "사실래요?").await;
    assert_eq!(theirs.refused(403, "blocked")["reason"], "by_you");
    let theirs = chat.send(BUYER, &room, "2", "저기요").await;
    assert_eq!(theirs.refused(403, "blocked")["reason"], "by_other");
    for post in [10, 11] {
        let open = chat
            .post(BUYER, "/v1/rooms", json!({ "trade_post_id": post }))
            .await;
        assert_eq!(open.refused(403, "blocked")["reason"], "by_other");
    }
    // The room can be read, and a repeated wish to send is no way around.
    let page = chat.get(BUYER, &format!("/v1/rooms/{room}/messages")).await;
    assert_eq!(page.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(chat.send(STRANGER, &others, "1", "저는요?").await.status, 201);
    assert_eq!(chat.room_of(11, STRANGER).await.len(), 24);

    // Each takes back what is their own.
    block(&chat, BUYER, SELLER).await;
    unblock(&chat, SELLER, BUYER).await;
    let theirs = chat.send(BUYER, &room, "3", "저기요").await;
    assert_eq!(theirs.refused(403, "blocked")["reason"], "by_you");
    unblock(&chat, BUYER, SELLER).await;
    unblock(&chat, BUYER, SELLER).await;
    assert_eq!(chat.send(BUYER, &room, "4", "다시 안녕하세요").await.status, 201);
    assert_eq!(chat.send(SELLER, &room, "5", "네").await.status, 201);
    assert_eq!(chat.room(11).await.len(), 24);
}

#[tokio::test]
async fn a_seller_who_is_blocked_gets_no_room_of_the_buyers_posts_either() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    block(&chat, BUYER, SELLER).await;
    let open = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await;
    assert_eq!(open.refused(403, "blocked")["reason"], "by_you");
}

#[tokio::test]
async fn blocks_are_their_members_alone() {
    let chat = Chat::start().await;
    for blocked in [BUYER, STRANGER] {
        block(&chat, SELLER, blocked).await;
    }
    let listed = blocks(&chat, SELLER).await;
    let members: Vec<_> = listed
        .iter()
        .map(|block| block["member_id"].as_i64().unwrap())
        .collect();
    assert_eq!(members, [STRANGER, BUYER], "the newest first");
    assert!(listed[0]["blocked_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(blocks(&chat, BUYER).await, Vec::<Value>::new());
    unblock(&chat, BUYER, SELLER).await;
    assert_eq!(blocks(&chat, SELLER).await.len(), 2);
}

#[tokio::test]
async fn a_list_of_blocks_goes_both_ways() {
    let chat = Chat::start().await;
    for blocked in 11..=15 {
        block(&chat, SELLER, blocked).await;
    }
    let page = async |cursor: &Value| {
        let cursor = cursor
            .as_str()
            .map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let page = chat
            .get(SELLER, &format!("/v1/blocks?limit=2{cursor}"))
            .await
            .body;
        let items = page["items"].as_array().unwrap();
        let members: Vec<i64> = items
            .iter()
            .map(|block| block["member_id"].as_i64().unwrap())
            .collect();
        (members, page)
    };
    let (first, answer) = page(&Value::Null).await;
    let (second, answer) = page(&answer["next_cursor"]).await;
    assert_eq!((&first[..], &second[..]), (&[15, 14][..], &[13, 12][..]));
    let (third, end) = page(&answer["next_cursor"]).await;
    assert_eq!((&third[..], &end["next_cursor"]), (&[11][..], &Value::Null));
    let (back, _) = page(&answer["previous_cursor"]).await;
    assert_eq!(back, first);
}

#[tokio::test]
async fn who_cannot_be_blocked_is_refused() {
    let chat = Chat::start().await;
    for (member, problem) in [
        (SELLER.to_string(), "must be another member's, is your own"),
        ("0".into(), "must be positive, is 0"),
        ("-7".into(), "must be positive, is -7"),
    ] {
        let answer = chat
            .call(SELLER, Method::PUT, &format!("/v1/blocks/{member}"), None)
            .await;
        let error = &answer.refused(422, "invalid-input")["errors"][0];
        assert_eq!(
            (&error["field"], &error["message"]),
            (&json!("member_id"), &json!(problem))
        );
    }
    let answer = chat.call(SELLER, Method::PUT, "/v1/blocks/somebody", None).await;
    answer.refused(422, "invalid-input");
}

/// What this process sends, as another instance of the service would.
async fn send(chat: &Chat, sender_id: i64, room_id: ObjectId, id: String) -> Sent {
    let message = Outgoing {
        room_id,
        sender_id,
        client_message_id: id,
        body: "아직 있나요?".into(),
    };
    chat.store.send(&[message], now()).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_after_a_block_was_answered() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let id = ObjectId::parse_str(&room).unwrap();
    for round in 0..15 {
        let length = async || chat.store.room(id, BUYER).await.unwrap().unwrap().next_seq;
        let before = length().await;
        // Through the outbox of the service, and beside it.
        let sends = (0..12).map(async |n| {
            let sender = if n % 2 == 0 { BUYER } else { SELLER };
            let id = format!("{round}-{n}");
            let answer = chat.send(sender, &room, &id, "살게요").await;
            assert!([201, 403].contains(&answer.status.as_u16()), "{answer:?}");
        });
        let beside = (0..6).map(async |n| {
            let sent = send(&chat, BUYER, id, format!("{round}-beside-{n}")).await;
            assert!(matches!(sent, Sent::New(_) | Sent::Refused(_)), "{sent:?}");
        });
        let block = async {
            // Somewhere among the sends.
            while length().await == before {}
            block(&chat, SELLER, BUYER).await;
            length().await
        };
        let (answered, ..) = tokio::join!(block, join_all(sends), join_all(beside));
        assert_eq!(length().await, answered, "round {round}");
        unblock(&chat, SELLER, BUYER).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_is_opened_after_a_block_was_answered() {
    let chat = Chat::start().await;
    for round in 0..10 {
        let posts: Vec<i64> = (0..8).map(|n| 100 * round + n + 1).collect();
        for post in &posts {
            chat.on_sale(*post, 1_000 + *post).await;
        }
        let opens = posts.iter().map(async |post| {
            chat.store.open_room(*post, BUYER, now()).await.unwrap();
        });
        let rooms = async || {
            let theirs = doc! { "trade_post_id": { "$in": &posts } };
            chat.store.rooms.distinct("_id", theirs).await.unwrap()
        };
        let block = async {
            if round % 2 == 0 {
                block(&chat, SELLER, BUYER).await;
            } else {
                block(&chat, BUYER, SELLER).await;
            }
            rooms().await
        };
        let (answered, _) = tokio::join!(block, join_all(opens));
        assert_eq!(rooms().await.len(), answered.len(), "round {round}");
        // Also in the rooms that came before, nobody sends.
        for room in answered {
            let sent = send(&chat, BUYER, room.as_object_id().unwrap(), format!("{round}")).await;
            assert!(matches!(sent, Sent::Refused(_)), "{sent:?}");
        }
        unblock(&chat, SELLER, BUYER).await;
        unblock(&chat, BUYER, SELLER).await;
    }
    let sequences: BTreeSet<i64> = (1..=chat.store.last_seq(SELLER).await.unwrap()).collect();
    let told = chat.store.notifications_after(SELLER, 0, 1_000).await.unwrap();
    assert_eq!(
        told.iter().map(|told| told.seq).collect::<BTreeSet<_>>(),
        sequences
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_once_make_one_block() {
    let chat = Chat::start().await;
    join_all((0..10).map(|_| block(&chat, SELLER, BUYER))).await;
    assert_eq!(blocks(&chat, SELLER).await.len(), 1);
    let other_way = (0..10).map(async |_| chat.store.block(BUYER, SELLER, now()).await.unwrap());
    tokio::join!(
        join_all(other_way),
        join_all((0..10).map(|_| block(&chat, BUYER, SELLER)))
    );
    assert_eq!(blocks(&chat, BUYER).await.len(), 1);
}
