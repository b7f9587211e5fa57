//! The commands that look beyond Kafka Connect: `schemas`, `status`, `doctor`, and `delete` with what it
//! leaves behind. One capture goes through its life, from an empty registry to its end.

use std::{path::Path, process::Stdio};

use connectors::{
    lifecycle::Order,
    registry::RegistryApi,
    schemas::{Half, Table, history, subjects},
    status::Standing,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    faults::{hold, hold_as},
    run::{Ended, connectors},
    world::{World, eventually},
};

const PREFIX: &str = "surrounded";
const TOPIC: &str = "surrounded.public.trade_posts";
/// Of keys and of values of three tables.
const SUBJECTS: usize = 6;

/// Runs `connectors schemas …`.
async fn schemas(world: &World, arguments: &[&str]) -> Ended {
    let registry = world.stack.registry.confluent_url();
    let options = ["schemas", "--registry-url", &registry, "--topic-prefix", PREFIX];
    connectors(world.stack.connect.url(), &[&options, arguments].concat()).await
}

#[tokio::test]
async fn a_capture_is_set_up_looked_at_and_taken_down() {
    let mut world = World::new("surrounded").await;
    let registry = RegistryApi::new(&world.stack.registry.confluent_url()).unwrap();
    prepares_the_registry(&world, &registry).await;
    world.apply().await.unwrap();
    world
        .execute(
            "INSERT INTO trade_posts (seller_id, title, body, price, category) VALUES (7, '자전거', '', 1, '생활');
             INSERT INTO keywords (member_id, keyword, place) VALUES (7, '자전거', 1)",
        )
        .await;
    let database = world.stack.postgres.superuser_url(&world.name);
    let (kafka, confluent) = (
        world.stack.kafka.bootstrap(),
        world.stack.registry.confluent_url(),
    );
    let servers = [
        "--database-url",
        &database,
        "--registry-url",
        &confluent,
        "--kafka",
        &kafka,
    ];
    is_looked_at(&world, &servers).await;
    // Debezium goes on with what was registered.
    for (.., subject) in subjects(PREFIX) {
        assert_eq!(registry.versions(&subject).await.unwrap(), [1], "{subject}");
    }
    is_examined(&world, &servers).await;
    keeps(&world, &registry).await;
    is_deleted(&mut world, &database).await;
    world.end().await;
}

