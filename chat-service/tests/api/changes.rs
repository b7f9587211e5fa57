//! A post's title or status changes, and the members of its rooms are told.

use chat_service::cdc::change_event::{Change, Post};
use futures_util::future::join_all;
use mongodb::bson::oid::ObjectId;
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::chat::{BUYER, Chat, SELLER, STRANGER, delete};

pub const POST: i64 = 10;

pub fn changed(lsn: i64, title: &str, status: &str) -> Change {
    Change::Upsert {
        lsn,
        arrival: None,
        post: Post {
            seller_id: SELLER,
            title: title.into(),
            status: status.into(),
        },
    }
}

pub fn status(lsn: i64, status: &str) -> (i64, i64, Change) {
    (POST, lsn, changed(lsn, "자전거 팔아요", status))
}

/// The room's messages, oldest first, without what differs from run to run.
pub async fn messages(chat: &Chat, room: &str) -> Vec<Value> {
    let page = chat
        .get(SELLER, &format!("/v1/rooms/{room}/messages?after=0&limit=100"))
        .await;
    let mut messages = page.body["items"].as_array().unwrap().clone();
    for message in &mut messages {
        let message = message.as_object_mut().unwrap();
        message.remove("sent_at");
        message.remove("room_id");
    }
    messages
}

/// The events of the room's system messages, in order.
pub async fn events(chat: &Chat, room: &str) -> Vec<String> {
    let messages = messages(chat, room).await;
    let events = messages.iter().filter_map(|message| message["event"].as_str());
    events.map(ToOwned::to_owned).collect()
}

/// Title and status of each change of a post that the member was told of, oldest first.
pub async fn told(chat: &Chat, member: i64) -> Vec<(String, String)> {
    let all = chat.store.notifications_after(member, 0, 10_000).await.unwrap();
    let sequences: Vec<i64> = all.iter().map(|told| told.seq).collect();
    let last = chat.store.last_seq(member).await.unwrap();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>(), "no gaps");
    let all = all
        .into_iter()
        .map(|told| serde_json::to_value(told.kind).unwrap());
    let changes = all.filter(|kind| kind["kind"] == "trade_post_changed");
    let text = |kind: &Value, field: &str| kind[field].as_str().unwrap().to_owned();
    changes
        .map(|kind| (text(&kind, "title"), text(&kind, "status")))
        .collect()
}

#[tokio::test]
async fn a_status_is_told_in_the_room_and_to_both_members() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    chat.on_sale(11, 1).await;
    let (room, other) = (chat.room(POST).await, chat.room_of(11, STRANGER).await);
    chat.send(BUYER, &room, "1", "아직 있나요?").await;
    chat.capture([status(2, "reserved")]).await;
    assert_eq!(
        messages(&chat, &room).await[1],
        json!({ "seq": 2, "kind": "system", "event": "trade_post_reserved" })
    );
    for member in [BUYER, SELLER] {
        let list = chat.get(member, "/v1/notifications").await;
        let newest = &list.body["items"][0];
        assert_eq!(newest["kind"], "trade_post_changed", "{list:?}");
        assert_eq!(newest["room_id"], room.as_str());
        assert_eq!(
            (&newest["trade_post_id"], &newest["title"], &newest["status"]),
            (&json!(POST), &json!("자전거 팔아요"), &json!("reserved"))
        );
        let shown = chat.get(member, &format!("/v1/rooms/{room}")).await.body;
        assert_eq!(shown["trade_post"]["status"], "reserved");
        assert_eq!(shown["last_message"]["event"], "trade_post_reserved");
        assert_eq!(shown["unread"], i64::from(member == SELLER));
    }
    assert!(messages(&chat, &other).await.is_empty());
    assert!(told(&chat, STRANGER).await.is_empty());
    assert_eq!(chat.send(SELLER, &room, "1", "예약됐어요").await.body["seq"], 3);
    chat.capture([status(3, "sold"), status(4, "on_sale")]).await;
    assert_eq!(
        events(&chat, &room).await,
        ["trade_post_reserved", "trade_post_sold", "trade_post_on_sale"],
        "both of one batch"
    );
    assert_eq!(told(&chat, BUYER).await.len(), 3);
}

