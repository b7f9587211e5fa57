//! `connectors::doctor` on a capture that is broken in every way that servers in use allow, a few at a time.

use std::{collections::BTreeMap, time::Duration};

use connectors::{
    ConnectApi,
    doctor::{
        Finding,
        Level::{self, Ok, Unseen, Warning, Wrong},
        Patient, examine,
    },
    lifecycle::Order,
    registry::RegistryApi,
    schemas::{Half, Table, history, subjects},
    servers::Servers,
    shipped,
};
use sqlx::PgConnection;

use crate::{
    faults::{Member, empty_topic, hold, insert, produce, set_topic},
    world::{World, eventually},
};

const TOPIC: &str = "doctored.public.trade_posts";
const KEYWORDS_TOPIC: &str = "doctored.public.keywords";

/// Findings by check.
type Seen = BTreeMap<&'static str, Finding>;

/// The connector's own role may see all that is looked at.
fn servers(world: &World) -> Servers {
    let postgres = &world.stack.postgres;
    Servers {
        database_url: Some(format!(
            "postgres://debezium@{}:{}/{}",
            postgres.host(),
            postgres.port(),
            world.name
        )),
        registry_url: Some(world.stack.registry.confluent_url()),
        kafka: Some(world.stack.kafka.bootstrap()),
        kafka_properties: Vec::new(),
    }
}

fn patient(world: &World) -> Patient {
    Patient {
        connector: world.name.clone(),
        role: shipped::ROLE.to_owned(),
        group: world.name.clone(),
        fence_ttl: Duration::from_hours(30 * 24),
    }
}

/// Of the shipped names, on servers of its own.
fn shipped_patient() -> Patient {
    Patient {
        connector: shipped::NAME.to_owned(),
        role: shipped::ROLE.to_owned(),
        group: "nobody".to_owned(),
        fence_ttl: Duration::from_hours(1),
    }
}

async fn look(world: &World) -> Seen {
    let findings = examine(&world.api, &servers(world), &patient(world)).await;
    by_check(findings)
}

fn by_check(findings: Vec<Finding>) -> Seen {
    findings
        .into_iter()
        .map(|finding| (finding.check, finding))
        .collect()
}

/// What is not ok, as text.
fn complaints(seen: &Seen) -> Vec<String> {
    let bad = seen.values().filter(|finding| finding.level != Ok);
    bad.map(|finding| format!("{finding:?}")).collect()
}

/// Looks until each of these checks has that level and says that.
async fn until(world: &mut World, expected: &[(&str, Level, &str)]) -> Seen {
    eventually("diagnosed", async || {
        let seen = look(world).await;
        for (check, level, text) in expected {
            let finding = &seen[check];
            if finding.level != *level || !finding.seen.contains(text) {
                let servers = ["database", "registry", "kafka", "topic"].map(|server| &seen[server]);
                return Err(format!(
                    "{check} is not {level} with {text:?}: {finding:?}; {servers:?}"
                ));
            }
            assert!(*level == Ok || finding.next.is_some(), "{finding:?}");
        }
        Result::Ok(seen)
    })
    .await
}

#[tokio::test]
async fn every_fault_of_a_capture_is_told() {
    let mut world = World::new("doctored").await;
    world.set("poll.interval.ms", "10");
    // Some in each partition, whichever ids their schemas were given.
    insert(&mut world, 50).await;
    let keyword = "INSERT INTO keywords (member_id, keyword, place) VALUES (7, '자전거', 1)";
    world.execute(keyword).await;
    world.apply().await.unwrap();
    let registry = RegistryApi::new(&world.stack.registry.confluent_url()).unwrap();
    let member = Member::join(&world, TOPIC);
    becomes_healthy(&mut world, &registry).await;
    breaks_of_keywords(&mut world, &registry).await;
    breaks_while_it_runs(&mut world).await;
    member.leave().await;
    is_stopped_and_held(&mut world, &registry).await;
    loses_its_slot(&mut world).await;
    world.end().await;
}

/// All that a new capture is reproached with is that no compatibility was set.
async fn becomes_healthy(world: &mut World, registry: &RegistryApi) {
    for topic in [TOPIC, KEYWORDS_TOPIC] {
        eventually("captured", async || {
            let latest = registry.latest(&Half::Value.subject(topic)).await.unwrap();
            latest.ok_or("no schema yet")
        })
        .await;
    }
    until(
        world,
        &[
            ("compatibility", Warning, "trade_posts-key"),
            ("compatibility", Warning, "keywords-value"),
            ("subjects", Ok, "keywords-value version 1"),
            ("group", Ok, ""),
        ],
    )
    .await;
    for (.., subject) in subjects(&world.name) {
        registry.set_compatibility(&subject, "BACKWARD").await.unwrap();
    }
    eventually("healthy", async || match complaints(&look(world).await) {
        none if none.is_empty() => Result::Ok(()),
        some => Err(some),
    })
    .await;
}

