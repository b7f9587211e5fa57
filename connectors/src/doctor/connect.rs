//! What Kafka Connect says of the connector.

use super::finding::Finding;
use crate::{
    Config,
    connect_api::{Plugin, Worker},
    offsets::Offsets,
    shipped,
    status::{Standing, Status, causes},
};

pub(crate) fn connect(url: &str, worker: &Worker) -> Finding {
    Finding::ok("connect", format!("Kafka Connect {} at {url}", worker.version))
}

/// Whether the worker can run the shipped connector.
pub(crate) fn plugin(plugins: &[Plugin], class: &str) -> Finding {
    const CHECK: &str = "plugin";
    let tested = shipped::DEBEZIUM_VERSION;
    match plugins.iter().find(|plugin| plugin.class == class) {
        None => Finding::wrong(
            CHECK,
            format!("the worker has no plugin {class}"),
            format!(
                "unpack Debezium's PostgreSQL plugin, version {tested}, under the worker's plugin.path and restart it"
            ),
        ),
        Some(plugin) if plugin.version.as_deref() == Some(tested) => {
            Finding::ok(CHECK, format!("Debezium {tested}"))
        }
        Some(plugin) => Finding::warning(
            CHECK,
            format!(
                "Debezium {}",
                plugin.version.as_deref().unwrap_or("of no version")
            ),
            format!(
                "this was tested with {tested} alone: install that, or record the fixtures of schemas/ anew and see whether the tests pass"
            ),
        ),
    }
}

/// Settings that every environment has of its own.
const OWN: [&str; 10] = [
    "name",
    "topic.prefix",
    "notification.sink.topic.name",
    "slot.name",
    "publication.name",
    "tasks.max",
    "poll.interval.ms",
    "heartbeat.interval.ms",
    "key.converter.apicurio.registry.url",
    "value.converter.apicurio.registry.url",
];

/// The same by what they begin with: addresses and secrets of the database, and what only costs time.
const OWN_PREFIXES: [&str; 8] = [
    "database.",
    "driver.",
    "topic.creation.",
    "producer.override.",
    "slot.retry.",
    "slot.max.retries",
    "max.batch.size",
    "max.queue.size",
];

/// Settings that promises rest on, and what happens if one of them is otherwise.
const ESSENTIAL: [(&str, &str); 22] = [
    ("connector.class", "it is another connector"),
    ("plugin.name", "changes may be read in another way"),
    (
        "table.include.list",
        "posts, keywords or heartbeats are not captured, or other tables are",
    ),
    (
        "column.include.list",
        "other columns than those that chats need leave the database, or one of them does not",
    ),
    (
        "publication.autocreate.mode",
        "Debezium may publish all columns of all tables",
    ),
    (
        "skipped.operations",
        "operations are left out, and their chats stay",
    ),
    ("tombstones.on.delete", "a compacted topic keeps deleted posts"),
    ("slot.drop.on.stop", "what is changed while it is stopped is lost"),
    (
        "errors.tolerance",
        "what cannot be converted is dropped in silence",
    ),
    (
        "signal.data.collection",
        "`connectors reconcile` cannot command it",
    ),
    (
        "notification.enabled.channels",
        "`connectors reconcile` does not hear how a snapshot goes",
    ),
    (
        "heartbeat.action.query",
        "the slot stands still while no post changes, and the disk fills",
    ),
    ("schema.name.adjustment.mode", "names may be none of Avro's"),
    ("field.name.adjustment.mode", "names may be none of Avro's"),
    ("key.converter", "chat-service cannot read the records"),
    ("value.converter", "chat-service cannot read the records"),
    (
        "key.converter.apicurio.registry.as-confluent",
        "chat-service cannot read the records",
    ),
    (
        "value.converter.apicurio.registry.as-confluent",
        "chat-service cannot read the records",
    ),
    (
        "key.converter.apicurio.registry.headers.enabled",
        "chat-service cannot read the records",
    ),
    (
        "value.converter.apicurio.registry.headers.enabled",
        "chat-service cannot read the records",
    ),
    (
        "key.converter.apicurio.registry.use-id",
        "chat-service finds other schemas, or none",
    ),
    (
        "value.converter.apicurio.registry.use-id",
        "chat-service finds other schemas, or none",
    ),
];

