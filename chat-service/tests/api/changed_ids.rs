//! Changes of a post whose id is changed too, or used again: members hear of their own post and of no other.

use chat_service::{
    cdc::{
        change_event::{Arrival, Change},
        plan::{Step, plan},
    },
    store::now,
};
use mongodb::bson::oid::ObjectId;

use crate::{
    changes::{POST, changed, events, messages, status, told},
    chat::{BUYER, Chat, SELLER, coming, delete},
};

/// A change of the post at `id`, alone in its batch.
async fn capture(chat: &Chat, id: i64, change: Change) {
    let (Change::Upsert { lsn, .. } | Change::Delete { lsn, .. } | Change::Move { lsn, .. }) = change else {
        panic!("{change:?}")
    };
    chat.capture([(id, lsn, change)]).await;
}

fn created(lsn: i64, title: &str, status: &str) -> Change {
    coming(changed(lsn, title, status), Arrival::Created)
}

/// The row comes from another id.
fn arrived(lsn: i64, title: &str, status: &str) -> Change {
    coming(changed(lsn, title, status), Arrival::Moved)
}

/// That its members know of the room about that post, and the room too, what it looks like.
async fn know(chat: &Chat, room: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(title, status)| ((*title).to_owned(), (*status).to_owned()))
        .collect();
    assert_eq!(told(chat, BUYER).await, expected);
    assert_eq!(told(chat, SELLER).await, expected);
    let room = ObjectId::parse_str(room).unwrap();
    let room = chat.store.room(room, BUYER).await.unwrap().unwrap();
    let post = chat.store.post(room.trade_post_id).await.unwrap().unwrap();
    assert!(room.told.is_same(&post.look().unwrap()), "{room:?}, {post:?}");
}

#[tokio::test]
async fn a_change_together_with_a_new_id_is_told_at_the_new_id() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    let moves = Change::Move { lsn: 3, to: 20 };
    chat.capture([status(2, "reserved"), (POST, 3, moves)]).await;
    capture(&chat, 20, arrived(3, "자전거 팔아요", "reserved")).await;
    assert_eq!(events(&chat, &room).await, ["trade_post_reserved"]);
    know(&chat, &room, &[("자전거 팔아요", "reserved")]).await;
    capture(&chat, 20, changed(4, "자전거 팔아요", "sold")).await;
    know(
        &chat,
        &room,
        &[("자전거 팔아요", "reserved"), ("자전거 팔아요", "sold")],
    )
    .await;
}

#[tokio::test]
async fn a_change_that_is_read_before_the_rooms_come_is_told_when_they_do() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    capture(&chat, 20, arrived(3, "자전거 팔아요", "on_sale")).await;
    capture(&chat, 20, changed(4, "로드 자전거", "sold")).await;
    know(&chat, &room, &[]).await;
    let moves = Change::Move { lsn: 3, to: 20 };
    for change in [
        (POST, moves.clone()),
        (20, changed(4, "로드 자전거", "sold")),
        (POST, moves),
    ] {
        capture(&chat, change.0, change.1).await;
        assert_eq!(events(&chat, &room).await, ["trade_post_sold"]);
        know(&chat, &room, &[("로드 자전거", "sold")]).await;
    }
}

#[tokio::test]
async fn a_room_is_told_nothing_of_the_row_that_had_its_new_id_before() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    let room = chat.room(POST).await;
    capture(&chat, POST, Change::Move { lsn: 11, to: 20 }).await;
    // The partition of that id is read later.
    capture(&chat, 20, created(2, "책상", "on_sale")).await;
    capture(&chat, 20, changed(8, "책상", "sold")).await;
    capture(&chat, 20, delete(9)).await;
    capture(&chat, 20, arrived(11, "자전거 팔아요", "on_sale")).await;
    assert!(messages(&chat, &room).await.is_empty());
    know(&chat, &room, &[]).await;

    // And one whose end is not read yet, as the rooms come.
    capture(&chat, 30, created(12, "의자", "on_sale")).await;
    capture(&chat, 20, Change::Move { lsn: 15, to: 30 }).await;
    capture(&chat, 30, changed(13, "의자", "sold")).await;
    capture(&chat, 30, delete(14)).await;
    capture(&chat, 30, arrived(15, "자전거 팔아요", "on_sale")).await;
    know(&chat, &room, &[]).await;
}

#[tokio::test]
async fn a_room_is_told_nothing_of_the_row_that_has_its_id_next() {
    let chat = Chat::start().await;
    chat.on_sale(POST, 1).await;
    chat.room(POST).await;
    // Another instance has read that far, and has not closed the room yet.
    let next = [(POST, 3, delete(3)), (POST, 4, created(4, "책상", "sold"))];
    for step in plan(crate::chat::events(next)) {
        let Step::Posts(posts) = step else {
            panic!("{step:?}")
        };
        chat.store.project(&posts, now()).await.unwrap();
    }
    chat.capture([status(2, "reserved")]).await;
    assert!(told(&chat, BUYER).await.is_empty());
}
