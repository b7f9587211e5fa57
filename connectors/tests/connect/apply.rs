//! `connectors::apply`: what it does, what it leaves alone, and what it says when a connector cannot run.

use std::time::Duration;

use connectors::{ConnectError, Outcome, status::Standing};
use tokio::time::Instant;

use crate::world::{World, eventually};

#[tokio::test]
async fn creates_then_leaves_alone_then_updates() {
    let mut world = World::new("applied").await;
    world
        .execute("INSERT INTO trade_posts (seller_id, title, body, price, category) VALUES (7, '자전거', '', 1, '생활')")
        .await;
    assert_eq!(world.apply().await.unwrap(), Outcome::Created);
    let status = world.api.status(&world.name).await.unwrap().unwrap();
    assert_eq!(Standing::of(&status), Standing::Running);

    // The worker may be held up once, by a connector of another test.
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(world.apply().await.unwrap(), Outcome::Unchanged);
        quickest = quickest.min(start.elapsed());
    }
    assert!(quickest < Duration::from_secs(2), "{quickest:?}");

    world.set("poll.interval.ms", "20");
    assert_eq!(world.apply().await.unwrap(), Outcome::Updated);
    let tasks = world.task_configs().await;
    assert_eq!(tasks[0]["poll.interval.ms"], "20");

    world.config.remove("extended.headers.enabled");
    assert_eq!(world.apply().await.unwrap(), Outcome::Updated);
    let stored = world.config_of(&world.name).await.unwrap();
    assert!(!stored.contains_key("extended.headers.enabled"));
    assert_eq!(world.apply().await.unwrap(), Outcome::Unchanged);
    world.end().await;
}

/// With the grants of postgres.sql alone: the slot moves on while only tables that are not captured are
/// written, or PostgreSQL would keep its log for ever.
#[tokio::test]
async fn the_heartbeat_moves_the_slot() {
    let mut world = World::new("beating").await;
    world.set("heartbeat.interval.ms", "200");
    world.apply().await.unwrap();
    world
        .execute("CREATE TABLE busy AS SELECT generate_series(1, 1000) AS n")
        .await;
    let written: i64 = sqlx::query_scalar("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
        .fetch_one(&mut world.database)
        .await
        .unwrap();
    eventually("confirmed beyond what others wrote", async || {
        match world.confirmed().await {
            Some(confirmed) if confirmed > written => Ok(()),
            seen => Err((seen, written)),
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn an_invalid_configuration_lists_its_fields_and_leaves_nothing_behind() {
    let mut world = World::new("invalid").await;
    world.set("poll.interval.ms", "soon");
    world.set("slot.name", "Not-A-Slot");
    world.config.remove("topic.prefix");
    let error = world.apply().await.unwrap_err();
    let ConnectError::InvalidConfig { fields, .. } = &error else {
        panic!("{error:?}");
    };
    for field in ["poll.interval.ms", "slot.name", "topic.prefix"] {
        assert!(
            fields.iter().any(|found| found.field == field),
            "{field} in {error}"
        );
    }
    assert_eq!(world.config_of(&world.name).await, None);
    assert_eq!(world.confirmed().await, None, "a slot was made");
    world.end().await;
}

#[tokio::test]
async fn an_invalid_change_leaves_the_connector_as_it_was() {
    let mut world = World::new("kept").await;
    world.apply().await.unwrap();
    let right = world.config_of(&world.name).await;
    world.set("database.dbname", "no_such_database");
    let error = world.apply().await.unwrap_err();
    assert!(matches!(error, ConnectError::InvalidConfig { .. }), "{error:?}");
    assert_eq!(world.config_of(&world.name).await, right);
    let status = world.api.status(&world.name).await.unwrap().unwrap();
    assert_eq!(Standing::of(&status), Standing::Running);
    world.end().await;
}

/// Connect still shows the old task as RUNNING when it has taken the change.
#[tokio::test]
async fn a_change_that_breaks_the_task_is_noticed_and_its_repair_too() {
    let mut world = World::new("broken").await;
    world.apply().await.unwrap();
    world.set("publication.name", "no_such_publication");
    let error = world.apply().await.unwrap_err();
    assert!(matches!(error, ConnectError::Failed { .. }), "{error:?}");
    // The reason stands in the last cause of the trace.
    assert!(error.to_string().contains("task 0 FAILED"), "{error}");
    assert!(
        error.to_string().contains("Publication autocreation is disabled"),
        "{error}"
    );

    world.set("publication.name", "trade_cdc");
    assert_eq!(world.apply().await.unwrap(), Outcome::Updated);
    world.end().await;
}

#[tokio::test]
async fn applying_again_restarts_what_failed() {
    let mut world = World::new("restarted").await;
    world.execute("DROP PUBLICATION trade_cdc").await;
    let error = world.apply().await.unwrap_err();
    assert!(matches!(error, ConnectError::Failed { .. }), "{error:?}");
    assert!(
        error.to_string().contains("Publication autocreation is disabled"),
        "{error}"
    );

    world
        .execute("CREATE PUBLICATION trade_cdc FOR TABLE trade_posts (id, seller_id, title, status)")
        .await;
    assert_eq!(world.apply().await.unwrap(), Outcome::Restarted);
    assert_eq!(world.apply().await.unwrap(), Outcome::Unchanged);
    world.end().await;
}

#[tokio::test]
async fn the_role_reads_what_is_captured_and_no_more() {
    let mut world = World::new("granted").await;
    let readable: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute
         WHERE attrelid = 'trade_posts'::regclass AND attnum > 0
           AND has_column_privilege('debezium', attrelid, attnum, 'SELECT')
         ORDER BY attnum",
    )
    .fetch_all(&mut world.database)
    .await
    .unwrap();
    assert_eq!(readable, ["id", "seller_id", "title", "status"]);
    world.execute(include_str!("../../postgres.sql")).await;
    world.end().await;
}
