//! Configuration: flags and environment variables; `--help` is the reference.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use secrecy::SecretString;
use service_kit::{auth::AuthConfig, duration::parse as duration, origin::Origins, telemetry::LogConfig};

use crate::{
    cdc::{
        breaker::Limits,
        change_event::{HEARTBEATS_TOPIC, KEYWORDS_TOPIC},
        notification::NOTIFICATION_TOPIC,
    },
    http::{rate::Rate, session::cookie_name},
};

/// Chats about trade posts, cleaned up when their post is deleted.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Config {
    /// Address of the public API.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz, /metrics and /admin; not for the public.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "127.0.0.1:8091")]
    pub admin_listen: SocketAddr,

    /// MongoDB connection string; the server must be a replica set.
    #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
    pub mongodb_uri: SecretString,

    #[arg(long, env = "MONGODB_DATABASE", default_value = "chat")]
    pub mongodb_database: String,

    /// Confluent-compatible base URL of the schema registry.
    #[arg(long, env = "SCHEMA_REGISTRY_URL")]
    pub schema_registry_url: String,

    /// How long chats of a deleted post are kept, readable to nobody, before they are erased.
    #[arg(long, env = "ERASE_AFTER", default_value = "0s", value_parser = duration)]
    pub erase_after: Duration,

    /// Most messages, or rooms, that one command erases.
    #[arg(long, env = "ERASE_CHUNK", default_value_t = 1000, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub erase_chunk: i64,

    /// Most messages and rooms that this instance erases per second, evenly spread; without it as many as
    /// MongoDB takes. Rooms close at once either way.
    #[arg(long, env = "ERASE_RATE")]
    pub erase_rate: Option<NonZeroU32>,

    /// How long a deleted post is remembered. Longer than the retention of the captured topic.
    #[arg(long, env = "FENCE_TTL", default_value = "30d", value_parser = duration)]
    pub fence_ttl: Duration,

    /// How long notifications are kept.
    #[arg(long, env = "NOTIFICATION_TTL", default_value = "30d", value_parser = duration)]
    pub notification_ttl: Duration,

    #[command(flatten)]
    pub sweeps: SweepConfig,

    #[command(flatten)]
    pub kafka: KafkaConfig,

    #[command(flatten)]
    pub flood: FloodConfig,

    #[command(flatten)]
    pub streams: StreamConfig,

    #[command(flatten)]
    pub rates: RateConfig,

    #[command(flatten)]
    pub origins: Origins,

    /// Name of the cookie that shows a browser's token to the event stream, such as
    /// `__Secure-session`. Without it there is none.
    #[arg(long, env = "SESSION_COOKIE", value_parser = cookie_name)]
    pub session_cookie: Option<String>,

    /// Serves a page at /demo to try chats with in a browser. The value is a JSON file of the members to
    /// try it as, `[{"name": …, "token": …}]`: anybody who reaches this service gets their tokens.
    #[arg(long, env = "DEMO", value_name = "FILE", requires = "session_cookie")]
    pub demo: Option<PathBuf>,

    #[command(flatten)]
    pub auth: AuthConfig,

    #[command(flatten)]
    pub log: LogConfig,
}

/// Where the captured changes come from.
#[derive(Clone, Debug, clap::Args)]
pub struct KafkaConfig {
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    pub kafka_bootstrap_servers: String,

    /// Consumer group, shared by all instances.
    #[arg(long, env = "KAFKA_GROUP_ID", default_value = "chat-service")]
    pub kafka_group_id: String,

    /// Name of this instance in the group. With it, a quick restart moves no partitions. Name all
    /// instances of a group or none.
    #[arg(long, env = "KAFKA_GROUP_INSTANCE_ID")]
    pub kafka_group_instance_id: Option<String>,

    /// What to do when the group's offset is not in the topic any more, because records were removed
    /// before they were read. A group that never committed begins at the earliest record anyway.
    #[arg(long, env = "KAFKA_OFFSET_RESET", value_enum, default_value_t)]
    pub kafka_offset_reset: OffsetReset,

    /// The connector's `topic.prefix`.
    #[arg(long, env = "TOPIC_PREFIX", default_value = "trade")]
    pub topic_prefix: String,

    /// Further librdkafka property, `name=value`; may be repeated, or separated by commas in the
    /// environment.
    #[arg(long, env = "KAFKA_PROPERTY", value_delimiter = ',', value_parser = property)]
    pub kafka_property: Vec<(String, String)>,
}

