//! The command `connectors`: what it prints, and its exit codes.

use crate::{
    run::{connectors, text},
    world::World,
};

#[tokio::test]
async fn a_connector_lives_and_is_deleted() {
    let mut world = World::new("commanded").await;
    let url = world.stack.connect.url();
    let folder = tempfile::tempdir().unwrap();
    world.file(&folder);
    let folder = text(folder.path());

    let ended = connectors(url, &["apply", folder]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("commanded: created, RUNNING"), "{}", ended.out);
    let ended = connectors(url, &["apply", folder]).await;
    assert!(
        ended.out.starts_with("commanded: unchanged, RUNNING"),
        "{}",
        ended.out
    );

    let ended = connectors(url, &["status", "commanded"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.out);
    assert!(
        ended.out.contains("task 0") && ended.out.contains("RUNNING"),
        "{}",
        ended.out
    );
    let ended = connectors(url, &["status", "commanded", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(status[0]["tasks"][0]["state"], "RUNNING", "{status}");

    let ended = connectors(url, &["delete", "commanded"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--yes"), "{}", ended.err);
    assert!(world.config_of("commanded").await.is_some());

    let ended = connectors(url, &["delete", "commanded", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended
            .out
            .contains("SELECT pg_drop_replication_slot('commanded');"),
        "{}",
        ended.out
    );
    assert!(world.confirmed().await.is_some(), "the slot was dropped silently");
    let ended = connectors(url, &["delete", "commanded", "--yes"]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    let ended = connectors(url, &["status", "commanded"]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    world.end().await;
}

#[tokio::test]
async fn a_connector_that_fails_is_told_with_its_reason() {
    let mut world = World::new("told").await;
    world.set("publication.name", "no_such_publication");
    let url = world.stack.connect.url();
    let folder = tempfile::tempdir().unwrap();
    let file = world.file(&folder);

    let ended = connectors(url, &["apply", text(&file)]).await;
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(
        ended.err.contains("Publication autocreation is disabled"),
        "{}",
        ended.err
    );
    let ended = connectors(url, &["status", "told"]).await;
    assert_eq!(ended.code, Some(5), "{}", ended.out);
    assert!(
        ended.out.contains("Publication autocreation is disabled"),
        "{}",
        ended.out
    );

    world.set("poll.interval.ms", "soon");
    world.file(&folder);
    let ended = connectors(url, &["apply", text(&file)]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.err.contains("\n  poll.interval.ms: "), "{}", ended.err);
    world.end().await;
}

#[tokio::test]
async fn a_paused_connector_stays_paused() {
    let world = World::new("paused").await;
    world.apply().await.unwrap();
    let url = world.stack.connect.url();
    let paused = reqwest::Client::new().put(format!("{url}/connectors/paused/pause"));
    assert!(paused.send().await.unwrap().status().is_success());

    let folder = tempfile::tempdir().unwrap();
    crate::world::eventually("told that it is paused", async || {
        let ended = connectors(url, &["apply", text(&world.file(&folder))]).await;
        match ended.code {
            Some(5) if ended.err.contains("is PAUSED because somebody asked for that") => Ok(()),
            _ => Err(ended.err),
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn what_is_not_connect_and_what_is_no_file_is_said() {
    let world = World::new("misled").await;
    let ended = connectors(world.stack.registry.url(), &["status"]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("is not Kafka Connect"), "{}", ended.err);

    let ended = connectors("http://127.0.0.1:1", &["status"]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("cannot be reached"), "{}", ended.err);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("numbers.json");
    std::fs::write(&file, r#"{"tasks.max": 1}"#).unwrap();
    let ended = connectors(world.stack.connect.url(), &["apply", text(&file)]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(
        ended.err.contains("numbers.json") && ended.err.contains("tasks.max"),
        "{}",
        ended.err
    );
    world.end().await;
}
