//! What a Debezium record says about a trade post.
//!
//! Invariant: a [`ChangeEvent`] is only made from a record that was understood whole. Every byte of
//! key and value was consumed, the operation is a known one, ids, positions and times are sound, and of
//! the old row (`before`) nothing is read: with the default replica identity all of it but the key is
//! filled with defaults.

use apache_avro::{error::Details, reader::datum::GenericDatumReader};
use serde::de::DeserializeOwned;

use super::{excerpt::excerpt, notification::Notification, record::record, wire::WireError};

mod keyword;

pub use keyword::{KEYWORDS_TOPIC, Keyword, KeywordChange, KeywordEvent, decode_keyword};

/// Header that Debezium puts on the delete of a row whose primary key was changed.
pub const MOVED_TO: &str = "__debezium.newkey";

/// Header that Debezium puts on the create of a row whose primary key was another one before.
pub const MOVED_FROM: &str = "__debezium.oldkey";

/// Schema and table that records are about. A delete of another table's row would look just like one of ours.
const TABLE: (&str, &str) = ("public", "trade_posts");

/// In milliseconds since the epoch; its times can still be written down.
const YEAR_10000: i64 = 253_402_300_800_000;

/// What the name of the heartbeats' topic ends with, behind the topic prefix.
pub const HEARTBEATS_TOPIC: &str = ".public.debezium_heartbeat";

/// Schema and table that heartbeats are written to.
const HEARTBEATS: (&str, &str) = ("public", "debezium_heartbeat");

/// Where a record lies in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
}

/// A record that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Understood {
    pub op: Op,
    /// When the change was committed, in milliseconds since the epoch by PostgreSQL's clock; a
    /// tombstone does not tell.
    pub committed_ms: Option<i64>,
    /// What it says of posts or keywords, if it is about them.
    pub event: Option<Event>,
    /// What Debezium says of a snapshot that somebody asked for.
    pub notification: Option<Notification>,
    /// What the connector began with, if the record is of that.
    pub beginning: Option<Beginning>,
}

/// What a connector begins with that knows of nothing before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A snapshot that reads the whole table at once, as of this place in the log. An incremental one goes along with
    /// the stream and is none.
    Snapshot { lsn: i64 },
    /// The first transaction that it met. All records of the transaction say when it was committed, and each has an
    /// LSN of its own. Whether a snapshot lies before it is not in them.
    Stream { lsn: i64, committed_ms: i64 },
}

impl Beginning {
    pub fn lsn(self) -> i64 {
        match self {
            Self::Snapshot { lsn } | Self::Stream { lsn, .. } => lsn,
        }
    }
}

impl Understood {
    /// A record of this kind, of which nothing is known.
    pub fn nothing(op: Op) -> Self {
        Self {
            op,
            committed_ms: None,
            event: None,
            notification: None,
            beginning: None,
        }
    }

    /// The row has come from another id, so its post is none that was created now.
    pub fn moved_here(&mut self) {
        if let Some(Event::Post(ChangeEvent {
            change: Change::Upsert { arrival, .. },
            ..
        })) = &mut self.event
        {
            *arrival = arrival.map(|_| Arrival::Moved);
        }
    }
}

/// The kinds of record that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Create,
    Read,
    /// A read of an incremental snapshot. Its position is that of the window it was read in, so it may lie
    /// behind changes that were not committed yet and that it does not show.
    IncrementalRead,
    Update,
    Delete,
    Truncate,
    /// A logical decoding message; nothing here sends any.
    Message,
    Tombstone,
    Heartbeat,
    Notification,
}

impl Op {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::IncrementalRead => "incremental_read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Message => "message",
            Self::Tombstone => "tombstone",
            Self::Heartbeat => "heartbeat",
            Self::Notification => "notification",
        }
    }

    /// The operation that Debezium has this letter for.
    fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "c" => Self::Create,
            "r" => Self::Read,
            "u" => Self::Update,
            "d" => Self::Delete,
            "t" => Self::Truncate,
            "m" => Self::Message,
            _ => return None,
        })
    }
}

/// What a record says of posts or keywords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Post(ChangeEvent),
    /// The whole table was emptied: operation `t`.
    Truncate {
        lsn: i64,
        times: CaptureTimes,
    },
    Keyword(KeywordEvent),
    /// The whole table of keywords was emptied.
    KeywordsTruncated {
        lsn: i64,
    },
}