#[tokio::test]
async fn a_title_is_told_without_a_message_and_anything_else_not_at_all() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    chat.capture([(POST, 2, changed(2, "로드 자전거", "on_sale"))])
        .await;
    chat.capture([(POST, 3, changed(3, "로드 자전거", "on_sale"))])
        .await;
    assert!(messages(&chat, &room).await.is_empty());
    let expected = [("로드 자전거".into(), "on_sale".into())];
    assert_eq!(told(&chat, BUYER).await, expected);
    assert_eq!(told(&chat, SELLER).await, expected);
    // A status that has no message of its own is still told.
    chat.capture([(POST, 4, changed(4, "로드 자전거", "hidden"))])
        .await;
    assert!(messages(&chat, &room).await.is_empty());
    assert_eq!(told(&chat, BUYER).await.len(), 2);
}

#[tokio::test]
async fn a_room_knows_what_was_so_when_it_was_opened() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let log = [status(2, "reserved"), status(3, "sold")];
    chat.capture(log.clone()).await;
    let room = chat.room(POST).await;
    chat.capture(log).await;
    chat.capture([status(4, "sold")]).await;
    assert!(events(&chat, &room).await.is_empty());
    assert!(told(&chat, BUYER).await.is_empty());
}

#[tokio::test]
async fn what_comes_again_or_late_is_not_told() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    let log = [status(2, "reserved"), status(3, "sold")];
    for _ in 0..3 {
        chat.capture(log.clone()).await;
        chat.capture([log[0].clone()]).await;
    }
    chat.capture([status(6, "on_sale")]).await;
    chat.capture([status(7, "on_sale")]).await;
    // A dead letter that is replayed: nothing newer was told, and still it is not true any more.
    chat.capture([status(5, "reserved")]).await;
    let expected = ["trade_post_reserved", "trade_post_sold", "trade_post_on_sale"];
    assert_eq!(events(&chat, &room).await, expected);
    assert_eq!(
        (told(&chat, BUYER).await.len(), told(&chat, SELLER).await.len()),
        (3, 3)
    );
}

#[tokio::test]
async fn what_a_crash_left_untold_is_told_when_the_batch_comes_again() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    // As if the projection had been written, and nobody told.
    let taken_over = mongodb::bson::doc! { "$set": { "status": "reserved", "lsn": 2_i64 } };
    let post = mongodb::bson::doc! { "_id": POST };
    chat.store.posts.update_one(post, taken_over).await.unwrap();
    chat.capture([status(2, "reserved")]).await;
    assert_eq!(events(&chat, &room).await, ["trade_post_reserved"]);
}

#[tokio::test]
async fn a_post_created_again_begins_anew() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let old = chat.room(POST).await;
    chat.capture([status(2, "reserved"), (POST, 3, delete(3)), status(4, "on_sale")])
        .await;
    let new = chat.room(POST).await;
    assert_ne!(old, new);
    chat.capture([status(2, "reserved"), (POST, 3, delete(3))]).await;
    assert!(events(&chat, &new).await.is_empty());
    chat.capture([status(5, "sold"), (POST, 6, delete(6))]).await;
    assert!(
        told(&chat, BUYER).await.is_empty(),
        "nobody hears of the last status of a post that is gone"
    );
}

