//! `connectors restart`, `pause`, `stop`, `resume` and `offsets`: each returns when it is so.

use std::time::Duration;

use connectors::status::{Standing, State};
use tokio::time::Instant;

use crate::{
    run::{connectors, text},
    world::{World, eventually},
};

#[tokio::test]
async fn a_connector_is_paused_stopped_resumed_and_restarted() {
    let mut world = World::new("ordered").await;
    let url = world.stack.connect.url();
    let folder = tempfile::tempdir().unwrap();
    world.apply().await.unwrap();
    let api = world.api.clone();
    let standing = async || Standing::of(&api.status("ordered").await.unwrap().unwrap());

    let ended = connectors(url, &["pause", "ordered"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(standing().await, Standing::Halted(State::Paused));
    // `apply` leaves alone what somebody has halted, and says how to go on.
    let ended = connectors(url, &["apply", text(&world.file(&folder))]).await;
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(ended.err.contains("connectors resume ordered"), "{}", ended.err);
    // Also with a change, which its tasks are given when it is resumed.
    world.set("poll.interval.ms", "20");
    let asked = Instant::now();
    let ended = connectors(url, &["apply", text(&world.file(&folder))]).await;
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(ended.err.contains("connectors resume ordered"), "{}", ended.err);
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let ended = connectors(url, &["resume", "ordered"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(0), "ordered: resumed, RUNNING\n"),
        "{}",
        ended.err
    );

    let ended = connectors(url, &["restart", "ordered"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(0), "ordered: restarted, RUNNING\n"),
        "{}",
        ended.err
    );
    let ended = connectors(url, &["restart", "--failed", "ordered"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended
            .out
            .contains("nothing has failed (connector RUNNING, task 0 RUNNING)"),
        "{}",
        ended.out
    );

    // Where one does not exist, nothing is done to the others.
    for command in ["restart", "pause", "stop", "resume"] {
        let ended = connectors(url, &[command, "ordered", "no-such-connector"]).await;
        assert_eq!(ended.code, Some(4), "{}", ended.err);
        assert!(
            ended.err.contains("no connector no-such-connector"),
            "{}",
            ended.err
        );
    }
    assert_eq!(standing().await, Standing::Running);
    let tasks = world.task_configs().await;
    assert_eq!(tasks[0]["poll.interval.ms"], "20");
    world.end().await;
}

#[tokio::test]
async fn what_has_failed_is_restarted_on_request() {
    let mut world = World::new("revived").await;
    world.execute("DROP PUBLICATION trade_cdc").await;
    world.apply().await.unwrap_err();
    let url = world.stack.connect.url();
    let ended = connectors(url, &["restart", "--failed", "revived"]).await;
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(
        ended.err.contains("Publication autocreation is disabled"),
        "{}",
        ended.err
    );
    world
        .execute("CREATE PUBLICATION trade_cdc FOR TABLE trade_posts (id, seller_id, title, status)")
        .await;
    let ended = connectors(url, &["restart", "--failed", "revived"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(0), "revived: restarted, RUNNING\n"),
        "{}",
        ended.err
    );
    world.end().await;
}

#[tokio::test]
async fn offsets_are_shown_and_forgotten_and_the_state_is_given_back() {
    let mut world = World::new("forgetful").await;
    world.set("heartbeat.interval.ms", "200");
    world.apply().await.unwrap();
    let url = world.stack.connect.url();
    let get = async || {
        let ended = connectors(url, &["offsets", "get", "forgetful", "--json"]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        serde_json::from_str::<serde_json::Value>(&ended.out).unwrap()
    };
    let some = async || {
        let found = get().await;
        let lsn = found[0]["offset"]["lsn"].as_u64();
        lsn.map(|lsn| (lsn, found[0]["lsn_text"]["lsn"].clone()))
            .ok_or(found)
    };
    let (lsn, shown) = eventually("an offset", some).await;
    assert_eq!(shown, format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF));
    let ended = connectors(url, &["offsets", "get", "forgetful"]).await;
    assert!(
        ended.out.contains("server=forgetful") && ended.out.contains("lsn"),
        "{}",
        ended.out
    );

    // Nobody to ask.
    let ended = connectors(url, &["offsets", "reset", "forgetful"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(
        ended
            .out
            .contains("a snapshot of all rows (snapshot.mode initial)"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("`connectors reconcile`"), "{}", ended.out);
    assert_ne!(get().await, serde_json::json!([]));

    for (order, state) in [("stop", State::Stopped), ("pause", State::Paused)] {
        assert_eq!(connectors(url, &[order, "forgetful"]).await.code, Some(0));
        let ended = connectors(url, &["offsets", "reset", "forgetful", "--yes"]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let status = world.api.status("forgetful").await.unwrap().unwrap();
        assert_eq!(Standing::of(&status), Standing::Halted(state));
        assert_eq!(get().await, serde_json::json!([]));
    }
    let ended = connectors(url, &["offsets", "get", "forgetful"]).await;
    assert!(ended.out.contains("has no offsets"), "{}", ended.out);

    assert_eq!(connectors(url, &["resume", "forgetful"]).await.code, Some(0));
    eventually("an offset again", some).await;
    let ended = connectors(url, &["offsets", "reset", "forgetful", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let status = world.api.status("forgetful").await.unwrap().unwrap();
    assert_eq!(Standing::of(&status), Standing::Running);
    eventually("an offset after a new snapshot", some).await;

    for command in ["get", "reset"] {
        let ended = connectors(url, &["offsets", command, "no-such-connector"]).await;
        assert_eq!(ended.code, Some(4), "{}", ended.err);
    }
    world.end().await;
}
