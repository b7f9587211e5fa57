//! The command on a terminal: it asks, it has colours, and it shows what it waits for.

use crate::{
    run::{connectors, on_a_terminal, text},
    world::World,
};

#[tokio::test]
async fn on_a_terminal_it_asks_and_shows_colours() {
    let world = World::new("asked").await;
    let url = world.stack.connect.url();
    let folder = tempfile::tempdir().unwrap();
    let file = world.file(&folder);
    let apply = ["apply", text(&file)];

    let (code, shown) = on_a_terminal(&[("CONNECT_URL", url)], &apply, "n\n").await;
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("Change this in Kafka Connect? [y/N]"), "{shown}");
    assert!(shown.contains("\u{1b}[32m+ slot.name: asked\u{1b}[0m"), "{shown}");
    assert_eq!(world.config_of("asked").await, None);

    let (code, shown) = on_a_terminal(&[("CONNECT_URL", url)], &apply, "y\n").await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("asked: created, RUNNING"), "{shown}");
    assert!(
        shown.contains("asked · connector RUNNING"),
        "no progress: {shown}"
    );

    // Nothing to change, nothing to ask.
    let (code, shown) = on_a_terminal(&[("CONNECT_URL", url)], &apply, "").await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("[y/N]"), "{shown}");

    let plain = [("CONNECT_URL", url), ("NO_COLOR", "1")];
    let delete = ["delete", "asked"];
    let (code, shown) = on_a_terminal(&plain, &delete, "\n").await;
    assert_eq!(code, Some(2), "{shown}");
    assert!(
        shown.contains("The slot asked and the publication trade_cdc stay in PostgreSQL."),
        "{shown}"
    );
    assert!(!shown.contains("\u{1b}[3"), "colours: {shown:?}");
    let (code, shown) = on_a_terminal(&plain, &["apply", text(&file), "--dry-run"], "").await;
    assert_eq!(code, Some(0), "{shown}");

    let ended = connectors(url, &apply).await;
    assert!(
        !ended.out.contains('\u{1b}') && ended.err.is_empty(),
        "{}{}",
        ended.out,
        ended.err
    );
    world.end().await;
}
