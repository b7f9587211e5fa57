//! Rooms go with the row and not with the id, whatever else happens to the id before the change is read.

use chat_service::{
    cdc::{
        change_event::{Arrival, Change},
        plan::{Step, plan},
    },
    store::now,
};
use serde_json::json;

use crate::{
    changes::{changed, told},
    chat::{BUYER, Chat, SELLER, arrive, coming, create, delete, events},
};

async fn post_of(chat: &Chat, room: &str) -> i64 {
    let shown = chat.get(BUYER, &format!("/v1/rooms/{room}")).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    shown.body["trade_post"]["id"].as_i64().unwrap()
}

async fn is_closed(chat: &Chat, room: &str) {
    let shown = chat.get(BUYER, &format!("/v1/rooms/{room}")).await;
    shown.refused(410, "room-closed");
}

/// As far as a process comes that is killed once it has fenced.
async fn fence_only(chat: &Chat, changes: impl IntoIterator<Item = (i64, i64, Change)>) {
    for step in plan(events(changes)) {
        let Step::Posts(posts) = step else {
            panic!("{step:?}")
        };
        chat.store.project(&posts, now()).await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_that_changes_an_id_and_uses_it_again_keeps_rooms_apart() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let moved = chat.room(1).await;
    let batch = [
        (1, 2, Change::Move { lsn: 20, to: 2 }),
        (1, 3, Change::Tombstone),
        (1, 4, create(30)),
        (1, 5, delete(40)),
        (1, 6, Change::Tombstone),
    ];
    assert_eq!(chat.capture(batch).await, 0);
    assert_eq!(post_of(&chat, &moved).await, 2);
    assert_eq!(chat.send(BUYER, &moved, "1", "그대로 있네요").await.status, 201);

    chat.on_sale(5, 10).await;
    let closed = chat.room(5).await;
    let batch = [
        (5, 7, delete(20)),
        (5, 8, Change::Tombstone),
        (5, 9, create(30)),
        (5, 10, Change::Move { lsn: 40, to: 6 }),
    ];
    assert_eq!(chat.capture(batch).await, 1);
    is_closed(&chat, &closed).await;
}

#[tokio::test]
async fn rooms_follow_the_row_past_others_that_had_its_ids() {
    let chat = Chat::start().await;
    // 1 became 2, which became 3; then another row was created as 2.
    chat.on_sale(1, 10).await;
    let room = chat.room(1).await;
    chat.capture([(2, 1, arrive(20))]).await;
    chat.capture([(2, 2, Change::Move { lsn: 30, to: 3 }), (2, 3, Change::Tombstone)])
        .await;
    chat.capture([(2, 4, create(40))]).await;
    let other = chat.room(2).await;
    assert_eq!(chat.capture([(1, 2, Change::Move { lsn: 20, to: 2 })]).await, 0);
    assert_eq!(
        (post_of(&chat, &room).await, post_of(&chat, &other).await),
        (3, 2)
    );
    chat.capture([(2, 5, delete(50))]).await;
    assert_eq!(post_of(&chat, &room).await, 3);
    is_closed(&chat, &other).await;

    // 5 became 6, which was deleted; then another row was created as 6 and became 7.
    chat.on_sale(5, 10).await;
    let room = chat.room(5).await;
    chat.capture([(6, 1, arrive(20)), (6, 2, delete(30))]).await;
    chat.capture([(6, 3, create(40))]).await;
    let other = chat.room(6).await;
    chat.capture([(6, 4, Change::Move { lsn: 50, to: 7 })]).await;
    assert_eq!(chat.capture([(5, 2, Change::Move { lsn: 20, to: 6 })]).await, 1);
    is_closed(&chat, &room).await;
    assert_eq!(post_of(&chat, &other).await, 7);

    // 8 became 9, and the table was emptied.
    chat.on_sale(8, 10).await;
    let room = chat.room(8).await;
    chat.truncate(60).await;
    is_closed(&chat, &room).await;
    assert_eq!(chat.capture([(8, 2, Change::Move { lsn: 20, to: 9 })]).await, 0);
}

#[tokio::test]
async fn two_rooms_of_one_buyer_meet_at_one_id() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let first = chat.room(1).await;
    // The new id is read before the change of the old one.
    chat.capture([(2, 1, arrive(20))]).await;
    let second = chat.room(2).await;
    assert_ne!(first, second);
    chat.capture([(2, 2, Change::Move { lsn: 30, to: 3 })]).await;
    chat.capture([(1, 2, Change::Move { lsn: 20, to: 2 })]).await;
    assert_eq!(
        (post_of(&chat, &first).await, post_of(&chat, &second).await),
        (3, 3)
    );
    assert_eq!(chat.capture([(3, 3, arrive(30)), (3, 4, delete(40))]).await, 2);
}

