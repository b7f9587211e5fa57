//! The metrics of this service besides HTTP's. Names are constants here and nowhere else.

use std::{sync::Arc, time::Duration};

use mongodb::bson::DateTime;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Metric, Registry},
};
use service_kit::metrics::Metrics;

use crate::{
    cdc::{change_event::Understood, status::Status},
    orphan::OrphanKind,
    reconciliation::Ended,
    store::now,
};

pub const CDC_RECORDS: &str = "cdc_records";
pub const CDC_RECORD_DELAY: &str = "cdc_record_delay_seconds";
pub const CDC_BATCH_RECORDS: &str = "cdc_batch_records";
pub const CDC_BATCH_RETRIES: &str = "cdc_batch_retries";
pub const CDC_STAGE_DURATION: &str = "cdc_stage_duration_seconds";
pub const CDC_LAG_RECORDS: &str = "cdc_lag_records";
pub const CDC_FRESHNESS: &str = "cdc_freshness_seconds";
pub const CDC_HEARTBEAT_AGE: &str = "cdc_heartbeat_age_seconds";
pub const CDC_PAUSES: &str = "cdc_pauses";
pub const CDC_WAITING: &str = "cdc_waiting";
pub const CDC_STOOD_STILL: &str = "cdc_partition_stood_still";
pub const CDC_SUSPECTED_GAPS: &str = "cdc_suspected_gaps";
pub const DEAD_LETTERS: &str = "dead_letters";
pub const FENCE_HITS: &str = "fence_hits";
pub const RATE_LIMITED: &str = "rate_limited";
pub const ROOMS_CLOSED: &str = "rooms_closed";
pub const DELETIONS_UNFINISHED: &str = "deletions_unfinished";
pub const DELETIONS_OLDEST_AGE: &str = "deletions_oldest_unfinished_age_seconds";
pub const MEMBER_ERASURES_UNFINISHED: &str = "member_erasures_unfinished";
pub const ORPHANS: &str = "orphans";
pub const MESSAGES_ERASED: &str = "messages_erased";
pub const TRADE_POSTS_TO_MATCH: &str = "trade_posts_to_match";
pub const MATCHES_TOLD: &str = "trade_post_matches_told";
pub const RECONCILIATIONS: &str = "reconciliations";
pub const RECONCILIATIONS_UNFINISHED: &str = "reconciliations_unfinished";
pub const POSTS_RECONCILED: &str = "posts_reconciled";
pub const STREAMS_OPEN: &str = "streams_open";
pub const STREAMS_ENDED: &str = "streams_ended";
pub const STREAMS_OVERRUN: &str = "streams_overrun";
pub const STREAMS_REMINDED: &str = "streams_reminded";
pub const MONGODB_CHECKED_OUT: &str = "mongodb_connections_checked_out";

const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// Handles to the registered metrics; clones share them.
#[derive(Clone, Debug)]
pub struct ChatMetrics {
    records: Family<Record, Counter>,
    delay: Histogram,
    batch: Histogram,
    retries: Counter,
    stages: Family<StageLabel, Histogram>,
    lag: Family<Partition, Gauge>,
    pauses: Family<Cause, Counter>,
    waiting: Family<Cause, Gauge>,
    stood_still: Family<Partition, Counter>,
    pub suspected_gaps: Gauge,
    pub dead_letters: Gauge,
    fence_hits: Family<Refused, Counter>,
    rate_limited: Family<Refused, Counter>,
    rooms_closed: Counter,
    pub deletions_unfinished: Gauge,
    /// Seconds.
    pub deletions_oldest_age: Gauge,
    pub member_erasures_unfinished: Gauge,
    orphans: Family<OfKind, Gauge>,
    messages_erased: Counter,
    matches: Matches,
    repairs: Repairs,
    pub streams_open: Gauge,
    streams_ended: Family<Cause, Counter>,
    /// Times that a reader was slower than its events.
    pub streams_overrun: Counter,
    streams_reminded: Counter,
    checked_out: Family<Client, Gauge>,
}

