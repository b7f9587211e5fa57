//! A batch costs a fixed number of round trips to MongoDB, however many records it has.

use std::{collections::BTreeMap, time::Duration};

use chat_service::cdc::change_event::{CaptureTimes, Change, Event};

use crate::bed::{Bed, batch, create, delete, event, update};

/// Sends the batch that `prepare` makes for 1, 100 and 1,000 posts, and compares what it cost.
async fn costs_the_same(prepare: impl AsyncFn(&Bed, i64) -> Vec<Event>) {
    sizes_cost_the_same([1, 100, 1_000], prepare).await;
}

async fn sizes_cost_the_same(sizes: [i64; 3], prepare: impl AsyncFn(&Bed, i64) -> Vec<Event>) {
    let mut costs: Vec<BTreeMap<String, usize>> = Vec::new();
    for size in sizes {
        let bed = Bed::new().await;
        let events = prepare(&bed, size).await;
        let (store, commands) = bed.counted().await;
        batch(&store, events, Duration::ZERO).await;
        costs.push(commands.take());
    }
    assert!(costs[0].values().sum::<usize>() > 0, "commands are counted");
    assert_eq!(costs[0], costs[1], "{} and {} posts", sizes[0], sizes[1]);
    assert_eq!(costs[0], costs[2], "{} and {} posts", sizes[0], sizes[2]);
}

/// One event for each of so many posts, beginning with `first`.
fn each(first: i64, size: i64, change: impl Fn(i64) -> Change) -> Vec<Event> {
    (first..first + size)
        .map(|post| event(post, post, change(post)))
        .collect()
}

/// So many posts that are known, with a room each.
async fn known(bed: &Bed, first: i64, size: i64, rooms: bool) {
    bed.batch(each(first, size, |_| create(10))).await;
    if rooms {
        for post in first..first + size {
            bed.rooms(post, 10, &[2]).await;
        }
    }
}

#[tokio::test]
async fn posts_that_are_created() {
    costs_the_same(async |_, size| each(1, size, |_| create(10))).await;
}

#[tokio::test]
async fn posts_that_are_changed() {
    costs_the_same(async |bed, size| {
        known(bed, 1, size, true).await;
        each(1, size, |_| update(20, "내렸어요"))
    })
    .await;
}

#[tokio::test]
async fn posts_that_are_deleted_with_a_room_each() {
    costs_the_same(async |bed, size| {
        known(bed, 1, size, true).await;
        each(1, size, |_| delete(20))
    })
    .await;
}

#[tokio::test]
async fn posts_that_are_deleted_without_rooms() {
    costs_the_same(async |bed, size| {
        known(bed, 1, size, false).await;
        each(1, size, |_| delete(20))
    })
    .await;
}

#[tokio::test]
async fn deletes_of_posts_that_are_not_known() {
    costs_the_same(async |_, size| each(1, size, |_| delete(20))).await;
}

#[tokio::test]
async fn tombstones_alone_with_a_room_each() {
    costs_the_same(async |bed, size| {
        known(bed, 1, size, true).await;
        each(1, size, |post| {
            assert!(post > 0);
            Change::Tombstone
        })
        .into_iter()
        .map(behind)
        .collect()
    })
    .await;
}

#[tokio::test]
async fn deletes_that_come_again() {
    costs_the_same(async |bed, size| {
        known(bed, 1, size, true).await;
        bed.batch(each(1, size, |_| delete(20))).await;
        each(1, size, |_| delete(20))
    })
    .await;
}

#[tokio::test]
async fn a_truncate() {
    costs_the_same(async |bed, size| {
        known(bed, 1, size, true).await;
        vec![Event::Truncate {
            lsn: 20,
            times: CaptureTimes::default(),
        }]
    })
    .await;
}

/// A thousand events at most, a sixth of each kind, with posts that are created again among them.
#[tokio::test]
async fn everything_in_one_batch() {
    sizes_cost_the_same([1, 16, 166], async |bed, size| {
        for kind in [2, 3, 4, 5] {
            known(bed, kind * 10_000, size, true).await;
        }
        let mut events = each(10_000, size, |_| create(10));
        events.extend(each(20_000, size, |_| update(20, "내렸어요")));
        events.extend(each(30_000, size, |_| delete(20)));
        events.extend(each(40_000, size, |_| Change::Tombstone).into_iter().map(behind));
        events.extend(each(50_000, size, |_| delete(20)));
        events.extend(each(50_000, size, |_| create(30)).into_iter().map(behind));
        events
    })
    .await;
}

/// The event at an offset behind those of all others.
fn behind(event: Event) -> Event {
    match event {
        Event::Post(mut event) => {
            event.position.offset += 1_000_000;
            Event::Post(event)
        }
        other => other,
    }
}
