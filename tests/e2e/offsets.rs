//! The group's offset is not in the topic any more.

use std::process::Stdio;

use e2e::{
    eventually::eventually,
    world::{World, stop},
};
use local_stack::{progress::Progress, services};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use tokio::{process::Command, time::timeout};

use crate::{BOUND, insert_posts};

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
        let first = insert_posts(world, 1, 3, "before").await;
        world.known(&first, BOUND).await;
        stop(&world.chat).await;
        commit_beyond_the_end(world).await;
        let second = insert_posts(world, 1, 3, "behind the gap").await;

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
    })
    .await;
}
