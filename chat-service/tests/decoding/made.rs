//! Records that were made to be wrong in one way, and what is said about each.

use apache_avro::{
    Schema, reader::datum::GenericDatumReader, types::Value, writer::datum::GenericDatumWriter,
};
use chat_service::cdc::{
    change_event::{
        Beginning, Event, MalformedRecord, Op, Part, Position, Record, Understood, decode, heartbeat,
    },
    wire::HEADER_LEN,
    writer_schema::{parse, reader},
};
use serde_json::{Value as Json, json};

use crate::{checks::zigzag, seeds::captured};

const ENVELOPE: &str = include_str!("../../../schemas/fixtures/schema-2.json");
const KEY: &str = include_str!("../../../schemas/fixtures/schema-1.json");
/// The post of the captured `c`, `u` and `d`.
const POST: i64 = 2;
/// Longer than any error may be.
const LONG: usize = 1 << 20;

fn body(name: &str) -> Vec<u8> {
    let (_, bytes) = captured().into_iter().find(|(file, _)| file == name).unwrap();
    bytes[HEADER_LEN..].to_vec()
}

/// A captured value, written again by this schema after `edit`.
fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let schema = parse(ENVELOPE).unwrap();
    let mut value = GenericDatumReader::builder(&schema)
        .build()
        .unwrap()
        .read_value(&mut &body(name)[..])
        .unwrap();
    edit(&mut value);
    write(&schema, value)
}

fn write(schema: &Schema, value: Value) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

/// The place of a field, through unions.
fn at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(value, |value, name| {
        let record = match value {
            Value::Union(_, value) => value.as_mut(),
            value => value,
        };
        let Value::Record(fields) = record else {
            panic!("no record around {name}")
        };
        &mut fields.iter_mut().find(|(field, _)| field == name).unwrap().1
    })
}

fn some(value: impl Into<Value>) -> Value {
    Value::Union(1, Box::new(value.into()))
}

fn none() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

/// A text where that comes before null, as in `source.snapshot`.
fn text(value: &str) -> Value {
    Value::Union(0, Box::new(value.into()))
}

fn said(key: Option<i64>, schema: &str, body: &[u8]) -> Result<Understood, MalformedRecord> {
    moved(key, schema, body, None)
}

fn moved(
    key: Option<i64>,
    schema: &str,
    body: &[u8],
    moved_to: Option<&[u8]>,
) -> Result<Understood, MalformedRecord> {
    let (key_schema, schema) = (parse(KEY).unwrap(), parse(schema).unwrap());
    let (key_reader, reader) = (reader(&key_schema).unwrap(), reader(&schema).unwrap());
    let key = key.map(zigzag);
    decode(Record {
        position: Position {
            partition: 0,
            offset: 0,
        },
        key: key.as_deref().map(|key| (&key_reader, key)),
        value: Some((&reader, body)),
        moved_to,
    })
}

/// What is wrong with a captured value after `edit`.
fn wrong(name: &str, edit: impl FnOnce(&mut Value)) -> MalformedRecord {
    said(Some(POST), ENVELOPE, &edited(name, edit)).unwrap_err()
}

#[test]
fn only_debeziums_letters_are_operations() {
    for letter in ["x", "", "C", "cc", "d ", "삭제"] {
        assert_eq!(
            wrong("c.value", |value| *at(value, &["op"]) = letter.into()),
            MalformedRecord::UnknownOperation(letter.into())
        );
    }
    let message = edited("d.value", |value| *at(value, &["op"]) = "m".into());
    let message = said(None, ENVELOPE, &message).unwrap();
    assert_eq!((message.op, message.event), (Op::Message, None));
}

#[test]
fn ids_are_positive() {
    for id in [0, -1, i64::MIN] {
        let key = said(Some(id), ENVELOPE, &body("d.value"));
        assert_eq!(key, Err(MalformedRecord::InvalidId(id)));
        assert_eq!(
            wrong("c.value", |value| *at(value, &["after", "seller_id"]) = id.into()),
            MalformedRecord::InvalidSeller(id)
        );
        let to = json!({ "id": id }).to_string();
        assert_eq!(
            moved(Some(3), ENVELOPE, &body("d-moved.value"), Some(to.as_bytes())),
            Err(MalformedRecord::MovedTo(to))
        );
    }
    let to = r#"{"id":3}"#;
    assert_eq!(
        moved(Some(3), ENVELOPE, &body("d-moved.value"), Some(to.as_bytes())),
        Err(MalformedRecord::MovedTo(to.into())),
        "a row does not move to where it is"
    );
}