#[tokio::test]
async fn a_room_that_was_left_stays_hidden() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    let leave = format!("/v1/rooms/{room}/leave");
    assert_eq!(
        chat.call(BUYER, reqwest::Method::POST, &leave, None).await.status,
        204
    );
    chat.capture([status(2, "sold")]).await;
    assert!(
        chat.get(BUYER, "/v1/rooms").await.body["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(told(&chat, BUYER).await.len(), 1);
}

#[tokio::test]
async fn more_rooms_than_one_transaction_takes_are_told_each_once() {
    const ROOMS: usize = 700;
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    let first = chat
        .store
        .room(ObjectId::parse_str(&room).unwrap(), BUYER)
        .await
        .unwrap()
        .unwrap();
    let more = (1..ROOMS).map(|n| {
        let mut room = first.clone();
        let buyer = 1_000 + i64::try_from(n).unwrap();
        (room.id, room.buyer_id, room.members) = (ObjectId::new(), buyer, vec![SELLER, buyer]);
        room
    });
    chat.store.rooms.insert_many(more).await.unwrap();
    chat.capture([status(2, "reserved"), status(3, "sold")]).await;
    chat.capture([status(2, "reserved"), status(3, "sold")]).await;
    let messages = chat
        .store
        .messages
        .count_documents(mongodb::bson::doc! { "kind": "system" });
    assert_eq!(messages.await.unwrap(), 2 * ROOMS as u64);
    assert_eq!(told(&chat, SELLER).await.len(), 2 * ROOMS);
    for member in [BUYER, 1_001, 1_699] {
        assert_eq!(told(&chat, member).await.len(), 2, "{member}");
    }
}

/// However the log is cut into batches and read again, each change is told once and in order.
#[test]
fn each_change_of_a_log_is_told_once() {
    const STATUSES: [&str; 3] = ["on_sale", "reserved", "sold"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chat = runtime.block_on(Chat::start());
    let config = ProptestConfig {
        cases: 24,
        ..ProptestConfig::default()
    };
    let logs = (
        prop::collection::vec(0usize..3, 1..12),
        prop::collection::vec((0usize..12, 1usize..6), 0..8),
    );
    let next = std::cell::Cell::new(100);
    TestRunner::new(config)
        .run(&logs, |(log, reads)| {
            let post = next.replace(next.get() + 1);
            let log: Vec<(i64, i64, Change)> = (2..)
                .zip(&log)
                .map(|(lsn, status)| (post, lsn, changed(lsn, "자전거 팔아요", STATUSES[*status])))
                .collect();
            let mut expected = Vec::new();
            let mut before = "on_sale";
            for (_, _, change) in &log {
                let Change::Upsert { post, .. } = change else {
                    unreachable!()
                };
                if post.status != before {
                    before = STATUSES
                        .into_iter()
                        .find(|status| *status == post.status)
                        .unwrap();
                    expected.push(format!("trade_post_{before}"));
                }
            }
            runtime.block_on(async {
                chat.on_sale(post, 1).await;
                let room = chat.room(post).await;
                let mut stands = 0;
                for (back, count) in reads.into_iter().chain([(0, log.len())]) {
                    let from = stands - back.min(stands);
                    let to = (from + count).min(log.len());
                    chat.capture(log[from..to].to_vec()).await;
                    stands = stands.max(to);
                }
                prop_assert_eq!(events(&chat, &room).await, expected);
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_messages_at_once_share_one_sequence_without_gaps() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    let sends = (0..20).map(async |n| {
        let sender = if n % 2 == 0 { BUYER } else { SELLER };
        let sent = chat.send(sender, &room, &n.to_string(), "저기요").await;
        assert_eq!(sent.status, 201, "{sent:?}");
    });
    let changes = async {
        for lsn in 2..12 {
            let next = if lsn % 2 == 0 { "reserved" } else { "on_sale" };
            // The same change is read by two at once, as when a partition moves.
            tokio::join!(
                chat.capture([status(lsn, next)]),
                chat.capture([status(lsn, next)])
            );
        }
    };
    tokio::join!(join_all(sends), changes);
    let messages = messages(&chat, &room).await;
    let sequences: Vec<i64> = messages
        .iter()
        .map(|message| message["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(sequences, (1..=30).collect::<Vec<_>>());
    let expected: Vec<_> = ["trade_post_reserved", "trade_post_on_sale"]
        .into_iter()
        .cycle()
        .take(10)
        .collect();
    assert_eq!(events(&chat, &room).await, expected);
    assert_eq!(
        (told(&chat, BUYER).await.len(), told(&chat, SELLER).await.len()),
        (10, 10)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_true_is_told_last_whatever_is_read_at_once() {
    let chat = Chat::start().await;
    for post in 1..=40 {
        chat.on_sale(post, 1).await;
        let room = ObjectId::parse_str(chat.room(post).await).unwrap();
        let change = |lsn, status| (post, lsn, changed(lsn, "자전거 팔아요", status));
        // An operator replays an older record while the consumer reads a newer one.
        tokio::join!(
            chat.capture([change(2, "reserved")]),
            chat.capture([change(3, "on_sale")])
        );
        let room = chat.store.room(room, BUYER).await.unwrap().unwrap();
        let post = chat.store.post(post).await.unwrap().unwrap();
        assert_eq!(room.told.status, post.status.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_meets_the_close_leaves_nothing_behind() {
    let chat = Chat::start().await;
    for post in 1..=20 {
        chat.on_sale(post, 1).await;
        let room = chat.room(post).await;
        let change = (post, 2, changed(2, "자전거 팔아요", "sold"));
        let (_, closed) = tokio::join!(chat.capture([change]), chat.capture([(post, 3, delete(3))]));
        assert_eq!(closed, 1);
        chat.get(BUYER, &format!("/v1/rooms/{room}"))
            .await
            .refused(410, "room-closed");
    }
    crate::chat::eventually("everything is erased", async || {
        let all = mongodb::bson::doc! {};
        let rooms = chat.store.rooms.count_documents(all.clone()).await.unwrap();
        (rooms == 0 && chat.store.messages.count_documents(all).await.unwrap() == 0).then_some(())
    })
    .await;
    told(&chat, BUYER).await;
}
