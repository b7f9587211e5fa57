//! chat-service is told to end in the middle of its work.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use apache_avro::types::Value;
use e2e::{
    eventually::eventually,
    records::{KEY_SCHEMA, WriterSchemas, split},
    world::World,
};
use futures_util::future::join_all;
use local_stack::services::Service;
use mongodb::bson::doc;
use tokio::time::timeout;

use crate::{market::MEMBERS, mongodb, scene::Scene};

const STREAMS_END_WITHIN: Duration = Duration::from_secs(1);
/// Less than the ten seconds that orchestrators give by default.
const PROCESS_ENDS_WITHIN: Duration = Duration::from_millis(9_900);

/// Waits until the process that was told to end has, and checks that it did so well.
async fn exits_well(chat: &Service, told: Instant) {
    let status = eventually("the process ends", PROCESS_ENDS_WITHIN, async || {
        chat.server.exit_status().unwrap().ok_or("it runs")
    })
    .await;
    println!("ended after {:?}: {status}", told.elapsed());
    assert!(status.success(), "{status}");
}

/// What chat-service did and what it committed, compared record by record.
async fn committed_is_what_was_done(world: &World) {
    let topic = world.topic();
    let committed = topic.committed(&world.name).await;
    let done = world
        .store
        .deletions
        .distinct("trade_post_id", doc! {})
        .await
        .unwrap();
    let done: BTreeSet<i64> = done.into_iter().filter_map(|post| post.as_i64()).collect();
    let records = topic.read().await;
    let mut deletes = 0;
    for record in records.iter().filter(|record| record.value.is_none()) {
        let post = post_of(record.key.as_deref().unwrap());
        // The tombstone says which; the delete itself is the record before it.
        let read = record.offset - 1 < committed[&record.partition];
        assert_eq!(
            read,
            done.contains(&post),
            "post {post}, {record:?}, {committed:?}"
        );
        deletes += 1;
    }
    println!(
        "{} of {deletes} deletes were done and committed: {committed:?}",
        done.len()
    );
}

fn post_of(key: &[u8]) -> i64 {
    let mut schemas = WriterSchemas::default();
    schemas.insert(split(key).0, KEY_SCHEMA);
    match schemas.everything(key) {
        Value::Record(fields) => match fields[0].1 {
            Value::Long(id) => id,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_finishes_the_batch_at_hand_and_commits_it() {
    Scene::run(async |scene| {
        let streams = (1..=MEMBERS).map(async |member| {
            let mut stream = scene.world.member(member).events(None).await.unwrap();
            stream.next_frame().await.unwrap().expect("the opening frame");
            stream
        });
        let streams = join_all(streams).await;
        scene.middle().await;
        scene.world.chat.server.terminate().unwrap();
        let told = Instant::now();
        let ended = join_all(streams.into_iter().map(async |mut stream| {
            while stream.next().await.expect("ended in order").is_some() {}
        }));
        timeout(STREAMS_END_WITHIN, ended)
            .await
            .expect("streams end in time");
        println!("streams ended after {:?}", told.elapsed());
        exits_well(&scene.world.chat, told).await;
        scene.deletes_go_on().await;
        committed_is_what_was_done(scene.world).await;
        scene.world.chat.server.restart().await.unwrap();
        scene.settle().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_while_mongodb_does_not_answer_it_ends_in_time() {
    let Some(mongodb) = mongodb().await else { return };
    Scene::run(async |scene| {
        scene.middle().await;
        mongodb.stop().unwrap();
        scene.deletes_go_on().await;
        scene.world.chat.server.terminate().unwrap();
        exits_well(&scene.world.chat, Instant::now()).await;
        mongodb.cont().unwrap();
        scene.world.end_transactions().await;
        scene.world.chat.server.restart().await.unwrap();
        scene.settle().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_while_kafka_is_away_it_ends_in_time() {
    Scene::run(async |scene| {
        let kafka = &scene.world.stack.kafka.server;
        scene.middle().await;
        kafka.kill().unwrap();
        scene.deletes_go_on().await;
        scene.world.chat.server.terminate().unwrap();
        exits_well(&scene.world.chat, Instant::now()).await;
        kafka.restart().await.unwrap();
        scene.world.chat.server.restart().await.unwrap();
        scene.settle().await;
    })
    .await;
}
