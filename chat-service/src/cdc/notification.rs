//! What Debezium says of its snapshots, in a topic of its own.
//!
//! Invariant: notifications may be read again and again, in part or whole. What a batch of them says of one
//! snapshot is brought together in pure code ([`Said`]), and how far that moves a reconciliation is the store's
//! to decide by its state.

use std::collections::{BTreeMap, HashMap};

use super::{
    change_event::{Datum, MalformedRecord, Part, read},
    record::record,
};

/// What the name of the topic begins with; the connector's topic prefix follows.
pub const NOTIFICATION_TOPIC: &str = "__debezium-notification.";

/// Snapshots that a signal asked for; those at a connector's start have another name.
const INCREMENTAL: &str = "Incremental Snapshot";

/// One notification of an incremental snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The id of the signal that asked for the snapshot.
    pub id: String,
    pub step: Step,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Started,
    /// Rows were read up to the key `last` of at most `maximum`.
    InProgress {
        last: Option<String>,
        maximum: Option<String>,
    },
    /// The scan of a table has ended, in whatever way.
    TableScanCompleted {
        status: String,
        rows: i64,
    },
    Completed,
    Aborted,
    /// Paused, resumed, or what a later Debezium may say.
    Other,
}

/// What a batch says of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub last_key: Option<String>,
    pub maximum_key: Option<String>,
    /// Rows of the table, once all of them were read.
    pub rows: Option<i64>,
    /// Why the snapshot does not show every row of the table.
    pub failure: Option<String>,
    pub completed: bool,
}

/// Reads a record of the topic. `None` if it is not about an incremental snapshot.
pub fn decode(value: Datum<'_>) -> Result<Option<Notification>, MalformedRecord> {
    let Value {
        id,
        aggregate_type,
        kind,
        additional_data,
    } = read(Part::Value, value)?;
    if aggregate_type != INCREMENTAL {
        return Ok(None);
    }
    let mut data = additional_data.unwrap_or_default();
    let step = match kind.as_str() {
        "STARTED" => Step::Started,
        "IN_PROGRESS" => Step::InProgress {
            last: data.remove("last_processed_key"),
            maximum: data.remove("maximum_key"),
        },
        "TABLE_SCAN_COMPLETED" => Step::TableScanCompleted {
            rows: data
                .get("total_rows_scanned")
                .and_then(|rows| rows.parse().ok())
                .unwrap_or_default(),
            status: data.remove("status").unwrap_or_default(),
        },
        "COMPLETED" => Step::Completed,
        "ABORTED" => Step::Aborted,
        _ => Step::Other,
    };
    Ok(Some(Notification { id, step }))
}

/// Brings together what notifications, in their order, say of each snapshot.
pub fn by_snapshot<'a>(notifications: impl IntoIterator<Item = &'a Notification>) -> BTreeMap<&'a str, Said> {
    let mut all: BTreeMap<&str, Said> = BTreeMap::new();
    for Notification { id, step } in notifications {
        all.entry(id).or_default().add(step);
    }
    all
}

impl Said {
    fn add(&mut self, step: &Step) {
        match step {
            Step::Started | Step::Other => {}
            Step::InProgress { last, maximum } => {
                self.last_key.clone_from(last);
                self.maximum_key.clone_from(maximum);
            }
            Step::TableScanCompleted { status, rows } => match status.as_str() {
                "SUCCEEDED" | "EMPTY" => self.rows = Some(*rows),
                other => self.fail(format!("the table was not read to its end: {other}")),
            },
            Step::Completed => self.completed = true,
            Step::Aborted => self.fail("the snapshot was aborted".to_owned()),
        }
    }

    /// The first reason is the one that led to the others.
    fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }
}

record! {
    struct Value {
        id: String,
        aggregate_type: String,
        kind = "type": String,
        additional_data: Option<HashMap<String, String>>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(steps: impl IntoIterator<Item = Step>) -> Said {
        let all: Vec<Notification> = steps
            .into_iter()
            .map(|step| Notification { id: "r".into(), step })
            .collect();
        by_snapshot(&all).remove("r").unwrap()
    }

    fn scanned(status: &str, rows: i64) -> Step {
        Step::TableScanCompleted {
            status: status.into(),
            rows,
        }
    }

    #[test]
    fn an_empty_table_is_read_to_its_end_too() {
        for (status, rows) in [("SUCCEEDED", 7), ("EMPTY", 0)] {
            let said = heard([Step::Started, scanned(status, rows), Step::Completed]);
            assert_eq!(
                (said.rows, said.failure, said.completed),
                (Some(rows), None, true)
            );
        }
    }

    #[test]
    fn every_other_end_of_a_scan_is_a_failure_and_the_first_is_told() {
        for status in [
            "NO_PRIMARY_KEY",
            "SKIPPED",
            "SQL_EXCEPTION",
            "UNKNOWN_SCHEMA",
            "",
            "NEW",
        ] {
            let said = heard([scanned(status, 7), Step::Aborted, Step::Completed]);
            let failure = said.failure.unwrap();
            assert!(failure.ends_with(status) && said.rows.is_none(), "{failure}");
        }
    }

    #[test]
    fn each_snapshot_is_told_apart() {
        let of = |id: &str, step| Notification { id: id.into(), step };
        let all = [
            of("a", Step::Completed),
            of("b", Step::Aborted),
            of("a", Step::Other),
        ];
        let said = by_snapshot(&all);
        assert!(said["a"].completed && said["a"].failure.is_none());
        assert!(!said["b"].completed && said["b"].failure.is_some());
    }
}