/// The connector's configuration against the shipped one.
pub(crate) fn config(name: &str, config: Option<&Config>) -> Finding {
    const CHECK: &str = "config";
    const NEXT: &str = "compare it with connectors/trade-posts.json, and run `connectors apply`";
    let Some(config) = config else {
        return Finding::wrong(
            CHECK,
            format!("there is no connector {name}"),
            "create it with `connectors apply`, or name another with `connectors doctor NAME`",
        );
    };
    let shipped = shipped::config();
    let keys = shipped
        .keys()
        .chain(config.keys().filter(|key| !shipped.contains_key(*key)));
    let differ: Vec<&str> = keys
        .filter(|key| shipped.get(*key) != config.get(*key))
        .map(String::as_str)
        .collect();
    // Values are left out: they can be secrets.
    let mut essential: Vec<String> = ESSENTIAL
        .iter()
        .filter(|(key, _)| differ.contains(key))
        .map(|(key, effect)| format!("{key} is not as shipped: {effect}"))
        .collect();
    let transforms = |key: &&str| key.starts_with("transforms") || key.starts_with("predicates");
    if differ.iter().any(transforms) {
        essential.push(
            "records are transformed: chat-service cannot read them, or not all of them come".to_owned(),
        );
    }
    if config
        .get("snapshot.mode")
        .is_some_and(|mode| mode == "never" || mode == "no_data")
    {
        essential.push(
            "snapshot.mode does not read the posts that exist: nobody can open rooms about them".to_owned(),
        );
    }
    let interval = config.get("heartbeat.interval.ms").map(String::as_str);
    if matches!(interval, None | Some("0")) {
        essential
            .push("heartbeat.interval.ms is not set: the slot stands still while no post changes".to_owned());
    }
    if !essential.is_empty() {
        return Finding::wrong(CHECK, essential.join("; "), NEXT);
    }
    let own = |key: &str| OWN.contains(&key) || OWN_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let others: Vec<&str> = differ.into_iter().filter(|key| !own(key)).collect();
    if others.is_empty() {
        Finding::ok(CHECK, "as shipped")
    } else {
        Finding::warning(CHECK, format!("not as shipped: {}", others.join(", ")), NEXT)
    }
}

pub(crate) fn running(name: &str, status: Option<&Status>) -> Finding {
    const CHECK: &str = "running";
    let Some(status) = status else {
        return Finding::unseen(CHECK, format!("there is no connector {name}"));
    };
    let seen = status.to_string();
    match Standing::of(status) {
        Standing::Running => Finding::ok(CHECK, seen),
        Standing::Failed => {
            let failures = status.failures();
            let reason = failures
                .first()
                .and_then(|failure| causes(&failure.trace).last().copied());
            Finding::wrong(
                CHECK,
                format!("{seen}: {}", reason.unwrap_or("it does not say why")),
                format!(
                    "mend the cause; `connectors status {name} --json` has the whole trace, and `connectors apply` restarts what has failed"
                ),
            )
        }
        Standing::Halted(state) => Finding::wrong(
            CHECK,
            seen,
            format!(
                "somebody asked for {state}, and nothing is captured meanwhile; if it should run, resume it"
            ),
        ),
        Standing::Changing => Finding::warning(
            CHECK,
            seen,
            "it is being started or moved: look again in a minute",
        ),
    }
}