/// How to go on where records were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OffsetReset {
    /// Exit: deletes may be among what was lost, and an operator has to know.
    #[default]
    Error,
    /// Go on with the earliest record that is left.
    Earliest,
    /// Go on with what comes next.
    Latest,
}

impl OffsetReset {
    /// The name that librdkafka has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}

impl KafkaConfig {
    /// Debezium's topic of the table `trade_posts`.
    pub fn trade_posts_topic(&self) -> String {
        format!("{}.public.trade_posts", self.topic_prefix)
    }

    /// Debezium's topic of the table `keywords`.
    pub fn keywords_topic(&self) -> String {
        format!("{}{KEYWORDS_TOPIC}", self.topic_prefix)
    }

    /// Debezium's topic of the table `debezium_heartbeat`.
    pub fn heartbeats_topic(&self) -> String {
        format!("{}{HEARTBEATS_TOPIC}", self.topic_prefix)
    }

    /// Debezium's topic of what it says of snapshots (`notification.sink.topic.name`).
    pub fn notification_topic(&self) -> String {
        format!("{NOTIFICATION_TOPIC}{}", self.topic_prefix)
    }
}

/// Looking for rooms and messages without what they belong to.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SweepConfig {
    /// Time between two sweeps for rooms and messages that should not be there; `0s`: only when an operator
    /// asks for one.
    #[arg(long, env = "ORPHAN_SWEEP_EVERY", default_value = "1h", value_parser = duration)]
    pub orphan_sweep_every: Duration,

    /// Most documents and index entries that a sweep reads per second.
    #[arg(long, env = "ORPHAN_SWEEP_RATE", default_value = "2000")]
    pub orphan_sweep_rate: NonZeroU32,

    /// Time until what looks like an orphan is looked at again. Longer than a batch of changes takes.
    #[arg(long, env = "ORPHAN_LOOK_AGAIN", default_value = "1m", value_parser = duration)]
    pub orphan_look_again: Duration,
}

/// When too many records cannot be understood.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FloodConfig {
    /// Most dead letters in a row; with one more the consumer stands still until an operator acts.
    #[arg(long, env = "DEAD_LETTERS_IN_A_ROW", default_value_t = 50)]
    pub dead_letters_in_a_row: usize,

    /// Most dead letters among the last 1000 records.
    #[arg(long, env = "DEAD_LETTERS_AMONG_1000", default_value_t = 100)]
    pub dead_letters_among_1000: usize,
}

impl FloodConfig {
    pub fn limits(self) -> Limits {
        Limits {
            run: self.dead_letters_in_a_row,
            among_last: self.dead_letters_among_1000,
        }
    }
}

/// Event streams.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamConfig {
    /// A stream ends after this time, less up to a fifth, and its reader comes back.
    #[arg(long, env = "STREAM_MAX_AGE", default_value = "1h", value_parser = duration)]
    pub stream_max_age: Duration,

    /// Time between two comments that keep a silent stream open.
    #[arg(long, env = "STREAM_HEARTBEAT", default_value = "15s", value_parser = duration)]
    pub stream_heartbeat: Duration,

    /// Time between two looks into MongoDB for events that the change stream did not bring.
    #[arg(long, env = "STREAM_SWEEP", default_value = "3s", value_parser = duration)]
    pub stream_sweep: Duration,

    /// Most open streams of one member on this instance.
    #[arg(long, env = "STREAMS_PER_MEMBER", default_value_t = 10)]
    pub streams_per_member: usize,

    /// Most open streams on this instance.
    #[arg(long, env = "STREAMS_PER_INSTANCE", default_value_t = 20_000)]
    pub streams_per_instance: usize,
}

/// How often one member may act on this instance: `10/s:40` is ten times a second and forty at once;
/// the units are s, m and h; `0` is no limit.
#[derive(Clone, Debug, clap::Args)]
pub struct RateConfig {
    /// Messages that one member may send here: so many a second (m: minute, h: hour), and so many at
    /// once; 0 is no limit.
    #[arg(long, env = "SEND_RATE", default_value = "10/s:40")]
    pub send_rate: Rate,

    /// Rooms that one member may open here.
    #[arg(long, env = "ROOM_RATE", default_value = "2/s:20")]
    pub room_rate: Rate,

    /// Event streams that one member may open here.
    #[arg(long, env = "STREAM_RATE", default_value = "1/s:20")]
    pub stream_rate: Rate,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not name=value"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}