/// Before the first record.
async fn prepares_the_registry(world: &World, registry: &RegistryApi) {
    let url = world.stack.connect.url();
    for (registry, code, said) in [
        ("http://127.0.0.1:1", 3, "cannot be reached"),
        (world.stack.registry.url(), 3, "ends with /apis/ccompat/v7"),
        ("registry", 2, "is no address of a schema registry"),
    ] {
        let ended = connectors(url, &["schemas", "check", "--registry-url", registry]).await;
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains(said), "{}", ended.err);
    }
    let ended = schemas(world, &["set-compatibility", "SIDEWARD"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    let ended = schemas(world, &["keep", "no/such/folder"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    let ended = schemas(world, &["check"]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.err.contains("schemas register"), "{}", ended.err);
    let ended = schemas(world, &["set-compatibility", "BACKWARD"]).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    let ended = schemas(world, &["register", "--dry-run"]).await;
    assert_eq!(
        ended.out.matches("would be registered").count(),
        SUBJECTS,
        "{}",
        ended.out
    );
    assert_eq!(
        registry.versions(&Half::Value.subject(TOPIC)).await.unwrap(),
        [0; 0]
    );
    let ended = schemas(world, &["register"]).await;
    assert_eq!(
        ended.out.matches(": registered (id ").count(),
        SUBJECTS,
        "{} {}",
        ended.out,
        ended.err
    );
    let ended = schemas(world, &["register"]).await;
    assert_eq!(
        ended.out.matches(": unchanged, version 1 ").count(),
        SUBJECTS,
        "{}",
        ended.out
    );
    let ended = schemas(world, &["set-compatibility", "backward", "--dry-run"]).await;
    assert_eq!(
        ended.out.matches("-> BACKWARD (not done)").count(),
        SUBJECTS,
        "{}",
        ended.out
    );
    let ended = schemas(world, &["set-compatibility", "BACKWARD"]).await;
    assert_eq!(
        ended.out.matches("NONE -> BACKWARD\n").count(),
        SUBJECTS,
        "{}",
        ended.out
    );
    let ended = schemas(world, &["set-compatibility", "BACKWARD"]).await;
    assert_eq!(
        ended.out.matches("unchanged, BACKWARD").count(),
        SUBJECTS,
        "{}",
        ended.out
    );
}

async fn is_looked_at(world: &World, servers: &[&str]) {
    let url = world.stack.connect.url();
    eventually("in the topic", async || {
        let ended = connectors(url, &[&["status", "surrounded"][..], servers].concat()).await;
        let seen = [
            "surrounded active, reserved, keeps ",
            " ago",
            "surrounded.public.trade_posts has 3 partitions",
            "surrounded.public.trade_posts-value has version 1",
            "surrounded.public.keywords has 3 partitions",
            "surrounded.public.debezium_heartbeat has 1 partition",
        ];
        if ended.code == Some(0) && seen.iter().all(|text| ended.out.contains(text)) {
            Ok(())
        } else {
            Err(ended.out + &ended.err)
        }
    })
    .await;
    let ended = schemas(world, &["check"]).await;
    assert_eq!(
        ended.out.matches("chat-service can read it").count(),
        SUBJECTS,
        "{}",
        ended.out
    );

    let ended = connectors(
        url,
        &[&["status", "surrounded", "--json"][..], &servers[..2]].concat(),
    )
    .await;
    let status: Value = serde_json::from_str(&ended.out).unwrap();
    let capture = &status[0]["capture"];
    assert!(capture["offset"].as_str().unwrap().contains('/'), "{status}");
    assert_eq!(capture["slot"]["reader"]["user"], "debezium", "{status}");
    assert!(capture["slot"]["retained_bytes"].as_u64().is_some(), "{status}");
    assert!(
        capture["topics"]["not_asked"]
            .as_str()
            .unwrap()
            .contains("--kafka"),
        "{status}"
    );
}

/// While it runs, and stopped.
async fn is_examined(world: &World, servers: &[&str]) {
    let url = world.stack.connect.url();
    let doctor = [&["doctor", "surrounded", "--group", "surrounded"][..], servers].concat();
    let ended = connectors(url, &doctor).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(
        ended
            .out
            .starts_with("surrounded: 1 to heed, 24 ok\nwarning  group "),
        "{}",
        ended.out
    );

    watches(world, servers).await;
    let ended = connectors(url, &[&doctor[..], &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(5), "{}{}", ended.out, ended.err);
    let findings: Value = serde_json::from_str(&ended.out).unwrap();
    let running = findings["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["check"] == "running");
    assert_eq!(running.unwrap()["level"], "wrong", "{findings}");
}

/// `status --watch` without a terminal, while the connector is stopped. It stays so.
async fn watches(world: &World, servers: &[&str]) {
    let mut watching = Command::new(env!("CARGO_BIN_EXE_connectors"))
        .env("CONNECT_URL", world.stack.connect.url())
        .args(["status", "surrounded", "--watch=1"])
        .args(&servers[..2])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let mut asked = false;
    loop {
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), lines.next_line()).await;
        let line = line
            .unwrap_or_else(|_| panic!("no more was told: {told:?}"))
            .unwrap()
            .unwrap();
        told.push(line);
        if !asked && told.iter().any(|line| line == "surrounded connector: RUNNING") {
            world.ask(|| world.api.order("surrounded", Order::Stop)).await;
            asked = true;
        }
        let stopped = [
            "surrounded connector: RUNNING -> STOPPED",
            "surrounded slot: surrounded active, reserved -> surrounded not active, reserved",
        ];
        if stopped.iter().all(|line| told.iter().any(|told| told == line)) {
            return;
        }
    }
}

/// A column that is new in the capture is a version to keep.
async fn keeps(world: &World, registry: &RegistryApi) {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/history");
    for table in Table::ALL {
        let (from, to) = (
            shipped.join(table.short_name()),
            folder.path().join(table.short_name()),
        );
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let posts = folder.path().join(Table::TradePosts.short_name());
    let before = std::fs::read_dir(&posts).unwrap().count();
    let path = folder.path().to_str().unwrap();
    let ended = schemas(world, &["keep", path]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.err);

    let (title, note) = (
        r#"{"name":"title""#,
        r#"{"name":"note","type":["null","string"],"default":null},"#,
    );
    let longer = history::for_prefix(Table::TradePosts, Half::Value, PREFIX).replacen(
        title,
        &format!("{note}{title}"),
        1,
    );
    registry
        .register(&Half::Value.subject(TOPIC), &longer)
        .await
        .unwrap();
    let ended = schemas(world, &["keep", path]).await;
    assert!(
        ended
            .out
            .contains("trade-posts/002-value.json: version 2 of surrounded.public.trade_posts-value"),
        "{}",
        ended.out
    );
    let kept = history::read(&posts).unwrap();
    assert_eq!(kept.len(), before + 1);
    assert!(
        kept.iter()
            .any(|(_, _, schema)| *schema == history::kept(Table::TradePosts, &longer, PREFIX))
    );
    let ended = schemas(world, &["keep", path]).await;
    assert_eq!(ended.out, "", "{}", ended.err);
}

/// With slot and publication, but not while somebody else holds the slot.
async fn is_deleted(world: &mut World, database: &str) {
    let url = world.stack.connect.url();
    let ended = connectors(url, &["delete", "surrounded", "--yes", "--drop-slot"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--database-url"), "{}", ended.err);
    let drop_all = [
        "delete",
        "surrounded",
        "--yes",
        "--drop-slot",
        "--drop-publication",
        "--database-url",
        database,
    ];
    for (database, code) in [("nonsense", 2), ("postgres://postgres@127.0.0.1:1/trade", 3)] {
        let drop = [
            "delete",
            "surrounded",
            "--yes",
            "--drop-slot",
            "--database-url",
            database,
        ];
        let ended = connectors(url, &drop).await;
        assert_eq!(ended.code, Some(code), "{}", ended.err);
    }
    // Another connector of the database reads by the same publication.
    let mut other = world.config.clone();
    other.insert("slot.name".to_owned(), "surrounded_other".to_owned());
    world.api.put_config("surrounded_other", &other).await.unwrap();
    let ended = connectors(url, &drop_all).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(
        ended.err.contains(
            "nothing was done: the publication trade_cdc is in the configuration of surrounded_other too"
        ),
        "{}",
        ended.err
    );
    assert!(world.config_of("surrounded").await.is_some());
    world.api.delete("surrounded_other").await.unwrap();

    let holder = hold(world, "surrounded").await;
    let ended = connectors(url, &drop_all).await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(
        ended.err.contains("nothing was done") && ended.err.contains("thief"),
        "{}",
        ended.err
    );
    assert!(
        world.config_of("surrounded").await.is_some(),
        "deleted all the same"
    );
    drop(holder);
    cannot_be_dropped(world).await;
    is_known_to_the_worker_alone(world, database).await;
    is_read_by_another_cluster(world, &drop_all).await;

    let ended = eventually("let go", async || {
        let ended = connectors(url, &drop_all).await;
        if ended.code == Some(0) {
            Ok(ended)
        } else {
            Err(ended.err)
        }
    })
    .await;
    assert!(
        ended
            .out
            .contains("slot surrounded: dropped\npublication trade_cdc: dropped"),
        "{}",
        ended.out
    );
    assert_eq!(world.confirmed().await, None);
    assert_eq!(world.config_of("surrounded").await, None);
}

/// By a role that may not, and what is not there.
async fn cannot_be_dropped(world: &mut World) {
    let url = world.stack.connect.url();
    world.execute("CREATE ROLE surrounded_guest LOGIN").await;
    let postgres = &world.stack.postgres;
    let (host, port) = (postgres.host(), postgres.port());
    let by = |role: &str| format!("postgres://{role}@{host}:{port}/surrounded");
    // Stopped from the beginning, it never makes its slot.
    let mut other = world.config.clone();
    other.insert("slot.name".to_owned(), "surrounded_none".to_owned());
    other.insert("publication.name".to_owned(), "surrounded_none".to_owned());
    let other = serde_json::json!({"name": "surrounded_none", "config": other, "initial_state": "STOPPED"});
    let created = reqwest::Client::new()
        .post(format!("{url}/connectors"))
        .json(&other);
    assert!(created.send().await.unwrap().status().is_success());
    for (connector, what, database, said) in [
        (
            "surrounded",
            "slot",
            by("surrounded_guest"),
            "surrounded_guest may not drop slots; give",
        ),
        (
            "surrounded",
            "publication",
            by("debezium"),
            "debezium may not drop the publication trade_cdc, which is postgres's; give",
        ),
        (
            "surrounded_none",
            "slot",
            by("debezium"),
            "there is no slot surrounded_none there",
        ),
        (
            "surrounded_none",
            "publication",
            by("debezium"),
            "there is no publication surrounded_none there",
        ),
    ] {
        let drop = format!("--drop-{what}");
        let ended = connectors(
            url,
            &["delete", connector, "--yes", &drop, "--database-url", &database],
        )
        .await;
        assert_eq!(ended.code, Some(4), "{}{}", ended.out, ended.err);
        assert!(
            ended.err.contains("nothing was done") && ended.err.contains(said),
            "{}",
            ended.err
        );
        assert!(world.config_of(connector).await.is_some());
    }
    world.api.delete("surrounded_none").await.unwrap();
}

/// Stopped from the beginning, it never makes its slot.
async fn create_stopped(world: &World, name: &str, settings: &[(&str, &str)]) {
    let mut config = world.config.clone();
    for (key, value) in settings {
        config.insert((*key).to_owned(), (*value).to_owned());
    }
    let connector = serde_json::json!({"name": name, "config": config, "initial_state": "STOPPED"});
    let url = format!("{}/connectors", world.stack.connect.url());
    let created = reqwest::Client::new()
        .post(url)
        .json(&connector)
        .send()
        .await
        .unwrap();
    assert!(created.status().is_success(), "{}", created.text().await.unwrap());
    eventually("stopped", async || {
        let status = world.api.status(name).await.unwrap();
        status.ok_or("the status follows the creation")
    })
    .await;
}

/// What its names are is not taken from their text.
async fn is_known_to_the_worker_alone(world: &World, database: &str) {
    let (url, user) = (world.stack.connect.url(), "${env:TRADE_DB_USER}");
    create_stopped(
        world,
        "surrounded_unknown",
        &[
            ("slot.name", user),
            ("publication.name", user),
            ("topic.prefix", user),
        ],
    )
    .await;
    let why = "only the worker knows what ${env:TRADE_DB_USER} stands for";
    let (registry, kafka) = (
        world.stack.registry.confluent_url(),
        world.stack.kafka.bootstrap(),
    );
    let servers = [
        "--database-url",
        database,
        "--registry-url",
        &registry,
        "--kafka",
        &kafka,
        "--json",
    ];
    let ended = connectors(url, &[&["status", "surrounded_unknown"], &servers[..]].concat()).await;
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    let status: Value = serde_json::from_str(&ended.out).unwrap();
    for part in ["slot", "topics", "subjects"] {
        assert_eq!(status[0]["capture"][part]["not_asked"], why, "{status}");
    }
    let ended = connectors(url, &[&["doctor", "surrounded_unknown"], &servers[..]].concat()).await;
    let findings: Value = serde_json::from_str(&ended.out).unwrap();
    let of = |check: &str| {
        let mut all = findings["findings"].as_array().unwrap().iter();
        all.find(|finding| finding["check"] == check).unwrap().clone()
    };
    for check in ["slot", "publication", "topic", "subjects"] {
        assert_eq!(of(check)["seen"], why, "{findings}");
    }
    for check in ["wal-status", "slot-gap", "compatibility", "retention", "group"] {
        assert_eq!(of(check)["level"], "unseen", "{findings}");
    }
    for drop in ["--drop-slot", "--drop-publication"] {
        let drop = [
            "delete",
            "surrounded_unknown",
            "--yes",
            drop,
            "--database-url",
            database,
        ];
        let ended = connectors(url, &drop).await;
        assert_eq!(ended.code, Some(4), "{}", ended.err);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
    assert!(world.api.delete("surrounded_unknown").await.unwrap());
}

/// The connector runs, as far as Kafka Connect knows, and tries again and again to read through its slot.
async fn is_read_by_another_cluster(world: &World, drop_all: &[&str]) {
    let holder = hold_as(world, "surrounded", "Debezium Streaming").await;
    world.ask(|| world.api.order("surrounded", Order::Resume)).await;
    let running = async || match world.api.status("surrounded").await.unwrap().unwrap() {
        status if Standing::of(&status) == Standing::Running => Ok(()),
        other => Err(other),
    };
    eventually("running", running).await;
    let ended = connectors(
        world.stack.connect.url(),
        &[drop_all, &["--timeout", "10"]].concat(),
    )
    .await;
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(
        ended.err.contains("which is not this connector's"),
        "{}",
        ended.err
    );
    eventually("running again", running).await;
    drop(holder);
}
