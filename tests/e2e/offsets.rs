//! The group's offset is not in the topic any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use e2e::{
    eventually::{eventually, eventually_is},
    world::{World, stop},
};
use local_stack::{progress::Progress, services};
use mongodb::bson::doc;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use tokio::{process::Command, time::timeout};

use crate::{BOUND, gaps::suspected, insert_posts};

/// Commits offsets for the world's group that no record has. The group has to be empty, which it is once the
/// session of a member with a name has run out.
async fn commit_beyond_the_end(world: &World) {
    let topic = world.topic();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &topic.bootstrap)
        .set("group.id", &world.name)
        .create()
        .unwrap();
    let mut beyond = TopicPartitionList::new();
    for partition in 0..3 {
        beyond
            .add_partition_offset(&topic.name, partition, Offset::Offset(1_000_000))
            .unwrap();
    }
    eventually("the group takes offsets", BOUND, async || {
        consumer.commit(&beyond, CommitMode::Sync)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_topic_ends_the_service_until_an_operator_decides() {
    World::run(async |world| {
        // Some in each partition, whichever ids their schemas were given.
        let first = insert_posts(world, 1, 12, "before").await;
        world.known(&first, BOUND).await;
        stop(&world.chat).await;
        commit_beyond_the_end(world).await;
        let second = insert_posts(world, 1, 12, "behind the gap").await;

        let options = world.chat_options();
        let programs = services::programs(&Progress::for_tests()).await.unwrap();
        let refused = Command::new(&programs.chat_service)
            .envs(&options.env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let refused = timeout(BOUND, refused).await.expect("it exits").unwrap();
        assert!(!refused.status.success(), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr) + String::from_utf8_lossy(&refused.stdout);
        assert!(said.contains("KAFKA_OFFSET_RESET=earliest"), "{said}");

        let decided = world.chat_options().env("KAFKA_OFFSET_RESET", "earliest");
        world.chat = services::spawn_chat(world.stack, decided).await.unwrap();
        world.known(&second, BOUND).await;
        let ends = world.topic().end_offsets().await;
        let expected = ends.iter().filter(|(_, end)| **end > 0);
        let expected: BTreeSet<String> = expected
            .map(|(partition, _)| format!("rewound@{}-{partition}@1000000", world.topic().name))
            .collect();
        eventually_is("gaps", BOUND, expected.clone(), async || gaps(world).await).await;

        expire(world, expected).await;
    })
    .await;
}

/// Records go before they were read. What is left is read, and what is gone is remembered.
async fn expire(world: &mut World, mut known: BTreeSet<String>) {
    let topic = world.topic();
    let before: i64 = topic.end_offsets().await.values().sum();
    stop(&world.chat).await;
    let committed = topic.committed(&world.name).await;
    let posts = insert_posts(world, 1, 60, "expires").await;
    let ends = eventually("all are captured", BOUND, async || {
        let ends = topic.end_offsets().await;
        if ends.values().sum::<i64>() == before + 60 {
            Ok(ends)
        } else {
            Err(ends)
        }
    })
    .await;
    let last: BTreeMap<i32, i64> = ends
        .iter()
        .map(|(partition, end)| (*partition, end - 1))
        .collect();
    topic.remove_before(&last).await;
    // What was rewound goes on where it is now, but for a partition that had no record to go on with.
    known.extend(committed.iter().filter_map(|(partition, committed)| {
        let kind = match committed {
            committed if *committed > ends[partition] => "rewound",
            committed if *committed < last[partition] => "expired",
            _ => return None,
        };
        Some(format!("{kind}@{}-{partition}@{committed}", topic.name))
    }));
    let expired = known.iter().filter(|gap| gap.starts_with("expired")).count();
    assert!(expired >= 2, "{known:?}");

    let decided = world.chat_options().env("KAFKA_OFFSET_RESET", "earliest");
    world.chat = services::spawn_chat(world.stack, decided).await.unwrap();
    eventually_is("what is left is read", BOUND, ends, async || {
        topic.committed(&world.name).await
    })
    .await;
    assert_eq!(gaps(world).await, known);
    suspected(world, known.len()).await;
    let unread = world
        .store
        .posts
        .count_documents(doc! { "_id": { "$in": &posts } });
    assert_eq!(unread.await.unwrap(), 3, "the last of each partition");

    // Going on from there is no gap.
    stop(&world.chat).await;
    world.chat = services::spawn_chat(world.stack, world.chat_options())
        .await
        .unwrap();
    let later = insert_posts(world, 1, 9, "later").await;
    world.known(&later, BOUND).await;
    assert_eq!(gaps(world).await, known);
}

async fn gaps(world: &World) -> BTreeSet<String> {
    let gaps = world.store.gaps(None, 100).await.unwrap();
    gaps.into_iter().map(|gap| gap.id).collect()
}
