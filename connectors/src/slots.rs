//! Two connectors on one replication slot divide the changes between them, or the second waits without end
//! and says RUNNING. Connect does not notice, so it is found here by comparing configurations.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Config, ConnectError, FieldError, config_file::ConnectorFile};

/// Where a slot is: as text, because only the worker knows what the placeholders stand for.
fn slot(config: &Config) -> Option<[&str; 4]> {
    let text = |key: &str, default| config.get(key).map_or(default, String::as_str);
    text("connector.class", "")
        .ends_with("PostgresConnector")
        .then(|| {
            [
                text("slot.name", "debezium"),
                text("database.hostname", ""),
                text("database.port", "5432"),
                text("database.dbname", ""),
            ]
        })
}

/// The files whose slot belongs to another connector: one that exists and does not go, or another file.
pub fn shared_slots(
    files: &[ConnectorFile],
    existing: &BTreeMap<String, Config>,
    going: &BTreeSet<String>,
) -> Vec<ConnectError> {
    let described: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let staying = existing
        .iter()
        .filter(|(name, _)| !described.contains(name.as_str()) && !going.contains(*name))
        .map(|(name, config)| (name.as_str(), config));
    let others: Vec<(&str, &Config)> = staying
        .chain(files.iter().map(|file| (file.name.as_str(), &file.config)))
        .collect();
    files
        .iter()
        .filter_map(|file| {
            let wanted = slot(&file.config)?;
            let (owner, _) = others
                .iter()
                .find(|(name, config)| *name != file.name && slot(config) == Some(wanted))?;
            Some(ConnectError::InvalidConfig {
                connector: file.name.clone(),
                fields: vec![FieldError {
                    field: "slot.name".to_owned(),
                    message: format!(
                        "the slot {} of this database belongs to the connector {owner}, and one slot cannot \
                         serve two; give this one a slot of its own, or delete {owner}",
                        wanted[0]
                    ),
                }],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(slot: &str, database: &str) -> Config {
        [
            (
                "connector.class",
                "io.debezium.connector.postgresql.PostgresConnector",
            ),
            ("slot.name", slot),
            ("database.dbname", database),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    fn file(name: &str, config: Config) -> ConnectorFile {
        ConnectorFile {
            name: name.to_owned(),
            config,
        }
    }

    fn refused(files: &[ConnectorFile], existing: &[(&str, Config)], going: &[&str]) -> Vec<String> {
        let existing = existing
            .iter()
            .map(|(name, config)| ((*name).to_owned(), config.clone()));
        let going = going.iter().map(|name| (*name).to_owned()).collect();
        let errors = shared_slots(files, &existing.collect(), &going);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slot_serves_one_connector() {
        let own = [file("a", config("s", "d"))];
        assert!(refused(&own, &[("a", config("s", "d"))], &[]).is_empty());
        assert!(refused(&own, &[("b", config("s", "other"))], &[]).is_empty());
        assert!(refused(&own, &[("b", config("other", "d"))], &[]).is_empty());
        assert!(refused(&own, &[("b", config("s", "d"))], &["b"]).is_empty());
        let told = refused(&own, &[("b", config("s", "d"))], &[]);
        assert!(
            told[0].contains("slot.name: the slot s of this database belongs to the connector b"),
            "{told:?}"
        );

        // The file is what b will be, not what it is.
        let moved = [file("a", config("s", "d")), file("b", config("t", "d"))];
        assert!(refused(&moved, &[("b", config("s", "d"))], &[]).is_empty());
        let both = [file("a", config("s", "d")), file("b", config("s", "d"))];
        assert_eq!(refused(&both, &[], &[]).len(), 2);
    }

    #[test]
    fn other_connectors_have_no_slot() {
        let mut other = config("s", "d");
        other.insert("connector.class".to_owned(), "io.example.Sink".to_owned());
        assert!(refused(&[file("a", config("s", "d"))], &[("b", other)], &[]).is_empty());
    }
}
