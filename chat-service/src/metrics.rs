//! The metrics of this service besides HTTP's. Names are constants here and nowhere else.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use service_kit::metrics::Metrics;

pub const CDC_RECORDS: &str = "cdc_records";
pub const CDC_BATCH_RECORDS: &str = "cdc_batch_records";
pub const CDC_BATCH_RETRIES: &str = "cdc_batch_retries";
pub const CDC_LAG_RECORDS: &str = "cdc_lag_records";
pub const ROOMS_CLOSED: &str = "rooms_closed";
pub const MESSAGES_ERASED: &str = "messages_erased";
pub const STREAMS_OPEN: &str = "streams_open";
pub const STREAMS_CUT: &str = "streams_cut";

/// Handles to the registered metrics; clones share them.
#[derive(Clone, Debug)]
pub struct ChatMetrics {
    records: Family<Outcome, Counter>,
    batch: Histogram,
    retries: Counter,
    lag: Family<Partition, Gauge>,
    rooms_closed: Counter,
    messages_erased: Counter,
    pub streams_open: Gauge,
    /// Streams ended because their reader was too slow.
    pub streams_cut: Counter<u64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    partition: i32,
}

impl ChatMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        metrics.register(|registry| {
            let this = Self {
                records: Family::default(),
                batch: Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]),
                retries: Counter::default(),
                lag: Family::default(),
                rooms_closed: Counter::default(),
                messages_erased: Counter::default(),
                streams_open: Gauge::default(),
                streams_cut: Counter::default(),
            };
            registry.register(
                CDC_RECORDS,
                "Captured records by what became of them",
                this.records.clone(),
            );
            registry.register(CDC_BATCH_RECORDS, "Records in a batch", this.batch.clone());
            registry.register(
                CDC_BATCH_RETRIES,
                "Batches tried again because a server was away",
                this.retries.clone(),
            );
            registry.register(
                CDC_LAG_RECORDS,
                "Records behind the end of the partition, as librdkafka sees it",
                this.lag.clone(),
            );
            registry.register(
                ROOMS_CLOSED,
                "Rooms closed because their post was deleted",
                this.rooms_closed.clone(),
            );
            registry.register(
                MESSAGES_ERASED,
                "Messages erased with their rooms",
                this.messages_erased.clone(),
            );
            registry.register(STREAMS_OPEN, "Open event streams", this.streams_open.clone());
            registry.register(
                STREAMS_CUT,
                "Event streams ended because their reader was too slow",
                this.streams_cut.clone(),
            );
            this
        })
    }

    pub fn batch_done(&self, understood: usize, dead: usize) {
        let count = |outcome, records: usize| {
            self.records
                .get_or_create(&Outcome { outcome })
                .inc_by(records as u64);
        };
        count("applied", understood);
        count("dead_letter", dead);
        #[expect(clippy::cast_precision_loss, reason = "a batch has some hundred records")]
        self.batch.observe((understood + dead) as f64);
    }

    pub fn batch_retried(&self) {
        self.retries.inc();
    }

    pub fn lag(&self, partition: i32, records: i64) {
        self.lag.get_or_create(&Partition { partition }).set(records);
    }

    pub fn rooms_closed(&self, rooms: usize) {
        self.rooms_closed.inc_by(rooms as u64);
    }

    pub fn messages_erased(&self, messages: u64) {
        self.messages_erased.inc_by(messages);
    }
}
