//! A server dies, or stops answering, and comes back. chat-service outlives it: nobody restarts anything else.

use std::time::{Duration, Instant};

use e2e::eventually::eventually;
use tokio::time::sleep;

use crate::{BOUND, mongodb, scene::Scene, watch::Watch};

/// Longer than chat-service lets a batch take before it pauses its partitions, than the group's session, and
/// than the group waits for a consumer that does not poll (`max.poll.interval.ms` of a world).
const STOPPED_FOR: Duration = Duration::from_secs(20);
/// `check-period-ms` of the Apicurio converter.
const SCHEMAS_KEPT_BY_DEFAULT: Duration = Duration::from_secs(31);
/// For so long MongoDB keeps what an unfinished transaction wrote locked, unless whoever began it ends it.
const TRANSACTION_LIFETIME: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_is_killed() {
    let Some(server) = mongodb().await else { return };
    Scene::run(async |scene| {
        let watch = Watch::start(&scene.world.chat);
        scene.middle().await;
        server.kill().unwrap();
        scene.deletes_go_on().await;
        watch.sees_down("mongodb").await;
        server.restart().await.unwrap();
        scene.tells("MongoDB is back");
        scene.settle().await;
        watch.end(&scene.world.chat).await;
    })
    .await;
}

/// Away for longer than the session with the group lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_killed() {
    Scene::run(async |scene| {
        // What the client library says of a client that it gives up.
        scene.world.wanted_errors = vec!["Failed to close consumer queue on drop"];
        let server = &scene.world.stack.kafka.server;
        let watch = Watch::start(&scene.world.chat);
        scene.middle().await;
        let before = scene.world.rebalances(&scene.world.chat);
        server.kill().unwrap();
        scene.deletes_go_on().await;
        watch.sees_down("kafka").await;
        eventually("the session runs out", BOUND, async || {
            let now = scene.world.rebalances(&scene.world.chat);
            if now == before {
                Err("the partitions are kept")
            } else {
                Ok(())
            }
        })
        .await;
        server.restart().await.unwrap();
        scene.tells("Kafka is back");
        scene.settle().await;
        watch.end(&scene.world.chat).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_connect_is_killed() {
    Scene::run(async |scene| {
        let server = &scene.world.stack.connect.server;
        let watch = Watch::start(&scene.world.chat);
        scene.middle().await;
        server.kill().unwrap();
        scene.deletes_go_on().await;
        watch.is_ready().await;
        server.restart().await.unwrap();
        scene.tells("Kafka Connect is back");
        scene.settle().await;
        watch.end(&scene.world.chat).await;
    })
    .await;
}

/// Away for longer than a converter keeps schemas if it is not told otherwise. Chats are closed and erased as
/// if nothing was missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_is_killed() {
    Scene::run(async |scene| {
        let captured = Instant::now();
        let server = &scene.world.stack.registry.server;
        let watch = Watch::start(&scene.world.chat);
        scene.middle().await;
        server.kill().unwrap();
        scene.deletes_go_on().await;
        watch.sees_down("schema_registry").await;
        sleep(SCHEMAS_KEPT_BY_DEFAULT.saturating_sub(captured.elapsed())).await;
        scene.settle().await;
        server.restart().await.unwrap();
        watch.end(&scene.world.chat).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_killed() {
    Scene::run(async |scene| {
        let server = &scene.world.stack.postgres.server;
        let watch = Watch::start(&scene.world.chat);
        scene.middle().await;
        server.kill().unwrap();
        let killed = Instant::now();
        watch.is_ready().await;
        // It does not start as long as a process of the killed one has not noticed and ended.
        eventually("PostgreSQL starts", BOUND, async || {
            server.restart().await.map_err(|error| format!("{error:#}"))
        })
        .await;
        scene.tells(format!("PostgreSQL is back after {:?}", killed.elapsed()));
        scene.settle().await;
        watch.end(&scene.world.chat).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_stops_answering_for_twenty_seconds() {
    let Some(server) = mongodb().await else { return };
    Scene::run(async |scene| {
        let watch = Watch::start(&scene.world.chat);
        scene.middle().await;
        let (topic, group) = (scene.world.topic(), scene.world.name.clone());
        let members = topic.members(&group).await;
        let rebalances = scene.world.rebalances(&scene.world.chat);

        server.stop().unwrap();
        let stopped = Instant::now();
        watch.sees_down("mongodb").await;
        while stopped.elapsed() < STOPPED_FOR {
            assert_eq!(
                topic.members(&group).await,
                members,
                "after {:?}",
                stopped.elapsed()
            );
            sleep(Duration::from_millis(500)).await;
        }
        server.cont().unwrap();
        let continued = Instant::now();
        scene.tells("MongoDB answers again");

        scene.settle().await;
        let took = continued.elapsed();
        assert!(
            took < TRANSACTION_LIFETIME / 2,
            "all done {took:?} after MongoDB answered again"
        );
        assert_eq!(topic.members(&group).await, members);
        assert_eq!(scene.world.rebalances(&scene.world.chat), rebalances);
        watch.end(&scene.world.chat).await;
    })
    .await;
}
