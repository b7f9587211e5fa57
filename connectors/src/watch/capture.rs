//! What the supervisor sees in the captured database: slots, and the heartbeat. A task of its own, because a
//! database that does not answer must not keep a connector from being restarted.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use service_kit::metrics::Metrics;
use sqlx::PgConnection;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Config, ConnectApi, ConnectError,
    database::{self, DatabaseError},
    offsets::Offsets,
    placeholder::unknown,
    slot::{self, Slot},
};

/// Gauge: 1 if PostgreSQL answered when it was last looked at; absent if none is named.
pub const DATABASE_UP: &str = "capture_database_up";
/// Gauge by `connector`: 1 while somebody reads through its slot.
pub const SLOT_ACTIVE: &str = "slot_active";
/// Gauge by `connector`: bytes of the log that PostgreSQL keeps for its slot.
pub const SLOT_RETAINED: &str = "slot_retained_bytes";
/// Gauge by `connector`: bytes of the log between where the connector stopped and where its slot begins;
/// absent where one of them is not known.
pub const SLOT_GAP: &str = "slot_gap_bytes";
/// Gauge by `connector`: 0 `reserved`, 1 `extended`, 2 `unreserved`, 3 `lost`, or there is no slot.
pub const SLOT_WAL_STATUS: &str = "slot_wal_status";
/// Gauge by `connector`: seconds since a heartbeat was written into its database; absent before the first.
pub const HEARTBEAT_AGE: &str = "heartbeat_age_seconds";

/// For one look at the database: statements have a bound of their own, a network that is silent has none.
const LOOK: Duration = Duration::from_secs(30);
/// For Kafka Connect, before and after that: what does not answer is not to be taken for the database.
const ANSWER: Duration = Duration::from_secs(5);

/// Of one connector.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Captured {
    /// `None` if there is none of its name.
    slot: Option<Slot>,
    gap: Option<u64>,
    heartbeat_age: Option<Duration>,
}

/// As of the last look; `None` before the first.
#[derive(Debug, Default)]
struct Snapshot {
    up: Option<bool>,
    connectors: BTreeMap<String, Captured>,
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges(Arc<Mutex<Snapshot>>);

impl Gauges {
    pub(crate) fn registered(metrics: &Metrics) -> Self {
        let gauges = Self::default();
        metrics.register(|registry| registry.register_collector(Box::new(gauges.clone())));
        gauges
    }

