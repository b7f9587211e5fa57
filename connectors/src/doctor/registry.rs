//! What the schema registry says of the topics' subjects.

use super::finding::Finding;
use crate::{
    kafka::SchemaIds,
    registry::Version,
    schemas::{Half, Table, check},
};

/// A subject as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) table: Table,
    pub(crate) half: Half,
    pub(crate) name: String,
    pub(crate) latest: Option<Version>,
    pub(crate) compatibility: Option<String>,
}

pub(crate) fn subjects(subjects: &[Subject]) -> Finding {
    const CHECK: &str = "subjects";
    // Those of keywords come with the first one, which nobody has to keep, and what is wrong with heartbeats shows
    // in the database.
    let missing: Vec<&str> = subjects
        .iter()
        .filter(|subject| subject.table == Table::TradePosts && subject.latest.is_none())
        .map(|subject| subject.name.as_str())
        .collect();
    if missing.is_empty() {
        let shown = subjects.iter().map(|subject| match &subject.latest {
            Some(latest) => format!("{} version {} (id {})", subject.name, latest.version, latest.id),
            None => format!("{} not yet", subject.name),
        });
        return Finding::ok(CHECK, shown.collect::<Vec<_>>().join(", "));
    }
    Finding::warning(
        CHECK,
        format!("there is no subject {}", missing.join(" and none ")),
        "they come with the first record; if there are records, the registry is another one than the worker's or has lost its storage. `connectors schemas register` makes them before",
    )
}

/// A change of the table that breaks readers should stop the capture, where it can be mended, and not
/// arrive at chat-service.
pub(crate) fn compatibility(subjects: &[Subject]) -> Finding {
    const CHECK: &str = "compatibility";
    let there = || subjects.iter().filter(|subject| subject.latest.is_some());
    let unsafe_levels: Vec<String> = there()
        .filter(|subject| !matches!(level(subject), Some(set) if set.starts_with("BACKWARD") || set.starts_with("FULL")))
        .map(|subject| format!("{} has {}", subject.name, level(subject).unwrap_or("no level")))
        .collect();
    if unsafe_levels.is_empty() {
        let levels: Vec<&str> = there().filter_map(level).collect();
        return Finding::ok(CHECK, levels.join(", "));
    }
    Finding::warning(
        CHECK,
        format!(
            "{}: a change of the table that chat-service cannot read is let through to it",
            unsafe_levels.join(", ")
        ),
        "connectors schemas set-compatibility BACKWARD",
    )
}

fn level(subject: &Subject) -> Option<&str> {
    subject.compatibility.as_deref()
}

/// Whether chat-service can read what is written with the newest schemas.
pub(crate) fn reader_schemas(subjects: &[Subject]) -> Finding {
    const CHECK: &str = "reader-schemas";
    let mut problems = Vec::new();
    let mut seen = 0;
    for subject in subjects {
        let Some(latest) = &subject.latest else { continue };
        seen += 1;
        match check::problems(subject.table, subject.half, &latest.schema) {
            Ok(found) => problems.extend(found.iter().map(|problem| format!("{}: {problem}", subject.name))),
            Err(error) => problems.push(format!("{} version {}: {error}", subject.name, latest.version)),
        }
    }
    if !problems.is_empty() {
        return Finding::wrong(
            CHECK,
            problems.join("; "),
            "records written with it become dead letters: give the column back as schemas/README.md says, then replay them",
        );
    }
    if seen == 0 {
        return Finding::unseen(CHECK, "there is no writer schema yet");
    }
    Finding::ok(CHECK, "chat-service can read the newest writer schemas")
}

