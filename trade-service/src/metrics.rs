//! The metrics that only this service has. Each is in the table of docs/operations.md.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::metrics::Metrics;

/// Counter: views that were added to their posts in PostgreSQL.
pub(crate) const VIEWS_WRITTEN_TOTAL: &str = "views_written_total";
/// Counter: views that were not counted, because too many posts had views that could not be written.
pub(crate) const VIEWS_DROPPED_TOTAL: &str = "views_dropped_total";
/// Gauge: posts that have views which are not written yet.
pub(crate) const VIEWED_POSTS_PENDING: &str = "viewed_posts_pending";
/// Counter: requests to create a post that were answered with an earlier one's result.
pub(crate) const CREATES_REPEATED_TOTAL: &str = "creates_repeated_total";
/// Counter: idempotency keys that were removed by age.
pub(crate) const IDEMPOTENCY_KEYS_REMOVED_TOTAL: &str = "idempotency_keys_removed_total";

#[derive(Debug, Default)]
pub(crate) struct TradeMetrics {
    pub(crate) views_written: Counter,
    pub(crate) views_dropped: Counter,
    pub(crate) viewed_posts: Gauge,
    pub(crate) creates_repeated: Counter,
    pub(crate) keys_removed: Counter,
}

impl TradeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let new = Self::default();
        for (name, help, counter) in [
            (
                VIEWS_WRITTEN_TOTAL,
                "Views written to PostgreSQL",
                &new.views_written,
            ),
            (VIEWS_DROPPED_TOTAL, "Views not counted", &new.views_dropped),
            (
                CREATES_REPEATED_TOTAL,
                "Creates answered with an earlier result",
                &new.creates_repeated,
            ),
            (
                IDEMPOTENCY_KEYS_REMOVED_TOTAL,
                "Idempotency keys removed by age",
                &new.keys_removed,
            ),
        ] {
            metrics.counter(name, help, counter);
        }
        let help = "Posts with views that are not written yet";
        metrics.register(|registry| registry.register(VIEWED_POSTS_PENDING, help, new.viewed_posts.clone()));
        new
    }
}