/// One change of one trade post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    pub trade_post_id: i64,
    pub position: Position,
    pub change: Change,
}

/// The kind of change, with what that kind is known to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row exists and looks like this: operations `c`, which has an `arrival`, `r` and `u`.
    Upsert {
        lsn: i64,
        post: Post,
        arrival: Option<Arrival>,
    },
    /// The row was deleted: operation `d`.
    Delete { lsn: i64, times: CaptureTimes },
    /// The row has another id now: operation `d` with the header [`MOVED_TO`].
    Move { lsn: i64, to: i64 },
    /// A null value. It says that the key is gone and carries no LSN.
    Tombstone,
}

/// How a row has come to its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Created,
    /// It had another id before.
    Moved,
}

/// The columns that chats need of a trade post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub seller_id: i64,
    pub title: String,
    pub status: String,
}

/// When a change was committed and captured, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureTimes {
    /// Commit time by PostgreSQL's clock (`source.ts_ms`).
    pub committed_ms: i64,
    /// When Debezium made the record (`ts_ms`).
    pub captured_ms: i64,
}

/// Why a record is not a change event. Every one of these is permanent. Texts in them are excerpts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRecord {
    #[error("{part}")]
    Wire { part: Part, source: WireError },
    #[error("{part}: it does not fit its writer schema, or a needed field is missing: {reason}")]
    Avro { part: Part, reason: String },
    #[error("{part}: {left} bytes are left over behind the Avro body")]
    TrailingBytes { part: Part, left: usize },
    #[error("value: it is about the table \"{0}\"")]
    OtherTable(String),
    #[error("value: unknown operation \"{0}\"")]
    UnknownOperation(String),
    #[error("header {MOVED_TO}: \"{0}\" is not another key with a positive id")]
    MovedTo(String),
    #[error("value: a {0} has no row in \"after\"")]
    MissingRow(&'static str),
    #[error("value: a {0} has a row in \"after\"")]
    UnexpectedRow(&'static str),
    #[error("value: neither source.lsn nor source.sequence carries a position")]
    MissingLsn,
    #[error("value: position {0} in the log is not positive")]
    InvalidLsn(i64),
    #[error("value: source.sequence \"{0}\" is not a JSON array of two LSNs")]
    MalformedSequence(String),
    #[error("value: {0} ms since the epoch is no time of a change")]
    InvalidTime(i64),
    #[error("key: the record has none")]
    MissingKey,
    #[error("value: the notification has none")]
    MissingValue,
    #[error("key: a truncate is of the whole table and has none")]
    UnexpectedKey,
    #[error("key: id {0} is not positive")]
    InvalidId(i64),
    #[error("value: seller id {0} is not positive")]
    InvalidSeller(i64),
    #[error("value: member id {0} is not positive")]
    InvalidMember(i64),
    #[error("value: the row's id {row} is not the key's id {key}")]
    KeyMismatch { key: i64, row: i64 },
}

/// The half of a record an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Key,
    Value,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

/// A body and the reader that was made for the schema it was written with.
pub type Datum<'a> = (&'a GenericDatumReader<'a>, &'a [u8]);

