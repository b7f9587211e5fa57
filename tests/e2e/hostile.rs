//! Records that nobody can understand, put into the topic between Debezium's own: each is kept whole and
//! once, says what is wrong with it, and changes nothing.

use std::{collections::BTreeMap, time::Instant};

use chat_service::{cdc::error::UNKNOWN_SCHEMA_GRACE, store::dead_letters::DeadLetter};
use e2e::{
    eventually::eventually,
    topic::Record,
    world::{World, consumer_of, stop},
};
use futures_util::TryStreamExt;
use local_stack::services;
use mongodb::bson::{Binary, Document, doc};

use self::{
    real::{Real, framed},
    records::{Hostile, NAME, hostile_records},
};
use crate::{BOUND, again::consumed, chat_about, insert_posts};

mod raw;
mod real;
mod records;

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const KEPT: &str = "record kept as a dead letter";
/// An id that the registry does not come to while tests run.
const UNKNOWN_SCHEMA: u32 = 4_000_000_000;
/// Of what a hostile record could change.
const COLLECTIONS: [&str; 6] = [
    "trade_posts",
    "rooms",
    "messages",
    "notifications",
    "inboxes",
    "deletions",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_records_are_kept_whole_and_change_nothing() {
    World::run(async |world| {
        world.wanted_errors.push(KEPT);
        let posts = insert_posts(world, SELLER, 3, "target").await;
        let [target, moved, doomed] = posts[..] else {
            panic!("{posts:?}")
        };
        world.known(&posts, BOUND).await;
        for post in [target, doomed] {
            chat_about(world, post, BUYER, 3).await;
        }
        delete(world, moved).await;
        let real = Real::read(world, target, moved).await;
        consumed(world, &world.name).await;
        let before = snapshot(world).await;

        let hostile = hostile_records(world, &real, moved, doomed).await;
        let count = hostile.len();
        let partitions = [0, 1, 2].into_iter().cycle();
        let records = hostile.iter().zip(partitions);
        let records = records.map(|(hostile, partition)| hostile.record(partition));
        world.topic().append(records.collect()).await;
        consumed(world, &world.name).await;
        assert_eq!(snapshot(world).await, before, "they change nothing");
        let letters = dead_letters(world).await;
        check(world, &hostile, &letters).await;
        let said = std::fs::read_to_string(world.chat.server.log()).unwrap();
        assert_eq!(said.matches(KEPT).count(), count, "each is told once");

        delete(world, doomed).await;
        world.erased(1, BOUND).await;
        assert_eq!(world.chats(target).await.1.len(), 3);

        // All of it once more, and behind it Debezium's own.
        stop(&world.chat).await;
        let group = format!("{}_again", world.name);
        let options = world.chat_options().env("KAFKA_GROUP_ID", &group);
        world.chat = services::spawn_chat(world.stack, options).await.unwrap();
        consumed(world, &group).await;
        let again = dead_letters(world).await;
        assert_eq!(documents(&again), documents(&letters), "each is kept once");
        println!("{count} hostile records are kept");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_the_registry_does_not_know_holds_the_topic_up_for_a_minute() {
    World::run(async |world| {
        world.wanted_errors.push(KEPT);
        let posts = insert_posts(world, SELLER, 1, "behind").await;
        world.known(&posts, BOUND).await;
        chat_about(world, posts[0], BUYER, 3).await;
        consumed(world, &world.name).await;
        // It is waited for once, however many records have it.
        let unknown = [0, 1, 2].map(|partition| Record {
            partition,
            offset: 0,
            key: None,
            value: Some(framed(UNKNOWN_SCHEMA, b"later")),
            headers: Vec::new(),
        });
        let begun = Instant::now();
        world.topic().append(unknown.to_vec()).await;
        delete(world, posts[0]).await;

        eventually("the consumer says what it waits for", BOUND, async || {
            let consumer = consumer_of(&world.chat).await.unwrap();
            if consumer.to_string().contains("unknown_schema") {
                Ok(())
            } else {
                Err(consumer)
            }
        })
        .await;
        assert_eq!(world.count("dead_letters").await, 0);
        world.erased(1, UNKNOWN_SCHEMA_GRACE + BOUND).await;
        let waited = begun.elapsed();
        assert!(waited >= UNKNOWN_SCHEMA_GRACE, "{waited:?}");
        // The delete may be read before the last of them, from another partition.
        let letters = eventually("all are kept", BOUND, async || {
            let letters = dead_letters(world).await;
            if letters.len() == unknown.len() {
                Ok(letters)
            } else {
                Err(letters)
            }
        })
        .await;
        for letter in letters {
            let reason = format!("the schema registry does not know schema {UNKNOWN_SCHEMA}");
            assert_eq!(letter.reason, reason);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_whose_name_is_no_text_stops_nothing() {
    World::run(async |world| {
        world.wanted_errors = vec![KEPT, "rdkafka"];
        let posts = insert_posts(world, SELLER, 1, "behind").await;
        world.known(&posts, BOUND).await;
        chat_about(world, posts[0], BUYER, 3).await;
        let process = world.chat.server.pid();

        raw::produce(&world.topic(), b"no record", (b"\xff\xfe", b"content")).await;
        delete(world, posts[0]).await;
        world.erased(1, BOUND).await;
        consumed(world, &world.name).await;
        let letters = dead_letters(world).await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert_eq!(letters[0].value.as_ref().unwrap().bytes, b"no record");
        let headers: Vec<&str> = letters[0].headers.iter().map(|header| &*header.name).collect();
        assert_eq!(headers, ["(a header whose name is not UTF-8)"]);
        assert_eq!(world.chat.server.pid(), process, "it was not started again");
    })
    .await;
}

/// Each is in Kafka once, in `dead_letters` once, and the same in both.
async fn check(world: &World, hostile: &[Hostile], letters: &[DeadLetter]) {
    let name = |record: &Record| {
        let name = record.header(NAME)?;
        Some(String::from_utf8(name.to_vec()).unwrap())
    };
    let records = world.topic().read().await;
    let sent: BTreeMap<String, &Record> = records
        .iter()
        .filter_map(|record| Some((name(record)?, record)))
        .collect();
    let kept: BTreeMap<String, (Record, &DeadLetter)> = letters
        .iter()
        .map(|letter| {
            let record = as_record(letter);
            (name(&record).unwrap(), (record, letter))
        })
        .collect();
    assert_eq!((sent.len(), kept.len(), letters.len()), {
        let count = hostile.len();
        (count, count, count)
    });
    for Hostile { name, reason, .. } in hostile {
        let (record, letter) = &kept[*name];
        assert_eq!(record, sent[*name], "{name}");
        assert_eq!(letter.topic, world.topic().name);
        assert!(letter.timestamp.is_some(), "{name}");
        assert!(
            letter.reason.matches(reason).count() == 1,
            "{name}: {}",
            letter.reason
        );
        assert!(letter.reason.len() < 2000, "{name}: {}", letter.reason);
        println!("{name}: {}", letter.reason);
    }
}

fn as_record(letter: &DeadLetter) -> Record {
    let bytes = |binary: &Binary| binary.bytes.clone();
    let headers = letter.headers.iter();
    Record {
        partition: letter.partition,
        offset: letter.offset,
        key: letter.key.as_ref().map(bytes),
        value: letter.value.as_ref().map(bytes),
        headers: headers
            .map(|header| (header.name.clone(), header.value.as_ref().map(bytes)))
            .collect(),
    }
}

async fn dead_letters(world: &World) -> Vec<DeadLetter> {
    let all = world.store.dead_letters.find(doc! {});
    let all = all.sort(doc! { "partition": 1, "offset": 1 }).await.unwrap();
    all.try_collect().await.unwrap()
}

fn documents(letters: &[DeadLetter]) -> Vec<Document> {
    let letters = letters.iter();
    letters
        .map(|letter| mongodb::bson::serialize_to_document(letter).unwrap())
        .collect()
}

async fn snapshot(world: &World) -> Vec<(&'static str, Vec<Document>)> {
    let mut all = Vec::new();
    for collection in COLLECTIONS {
        all.push((collection, world.everything(collection).await));
    }
    all
}

async fn delete(world: &World, post: i64) {
    let delete = sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(post);
    assert_eq!(delete.execute(&world.sql).await.unwrap().rows_affected(), 1);
}