/// Why an event stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// It was open for long enough.
    Age,
    /// The reader's token expired.
    Token,
    Shutdown,
    /// MongoDB could not be read.
    Failed,
    /// The reader went away.
    Gone,
    /// It went away, or was cut, with events waiting for it.
    Slow,
}

/// A MongoDB client of this instance, with a pool of its own.
#[derive(Clone, Copy, Debug)]
pub enum MongoClient {
    /// For requests and captured changes.
    Requests,
    /// For the change stream and for streams that read on.
    Live,
}

/// What a batch goes through.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Records are read and dead letters kept.
    Decode,
    /// The projection is written.
    Fence,
    /// Rooms are closed and their members told.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Record {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    topic: String,
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Client {
    client: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    request: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

impl ChatMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        metrics.register(|registry| {
            let mut with = Registration(registry);
            Self {
                records: with.family(
                    CDC_RECORDS,
                    "Captured records by operation and what became of them",
                ),
                delay: with.metric(
                    CDC_RECORD_DELAY,
                    "Time from a change's commit in PostgreSQL until its effect was durable here",
                    Histogram::new(SECONDS),
                ),
                batch: with.metric(
                    CDC_BATCH_RECORDS,
                    "Records in a batch",
                    Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]),
                ),
                retries: with.metric(
                    CDC_BATCH_RETRIES,
                    "Tries of batches that failed and were repeated",
                    Counter::default(),
                ),
                stages: with.metric(
                    CDC_STAGE_DURATION,
                    "Time that a batch took in a stage",
                    Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> _),
                ),
                lag: with.family(
                    CDC_LAG_RECORDS,
                    "Records behind the end of the partition, as librdkafka sees it",
                ),
                pauses: with.family(CDC_PAUSES, "Times that the consumer had to wait, by cause"),
                waiting: with.family(CDC_WAITING, "1 while the consumer waits, by cause"),
                stood_still: with.family(
                    CDC_STOOD_STILL,
                    "Times that a partition had records and gave none for a minute",
                ),
                suspected_gaps: with.gauge(
                    CDC_SUSPECTED_GAPS,
                    "Times that changes may have been missed and nobody has seen to it",
                ),
                dead_letters: with.gauge(DEAD_LETTERS, "Dead letters that nobody has replayed or discarded"),
                fence_hits: with.family(
                    FENCE_HITS,
                    "Requests refused because the post was deleted or the room closed",
                ),
                rate_limited: with.family(
                    RATE_LIMITED,
                    "Requests refused because the member made too many of their kind",
                ),
                rooms_closed: with.metric(
                    ROOMS_CLOSED,
                    "Rooms closed because their post was deleted",
                    Counter::default(),
                ),
                deletions_unfinished: with.metric(
                    DELETIONS_UNFINISHED,
                    "Deleted posts whose chats are closed and not erased yet",
                    Gauge::default(),
                ),
                deletions_oldest_age: with.metric(
                    DELETIONS_OLDEST_AGE,
                    "Age of the oldest of them since it could be erased",
                    Gauge::default(),
                ),
                member_erasures_unfinished: with.metric(
                    MEMBER_ERASURES_UNFINISHED,
                    "Members of whom not everything is erased that is to be",
                    Gauge::default(),
                ),
                orphans: with.family(
                    ORPHANS,
                    "Rooms, or what is left of rooms, without what they belong to, by kind",
                ),
                messages_erased: with.metric(
                    MESSAGES_ERASED,
                    "Messages erased with their rooms or their members",
                    Counter::default(),
                ),
                matches: Matches::new(&mut with),
                repairs: Repairs::new(&mut with),
                streams_open: with.metric(STREAMS_OPEN, "Open event streams", Gauge::default()),
                streams_ended: with.family(STREAMS_ENDED, "Event streams that ended, by cause"),
                streams_overrun: with.metric(
                    STREAMS_OVERRUN,
                    "Times that a reader was slower than its events and was sent on from MongoDB",
                    Counter::default(),
                ),
                streams_reminded: with.metric(
                    STREAMS_REMINDED,
                    "Event streams that had events which the change stream did not bring",
                    Counter::default(),
                ),
                checked_out: with.family(
                    MONGODB_CHECKED_OUT,
                    "MongoDB connections in use, by the client that they belong to",
                ),
            }
        })
    }

    pub fn batch_done(&self, understood: &[Understood], dead: usize, now: DateTime) {
        let count = |op, outcome, records: usize| {
            self.records
                .get_or_create(&Record { op, outcome })
                .inc_by(records as u64);
        };
        for record in understood {
            let outcome = if record.event.is_some() {
                "applied"
            } else {
                "ignored"
            };
            count(record.op.name(), outcome, 1);
            if let (Some(committed_ms), Some(_)) = (record.committed_ms, &record.event) {
                self.delay.observe(seconds(now.timestamp_millis() - committed_ms));
            }
        }
        if dead > 0 {
            count("unknown", "dead_letter", dead);
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has some hundred records")]
        self.batch.observe((understood.len() + dead) as f64);
        self.waiting.clear();
    }

    pub fn batch_retried(&self) {
        self.retries.inc();
    }

    pub fn stage(&self, stage: Stage, took: Duration) {
        let stage = match stage {
            Stage::Decode => "decode",
            Stage::Fence => "fence",
            Stage::Close => "close",
        };
        self.stages
            .get_or_create(&StageLabel { stage })
            .observe(took.as_secs_f64());
    }

    /// The consumer waits for `cause` from now on.
    pub fn paused(&self, cause: &'static str) {
        self.pauses.get_or_create(&Cause { cause }).inc();
        self.waiting.clear();
        self.waiting.get_or_create(&Cause { cause }).set(1);
    }

    /// The lag of the partitions that are assigned; of others nothing is known.
    pub fn lag(&self, partitions: impl Iterator<Item = ((String, i32), i64)>) {
        self.lag.clear();
        for ((topic, partition), records) in partitions {
            self.lag
                .get_or_create(&Partition { topic, partition })
                .set(records);
        }
    }

    pub fn stood_still(&self, topic: String, partition: i32) {
        self.stood_still
            .get_or_create(&Partition { topic, partition })
            .inc();
    }

    /// A request met the fence of a deleted post or a closed room.
    pub fn fence_hit(&self, request: &'static str) {
        self.fence_hits.get_or_create(&Refused { request }).inc();
    }

    /// A member did something too often.
    pub fn rate_limited(&self, request: &'static str) {
        self.rate_limited.get_or_create(&Refused { request }).inc();
    }

    pub fn rooms_closed(&self, rooms: usize) {
        self.rooms_closed.inc_by(rooms as u64);
    }

    pub fn reconciliation_ended(&self, ended: Ended) {
        let outcome = match ended {
            Ended::Done => "done",
            Ended::Failed => "failed",
            Ended::Cancelled => "cancelled",
        };
        self.repairs.ended.get_or_create(&Outcome { outcome }).inc();
    }

    pub fn reconciliations_unfinished(&self, number: i64) {
        self.repairs.unfinished.set(number);
    }

    /// A reconciliation has closed so many posts and rooms.
    pub fn posts_reconciled(&self, posts: i64, rooms: i64) {
        self.repairs.posts.inc_by(posts.unsigned_abs());
        self.rooms_closed.inc_by(rooms.unsigned_abs());
    }

    pub fn stream_ended(&self, end: StreamEnd) {
        let cause = match end {
            StreamEnd::Age => "age",
            StreamEnd::Token => "token",
            StreamEnd::Shutdown => "shutdown",
            StreamEnd::Failed => "mongodb",
            StreamEnd::Gone => "gone",
            StreamEnd::Slow => "slow",
        };
        self.streams_ended.get_or_create(&Cause { cause }).inc();
    }

    pub fn streams_reminded(&self, streams: usize) {
        self.streams_reminded.inc_by(streams as u64);
    }

    /// How many connections of `client` are in use.
    pub fn checked_out(&self, client: MongoClient) -> Gauge {
        let client = match client {
            MongoClient::Requests => "requests",
            MongoClient::Live => "live",
        };
        self.checked_out.get_or_create_owned(&Client { client })
    }

    /// How many orphans of a kind there are.
    pub fn orphans(&self, kind: OrphanKind, number: u64) {
        let kind = kind.name();
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.orphans.get_or_create(&OfKind { kind }).set(number);
    }

    pub fn messages_erased(&self, messages: u64) {
        self.messages_erased.inc_by(messages);
    }

    /// So many new posts are to be matched.
    pub fn posts_to_match(&self, posts: u64) {
        let posts = i64::try_from(posts).unwrap_or(i64::MAX);
        self.matches.posts.set(posts);
    }

    pub fn matches_told(&self, members: u64) {
        self.matches.told.inc_by(members);
    }
}