/// A record whose wire headers were read and whose writer schemas are at hand.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub position: Position,
    pub key: Option<Datum<'a>>,
    pub value: Option<Datum<'a>>,
    /// The header [`MOVED_TO`]: the new key as JSON text.
    pub moved_to: Option<&'a [u8]>,
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Reads what `record` of the table's topic says.
pub fn decode(record: Record<'_>) -> Result<Understood, MalformedRecord> {
    let Some(value) = record.value else {
        let event = post_event(key(record.key)?, record.position, Change::Tombstone);
        return Ok(Understood {
            event: Some(event),
            ..Understood::nothing(Op::Tombstone)
        });
    };
    let envelope: Envelope = read(Part::Value, value)?;
    let op = operation(&envelope.op, &envelope.source)?;
    let times = times(&envelope.source, envelope.ts_ms)?;
    let beginning = beginning(op, &envelope.source, times)?;
    let event = match op {
        Op::Message => None,
        _ if !envelope.source.is_of(TABLE) => return Err(envelope.source.other_table()),
        Op::Truncate if record.key.is_some() => return Err(MalformedRecord::UnexpectedKey),
        Op::Truncate | Op::Delete if envelope.after.is_some() => {
            return Err(MalformedRecord::UnexpectedRow(op.name()));
        }
        Op::Truncate => Some(Event::Truncate {
            lsn: lsn(&envelope.source)?,
            times,
        }),
        Op::Create | Op::Read | Op::IncrementalRead | Op::Update => {
            let key = key(record.key)?;
            Some(post_event(key, record.position, upsert(key, op, envelope)?))
        }
        Op::Delete => {
            let key = key(record.key)?;
            let lsn = lsn(&envelope.source)?;
            let change = match record.moved_to {
                Some(to) => Change::Move {
                    lsn,
                    to: new_key(to, key)?,
                },
                None => Change::Delete { lsn, times },
            };
            Some(post_event(key, record.position, change))
        }
        Op::Tombstone | Op::Heartbeat | Op::Notification => None,
    };
    Ok(Understood {
        op,
        committed_ms: Some(times.committed_ms),
        event,
        notification: None,
        beginning,
    })
}

/// Reads a record of the heartbeats' topic: of a row that the connector writes now and then, and has then read from
/// the log. So it is the first that a connector meets which begins anew where nothing else changes; and a snapshot of
/// the whole database has it, also where no post is left.
pub fn heartbeat(value: Datum<'_>) -> Result<Understood, MalformedRecord> {
    let Heartbeat { op, source } = read(Part::Value, value)?;
    let op = operation(&op, &source)?;
    if op != Op::Message && !source.is_of(HEARTBEATS) {
        return Err(source.other_table());
    }
    let times = times(&source, None)?;
    Ok(Understood {
        op: Op::Heartbeat,
        committed_ms: Some(times.committed_ms),
        event: None,
        notification: None,
        beginning: beginning(op, &source, times)?,
    })
}

fn operation(letter: &str, source: &Source) -> Result<Op, MalformedRecord> {
    match Op::of(letter) {
        Some(Op::Read) if source.lsn.is_none() => Ok(Op::IncrementalRead),
        Some(op) => Ok(op),
        None => Err(MalformedRecord::UnknownOperation(excerpt(letter))),
    }
}

fn times(source: &Source, captured_ms: Option<i64>) -> Result<CaptureTimes, MalformedRecord> {
    Ok(CaptureTimes {
        committed_ms: time(source.ts_ms)?,
        captured_ms: time(captured_ms.unwrap_or(source.ts_ms))?,
    })
}

fn beginning(op: Op, source: &Source, times: CaptureTimes) -> Result<Option<Beginning>, MalformedRecord> {
    Ok(match op {
        Op::Read if source.is_of_whole_table() => Some(Beginning::Snapshot { lsn: lsn(source)? }),
        Op::Create | Op::Update | Op::Delete | Op::Truncate if source.knows_no_commit() => {
            Some(Beginning::Stream {
                lsn: lsn(source)?,
                committed_ms: times.committed_ms,
            })
        }
        _ => None,
    })
}

fn post_event(trade_post_id: i64, position: Position, change: Change) -> Event {
    Event::Post(ChangeEvent {
        trade_post_id,
        position,
        change,
    })
}

fn key(key: Option<Datum<'_>>) -> Result<i64, MalformedRecord> {
    let KeyRecord { id } = read(Part::Key, key.ok_or(MalformedRecord::MissingKey)?)?;
    if id > 0 {
        Ok(id)
    } else {
        Err(MalformedRecord::InvalidId(id))
    }
}

fn upsert(key: i64, op: Op, envelope: Envelope) -> Result<Change, MalformedRecord> {
    let Some(row) = envelope.after else {
        return Err(MalformedRecord::MissingRow(op.name()));
    };
    if row.id != key {
        return Err(MalformedRecord::KeyMismatch { key, row: row.id });
    }
    if row.seller_id <= 0 {
        return Err(MalformedRecord::InvalidSeller(row.seller_id));
    }
    Ok(Change::Upsert {
        lsn: lsn(&envelope.source)?,
        arrival: (op == Op::Create).then_some(Arrival::Created),
        post: Post {
            seller_id: row.seller_id,
            title: row.title,
            status: row.status,
        },
    })
}

