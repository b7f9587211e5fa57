//! The newest of the writer schemas that are kept in `schemas/history`, for a new environment: with them
//! registered before the first record, a subject has its compatibility level from the beginning.

use std::{fs, io, path::Path};

use serde_json::Value;

use super::{Half, Table};

/// What topics of the kept schemas begin with. Names of records begin with the topic.
pub const TOPIC_PREFIX: &str = "trade";

/// The newest version, letter for letter as Debezium registers it: a registry takes the same schema in other
/// words for another version.
pub fn newest(table: Table, half: Half) -> &'static str {
    let text = match (table, half) {
        (Table::TradePosts, Half::Key) => include_str!("../../../schemas/history/trade-posts/001-key.json"),
        (Table::TradePosts, Half::Value) => {
            include_str!("../../../schemas/history/trade-posts/001-value.json")
        }
        (Table::Keywords, Half::Key) => include_str!("../../../schemas/history/keywords/001-key.json"),
        (Table::Keywords, Half::Value) => include_str!("../../../schemas/history/keywords/001-value.json"),
        (Table::Heartbeats, Half::Key) => include_str!("../../../schemas/history/heartbeats/001-key.json"),
        (Table::Heartbeats, Half::Value) => {
            include_str!("../../../schemas/history/heartbeats/001-value.json")
        }
    };
    text.trim_end()
}

/// The newest version as Debezium registers it where topics begin so.
pub fn for_prefix(table: Table, half: Half, prefix: &str) -> String {
    renamed(
        newest(table, half),
        &table.topic(TOPIC_PREFIX),
        &table.topic(prefix),
    )
}

/// A writer schema from where topics begin so, as it is kept: with [`TOPIC_PREFIX`].
pub fn kept(table: Table, schema: &str, prefix: &str) -> String {
    renamed(schema, &table.topic(prefix), &table.topic(TOPIC_PREFIX))
}

/// Names end with the text that they are, or go on behind a dot.
fn renamed(schema: &str, from: &str, to: &str) -> String {
    ['"', '.'].into_iter().fold(schema.to_owned(), |schema, end| {
        schema.replace(&format!("\"{from}{end}"), &format!("\"{to}{end}"))
    })
}

/// Whether two texts are the same schema, in whatever words.
pub fn same(a: &str, b: &str) -> bool {
    let json = |text| serde_json::from_str::<Value>(text).ok();
    a == b || json(a).is_some_and(|a| Some(a) == json(b))
}

/// The kept versions of one table's folder, by number.
///
/// # Errors
/// If the folder or a file cannot be read, or a file is not `NNN-key.json` or `NNN-value.json`.
pub fn read(folder: &Path) -> io::Result<Vec<(u32, Half, String)>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let invalid =
            |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let (number, half) = parsed(name)
            .ok_or_else(|| invalid("the name is not NNN-key.json or NNN-value.json".to_owned()))?;
        let schema = fs::read_to_string(&path)?;
        serde_json::from_str::<Value>(&schema).map_err(|error| invalid(error.to_string()))?;
        versions.push((number, half, schema.trim_end().to_owned()));
    }
    versions.sort_by_key(|(number, half, _)| (*number, *half));
    Ok(versions)
}

fn parsed(name: &str) -> Option<(u32, Half)> {
    let (number, half) = name.strip_suffix(".json")?.split_once('-')?;
    let half = Half::BOTH.into_iter().find(|known| known.to_string() == half)?;
    Some((number.parse().ok()?, half))
}

