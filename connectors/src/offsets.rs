//! How far a connector has got, which Kafka Connect keeps for it, and forgetting that.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{ConnectApi, ConnectError, lifecycle::Stopped, lsn::Lsn, patience::Patience, status::Status};

/// One of the partitions that a connector divides its source into (Debezium for PostgreSQL has one, its
/// server), and how far it has got there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub partition: Map<String, Value>,
    pub offset: Option<Map<String, Value>>,
}

/// All of a connector's partitions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Offsets {
    #[serde(rename = "offsets")]
    pub positions: Vec<Position>,
}

impl Offsets {
    /// The furthest position in the write-ahead log that any part of the offset names; `None` if the
    /// connector has no offset or has not read the log yet. A slot is confirmed up to one of these parts
    /// and never beyond.
    pub fn furthest(&self) -> Option<Lsn> {
        self.lsns().map(|(_, lsn)| lsn).max()
    }

    /// How far the connector is for good: Kafka has acknowledged every record up to there.
    pub fn acknowledged(&self) -> Option<Lsn> {
        let lsns = self.lsns();
        lsns.filter(|(field, _)| *field == "lsn")
            .map(|(_, lsn)| lsn)
            .max()
    }

    /// Id of the signal that asked for the incremental snapshot that is under way there.
    pub fn snapshot(&self) -> Option<String> {
        let offsets = self
            .positions
            .iter()
            .filter_map(|position| position.offset.as_ref());
        let ids = offsets.filter_map(|offset| offset.get("incremental_snapshot_correlation_id")?.as_str());
        ids.map(ToOwned::to_owned).next()
    }

    /// Whether the connector has none at all: it has never run, or they were reset.
    pub fn is_empty(&self) -> bool {
        self.positions.iter().all(|position| position.offset.is_none())
    }

    fn lsns(&self) -> impl Iterator<Item = (&'static str, Lsn)> {
        self.positions.iter().flat_map(Position::lsns)
    }
}

/// Which fields of Debezium's offset are positions in the log.
const LSN_FIELDS: [&str; 3] = ["lsn", "lsn_proc", "lsn_commit"];

impl Position {
    /// The positions in the log, by the names that Debezium gives them.
    pub fn lsns(&self) -> Vec<(&'static str, Lsn)> {
        let offset = self.offset.iter();
        offset
            .flat_map(|offset| {
                let lsn = |name| Some((name, Lsn(offset.get(name)?.as_u64()?)));
                LSN_FIELDS.into_iter().filter_map(lsn)
            })
            .collect()
    }

    /// Connect's answer as it is, with the positions as text beside it.
    pub fn json(&self) -> Value {
        let texts: Map<String, Value> = self
            .lsns()
            .into_iter()
            .map(|(name, lsn)| (name.to_owned(), lsn.to_string().into()))
            .collect();
        json!({ "partition": self.partition, "offset": self.offset, "lsn_text": texts })
    }
}

/// Stops the connector, has Connect forget its offsets, and gives the connector the state back that it
/// had, also if they could not be forgotten. Each step takes `wait` at most.
pub async fn reset(
    api: &ConnectApi,
    name: &str,
    wait: Duration,
    mut tell: impl FnMut(&Status),
) -> Result<(), ConnectError> {
    let stopped = Stopped::stop(api, name, wait, &mut tell).await?;
    let forgotten = Patience::new(wait)
        .ask(api.url(), || api.reset_offsets(name))
        .await;
    if let Err(error) = forgotten {
        stopped.give_back(&error.to_string()).await?;
        return Err(error);
    }
    stopped
        .give_back(&format!("the offsets of {name} are forgotten"))
        .await?;
    stopped.is_back(&mut tell).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(value: Value) -> Offsets {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_furthest_part_counts() {
        let read = offsets(json!({"offsets": [{
            "partition": {"server": "trade"},
            "offset": {"lsn_proc": 30, "messageType": "INSERT", "lsn_commit": 32, "lsn": 31, "txId": 760, "ts_usec": 1,
                "incremental_snapshot_correlation_id": "signal-1"},
        }]}));
        assert_eq!(read.furthest(), Some(Lsn(32)));
        assert_eq!(read.acknowledged(), Some(Lsn(31)));
        assert_eq!(read.snapshot().as_deref(), Some("signal-1"));
        assert!(!read.is_empty());
    }

    #[test]
    fn none_are_none() {
        for none in [
            json!({"offsets": []}),
            json!({"offsets": [{"partition": {"server": "trade"}, "offset": null}]}),
        ] {
            let none = offsets(none);
            assert_eq!((none.furthest(), none.acknowledged()), (None, None));
            assert_eq!(none.snapshot(), None);
            assert!(none.is_empty());
        }
    }

    #[test]
    fn an_offset_has_the_positions_that_stand_in_it() {
        let position: Position = serde_json::from_value(json!({
            "partition": {"server": "trade"},
            "offset": {"lsn_proc": 29_126_320, "lsn": 29_126_816, "txId": 769, "lsn_commit": null},
        }))
        .unwrap();
        let shown: Vec<_> = position
            .lsns()
            .iter()
            .map(|(name, lsn)| format!("{name}={lsn}"))
            .collect();
        assert_eq!(shown, ["lsn=0/1BC70A0", "lsn_proc=0/1BC6EB0"]);
        assert_eq!(position.json()["lsn_text"]["lsn"], "0/1BC70A0");
        assert_eq!(position.json()["offset"]["txId"], 769);
        let none: Position = serde_json::from_value(json!({"partition": {}, "offset": null})).unwrap();
        assert!(none.lsns().is_empty());
    }
}
