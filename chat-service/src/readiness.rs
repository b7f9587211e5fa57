//! Asks the servers this service needs whether they answer, so that `/readyz` can say so.

use std::time::Duration;

use mongodb::error::Result;
use service_kit::health::Dependency;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Watches MongoDB and the registry until `shutdown`. Kafka reports its state by itself.
pub async fn watch(
    store: Store,
    registry_url: String,
    mongodb: Dependency,
    registry: Dependency,
    shutdown: CancellationToken,
) -> Result<()> {
    let client = reqwest::Client::new();
    let url = format!("{}/schemas/types", registry_url.trim_end_matches('/'));
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match timeout(TIMEOUT, store.ping()).await {
            Ok(Ok(())) => mongodb.up(),
            Ok(Err(error)) => mongodb.down(error.kind.to_string()),
            Err(_) => mongodb.down("no answer in time"),
        }
        match client
            .get(&url)
            .timeout(TIMEOUT)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
        {
            Ok(_) => registry.up(),
            Err(error) => registry.down(error.without_url().to_string()),
        }
    }
    Ok(())
}
