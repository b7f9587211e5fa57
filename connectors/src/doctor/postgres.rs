//! How PostgreSQL is set up for the capture.

use super::finding::{Finding, bytes};
use crate::{
    database::{Grants, Identity, Publication, Settings},
    placeholder::unknown,
    shipped::CAPTURED,
};

pub(crate) fn wal_level(settings: &Settings) -> Finding {
    let seen = format!("wal_level={}", settings.wal_level);
    if settings.wal_level == "logical" {
        Finding::ok("wal-level", seen)
    } else {
        Finding::wrong(
            "wal-level",
            seen,
            "set wal_level=logical in postgresql.conf and restart PostgreSQL",
        )
    }
}

pub(crate) fn wal_keep(settings: &Settings) -> Finding {
    match settings.max_slot_wal_keep {
        Some(limit) => Finding::ok("wal-keep", format!("max_slot_wal_keep_size={}", bytes(limit))),
        None => Finding::warning(
            "wal-keep",
            "max_slot_wal_keep_size is not set: a slot that nobody reads fills PostgreSQL's disk",
            "set it to what the disk can spare, and alarm at half of it",
        ),
    }
}

/// What has to be in the publication.
fn published() -> impl Iterator<Item = &'static str> {
    CAPTURED
        .into_iter()
        .map(|(table, _)| table)
        .chain(["public.debezium_signal"])
}

fn tables() -> String {
    CAPTURED.map(|(table, _)| table).join(", ")
}

pub(crate) fn publication(name: &str, publication: Option<&Publication>) -> Finding {
    const CHECK: &str = "publication";
    if let Some(why) = unknown(name) {
        return Finding::unseen(CHECK, why);
    }
    let Some(publication) = publication else {
        return Finding::wrong(
            CHECK,
            format!("there is no publication {name}"),
            "let trade-service migrate the database; its migration 0002 makes the publication",
        );
    };
    let mut faults = Vec::new();
    if !publication.left_out.is_empty() {
        faults.push(format!("it leaves out {}", publication.left_out.join(", ")));
    }
    for name in published() {
        let Some(table) = publication.tables.iter().find(|table| table.name == name) else {
            faults.push(format!("{name} is not in it"));
            continue;
        };
        if !table.whole {
            faults.push(format!(
                "it has a list of columns of {name}: once Debezium has read the table anew (`connectors \
                 reconcile`), it takes their values for those of other columns"
            ));
        }
        if let Some(filter) = &table.row_filter {
            faults.push(format!("it leaves out rows of {name} that are not {filter}"));
        }
    }
    if faults.is_empty() {
        return Finding::ok(CHECK, format!("{name} has all rows of {}, whole", tables()));
    }
    Finding::wrong(
        CHECK,
        format!("{name}: {}", faults.join("; ")),
        format!(
            "ALTER PUBLICATION {name} SET TABLE {}; ALTER PUBLICATION {name} SET (publish = 'insert, update, \
             delete, truncate'); deletes that were left out are found by `connectors reconcile`",
            published().collect::<Vec<_>>().join(", ")
        ),
    )
}

pub(crate) fn replica_identity(table: &str, identity: Option<&Identity>) -> Finding {
    const CHECK: &str = "replica-identity";
    let next = format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT");
    let Some(identity) = identity else {
        return Finding::wrong(
            CHECK,
            format!("there is no table {table}"),
            "check that --database-url names the database of the trade posts, and that trade-service has migrated it",
        );
    };
    if identity.primary_key != ["id"] {
        return Finding::wrong(
            CHECK,
            format!(
                "the primary key of {table} is ({})",
                identity.primary_key.join(", ")
            ),
            "a row is known by its id to the end: make that the primary key",
        );
    }
    match identity.replica_identity.as_str() {
        "d" => Finding::ok(CHECK, "the primary key, id"),
        "f" => Finding::warning(
            CHECK,
            "FULL: every change writes the whole old row into the log, and nobody reads it",
            next,
        ),
        "n" => Finding::wrong(
            CHECK,
            "NOTHING: PostgreSQL refuses to change or delete rows",
            next,
        ),
        _ => Finding::wrong(CHECK, "an index: records may have another key than the id", next),
    }
}