/// The id in the header [`MOVED_TO`], which is JSON text such as `{"id":77778}`.
fn new_key(text: &[u8], old: i64) -> Result<i64, MalformedRecord> {
    match serde_json::from_slice(text) {
        Ok(KeyRecord { id }) if id > 0 && id != old => Ok(id),
        _ => Err(MalformedRecord::MovedTo(excerpt(&String::from_utf8_lossy(text)))),
    }
}

/// The record's position in the write-ahead log.
///
/// Reads of an incremental snapshot have no `lsn`; theirs is the second of `sequence`, JSON text
/// `["<last commit LSN>","<this LSN>"]`.
fn lsn(source: &Source) -> Result<i64, MalformedRecord> {
    let lsn = match (source.lsn, source.sequence.as_deref()) {
        (Some(lsn), _) => lsn,
        (None, Some(sequence)) => {
            second_of(sequence).ok_or_else(|| MalformedRecord::MalformedSequence(excerpt(sequence)))?
        }
        (None, None) => return Err(MalformedRecord::MissingLsn),
    };
    if lsn > 0 {
        Ok(lsn)
    } else {
        Err(MalformedRecord::InvalidLsn(lsn))
    }
}

fn second_of(sequence: &str) -> Option<i64> {
    let [_, this]: [Option<String>; 2] = serde_json::from_str(sequence).ok()?;
    this?.parse().ok()
}

/// A time, if it is one that can be calculated with.
fn time(ms: i64) -> Result<i64, MalformedRecord> {
    if (0..YEAR_10000).contains(&ms) {
        Ok(ms)
    } else {
        Err(MalformedRecord::InvalidTime(ms))
    }
}

/// Decodes one datum and checks that nothing is left over: a datum that was cut, or read with another
/// schema than it was written with, hardly ever ends where its bytes do.
pub(super) fn read<T: DeserializeOwned>(
    part: Part,
    (reader, mut body): Datum<'_>,
) -> Result<T, MalformedRecord> {
    let datum = reader
        .read_deser(&mut body)
        .map_err(|error| MalformedRecord::Avro {
            part,
            reason: reason(&error),
        })?;
    if body.is_empty() {
        Ok(datum)
    } else {
        Err(MalformedRecord::TrailingBytes {
            part,
            left: body.len(),
        })
    }
}

fn reason(error: &apache_avro::Error) -> String {
    excerpt(&match error.details() {
        // Its text has the schema before what is wrong, and that can be long.
        Details::DeserializeSchemaAware {
            value_type, value, ..
        } => format!("not a {value_type}: {value}"),
        // One of ours, and once for each record that the field is in.
        Details::DeserializeValue(text) => text.replace("Failed to deserialize Avro value into value: ", ""),
        _ => error.to_string(),
    })
}

record! {
    struct KeyRecord {
        id: i64,
    }
}

record! {
    struct Heartbeat {
        op: String,
        source: Source,
    }
}

record! {
    struct Envelope {
        op: String,
        after: Option<Row>,
        source: Source,
        ts_ms: Option<i64>,
    }
}

record! {
    struct Row {
        id: i64,
        seller_id: i64,
        title: String,
        status: String,
    }
}

record! {
    struct Source {
        lsn: Option<i64>,
        sequence: Option<String>,
        snapshot: Option<String>,
        ts_ms: i64,
        schema: String,
        table: String,
    }
}

impl Source {
    fn is_of(&self, table: (&str, &str)) -> bool {
        (self.schema.as_str(), self.table.as_str()) == table
    }

    fn other_table(&self) -> MalformedRecord {
        MalformedRecord::OtherTable(excerpt(&format!("{}.{}", self.schema, self.table)))
    }

    /// Whether the row was read by a snapshot that reads the table at once. Debezium marks its first and last
    /// rows, too.
    fn is_of_whole_table(&self) -> bool {
        let marked = self.snapshot.as_deref();
        marked.is_some_and(|mark| !matches!(mark, "false" | "incremental"))
    }

    /// Whether the connector had met the end of no transaction yet: see [`lsn`].
    fn knows_no_commit(&self) -> bool {
        let sequence = self.sequence.as_deref();
        sequence.is_some_and(|sequence| sequence.starts_with("[null,"))
    }
}
