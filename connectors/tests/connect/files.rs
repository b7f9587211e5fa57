//! `connectors apply` with folders: everything is looked at before anything is changed.

use std::{fs, path::Path};

use connectors::Config;

use crate::{
    front::Front,
    run::{connectors, text},
    world::World,
};

fn write(folder: &Path, name: &str, config: &Config) {
    let text = serde_json::to_string_pretty(config).unwrap();
    fs::write(folder.join(format!("{name}.json")), text).unwrap();
}

#[tokio::test]
async fn a_dry_run_shows_what_differs_without_secrets_and_changes_nothing() {
    let mut world = World::new("shown").await;
    let url = world.stack.connect.url();
    let folder = tempfile::tempdir().unwrap();
    let file = world.file(&folder);
    let apply = ["apply", text(&file)];
    let dry_run = ["apply", text(&file), "--dry-run"];

    let ended = connectors(url, &dry_run).await;
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    assert!(ended.out.contains("  + slot.name: shown\n"), "{}", ended.out);
    assert!(
        ended
            .out
            .contains("  + database.password: ${env:TRADE_DB_PASSWORD}\n"),
        "{}",
        ended.out
    );
    assert_eq!(world.config_of("shown").await, None);

    assert_eq!(connectors(url, &apply).await.code, Some(0));
    let ended = connectors(url, &dry_run).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(0), "nothing to change\n"),
        "{}",
        ended.err
    );

    world.set("poll.interval.ms", "20");
    world.set("database.password", "hunter2");
    world.config.remove("extended.headers.enabled");
    world.file(&folder);
    let before = world.config_of("shown").await;
    let ended = connectors(url, &dry_run).await;
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    assert_eq!(
        ended.out,
        "shown: differs\n  ~ database.password: ${env:TRADE_DB_PASSWORD} -> ********\n  \
         - extended.headers.enabled: false\n  ~ poll.interval.ms: 10 -> 20\n"
    );
    assert_eq!(world.config_of("shown").await, before);

    let ended = connectors(url, &apply).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("shown: updated, RUNNING"), "{}", ended.out);
    world.set("database.password", "hunter3");
    world.file(&folder);
    let ended = connectors(url, &dry_run).await;
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    assert!(
        ended
            .out
            .contains("  ~ database.password: ******** -> another secret\n"),
        "{}",
        ended.out
    );
    assert!(
        !ended.out.contains("hunter") && !ended.out.contains('\u{1b}'),
        "{}",
        ended.out
    );

    // What has failed is started again by `apply`, so that is something too.
    world.set("publication.name", "no_such_publication");
    world.file(&folder);
    assert_eq!(connectors(url, &apply).await.code, Some(5));
    let ended = connectors(url, &dry_run).await;
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    assert!(ended.out.contains("FAILED: to be restarted"), "{}", ended.out);
    world.end().await;
}

