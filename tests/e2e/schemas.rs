//! The committed reader schemas against recorded bytes of a real Debezium: what they say suffices for
//! chat-service, all of it is needed, and nothing else left the database. Needs no server.

use apache_avro::{
    Schema, schema_compatibility::SchemaCompatibility, types::Value, writer::datum::GenericDatumWriter,
};
use chat_service::cdc::change_event::{CaptureTimes, Change, ChangeEvent, Event, Post};
use e2e::records::{ENVELOPE_SCHEMA, KEY_SCHEMA, split};
use serde_json::{Value as Json, json};

use crate::fixtures::Fixtures;

/// What each of the recorded records says, in the order of recording.
fn said() -> [(&'static str, Says); 9] {
    [
        ("r", Says::Row(1, "스냅샷 전부터 있던 글", "on_sale")),
        ("c", Says::Row(2, "자전거 팔아요", "on_sale")),
        ("u", Says::Row(2, "자전거 팔아요", "reserved")),
        ("d", Says::Deleted(2)),
        ("tombstone", Says::Tombstone(2)),
        ("d-moved", Says::Moved(3, 4)),
        ("c-moved", Says::Row(4, "번호가 바뀌는 글", "on_sale")),
        ("r-incremental", Says::Row(1, "스냅샷 전부터 있던 글", "on_sale")),
        ("t", Says::Truncated),
    ]
}
const VALUES: [&str; 8] = ["r", "c", "u", "d", "d-moved", "c-moved", "r-incremental", "t"];
const SELLER: i64 = 1001;

#[derive(Debug)]
enum Says {
    Row(i64, &'static str, &'static str),
    Deleted(i64),
    Moved(i64, i64),
    Tombstone(i64),
    Truncated,
}

#[test]
fn recorded_records_say_the_same_by_the_committed_schemas_and_by_chat_service() {
    let recorded = Fixtures::read();
    let mut before = 0;
    for (name, says) in said() {
        let record = &recorded.records[name];
        let event = recorded.event(name);
        assert_eq!(event, recorded.schemas.by_committed_schemas(record), "{name}");
        let lsn = match (event, says) {
            (Event::Truncate { lsn, times }, Says::Truncated) => {
                in_order(times);
                lsn
            }
            (
                Event::Post(ChangeEvent {
                    trade_post_id,
                    change,
                    ..
                }),
                says,
            ) => match (change, says) {
                (Change::Upsert { lsn, post, arrival }, Says::Row(id, title, status)) => {
                    let row = Post {
                        seller_id: SELLER,
                        title: title.into(),
                        status: status.into(),
                    };
                    assert_eq!(
                        (trade_post_id, post, arrival.is_some()),
                        (id, row, name.starts_with('c')),
                        "{name}"
                    );
                    lsn
                }
                (Change::Delete { lsn, times }, Says::Deleted(id)) => {
                    assert_eq!(trade_post_id, id, "{name}");
                    in_order(times);
                    lsn
                }
                (Change::Move { lsn, to }, Says::Moved(id, new)) => {
                    assert_eq!((trade_post_id, to), (id, new), "{name}");
                    lsn
                }
                (Change::Tombstone, Says::Tombstone(id)) => {
                    assert_eq!(trade_post_id, id, "{name}");
                    continue;
                }
                (change, says) => panic!("{name}: {change:?}, not {says:?}"),
            },
            (event, says) => panic!("{name}: {event:?}, not {says:?}"),
        };
        // A row and what it becomes under another id are one change.
        assert!(
            before < lsn || (name == "c-moved" && before == lsn),
            "{name}: {lsn} after {before}"
        );
        before = lsn;
    }
}

fn in_order(
    CaptureTimes {
        committed_ms,
        captured_ms,
    }: CaptureTimes,
) {
    assert!(
        0 < committed_ms && committed_ms <= captured_ms,
        "{committed_ms} {captured_ms}"
    );
}

#[test]
fn reads_of_an_incremental_snapshot_have_a_position_only_in_their_sequence() {
    let recorded = Fixtures::read();
    let envelope = |name| recorded.schemas.envelope(recorded.value(name));
    assert_eq!(envelope("r-incremental").source.lsn, None);
    assert!(envelope("r-incremental").source.sequence.is_some());
    assert!(envelope("r").source.lsn.is_some());
}

#[test]
fn only_the_captured_columns_are_in_the_writer_schema() {
    let recorded = Fixtures::read();
    let schema: Json = serde_json::from_str(&recorded.schema_of("c")).unwrap();
    let before = &field(&schema, "before")["type"][1];
    assert_eq!(names(before), ["id", "seller_id", "title", "status"]);
    assert_eq!(
        field(&schema, "after")["type"][1],
        before["name"],
        "the same record as before the change"
    );
}

#[test]
fn the_committed_schemas_can_read_what_debezium_writes() {
    let recorded = Fixtures::read();
    let record = &recorded.records["c"];
    for (bytes, reader) in [(&record.key, KEY_SCHEMA), (&record.value, ENVELOPE_SCHEMA)] {
        let (id, _) = split(bytes.as_deref().unwrap());
        let reader = Schema::parse_str(reader).unwrap();
        SchemaCompatibility::can_read(recorded.schemas.schema(id), &reader).unwrap();
    }
}

/// A record that holds nothing but the fields of the committed schema is all that chat-service needs.
#[test]
fn the_committed_fields_suffice() {
    let recorded = Fixtures::read();
    let schema = Schema::parse_str(ENVELOPE_SCHEMA).unwrap();
    for name in VALUES {
        let body = recorded.reduced(name, &schema);
        let event = recorded.with_value(name, &schema, &body).unwrap();
        assert_eq!(
            event,
            recorded.schemas.by_chat_service(&recorded.records[name]).unwrap(),
            "{name}"
        );
    }
}

/// Without any one of the committed fields a record is refused, not guessed.
#[test]
fn the_committed_fields_are_needed() {
    let recorded = Fixtures::read();
    let committed: Json = serde_json::from_str(ENVELOPE_SCHEMA).unwrap();
    let (top, row, source) = ("/fields", "/fields/0/type/1/fields", "/fields/1/type/fields");
    for (fields, names) in [
        (top, ["after", "source", "op", "ts_ms"].as_slice()),
        (row, &["id", "seller_id", "title", "status"]),
        (
            source,
            &["ts_ms", "lsn", "sequence", "snapshot", "schema", "table"],
        ),
    ] {
        let list = committed.pointer(fields).unwrap().as_array().unwrap();
        assert_eq!(
            list.iter()
                .map(|field| field["name"].as_str().unwrap())
                .collect::<Vec<_>>(),
            names
        );
    }
    recorded.needs_each_field("c", ENVELOPE_SCHEMA, &[top, row, source], |schema, body| {
        recorded.with_value("c", schema, body)
    });
}

/// With the default replica identity the old row is the key and defaults: it looks real and is not.
#[test]
fn the_row_before_the_change_makes_no_difference() {
    let recorded = Fixtures::read();
    let (id, _) = split(recorded.value("d"));
    let schema = recorded.schemas.schema(id);
    let written = recorded.schemas.everything(recorded.value("d"));
    let before = json!({ "id": 2, "seller_id": 0, "title": "", "status": "" });
    for (column, value) in before.as_object().unwrap() {
        let Value::Union(1, row) = value_of(&written, "before") else {
            panic!("{written:?}")
        };
        if column != "status" {
            assert_eq!(
                &Json::try_from(value_of(row, column).clone()).unwrap(),
                value,
                "{column}"
            );
        }
    }
    let wrong = Value::Record(vec![
        ("id".into(), Value::Long(99)),
        ("seller_id".into(), Value::Long(99)),
        ("title".into(), Value::String("다른 글".into())),
        ("status".into(), Value::String("sold".into())),
    ]);
    let expected = recorded.event("d");
    for before in [
        Value::Union(0, Box::new(Value::Null)),
        Value::Union(1, Box::new(wrong)),
    ] {
        let Value::Record(mut fields) = written.clone() else {
            panic!("{written:?}")
        };
        fields.iter_mut().find(|(name, _)| name == "before").unwrap().1 = before;
        let event = recorded
            .with_value("d", schema, &write(schema, Value::Record(fields)))
            .unwrap();
        assert_eq!(event, expected);
    }
}

#[test]
fn a_record_that_was_cut_or_continued_is_refused() {
    let recorded = Fixtures::read();
    recorded.are_refused_when_damaged(&VALUES, |name, schema, body| {
        recorded.with_value(name, schema, body)
    });
}

fn write(schema: &Schema, value: Value) -> Vec<u8> {
    GenericDatumWriter::builder(schema)
        .build()
        .unwrap()
        .write_value_to_vec(value)
        .unwrap()
}

fn value_of<'a>(record: &'a Value, field: &str) -> &'a Value {
    let Value::Record(fields) = record else {
        panic!("not a record: {record:?}")
    };
    &fields.iter().find(|(name, _)| name == field).unwrap().1
}

fn field<'a>(schema: &'a Json, name: &str) -> &'a Json {
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().find(|field| field["name"] == name).unwrap()
}

fn names(record: &Json) -> Vec<&str> {
    let fields = record["fields"].as_array().unwrap();
    fields
        .iter()
        .map(|field| field["name"].as_str().unwrap())
        .collect()
}
