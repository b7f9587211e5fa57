//! Counts what waits in MongoDB, for metrics: deletions, erasures and reconciliations that are not
//! done, posts that are not matched, dead letters, orphans, suspected gaps.

use std::{sync::Arc, time::Duration};

use mongodb::{
    bson::{DateTime, doc},
    error::Result,
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    cdc::{Pipeline, status::Status},
    metrics::ChatMetrics,
    store::{Store, now},
};

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Counts until `shutdown`.
pub async fn watch(pipeline: Arc<Pipeline>, shutdown: CancellationToken) -> Result<()> {
    let Pipeline {
        store,
        metrics,
        status,
        ..
    } = &*pipeline;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        // Readiness tells that MongoDB is away; the figures are old meanwhile.
        match timeout(TIMEOUT, count(store, metrics, status, now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "what waits was not counted"),
            Err(_) => debug!("what waits was not counted in time"),
        }
    }
    Ok(())
}

async fn count(store: &Store, metrics: &ChatMetrics, status: &Status, now: DateTime) -> Result<()> {
    let unfinished = doc! { "state": { "$in": ["pending", "erasing"] } };
    let number = store.deletions.count_documents(unfinished.clone()).await?;
    let oldest = store
        .deletions
        .find_one(unfinished)
        .sort(doc! { "erase_at": 1 })
        .await?;
    let age = oldest.map_or(0, |oldest| {
        (now.timestamp_millis() - oldest.erase_at.timestamp_millis()).max(0) / 1000
    });
    let members = store
        .erasures
        .count_documents(doc! { "due_at": { "$exists": true } })
        .await?;
    metrics.posts_to_match(store.posts_to_match().await?);
    let ended = ["done", "failed", "cancelled"];
    let reconciliations = store
        .reconciliations
        .count_documents(doc! { "state": { "$nin": ended } })
        .await?;
    // Of many: counted by the collection's own record, not one by one.
    let dead = store.dead_letters.estimated_document_count().await?;
    let gaps = store.count_gaps().await?;
    status.change(|status| status.suspected_gaps = Some(gaps));
    metrics
        .suspected_gaps
        .set(i64::try_from(gaps).unwrap_or(i64::MAX));
    for (kind, number) in store.count_orphans().await? {
        metrics.orphans(kind, number);
    }
    metrics
        .deletions_unfinished
        .set(i64::try_from(number).unwrap_or(i64::MAX));
    metrics.deletions_oldest_age.set(age);
    metrics
        .member_erasures_unfinished
        .set(i64::try_from(members).unwrap_or(i64::MAX));
    metrics.reconciliations_unfinished(i64::try_from(reconciliations).unwrap_or(i64::MAX));
    metrics.dead_letters.set(i64::try_from(dead).unwrap_or(i64::MAX));
    Ok(())
}
