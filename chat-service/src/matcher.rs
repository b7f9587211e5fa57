//! Matches new posts with the keywords that members wait for, and tells them.
//!
//! Invariant: a post is done when everybody was told of it. A worker that dies before leaves a lease that runs
//! out; whoever goes on tells nobody twice. The consumer does not wait for any of it.

use std::{sync::Arc, time::Duration};

use mongodb::error::Result;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    metrics::ChatMetrics,
    store::{Store, now},
};

/// How often it looks for posts that another instance was to match and did not.
const POLL: Duration = Duration::from_secs(1);

/// Matches until `shutdown`.
#[derive(Debug)]
pub struct Matcher {
    pub store: Store,
    /// Wakes it when there are new posts.
    pub to_match: Arc<Notify>,
    pub metrics: ChatMetrics,
}

impl Matcher {
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        while !shutdown.is_cancelled() {
            match self.match_due().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => warn!(%error, "matching new posts was interrupted, going on later"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.to_match.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        Ok(())
    }

    /// Matches posts that are to be matched. Answers whether there were some.
    async fn match_due(&self) -> Result<bool> {
        let Some(leased) = self.store.lease_matching(now()).await? else {
            return Ok(false);
        };
        let told = self.store.match_leased(&leased, now).await?;
        self.metrics.matches_told(told);
        Ok(true)
    }
}
