//! How far a Debezium connector has come, as Kafka Connect keeps it (`GET /connectors/{name}/offsets`).

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::lsn::Lsn;

/// Answer of `GET /connectors/{name}/offsets`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Offsets {
    offsets: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Entry {
    /// Null for an offset that was reset.
    offset: Option<Map<String, Value>>,
}

impl Offsets {
    /// The furthest position in the write-ahead log that any part of the offset names; `None` if the
    /// connector has no offset or has not read the log yet. A slot is confirmed up to one of these parts
    /// and never beyond.
    pub fn furthest(&self) -> Option<Lsn> {
        let offsets = self.offsets.iter().filter_map(|entry| entry.offset.as_ref());
        offsets
            .flat_map(|offset| ["lsn", "lsn_proc", "lsn_commit"].map(|part| offset.get(part)))
            .filter_map(|lsn| lsn?.as_u64())
            .max()
            .map(Lsn)
    }

    /// Whether the connector has none at all: it has never run, or they were reset.
    pub fn is_empty(&self) -> bool {
        self.offsets.iter().all(|entry| entry.offset.is_none())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offsets(value: Value) -> Offsets {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_furthest_part_counts() {
        let read = offsets(json!({"offsets": [{
            "partition": {"server": "trade"},
            "offset": {"lsn_proc": 30, "messageType": "INSERT", "lsn_commit": 20, "lsn": 31, "txId": 760, "ts_usec": 1},
        }]}));
        assert_eq!(read.furthest(), Some(Lsn(31)));
        assert!(!read.is_empty());
    }

    #[test]
    fn none_are_none() {
        for none in [
            json!({"offsets": []}),
            json!({"offsets": [{"partition": {"server": "trade"}, "offset": null}]}),
        ] {
            let none = offsets(none);
            assert_eq!(none.furthest(), None);
            assert!(none.is_empty());
        }
    }
}
