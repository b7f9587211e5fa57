//! What operators are told of the consumer.

use e2e::{
    eventually::{eventually, eventually_is},
    world::{World, consumer_of, stop},
};
use serde_json::Value;

use crate::{BOUND, insert_posts};

/// The values of a metric, with their labels.
async fn metric(world: &World, name: &str) -> Vec<(String, f64)> {
    let url = format!("{}/metrics", world.chat.admin_url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let lines = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let alone = labels.is_empty() || labels.starts_with('{');
        alone.then(|| (labels.to_owned(), value.parse().unwrap()))
    });
    lines.collect()
}

/// When the last heartbeat was that has been read, or else what the consumer tells.
pub async fn heartbeat(world: &World) -> Result<String, Value> {
    let consumer = consumer_of(&world.chat).await.unwrap();
    consumer["heartbeat_at"]
        .as_str()
        .map(str::to_owned)
        .ok_or(consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_tell_that_the_capture_is_alive_where_nothing_changes() {
    World::run(async |world| {
        let posts = insert_posts(world, 1, 5, "quiet").await;
        world.known(&posts, BOUND).await;
        let first = eventually("a heartbeat", BOUND, async || heartbeat(world).await).await;
        let next = eventually("the next heartbeat", BOUND, async || {
            let next = heartbeat(world).await?;
            if next > first {
                Ok(next)
            } else {
                Err(Value::from(next))
            }
        })
        .await;
        println!("heartbeats at {first} and {next}");
        // The connector writes the row again; its end and the tombstone are nothing to be kept.
        let deleted: String = sqlx::query_scalar(
            "WITH deleted AS (DELETE FROM debezium_heartbeat RETURNING id)
             SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM deleted",
        )
        .fetch_one(&world.sql)
        .await
        .unwrap();
        eventually("a heartbeat behind that", BOUND, async || {
            let next = heartbeat(world).await?;
            let behind = next[..19] > deleted[..19];
            if behind { Ok(()) } else { Err(Value::from(next)) }
        })
        .await;
        let kept = world.store.dead_letters(None, 10).await.unwrap();
        assert!(kept.is_empty(), "{kept:?}");
        let freshness = metric(world, "cdc_freshness_seconds").await;
        assert!(
            matches!(&freshness[..], [(_, age)] if *age < 10.0),
            "{freshness:?}"
        );

        // A capture that stands still is not fresh, though nothing is behind.
        let stopped = format!("{}/connectors/{}/stop", world.stack.connect.url(), world.name);
        let stopped = reqwest::Client::new().put(stopped).send().await.unwrap();
        assert!(stopped.status().is_success(), "{stopped:?}");
        eventually("freshness is lost", BOUND, async || {
            match &metric(world, "cdc_freshness_seconds").await[..] {
                [(_, age)] if *age > 12.0 => Ok(()),
                other => Err(other.to_vec()),
            }
        })
        .await;
        let lag: f64 = metric(world, "cdc_lag_records")
            .await
            .iter()
            .map(|(_, lag)| lag)
            .sum();
        assert!(lag < 0.5, "the lag does not tell, it is {lag}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_how_far_each_partition_is() {
    World::run(async |world| {
        let posts = insert_posts(world, 1, 30, "spread").await;
        world.known(&posts, BOUND).await;
        let ends = world.topic().end_offsets().await;
        eventually("every partition is read to its end", BOUND, async || {
            let consumer = consumer_of(&world.chat).await.unwrap();
            let of_posts: Vec<(i64, i64)> = consumer["partitions"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|partition| partition["topic"] == world.topic().name)
                .filter_map(|partition| {
                    Some((
                        partition["partition"].as_i64()?,
                        partition["next_offset"].as_i64()?,
                    ))
                })
                .collect();
            let wanted = ends.iter().filter(|(_, end)| **end > 0);
            let missing = wanted
                .map(|(partition, end)| (i64::from(*partition), *end))
                .filter(|wanted| !of_posts.contains(wanted))
                .count();
            if missing == 0 { Ok(consumer) } else { Err(consumer) }
        })
        .await;
        let created = metric(world, "cdc_records_total").await;
        assert!(
            created.contains(&("{op=\"create\",outcome=\"applied\"}".to_owned(), 30.0)),
            "{created:?}"
        );
    })
    .await;
}

/// The group gives a member that comes back under its name what it had, without a look at what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_made_while_a_named_instance_was_away_are_read() {
    World::run(async |world| {
        stop(&world.chat).await;
        // Only now there is a topic.
        let posts = insert_posts(world, 1, 3, "first").await;
        let topic = world.topic();
        eventually_is("records", BOUND, 3, async || {
            topic.end_offsets().await.values().sum()
        })
        .await;
        world.chat.server.restart().await.unwrap();
        world.known(&posts, BOUND).await;

        stop(&world.chat).await;
        let new = 3;
        topic.divide_into(4).await;
        let mut again = topic.read().await;
        again.truncate(1);
        again[0].partition = new;
        topic.append(again).await;
        world.chat.server.restart().await.unwrap();
        eventually_is("read", BOUND, Some(1), async || {
            topic.committed(&world.name).await.remove(&new)
        })
        .await;
    })
    .await;
}
