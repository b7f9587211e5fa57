//! What the supervisor tells Prometheus: made anew from one snapshot at each scrape, so that no state of
//! another look is mixed in and connectors that are gone are gone.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
};
use service_kit::metrics::Metrics;

use crate::status::Status;

/// Gauge: 1 if Kafka Connect answered when it was last looked at.
pub const UP: &str = "connect_up";
/// Gauge by `connector` and `state`: 1 for the state that the connector is in; `MISSING` for one that is to
/// be watched and does not exist.
pub const CONNECTOR_STATE: &str = "connector_state";
/// Gauge by `connector`, `task` and `state`: 1 for the state that the task is in.
pub const TASK_STATE: &str = "connector_task_state";
/// Counter by `connector`: restarts that this supervisor asked for.
pub const RESTARTS_TOTAL: &str = "connector_restarts_total";
/// Gauge by `connector`: restarts since its last stable hour, by whomever; the next pause grows with it.
pub const RESTARTS_IN_A_ROW: &str = "connector_restarts_in_a_row";
/// Gauge by `connector`, seconds since 1970: when it will be restarted; absent while it has not failed.
pub const NEXT_RESTART: &str = "connector_next_restart_timestamp_seconds";

/// As of the last look.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) up: bool,
    pub(crate) connectors: BTreeMap<String, Seen>,
    /// Outlives the connector: a counter never goes back.
    pub(crate) restarts: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// `None` if it does not exist.
    pub(crate) status: Option<Status>,
    pub(crate) restarts_in_a_row: u32,
    /// Seconds since 1970.
    pub(crate) next_restart: Option<f64>,
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<Snapshot>>);

impl Board {
    pub(crate) fn registered(metrics: &Metrics) -> Self {
        let board = Self::default();
        metrics.register(|registry| registry.register_collector(Box::new(board.clone())));
        board
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Snapshot) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.change(|snapshot| {
            let up = ConstGauge::new(i64::from(snapshot.up));
            let help = "1 if Kafka Connect answered when it was last looked at";
            up.encode(encoder.encode_descriptor(UP, help, None, MetricType::Gauge)?)?;

            let help = "The state that the connector is in";
            let mut states = encoder.encode_descriptor(CONNECTOR_STATE, help, None, MetricType::Gauge)?;
            for (name, seen) in &snapshot.connectors {
                let state = seen
                    .status
                    .as_ref()
                    .map_or("MISSING".to_owned(), |s| s.connector.state.to_string());
                one(&mut states, &[("connector", name), ("state", &state)])?;
            }
            let help = "The state that the task is in";
            let mut states = encoder.encode_descriptor(TASK_STATE, help, None, MetricType::Gauge)?;
            for (name, seen) in &snapshot.connectors {
                for task in seen.status.iter().flat_map(|status| &status.tasks) {
                    let (id, state) = (task.id.to_string(), task.instance.state.to_string());
                    one(
                        &mut states,
                        &[("connector", name), ("task", &id), ("state", &state)],
                    )?;
                }
            }
            // The encoder appends `_total`.
            let name = RESTARTS_TOTAL.trim_end_matches("_total");
            let help = "Restarts that this supervisor asked for";
            let mut restarts = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (name, count) in &snapshot.restarts {
                restarts
                    .encode_family(&[("connector", name.as_str())])?
                    .encode_counter::<[(&str, &str); 0], _, f64>(count, None)?;
            }
            let help = "Restarts since the last stable hour, by whomever";
            let mut in_a_row = encoder.encode_descriptor(RESTARTS_IN_A_ROW, help, None, MetricType::Gauge)?;
            for (name, seen) in &snapshot.connectors {
                let labels = [("connector", name.as_str())];
                in_a_row
                    .encode_family(&labels)?
                    .encode_gauge(&i64::from(seen.restarts_in_a_row))?;
            }
            let help = "When the connector will be restarted";
            let mut next = encoder.encode_descriptor(NEXT_RESTART, help, None, MetricType::Gauge)?;
            for (name, seen) in &snapshot.connectors {
                if let Some(at) = seen.next_restart {
                    let labels = [("connector", name.as_str())];
                    next.encode_family(&labels)?.encode_gauge(&at)?;
                }
            }
            Ok(())
        })
    }
}

fn one(encoder: &mut MetricEncoder<'_>, labels: &[(&str, &str)]) -> Result<(), fmt::Error> {
    encoder.encode_family(&labels)?.encode_gauge(&1i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_read_as_the_operations_guide_says() {
        let metrics = Metrics::new();
        let board = Board::registered(&metrics);
        let status = serde_json::from_value(serde_json::json!({
            "name": "trade-posts",
            "connector": {"state": "RUNNING", "worker_id": "w:1"},
            "tasks": [{"id": 0, "state": "FAILED", "worker_id": "w:1"}],
        }))
        .unwrap();
        board.change(|snapshot| {
            snapshot.up = true;
            snapshot.restarts.insert("trade-posts".to_owned(), 3);
            let seen = Seen {
                status: Some(status),
                restarts_in_a_row: 2,
                next_restart: Some(1_800_000_000.5),
            };
            snapshot.connectors.insert("trade-posts".to_owned(), seen);
            snapshot.connectors.insert("gone".to_owned(), Seen::default());
        });
        let text = metrics.encode().unwrap();
        for line in [
            "connect_up 1",
            r#"connector_state{connector="trade-posts",state="RUNNING"} 1"#,
            r#"connector_state{connector="gone",state="MISSING"} 1"#,
            r#"connector_task_state{connector="trade-posts",task="0",state="FAILED"} 1"#,
            r#"connector_restarts_total{connector="trade-posts"} 3"#,
            r#"connector_restarts_in_a_row{connector="trade-posts"} 2"#,
            r#"connector_next_restart_timestamp_seconds{connector="trade-posts"} 1800000000.5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(
            !text.contains(r#"next_restart_timestamp_seconds{connector="gone"}"#),
            "{text}"
        );

        let guide = include_str!("../../../docs/operations.md");
        for name in [
            UP,
            CONNECTOR_STATE,
            TASK_STATE,
            RESTARTS_TOTAL,
            RESTARTS_IN_A_ROW,
            NEXT_RESTART,
        ] {
            assert!(
                guide.contains(&format!("`{name}")),
                "{name} is not in docs/operations.md"
            );
        }
    }
}
