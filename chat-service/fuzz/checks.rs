//! What holds for any bytes that Kafka or the schema registry may give to chat-service.
//!
//! Fuzz targets and the tests of chat-service run these functions alike. Each takes bytes as they
//! come and panics if a promise is broken.

use std::{error::Error, sync::LazyLock};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};
use chat_service::cdc::{
    change_event::{
        Beginning, Change, ChangeEvent, Datum, Event, MOVED_TO, MalformedRecord, Op, Position, Record,
        Understood, decode as decode_record, heartbeat,
    },
    wire::{HEADER_LEN, WireError, unframe},
    writer_schema::{parse, reader},
};

/// Most bytes of what an error says. Errors are logged, and kept in dead letters.
const MAX_ERROR_BYTES: usize = 4096;
/// Most places where an input is cut; a short one is cut everywhere.
const MAX_CUTS: usize = 64;
const POSITION: Position = Position {
    partition: 0,
    offset: 7,
};

/// The records that were captured from a real Debezium, and the schemas they were written with.
pub struct Captured {
    key_reader: GenericDatumReader<'static>,
    envelope_reader: GenericDatumReader<'static>,
}

pub static CAPTURED: LazyLock<Captured> = LazyLock::new(|| {
    let reader_of = |text| {
        let schema: &'static Schema = Box::leak(Box::new(parse(text).expect("a captured schema")));
        reader(schema).expect("a reader for it")
    };
    Captured {
        key_reader: reader_of(include_str!("../../schemas/fixtures/schema-1.json")),
        envelope_reader: reader_of(include_str!("../../schemas/fixtures/schema-2.json")),
    }
});

impl Captured {
    /// The reader of what a schema id stands for.
    fn reader(&self, schema_id: u32) -> Option<&GenericDatumReader<'_>> {
        match schema_id {
            1 => Some(&self.key_reader),
            2 => Some(&self.envelope_reader),
            _ => None,
        }
    }
}

/// Bodies of captured values, one of each shape.
const VALUES: [&[u8]; 4] = [
    include_bytes!("../../schemas/fixtures/c.value"),
    include_bytes!("../../schemas/fixtures/d.value"),
    include_bytes!("../../schemas/fixtures/r-incremental.value"),
    include_bytes!("../../schemas/fixtures/t.value"),
];
/// The end of a row under its old id.
const MOVED: &[u8] = include_bytes!("../../schemas/fixtures/d-moved.value");

/// A wire header is byte 0 and four bytes of id, and nothing else is one.
pub fn wire(bytes: &[u8]) {
    match unframe(bytes) {
        Ok(framed) => {
            let (header, body) = bytes.split_at(HEADER_LEN);
            assert_eq!(header[0], 0);
            assert_eq!(header[1..], framed.schema_id.to_be_bytes());
            assert_eq!(framed.body, body);
        }
        Err(error) => {
            match error {
                WireError::TooShort { len } => assert!(len == bytes.len() && len < HEADER_LEN),
                WireError::WrongMagic { found } => assert!(found == bytes[0] && found != 0),
            }
            assert_bounded(&error);
        }
    }
}

/// The bytes, with their wire header, as each part of a record that has one, and as they are as the
/// header that tells a new id.
pub fn decode(bytes: &[u8]) {
    moved_to(bytes);
    wire(bytes);
    let Ok(framed) = unframe(bytes) else { return };
    let Some(reader) = CAPTURED.reader(framed.schema_id) else {
        return;
    };
    as_key((reader, framed.body));
    as_value((reader, framed.body));
    whole_or_nothing((reader, framed.body), heartbeat);
}

/// The bytes as a schema, or up to the first zero as one and from there as what was written with it.
pub fn schema(bytes: &[u8]) {
    let (text, body) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let Ok(text) = str::from_utf8(text) else { return };
    let schema = match parse(text) {
        Ok(schema) => schema,
        Err(error) => return assert_bounded(&error),
    };
    let reader = reader(&schema).expect("what was parsed can be read with");
    let captured = VALUES.map(|value| &value[HEADER_LEN..]);
    for body in captured.into_iter().chain([body]) {
        as_key((&reader, body));
        as_value((&reader, body));
    }
}