/// The file of a version.
pub fn file_name(number: u32, half: Half) -> String {
    format!("{number:03}-{half}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::check;

    #[test]
    fn a_topic_of_another_prefix_has_the_same_schemas_under_its_name() {
        let newest = newest(Table::TradePosts, Half::Value);
        assert_eq!(for_prefix(Table::TradePosts, Half::Value, TOPIC_PREFIX), newest);
        let other = for_prefix(Table::TradePosts, Half::Value, "other");
        let json: Value = serde_json::from_str(&other).unwrap();
        assert_eq!(json["namespace"], "other.public.trade_posts");
        assert_eq!(json["connect.name"], "other.public.trade_posts.Envelope");
        assert_eq!(
            json["fields"][2]["type"]["namespace"],
            "io.debezium.connector.postgresql"
        );
        assert!(!other.contains("\"trade."), "{other}");
        assert_eq!(kept(Table::TradePosts, &other, "other"), newest);
    }

    fn all(table: Table) -> Vec<(u32, Half, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/history");
        read(&folder.join(table.short_name())).unwrap()
    }

    /// Records that were written with any of them can still lie in a topic.
    #[test]
    fn every_version_that_was_shipped_can_be_read() {
        for table in Table::ALL {
            for (number, half, schema) in all(table) {
                let problems = check::problems(table, half, &schema).unwrap();
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                assert_eq!(
                    problems,
                    [""; 0],
                    "{}/{}",
                    table.short_name(),
                    file_name(number, half)
                );
            }
        }
    }

    #[test]
    fn the_newest_are_the_newest_of_the_folder() {
        for table in Table::ALL {
            let all = all(table);
            for half in Half::BOTH {
                let (number, _, last) = all.iter().rfind(|(_, of, _)| *of == half).unwrap();
                assert_eq!(
                    newest(table, half),
                    last,
                    "name {}/{} in history.rs",
                    table.short_name(),
                    file_name(*number, half)
                );
            }
        }
    }

    /// The recorded records were written with versions that are kept.
    #[test]
    fn the_fixtures_are_in_the_history() {
        for (table, fixture) in [
            (
                Table::TradePosts,
                include_str!("../../../schemas/fixtures/schema-1.json"),
            ),
            (
                Table::TradePosts,
                include_str!("../../../schemas/fixtures/schema-2.json"),
            ),
            (
                Table::Keywords,
                include_str!("../../../schemas/keyword-fixtures/schema-3.json"),
            ),
            (
                Table::Keywords,
                include_str!("../../../schemas/keyword-fixtures/schema-4.json"),
            ),
            (
                Table::Heartbeats,
                include_str!("../../../schemas/heartbeat-fixtures/schema-3.json"),
            ),
            (
                Table::Heartbeats,
                include_str!("../../../schemas/heartbeat-fixtures/schema-4.json"),
            ),
        ] {
            assert!(
                all(table).iter().any(|(_, _, kept)| same(kept, fixture)),
                "keep {fixture} in schemas/history"
            );
        }
    }

    /// What a change of the table that chat-service cannot follow would look like.
    #[test]
    fn a_version_that_breaks_is_refused_with_the_field_and_its_use() {
        let shipped = newest(Table::TradePosts, Half::Value);
        let column = |name: &str| {
            let text = format!("\"name\":\"{name}\"");
            assert!(shipped.contains(&text), "{name}");
            text
        };
        let changed = |from: &str, to: &str| {
            assert!(shipped.contains(from), "{from}");
            let problems =
                check::problems(Table::TradePosts, Half::Value, &shipped.replacen(from, to, 1)).unwrap();
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let seller = column("seller_id");
        let typed = format!("{seller},\"type\":\"long\"");
        for (from, to, said) in [
            (
                column("title"),
                "\"name\":\"subject\"",
                "after.title is missing; chat-service needs it: shown with a room",
            ),
            (column("status"), "\"name\": \"state\"", "after.status is missing"),
            (
                typed.clone(),
                &*typed.replace("long", "string"),
                "after.seller_id is string, not long",
            ),
            (
                typed.clone(),
                &*typed.replace("long", "int"),
                "after.seller_id is int, not long",
            ),
            (
                typed.clone(),
                &*typed.replace("\"long\"", "[\"null\", \"long\"]"),
                "after.seller_id is null or long, not long",
            ),
            (column("op"), "\"name\": \"operation\"", "op is missing"),
        ] {
            let problems = changed(&from, to);
            assert!(problems.contains(said), "{problems:?}");
        }
        // A column more is nothing to chat-service.
        let more = format!(
            "{seller}, \"type\": \"long\"}}, {{\"name\": \"note\", \"type\": [\"null\", \"string\"]}}, {{\"name\": \"rest\""
        );
        assert_eq!(changed(&seller, &more.replacen("rest", "seller", 1)), "");
    }
}