#[test]
fn key_and_row_agree() {
    assert_eq!(
        said(Some(9), ENVELOPE, &body("c.value")),
        Err(MalformedRecord::KeyMismatch { key: 9, row: POST })
    );
    assert_eq!(
        said(None, ENVELOPE, &body("c.value")),
        Err(MalformedRecord::MissingKey)
    );
    assert_eq!(
        said(Some(POST), ENVELOPE, &body("t.value")),
        Err(MalformedRecord::UnexpectedKey)
    );
    let event = said(None, ENVELOPE, &body("t.value")).unwrap().event;
    assert!(matches!(event, Some(Event::Truncate { .. })));
}

#[test]
fn a_row_is_there_if_and_only_if_there_is_one() {
    let row = edited("c.value", |_| ());
    for letter in ["c", "r", "u"] {
        let wrong = wrong("d.value", |value| *at(value, &["op"]) = letter.into());
        assert!(
            matches!(wrong, MalformedRecord::MissingRow(_)),
            "{letter}: {wrong}"
        );
        let right = edited("c.value", |value| *at(value, &["op"]) = letter.into());
        assert!(said(Some(POST), ENVELOPE, &right).is_ok());
    }
    assert_eq!(row, body("c.value"), "writing changes nothing");
    assert_eq!(
        wrong("c.value", |value| *at(value, &["op"]) = "d".into()),
        MalformedRecord::UnexpectedRow("delete")
    );
    let truncate = edited("c.value", |value| *at(value, &["op"]) = "t".into());
    assert_eq!(
        said(None, ENVELOPE, &truncate),
        Err(MalformedRecord::UnexpectedRow("truncate"))
    );
}

/// Debezium marks the first and the last row of a table and of a snapshot apart.
#[test]
fn rows_read_with_the_whole_table_are_told_from_others() {
    let marked = |name: &str, mark: Value| {
        let body = edited(name, |value| *at(value, &["source", "snapshot"]) = mark);
        said(Some(if name == "c.value" { POST } else { 1 }), ENVELOPE, &body)
            .unwrap()
            .beginning
    };
    for mark in [
        "true",
        "first",
        "first_in_data_collection",
        "last_in_data_collection",
        "last",
    ] {
        let read = marked("r.value", text(mark));
        assert!(matches!(read, Some(Beginning::Snapshot { lsn: 1.. })), "{mark}");
        assert_eq!(marked("c.value", text(mark)), None, "no read");
    }
    for mark in [
        text("false"),
        text("incremental"),
        Value::Union(1, Box::new(Value::Null)),
    ] {
        assert_eq!(marked("r.value", mark.clone()), None, "{mark:?}");
    }
    let recorded = |name| said(Some(1), ENVELOPE, &body(name)).unwrap().beginning;
    assert!(recorded("r.value").is_some());
    assert_eq!(recorded("r-incremental.value"), None);
}

