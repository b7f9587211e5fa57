//! The seeds of fuzzing, one after the other.

use std::{fs, path::PathBuf};

use crate::checks;

/// Every file of the captured records.
pub fn captured() -> Vec<(String, Vec<u8>)> {
    files("../schemas/fixtures")
}

/// Every file of a folder of the repository, by name.
pub fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn captured_records_pass_every_check() {
    for (name, bytes) in captured() {
        println!("{name}");
        checks::wire(&bytes);
        checks::decode(&bytes);
        checks::schema(&bytes);
    }
}
