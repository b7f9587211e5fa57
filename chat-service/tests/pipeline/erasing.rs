//! Erasers at work: alone and together, killed and resumed, held to a rate.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use chat_service::{
    eraser::Eraser,
    metrics::ChatMetrics,
    store::{
        Store,
        deletions::{Deletion, DeletionState},
    },
};
use mongodb::bson::{DateTime, doc};
use service_kit::metrics::Metrics;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bed::{Bed, eventually};

const CHUNK: i64 = 100;

fn eraser(store: Store, rate: Option<u32>) -> Eraser {
    Eraser {
        store,
        chunk: CHUNK,
        rate: rate.and_then(NonZeroU32::new),
        closed: Arc::new(Notify::new()),
        metrics: ChatMetrics::new(&Metrics::new()),
    }
}

/// Erases until the answer is dropped.
fn run(eraser: Eraser) -> DropGuard {
    let shutdown = CancellationToken::new();
    tokio::spawn(eraser.run(shutdown.clone()));
    shutdown.drop_guard()
}

async fn all_done(bed: &Bed) {
    eventually("everything is erased", async || {
        bed.deletions()
            .await
            .iter()
            .all(|deletion| deletion.state == DeletionState::Done)
    })
    .await;
}

/// Everything is gone, and each deletion counted just what it had closed.
async fn check(bed: &Bed) -> Vec<Deletion> {
    assert_eq!(bed.left().await, (0, 0));
    let deletions = bed.deletions().await;
    for deletion in &deletions {
        let Deletion { rooms, messages, .. } = deletion;
        assert_eq!(
            (deletion.erased.rooms, deletion.erased.messages),
            (*rooms, *messages),
            "{deletion:?}"
        );
        assert_eq!((deletion.lease, deletion.under_way), (None, None), "{deletion:?}");
        let (begun, done) = (deletion.begun_at.unwrap(), deletion.done_at.unwrap());
        assert!(deletion.closed_at <= begun && begun <= done, "{deletion:?}");
    }
    deletions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_the_work() {
    let bed = Bed::new().await;
    for post in 1..=100 {
        bed.deleted(post, &[20, 20]).await;
    }
    let (one, by_one) = bed.counted().await;
    let (two, by_two) = bed.counted().await;
    let _running = [run(eraser(one, None)), run(eraser(two, None))];
    all_done(&bed).await;
    check(&bed).await;
    let shares = [by_one.of("delete"), by_two.of("delete")];
    assert!(shares.iter().all(|share| *share >= 10), "{shares:?} deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_room_does_not_keep_small_ones_waiting() {
    let bed = Bed::new().await;
    bed.deleted(1, &[50_000]).await;
    for post in 2..=30 {
        bed.deleted(post, &[3]).await;
    }
    let _running = run(eraser(bed.store.clone(), None));
    all_done(&bed).await;
    let deletions = check(&bed).await;
    let huge = deletions[0].done_at.unwrap();
    for small in &deletions[1..] {
        let (done, begun) = (small.done_at.unwrap(), deletions[0].begun_at.unwrap());
        let behind = |time: DateTime| time.timestamp_millis() - begun.timestamp_millis();
        assert!(
            behind(done) * 4 < behind(huge),
            "{} of {} ms",
            behind(done),
            behind(huge)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_with_many_empty_rooms_is_erased_page_by_page() {
    let bed = Bed::new().await;
    bed.deleted(1, &vec![0; 2_500]).await;
    let _running = run(eraser(bed.store.clone(), None));
    all_done(&bed).await;
    check(&bed).await;
}

/// Workers end at any point, as if killed; whoever comes next goes on where they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_workers_left_that_died_is_erased_and_counted_once() {
    let bed = Bed::new().await;
    bed.deleted(1, &[2_000, 30, 450]).await;
    for post in 2..=40 {
        bed.deleted(post, &[7, 0, 150]).await;
    }
    let mut survived = false;
    for lifetime in (1..).map(|lifetime| Duration::from_millis(7 * lifetime)) {
        let worker = eraser(bed.store.clone(), None).run(CancellationToken::new());
        // Dropped wherever it is, in the middle of a command or between two.
        let _ = tokio::time::timeout(lifetime, worker).await;
        // Its leases run out.
        let over = doc! { "$set": { "lease.until": DateTime::from_millis(0) } };
        let leased = doc! { "lease.owner": { "$ne": null } };
        bed.store.deletions.update_many(leased, over).await.unwrap();
        let deletions = bed.deletions().await;
        if deletions
            .iter()
            .all(|deletion| deletion.state == DeletionState::Done)
        {
            break;
        }
        survived |= deletions.iter().any(|deletion| deletion.under_way.is_some());
    }
    assert!(survived, "some died in the middle of a room");
    check(&bed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_end_leaves_its_work_to_others_at_once() {
    let bed = Bed::new().await;
    bed.deleted(1, &[20_000]).await;
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn(eraser(bed.store.clone(), None).run(shutdown.clone()));
    eventually("it has begun", async || {
        bed.deletions().await[0].under_way.is_some()
    })
    .await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();
    let deletion = &bed.deletions().await[0];
    assert_eq!(deletion.state, DeletionState::Erasing);
    assert_eq!(deletion.lease.unwrap().owner, None);
    let _running = run(eraser(bed.store.clone(), None));
    all_done(&bed).await;
    check(&bed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_erased_than_the_rate_allows() {
    let bed = Bed::new().await;
    bed.deleted(1, &[1_500]).await;
    bed.deleted(2, &[10, 10, 10]).await;
    let begun = Instant::now();
    let _running = run(eraser(bed.store.clone(), Some(500)));
    all_done(&bed).await;
    let documents = 1_500 + 1 + 30 + 3;
    // The last step does not wait for the time it uses up.
    let least = Duration::from_secs(documents - u64::try_from(CHUNK).unwrap()) / 500;
    assert!(
        begun.elapsed() >= least,
        "{:?} instead of {least:?}",
        begun.elapsed()
    );
    check(&bed).await;
}