/// Whether the registry knows the schemas that records were written with. `unknown` are the ids that it
/// does not.
pub(crate) fn schema_ids(seen: &SchemaIds, unknown: &[u32]) -> Finding {
    const CHECK: &str = "schema-ids";
    let list = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if let Some((partition, offset)) = seen.without {
        return Finding::wrong(
            CHECK,
            format!(
                "the record at offset {offset} of partition {partition} does not begin with a schema's id"
            ),
            "somebody else writes to the topic, or the connector's converters are not as shipped: see `config`",
        );
    }
    if !unknown.is_empty() {
        return Finding::wrong(
            CHECK,
            format!(
                "the registry does not know the ids {} of the newest records",
                list(unknown)
            ),
            "it is another registry than the worker's, or it has lost its storage: restore that. chat-service goes on with the schemas that it has kept",
        );
    }
    if seen.ids.is_empty() {
        return Finding::unseen(CHECK, "the topic has no records");
    }
    Finding::ok(
        CHECK,
        format!("the newest records were written with {}", list(&seen.ids)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Level, schemas::history};

    fn subject(half: Half) -> Subject {
        let table = Table::TradePosts;
        Subject {
            table,
            half,
            name: half.subject(&table.topic(history::TOPIC_PREFIX)),
            latest: Some(Version {
                version: 1,
                id: 7,
                schema: history::newest(table, half).to_owned(),
            }),
            compatibility: Some("BACKWARD".to_owned()),
        }
    }

    #[test]
    fn a_subject_that_is_missing_is_told() {
        let (key, value) = (subject(Half::Key), subject(Half::Value));
        assert_eq!(subjects(&[key.clone(), value.clone()]).level, Level::Ok);
        let missing = Subject {
            latest: None,
            ..value
        };
        let finding = subjects(&[key.clone(), missing.clone()]);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.seen.contains("trade_posts-value"), "{finding:?}");
        let of_keywords = Subject {
            table: Table::Keywords,
            ..missing
        };
        assert_eq!(subjects(&[key.clone(), of_keywords.clone()]).level, Level::Ok);
        assert_eq!(compatibility(&[key, of_keywords]).level, Level::Ok);
    }

    #[test]
    fn a_level_has_to_refuse_what_readers_cannot_read() {
        let with = |level: Option<&str>| {
            compatibility(&[Subject {
                compatibility: level.map(str::to_owned),
                ..subject(Half::Value)
            }])
            .level
        };
        for fit in ["BACKWARD", "BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"] {
            assert_eq!(with(Some(fit)), Level::Ok, "{fit}");
        }
        for unfit in [Some("NONE"), Some("FORWARD"), None] {
            assert_eq!(with(unfit), Level::Warning, "{unfit:?}");
        }
    }

    #[test]
    fn a_schema_that_cannot_be_read_is_told_with_the_field() {
        assert_eq!(
            reader_schemas(&[subject(Half::Key), subject(Half::Value)]).level,
            Level::Ok
        );
        let mut of_keywords = subject(Half::Value);
        of_keywords.table = Table::Keywords;
        let finding = reader_schemas(&[subject(Half::Value), of_keywords]);
        assert!(finding.seen.contains("after.member_id is missing"), "{finding:?}");
        let mut other = subject(Half::Value);
        let latest = other.latest.as_mut().unwrap();
        latest.schema = latest.schema.replace("\"title\"", "\"subject\"");
        let finding = reader_schemas(&[subject(Half::Key), other]);
        assert_eq!(finding.level, Level::Wrong);
        assert!(finding.seen.contains("after.title is missing"), "{finding:?}");
        assert_eq!(reader_schemas(&[]).level, Level::Unseen);
    }

    #[test]
    fn ids_have_to_be_known() {
        let seen = SchemaIds {
            ids: vec![1, 2],
            without: None,
        };
        assert_eq!(schema_ids(&seen, &[]).level, Level::Ok);
        assert_eq!(schema_ids(&seen, &[2]).level, Level::Wrong);
        assert_eq!(schema_ids(&SchemaIds::default(), &[]).level, Level::Unseen);
        let strange = SchemaIds {
            without: Some((0, 4)),
            ..seen
        };
        assert_eq!(schema_ids(&strange, &[]).level, Level::Wrong);
    }
}