pub(crate) fn grants(role: &str, grants: Option<&Grants>) -> Finding {
    const CHECK: &str = "grants";
    const NEXT: &str = "run connectors/postgres.sql as a superuser in the database of the trade posts";
    match grants {
        None => Finding::wrong(CHECK, format!("there is no role {role}"), NEXT),
        Some(Grants { missing, .. }) if !missing.is_empty() => {
            Finding::wrong(CHECK, format!("{role} lacks {}", missing.join(", ")), NEXT)
        }
        Some(Grants { excess, .. }) if !excess.is_empty() => {
            let excess = excess.join(", ");
            Finding::warning(
                CHECK,
                format!("{role} may also read {excess}"),
                format!(
                    "REVOKE SELECT ON {} FROM {role}, and then run connectors/postgres.sql",
                    tables()
                ),
            )
        }
        Some(_) => Finding::ok(CHECK, format!("{role} may do what it needs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{database::PublishedTable, doctor::finding::Level};

    fn settings() -> Settings {
        Settings {
            wal_level: "logical".to_owned(),
            max_slot_wal_keep: Some(2 << 30),
        }
    }

    #[test]
    fn the_log_has_to_be_logical_and_bounded() {
        assert_eq!(wal_level(&settings()).level, Level::Ok);
        assert_eq!(wal_keep(&settings()).level, Level::Ok);
        let other = Settings {
            wal_level: "replica".to_owned(),
            max_slot_wal_keep: None,
        };
        assert_eq!(wal_level(&other).level, Level::Wrong);
        assert_eq!(wal_keep(&other).level, Level::Warning);
    }

    type Fault<'a> = &'a dyn Fn(&mut Publication);

    #[test]
    fn a_publication_has_every_row_whole_and_every_operation() {
        let table = |name: &str| PublishedTable {
            name: name.to_owned(),
            whole: true,
            row_filter: None,
        };
        let right = Publication {
            left_out: Vec::new(),
            tables: published().map(table).collect(),
        };
        let seen = |change: Fault<'_>| {
            let mut changed = right.clone();
            change(&mut changed);
            let finding = publication("trade_cdc", Some(&changed));
            (finding.level, finding.seen)
        };
        assert_eq!(seen(&|_| ()).0, Level::Ok);
        assert_eq!(publication("trade_cdc", None).level, Level::Wrong);
        let faults: [(Fault<'_>, &str); 7] = [
            (&|it| it.tables[0].whole = false, "has a list of columns"),
            (&|it| it.left_out.push("TRUNCATE".into()), "leaves out TRUNCATE"),
            (
                &|it| it.tables[0].row_filter = Some("(id > 5)".into()),
                "(id > 5)",
            ),
            (
                &|it| _ = it.tables.remove(2),
                "public.debezium_heartbeat is not in it",
            ),
            (
                &|it| _ = it.tables.remove(3),
                "public.debezium_signal is not in it",
            ),
            (
                &|it| it.tables[1].whole = false,
                "a list of columns of public.keywords",
            ),
            (&|it| _ = it.tables.remove(0), "public.trade_posts is not in it"),
        ];
        for (fault, text) in faults {
            let (level, seen) = seen(fault);
            assert_eq!(level, Level::Wrong, "{text}");
            assert!(seen.contains(text), "{seen}");
        }
    }

    #[test]
    fn posts_are_known_by_their_id() {
        let of = |identity: &str, key: &[&str]| {
            let identity = Identity {
                replica_identity: identity.to_owned(),
                primary_key: key.iter().map(|&column| column.to_owned()).collect(),
            };
            replica_identity("public.trade_posts", Some(&identity)).level
        };
        assert_eq!(of("d", &["id"]), Level::Ok);
        assert_eq!(of("f", &["id"]), Level::Warning);
        for (identity, key) in [
            ("n", &["id"][..]),
            ("i", &["id"]),
            ("d", &[]),
            ("d", &["id", "title"]),
        ] {
            assert_eq!(of(identity, key), Level::Wrong, "{identity} {key:?}");
        }
        assert_eq!(replica_identity("public.trade_posts", None).level, Level::Wrong);
    }

    #[test]
    fn grants_are_neither_less_nor_more() {
        let level = |missing: &[&str], excess: &[&str]| {
            let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
            let found = Grants {
                missing: texts(missing),
                excess: texts(excess),
            };
            grants("debezium", Some(&found)).level
        };
        assert_eq!(level(&[], &[]), Level::Ok);
        assert_eq!(level(&["USAGE on schema public"], &["body"]), Level::Wrong);
        assert_eq!(level(&[], &["body"]), Level::Warning);
        assert_eq!(grants("debezium", None).level, Level::Wrong);
    }
}
