//! Repairs of missed deletes, step by step: one at a time, nothing closed before it may be, and closed once whoever
//! dies in between.

use std::time::Duration;

use chat_service::{
    cdc::{
        change_event::KeywordChange,
        notification::{Notification, Said, Step, by_snapshot},
    },
    reconciliation::{State, Table},
    store::{
        Store,
        missed::LeaseLost,
        now,
        reconciliations::{Begun, End, Moved},
    },
};
use futures_util::{TryStreamExt, future::join_all};
use mongodb::bson::{DateTime, doc};

use crate::{
    bed::{Bed, create, event},
    matches::{keep, kept, keyword},
};

const START: i64 = 1_000;
const LEASE: Duration = Duration::from_secs(30);

fn completed() -> Said {
    Said {
        rows: Some(3),
        completed: true,
        ..Said::default()
    }
}

async fn state(store: &Store, id: &str) -> State {
    store.reconciliation(id).await.unwrap().unwrap().state
}

/// Brings a new reconciliation to where it waits for an operator.
async fn ready(bed: &Bed, id: &str, table: Table) {
    let store = &bed.store;
    let begun = store.begin_reconciliation(id, table, START, now()).await.unwrap();
    assert!(matches!(begun, Begun::New(_)), "{begun:?}");
    assert_eq!(
        store.reconciliation_heard(id, &completed(), now()).await.unwrap(),
        None
    );
    let drained = store.drain_reconciliation(id, START + 100, now()).await.unwrap();
    assert!(matches!(drained, Moved::Done(_)), "{drained:?}");
    let missed = store.count_missed(table, START).await.unwrap();
    assert!(store.reconciliation_ready(id, missed, now()).await.unwrap());
}

#[tokio::test]
async fn of_those_that_are_begun_at_once_one_is() {
    let bed = Bed::new().await;
    let ids: Vec<String> = (0..8).map(|number| format!("r{number}")).collect();
    let begun = join_all(ids.iter().map(|id| {
        bed.store
            .begin_reconciliation(id, Table::TradePosts, START, now())
    }))
    .await;
    let mut new = Vec::new();
    for begun in begun {
        match begun.unwrap() {
            Begun::New(run) => new.push(run.id),
            Begun::Unfinished(_) => {}
            Begun::Used => panic!("each has an id of its own"),
        }
    }
    let [first] = &new[..] else { panic!("{new:?}") };
    let cancelled = bed.store.cancel_reconciliation(first, now()).await.unwrap();
    assert!(matches!(cancelled, Moved::Done(_)));
    let again = bed
        .store
        .begin_reconciliation(first, Table::TradePosts, START, now())
        .await
        .unwrap();
    assert!(matches!(again, Begun::Used), "{again:?}");
    let next = bed
        .store
        .begin_reconciliation("next", Table::TradePosts, START, now())
        .await
        .unwrap();
    assert!(matches!(next, Begun::New(_)), "{next:?}");
}

/// Whatever is read again, in part or whole.
#[tokio::test]
async fn a_snapshot_that_did_not_show_everything_fails_it_and_what_is_read_again_changes_nothing() {
    let bed = Bed::new().await;
    let store = &bed.store;
    for (number, bad) in [
        Step::TableScanCompleted {
            status: "SQL_EXCEPTION".into(),
            rows: 7,
        },
        Step::Aborted,
        // Without having read the table.
        Step::Completed,
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("bad{number}");
        store
            .begin_reconciliation(&id, Table::TradePosts, START, now())
            .await
            .unwrap();
        let heard = [Step::Started, bad, Step::Completed].map(|step| Notification { id: id.clone(), step });
        let said = by_snapshot(&heard);
        let reason = store
            .reconciliation_heard(&id, &said[id.as_str()], now())
            .await
            .unwrap();
        assert!(reason.is_some());
        assert_eq!(state(store, &id).await, State::Failed);
        let again = store
            .reconciliation_heard(&id, &completed(), now())
            .await
            .unwrap();
        assert_eq!((again, state(store, &id).await), (None, State::Failed));
        for moved in [
            store.drain_reconciliation(&id, START + 1, now()).await.unwrap(),
            store.confirm_reconciliation(&id, now()).await.unwrap(),
            store.cancel_reconciliation(&id, now()).await.unwrap(),
        ] {
            assert!(matches!(moved, Moved::Elsewhere(_)), "{moved:?}");
        }
    }
    ready(&bed, "good", Table::TradePosts).await;
    let late = Said {
        failure: Some("of another time".into()),
        ..Said::default()
    };
    assert_eq!(
        store.reconciliation_heard("good", &late, now()).await.unwrap(),
        None
    );
    assert_eq!(state(store, "good").await, State::Ready);
    assert_eq!(
        store
            .reconciliation_heard("unknown", &completed(), now())
            .await
            .unwrap(),
        None
    );
    let ends = [End {
        partition: 0,
        offset: 5,
    }];
    store.drain_up_to("good", &ends).await.unwrap();
    assert_eq!(
        store.reconciliation("good").await.unwrap().unwrap().ends,
        None,
        "it is over"
    );
}

