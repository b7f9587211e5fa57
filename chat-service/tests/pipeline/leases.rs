//! Who may erase what, and what becomes of those who may not any more.

use std::time::Duration;

use chat_service::{
    room::DeletionId,
    store::{
        deletions::{DeletionState, UnderWay},
        leases::LeaseLost,
        now,
    },
};
use mongodb::{
    ClientSession,
    bson::{DateTime, doc},
};
use tokio::time::timeout;

use crate::bed::{Bed, batch, create, delete, event, eventually};

const TERM: Duration = Duration::from_secs(30);
const QUOTA: i64 = 1_000;

fn after(begin: DateTime, seconds: i64) -> DateTime {
    DateTime::from_millis(begin.timestamp_millis() + 1000 * seconds)
}

#[tokio::test]
async fn a_deletion_has_one_owner_until_its_lease_runs_out() {
    let bed = Bed::new().await;
    bed.deleted(1, &[3]).await;
    let begin = now();
    let first = bed.store.lease(begin, TERM, QUOTA).await.unwrap().unwrap();
    assert_eq!(first.deletions.len(), 1);
    let at = |seconds| bed.store.lease(after(begin, seconds), TERM, QUOTA);
    assert!(at(29).await.unwrap().is_none());
    let second = at(31).await.unwrap().unwrap();
    assert_eq!(second.deletions, first.deletions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_get_different_deletions() {
    let bed = Bed::new().await;
    for post in 1..=40 {
        bed.deleted(post, &[1]).await;
    }
    let ask = async || bed.store.lease(now(), TERM, 11).await.unwrap();
    let mut leased = Vec::new();
    loop {
        let answers = futures_util::future::join_all((0..8).map(|_| ask())).await;
        if answers.iter().all(Option::is_none) {
            break;
        }
        let got = answers.into_iter().flatten();
        leased.extend(got.flat_map(|got| {
            assert!(got.deletions.len() <= 5, "a room and a message each: {got:?}");
            got.deletions
        }));
    }
    leased.sort_unstable();
    let number = leased.len();
    leased.dedup();
    assert_eq!((number, leased.len()), (40, 40), "each has one owner");
}

#[tokio::test]
async fn who_lost_a_lease_changes_nothing_any_more() {
    let bed = Bed::new().await;
    bed.deleted(1, &[3, 5]).await;
    let mut late = bed.store.lease(now(), TERM, QUOTA).await.unwrap().unwrap();
    let rooms = bed.store.rooms_left(&late, 10).await.unwrap();
    let lapsed = after(now(), 31);
    let mut owner = bed.store.lease(lapsed, TERM, QUOTA).await.unwrap().unwrap();

    let part = UnderWay {
        room_id: rooms[0].id,
        up_to: 2,
    };
    let lost = |result: mongodb::error::Result<()>| result.unwrap_err().get_custom::<LeaseLost>().is_some();
    assert!(lost(bed.store.came_to(&mut late, rooms[0].closed_by, part).await));
    assert!(lost(bed.store.erase_rooms(&late, &rooms[..1]).await));
    assert_eq!(bed.left().await, (2, 8), "the room is not erased and not counted");
    bed.store.finish(&late, now()).await.unwrap();
    bed.store.give_back(&late, now()).await.unwrap();
    let deletion = &bed.deletions().await[0];
    assert_eq!(deletion.state, DeletionState::Erasing);
    assert_eq!((deletion.erased.rooms, deletion.under_way), (0, None));
    assert!(deletion.lease.unwrap().owner.is_some(), "it is still the other's");

    bed.store
        .came_to(&mut owner, rooms[0].closed_by, part)
        .await
        .unwrap();
    bed.store.erase_rooms(&owner, &rooms[..1]).await.unwrap();
    // Once more, as after a commit that nobody has heard of.
    bed.store.erase_rooms(&owner, &rooms).await.unwrap();
    bed.store.erase_rooms(&owner, &rooms).await.unwrap();
    bed.store.finish(&owner, now()).await.unwrap();
    let deletion = &bed.deletions().await[0];
    assert_eq!(deletion.state, DeletionState::Done);
    assert_eq!((deletion.erased.rooms, deletion.erased.messages), (2, 8));
}

/// A truncate or a delete that comes again may find rooms that a deletion has not closed before.
#[tokio::test]
async fn rooms_closed_while_others_are_erased_are_not_forgotten() {
    let bed = Bed::new().await;
    bed.deleted(1, &[3]).await;
    let leased = bed.store.lease(now(), TERM, QUOTA).await.unwrap().unwrap();
    let rooms = bed.store.rooms_left(&leased, 10).await.unwrap();
    bed.rooms(1, 11, &[4]).await;
    assert_eq!(bed.batch([event(1, 2, delete(20))]).await, 1);
    let counted = bed.store.erase_rooms(&leased, &rooms).await;
    assert!(counted.unwrap_err().get_custom::<LeaseLost>().is_some());
    bed.store.finish(&leased, now()).await.unwrap();
    let deletion = &bed.deletions().await[0];
    assert_eq!(
        deletion.state,
        DeletionState::Pending,
        "not done: a room was closed since"
    );
    assert_eq!((deletion.rooms, deletion.messages), (2, 7));
}

#[tokio::test]
async fn a_deletion_is_not_leased_before_its_time() {
    let bed = Bed::new().await;
    bed.batch([event(1, 0, create(10))]).await;
    bed.rooms(1, 10, &[1]).await;
    let keep = Duration::from_mins(1);
    let begin = now();
    assert_eq!(batch(&bed.store, [event(1, 1, delete(20))], keep).await, 1);
    let end = now();
    let at = |time| bed.store.lease(time, TERM, QUOTA);
    assert!(at(after(begin, 59)).await.unwrap().is_none());
    assert!(at(after(end, 61)).await.unwrap().is_some());
}

/// One that is given back waits behind all that are due.
#[tokio::test]
async fn a_large_deletion_is_leased_alone_and_takes_turns() {
    let bed = Bed::new().await;
    bed.deleted(1, &[5_000]).await;
    for post in 2..=4 {
        bed.deleted(post, &[1]).await;
    }
    let order = async || {
        let leased = bed.store.lease(now(), TERM, QUOTA).await.unwrap().unwrap();
        bed.store.give_back(&leased, now()).await.unwrap();
        let mut posts: Vec<i64> = leased.deletions.iter().map(|id| id.post).collect();
        posts.sort_unstable();
        posts
    };
    assert_eq!(order().await, [1]);
    assert_eq!(order().await, [2, 3, 4]);
    assert_eq!(order().await, [1]);
}

/// A transaction writes one deletion after the other: who waits for the first must not keep it from the second.
#[tokio::test]
async fn who_waits_for_one_deletion_keeps_nobody_from_another() {
    let bed = Bed::new().await;
    for post in 1..=2 {
        bed.deleted(post, &[1]).await;
    }
    let leased = bed.store.lease(now(), TERM, QUOTA).await.unwrap().unwrap();
    let mut transaction = bed.store.transaction().await.unwrap();
    transaction.begin().await.unwrap();
    let [first, second] = leased.deletions[..] else {
        panic!("{leased:?}")
    };
    count_room(&bed, &mut transaction.session, first).await;
    let (other, commands) = bed.counted().await;
    let giving_back = tokio::spawn(async move { other.give_back(&leased, now()).await });
    eventually("it has met the first", async || commands.of("update") > 1).await;
    count_room(&bed, &mut transaction.session, second).await;
    transaction.end(Ok(())).await.unwrap().unwrap();
    giving_back.await.unwrap().unwrap();
    for deletion in bed.deletions().await {
        assert_eq!((deletion.erased.rooms, deletion.lease.unwrap().owner), (1, None));
    }
}

async fn count_room(bed: &Bed, session: &mut ClientSession, deletion: DeletionId) {
    let counted = bed
        .store
        .deletions
        .update_one(
            doc! { "_id": deletion },
            doc! { "$inc": { "erased.rooms": 1_i64, "erased.messages": 1_i64 } },
        )
        .session(session);
    timeout(TERM, counted.into_future())
        .await
        .expect("it is free")
        .unwrap();
}
