//! What captured changes do to the projection of posts.

use chat_service::{
    cdc::change_event::Change,
    store::{
        Store,
        posts::{PostState, TradePost},
    },
};
use futures_util::TryStreamExt;
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;

use crate::chat::{BUYER, Chat, arrive, create, delete, upsert};

async fn post(chat: &Chat, id: i64) -> TradePost {
    chat.store.post(id).await.unwrap().expect("projected")
}

#[tokio::test]
async fn an_older_change_does_not_undo_a_newer_one() {
    let chat = Chat::start().await;
    chat.capture([(1, 1, upsert(10))]).await;
    chat.capture([(1, 2, delete(20))]).await;
    assert_eq!(post(&chat, 1).await.state, PostState::Deleted);
    chat.capture([(1, 3, upsert(10))]).await;
    let fence = post(&chat, 1).await;
    assert_eq!((fence.state, fence.lsn), (PostState::Deleted, 20));
    assert!(fence.deleted_at.is_some(), "fences expire by this time");
    chat.capture([(1, 4, upsert(30))]).await;
    let again = post(&chat, 1).await;
    assert_eq!(
        (again.state, again.lsn, again.deleted_at),
        (PostState::Live, 30, None)
    );
}

#[tokio::test]
async fn a_delete_before_anything_else_is_a_fence() {
    let chat = Chat::start().await;
    chat.capture([(1, 1, delete(20))]).await;
    chat.capture([(1, 2, upsert(10))]).await;
    assert_eq!(post(&chat, 1).await.state, PostState::Deleted);
}

#[tokio::test]
async fn a_tombstone_alone_deletes_what_came_before_it_and_nothing_later() {
    let chat = Chat::start().await;
    chat.capture([(1, 10, upsert(10))]).await;
    let room = chat.room(1).await;
    // Read again from further back: it lies before the last record applied.
    assert_eq!(chat.capture([(1, 9, Change::Tombstone)]).await, 0);
    assert_eq!(post(&chat, 1).await.state, PostState::Live);
    assert_eq!(chat.capture([(1, 11, Change::Tombstone)]).await, 1);
    assert_eq!(post(&chat, 1).await.state, PostState::Deleted);
    chat.get(BUYER, &format!("/v1/rooms/{room}"))
        .await
        .refused(410, "room-closed");
    // A post nobody has heard of stays unknown.
    chat.capture([(2, 12, Change::Tombstone)]).await;
    assert_eq!(chat.store.post(2).await.unwrap(), None);
}

#[tokio::test]
async fn the_tombstone_of_a_delete_that_came_again_spares_the_post_created_since() {
    let chat = Chat::start().await;
    chat.capture([
        (1, 1, upsert(10)),
        (1, 2, delete(20)),
        (1, 3, Change::Tombstone),
        (1, 4, upsert(30)),
    ])
    .await;
    // Debezium crashed and sends the end of its log again, at new offsets; the batch ends in between.
    chat.capture([(1, 5, delete(20))]).await;
    chat.capture([(1, 6, Change::Tombstone)]).await;
    assert_eq!(post(&chat, 1).await.state, PostState::Live);
}

#[tokio::test]
async fn a_title_is_stored_as_it_is() {
    let chat = Chat::start().await;
    let title = "$title {\"$literal\": 1} 한글";
    let change = Change::Upsert {
        lsn: 10,
        arrival: None,
        post: chat_service::cdc::change_event::Post {
            seller_id: 1,
            title: title.into(),
            status: "$status".into(),
        },
    };
    chat.capture([(1, 1, change)]).await;
    let stored = post(&chat, 1).await;
    assert_eq!(
        (stored.title.as_deref(), stored.status.as_deref()),
        (Some(title), Some("$status"))
    );
}

/// Whatever the order in which records of one post arrive, and however they are split into
/// batches, the change with the highest LSN is what remains.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_change_remains_whatever_the_order() {
    let chat = Chat::start().await;
    let cases = prop::collection::vec((1i64..30, any::<bool>(), any::<bool>()), 1..12);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 40,
        ..ProptestConfig::default()
    });
    let handle = tokio::runtime::Handle::current();
    let mut id = 0;
    let id = std::cell::RefCell::new(&mut id);
    tokio::task::block_in_place(|| {
        runner
            .run(&cases, |records| {
                let post_id = {
                    let mut id = id.borrow_mut();
                    **id += 1;
                    **id
                };
                let mut batches = vec![Vec::new()];
                for (offset, (lsn, is_delete, cut)) in (0..).zip(&records) {
                    // Distinct by kind, as LSNs are.
                    let lsn = 2 * lsn + i64::from(*is_delete);
                    let change = if *is_delete { delete(lsn) } else { upsert(lsn) };
                    if *cut {
                        batches.push(Vec::new());
                    }
                    batches.last_mut().unwrap().push((post_id, offset, change));
                }
                let newest = records
                    .iter()
                    .map(|(lsn, is_delete, _)| 2 * lsn + i64::from(*is_delete))
                    .max()
                    .unwrap();
                let stored = handle.block_on(async {
                    for batch in batches {
                        chat.capture(batch).await;
                    }
                    post(&chat, post_id).await
                });
                let expected = if newest % 2 == 1 {
                    PostState::Deleted
                } else {
                    PostState::Live
                };
                prop_assert_eq!((stored.lsn, stored.state), (newest, expected));
                Ok(())
            })
            .unwrap();
    });
}

