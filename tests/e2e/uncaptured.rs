//! What members make of posts stays in PostgreSQL: favourites, views, and the keys of their requests.

use std::collections::BTreeMap;

use chat_service::cdc::change_event::HEARTBEATS_TOPIC;
use e2e::{
    eventually::{eventually, eventually_is},
    topic::Record,
    world::World,
};
use local_stack::client::{TradePost, json_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{BOUND, new_post};

const SELLER: i64 = 1;

/// Every record of the connector, but for its heartbeats.
async fn records(world: &World) -> BTreeMap<String, Vec<Record>> {
    let mut all = BTreeMap::new();
    for topic in world.topic().all_like(&world.name).await {
        // Heartbeats, and what Debezium says of its snapshots.
        if !topic.name.starts_with("__debezium-") && !topic.name.ends_with(HEARTBEATS_TOPIC) {
            all.insert(topic.name.clone(), topic.read().await);
        }
    }
    all
}

async fn create_once(world: &World) -> i64 {
    let request = world.member(SELLER).trade(Method::POST, "/v1/trade-posts");
    let request = request.header("Idempotency-Key", "key").json(&new_post("자전거"));
    json_of::<TradePost>(request).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_favorite_a_view_and_a_repeated_request_are_no_record_anywhere() {
    World::run(async |world| {
        let post = create_once(world).await;
        let marker = world
            .member(SELLER)
            .create_post(&new_post("표지"))
            .await
            .unwrap()
            .id;
        world.known(&[post, marker], BOUND).await;
        let before = records(world).await;
        let captured: usize = before.values().map(Vec::len).sum();
        assert_eq!(captured, 2, "{before:?}");

        let path = format!("/v1/trade-posts/{post}");
        let favorite = format!("{path}/favorite");
        let send = async |member: i64, method: Method, path: &str| {
            let sent = world.member(member).trade(method, path).send();
            sent.await.unwrap().status()
        };
        for member in 2..12 {
            assert_eq!(send(member, Method::GET, &path).await, StatusCode::OK);
            assert_eq!(send(member, Method::PUT, &favorite).await, StatusCode::NO_CONTENT);
        }
        assert_eq!(send(2, Method::DELETE, &favorite).await, StatusCode::NO_CONTENT);
        assert_eq!(create_once(world).await, post);
        eventually_is("both are counted", BOUND, json!([10, 9]), async || {
            let read = world.member(SELLER).trade(Method::GET, &path);
            let read: Value = json_of(read).await.unwrap();
            json!([read["views"], read["favorites"]])
        })
        .await;

        // What comes next in the log comes next in Kafka: this delete and its tombstone.
        world.member(SELLER).delete_post(marker).await.unwrap();
        let after = eventually("the delete is captured", BOUND, async || {
            let records = records(world).await;
            let count: usize = records.values().map(Vec::len).sum();
            if count >= captured + 2 {
                Ok(records)
            } else {
                Err(count)
            }
        })
        .await;
        assert_eq!(
            after.keys().collect::<Vec<_>>(),
            [&world.topic().name],
            "there is no other topic"
        );
        let (before, mut after) = (&before[&world.topic().name], after[&world.topic().name].clone());
        after.retain(|record| !before.contains(record));
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(after[0].value.is_some() && after[1].value.is_none(), "{after:?}");
        let of_marker = |record: &Record| {
            let made = before
                .iter()
                .any(|made| made.key == record.key && made.partition == record.partition);
            made && record.key == after[0].key
        };
        assert!(after.iter().all(of_marker), "{after:?}");
    })
    .await;
}