#[tokio::test]
async fn what_was_missed_is_closed_once_whoever_dies_and_what_was_created_again_is_not() {
    let bed = Bed::new().await;
    let store = &bed.store;
    // Two rooms each; those from 6 on were seen since the start.
    for post in 1..=8 {
        let lsn = if post < 6 { 10 } else { START + post };
        bed.batch([event(post, 0, create(lsn))]).await;
        bed.rooms(post, lsn, &[1, 1]).await;
    }
    ready(&bed, "r", Table::TradePosts).await;
    assert_eq!(
        store.reconciliation("r").await.unwrap().unwrap().candidates,
        Some(5)
    );
    let missed = store.missed(START, None, 10).await.unwrap();
    let missed: Vec<(i64, i64)> = missed
        .iter()
        .map(|missed| (missed.post.id, missed.rooms))
        .collect();
    assert_eq!(missed, [(1, 2), (2, 2), (3, 2), (4, 2), (5, 2)]);
    assert!(
        store.lease_closing(now(), LEASE).await.unwrap().is_none(),
        "nobody has confirmed"
    );
    store.confirm_reconciliation("r", now()).await.unwrap();
    // Put back meanwhile, with a room of its new life.
    bed.batch([event(5, 1, create(START + 50))]).await;
    bed.rooms(5, START + 50, &[1]).await;

    let mut first = store.lease_closing(now(), LEASE).await.unwrap().unwrap();
    assert!(
        store.lease_closing(now(), LEASE).await.unwrap().is_none(),
        "it is at work"
    );
    let closed = store
        .close_missed(&mut first, 2, now(), now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((closed.posts, closed.rooms), (2, 4));
    // It dies before it can say so, with the next one fenced, which is put back then, and is followed by another
    // when its lease is over.
    let fence = doc! {
        "$set": { "state": "deleted", "lsn": START, "deleted_at": now() },
        "$addToSet": { "ends": { "lsn": START, "to": null } },
    };
    store.posts.update_one(doc! { "_id": 3 }, fence).await.unwrap();
    bed.batch([event(3, 1, create(START + 60))]).await;
    bed.rooms(3, START + 60, &[1]).await;
    let later = DateTime::from_millis(now().timestamp_millis() + 60_000);
    let mut second = store.lease_closing(later, LEASE).await.unwrap().unwrap();
    while store
        .close_missed(&mut second, 2, later, later)
        .await
        .unwrap()
        .is_some()
    {
        store.closed_missed(&second, later, LEASE).await.unwrap();
    }
    store.reconciliation_done(&second, later).await.unwrap();
    let late = store.closed_missed(&first, now(), LEASE).await.unwrap_err();
    assert!(late.get_custom::<LeaseLost>().is_some(), "{late}");

    let done = store.reconciliation("r").await.unwrap().unwrap();
    assert_eq!(done.state, State::Done);
    assert_eq!(
        (done.closed.posts, done.closed.rooms),
        (4, 8),
        "each counted once"
    );
    let mut closed: Vec<(i64, i64)> = bed
        .deletions()
        .await
        .iter()
        .map(|known| (known.id.post, known.id.lsn))
        .collect();
    closed.sort_unstable();
    assert_eq!(closed, [(1, START), (2, START), (3, START), (4, START)]);
    let open = doc! { "state": "open" };
    assert_eq!(store.rooms.count_documents(open).await.unwrap(), 1 + 3 + 2 * 3);
    let told = store
        .notifications
        .count_documents(doc! { "kind": "room_closed" });
    assert_eq!(told.await.unwrap(), 16, "both members of each room, once");
    assert_eq!(store.count_missed(Table::TradePosts, START).await.unwrap(), 0);
}

#[tokio::test]
async fn keywords_that_were_missed_are_ended_and_what_was_kept_again_is_not() {
    let bed = Bed::new().await;
    let store = &bed.store;
    // Those from 6 on were seen since the start, and one was forgotten before it.
    let keywords = (1..=8).map(|id| kept(id, id, "자전거", if id < 6 { 10 } else { START + id }));
    keep(store, keywords).await;
    keep(store, [keyword(1, KeywordChange::Delete { lsn: 20 })]).await;
    bed.batch([event(1, 0, create(10))]).await;
    ready(&bed, "k", Table::Keywords).await;
    let run = store.reconciliation("k").await.unwrap().unwrap();
    assert_eq!((run.table, run.candidates), (Table::Keywords, Some(4)));
    let missed = store.missed_keywords(START, None, 10).await.unwrap();
    let missed: Vec<i64> = missed.iter().map(|keyword| keyword.id).collect();
    assert_eq!(missed, [2, 3, 4, 5]);
    store.confirm_reconciliation("k", now()).await.unwrap();
    // Seen meanwhile after all.
    keep(store, [kept(5, 5, "자전거", START + 50)]).await;

    let mut first = store.lease_closing(now(), LEASE).await.unwrap().unwrap();
    assert!(store.end_missed(&mut first, 2, now()).await.unwrap());
    store.closed_missed(&first, now(), LEASE).await.unwrap();
    // It dies, and is followed by another when its lease is over.
    let later = DateTime::from_millis(now().timestamp_millis() + 60_000);
    let mut second = store.lease_closing(later, LEASE).await.unwrap().unwrap();
    assert!(store.end_missed(&mut second, 2, later).await.unwrap());
    assert!(!store.end_missed(&mut second, 2, later).await.unwrap());
    store.closed_missed(&second, later, LEASE).await.unwrap();
    store.reconciliation_done(&second, later).await.unwrap();
    let done = store.reconciliation("k").await.unwrap().unwrap();
    assert_eq!(
        (done.state, done.closed.keywords, done.closed.posts),
        (State::Done, 3, 0)
    );
    let live: Vec<i64> = store
        .keywords
        .find(doc! { "gram": { "$exists": true } })
        .sort(doc! { "_id": 1 })
        .await
        .unwrap()
        .map_ok(|keyword| keyword.id)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(live, [5, 6, 7, 8]);
    // An old record does not bring one back, a new one does.
    keep(
        store,
        [kept(2, 2, "자전거", START - 1), kept(3, 3, "자전거", START + 60)],
    )
    .await;
    assert_eq!(store.count_missed(Table::Keywords, i64::MAX).await.unwrap(), 5);
    assert_eq!(
        store.count_missed(Table::TradePosts, START).await.unwrap(),
        1,
        "posts are not touched"
    );
}
