//! What `connectors schemas check` says of a writer schema is what chat-service makes of records that are
//! written with it. Needs no server.

use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use connectors::schemas::{
    Half, Table,
    check::problems,
    need::{self, Need, Shape},
};
use serde_json::{Value as Json, json};

use crate::{fixtures::Fixtures, heartbeat_records, keyword_records};

/// A recorded change of a row.
struct Recorded<'a> {
    table: Table,
    writer_schema: Json,
    everything: Value,
    /// Whether chat-service understands it, written like that.
    is_read: &'a dyn Fn(&Schema, &[u8]) -> bool,
}

/// Types that a column could get, and what a record would hold of them.
fn types() -> Vec<Json> {
    vec![
        json!("long"),
        json!("int"),
        json!("string"),
        json!("bytes"),
        json!("boolean"),
        json!("double"),
        json!({"type": "string", "connect.default": "on_sale"}),
        json!(["null", "long"]),
        json!(["long", "null"]),
        json!(["null", "int"]),
        json!(["null", "string"]),
        json!(["string", "null"]),
        json!(["null", "long", "string"]),
        json!(["long", "string"]),
    ]
}

#[test]
fn the_check_of_schemas_judges_as_chat_service_does() {
    let posts = Fixtures::read();
    judges_as_chat_service_does(&Recorded {
        table: Table::TradePosts,
        writer_schema: serde_json::from_str(&posts.schema_of("c")).unwrap(),
        everything: posts.schemas.everything(posts.value("c")),
        is_read: &|writer, body| posts.with_value("c", writer, body).is_ok(),
    });
    let keywords = keyword_records::recorded();
    judges_as_chat_service_does(&Recorded {
        table: Table::Keywords,
        writer_schema: serde_json::from_str(&keywords.schema_of("c")).unwrap(),
        everything: keywords.schemas.everything(keywords.value("c")),
        is_read: &|writer, body| keyword_records::with_value(&keywords, "c", writer, body).is_ok(),
    });
    let heartbeats = heartbeat_records::recorded();
    judges_as_chat_service_does(&Recorded {
        table: Table::Heartbeats,
        writer_schema: serde_json::from_str(&heartbeats.schema_of("u")).unwrap(),
        everything: heartbeats.schemas.everything(heartbeats.value("u")),
        is_read: &|writer, body| heartbeat_records::with_value(writer, body).is_ok(),
    });
}

fn judges_as_chat_service_does(recorded: &Recorded<'_>) {
    for need in need::of(recorded.table, Half::Value) {
        let mut changes: Vec<Option<Json>> = types().into_iter().map(Some).collect();
        changes.push(None);
        if need.shape == Shape::OptionalRecord {
            // The row itself can only be missing.
            changes = vec![None];
        }
        let mut judged = [0, 0];
        for change in changes {
            let schema = changed(&recorded.writer_schema, need, change.as_ref());
            let found = problems(recorded.table, Half::Value, &schema.to_string()).unwrap();
            let (fits, read) = (
                found.is_empty(),
                is_read(recorded, &schema, need, change.as_ref()),
            );
            assert_eq!(
                fits,
                read,
                "{} as {change:?}: problems {found:?}, read by chat-service: {read}",
                need.path.join(".")
            );
            judged[usize::from(read)] += 1;
        }
        // Many types do not fit, and at least one does.
        let wanted = match need.shape {
            Shape::OptionalRecord => [1, 0],
            _ => [9, 1],
        };
        assert!(
            judged
                .iter()
                .zip(wanted)
                .all(|(judged, wanted)| *judged >= wanted),
            "{need:?}: {judged:?}"
        );
    }
}

/// The schema with another type of that field, or without it.
fn changed(written: &Json, need: Need, change: Option<&Json>) -> Json {
    let mut schema = written.clone();
    // The row's columns are defined where it is named first.
    let fields = match need.path {
        ["after", _] => record(&mut schema, "before").pointer_mut("/1/fields"),
        ["source", _] => record(&mut schema, "source").pointer_mut("/fields"),
        _ => schema.pointer_mut("/fields"),
    };
    let fields = fields.unwrap().as_array_mut().unwrap();
    let place = fields
        .iter()
        .position(|field| field["name"] == *need.path.last().unwrap());
    match change {
        Some(kind) => fields[place.unwrap()] = json!({"name": need.path.last().unwrap(), "type": kind}),
        None => drop(fields.remove(place.unwrap())),
    }
    schema
}

fn record<'a>(schema: &'a mut Json, field: &str) -> &'a mut Json {
    let fields = schema["fields"].as_array_mut().unwrap();
    &mut fields.iter_mut().find(|one| one["name"] == field).unwrap()["type"]
}

/// Whether chat-service reads every record that can be written so.
fn is_read(recorded: &Recorded<'_>, schema: &Json, need: Need, change: Option<&Json>) -> bool {
    let parsed = Schema::parse(schema).unwrap();
    let everything = &recorded.everything;
    let values: Vec<Option<Value>> = match change {
        None => vec![None],
        Some(kind) => possible(kind, scalar(at(everything, need.path)))
            .into_iter()
            .map(Some)
            .collect(),
    };
    values.into_iter().all(|value| {
        let mut whole = everything.clone();
        replace(&mut whole, need.path, value);
        let body = GenericDatumWriter::builder(&parsed)
            .build()
            .unwrap()
            .write_value_to_vec(whole)
            .unwrap();
        (recorded.is_read)(&parsed, &body)
    })
}

/// One value for each alternative of the type, as near to the recorded one as it can be.
fn possible(kind: &Json, recorded: &Value) -> Vec<Value> {
    let number = match recorded {
        Value::Long(number) => *number,
        _ => 7,
    };
    let text = match recorded {
        Value::String(text) => text.clone(),
        _ => "7".to_owned(),
    };
    match kind {
        Json::Array(variants) => variants
            .iter()
            .zip(0..)
            .flat_map(|(variant, index)| {
                let values = possible(variant, recorded).into_iter();
                values.map(move |value| Value::Union(index, Box::new(value)))
            })
            .collect(),
        Json::Object(kind) => possible(&kind["type"], recorded),
        kind => vec![match kind.as_str().unwrap() {
            "null" => Value::Null,
            "long" => Value::Long(number),
            "int" => Value::Int(i32::try_from(number).unwrap_or(7)),
            "string" => Value::String(text),
            "bytes" => Value::Bytes(text.into()),
            "boolean" => Value::Boolean(true),
            "double" => Value::Double(7.0),
            other => panic!("{other}"),
        }],
    }
}

fn scalar(value: &Value) -> &Value {
    match value {
        Value::Union(_, value) => value,
        value => value,
    }
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    let Some((name, rest)) = path.split_first() else {
        return value;
    };
    let Value::Record(fields) = scalar(value) else {
        panic!("not a record: {value:?}")
    };
    at(&fields.iter().find(|(field, _)| field == name).unwrap().1, rest)
}

fn replace(value: &mut Value, path: &[&str], by: Option<Value>) {
    let (name, rest) = path.split_first().unwrap();
    let record = match value {
        Value::Union(_, value) => value.as_mut(),
        value => value,
    };
    let Value::Record(fields) = record else {
        panic!("not a record: {record:?}")
    };
    let place = fields.iter().position(|(field, _)| field == name).unwrap();
    match (rest, by) {
        ([], Some(by)) => fields[place].1 = by,
        ([], None) => drop(fields.remove(place)),
        (rest, by) => replace(&mut fields[place].1, rest, by),
    }
}
