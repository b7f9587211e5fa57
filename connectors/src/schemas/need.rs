//! What chat-service reads of a record, and what for: the table of `schemas/README.md` and the fields of
//! `schemas/*.avsc`, which tests hold to this one.

use super::{Half, Table};

/// One field that chat-service reads, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Whose records have it.
    pub tables: &'static [Table],
    pub half: Half,
    /// Names from the outermost record on.
    pub path: &'static [&'static str],
    pub shape: Shape,
    pub purpose: &'static str,
}

/// What the field has to be in the writer schema. chat-service reads a datum as it was written, without
/// Avro's promotions: an `int` is no `long`, and a field that it can do without has to be a union with
/// null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Long,
    Text,
    Record,
    OptionalLong,
    OptionalText,
    OptionalRecord,
}

impl Shape {
    /// As a schema would write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Text => "string",
            Self::Record => "record",
            Self::OptionalLong => "null or long",
            Self::OptionalText => "null or string",
            Self::OptionalRecord => "null or record",
        }
    }
}

/// What is needed of this half of the table's records.
pub fn of(table: Table, half: Half) -> impl Iterator<Item = Need> {
    let here = move |need: &Need| need.half == half && need.tables.contains(&table);
    NEEDS.into_iter().filter(here)
}

/// In the order of the table in `schemas/README.md`.
const NEEDS: [Need; 16] = [
    Need {
        tables: &Table::KEPT,
        half: Half::Key,
        path: &["id"],
        shape: Shape::Long,
        purpose: "which post, or keyword; the whole content of a tombstone",
    },
    value(&["op"], Shape::Text, "what happened"),
    row(
        &Table::KEPT,
        &["after"],
        Shape::OptionalRecord,
        "the row as it is after the change",
    ),
    row(
        &Table::KEPT,
        &["after", "id"],
        Shape::Long,
        "check: it has to be the key's",
    ),
    row(
        &[Table::TradePosts],
        &["after", "seller_id"],
        Shape::Long,
        "the seller's half of a room; nobody opens a room about their own post",
    ),
    row(
        &[Table::TradePosts],
        &["after", "title"],
        Shape::Text,
        "shown with a room",
    ),
    row(
        &[Table::TradePosts],
        &["after", "status"],
        Shape::Text,
        "shown with a room",
    ),
    row(
        &[Table::Keywords],
        &["after", "member_id"],
        Shape::Long,
        "who is told of a new post",
    ),
    row(
        &[Table::Keywords],
        &["after", "keyword"],
        Shape::Text,
        "which new posts are told of",
    ),
    value(
        &["source", "lsn"],
        Shape::OptionalLong,
        "order: an older change never overrides a newer one",
    ),
    value(
        &["source", "sequence"],
        Shape::OptionalText,
        "the same for reads of an incremental snapshot, which have no `lsn`",
    ),
    value(
        &["source", "snapshot"],
        Shape::OptionalText,
        "whether the whole table was read anew",
    ),
    value(
        &["source", "schema"],
        Shape::Text,
        "check: a record of another table is a dead letter",
    ),
    value(
        &["source", "table"],
        Shape::Text,
        "check: a record of another table is a dead letter",
    ),
    value(
        &["source", "ts_ms"],
        Shape::Long,
        "when the change was committed: how long a deletion took",
    ),
    row(
        &Table::KEPT,
        &["ts_ms"],
        Shape::OptionalLong,
        "when Debezium made the record: how long a deletion took",
    ),
];

const fn value(path: &'static [&'static str], shape: Shape, purpose: &'static str) -> Need {
    row(&Table::ALL, path, shape, purpose)
}

const fn row(
    tables: &'static [Table],
    path: &'static [&'static str],
    shape: Shape,
    purpose: &'static str,
) -> Need {
    Need {
        tables,
        half: Half::Value,
        path,
        shape,
        purpose,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const README: &str = include_str!("../../../schemas/README.md");

    /// The kept reader schema, if anything is read of that half.
    fn kept(table: Table, half: Half) -> Option<Value> {
        let text = match (table, half) {
            (Table::TradePosts, Half::Key) => include_str!("../../../schemas/trade-posts-key.avsc"),
            (Table::TradePosts, Half::Value) => include_str!("../../../schemas/trade-posts-envelope.avsc"),
            (Table::Keywords, Half::Key) => include_str!("../../../schemas/keywords-key.avsc"),
            (Table::Keywords, Half::Value) => include_str!("../../../schemas/keywords-envelope.avsc"),
            (Table::Heartbeats, Half::Key) => return None,
            (Table::Heartbeats, Half::Value) => include_str!("../../../schemas/heartbeats-envelope.avsc"),
        };
        Some(serde_json::from_str(text).unwrap())
    }

    /// Path and type of every field of a schema as the kept files write them.
    fn fields(record: &Value, prefix: &str, into: &mut Vec<(String, String)>) {
        for field in record["fields"].as_array().unwrap() {
            let path = format!("{prefix}{}", field["name"].as_str().unwrap());
            let (optional, kind) = match &field["type"] {
                Value::Array(union) => (true, &union[1]),
                kind => (false, kind),
            };
            let name = match kind {
                Value::String(name) => name.as_str(),
                _ => "record",
            };
            // `source` is there for its fields alone.
            if path != "source" {
                let shape = if optional {
                    format!("null or {name}")
                } else {
                    name.to_owned()
                };
                into.push((path.clone(), shape));
            }
            if name == "record" {
                fields(kind, &format!("{path}."), into);
            }
        }
    }

    #[test]
    fn the_kept_reader_schemas_have_these_fields() {
        for (table, half) in Table::ALL
            .into_iter()
            .flat_map(|table| Half::BOTH.map(|half| (table, half)))
        {
            let mut written = Vec::new();
            if let Some(kept) = kept(table, half) {
                fields(&kept, "", &mut written);
            }
            let mut needed: Vec<_> = of(table, half)
                .map(|need| (need.path.join("."), need.shape.name().to_owned()))
                .collect();
            written.sort();
            needed.sort();
            assert_eq!(written, needed, "{table:?} {half}");
        }
    }

    #[test]
    fn the_readme_says_what_each_is_for() {
        let rows: Vec<(&str, &str)> = README
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.split(" | ").collect();
                Some((cells.first()?.strip_prefix("| ")?, *cells.get(1)?))
            })
            .collect();
        for need in NEEDS {
            let path = need.path.join(".");
            let (name, shown) = match need.half {
                Half::Key => (format!("key `{path}`"), path.clone()),
                Half::Value => (format!("`{path}`"), format!("`{path}`")),
            };
            let row = rows.iter().find(|(fields, _)| {
                *fields == name || (need.half == Half::Value && fields.split(", ").any(|one| one == shown))
            });
            let (_, purpose) = row.unwrap_or_else(|| panic!("schemas/README.md has no row for {name}"));
            assert!(
                purpose.starts_with(need.purpose),
                "{name}: {purpose:?} in the README, {:?} in the code",
                need.purpose
            );
        }
    }
}
