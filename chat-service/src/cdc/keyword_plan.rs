//! What a batch says of keywords, in pure code: at most one piece of news for each.
//!
//! Keywords and posts are planned apart. No record of either has an order with one of the other, so whatever
//! depends on both compares their LSNs.

use std::collections::HashMap;

use super::change_event::{Event, Keyword, KeywordChange, KeywordEvent, Position};

/// What a batch says of keywords.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeywordPlan {
    /// LSN of the newest truncate of their table in it.
    pub truncated: Option<i64>,
    /// Every keyword occurs at most once.
    pub news: Vec<KeywordNews>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct KeywordNews {
    pub id: i64,
    /// Its last record of the batch, and whether that says that the row is gone.
    pub last: Position,
    pub last_is_delete: bool,
    /// The newest state that the batch knows of; none if there is a tombstone alone.
    pub state: Option<KeywordState>,
}

/// A keyword's row after the change at `lsn`; none if it is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct KeywordState {
    pub lsn: i64,
    pub keyword: Option<Keyword>,
}

impl KeywordPlan {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of the newest changes.
    pub fn lsns(&self) -> impl Iterator<Item = i64> {
        self.news.iter().filter_map(|news| Some(news.state.as_ref()?.lsn))
    }
}

/// Plans those of `events` that are about keywords, which are in the order of their offsets within each
/// partition.
pub fn plan(events: impl IntoIterator<Item = Event>) -> KeywordPlan {
    let mut plan = KeywordPlan::default();
    let mut places: HashMap<i64, usize> = HashMap::new();
    for event in events {
        match event {
            Event::KeywordsTruncated { lsn } => plan.truncated = plan.truncated.max(Some(lsn)),
            Event::Keyword(KeywordEvent {
                keyword_id,
                position,
                change,
            }) => {
                let news = &mut plan.news;
                let place = *places.entry(keyword_id).or_insert_with(|| {
                    news.push(KeywordNews {
                        id: keyword_id,
                        last: position,
                        last_is_delete: false,
                        state: None,
                    });
                    news.len() - 1
                });
                news[place].add(position, change);
            }
            Event::Post(_) | Event::Truncate { .. } => {}
        }
    }
    plan
}

impl KeywordNews {
    /// Whose it is, unless it is gone.
    pub fn member(&self) -> Option<i64> {
        let keyword = self.state.as_ref()?.keyword.as_ref()?;
        Some(keyword.member_id)
    }

    fn add(&mut self, position: Position, change: KeywordChange) {
        let follows_delete = self.last_is_delete;
        self.last = position;
        self.last_is_delete = !matches!(change, KeywordChange::Upsert { .. });
        let known = self.state.as_ref().map(|state| state.lsn);
        let new = match change {
            KeywordChange::Upsert { lsn, keyword } => KeywordState {
                lsn,
                keyword: Some(keyword),
            },
            KeywordChange::Delete { lsn } => KeywordState { lsn, keyword: None },
            KeywordChange::Tombstone if follows_delete => return,
            // Its delete was compacted away or lost: it ends the row that came before it.
            KeywordChange::Tombstone => match known {
                Some(lsn) => KeywordState { lsn, keyword: None },
                None => return,
            },
        };
        let is_newer = known.is_none_or(|known| match new.keyword {
            Some(_) => known < new.lsn,
            None => known <= new.lsn,
        });
        if is_newer {
            self.state = Some(new);
        }
    }
}
