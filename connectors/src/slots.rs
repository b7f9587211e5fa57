//! What connectors have in PostgreSQL, and which of them name the same. Two connectors on one replication slot
//! divide the changes between them, or the second waits without end and says RUNNING. Connect does not notice, so
//! it is found here by comparing configurations.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Config, ConnectError, FieldError, config_file::ConnectorFile, placeholder::placeholders};

/// What a connector for PostgreSQL has there. As text, because only the worker knows what placeholders stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned<'a> {
    pub slot: &'a str,
    pub publication: &'a str,
    /// Host, port and name.
    database: [&'a str; 3],
}

/// Other connectors that name the same slot or publication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Others {
    pub slot: Vec<String>,
    pub publication: Vec<String>,
}

impl<'a> Owned<'a> {
    /// `None` of a connector for something else.
    pub fn of(config: &'a Config) -> Option<Self> {
        let text = |key: &str, default| config.get(key).map_or(default, String::as_str);
        text("connector.class", "")
            .ends_with("PostgresConnector")
            .then(|| Self {
                slot: text("slot.name", "debezium"),
                publication: text("publication.name", "dbz_publication"),
                database: [
                    text("database.hostname", ""),
                    text("database.port", "5432"),
                    text("database.dbname", ""),
                ],
            })
    }

    /// Whether both may be in one database: a placeholder may stand for whatever the other says.
    fn may_be_beside(&self, other: &Owned<'_>) -> bool {
        let unknown = |text: &str| !placeholders(text).is_empty();
        self.database
            .iter()
            .zip(other.database)
            .all(|(own, other)| *own == other || unknown(own) || unknown(other))
    }

    /// Those of the connectors that name what this one, called `name`, has. A slot's name is its server's, however
    /// that is called, a publication's its database's.
    pub fn others<'c>(
        &self,
        name: &str,
        connectors: impl IntoIterator<Item = (&'c str, &'c Config)>,
    ) -> Others {
        let mut others = Others::default();
        for (other, config) in connectors {
            let Some(has) = Owned::of(config).filter(|_| other != name) else {
                continue;
            };
            if has.slot == self.slot {
                others.slot.push(other.to_owned());
            }
            if has.publication == self.publication && self.may_be_beside(&has) {
                others.publication.push(other.to_owned());
            }
        }
        others
    }
}

/// The connectors that there will be: those that exist and do not go, as their files say if they have one, and all
/// other files.
pub fn to_come<'a>(
    files: &'a [ConnectorFile],
    existing: &'a BTreeMap<String, Config>,
    going: &BTreeSet<String>,
) -> Vec<(&'a str, &'a Config)> {
    let described: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let staying = existing
        .iter()
        .filter(|(name, _)| !described.contains(name.as_str()) && !going.contains(*name))
        .map(|(name, config)| (name.as_str(), config));
    staying
        .chain(files.iter().map(|file| (file.name.as_str(), &file.config)))
        .collect()
}

/// The files whose slot belongs to another connector: one that exists and does not go, or another file.
pub fn shared_slots(
    files: &[ConnectorFile],
    existing: &BTreeMap<String, Config>,
    going: &BTreeSet<String>,
) -> Vec<ConnectError> {
    let others = to_come(files, existing, going);
    let slot = |config| Owned::of(config).map(|owned| (owned.slot, owned.database));
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
                        wanted.0
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
    fn what_others_name_too_is_found_defaults_included() {
        let others = |own: &Config, other: &Config| {
            let connectors = [("own", own), ("other", other)];
            let others = Owned::of(own).unwrap().others("own", connectors);
            (others.slot.len(), others.publication.len())
        };
        let with = |slot: &str, settings: &[(&str, &str)]| {
            let mut config = config(slot, "d");
            for (key, value) in settings {
                config.insert((*key).to_owned(), (*value).to_owned());
            }
            config
        };
        let own = with("s", &[]);
        assert_eq!(others(&own, &with("t", &[])), (0, 1), "both have the default");
        assert_eq!(others(&own, &with("s", &[("publication.name", "p")])), (1, 0));
        assert_eq!(
            others(&own, &with("t", &[("publication.name", "dbz_publication")])),
            (0, 1)
        );
        assert_eq!(others(&own, &with("t", &[("database.dbname", "e")])), (0, 0));
        assert_eq!(others(&own, &with("t", &[("database.port", "5433")])), (0, 0));
        assert_eq!(
            others(&own, &with("t", &[("database.dbname", "${env:E}")])),
            (0, 1)
        );
        let mut default = with("", &[("publication.name", "p")]);
        default.remove("slot.name");
        assert_eq!(others(&with("debezium", &[]), &default), (1, 0));
        let mut sink = with("s", &[]);
        sink.insert("connector.class".to_owned(), "io.example.Sink".to_owned());
        assert_eq!(others(&own, &sink), (0, 0));
        assert_eq!(Owned::of(&sink), None);
    }

    #[test]
    fn other_connectors_have_no_slot() {
        let mut other = config("s", "d");
        other.insert("connector.class".to_owned(), "io.example.Sink".to_owned());
        assert!(refused(&[file("a", config("s", "d"))], &[("b", other)], &[]).is_empty());
    }
}
