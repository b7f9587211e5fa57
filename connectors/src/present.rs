//! What the command shows people, as text. Pure: printing it is left to the caller.

use chrono::{DateTime, SecondsFormat};
use comfy_table::{Table, presets::NOTHING};
use connectors::{
    offsets::Position,
    report::{Capture, Report},
    slots::{Others, Owned},
    status::{Status, causes},
};
use serde_json::Value;

/// Connectors and their tasks.
pub(crate) fn table<'a>(statuses: impl Iterator<Item = &'a Status>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["connector", "part", "state", "worker", "reason"]);
    for status in statuses {
        let connector = ("connector".to_owned(), &status.connector);
        let tasks = status
            .tasks
            .iter()
            .map(|task| (format!("task {}", task.id), &task.instance));
        for (part, instance) in [connector].into_iter().chain(tasks) {
            table.add_row([
                status.name.clone(),
                part,
                instance.state.to_string(),
                instance.worker_id.clone(),
                instance.trace.as_deref().map(reason).unwrap_or_default(),
            ]);
        }
    }
    table
}

/// What the connectors read from and write to.
pub(crate) fn surroundings(reports: &[Report]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["connector", "part", "seen"]);
    for report in reports {
        for (part, seen) in report.capture.iter().flat_map(Capture::parts) {
            table.add_row([report.status.name.clone(), part.to_owned(), seen]);
        }
    }
    table
}

/// The first and the last message of a trace. Of a long one the middle goes: Debezium prints its whole
/// position before it says what is wrong with it.
fn reason(trace: &str) -> String {
    let cut = |line: &str| {
        let line: Vec<char> = line.chars().collect();
        match line.len() {
            0..=160 => line.into_iter().collect(),
            length => line[..80]
                .iter()
                .chain(&['…'])
                .chain(&line[length - 79..])
                .collect::<String>(),
        }
    };
    match causes(trace).as_slice() {
        [] => String::new(),
        [only] => cut(only),
        [first, .., last] => format!("{}\n{}", cut(first), cut(last)),
    }
}

/// A slot is never dropped silently: it is what makes sure that no change is lost meanwhile. What another connector
/// names is not to be dropped at all.
pub(crate) fn left_behind(owned: &Owned<'_>, others: &Others) -> String {
    let Owned {
        slot, publication, ..
    } = owned;
    let mut lines = vec![format!(
        "The replication slot {slot} and the publication {publication} stay in PostgreSQL, and Kafka Connect keeps\n\
         the connector's offsets: applied again under the same name, it goes on where it stopped."
    )];
    let shared = |what, name, others: &[String]| {
        let others = others.join(", ");
        format!("Leave the {what} {name} as it is: it is in the configuration of {others}, too.")
    };
    let mut drop = Vec::new();
    if others.slot.is_empty() {
        lines.push(
            "Until then PostgreSQL keeps all of its write-ahead log for the slot, and its disk can fill up."
                .to_owned(),
        );
        drop.push(format!("  SELECT pg_drop_replication_slot('{slot}');"));
    } else {
        lines.push(shared("slot", slot, &others.slot));
    }
    if others.publication.is_empty() {
        drop.push(format!("  DROP PUBLICATION {publication};"));
    } else {
        lines.push(shared("publication", publication, &others.publication));
    }
    if !drop.is_empty() {
        let what = if drop.len() == 2 { "them" } else { "the other" };
        lines.push(format!(
            "If the connector shall not come back, drop {what} in its database:"
        ));
    }
    lines.extend(drop);
    lines.join("\n") + "\n"
}

/// How far a connector has got: positions as PostgreSQL writes them, times as people do.
pub(crate) fn positions(positions: &[Position]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["partition", "field", "value"]);
    for position in positions {
        let partition = position.partition.iter();
        let partition: Vec<String> = partition
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        let mut partition = partition.join(" ");
        let lsns = position.lsns();
        for (field, value) in position.offset.iter().flatten() {
            let lsn = lsns.iter().find(|(name, _)| name == field);
            let shown = match (lsn, field.as_str()) {
                (Some((_, lsn)), _) => lsn.to_string(),
                (None, "ts_usec") => time(value),
                (None, _) => plain(value),
            };
            table.add_row([std::mem::take(&mut partition), field.clone(), shown]);
        }
    }
    table
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn time(micros: &Value) -> String {
    let time = micros.as_i64().and_then(DateTime::from_timestamp_micros);
    time.map_or_else(
        || plain(micros),
        |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

#[cfg(test)]
mod tests {
    use connectors::Config;

    use super::*;

    #[test]
    fn nobody_is_told_to_drop_what_another_connector_names() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "slot.name": "s",
        }))
        .unwrap();
        let owned = Owned::of(&config).unwrap();
        let told = |slot: &[&str], publication: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let others = Others {
                slot: names(slot),
                publication: names(publication),
            };
            left_behind(&owned, &others)
        };
        let (slot, publication) = (
            "pg_drop_replication_slot('s')",
            "DROP PUBLICATION dbz_publication",
        );
        let alone = told(&[], &[]);
        assert!(alone.contains(slot) && alone.contains(publication), "{alone}");
        let published = told(&[], &["other"]);
        assert!(
            published.contains(slot) && !published.contains(publication),
            "{published}"
        );
        assert!(
            published.contains(
                "Leave the publication dbz_publication as it is: it is in the configuration of other"
            ),
            "{published}"
        );
        let read = told(&["other"], &[]);
        assert!(!read.contains(slot) && read.contains(publication), "{read}");
        let both = told(&["other"], &["other", "another"]);
        assert!(!both.contains("drop") && !both.contains("DROP"), "{both}");
    }

    #[test]
    fn positions_read_as_postgresql_writes_them() {
        let found: Position = serde_json::from_value(serde_json::json!({
            "partition": {"server": "trade"},
            "offset": {"lsn": 29_126_320, "txId": 769, "ts_usec": 1_795_644_374_020_629_i64},
        }))
        .unwrap();
        let shown = positions(&[found]).to_string();
        let rows: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows,
            [
                vec!["partition", "field", "value"],
                vec!["server=trade", "lsn", "0/1BC6EB0"],
                vec!["ts_usec", "2026-11-25T22:06:14.020Z"],
                vec!["txId", "769"],
            ]
        );
    }
}