/// Of new posts with keywords.
#[derive(Clone, Debug)]
struct Matches {
    posts: Gauge,
    told: Counter,
}

impl Matches {
    fn new(with: &mut Registration<'_>) -> Self {
        Self {
            posts: with.metric(
                TRADE_POSTS_TO_MATCH,
                "New posts that are to be matched with keywords",
                Gauge::default(),
            ),
            told: with.metric(
                MATCHES_TOLD,
                "Members told of a new post with one of their keywords",
                Counter::default(),
            ),
        }
    }
}

/// Of missed deletes.
#[derive(Clone, Debug)]
struct Repairs {
    ended: Family<Outcome, Counter>,
    unfinished: Gauge,
    posts: Counter,
}

impl Repairs {
    fn new(with: &mut Registration<'_>) -> Self {
        Self {
            ended: with.family(
                RECONCILIATIONS,
                "Repairs of missed deletes that have ended, by outcome",
            ),
            unfinished: with.metric(
                RECONCILIATIONS_UNFINISHED,
                "1 while a repair of missed deletes has not ended",
                Gauge::default(),
            ),
            posts: with.metric(
                POSTS_RECONCILED,
                "Posts closed by repairs because their delete was missed",
                Counter::default(),
            ),
        }
    }
}

struct Registration<'a>(&'a mut Registry);