#[tokio::test]
async fn a_room_that_is_about_to_move_is_not_closed() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let room = chat.room(1).await;
    let batch = [
        (1, 2, Change::Move { lsn: 20, to: 2 }),
        (1, 3, create(30)),
        (1, 4, delete(40)),
    ];
    fence_only(&chat, batch.clone()).await;
    assert_eq!(chat.send(BUYER, &room, "1", "아직 있나요?").await.status, 201);
    chat.capture(batch).await;
    assert_eq!(chat.send(BUYER, &room, "2", "네").await.status, 201);
    assert_eq!(post_of(&chat, &room).await, 2);
}

#[tokio::test]
async fn a_room_that_is_about_to_be_closed_is_not_taken_for_one_of_the_next_row() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let old = chat.room(1).await;
    let batch = [(1, 2, delete(20)), (1, 3, Change::Tombstone), (1, 4, create(30))];
    fence_only(&chat, batch.clone()).await;
    chat.send(BUYER, &old, "1", "아직 있나요?")
        .await
        .refused(410, "room-closed");
    let new = chat.post(BUYER, "/v1/rooms", json!({ "trade_post_id": 1 })).await;
    assert_eq!(new.status, 201);
    assert_ne!(new.body["id"], json!(old));
    assert_eq!(chat.capture(batch).await, 1);
    assert_eq!(post_of(&chat, new.body["id"].as_str().unwrap()).await, 1);
    is_closed(&chat, &old).await;
}

/// A truncate is read from a partition of its own: the rows that came after it may be known before.
#[tokio::test]
async fn rooms_of_a_row_that_a_truncate_took_are_nobody_elses_until_it_is_read() {
    let chat = Chat::start().await;
    // Another row is created with the id, changed, and given the next id.
    chat.on_sale(1, 10).await;
    let first = chat.room(1).await;
    chat.capture([(1, 2, create(30)), (1, 3, changed(31, "다른 자전거", "on_sale"))])
        .await;
    let shown = chat.get(BUYER, &format!("/v1/rooms/{first}")).await;
    assert_eq!(
        shown.body["trade_post"],
        json!({ "id": 1, "title": null, "status": null })
    );
    let second = chat.room(1).await;
    assert_ne!(first, second);
    chat.capture([(1, 4, changed(32, "다른 자전거", "reserved"))])
        .await;
    chat.capture([(1, 5, Change::Move { lsn: 40, to: 2 }), (1, 6, Change::Tombstone)])
        .await;
    assert_eq!(
        (post_of(&chat, &first).await, post_of(&chat, &second).await),
        (1, 2)
    );

    // A row is given another id, and another row is created with that.
    chat.on_sale(5, 10).await;
    let moved = chat.room(5).await;
    chat.capture([
        (6, 1, arrive(15)),
        (6, 2, create(30)),
        (6, 3, changed(31, "또 다른 자전거", "on_sale")),
    ])
    .await;
    chat.capture([(5, 2, Change::Move { lsn: 15, to: 6 })]).await;
    assert_eq!(post_of(&chat, &moved).await, 6);
    let third = chat.room(6).await;
    assert_ne!(moved, third);

    assert_eq!(chat.truncate(20).await, 2);
    for closed in [&first, &moved] {
        is_closed(&chat, closed).await;
    }
    assert_eq!(
        (post_of(&chat, &second).await, post_of(&chat, &third).await),
        (2, 6)
    );
    for member in [BUYER, SELLER] {
        let expected = [("다른 자전거".to_owned(), "reserved".to_owned())];
        assert_eq!(
            told(&chat, member).await,
            expected,
            "of the second room's own post"
        );
    }
}