/// Whether Kafka Connect knows how far the connector has come. `slot` says whether its slot exists; `None`
/// if the database was not seen.
pub(crate) fn offset(offsets: Option<&Offsets>, standing: Option<&Standing>, slot: Option<bool>) -> Finding {
    const CHECK: &str = "offset";
    let Some(offsets) = offsets else {
        return Finding::unseen(CHECK, "there is no such connector");
    };
    match (offsets.furthest(), slot) {
        (Some(lsn), _) => Finding::ok(CHECK, format!("at {lsn}")),
        (None, _) if !offsets.is_empty() => Finding::ok(CHECK, "it has read nothing of the log yet"),
        (None, Some(true)) if standing == Some(&Standing::Running) => Finding::warning(
            CHECK,
            "Kafka Connect has no offset of it, though its slot exists",
            "if this is its first start, look again when the snapshot is done; else its offsets were reset: it reads all posts anew, and deletes in between are missed until `connectors reconcile`",
        ),
        (None, Some(true)) => Finding::wrong(
            CHECK,
            "Kafka Connect has no offset of it, though its slot exists: its offsets were reset",
            "once it runs it reads all posts anew, and deletes in between are missed: run `connectors reconcile` then",
        ),
        (None, _) => Finding::warning(CHECK, "it has never run", "start it with `connectors apply`"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::Level;

    fn with(key: &str, value: Option<&str>) -> Finding {
        let mut changed = shipped::config();
        match value {
            Some(value) => changed.insert(key.to_owned(), value.to_owned()),
            None => changed.remove(key),
        };
        config("trade-posts", Some(&changed))
    }

    #[test]
    fn what_promises_rest_on_has_to_be_as_shipped() {
        assert_eq!(config("trade-posts", Some(&shipped::config())).level, Level::Ok);
        assert_eq!(config("trade-posts", None).level, Level::Wrong);
        for (key, effect) in ESSENTIAL {
            for value in [Some("otherwise"), None] {
                let finding = with(key, value);
                assert_eq!(finding.level, Level::Wrong, "{key}");
                assert!(
                    finding.seen.contains(key) && finding.seen.contains(effect),
                    "{finding:?}"
                );
                assert!(!finding.seen.contains("otherwise"), "values can be secrets");
            }
            assert!(shipped::config().contains_key(key), "{key} is not shipped");
        }
        assert_eq!(with("transforms", Some("unwrap")).level, Level::Wrong);
        assert_eq!(with("snapshot.mode", Some("no_data")).level, Level::Wrong);
        assert_eq!(with("heartbeat.interval.ms", Some("0")).level, Level::Wrong);
        assert_eq!(with("heartbeat.interval.ms", Some("9000")).level, Level::Ok);
        assert_eq!(with("errors.log.enable", Some("false")).level, Level::Warning);
        for own in [
            "slot.name",
            "database.hostname",
            "poll.interval.ms",
            "database.sslmode",
        ] {
            assert_eq!(with(own, Some("mine")).level, Level::Ok, "{own}");
        }
    }

    #[test]
    fn another_version_is_a_warning_and_none_is_wrong() {
        let of = |version: &str| Plugin {
            class: "C".to_owned(),
            kind: "source".to_owned(),
            version: Some(version.to_owned()),
        };
        assert_eq!(plugin(&[of(shipped::DEBEZIUM_VERSION)], "C").level, Level::Ok);
        assert_eq!(plugin(&[of("3.4.0.Final")], "C").level, Level::Warning);
        assert_eq!(plugin(&[of(shipped::DEBEZIUM_VERSION)], "D").level, Level::Wrong);
    }

    #[test]
    fn offsets_that_are_gone_while_the_slot_is_there_were_reset() {
        let none: Offsets = serde_json::from_value(json!({"offsets": []})).unwrap();
        let some: Offsets =
            serde_json::from_value(json!({"offsets": [{"partition": {}, "offset": {"lsn": 5}}]})).unwrap();
        let level = |offsets, standing, slot| offset(Some(offsets), Some(standing), slot).level;
        assert_eq!(level(&some, &Standing::Running, Some(true)), Level::Ok);
        assert_eq!(level(&none, &Standing::Running, Some(true)), Level::Warning);
        assert_eq!(level(&none, &Standing::Failed, Some(true)), Level::Wrong);
        assert_eq!(level(&none, &Standing::Failed, Some(false)), Level::Warning);
    }
}
