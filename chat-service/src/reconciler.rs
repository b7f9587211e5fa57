//! Carries reconciliations on: finds out when everything that a snapshot showed has taken effect, and closes what
//! an operator has confirmed.
//!
//! Invariant: any instance may do any step, and every step may be repeated. Closing is leased, so one does it at a
//! time and another goes on where one has died.

use std::{sync::Arc, time::Duration};

use mongodb::{bson::DateTime, error::Result};
use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    cdc::{Pipeline, offsets::Offsets},
    config::KafkaConfig,
    reconciliation::{Ended, State, Table},
    store::{
        missed::{LeaseLost, Leased},
        now,
        reconciliations::Reconciliation,
    },
};

/// How often it looks whether there is something to do.
const POLL: Duration = Duration::from_millis(500);
/// How long a worker may be silent before another one takes over.
const LEASE: Duration = Duration::from_secs(30);
/// Posts closed, or keywords ended, at once. Between two of these turns captured changes and requests have theirs.
const AT_ONCE: i64 = 200;

/// Works until `shutdown`.
#[derive(Debug)]
pub struct Reconciler {
    pub pipeline: Arc<Pipeline>,
    pub kafka: KafkaConfig,
}

/// Why a step is tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("MongoDB failed")]
    Store(#[from] mongodb::error::Error),
    #[error("Kafka does not tell offsets")]
    Kafka(#[from] KafkaError),
}

impl Reconciler {
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut offsets = None;
        let mut held = None;
        while !shutdown.is_cancelled() {
            match self.step(&mut offsets, &mut held).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(Failure::Store(error)) if error.get_custom::<LeaseLost>().is_some() => {
                    debug!("a reconciliation belongs to another worker now");
                    held = None;
                }
                Err(failure) => {
                    let error = crate::cdc::chain(&failure);
                    warn!(error, "a reconciliation was interrupted, going on later");
                }
            }
            shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await;
        }
        Ok(())
    }

    /// Does the next step. Answers whether there may be more to do at once.
    async fn step(
        &self,
        offsets: &mut Option<Offsets>,
        held: &mut Option<Leased>,
    ) -> std::result::Result<bool, Failure> {
        let store = &self.pipeline.store;
        if held.is_none() {
            *held = store.lease_closing(now(), LEASE).await?;
        }
        if let Some(leased) = held {
            let more = self.close(leased).await?;
            if !more {
                *held = None;
            }
            return Ok(more);
        }
        let Some(draining) = store.reconciliation_in(State::Draining).await? else {
            // A client for the time that it is needed.
            *offsets = None;
            return Ok(false);
        };
        let offsets = match offsets {
            Some(offsets) => offsets,
            None => offsets.insert(Offsets::new(&self.kafka)?),
        };
        let (topic, what) = match draining.table {
            Table::TradePosts => (self.kafka.trade_posts_topic(), "posts"),
            Table::Keywords => (self.kafka.keywords_topic(), "keywords"),
        };
        let Some(ends) = draining.ends else {
            let ends = offsets.ends(topic).await?;
            store.drain_up_to(&draining.id, &ends).await?;
            return Ok(true);
        };
        if !offsets.has_passed(topic, ends).await? {
            return Ok(false);
        }
        let missed = store
            .count_missed(draining.table, draining.span.start_lsn)
            .await?;
        if store.reconciliation_ready(&draining.id, missed, now()).await? {
            info!(
                reconciliation.id = draining.id,
                "the snapshot did not show {missed} {what} that are known here as live"
            );
        }
        Ok(true)
    }

    /// Closes the next posts, or ends the next keywords. Answers whether there may be more.
    async fn close(&self, leased: &mut Leased) -> std::result::Result<bool, Failure> {
        match leased.reconciliation.table {
            Table::TradePosts => self.close_posts(leased).await,
            Table::Keywords => self.end_keywords(leased).await,
        }
    }

    async fn end_keywords(&self, leased: &mut Leased) -> std::result::Result<bool, Failure> {
        let Pipeline { store, metrics, .. } = &*self.pipeline;
        if store.end_missed(leased, AT_ONCE, now()).await? {
            store.closed_missed(leased, now(), LEASE).await?;
            return Ok(true);
        }
        store.reconciliation_done(leased, now()).await?;
        metrics.reconciliation_ended(Ended::Done);
        info!(
            reconciliation.id = leased.reconciliation.id,
            "ended {} keywords whose delete was missed", leased.reconciliation.closed.keywords
        );
        Ok(false)
    }

    async fn close_posts(&self, leased: &mut Leased) -> std::result::Result<bool, Failure> {
        let Pipeline {
            store,
            metrics,
            closed: eraser,
            erase_after,
            ..
        } = &*self.pipeline;
        let at = now();
        let erase_after = i64::try_from(erase_after.as_millis()).unwrap_or(i64::MAX);
        let erase_at = DateTime::from_millis(at.timestamp_millis().saturating_add(erase_after));
        let Some(closed) = store.close_missed(leased, AT_ONCE, at, erase_at).await? else {
            self.resolve_gaps(&leased.reconciliation).await?;
            store.reconciliation_done(leased, now()).await?;
            metrics.reconciliation_ended(Ended::Done);
            let total = leased.reconciliation.closed;
            info!(
                reconciliation.id = leased.reconciliation.id,
                "closed {} posts whose delete was missed, and {} rooms", total.posts, total.rooms
            );
            return Ok(false);
        };
        store.closed_missed(leased, now(), LEASE).await?;
        metrics.posts_reconciled(closed.posts, closed.rooms);
        eraser.notify_one();
        Ok(true)
    }

    /// What was missed before the reconciliation began has been made up for.
    async fn resolve_gaps(&self, done: &Reconciliation) -> Result<()> {
        let by = format!("reconciliation {}", done.id);
        let start = Some(done.span.start_lsn);
        let store = &self.pipeline.store;
        let resolved = store.resolve_gaps_before(done.requested_at, start, &by, now());
        match resolved.await? {
            0 => {}
            gaps => info!(
                reconciliation.id = done.id,
                "{gaps} suspected gaps are resolved by it"
            ),
        }
        Ok(())
    }
}
