//! What a check has found: how bad it is, what was seen, and what to do next.

use std::fmt;

use serde::Serialize;

/// Every check, in the order in which they are shown. `docs/operations.md` has a table of them.
pub const CHECKS: [&str; 25] = [
    "connect",
    "plugin",
    "config",
    "running",
    "offset",
    "database",
    "wal-level",
    "wal-keep",
    "publication",
    "replica-identity",
    "grants",
    "slot",
    "wal-status",
    "slot-gap",
    "heartbeat",
    "registry",
    "subjects",
    "compatibility",
    "reader-schemas",
    "kafka",
    "topic",
    "schema-ids",
    "retention",
    "expired",
    "group",
];

/// What is said of a check whose server was not asked or does not answer.
pub const NEEDS_ANOTHER: &str = "what it needs was not seen";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Wrong,
    Warning,
    Ok,
    /// Nothing was seen: it was not asked for, or what it needs does not answer.
    Unseen,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wrong => "wrong",
            Self::Warning => "warning",
            Self::Ok => "ok",
            Self::Unseen => "unseen",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// One of [`CHECKS`].
    pub check: &'static str,
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do next, if something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, seen.into(), None)
    }

    pub(crate) fn unseen(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Level::Unseen, why.into(), None)
    }

    pub(crate) fn warning(check: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, seen.into(), Some(next.into()))
    }

    pub(crate) fn wrong(check: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(check, Level::Wrong, seen.into(), Some(next.into()))
    }

    /// The one that says more: this, unless the other is worse. That one names what it is of.
    pub(crate) fn or_worse(self, other: Self, of: &str) -> Self {
        if other.level < self.level {
            Self {
                seen: format!("{of}: {}", other.seen),
                ..other
            }
        } else {
            self
        }
    }

    fn new(check: &'static str, level: Level, seen: String, next: Option<String>) -> Self {
        Self {
            check,
            level,
            seen,
            next,
        }
    }
}

/// Bytes for people.
pub fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal place is shown")]
    let in_units = |unit: u32| bytes as f64 / f64::from(unit);
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", in_units(1 << 10)),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", in_units(1 << 20)),
        _ => format!("{:.1} GiB", in_units(1 << 30)),
    }
}

/// What a topic has, for people.
pub fn partitions(count: usize) -> String {
    match count {
        1 => "1 partition".to_owned(),
        _ => format!("{count} partitions"),
    }
}

/// A time for people: its two largest units.
pub fn time(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{:.1} s", time.as_secs_f32()),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPERATIONS: &str = include_str!("../../../docs/operations.md");

    #[test]
    fn the_table_of_the_documentation_has_every_check_in_order() {
        let (_, section) = OPERATIONS.split_once("<!-- doctor -->").unwrap();
        let (table, _) = section.split_once("<!-- /doctor -->").unwrap();
        let rows: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(rows, CHECKS);
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(3 << 19), "1.5 MiB");
        assert_eq!(time(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(time(Duration::from_mins(125)), "2 h 5 min");
        assert_eq!(time(Duration::from_hours(7 * 24)), "7 d 0 h");
    }
}
