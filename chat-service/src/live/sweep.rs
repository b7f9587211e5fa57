//! The safety net below the change stream: looks now and then whether connected members have events that
//! nobody brought.
//!
//! Invariant: an event that is written is sent within two intervals of the sweep, whatever the change
//! stream does. What a sweep costs depends on the number of connected members alone.

use std::{sync::Arc, time::Duration};

use mongodb::error::Result;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::hub::{Connected, Hub};
use crate::store::Store;

/// Members of one query.
const CHUNK: usize = 1000;
/// Time that the change stream has for an event that a sweep has seen before it.
const GRACE: Duration = Duration::from_millis(250);

/// Sweeps now and then until `shutdown`.
pub async fn run(store: Store, hub: Arc<Hub>, shutdown: CancellationToken) -> Result<()> {
    let interval = hub.config.stream_sweep;
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        match shutdown.run_until_cancelled(sweep(&store, &hub, GRACE)).await {
            Some(Ok(reminded)) => {
                hub.metrics.streams_reminded(reminded);
                if reminded > 0 {
                    warn!(
                        reminded,
                        "streams had events that the change stream did not bring"
                    );
                }
            }
            Some(Err(error)) => warn!(%error, "it cannot be seen whether streams have missed events"),
            None => break,
        }
    }
    Ok(())
}

/// Reminds streams of events that they do not know of, and that are not brought within `grace` either.
/// Answers how many.
pub async fn sweep(store: &Store, hub: &Hub, grace: Duration) -> Result<usize> {
    let mut reminded = 0;
    for chunk in hub.connected().chunks(CHUNK) {
        let last = store
            .last_seqs(chunk.iter().map(|connected| connected.member))
            .await?;
        let last = |connected: &Connected| last.get(&connected.member).copied().unwrap_or_default();
        let differ: Vec<(Connected, i64)> = chunk
            .iter()
            .map(|connected| (*connected, last(connected)))
            .filter(|(connected, last)| connected.known != *last)
            .collect();
        if differ.is_empty() {
            continue;
        }
        sleep(grace).await;
        reminded += differ
            .into_iter()
            .map(|(connected, last)| hub.remind(connected, last))
            .sum::<usize>();
    }
    Ok(reminded)
}