impl Registration<'_> {
    fn metric<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.metric(name, help, Gauge::default())
    }

    fn family<L, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        Family<L, M>: Metric + Clone + Default,
    {
        self.metric(name, help, Family::default())
    }
}

/// Ages, which grow between two events: they are taken when they are asked for.
#[derive(Debug)]
pub struct Freshness(pub Arc<Status>);

impl Collector for Freshness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let state = self.0.get();
        let now = now().timestamp_millis();
        let effect = state.last_effect.map(|effect| effect.committed_at);
        let newest = effect.max(state.heartbeat);
        let ages = [
            (
                CDC_FRESHNESS,
                "Age of the newest change or heartbeat of the database that has taken effect here",
                newest,
            ),
            (
                CDC_HEARTBEAT_AGE,
                "Age of Debezium's last heartbeat, where this instance reads heartbeats",
                state.heartbeat,
            ),
        ];
        for (name, help, since) in ages {
            if let Some(since) = since {
                let age = ConstGauge::new(seconds(now - since.timestamp_millis()));
                let metric = encoder.encode_descriptor(name, help, None, age.metric_type())?;
                age.encode(metric)?;
            }
        }
        Ok(())
    }
}

/// Clocks of two machines may differ; a time is not negative.
fn seconds(millis: i64) -> f64 {
    Duration::from_millis(millis.max(0).unsigned_abs()).as_secs_f64()
}