#[tokio::test]
async fn one_bad_file_and_nothing_is_applied() {
    let world = World::new("halves").await;
    let url = world.stack.connect.url();
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, settings: &[(&str, &str)]| {
        let mut config = world.config.clone();
        config.insert("slot.name".to_owned(), name.to_owned());
        for (key, value) in settings {
            config.insert((*key).to_owned(), (*value).to_owned());
        }
        write(folder.path(), name, &config);
    };
    with("halves", &[]);
    with(
        "halves_fields",
        &[("poll.interval.ms", "soon"), ("slot.name", "Not-A-Slot")],
    );
    with(
        "halves_plugin",
        &[("connector.class", "io.example.NoSuchConnector")],
    );
    with(
        "halves_variables",
        &[
            ("database.port", "${env:TRADE_DB_NO_PORT}"),
            (
                "value.converter.apicurio.registry.url",
                "${env:HOME}/apis/registry/v2",
            ),
        ],
    );
    with("halves_owner", &[("slot.name", "halves")]);

    let ended = connectors(url, &["apply", text(folder.path())]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    for said in [
        "configuration of halves_fields is refused",
        "\n  poll.interval.ms: ",
        "\n  slot.name: ",
        "configuration of halves_plugin is refused",
        "the worker has no connector io.example.NoSuchConnector; it has io.debezium.connector.postgresql.PostgresConnector",
        "configuration of halves_variables is refused",
        "\n  database.port: ${env:TRADE_DB_NO_PORT} has no value: the worker has no environment variable TRADE_DB_NO_PORT,",
        "\n  value.converter.apicurio.registry.url: ${env:HOME} has no value",
        "\n  slot.name: the slot halves of this database belongs to the connector",
    ] {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    let all = world.api.configs().await.unwrap();
    assert!(
        all.keys().all(|name| !name.starts_with("halves")),
        "{:?}",
        all.keys()
    );

    // Nor where two files describe one connector, or one is no connector.
    let other = tempfile::tempdir().unwrap();
    write(other.path(), "halves", &world.config);
    let ended = connectors(url, &["apply", text(folder.path()), text(other.path())]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(
        ended.err.contains("both describe the connector halves"),
        "{}",
        ended.err
    );
    fs::write(other.path().join("list.json"), "[]").unwrap();
    let ended = connectors(url, &["apply", text(other.path())]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(
        ended.err.contains("list.json must hold one flat JSON object"),
        "{}",
        ended.err
    );
    assert_eq!(world.config_of("halves").await, None);
    world.end().await;
}

#[tokio::test]
async fn what_no_file_describes_is_deleted_on_request_alone() {
    let mut world = World::new("pruned_old").await;
    let front = Front::of(world.stack.connect.url(), "pruned_").await;
    let url = front.url();
    let folder = tempfile::tempdir().unwrap();
    let path = text(folder.path());
    let old = world.file(&folder);
    assert_eq!(connectors(&url, &["apply", path]).await.code, Some(0));
    let puts = front.take_puts();
    let configured = puts
        .iter()
        .filter(|path| path.ends_with("/connectors/pruned_old/config"))
        .count();
    assert_eq!(configured, 1, "each put restarts the connector: {puts:?}");
    assert_eq!(connectors(&url, &["apply", path]).await.code, Some(0));
    assert_eq!(front.take_puts(), Vec::<String>::new());

    // Renamed: the slot is that of the old one as long as that is there.
    fs::rename(&old, folder.path().join("pruned_new.json")).unwrap();
    let ended = connectors(&url, &["apply", path]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(
        ended.err.contains("belongs to the connector pruned_old"),
        "{}",
        ended.err
    );
    let ended = connectors(&url, &["apply", path, "--prune", "--dry-run"]).await;
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    assert!(
        ended.out.contains("pruned_old: to be deleted, no file describes it; the slot pruned_old (also of pruned_new) and the publication trade_cdc (also of pruned_new) stay"),
        "{}",
        ended.out
    );
    let ended = connectors(&url, &["apply", path, "--prune"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--yes"), "{}", ended.err);
    let file = folder.path().join("pruned_new.json");
    let ended = connectors(&url, &["apply", text(&file), "--prune", "--yes"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("takes folders"), "{}", ended.err);
    let names = async || -> Vec<String> {
        let all = world.api.configs().await.unwrap();
        all.into_keys()
            .filter(|name| name.starts_with("pruned_"))
            .collect()
    };
    assert_eq!(names().await, ["pruned_old"]);

    let ended = connectors(&url, &["apply", path, "--prune", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("pruned_old: deleted"), "{}", ended.out);
    assert!(
        ended
            .out
            .contains("The replication slot pruned_old and the publication trade_cdc stay"),
        "{}",
        ended.out
    );
    // The renamed connector reads through them.
    assert!(
        !ended.out.contains("pg_drop_replication_slot") && !ended.out.contains("DROP"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("pruned_new: created, RUNNING"),
        "{}",
        ended.out
    );
    assert_eq!(names().await, ["pruned_new"]);
    assert!(world.confirmed().await.is_some(), "the slot was dropped");
    world.api.delete("pruned_new").await.unwrap();
    world.end().await;
}
