//! The repair of deletes that were missed: which states it goes through, and from where the reads of its snapshot
//! count.
//!
//! A reconciliation is about one table. It begins at a position S in the log, at which no change before S is still
//! uncommitted. Debezium then reads the whole table (an incremental snapshot) beside the changes that go on. What
//! lives and was not seen from S on, by a read or by a change, is not in the table any more: its delete was missed.
//!
//! Invariant: nothing is closed before the snapshot was complete, everything that it showed has taken effect, and
//! an operator has confirmed. Whatever dies before leaves a reconciliation that closes nothing.

use serde::{Deserialize, Serialize};

/// A captured table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    #[default]
    TradePosts,
    Keywords,
}

/// How far a reconciliation is. Only the first five can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// For Debezium to begin.
    Waiting,
    /// The table is being read.
    Scanning,
    /// Debezium has read the table whole. Whether Kafka has all of it is not known here.
    Scanned,
    /// Kafka has all of it; the group is reading it.
    Draining,
    /// What was not shown is known, and waits for an operator's word.
    Ready,
    /// What was not shown is being closed.
    Closing,
    Done,
    /// The snapshot did not show everything. Nothing was closed.
    Failed,
    /// Nothing was closed.
    Cancelled,
}

impl State {
    /// Those that end in nothing closed, if an operator wants so.
    pub const CANCELLABLE: [Self; 5] = [
        Self::Waiting,
        Self::Scanning,
        Self::Scanned,
        Self::Draining,
        Self::Ready,
    ];

    /// Whether another one may begin.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Its name in MongoDB and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scanning => "scanning",
            Self::Scanned => "scanned",
            Self::Draining => "draining",
            Self::Ready => "ready",
            Self::Closing => "closing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    Failed,
    Cancelled,
}

/// The part of the log in which a reconciliation's snapshot was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub start_lsn: i64,
    /// Behind its last read; not known where it was not completed.
    #[serde(default)]
    pub end_lsn: Option<i64>,
}

/// From where a read of an incremental snapshot counts, which was read in a window that closed at `lsn`.
///
/// Between the read and the close of its window, a delete of the row may have been written to the log and not
/// been committed: it lies before `lsn` and comes after the read, which does not know of it. If the read counted
/// from `lsn`, that delete would be taken for an old one. At the start of a reconciliation nothing is uncommitted
/// that lies before it, so its reads count from there: whatever comes after one of them is newer, and whatever was
/// known before is older, or is as new as the read.
pub fn position_of_read(lsn: i64, reconciliations: &[Span]) -> i64 {
    let begun = reconciliations.iter().filter(|span| span.start_lsn <= lsn);
    begun
        .max_by_key(|span| span.start_lsn)
        .filter(|span| span.end_lsn.is_none_or(|end| lsn <= end))
        .map_or(lsn, |span| span.start_lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start_lsn: i64, end_lsn: Option<i64>) -> Span {
        Span { start_lsn, end_lsn }
    }

    #[test]
    fn reads_count_from_the_start_of_their_reconciliation() {
        let runs = [span(100, Some(200)), span(300, None)];
        for (lsn, position) in [
            (99, 99),
            (100, 100),
            (150, 100),
            (200, 100),
            // A snapshot that somebody asked for by other means, between the two.
            (250, 250),
            (300, 300),
            (350, 300),
        ] {
            assert_eq!(position_of_read(lsn, &runs), position, "{lsn}");
        }
        assert_eq!(position_of_read(150, &[]), 150);
    }

    /// A cancelled one whose end nobody knows, and one after it.
    #[test]
    fn reads_belong_to_the_newest_that_has_begun() {
        let runs = [span(300, None), span(100, None)];
        assert_eq!(position_of_read(299, &runs), 100);
        assert_eq!(position_of_read(301, &runs), 300);
    }

    #[test]
    fn what_ends_lets_another_begin_and_cannot_be_cancelled() {
        for state in State::CANCELLABLE {
            assert!(!state.has_ended(), "{state:?}");
        }
        assert!(!State::Closing.has_ended());
        for state in [State::Done, State::Failed, State::Cancelled] {
            assert!(state.has_ended() && !State::CANCELLABLE.contains(&state));
        }
        let json = |state: State| serde_json::to_value(state).unwrap();
        for state in [State::Waiting, State::Draining, State::Closing, State::Cancelled] {
            assert_eq!(json(state), state.name());
        }
    }
}
