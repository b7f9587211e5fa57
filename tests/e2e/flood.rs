//! More records than an accident explains cannot be understood: the consumer stands still until an operator
//! lets them pass.

use e2e::{
    eventually::{eventually, eventually_is},
    topic::Record,
    world::{World, consumer_of},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{BOUND, chat_about, insert_posts};

const SELLER: i64 = 1;
const BUYER: i64 = 2;
/// More than are allowed in a row, which is 50.
const FLOOD: i64 = 60;
const KEPT: &str = "record kept as a dead letter";

/// Something that is no record of a post.
fn garbage(number: i64) -> Record {
    Record {
        partition: 0,
        offset: 0,
        key: Some(vec![0xff; 4]),
        value: Some(format!("garbage {number}").into_bytes()),
        headers: Vec::new(),
    }
}

async fn waits_for(world: &World) -> Value {
    consumer_of(&world.chat).await.unwrap()["waiting"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_dead_letters_stops_the_consumer_until_an_operator_lets_it_pass() {
    World::run(async |world| {
        world.wanted_errors.push(KEPT);
        let posts = insert_posts(world, SELLER, 2, "behind the flood").await;
        world.known(&posts, BOUND).await;
        let room = chat_about(world, posts[0], BUYER, 3).await;
        world.topic().append((0..FLOOD).map(garbage).collect()).await;

        let waiting = eventually("the consumer stands still", BOUND, async || {
            let waiting = waits_for(world).await;
            if waiting["cause"] == "flood" {
                Ok(waiting)
            } else {
                Err(waiting)
            }
        })
        .await;
        let detail = waiting["detail"].as_str().unwrap();
        assert!(
            detail.contains("records in a row cannot be understood"),
            "{detail}"
        );
        let kept = world.count("dead_letters").await;
        assert!(kept <= 50, "{kept} were kept before it stood still");
        sqlx::query("DELETE FROM trade_posts WHERE id = $1")
            .bind(posts[0])
            .execute(&world.sql)
            .await
            .unwrap();
        // Members notice nothing: only deletes wait.
        let url = |path| format!("{}{path}", world.chat.admin_url());
        assert_eq!(
            reqwest::get(url("/readyz")).await.unwrap().status(),
            StatusCode::OK
        );
        world
            .member(BUYER)
            .send(&room, "behind", "아직 있나요?")
            .await
            .unwrap();
        let metrics = reqwest::get(url("/metrics")).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("cdc_waiting{cause=\"flood\"} 1"), "{metrics}");

        let resume = reqwest::Client::new()
            .post(url("/admin/v1/consumer/resume"))
            .json(&json!({ "dead_letters": FLOOD }))
            .send();
        assert_eq!(resume.await.unwrap().status(), StatusCode::NO_CONTENT);
        world.erased(1, BOUND).await;
        let wanted = usize::try_from(FLOOD).unwrap();
        eventually_is("dead letters", BOUND, wanted, async || {
            world.count("dead_letters").await
        })
        .await;
        assert_eq!(waits_for(world).await, Value::Null);
    })
    .await;
}
