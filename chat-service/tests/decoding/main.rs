//! Decoding, by the checks that are also fuzzed: over captured records, over what fuzzing once found, and
//! over captured records that were damaged in every way a random generator comes upon.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "../../fuzz/checks.rs"]
mod checks;
mod damaged;
mod made;
mod seeds;
