//! A trade post as the members of its rooms see it, and what of its changes they are told.
//!
//! Invariant: members are told of a change once, and never of one that is older than what they were told
//! last, whatever comes again or comes late.

use serde::{Deserialize, Serialize};

use crate::message::PostEvent;

/// What a post looks like since the change at `lsn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub lsn: i64,
    pub title: String,
    pub status: String,
}

/// Members are to be told of `look`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    pub look: &'a Look,
    /// For a system message, if the status is another one and known.
    pub event: Option<PostEvent>,
}

impl Look {
    /// Whether members see no difference.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.title, &self.status) == (&other.title, &other.status)
    }

    /// What members who were last told of `self` are to be told now that `looks` are known, which are
    /// ordered by their LSN.
    pub fn changes<'a>(&self, looks: &'a [Self]) -> Vec<Change<'a>> {
        let mut told = self;
        let mut changes = Vec::new();
        for look in looks {
            if look.lsn > told.lsn && !look.is_same(told) {
                let event = (look.status != told.status)
                    .then(|| PostEvent::of_status(&look.status))
                    .flatten();
                changes.push(Change { look, event });
                told = look;
            }
        }
        changes
    }
}

impl PostEvent {
    /// The event of a post that got this status, if it is one that is known here.
    fn of_status(status: &str) -> Option<Self> {
        match status {
            "on_sale" => Some(Self::TradePostOnSale),
            "reserved" => Some(Self::TradePostReserved),
            "sold" => Some(Self::TradePostSold),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(lsn: i64, title: &str, status: &str) -> Look {
        Look {
            lsn,
            title: title.into(),
            status: status.into(),
        }
    }

    #[test]
    fn a_status_is_an_event_and_a_title_is_not() {
        let told = look(1, "자전거", "on_sale");
        let looks = [
            look(2, "로드 자전거", "on_sale"),
            look(3, "로드 자전거", "reserved"),
            look(4, "로드 자전거", "reserved"),
            look(5, "로드 자전거", "hidden"),
            look(6, "자전거", "sold"),
        ];
        let events: Vec<_> = told
            .changes(&looks)
            .iter()
            .map(|change| (change.look.lsn, change.event))
            .collect();
        assert_eq!(
            events,
            [
                (2, None),
                (3, Some(PostEvent::TradePostReserved)),
                (5, None),
                (6, Some(PostEvent::TradePostSold)),
            ]
        );
    }

    #[test]
    fn a_change_and_its_return_are_two() {
        let told = look(1, "자전거", "on_sale");
        let looks = [look(2, "자전거", "reserved"), look(3, "자전거", "on_sale")];
        assert_eq!(told.changes(&looks).len(), 2);
    }

    fn log() -> impl Strategy<Value = Vec<Look>> {
        prop::collection::vec((0usize..2, 0usize..3), 1..20).prop_map(|looks| {
            let titles = ["자전거", "로드 자전거"];
            let statuses = ["on_sale", "reserved", "sold"];
            (1..)
                .zip(looks)
                .map(|(lsn, (title, status))| look(lsn, titles[title], statuses[status]))
                .collect()
        })
    }

    proptest! {
        /// However the log is cut into batches, and however much of it comes again.
        #[test]
        fn each_change_of_a_log_is_told_once(
            log in log(),
            reads in prop::collection::vec((0usize..20, 1usize..8), 0..20),
        ) {
            let begin = log[0].clone();
            let mut expected = Vec::new();
            for pair in log.windows(2) {
                if !pair[0].is_same(&pair[1]) {
                    expected.push(pair[1].lsn);
                }
            }
            let mut told = begin;
            let mut heard = Vec::new();
            // A reader goes on from where it stands, or from further back.
            let mut stands = 0;
            for (back, count) in reads.into_iter().chain([(0, log.len())]) {
                let from = stands - back.min(stands);
                let to = (from + count).min(log.len());
                let changes = told.changes(&log[from..to]);
                heard.extend(changes.iter().map(|change| change.look.lsn));
                if let Some(last) = changes.last() {
                    told = last.look.clone();
                }
                stands = stands.max(to);
            }
            prop_assert_eq!(heard, expected);
        }
    }
}
