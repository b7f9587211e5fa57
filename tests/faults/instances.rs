//! Instances of chat-service die, for a moment or for good.

use e2e::eventually::eventually;

use crate::{BOUND, scene::Scene, watch::Watch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_instance_is_killed_twice() {
    Scene::run(async |scene| {
        scene.middle().await;
        scene.kill_chat_service().await;
        scene.tells(format!("{} posts are closed", scene.closed().await));
        scene.deletes_go_on().await;
        scene.world.chat.server.restart().await.unwrap();
        scene.tells("back");
        let closed = scene.closed().await;
        scene.deletes_go_on().await;
        eventually("it is at work again", BOUND, async || {
            let now = scene.closed().await;
            if now > closed { Ok(()) } else { Err(now) }
        })
        .await;
        scene.kill_chat_service().await;
        scene.tells(format!(
            "killed again when {} posts were closed",
            scene.closed().await
        ));
        scene.world.chat.server.restart().await.unwrap();
        scene.settle().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_instances_is_killed_for_good() {
    Scene::run_with_two_instances(async |scene| {
        let [first, second] = scene.shared_partitions().await;
        let watch = Watch::start(scene.second());
        scene.middle().await;
        scene.kill_chat_service().await;
        scene.settle().await;
        let taken_over = scene.partitions(scene.second()).await;
        assert_eq!(taken_over, first.union(&second).copied().collect());
        watch.end(scene.second()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_instances_is_restarted_and_no_partition_moves() {
    Scene::run_with_two_instances(async |scene| {
        let before = scene.shared_partitions().await;
        let rebalances = scene.world.rebalances(scene.second());
        scene.middle().await;
        scene.world.chat.server.restart().await.unwrap();
        scene.tells("restarted in order");
        scene.deletes_go_on().await;
        scene.kill_chat_service().await;
        scene.world.chat.server.restart().await.unwrap();
        scene.tells("restarted after a kill");
        scene.settle().await;
        assert_eq!(scene.shared_partitions().await, before);
        assert_eq!(scene.world.rebalances(scene.second()), rebalances);
    })
    .await;
}
