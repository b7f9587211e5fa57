//! `docs/failures.md` names the test that covers each failure.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of every Rust file of a folder of the workspace.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_failure_has_a_test_that_exists() {
    let mut code = String::new();
    for folder in [
        "chat-service/src",
        "chat-service/tests",
        "connectors/tests",
        "tests",
    ] {
        sources(&workspace().join(folder), &mut code);
    }
    let document = fs::read_to_string(workspace().join("docs/failures.md")).unwrap();
    let rows = document.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number: u32 = cells.first()?.parse().ok()?;
        Some((number, (*cells.last()?).to_owned()))
    });
    let mut expected = 1;
    for (number, tests) in rows {
        assert_eq!(number, expected, "rows are numbered");
        expected += 1;
        let mut named = 0;
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            assert!(
                code.contains(&format!("fn {test}(")),
                "row {number}: no test {test}"
            );
            named += 1;
        }
        assert!(named > 0, "row {number} names no test");
    }
    assert_eq!(expected, 24, "all rows are there");
}
