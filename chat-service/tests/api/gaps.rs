//! Suspicions that changes were missed: kept once, told, and resolved by somebody.

use std::time::Duration;

use chat_service::{
    cdc::change_event::Beginning,
    store::{
        gaps::{Gap, GapKind, Offsets},
        now,
    },
};
use mongodb::bson::DateTime;
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Chat, eventually};

fn expired(expected: i64, at: DateTime) -> Gap {
    let offsets = Offsets {
        topic: "trade.public.trade_posts".into(),
        partition: 0,
        expected,
        found: 90,
    };
    Gap::of_offsets(GapKind::Expired, offsets, at)
}

fn snapshot(lsn: i64, at: i64) -> Gap {
    Gap::of_beginning(Beginning::Snapshot { lsn }, seconds(at))
}

fn seconds(seconds: i64) -> DateTime {
    DateTime::from_millis(1_700_000_000_000 + 1000 * seconds)
}

async fn unresolved(chat: &Chat) -> Vec<String> {
    let answer = chat.operator("/admin/v1/gaps?resolved=false").await;
    let items = answer.body["items"].as_array().unwrap().iter();
    items.map(|gap| gap["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_gap_is_kept_once_and_told_until_somebody_resolves_it() {
    let chat = Chat::start().await;
    let store = &chat.store;
    assert!(store.suspect_gap(&expired(5, seconds(1))).await.unwrap());
    assert!(store.suspect_gap(&snapshot(700, 2)).await.unwrap());
    // A batch is tried again, or a process comes back where it was.
    assert!(!store.suspect_gap(&expired(5, seconds(3))).await.unwrap());
    let all = chat.operator("/admin/v1/gaps").await;
    let expired_id = "expired@trade.public.trade_posts-0@5";
    assert_eq!(
        all.body["items"],
        json!([
            {
                "id": "snapshot@700", "kind": "snapshot", "lsn": 700, "offsets": null,
                "first_seen_at": "2023-11-14T22:13:22Z", "last_seen_at": "2023-11-14T22:13:22Z",
                "resolved_at": null, "resolved_by": null,
            },
            {
                "id": expired_id, "kind": "expired", "lsn": null,
                "offsets": {
                    "topic": "trade.public.trade_posts", "partition": 0, "expected": 5, "found": 90,
                },
                "first_seen_at": "2023-11-14T22:13:21Z", "last_seen_at": "2023-11-14T22:13:23Z",
                "resolved_at": null, "resolved_by": null,
            },
        ]),
        "{all:?}"
    );
    eventually("operators and metrics are told", async || {
        let consumer = chat.operator("/admin/v1/consumer").await;
        let metrics = chat.metrics().await;
        (consumer.body["suspected_gaps"] == 2 && metrics.lines().any(|line| line == "cdc_suspected_gaps 2"))
            .then_some(())
    })
    .await;

    let path = format!("/admin/v1/gaps/{expired_id}/resolve");
    let resolved = chat.operate(Method::POST, &path, None).await;
    assert_eq!(
        (resolved.status.as_u16(), &resolved.body["resolved_by"]),
        (200, &json!("operator"))
    );
    let again = chat.operate(Method::POST, &path, None).await;
    assert_eq!((again.status, again.body), (resolved.status, resolved.body));
    // The same records once more are nothing new.
    assert!(!store.suspect_gap(&expired(5, seconds(4))).await.unwrap());
    assert_eq!(unresolved(&chat).await, ["snapshot@700"]);
    let others = chat.operator("/admin/v1/gaps?resolved=true").await;
    assert_eq!(others.body["items"][0]["id"], expired_id);

    chat.operate(Method::POST, "/admin/v1/gaps/nothing/resolve", None)
        .await
        .refused(404, "not-found");
    chat.operator("/admin/v1/gaps?limit=0")
        .await
        .refused(422, "invalid-input");
}

#[tokio::test]
async fn a_repair_resolves_what_it_can_have_seen() {
    let chat = Chat::start().await;
    let store = &chat.store;
    for (gap, at) in [(5, 1), (6, 10)] {
        store.suspect_gap(&expired(gap, seconds(at))).await.unwrap();
    }
    for (lsn, at) in [(700, 1), (900, 2), (800, 11)] {
        store.suspect_gap(&snapshot(lsn, at)).await.unwrap();
    }
    let resolved = store
        .resolve_gaps_before(seconds(10), Some(700), "reconcile 1", now())
        .await
        .unwrap();
    assert_eq!(resolved, 2);
    let mut left = unresolved(&chat).await;
    left.sort();
    let behind = "expired@trade.public.trade_posts-0@6";
    assert_eq!(left, [behind, "snapshot@800", "snapshot@900"]);
    let resolved = store.resolve_gaps_before(seconds(12), None, "reconcile 2", now());
    assert_eq!(resolved.await.unwrap(), 3);
    let all = store.gaps(Some(true), 10).await.unwrap();
    let by = |name: &str| {
        all.iter()
            .filter(|gap| gap.resolved_by.as_deref() == Some(name))
            .count()
    };
    assert_eq!((all.len(), by("reconcile 1"), by("reconcile 2")), (5, 2, 3));
    let consumer = eventually("nothing is open any more", async || {
        let consumer = chat.operator("/admin/v1/consumer").await.body;
        (consumer["suspected_gaps"] == 0).then_some(consumer)
    });
    let consumer = tokio::time::timeout(Duration::from_secs(15), consumer)
        .await
        .unwrap();
    assert_eq!(consumer["waiting"], Value::Null);
}
