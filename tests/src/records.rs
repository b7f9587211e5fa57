//! Debezium's records of trade posts, read in two ways: with the reader schemas committed in `schemas/`,
//! and by chat-service.
//!
//! Invariant: the two ways share nothing but the bytes and the schema that they were written with.

use std::collections::HashMap;

use apache_avro::{Schema, from_value, reader::datum::GenericDatumReader, types::Value};
use chat_service::cdc::{
    change_event::{
        self, Arrival, CaptureTimes, Change, ChangeEvent, Datum, Event, MalformedRecord, Position, Post,
    },
    wire::unframe,
};
use serde::Deserialize;

use crate::topic::Record;

/// The text of `schemas/trade-posts-key.avsc`.
pub const KEY_SCHEMA: &str = include_str!("../../schemas/trade-posts-key.avsc");
/// The text of `schemas/trade-posts-envelope.avsc`.
pub const ENVELOPE_SCHEMA: &str = include_str!("../../schemas/trade-posts-envelope.avsc");

/// The text of `schemas/keywords-key.avsc`.
pub const KEYWORD_KEY_SCHEMA: &str = include_str!("../../schemas/keywords-key.avsc");
/// The text of `schemas/keywords-envelope.avsc`.
pub const KEYWORD_ENVELOPE_SCHEMA: &str = include_str!("../../schemas/keywords-envelope.avsc");

/// The text of `schemas/heartbeats-envelope.avsc`.
pub const HEARTBEAT_ENVELOPE_SCHEMA: &str = include_str!("../../schemas/heartbeats-envelope.avsc");

/// The envelope as the committed schema shows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    pub after: Option<Row>,
    pub source: Source,
    pub op: String,
    pub ts_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub id: i64,
    pub seller_id: i64,
    pub title: String,
    pub status: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub ts_ms: i64,
    pub lsn: Option<i64>,
    pub sequence: Option<String>,
    pub snapshot: Option<String>,
    pub schema: String,
    pub table: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: i64,
}

/// The schemas that records were written with, by the id in their wire header.
#[derive(Default)]
pub struct WriterSchemas(HashMap<u32, Writer>);

struct Writer {
    schema: &'static Schema,
    reader: GenericDatumReader<'static>,
}

impl WriterSchemas {
    /// # Panics
    /// If `text` is not an Avro schema.
    pub fn insert(&mut self, id: u32, text: &str) {
        // chat-service keeps readers as long as it lives; a test lives shorter.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(text).expect("an Avro schema")));
        let reader = GenericDatumReader::builder(schema).build();
        let reader = reader.expect("a schema without unknown names");
        self.0.insert(id, Writer { schema, reader });
    }

