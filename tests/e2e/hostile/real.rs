//! What Debezium wrote about two posts, and ways to make it worse.

use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};
use e2e::{
    eventually::eventually,
    records::{WriterSchemas, schema_ids},
    topic::Record,
    world::World,
};
use serde_json::{Value as Json, json};

use crate::{BOUND, records::writer_schemas};

pub struct Real {
    /// The record of a post that was created, and is still there.
    pub created: Record,
    /// The record of another that was deleted.
    pub deleted: Record,
    pub value_schema: u32,
    key_schema: u32,
    schemas: WriterSchemas,
    envelope: Json,
}

impl Real {
    /// Waits for what Debezium writes about both.
    pub async fn read(world: &World, created: i64, deleted: i64) -> Self {
        let records = eventually("the delete is in the topic", BOUND, async || {
            let records = world.topic().read().await;
            if records.iter().any(|record| record.value.is_none()) {
                Ok(records)
            } else {
                Err(records.len())
            }
        })
        .await;
        let (schemas, texts) = writer_schemas(world, &records).await;
        let find = |post: i64, op: &str| {
            let found = records.iter().find(|record| {
                let key = record.key.as_deref().map(|key| schemas.everything(key));
                let value = record.value.as_deref().map(|value| schemas.envelope(value));
                key == Some(key_of(post)) && value.is_some_and(|value| value.op == op)
            });
            found.unwrap().clone()
        };
        let (created, deleted) = (find(created, "c"), find(deleted, "d"));
        let ids: Vec<u32> = schema_ids(&created).collect();
        let (_, envelope) = texts.iter().find(|(id, _)| *id == ids[1]).unwrap();
        Self {
            created,
            deleted,
            key_schema: ids[0],
            value_schema: ids[1],
            envelope: serde_json::from_str(envelope).unwrap(),
            schemas,
        }
    }

    pub fn key(&self) -> Vec<u8> {
        self.created.key.clone().unwrap()
    }

    pub fn created(&self) -> Vec<u8> {
        self.created.value.clone().unwrap()
    }

    pub fn deleted(&self) -> Vec<u8> {
        self.deleted.value.clone().unwrap()
    }

    /// The key of any post.
    pub fn key_of(&self, post: i64) -> Vec<u8> {
        let key = written(self.schemas.schema(self.key_schema), key_of(post));
        framed(self.key_schema, &key)
    }

    /// A captured value with something else in one place.
    pub fn changed(&self, value: &[u8], path: &[&str], to: impl Into<Avro>) -> Vec<u8> {
        let mut changed = self.schemas.everything(value);
        let place = path.iter().fold(&mut changed, |record, name| {
            let Avro::Record(fields) = record else {
                panic!("no record around {name}")
            };
            &mut fields.iter_mut().find(|(field, _)| field == name).unwrap().1
        });
        *place = to.into();
        let changed = written(self.schemas.schema(self.value_schema), changed);
        framed(self.value_schema, &changed)
    }

    /// The created post's value, as Debezium would write it had the column been dropped.
    pub async fn created_without(&self, world: &World, column: &str) -> Vec<u8> {
        let mut schema = self.envelope.clone();
        let columns = schema.pointer_mut("/fields/0/type/1/fields").unwrap();
        let columns = columns.as_array_mut().unwrap();
        let before = columns.len();
        columns.retain(|field| field["name"] != column);
        assert_eq!(columns.len(), before - 1);
        let value = self.schemas.everything(&self.created());
        let value = value.resolve(&Schema::parse(&schema).unwrap()).unwrap();
        registered(world, column, &schema, value).await
    }
}

fn key_of(post: i64) -> Avro {
    Avro::Record(vec![("id".into(), Avro::Long(post))])
}

/// Registers a schema, and answers the part of a record that was written with it.
pub async fn registered(world: &World, subject: &str, schema: &Json, value: Avro) -> Vec<u8> {
    let id = register(world, subject, &json!({ "schema": schema.to_string() })).await;
    framed(id, &written(&Schema::parse(schema).unwrap(), value))
}

/// Registers whatever it is, and answers its id.
pub async fn register(world: &World, subject: &str, schema: &Json) -> u32 {
    let registry = world.stack.registry.confluent_url();
    let answer = reqwest::Client::new()
        .post(format!("{registry}/subjects/{}.{subject}/versions", world.name))
        .json(schema)
        .send()
        .await
        .unwrap();
    let answer: Json = answer.json().await.unwrap();
    let id = answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"));
    u32::try_from(id).unwrap()
}

fn written(schema: &Schema, value: Avro) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

pub fn framed(schema_id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &schema_id.to_be_bytes()[..], body].concat()
}