/// While nothing worse is to be said of trade posts.
async fn breaks_of_keywords(world: &mut World, registry: &RegistryApi) {
    set_topic(world, KEYWORDS_TOPIC, "cleanup.policy", "compact").await;
    produce(world, KEYWORDS_TOPIC, b"no header", Duration::ZERO);
    let subject = Half::Value.subject(KEYWORDS_TOPIC);
    registry.set_compatibility(&subject, "NONE").await.unwrap();
    let lacking = history::for_prefix(Table::Keywords, Half::Value, "doctored").replace(
        r#"{"name":"keyword","type":"string"}"#,
        r#"{"name":"word","type":"string"}"#,
    );
    registry.register(&subject, &lacking).await.unwrap();
    until(
        world,
        &[
            (
                "retention",
                Warning,
                "doctored.public.keywords: cleanup.policy is compact",
            ),
            (
                "schema-ids",
                Wrong,
                "doctored.public.keywords: the record at offset",
            ),
            (
                "compatibility",
                Warning,
                "doctored.public.keywords-value has NONE",
            ),
            ("reader-schemas", Wrong, "after.keyword is missing"),
        ],
    )
    .await;
    set_topic(world, KEYWORDS_TOPIC, "cleanup.policy", "delete").await;
}

async fn breaks_while_it_runs(world: &mut World) {
    let sql = "ALTER TABLE trade_posts REPLICA IDENTITY NOTHING;
         ALTER PUBLICATION trade_cdc SET TABLE trade_posts (id, seller_id, title, status), debezium_signal;
         ALTER PUBLICATION trade_cdc SET (publish = 'insert, update, delete');
         REVOKE INSERT ON debezium_signal FROM debezium;
         REVOKE SELECT (keyword) ON keywords FROM debezium;
         GRANT SELECT (body) ON trade_posts TO debezium;";
    world.execute(sql).await;
    set_topic(world, TOPIC, "cleanup.policy", "compact").await;
    eventually("told", async || {
        // The connector writes the next one within five seconds.
        let late = "UPDATE debezium_heartbeat SET beat_at = now() - interval '1 hour'";
        world.execute(late).await;
        match &look(world).await["heartbeat"] {
            told if told.level == Wrong => Result::Ok(()),
            other => Err(other.clone()),
        }
    })
    .await;
    until(
        world,
        &[
            ("replica-identity", Wrong, "NOTHING"),
            ("publication", Wrong, "has a list of columns"),
            ("publication", Wrong, "leaves out TRUNCATE"),
            ("publication", Wrong, "public.debezium_heartbeat is not in it"),
            ("publication", Wrong, "public.keywords is not in it"),
            ("grants", Wrong, "INSERT on public.debezium_signal"),
            ("grants", Wrong, "SELECT (keyword) on public.keywords"),
            ("retention", Warning, "compact"),
            ("running", Ok, "RUNNING"),
        ],
    )
    .await;
    let sql = "ALTER TABLE trade_posts REPLICA IDENTITY DEFAULT;
         ALTER PUBLICATION trade_cdc SET TABLE trade_posts, keywords, debezium_signal, debezium_heartbeat;
         ALTER PUBLICATION trade_cdc SET (publish = 'insert, update, delete, truncate');
         GRANT INSERT ON debezium_signal TO debezium;
         GRANT SELECT (keyword) ON keywords TO debezium;";
    world.execute(sql).await;
    set_topic(world, TOPIC, "cleanup.policy", "delete").await;
}

