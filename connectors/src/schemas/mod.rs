//! The contract between the captured tables and chat-service: what is needed of the schemas that Debezium
//! writes with ([`need`]), whether a writer schema has it ([`check`]), and the writer schemas that were
//! ever shipped ([`history`]). Pure; the registry is asked elsewhere.

pub mod check;
pub mod history;
pub mod need;

use std::fmt;

use crate::shipped;

/// A captured table that chat-service reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    TradePosts,
    Keywords,
    Heartbeats,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::TradePosts, Self::Keywords, Self::Heartbeats];

    /// Those whose rows chat-service keeps, so that it keeps what it missed the delete of.
    pub const KEPT: [Self; 2] = [Self::TradePosts, Self::Keywords];

    /// Its schema and name in PostgreSQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::TradePosts => shipped::TABLE,
            Self::Keywords => shipped::KEYWORDS,
            Self::Heartbeats => shipped::HEARTBEATS,
        }
    }

    /// The topic of its changes.
    pub fn topic(self, prefix: &str) -> String {
        format!("{prefix}.{}", self.name())
    }

    /// What commands call it, and its folder in `schemas/history`.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::TradePosts => "trade-posts",
            Self::Keywords => "keywords",
            Self::Heartbeats => "heartbeats",
        }
    }
}

/// The half of a record that a schema is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    Key,
    Value,
}

impl Half {
    pub const BOTH: [Self; 2] = [Self::Key, Self::Value];

    /// The subject that Debezium's converter registers schemas of this half under.
    pub fn subject(self, topic: &str) -> String {
        format!("{topic}-{self}")
    }
}

/// The subjects of all captured tables where topics begin with `prefix`.
pub fn subjects(prefix: &str) -> impl Iterator<Item = (Table, Half, String)> {
    let halves = move |table: Table| Half::BOTH.map(|half| (table, half, half.subject(&table.topic(prefix))));
    Table::ALL.into_iter().flat_map(halves)
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}
