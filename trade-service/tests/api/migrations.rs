//! What a migration may do to a database that instances of the last release are still using: the rules of
//! migrations/README.md, read out of the files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One statement, in one line of upper case without comments, and the marks in the comments before it.
#[derive(Debug)]
struct Statement {
    text: String,
    marks: BTreeSet<String>,
}

/// Marks are comments that begin with a word and a colon.
const MARKS: [&str; 3] = ["contract", "blocking", "capture"];

fn statements(sql: &str) -> Vec<Statement> {
    let (mut all, mut text, mut marks, mut in_function) = (Vec::new(), String::new(), BTreeSet::new(), false);
    for line in sql.lines() {
        let (code, comment) = line.split_once("--").unwrap_or((line, ""));
        marks.extend(
            MARKS
                .iter()
                .filter(|mark| {
                    let why = comment
                        .trim()
                        .strip_prefix(*mark)
                        .and_then(|rest| rest.strip_prefix(':'));
                    why.is_some_and(|why| !why.trim().is_empty())
                })
                .map(|mark| (*mark).to_owned()),
        );
        in_function ^= code.matches("$$").count() % 2 == 1;
        for (index, part) in code.split(';').enumerate() {
            if index > 0 && !in_function {
                let text = std::mem::take(&mut text);
                let text = text
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .to_uppercase();
                let marks = std::mem::take(&mut marks);
                if !text.is_empty() {
                    all.push(Statement { text, marks });
                }
            }
            text.push_str(part);
            text.push(' ');
        }
    }
    assert!(text.trim().is_empty(), "a statement without an end: {text}");
    all
}

/// What is against the rules, given the tables that were there before. Adds those that are made.
fn breaches(sql: &str, tables: &mut BTreeSet<String>) -> Vec<String> {
    let (mut found, mut new) = (Vec::new(), BTreeSet::new());
    let name = |text: &str| {
        text.split([' ', '(', ','])
            .next()
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned()
    };
    for Statement { text, marks } in statements(sql) {
        let mut wants = |mark: &str, what: &str| {
            if !marks.contains(mark) {
                found.push(format!("{what} without `-- {mark}: why`: {text}"));
            }
        };
        let alters = text.starts_with("ALTER TABLE");
        if [
            "DROP TABLE",
            "DROP VIEW",
            "DROP FUNCTION",
            "DROP TRIGGER",
            "TRUNCATE",
            "DELETE FROM",
        ]
        .iter()
        .any(|start| text.starts_with(start))
            || text.contains("DROP COLUMN")
            || text.contains(" RENAME ")
            || (alters && (text.contains(" TYPE ") || text.contains("SET NOT NULL")))
        {
            wants("contract", "takes something away from the last release");
        }
        if alters && text.contains("ADD COLUMN") && text.contains("NOT NULL") && !text.contains("DEFAULT") {
            wants(
                "contract",
                "asks the last release for a column that it does not write",
            );
        }
        if text.starts_with("ALTER PUBLICATION") || text.starts_with("DROP PUBLICATION") {
            wants("capture", "changes what is captured");
        }
        if let Some(made) = text.strip_prefix("CREATE TABLE ") {
            new.insert(name(made.strip_prefix("IF NOT EXISTS ").unwrap_or(made)));
        }
        let indexed = text
            .starts_with("CREATE INDEX")
            .then_some(&text)
            .or_else(|| text.starts_with("CREATE UNIQUE INDEX").then_some(&text))
            .and_then(|text| text.split_once(" ON "))
            .map(|(_, table)| name(table));
        if let Some(table) = indexed
            && !new.contains(&table)
            && !text.contains("CONCURRENTLY")
        {
            wants("blocking", "keeps writers waiting while an index is built");
        }
        if alters
            && (text.contains("ADD CONSTRAINT")
                || text.contains("ADD CHECK")
                || text.contains("ADD FOREIGN KEY"))
            && !text.contains("NOT VALID")
            && !new.contains(&name(text.trim_start_matches("ALTER TABLE ")))
        {
            wants("blocking", "keeps writers waiting while every row is checked");
        }
        if text.starts_with("UPDATE ")
            || text.contains("INSERT INTO") && text.contains("SELECT") && !text.contains("$$")
        {
            wants("blocking", "writes as many rows as there are");
        }
        if text.starts_with("CREATE") && text.contains(" CONCURRENTLY ") && !text.contains(" IF NOT EXISTS ")
        {
            found.push(format!(
                "cannot be begun again, for want of IF NOT EXISTS: {text}"
            ));
        }
    }
    tables.append(&mut new);
    found
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_migration_can_be_made_while_the_last_release_runs() {
    let mut tables = BTreeSet::new();
    let mut found = Vec::new();
    for path in files() {
        let sql = fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().display().to_string();
        found.extend(
            breaches(&sql, &mut tables)
                .into_iter()
                .map(|breach| format!("{file}: {breach}")),
        );
    }
    assert!(found.is_empty(), "see migrations/README.md: {found:#?}");
    assert!(
        tables.contains("TRADE_POSTS") && tables.contains("FAVORITES"),
        "{tables:?}"
    );
}

#[test]
fn what_is_against_the_rules_is_found() {
    let there = || BTreeSet::from(["TRADE_POSTS".to_owned()]);
    for wrong in [
        "ALTER TABLE trade_posts DROP COLUMN body;",
        "alter table trade_posts\n    rename column body to text;",
        "ALTER TABLE trade_posts RENAME TO posts;",
        "ALTER TABLE trade_posts ALTER COLUMN price TYPE int;",
        "ALTER TABLE trade_posts ALTER COLUMN buyer_id SET NOT NULL;",
        "ALTER TABLE trade_posts ADD COLUMN area text NOT NULL;",
        "DROP TABLE trade_posts;",
        "DROP TRIGGER t ON trade_posts;",
        "CREATE INDEX i ON trade_posts (body);",
        "CREATE UNIQUE INDEX i ON trade_posts (body);",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON trade_posts (body);",
        "ALTER TABLE trade_posts ADD CONSTRAINT c CHECK (price > 0);",
        "ALTER PUBLICATION trade_cdc ADD TABLE favorites;",
        "DROP PUBLICATION trade_cdc;",
        "UPDATE trade_posts SET body = '';",
        "INSERT INTO copies SELECT * FROM trade_posts;",
        "-- contract:\nDROP TABLE trade_posts;",
        "-- contract: why\nCREATE TABLE a (id int);\nDROP TABLE trade_posts;",
        "-- blocking: the wrong mark\nDROP TABLE trade_posts;",
    ] {
        assert_eq!(breaches(wrong, &mut there()).len(), 1, "{wrong}");
    }
    for fine in [
        "ALTER TABLE trade_posts ADD COLUMN area text;",
        "ALTER TABLE trade_posts ADD COLUMN area text NOT NULL DEFAULT '';",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON trade_posts (body);",
        "CREATE TABLE areas (id int PRIMARY KEY); CREATE INDEX i ON areas (id);",
        "ALTER TABLE trade_posts ADD CONSTRAINT c CHECK (price > 0) NOT VALID;",
        "-- contract: nothing reads it since the last release\nALTER TABLE trade_posts DROP COLUMN body;",
        "-- A comment about DROP TABLE; and RENAME.\nCREATE TABLE a (id int);",
        "CREATE FUNCTION f() RETURNS trigger AS $$\nBEGIN\n  DELETE FROM a;\n  INSERT INTO a SELECT 1;\nEND\n$$;",
    ] {
        assert_eq!(breaches(fine, &mut there()), Vec::<String>::new(), "{fine}");
    }
}