/// Nobody reads the topic either.
async fn is_stopped_and_held(world: &mut World, registry: &RegistryApi) {
    world.ask(|| world.api.order("doctored", Order::Stop)).await;
    until(
        world,
        &[
            ("running", Wrong, "STOPPED"),
            ("slot", Warning, "nobody reads"),
            ("grants", Warning, "body"),
            ("group", Wrong, "no members"),
            ("slot-gap", Ok, ""),
        ],
    )
    .await;
    let holder = hold(world, "doctored").await;
    world.set("skipped.operations", "t");
    world.api.put_config(&world.name, &world.config).await.unwrap();
    let almost_a_week = Duration::from_secs(6 * 24 * 3600 + 80_000);
    produce(world, TOPIC, &[0, 0x7f, 0, 0, 0], almost_a_week);
    let lacking = history::for_prefix(Table::TradePosts, Half::Value, "doctored")
        .replace(r#"{"name":"title","type":"string"},"#, "");
    for half in Half::BOTH {
        let subject = half.subject(TOPIC);
        registry.set_compatibility(&subject, "NONE").await.unwrap();
    }
    let subject = Half::Value.subject(TOPIC);
    registry.register(&subject, &lacking).await.unwrap();
    until(
        world,
        &[
            ("slot", Wrong, "held by somebody else"),
            ("slot", Wrong, "thief"),
            ("config", Wrong, "skipped.operations"),
            ("retention", Wrong, "unread"),
            ("schema-ids", Wrong, "2130706432"),
            ("compatibility", Warning, "NONE"),
            ("reader-schemas", Wrong, "after.title is missing"),
        ],
    )
    .await;
    drop(holder);
}

/// Then another takes its name, records are removed unread, and the offsets are reset.
async fn loses_its_slot(world: &mut World) {
    eventually("dropped", async || {
        let drop = sqlx::query("SELECT pg_drop_replication_slot('doctored')");
        drop.execute(&mut world.database).await
    })
    .await;
    produce(world, TOPIC, b"no header", Duration::ZERO);
    until(
        world,
        &[
            ("slot", Wrong, "there is no slot"),
            ("slot-gap", Wrong, "the slot was lost"),
            ("schema-ids", Wrong, "does not begin with"),
            ("expired", Ok, ""),
        ],
    )
    .await;
    empty_topic(world, TOPIC).await;
    world.execute("DELETE FROM trade_posts WHERE id = 1").await;
    let create = "SELECT pg_create_logical_replication_slot('doctored', 'pgoutput')";
    world.execute(create).await;
    until(
        world,
        &[
            ("slot-gap", Wrong, "the slot was made anew"),
            ("expired", Wrong, "partition 0"),
            ("offset", Ok, ""),
        ],
    )
    .await;
    world.ask(|| world.api.reset_offsets("doctored")).await;
    until(world, &[("offset", Wrong, "reset")]).await;
}

#[tokio::test]
async fn what_does_not_answer_is_said_and_the_rest_is_looked_at() {
    let mut world = World::new("unanswered").await;
    let nobody = ConnectApi::new("http://127.0.0.1:1").unwrap();
    let elsewhere = Servers {
        registry_url: Some(world.stack.registry.url().to_owned()),
        kafka: Some("127.0.0.1:1".to_owned()),
        ..servers(&world)
    };
    let seen = by_check(examine(&nobody, &elsewhere, &patient(&world)).await);
    for (check, text) in [
        ("connect", "cannot be reached"),
        ("registry", "/apis/ccompat/v7"),
        ("kafka", ""),
        // Not made yet, and the shipped one's name.
        ("slot", "there is no slot trade_cdc"),
    ] {
        assert_eq!(seen[check].level, Wrong, "{:?}", seen[check]);
        assert!(seen[check].seen.contains(text), "{:?}", seen[check]);
    }
    for check in ["plugin", "running", "topic", "subjects", "slot-gap"] {
        assert_eq!(seen[check].level, Unseen, "{:?}", seen[check]);
    }
    assert_eq!(seen["publication"].level, Ok, "{:?}", seen["publication"]);

    // Nothing was captured yet, and two databases that are none.
    let seen = look(&world).await;
    assert_eq!(seen["config"].level, Wrong, "{:?}", seen["config"]);
    for check in ["subjects", "topic"] {
        assert_eq!(seen[check].level, Warning, "{:?}", seen[check]);
    }
    world
        .execute("DROP PUBLICATION trade_cdc; DROP TABLE trade_posts CASCADE")
        .await;
    let seen = look(&world).await;
    for check in ["publication", "replica-identity", "grants"] {
        assert_eq!(seen[check].level, Wrong, "{:?}", seen[check]);
    }
    let nowhere = Servers {
        database_url: Some("postgres://postgres@127.0.0.1:1/trade".to_owned()),
        ..Servers::default()
    };
    let seen = by_check(examine(&world.api, &nowhere, &patient(&world)).await);
    assert_eq!(seen["database"].level, Wrong, "{:?}", seen["database"]);
    assert_eq!(seen["kafka"].level, Unseen, "{:?}", seen["kafka"]);
    world.end().await;
}

/// On a worker of its own: plugins are what it was started with.
#[tokio::test]
async fn a_worker_without_the_plugin_is_told() {
    let stack = local_stack::testing::stack().await;
    let bare = local_stack::testing::connect_without_plugins(stack)
        .await
        .unwrap();
    let api = ConnectApi::new(bare.url()).unwrap();
    let patient = shipped_patient();
    let seen = by_check(examine(&api, &Servers::default(), &patient).await);
    assert_eq!(seen["connect"].level, Ok, "{:?}", seen["connect"]);
    let plugin = &seen["plugin"];
    assert_eq!(plugin.level, Wrong, "{plugin:?}");
    assert!(plugin.seen.ends_with("PostgresConnector"), "{plugin:?}");
    assert!(
        plugin.next.as_ref().unwrap().contains("plugin.path"),
        "{plugin:?}"
    );
    bare.server.end().await.unwrap();
}

/// One after the other: settings of the server are changed in no transaction.
async fn execute(superuser: &mut PgConnection, statements: &[&'static str]) {
    for sql in statements {
        sqlx::raw_sql(*sql).execute(&mut *superuser).await.unwrap();
    }
}

/// On a PostgreSQL of its own: all others would be set otherwise and started anew, too.
#[tokio::test]
async fn a_postgresql_that_is_set_otherwise_is_told() {
    let postgres = local_stack::testing::postgres().await;
    let database_url = postgres.create_database("given_up").await.unwrap();
    let mut superuser = postgres.superuser("given_up").await.unwrap();
    let behind = [
        "CREATE TABLE trade_posts (id bigint PRIMARY KEY)",
        "SELECT pg_create_logical_replication_slot('trade_cdc', 'pgoutput')",
        "ALTER SYSTEM SET max_wal_size = '32MB'",
        "SELECT pg_reload_conf()",
        "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 128)",
    ];
    execute(&mut superuser, &behind).await;
    let nobody = ConnectApi::new("http://127.0.0.1:1").unwrap();
    let servers = Servers {
        database_url: Some(database_url),
        ..Servers::default()
    };
    let patient = shipped_patient();
    eventually("extended", async || {
        let seen = by_check(examine(&nobody, &servers, &patient).await);
        let status = &seen["wal-status"];
        if status.level == Warning && status.seen.contains("extended") {
            Result::Ok(())
        } else {
            Err(seen)
        }
    })
    .await;
    let idle = [
        "ALTER SYSTEM RESET max_wal_size",
        "ALTER SYSTEM SET idle_replication_slot_timeout = '1s'",
        "SELECT pg_reload_conf()",
    ];
    execute(&mut superuser, &idle).await;
    let seen = eventually("given up", async || {
        sqlx::raw_sql("CHECKPOINT").execute(&mut superuser).await.unwrap();
        let seen = by_check(examine(&nobody, &servers, &patient).await);
        if seen["wal-status"].level == Wrong {
            Result::Ok(seen)
        } else {
            Err(seen)
        }
    })
    .await;
    assert!(
        seen["wal-status"].seen.contains("idle_timeout"),
        "{:?}",
        seen["wal-status"]
    );
    // Also whatever else there is not.
    for check in ["publication", "grants"] {
        assert_eq!(seen[check].level, Wrong, "{:?}", seen[check]);
    }
    assert_eq!(seen["heartbeat"].level, Unseen, "{:?}", seen["heartbeat"]);
    for check in ["wal-level", "wal-keep"] {
        assert_eq!(seen[check].level, Ok, "{:?}", seen[check]);
    }

    // It would not start with a slot that it has no log for.
    let otherwise = [
        "SELECT pg_drop_replication_slot('trade_cdc')",
        "ALTER SYSTEM SET wal_level = 'replica'",
        "ALTER SYSTEM SET max_slot_wal_keep_size = -1",
    ];
    execute(&mut superuser, &otherwise).await;
    postgres.server.restart().await.unwrap();
    let seen = by_check(examine(&nobody, &servers, &patient).await);
    for (check, level, text) in [
        ("wal-level", Wrong, "wal_level=replica"),
        ("wal-keep", Warning, "max_slot_wal_keep_size is not set"),
    ] {
        assert_eq!(seen[check].level, level, "{:?}", seen[check]);
        assert!(seen[check].seen.contains(text), "{:?}", seen[check]);
    }
}
