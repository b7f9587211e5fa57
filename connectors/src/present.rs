//! What the command shows people, as text. Pure: printing it is left to the caller.

use comfy_table::{Table, presets::NOTHING};
use connectors::{
    Config,
    report::{Capture, Report},
    status::{Status, causes},
};

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

/// A slot is never dropped silently: it is what makes sure that no change is lost meanwhile.
pub(crate) fn left_behind(config: &Config) -> String {
    let Some(slot) = config.get("slot.name") else {
        return String::new();
    };
    let publication = config
        .get("publication.name")
        .map_or("dbz_publication", String::as_str);
    format!(
        "\
The replication slot {slot} and the publication {publication} stay in PostgreSQL, and Kafka Connect keeps
the connector's offsets: applied again under the same name, it goes on where it stopped.
Until then PostgreSQL keeps all of its write-ahead log for the slot, and its disk can fill up.
If the connector shall not come back, drop them in its database:
  SELECT pg_drop_replication_slot('{slot}');
  DROP PUBLICATION {publication};
"
    )
}