#[tokio::test]
async fn a_generation_lasts_from_a_create_to_the_delete() {
    let chat = Chat::start().await;
    let generation = async || post(&chat, 1).await.generation;
    chat.capture([(1, 1, upsert(10)), (1, 2, upsert(12))]).await;
    assert_eq!(generation().await, 12, "the first state that was seen");
    chat.capture([(1, 3, upsert(14))]).await;
    assert_eq!(generation().await, 12);
    chat.capture([(1, 4, delete(20)), (1, 5, upsert(30))]).await;
    assert_eq!(generation().await, 30);
    chat.capture([(1, 6, upsert(31)), (1, 7, delete(20)), (1, 8, upsert(12))])
        .await;
    assert_eq!(generation().await, 30);
}

#[tokio::test]
async fn a_truncate_takes_all_older_posts_and_no_later_one() {
    let chat = Chat::start().await;
    for id in 1..=3 {
        chat.capture([(id, id, create(10 + id))]).await;
    }
    let rooms = [chat.room(1).await, chat.room(2).await];
    // Created again before the truncate was read: it comes from another partition.
    chat.capture([(3, 9, create(60))]).await;
    let later = chat.room(3).await;
    assert_eq!(chat.truncate(50).await, 2);
    for room in &rooms {
        chat.get(BUYER, &format!("/v1/rooms/{room}"))
            .await
            .refused(410, "room-closed");
    }
    assert_eq!(chat.get(BUYER, &format!("/v1/rooms/{later}")).await.status, 200);
    assert_eq!(post(&chat, 3).await.state, PostState::Live);
    assert_eq!(
        (post(&chat, 1).await.state, post(&chat, 1).await.lsn),
        (PostState::Deleted, 50)
    );
    // A row from before the truncate is read after it.
    chat.capture([(4, 10, create(40))]).await;
    assert_eq!(post(&chat, 4).await.state, PostState::Deleted);
    assert_eq!(chat.truncate(50).await, 0, "read again");
    // Ids begin anew.
    chat.capture([(1, 11, create(70))]).await;
    let again = chat.room(1).await;
    assert_eq!(chat.truncate(50).await, 0);
    assert_eq!(chat.get(BUYER, &format!("/v1/rooms/{again}")).await.status, 200);
}

#[tokio::test]
async fn rooms_go_with_a_post_whose_id_changes() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let room = chat.room(1).await;
    let moved = [(1, 2, Change::Move { lsn: 20, to: 2 }), (1, 3, Change::Tombstone)];
    assert_eq!(chat.capture(moved.clone()).await, 0);
    assert_eq!(post(&chat, 1).await.state, PostState::Deleted);
    // The new id is read from another partition, later.
    let shown = chat.get(BUYER, &format!("/v1/rooms/{room}")).await;
    assert_eq!(
        shown.body["trade_post"],
        json!({ "id": 2, "title": null, "status": null })
    );
    chat.post(BUYER, "/v1/rooms", json!({ "trade_post_id": 2 }))
        .await
        .refused(404, "not-found");
    chat.capture([(2, 1, arrive(20))]).await;
    assert_eq!(chat.room(2).await, room, "the buyer's room is the one that moved");
    // Everything again, and an old delete of the new id from before the move.
    assert_eq!(chat.capture(moved).await, 0);
    assert_eq!(chat.capture([(2, 2, delete(15))]).await, 0);
    assert_eq!(chat.send(BUYER, &room, "1", "그대로 있네요").await.status, 201);
    assert_eq!(chat.capture([(2, 3, delete(30))]).await, 1);
    chat.get(BUYER, &format!("/v1/rooms/{room}"))
        .await
        .refused(410, "room-closed");
}

#[tokio::test]
async fn rooms_follow_however_late_a_changed_id_is_read() {
    let chat = Chat::start().await;
    chat.on_sale(1, 10).await;
    let room = chat.room(1).await;
    // 1 became 2 and 2 became 3; the partitions are read in the other order.
    chat.capture([(2, 1, arrive(20)), (2, 2, Change::Move { lsn: 30, to: 3 })])
        .await;
    chat.capture([(3, 3, arrive(30))]).await;
    chat.capture([(1, 4, Change::Move { lsn: 20, to: 2 })]).await;
    let shown = chat.get(BUYER, &format!("/v1/rooms/{room}")).await;
    assert_eq!(shown.body["trade_post"]["id"], 3);

    // The new id is known to be deleted when the move is read.
    chat.on_sale(5, 10).await;
    let doomed = chat.room(5).await;
    chat.capture([(6, 5, arrive(40)), (6, 6, delete(50))]).await;
    assert_eq!(chat.capture([(5, 7, Change::Move { lsn: 40, to: 6 })]).await, 1);
    chat.get(BUYER, &format!("/v1/rooms/{doomed}"))
        .await
        .refused(410, "room-closed");
}

#[tokio::test]
async fn a_ttl_may_be_changed() {
    let mongo = local_stack::testing::mongo().await;
    let store = Store::new(mongo.uri(), &format!("chat_ttl_{}", std::process::id()))
        .await
        .unwrap();
    for hours in [1, 2, 2] {
        let ttl = std::time::Duration::from_hours(hours);
        store.create_indexes(ttl, ttl).await.unwrap();
        for (collection, field) in [("trade_posts", "deleted_at"), ("notifications", "created_at")] {
            let indexes = store
                .db
                .collection::<TradePost>(collection)
                .list_indexes()
                .await
                .unwrap();
            let indexes: Vec<mongodb::IndexModel> = indexes.try_collect().await.unwrap();
            let index = indexes
                .iter()
                .find(|index| index.keys.contains_key(field))
                .unwrap();
            assert_eq!(index.options.as_ref().unwrap().expire_after, Some(ttl));
        }
    }
}