/// A connector that knows of no commit before has begun anew with what came next.
#[test]
fn the_first_transaction_of_a_connector_is_told_from_others() {
    let with = |name: &str, key, sequence: &str| {
        let body = edited(name, |value| *at(value, &["source", "sequence"]) = some(sequence));
        said(key, ENVELOPE, &body).unwrap()
    };
    for (name, key) in [
        ("c.value", Some(POST)),
        ("u.value", Some(POST)),
        ("d.value", Some(POST)),
        ("t.value", None),
    ] {
        let first = with(name, key, r#"[null,"29367176"]"#);
        let Some(Beginning::Stream {
            lsn: 1..,
            committed_ms,
        }) = first.beginning
        else {
            panic!("{name}: {first:?}")
        };
        assert_eq!(Some(committed_ms), first.committed_ms);
        assert_eq!(
            with(name, key, r#"["29361064","29367176"]"#).beginning,
            None,
            "{name}"
        );
    }
    // A snapshot always begins with one.
    let read = with("r-incremental.value", Some(1), r#"[null,"29367176"]"#);
    assert_eq!(read.beginning, None);
}

#[test]
fn every_change_has_a_place_in_the_log() {
    let lsn = ["source", "lsn"];
    let sequence = ["source", "sequence"];
    for (name, key) in [
        ("c.value", Some(POST)),
        ("d.value", Some(POST)),
        ("t.value", None),
    ] {
        let wrong = |edit: &dyn Fn(&mut Value)| said(key, ENVELOPE, &edited(name, edit)).unwrap_err();
        for place in [0, -1, i64::MIN] {
            let invalid = MalformedRecord::InvalidLsn(place);
            assert_eq!(wrong(&|value| *at(value, &lsn) = some(place)), invalid);
            let text = json!(["1", place.to_string()]).to_string();
            let by_sequence = |value: &mut Value| {
                *at(value, &lsn) = none();
                *at(value, &sequence) = some(text.clone());
            };
            assert_eq!(wrong(&by_sequence), invalid);
        }
        for text in [
            "",
            "[]",
            "[\"1\"]",
            "[\"1\",null]",
            "[\"1\",2]",
            "[\"1\",\"2\",\"3\"]",
            "[\"1\",\"x\"]",
        ] {
            let by_sequence = |value: &mut Value| {
                *at(value, &lsn) = none();
                *at(value, &sequence) = some(text);
            };
            assert_eq!(
                wrong(&by_sequence),
                MalformedRecord::MalformedSequence(text.into())
            );
        }
        let nowhere = |value: &mut Value| {
            *at(value, &lsn) = none();
            *at(value, &sequence) = none();
        };
        assert_eq!(wrong(&nowhere), MalformedRecord::MissingLsn);
    }
}

/// What is made of a heartbeat after `edit`. To a reader of heartbeats a post's update is one but for its table.
fn beat(edit: impl FnOnce(&mut Value)) -> Result<Understood, MalformedRecord> {
    let body = edited("u.value", |value| {
        *at(value, &["source", "table"]) = "debezium_heartbeat".into();
        edit(value);
    });
    let schema = parse(ENVELOPE).unwrap();
    heartbeat((&reader(&schema).unwrap(), &body))
}

#[test]
fn a_heartbeat_tells_what_the_connector_began_with() {
    let (lsn, sequence) = (["source", "lsn"], ["source", "sequence"]);
    let beginning = |edit: &dyn Fn(&mut Value)| {
        let beat = beat(edit).unwrap();
        assert_eq!((beat.op, &beat.event), (Op::Heartbeat, &None));
        (beat.beginning, beat.committed_ms.unwrap())
    };
    assert_eq!(beginning(&|_| ()).0, None);
    let (anew, committed_ms) = beginning(&|value| {
        *at(value, &lsn) = some(7_i64);
        *at(value, &sequence) = some(r#"[null,"7"]"#);
    });
    assert_eq!(anew, Some(Beginning::Stream { lsn: 7, committed_ms }));
    let snapshot = |mark: &'static str| {
        beginning(&move |value| {
            *at(value, &["op"]) = "r".into();
            *at(value, &lsn) = some(8_i64);
            *at(value, &["source", "snapshot"]) = text(mark);
        })
    };
    for mark in ["true", "last"] {
        assert_eq!(snapshot(mark).0, Some(Beginning::Snapshot { lsn: 8 }));
    }
    assert_eq!(snapshot("incremental").0, None);
    let other = beat(|value| *at(value, &["source", "table"]) = "customers".into());
    assert_eq!(other, Err(MalformedRecord::OtherTable("public.customers".into())));
}

/// Ages are calculated from them.
#[test]
fn times_are_times() {
    for ms in [i64::MIN, -1, 253_402_300_800_000, i64::MAX] {
        let invalid = MalformedRecord::InvalidTime(ms);
        assert_eq!(
            wrong("d.value", |value| *at(value, &["source", "ts_ms"]) = ms.into()),
            invalid
        );
        assert_eq!(
            wrong("c.value", |value| *at(value, &["ts_ms"]) = some(ms)),
            invalid
        );
        let beat = beat(|value| *at(value, &["source", "ts_ms"]) = ms.into());
        assert_eq!(beat, Err(invalid));
    }
}

/// A delete needs no column, so one of another table's row would close the chats of the post with its id.
#[test]
fn a_record_of_another_table_is_refused_whatever_it_says() {
    for (name, key) in [
        ("c.value", Some(POST)),
        ("d.value", Some(POST)),
        ("t.value", None),
    ] {
        for (field, other) in [("table", "customers"), ("schema", "archive")] {
            let body = edited(name, |value| *at(value, &["source", field]) = other.into());
            let said = said(key, ENVELOPE, &body).unwrap_err();
            assert!(
                matches!(&said, MalformedRecord::OtherTable(table) if table.contains(other)),
                "{said}"
            );
        }
    }
}

/// Cut anywhere, not only where the checks cut.
#[test]
fn no_part_of_a_captured_record_passes_for_one() {
    for (name, bytes) in captured() {
        if name.strip_suffix(".value").is_none() {
            continue;
        }
        let body = &bytes[HEADER_LEN..];
        for key in [None, Some(1), Some(2), Some(3), Some(4)] {
            for end in 0..body.len() {
                let cut = said(key, ENVELOPE, &body[..end]);
                assert!(cut.is_err(), "{name} cut at {end}: {cut:?}");
            }
        }
    }
}

#[test]
fn errors_say_little_of_much() {
    let long = "긴".repeat(LONG);
    let errors = [
        wrong("c.value", |value| *at(value, &["op"]) = long.as_str().into()),
        wrong("c.value", |value| {
            *at(value, &["source", "lsn"]) = none();
            *at(value, &["source", "sequence"]) = some(long.as_str());
        }),
        moved(Some(3), ENVELOPE, &body("d-moved.value"), Some(long.as_bytes())).unwrap_err(),
    ];
    for error in errors {
        let said = error.to_string();
        assert!(said.len() < 1000, "{} bytes", said.len());
        assert!(said.contains("긴긴긴"), "{said}");
    }
}

/// What an operator reads of a dropped or changed column has to have its name.
#[test]
fn a_column_that_is_not_as_it_was_is_named() {
    for column in ["id", "seller_id", "title", "status"] {
        let mut without: Json = serde_json::from_str(ENVELOPE).unwrap();
        let columns = without.pointer_mut("/fields/0/type/1/fields").unwrap();
        let columns = columns.as_array_mut().unwrap();
        columns.retain(|field| field["name"] != column);
        let without = without.to_string();
        let reason = avro(said(Some(POST), &without, &converted("c.value", &without)));
        assert!(reason.contains(&format!("`{column}`")), "{column}: {reason}");
        let deleted = said(Some(POST), &without, &converted("d.value", &without));
        assert_eq!(deleted.unwrap().op, Op::Delete, "a delete needs no column");

        let mut other: Json = serde_json::from_str(ENVELOPE).unwrap();
        let columns = other.pointer_mut("/fields/0/type/1/fields").unwrap();
        for field in columns.as_array_mut().unwrap() {
            if field["name"] == column {
                *field = json!({ "name": column, "type": "double" });
            }
        }
        let other = other.to_string();
        let reason = avro(said(Some(POST), &other, &changed("c.value", column, &other)));
        assert!(reason.starts_with(&format!("after: {column}: ")), "{reason}");
    }
}

/// A captured value without what the other schema does not have.
fn converted(name: &str, schema: &str) -> Vec<u8> {
    let (from, to) = (parse(ENVELOPE).unwrap(), parse(schema).unwrap());
    let resolved = GenericDatumReader::builder(&from)
        .reader_schema(&to)
        .build()
        .unwrap();
    let value = resolved.read_value(&mut &body(name)[..]).unwrap();
    write(&to, value)
}

/// A captured value with another number in the place of a column.
fn changed(name: &str, column: &str, schema: &str) -> Vec<u8> {
    let from = parse(ENVELOPE).unwrap();
    let reader = GenericDatumReader::builder(&from).build().unwrap();
    let mut value = reader.read_value(&mut &body(name)[..]).unwrap();
    *at(&mut value, &["after", column]) = Value::Double(1.5);
    write(&parse(schema).unwrap(), value)
}

fn avro(said: Result<Understood, MalformedRecord>) -> String {
    match said {
        Err(MalformedRecord::Avro {
            part: Part::Value,
            reason,
        }) => reason,
        said => panic!("{said:?}"),
    }
}

#[test]
fn a_record_of_something_else_is_refused() {
    let of_a_key = said(Some(POST), KEY, &zigzag(POST));
    assert!(avro(of_a_key).contains("`op`"));
    let customers = r#"{"type":"record","name":"Envelope","fields":[
        {"name":"after","type":["null",{"type":"record","name":"Value","fields":[
            {"name":"id","type":"long"},{"name":"name","type":"string"}]}]},
        {"name":"op","type":"string"}]}"#;
    let row = Value::Record(vec![
        ("id".into(), Value::Long(POST)),
        ("name".into(), "김".into()),
    ]);
    let value = Value::Record(vec![("after".into(), some(row)), ("op".into(), "c".into())]);
    let customer = write(&parse(customers).unwrap(), value);
    assert!(avro(said(Some(POST), customers, &customer)).contains("`seller_id`"));
}