/// Reads a tombstone with this key.
fn as_key(key: Datum<'_>) {
    if let Some(understood) = whole_or_nothing(key, |key| record(Some(key), None, None)) {
        assert_eq!((understood.op, understood.committed_ms), (Op::Tombstone, None));
        assert_eq!(post(understood).change, Change::Tombstone);
    }
}

/// Reads a record with this value and the key that fits it, and with others.
fn as_value(value: Datum<'_>) {
    let id = match with_key(Some(1), None, value) {
        Err(MalformedRecord::KeyMismatch { key: 1, row }) => row,
        _ => 1,
    };
    let understood = whole_or_nothing(value, |value| with_key(Some(id), None, value));
    if let Some(understood) = understood {
        says(understood, id, value);
    }
    for key in [None, Some(0), Some(-1), Some(i64::MIN)] {
        match with_key(key, None, value) {
            // Not about a post.
            Ok(understood) => assert!(matches!(
                (understood.op, understood.event, key),
                (Op::Truncate, Some(Event::Truncate { .. }), None) | (Op::Message, None, _)
            )),
            Err(error) => assert_bounded(&error),
        }
    }
    if let Ok(understood) = with_key(Some(id), Some(br#"{"id":77778}"#), value)
        && understood.op == Op::Delete
    {
        assert!(matches!(post(understood).change, Change::Move { to: 77778, .. }));
    }
}

/// Reads the end of a row with these bytes as the header that tells its new id.
fn moved_to(bytes: &[u8]) {
    let value = (&CAPTURED.envelope_reader, &MOVED[HEADER_LEN..]);
    match with_key(Some(3), Some(bytes), value).map(|understood| post(understood).change) {
        Ok(Change::Move { lsn, to }) => assert!(lsn > 0 && to > 0 && to != 3, "{lsn} {to}"),
        Ok(change) => panic!("{MOVED_TO} was ignored: {change:?}"),
        Err(error) => assert_bounded(&error),
    }
}

fn with_key(
    key: Option<i64>,
    moved_to: Option<&[u8]>,
    value: Datum<'_>,
) -> Result<Understood, MalformedRecord> {
    let key = key.map(zigzag);
    let key = key.as_deref().map(|key| (&CAPTURED.key_reader, key));
    record(key, Some(value), moved_to)
}

fn record(
    key: Option<Datum<'_>>,
    value: Option<Datum<'_>>,
    moved_to: Option<&[u8]>,
) -> Result<Understood, MalformedRecord> {
    decode_record(Record {
        position: POSITION,
        key,
        value,
        moved_to,
    })
}

/// Reads a body that is understood once more with less and with more of it: both have to be errors.
fn whole_or_nothing(
    (reader, body): Datum<'_>,
    read: impl Fn(Datum<'_>) -> Result<Understood, MalformedRecord>,
) -> Option<Understood> {
    let understood = match read((reader, body)) {
        Ok(understood) => understood,
        Err(error) => {
            assert_bounded(&error);
            return None;
        }
    };
    for cut in (0..body.len()).step_by(body.len().div_ceil(MAX_CUTS).max(1)) {
        let cut = read((reader, &body[..cut]));
        assert!(cut.is_err(), "{cut:?} of a body that was cut");
    }
    for more in [&[0][..], &[2, 2], &[0xff; 12]] {
        let longer = [body, more].concat();
        match read((reader, &longer)) {
            Err(MalformedRecord::TrailingBytes { left, .. }) => assert_eq!(left, more.len()),
            other => panic!("{other:?} of a body with more behind it"),
        }
    }
    Some(understood)
}

/// Checks what was understood against the datum as the Avro library shows it whole.
fn says(understood: Understood, id: i64, (reader, mut body): Datum<'_>) {
    let Understood {
        op,
        committed_ms,
        event,
        notification,
        beginning,
    } = understood;
    assert_eq!(notification, None);
    let Ok(datum) = reader.read_value(&mut body) else {
        // That reader refuses some logical types.
        return;
    };
    assert_eq!(text(field(&datum, "op")), Some(letter(op)));
    assert_eq!(
        committed_ms,
        number(field(field(&datum, "source"), "ts_ms")),
        "when it was committed"
    );
    // Ages can be calculated from it, and it can be written down.
    assert!(committed_ms.is_some_and(|ms| (0..253_402_300_800_000).contains(&ms)));
    assert!(
        match beginning {
            None => true,
            Some(Beginning::Snapshot { .. }) => op == Op::Read,
            Some(Beginning::Stream { .. }) =>
                matches!(op, Op::Create | Op::Update | Op::Delete | Op::Truncate),
        },
        "only reads are of a snapshot"
    );
    match event {
        Some(Event::Truncate { .. }) => panic!("a truncate with a key"),
        Some(keyword @ (Event::Keyword(_) | Event::KeywordsTruncated { .. })) => {
            panic!("{keyword:?} of a post's record")
        }
        None => assert_eq!(op, Op::Message),
        Some(Event::Post(ChangeEvent {
            trade_post_id,
            position,
            change,
        })) => {
            assert_eq!((trade_post_id, position), (id, POSITION));
            assert!(trade_post_id > 0);
            let after = field(&datum, "after");
            match change {
                Change::Upsert { lsn, post, arrival } => {
                    assert!(lsn > 0 && post.seller_id > 0);
                    assert_eq!(arrival.is_some(), op == Op::Create);
                    assert_eq!(number(field(after, "id")), Some(id));
                    assert_eq!(number(field(after, "seller_id")), Some(post.seller_id));
                    assert_eq!(text(field(after, "title")), Some(post.title.as_str()));
                    assert_eq!(text(field(after, "status")), Some(post.status.as_str()));
                }
                Change::Delete { lsn, .. } => {
                    assert!(op == Op::Delete && lsn > 0);
                    assert_eq!(after, &Value::Null);
                }
                Change::Move { .. } | Change::Tombstone => panic!("{change:?}"),
            }
        }
    }
}

fn letter(op: Op) -> &'static str {
    match op {
        Op::Create => "c",
        Op::Read | Op::IncrementalRead => "r",
        Op::Update => "u",
        Op::Delete => "d",
        Op::Truncate => "t",
        Op::Message => "m",
        Op::Tombstone | Op::Heartbeat | Op::Notification => panic!("{op:?} is no operation of an envelope"),
    }
}

fn post(understood: Understood) -> ChangeEvent {
    match understood.event {
        Some(Event::Post(post)) => {
            assert!(post.trade_post_id > 0);
            post
        }
        event => panic!("{event:?} is not about a post"),
    }
}

/// A field of a record, out of its union.
fn field<'a>(record: &'a Value, name: &str) -> &'a Value {
    let value = match record {
        Value::Record(fields) => fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value),
        Value::Map(entries) => entries.get(name),
        _ => None,
    };
    match value {
        Some(Value::Union(_, value)) => value,
        Some(value) => value,
        None => panic!("no {name} in {record:?}"),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Long(number) => Some(*number),
        Value::Int(number) => Some((*number).into()),
        _ => None,
    }
}

/// A long as Avro writes it, and so the body of a key.
pub fn zigzag(number: i64) -> Vec<u8> {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(0x80 | rest.to_le_bytes()[0]);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes
}

/// Whoever wrote the bytes does not decide how long an error is.
fn assert_bounded(error: &dyn Error) {
    let mut said = 0;
    let mut next = Some(error);
    while let Some(error) = next {
        said += error.to_string().len();
        next = error.source();
    }
    assert!(said <= MAX_ERROR_BYTES, "{said} bytes of error");
}
