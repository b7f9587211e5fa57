//! The hostile records, and what is to be said about each.

use apache_avro::types::Value as Avro;
use e2e::{records::split, topic::Record, world::World};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::real::{Real, framed, register, registered};

/// Names a hostile record, for the test alone.
pub const NAME: &str = "name";
const MOVED_TO: &str = "__debezium.newkey";
const NONE: Option<Vec<u8>> = None;

pub struct Hostile {
    pub name: &'static str,
    pub reason: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    moved_to: Option<String>,
}

impl Hostile {
    pub fn record(&self, partition: i32) -> Record {
        let mut headers = vec![
            (NAME.to_owned(), Some(self.name.into())),
            ("without a value".to_owned(), None),
        ];
        let moved_to = self.moved_to.clone().map(String::into_bytes);
        headers.extend(moved_to.map(|to| (MOVED_TO.to_owned(), Some(to))));
        Record {
            partition,
            offset: 0,
            key: self.key.clone(),
            value: self.value.clone(),
            headers,
        }
    }
}

fn hostile(
    name: &'static str,
    key: impl Into<Option<Vec<u8>>>,
    value: impl Into<Option<Vec<u8>>>,
    reason: &'static str,
) -> Hostile {
    Hostile {
        name,
        reason,
        key: key.into(),
        value: value.into(),
        moved_to: None,
    }
}

/// One of each kind. `doomed` is a post with chats that they would close, were they understood.
pub async fn hostile_records(world: &World, real: &Real, moved: i64, doomed: i64) -> Vec<Hostile> {
    let mut all = of_bytes(real);
    all.extend(of_schemas(world, real, doomed).await);
    all.extend(of_fields(real, doomed));
    let ids = [
        ("moved to nowhere", r#"{"id":-1}"#.to_owned()),
        ("moved by no JSON", "{".to_owned()),
        ("moved to itself", json!({ "id": moved }).to_string()),
    ];
    all.extend(ids.map(|(name, moved_to)| Hostile {
        name,
        reason: "header __debezium.newkey: \"",
        key: real.deleted.key.clone(),
        value: Some(real.deleted()),
        moved_to: Some(moved_to),
    }));
    all
}

/// Neither header nor body is in order.
fn of_bytes(real: &Real) -> Vec<Hostile> {
    let mut random = StdRng::seed_from_u64(7);
    let mut garbage = |len: usize| -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len).map(|_| random.random()).collect();
        bytes[0] |= 1;
        bytes
    };
    let (key, created) = (|| real.key(), real.created());
    let (cut, longer) = (&created[..created.len() - 1], [&created[..], &[0]].concat());
    let head = framed(real.value_schema, &[]);
    let magic = "value: wire header starts with byte";
    let misfit = "value: it does not fit its writer schema";
    vec![
        hostile("random bytes", key(), garbage(100), magic),
        hostile("much garbage", key(), garbage(900_000), magic),
        hostile(
            "random key",
            garbage(20),
            created.clone(),
            "key: wire header starts with byte",
        ),
        hostile("empty", key(), Vec::new(), "value: 0 bytes are too short"),
        hostile("short", key(), vec![0, 0, 0], "value: 3 bytes are too short"),
        hostile("header alone", key(), head, misfit),
        hostile("cut", key(), cut.to_vec(), misfit),
        hostile("longer", key(), longer, "value: 1 bytes are left over"),
        hostile(
            "huge length",
            key(),
            with_huge_title(real),
            "after: title: Unable",
        ),
    ]
}

/// No old row; a new one with an id, a seller and a title of 2^60 bytes.
fn with_huge_title(real: &Real) -> Vec<u8> {
    let created = real.created();
    let (_, body) = split(&created);
    assert_eq!(body[0], 0, "the branch of the old row");
    let length = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
    framed(real.value_schema, &[&[0, 2, 2, 2][..], &length].concat())
}

/// Written with another schema than a record about posts.
async fn of_schemas(world: &World, real: &Real, doomed: i64) -> Vec<Hostile> {
    let customers = json!({ "type": "record", "name": "Envelope", "fields": [
        { "name": "after", "type": ["null", { "type": "record", "name": "Value", "fields": [
            { "name": "id", "type": "long" }, { "name": "name", "type": "string" }] }] },
        { "name": "op", "type": "string" }] });
    let customer = Avro::Record(vec![
        ("id".into(), Avro::Long(doomed)),
        ("name".into(), "김".into()),
    ]);
    let customer = Avro::Record(vec![
        ("after".into(), Avro::Union(1, Box::new(customer))),
        ("op".into(), "d".into()),
    ]);
    let customer = registered(world, "customers", &customers, customer).await;
    let deleted_customer = real.changed(&real.deleted(), &["source", "table"], "customers");
    let codes = json!({ "type": "record", "name": "Key", "fields": [{ "name": "code", "type": "string" }] });
    let code = Avro::Record(vec![("code".into(), "A-17".into())]);
    let code = registered(world, "codes", &codes, code).await;
    let list = json!({ "type": "record", "name": "List", "fields": [
        { "name": "next", "type": ["null", "List"] }] });
    let list = register(world, "list", &json!({ "schema": list.to_string() })).await;
    let no_avro = r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}"#;
    let no_avro = json!({ "schemaType": "JSON", "schema": no_avro });
    let no_avro = framed(register(world, "json", &no_avro).await, b"{}");
    let untitled = real.created_without(world, "title").await;

    let post = || real.key_of(doomed);
    vec![
        hostile(
            "another schema",
            post(),
            customer,
            "after: missing field `seller_id`",
        ),
        hostile(
            "another table",
            post(),
            deleted_customer,
            "value: it is about the table \"public.customers\"",
        ),
        hostile("no title", real.key(), untitled, "after: missing field `title`"),
        hostile("key without id", code, real.deleted(), "missing field `id`"),
        hostile("key as value", real.key(), real.key(), "missing field `op`"),
        hostile(
            "value as key",
            real.created(),
            real.created(),
            "missing field `id`",
        ),
        hostile("no Avro", real.key(), no_avro, "its type is Json"),
        hostile(
            "endless schema",
            real.key(),
            framed(list, &[2; 1000]),
            "List holds itself",
        ),
    ]
}

/// In order, but for what they say.
fn of_fields(real: &Real, doomed: i64) -> Vec<Hostile> {
    let key = || real.key();
    let op = |op: &str| real.changed(&real.created(), &["op"], op);
    let negative = -doomed;
    let keyless = "key: the record has none";
    let deleted_key = real.deleted.key.clone();
    let early = real.changed(&real.deleted(), &["source", "ts_ms"], i64::MIN);
    let long = op(&"d".repeat(500_000));
    vec![
        hostile(
            "negative id",
            real.key_of(negative),
            real.deleted(),
            "is not positive",
        ),
        hostile("id zero", real.key_of(0), NONE, "key: id 0"),
        hostile("value without key", NONE, real.created(), keyless),
        hostile("delete without key", NONE, real.deleted(), keyless),
        hostile("nothing", NONE, NONE, keyless),
        hostile("another's key", real.key_of(doomed), real.created(), "row's id"),
        hostile("unknown operation", key(), op("x"), "unknown operation \"x\""),
        hostile("long operation", key(), long, "unknown operation \"dddd"),
        hostile(
            "truncate of one",
            key(),
            op("t"),
            "a truncate is of the whole table",
        ),
        hostile("before all time", deleted_key, early, "no time of a change"),
        hostile("delete with row", key(), op("d"), "a delete has a row"),
    ]
}
