//! What a Debezium record says about a trade post.
//!
//! Invariant: a [`ChangeEvent`] is only made from a record that was understood whole. Every byte of
//! key and value was consumed, the operation is a known one, and of the old row (`before`) nothing
//! is read: with the default replica identity all of it but the key is filled with defaults.

use apache_avro::reader::datum::GenericDatumReader;
use serde::{Deserialize, de::DeserializeOwned};

use super::wire::WireError;

/// Header that Debezium puts on the delete of a row whose primary key was changed.
pub const MOVED_TO: &str = "__debezium.newkey";

/// Where a record lies in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
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
    /// The row exists and looks like this: operations `c`, `r` and `u`.
    Upsert { lsn: i64, post: Post },
    /// The row was deleted: operation `d`.
    Delete { lsn: i64, times: CaptureTimes },
    /// A null value. It says that the key is gone and carries no LSN.
    Tombstone,
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

/// Why a record is not a change event. Every one of these is permanent.
#[derive(Debug, thiserror::Error)]
pub enum MalformedRecord {
    #[error("{part}: {source}")]
    Wire { part: Part, source: WireError },
    #[error("{part}: the bytes do not fit the writer schema or a needed field is missing")]
    Avro {
        part: Part,
        source: Box<apache_avro::Error>,
    },
    #[error("{part}: {left} bytes are left over behind the Avro body")]
    TrailingBytes { part: Part, left: usize },
    #[error("value: unknown operation {0:?}")]
    UnknownOperation(String),
    #[error("value: TRUNCATE is not carried out yet; the rooms of the posts it removed stay open")]
    Truncate,
    #[error("header {MOVED_TO}: a changed key is not carried out yet; the rooms stay with the old id")]
    KeyChange,
    #[error("value: operation {0:?} has no row in \"after\"")]
    MissingRow(String),
    #[error("value: neither source.lsn nor source.sequence carries a position")]
    MissingLsn,
    #[error("value: source.sequence {0:?} is not a JSON array of two LSNs")]
    MalformedSequence(String),
    #[error("key: the record has none")]
    MissingKey,
    #[error("key: trade post id {0} is not positive")]
    InvalidId(i64),
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
pub type Datum<'a> = (&'a GenericDatumReader<'static>, &'a [u8]);

/// A record whose wire headers were read and whose writer schemas are at hand.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub position: Position,
    pub key: Option<Datum<'a>>,
    pub value: Option<Datum<'a>>,
    /// Whether the header [`MOVED_TO`] is there.
    pub moved: bool,
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Reads what `record` says.
pub fn decode(record: Record<'_>) -> Result<ChangeEvent, MalformedRecord> {
    let envelope: Option<Envelope> = record.value.map(|datum| read(Part::Value, datum)).transpose()?;
    if envelope.as_ref().is_some_and(|envelope| envelope.op == "t") {
        return Err(MalformedRecord::Truncate);
    }
    let key: KeyRecord = read(Part::Key, record.key.ok_or(MalformedRecord::MissingKey)?)?;
    if key.id <= 0 {
        return Err(MalformedRecord::InvalidId(key.id));
    }
    if record.moved {
        return Err(MalformedRecord::KeyChange);
    }
    let change = match envelope {
        None => Change::Tombstone,
        Some(envelope) => change(key.id, envelope)?,
    };
    Ok(ChangeEvent {
        trade_post_id: key.id,
        position: record.position,
        change,
    })
}

fn change(key: i64, envelope: Envelope) -> Result<Change, MalformedRecord> {
    let Envelope {
        op,
        after,
        source,
        ts_ms,
    } = envelope;
    match op.as_str() {
        "c" | "r" | "u" => {
            let Row {
                id,
                seller_id,
                title,
                status,
            } = after.ok_or_else(|| MalformedRecord::MissingRow(op.clone()))?;
            if id != key {
                return Err(MalformedRecord::KeyMismatch { key, row: id });
            }
            Ok(Change::Upsert {
                lsn: lsn(&source)?,
                post: Post {
                    seller_id,
                    title,
                    status,
                },
            })
        }
        "d" => Ok(Change::Delete {
            lsn: lsn(&source)?,
            times: CaptureTimes {
                committed_ms: source.ts_ms,
                captured_ms: ts_ms.unwrap_or(source.ts_ms),
            },
        }),
        _ => Err(MalformedRecord::UnknownOperation(op)),
    }
}

/// The record's position in the write-ahead log.
///
/// Reads of an incremental snapshot have no `lsn`; theirs is the second of `sequence`, JSON text
/// `["<last commit LSN>","<this LSN>"]`.
fn lsn(source: &Source) -> Result<i64, MalformedRecord> {
    if let Some(lsn) = source.lsn {
        return Ok(lsn);
    }
    let sequence = source.sequence.as_deref().ok_or(MalformedRecord::MissingLsn)?;
    let malformed = || MalformedRecord::MalformedSequence(sequence.to_owned());
    let [_, this]: [Option<String>; 2] = serde_json::from_str(sequence).map_err(|_| malformed())?;
    this.and_then(|lsn| lsn.parse().ok()).ok_or_else(malformed)
}

/// Decodes one datum and checks that nothing is left over.
///
/// apache-avro up to 0.22 reads some cut bodies as nulls instead of failing; a cut envelope cannot
/// pass for a change all the same, because `op` is the operation's letter and comes after the rows.
fn read<T: DeserializeOwned>(part: Part, (reader, mut body): Datum<'_>) -> Result<T, MalformedRecord> {
    let datum = reader
        .read_deser(&mut body)
        .map_err(|source| MalformedRecord::Avro {
            part,
            source: Box::new(source),
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

#[derive(Debug, Deserialize)]
struct KeyRecord {
    id: i64,
}

#[derive(Debug, Deserialize)]
struct Envelope {
    op: String,
    after: Option<Row>,
    source: Source,
    ts_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: i64,
    seller_id: i64,
    title: String,
    status: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    lsn: Option<i64>,
    sequence: Option<String>,
    ts_ms: i64,
}