/// What comes to an id by a change of id begins a new life of it, as what is created there does.
#[tokio::test]
async fn a_row_that_comes_where_a_truncate_took_one_has_rooms_of_its_own() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let old = chat.room(1).await;
    chat.capture([(1, 2, arrive(30))]).await;
    let new = chat.room(1).await;
    assert_ne!(old, new);
    assert_eq!(chat.truncate(20).await, 1);
    is_closed(&chat, &old).await;
    assert_eq!(post_of(&chat, &new).await, 1);
    // And before the row itself is read there, nobody opens a room about the one that was there.
    chat.on_sale(5, 110).await;
    let coming = chat.room(5).await;
    chat.capture([(6, 1, create(112))]).await;
    chat.capture([(5, 2, Change::Move { lsn: 140, to: 6 })]).await;
    chat.post(BUYER, "/v1/rooms", json!({ "trade_post_id": 6 }))
        .await
        .refused(404, "not-found");
    chat.capture([(6, 2, arrive(140))]).await;
    assert_eq!(chat.room(6).await, coming);
}

#[tokio::test]
async fn a_row_is_not_followed_along_the_way_of_the_next_one() {
    let chat = Chat::start().await;
    // 1 became 2, and the table was emptied; then another row was created as 2 and became 3.
    chat.on_sale(1, 10).await;
    let room = chat.room(1).await;
    chat.capture([
        (2, 1, arrive(20)),
        (2, 2, create(30)),
        (2, 3, Change::Move { lsn: 40, to: 3 }),
    ])
    .await;
    chat.capture([(
        3,
        1,
        coming(changed(40, "다른 자전거", "on_sale"), Arrival::Moved),
    )])
    .await;
    let other = chat.room(3).await;
    chat.capture([(1, 2, Change::Move { lsn: 20, to: 2 })]).await;
    assert_eq!(post_of(&chat, &room).await, 2);
    assert_eq!(chat.truncate(25).await, 1);
    is_closed(&chat, &room).await;
    assert_eq!(post_of(&chat, &other).await, 3);
    assert!(told(&chat, BUYER).await.is_empty());
}

#[tokio::test]
async fn a_tombstone_alone_closes_the_rooms_that_have_come_with_the_row() {
    let chat = Chat::start().await;
    for (from, to) in [(1, 2), (5, 6)] {
        chat.on_sale(from, 10).await;
        let room = chat.room(from).await;
        chat.capture([(from, 2, Change::Move { lsn: 20, to })]).await;
        // Two batches, and one.
        let closed = if to == 2 {
            chat.capture([(to, 1, arrive(20))]).await + chat.capture([(to, 2, Change::Tombstone)]).await
        } else {
            chat.capture([(to, 1, arrive(20)), (to, 2, Change::Tombstone)])
                .await
        };
        assert_eq!(closed, 1);
        is_closed(&chat, &room).await;
    }
}

#[tokio::test]
async fn a_tombstone_that_comes_again_closes_no_room_that_is_about_to_move() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    chat.capture([(1, 2, delete(20))]).await;
    let rest = [
        (1, 3, Change::Tombstone),
        (1, 4, create(30)),
        (1, 5, Change::Move { lsn: 50, to: 2 }),
    ];
    chat.capture(rest[..2].to_vec()).await;
    let room = chat.room(1).await;
    fence_only(&chat, rest.clone()).await;
    assert_eq!(chat.capture(rest).await, 0);
    assert_eq!(post_of(&chat, &room).await, 2);
}