    pub fn schema(&self, id: u32) -> &'static Schema {
        self.writer(id).schema
    }

    /// The record as chat-service understands it.
    pub fn by_chat_service(&self, record: &Record) -> Result<Event, MalformedRecord> {
        change_event::decode(change_event::Record {
            position: position(record),
            key: self.datum(record.key.as_deref()),
            value: self.datum(record.value.as_deref()),
            moved_to: record.header(change_event::MOVED_TO),
        })
        .map(|understood| understood.event.expect("a record about posts"))
    }

    /// A record about a keyword as chat-service understands it.
    pub fn keyword_by_chat_service(&self, record: &Record) -> Result<Event, MalformedRecord> {
        change_event::decode_keyword(change_event::Record {
            position: position(record),
            key: self.datum(record.key.as_deref()),
            value: self.datum(record.value.as_deref()),
            moved_to: None,
        })
        .map(|understood| understood.event.expect("a record about keywords"))
    }

    /// The record as the committed schemas show it.
    ///
    /// # Panics
    /// If it does not fit them.
    pub fn by_committed_schemas(&self, record: &Record) -> Event {
        let envelope = record.value.as_deref().map(|value| self.envelope(value));
        let Some(key) = &record.key else {
            let envelope = envelope.expect("a value where no key is");
            assert_eq!((envelope.op.as_str(), &envelope.after), ("t", &None));
            return Event::Truncate {
                lsn: envelope.lsn(),
                times: envelope.times(),
            };
        };
        let Key { id } = self.read(KEY_SCHEMA, key);
        let change = match envelope {
            None => Change::Tombstone,
            Some(envelope) => envelope.change(record.header(change_event::MOVED_TO)),
        };
        Event::Post(ChangeEvent {
            trade_post_id: id,
            position: position(record),
            change,
        })
    }

    /// # Panics
    /// If `value` does not fit the committed schema.
    pub fn envelope(&self, value: &[u8]) -> Envelope {
        self.read(ENVELOPE_SCHEMA, value)
    }

    /// The datum with all that was written into it.
    ///
    /// # Panics
    /// If `bytes` do not fit their writer schema.
    pub fn everything(&self, bytes: &[u8]) -> Value {
        let (id, mut body) = split(bytes);
        let value = self.writer(id).reader.read_value(&mut body);
        value.expect("a datum of its writer schema")
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, reader_schema: &str, bytes: &[u8]) -> T {
        let reader_schema = Schema::parse_str(reader_schema).expect("the committed schema is one");
        let (id, mut body) = split(bytes);
        let value = GenericDatumReader::builder(self.schema(id))
            .reader_schema(&reader_schema)
            .build()
            .and_then(|reader| reader.read_value(&mut body))
            .expect("the datum resolves to the committed schema");
        assert!(body.is_empty(), "{} bytes are left over", body.len());
        from_value(&value).expect("a value of the committed schema")
    }

    fn datum<'a>(&'a self, bytes: Option<&'a [u8]>) -> Option<Datum<'a>> {
        let framed = unframe(bytes?).expect("the Confluent wire format");
        Some((&self.writer(framed.schema_id).reader, framed.body))
    }

    fn writer(&self, id: u32) -> &Writer {
        let writer = self.0.get(&id);
        writer.unwrap_or_else(|| panic!("the writer schema {id} is not at hand"))
    }
}

impl std::fmt::Debug for WriterSchemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Envelope {
    fn lsn(&self) -> i64 {
        self.source.lsn.unwrap_or_else(|| {
            let sequence = self.source.sequence.as_deref();
            let sequence = sequence.expect("a sequence where no LSN is");
            let [_, this]: [Option<String>; 2] = serde_json::from_str(sequence).expect("two LSNs");
            this.expect("this LSN").parse().expect("a number")
        })
    }

    fn times(&self) -> CaptureTimes {
        CaptureTimes {
            committed_ms: self.source.ts_ms,
            captured_ms: self.ts_ms.expect("a time"),
        }
    }

    fn change(self, new_key: Option<&[u8]>) -> Change {
        let (lsn, times) = (self.lsn(), self.times());
        match (self.op.as_str(), self.after, new_key) {
            ("d", None, None) => Change::Delete { lsn, times },
            ("d", None, Some(key)) => {
                let Key { id: to } = serde_json::from_slice(key).expect("a key as JSON text");
                Change::Move { lsn, to }
            }
            (op @ ("c" | "u" | "r"), Some(row), None) => Change::Upsert {
                lsn,
                arrival: (op == "c").then_some(Arrival::Created),
                post: Post {
                    seller_id: row.seller_id,
                    title: row.title,
                    status: row.status,
                },
            },
            (op, after, _) => panic!("op {op:?} with after {after:?}"),
        }
    }
}

/// Ids of the schemas that key and value were written with.
pub fn schema_ids(record: &Record) -> impl Iterator<Item = u32> {
    let parts = [record.key.as_deref(), record.value.as_deref()];
    parts.into_iter().flatten().map(|bytes| split(bytes).0)
}

/// The Confluent wire header, read here once more: byte 0, a big-endian schema id, the Avro body.
///
/// # Panics
/// If `bytes` do not begin with it.
pub fn split(bytes: &[u8]) -> (u32, &[u8]) {
    let (header, body) = bytes.split_first_chunk::<5>().expect("a header of five bytes");
    assert_eq!(header[0], 0, "the header's first byte");
    (
        u32::from_be_bytes([header[1], header[2], header[3], header[4]]),
        body,
    )
}

fn position(record: &Record) -> Position {
    Position {
        partition: record.partition,
        offset: record.offset,
    }
}