    fn set(&self, up: bool, connectors: BTreeMap<String, Captured>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Snapshot {
            up: Some(up),
            connectors,
        };
    }
}

/// The gauges that each connector has, with their help and value.
type Shown = (&'static str, &'static str, fn(&Captured) -> Option<f64>);

const SHOWN: [Shown; 5] = [
    (SLOT_ACTIVE, "1 while somebody reads through the slot", |seen| {
        Some(f64::from(u8::from(seen.slot.as_ref()?.reader.is_some())))
    }),
    (
        SLOT_RETAINED,
        "Bytes of the write-ahead log that PostgreSQL keeps for the slot",
        |seen| Some(bytes(seen.slot.as_ref()?.retained_bytes())),
    ),
    (
        SLOT_GAP,
        "Bytes of the write-ahead log between the connector's offset and the beginning of its slot",
        |seen| seen.gap.map(bytes),
    ),
    (
        SLOT_WAL_STATUS,
        "0 reserved, 1 extended, 2 unreserved, 3 lost or no slot",
        |seen| {
            Some(
                seen.slot
                    .as_ref()
                    .map_or(3.0, |slot| f64::from(slot.wal_status_code())),
            )
        },
    ),
    (
        HEARTBEAT_AGE,
        "Since the last heartbeat was written into the database",
        |seen| seen.heartbeat_age.map(|age| age.as_secs_f64()),
    ),
];

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(up) = snapshot.up else { return Ok(()) };
        let help = "1 if PostgreSQL answered when it was last looked at";
        let gauge = ConstGauge::new(i64::from(up));
        gauge.encode(encoder.encode_descriptor(DATABASE_UP, help, None, MetricType::Gauge)?)?;
        for (name, help, value) in SHOWN {
            let mut gauges = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (connector, seen) in &snapshot.connectors {
                if let Some(value) = value(seen) {
                    let labels = [("connector", connector.as_str())];
                    gauges.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}

/// Looks again and again.
pub(crate) struct Onlooker {
    pub(crate) api: ConnectApi,
    /// Connectors; all that have a slot if none is named.
    pub(crate) names: Vec<String>,
    pub(crate) database_url: String,
    pub(crate) gauges: Gauges,
    /// Kept between two looks.
    pub(crate) connection: Option<PgConnection>,
    /// By connector, as Kafka Connect last said: it may be away when its slots keep the log most.
    pub(crate) slots: BTreeMap<String, String>,
}

impl Onlooker {
    pub(crate) async fn look_on(mut self, interval: Duration, shutdown: CancellationToken) {
        let mut told = None;
        loop {
            let Some(seen) = shutdown.run_until_cancelled(self.look()).await else {
                return;
            };
            let error = match seen {
                Ok(connectors) => {
                    self.gauges.set(true, connectors);
                    None
                }
                Err(error) => {
                    self.gauges.set(false, BTreeMap::new());
                    self.connection = None;
                    Some(crate::doctor::said(&error))
                }
            };
            match &error {
                Some(error) if told.is_none() => warn!("slots are not seen: {error}"),
                None if told.is_some() => info!("slots are seen again"),
                _ => (),
            }
            told = error;
            if shutdown.run_until_cancelled(sleep(interval)).await.is_none() {
                return;
            }
        }
    }

    /// Where Kafka Connect does not answer, which whoever watches it says, gaps are not known.
    async fn look(&mut self) -> Result<BTreeMap<String, Captured>, DatabaseError> {
        let answers = match timeout(ANSWER, self.api.configs()).await {
            Ok(Ok(configs)) => {
                self.slots = slots(&self.names, configs);
                true
            }
            Ok(Err(_)) | Err(_) => false,
        };
        let look = timeout(LOOK, self.look_at_database()).await;
        let mut seen = look.unwrap_or(Err(DatabaseError::NoAnswer))?;
        if answers {
            // Behind the slots: see `Slot::gap_bytes`.
            let _ = timeout(ANSWER, self.look_at_offsets(&mut seen)).await;
        }
        Ok(seen)
    }

    async fn look_at_database(&mut self) -> Result<BTreeMap<String, Captured>, DatabaseError> {
        let database = match &mut self.connection {
            Some(database) => database,
            none => none.insert(database::connect(&self.database_url).await?),
        };
        let heartbeat_age = slot::heartbeat_age(database).await?;
        let mut seen = BTreeMap::new();
        for (name, slot) in &self.slots {
            let captured = Captured {
                slot: slot::read(database, slot).await?,
                gap: None,
                heartbeat_age,
            };
            seen.insert(name.clone(), captured);
        }
        Ok(seen)
    }

    async fn look_at_offsets(&self, seen: &mut BTreeMap<String, Captured>) -> Result<(), ConnectError> {
        for (name, captured) in seen {
            let offsets = self.api.offsets(name).await?;
            let offset = offsets.as_ref().and_then(Offsets::furthest);
            let slot = captured.slot.as_ref();
            captured.gap = slot.zip(offset).map(|(slot, offset)| slot.gap_bytes(offset));
        }
        Ok(())
    }
}

/// Of those connectors that have a slot, and are named if any is. Of a placeholder only the worker knows which slot it
/// is.
fn slots(names: &[String], configs: BTreeMap<String, Config>) -> BTreeMap<String, String> {
    let watched = configs
        .into_iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name));
    watched
        .filter_map(|(name, mut config)| Some((name, config.remove("slot.name")?)))
        .filter(|(_, slot)| unknown(slot).is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lsn::Lsn, slot::tests::healthy};

    #[test]
    fn slots_are_those_of_connectors_that_are_watched_and_known() {
        let config = |key: &str, value: &str| Config::from([(key.to_owned(), value.to_owned())]);
        let configs: BTreeMap<String, Config> = [
            ("a", config("slot.name", "s")),
            ("b", config("slot.name", "t")),
            ("none", config("topics", "u")),
            ("unknown", config("slot.name", "${env:S}")),
        ]
        .map(|(name, config)| (name.to_owned(), config))
        .into();
        let of = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            slots(&names, configs.clone()).into_values().collect()
        };
        assert_eq!(of(&[]), ["s", "t"]);
        assert_eq!(of(&["b", "unknown"]), ["t"]);
    }

    #[test]
    fn gauges_read_as_the_operations_guide_says() {
        let metrics = Metrics::new();
        let gauges = Gauges::registered(&metrics);
        assert!(
            !metrics.encode().unwrap().contains(DATABASE_UP),
            "nothing is named"
        );
        let anew = Slot {
            reader: None,
            ..healthy()
        };
        let seen = [
            (
                "trade-posts".to_owned(),
                Captured {
                    gap: Some(anew.gap_bytes(Lsn(1_200))),
                    slot: Some(anew),
                    heartbeat_age: Some(Duration::from_millis(2_500)),
                },
            ),
            ("dropped".to_owned(), Captured::default()),
        ];
        gauges.set(true, seen.into());
        let text = metrics.encode().unwrap();
        for line in [
            "capture_database_up 1",
            r#"slot_active{connector="trade-posts"} 0.0"#,
            r#"slot_retained_bytes{connector="trade-posts"} 1000.0"#,
            r#"slot_gap_bytes{connector="trade-posts"} 300.0"#,
            r#"slot_wal_status{connector="trade-posts"} 0.0"#,
            r#"slot_wal_status{connector="dropped"} 3.0"#,
            r#"heartbeat_age_seconds{connector="trade-posts"} 2.5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains(r#"slot_gap_bytes{connector="dropped"}"#), "{text}");
        gauges.set(false, BTreeMap::new());
        assert!(metrics.encode().unwrap().contains("capture_database_up 0\n"));

        let guide = include_str!("../../../docs/operations.md");
        let names = SHOWN.iter().map(|(name, ..)| *name).chain([DATABASE_UP]);
        for name in names {
            assert!(
                guide.contains(&format!("| `{name}")) || guide.contains(&format!(", `{name}")),
                "{name} is not in docs/operations.md"
            );
        }
    }
}
