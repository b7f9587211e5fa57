//! A member's keyword, and which titles have it.
//!
//! Invariant: a title is matched with the keywords that share two letters in a row with it, and the answer is
//! the same as with all keywords. What is kept of a keyword never goes back: each change carries its LSN, and
//! a tombstone its offset.

use std::collections::{BTreeSet, HashMap};

use mongodb::bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::cdc::{
    change_event::Position,
    keyword_plan::{KeywordNews, KeywordState},
};

/// A keyword as it is stored. Of one that is gone its fence is left, without member and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(rename = "_id")]
    pub id: i64,
    /// Of the newest change applied.
    pub lsn: i64,
    pub last: Last,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<DateTime>,
    #[serde(flatten)]
    pub live: Option<Live>,
}

/// The last record of it that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    pub partition: i32,
    pub offset: i64,
    pub is_delete: bool,
}

/// What its member waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub member_id: i64,
    /// As titles are compared with it.
    pub keyword: String,
    /// Its first two letters, by which it is found.
    pub gram: String,
    /// Posts that were created later are matched: the LSN at which the member had it first.
    pub since: i64,
    /// Whether it was compared with the posts that were read before it and created after it.
    pub joined: bool,
}

impl Kept {
    /// What is to be kept when `news` are known, or `None` if that is what there is already.
    pub fn after(known: Option<&Self>, news: &KeywordNews, now: DateTime) -> Option<Self> {
        let (lsn, live) = match (&news.state, known) {
            (Some(state), known) => newest(known, state),
            // A tombstone alone ends the row that was read before it, unless it belongs to a delete.
            (None, Some(known)) if known.live.is_some() && !known.last.is_delete => {
                if !known.is_before(news.last) {
                    return None;
                }
                (known.lsn, None)
            }
            (None, _) => return None,
        };
        let last = Last {
            partition: news.last.partition,
            offset: news.last.offset,
            is_delete: news.last_is_delete,
        };
        let kept = Self {
            id: news.id,
            lsn,
            // A replay does not take the memory of the last record back.
            last: known
                .filter(|known| !known.is_before(news.last))
                .map_or(last, |known| known.last),
            deleted_at: live.is_none().then(|| {
                let before = known.and_then(|known| known.deleted_at);
                before.unwrap_or(now)
            }),
            live,
        };
        (Some(&kept) != known).then_some(kept)
    }

    /// The update that leaves nothing of kept ones but their fences, at `lsn`.
    pub fn ended(lsn: i64, now: DateTime) -> Document {
        doc! {
            "$set": { "lsn": lsn, "deleted_at": now },
            "$unset": { "member_id": "", "keyword": "", "gram": "", "since": "", "joined": "" },
        }
    }

    /// Leaves nothing of it but its fence.
    pub fn end(&mut self, now: DateTime) {
        self.live = None;
        self.deleted_at = Some(now);
    }

    /// Whether the record at `position` came after the last one that was read, as far as that can be known.
    fn is_before(&self, position: Position) -> bool {
        self.last.partition != position.partition || self.last.offset < position.offset
    }
}

/// The LSN and the row after `news`.
fn newest(known: Option<&Kept>, news: &KeywordState) -> (i64, Option<Live>) {
    let old = known.and_then(|known| known.live.as_ref());
    if let Some(known) = known {
        let ends = news.keyword.is_none() && old.is_some() && news.lsn == known.lsn;
        if news.lsn <= known.lsn && !ends {
            return (known.lsn, known.live.clone());
        }
    }
    let live = news.keyword.as_ref().map(|keyword| {
        let text = folded(&keyword.text);
        match old {
            Some(old) if (old.member_id, &old.keyword) == (keyword.member_id, &text) => old.clone(),
            _ => Live {
                member_id: keyword.member_id,
                gram: text.chars().take(2).collect(),
                keyword: text,
                since: news.lsn,
                joined: false,
            },
        }
    });
    (news.lsn, live)
}

/// In lower case and composed. Each character by itself, so that what a text contains does not depend on what
/// stands around it.
pub fn folded(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).nfc().collect()
}

/// Titles, found by what they contain.
#[derive(Debug, Default)]
pub struct Titles {
    folded: Vec<String>,
    by_gram: HashMap<String, Vec<usize>>,
}

impl Titles {
    pub fn new<'a>(titles: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for (place, title) in titles.into_iter().enumerate() {
            let title = folded(title);
            for gram in grams(&title) {
                all.by_gram.entry(gram).or_default().push(place);
            }
            all.folded.push(title);
        }
        all
    }

    /// The first two letters of every keyword that one of the titles can have.
    pub fn grams(&self) -> Vec<&str> {
        self.by_gram.keys().map(String::as_str).collect()
    }

    /// The places of the titles that have `keyword`.
    pub fn with<'a>(&'a self, keyword: &'a Live) -> impl Iterator<Item = usize> + 'a {
        let places = self.by_gram.get(&keyword.gram).into_iter().flatten().copied();
        places.filter(|place| self.folded[*place].contains(&keyword.keyword))
    }
}

/// Each two letters in a row, once.
fn grams(text: &str) -> BTreeSet<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.windows(2).map(|two| two.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cdc::{
        change_event::{Event, Keyword, KeywordChange, KeywordEvent},
        keyword_plan::plan,
    };

    fn live(keyword: &str) -> Live {
        let keyword = folded(keyword);
        Live {
            member_id: 7,
            gram: keyword.chars().take(2).collect(),
            keyword,
            since: 1,
            joined: false,
        }
    }

    fn found(titles: &[&str], keyword: &str) -> Vec<usize> {
        Titles::new(titles.iter().copied()).with(&live(keyword)).collect()
    }

    #[test]
    fn a_title_has_a_keyword_whatever_its_case_and_wherever_it_stands() {
        let titles = ["로드 자전거 팝니다", "Road BIKE", "자전", "전거자"];
        assert_eq!(found(&titles, "자전거"), [0]);
        assert_eq!(found(&titles, "자전"), [0, 2]);
        assert_eq!(found(&titles, "road bike"), [1]);
        assert_eq!(found(&titles, "d b"), [1]);
        assert_eq!(
            found(&["\u{110c}\u{1161}\u{110c}\u{1165}\u{11ab}"], "자전"),
            [0],
            "in single letters"
        );
        assert_eq!(found(&["ΟΔΟΣ ΟΔΟΣΑ"], "οδοσ"), [0]);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            titles in prop::collection::vec("[가나다aAB ]{0,8}", 0..12),
            keywords in prop::collection::vec("[가나다abA ]{2,4}", 0..12),
        ) {
            let index = Titles::new(titles.iter().map(String::as_str));
            let grams: BTreeSet<&str> = index.grams().into_iter().collect();
            for keyword in keywords {
                let live = live(&keyword);
                let scan: Vec<usize> = titles.iter().enumerate()
                    .filter(|(_, title)| folded(title).contains(&folded(&keyword)))
                    .map(|(place, _)| place)
                    .collect();
                if !scan.is_empty() {
                    prop_assert!(grams.contains(live.gram.as_str()), "it would not be looked up");
                }
                prop_assert_eq!(index.with(&live).collect::<Vec<_>>(), scan);
            }
        }

        #[test]
        fn what_is_folded_stays_as_it_is(text in "\\PC{0,20}") {
            prop_assert_eq!(folded(&folded(&text)), folded(&text));
        }
    }

    const NOW: DateTime = DateTime::from_millis(5);

    fn upsert(lsn: i64, text: &str) -> KeywordChange {
        let keyword = Keyword {
            member_id: 7,
            text: text.into(),
        };
        KeywordChange::Upsert { lsn, keyword }
    }

    /// What is kept after these batches of one keyword, whose offsets begin at those.
    fn kept(batches: &[(i64, &[KeywordChange])]) -> Option<Kept> {
        let mut kept = None;
        for (first, changes) in batches {
            let events = (*first..).zip(*changes).map(|(offset, change)| {
                Event::Keyword(KeywordEvent {
                    keyword_id: 3,
                    position: Position { partition: 0, offset },
                    change: change.clone(),
                })
            });
            for news in plan(events).news {
                kept = Kept::after(kept.as_ref(), &news, NOW).or(kept);
            }
        }
        kept
    }

    fn text(batches: &[(i64, &[KeywordChange])]) -> Option<String> {
        kept(batches)?.live.map(|live| live.keyword)
    }

    #[test]
    fn a_delete_ends_it_and_leaves_nothing_of_the_member() {
        let ended = kept(&[
            (0, &[upsert(10, "가방")]),
            (1, &[KeywordChange::Delete { lsn: 20 }]),
        ]);
        let ended = ended.unwrap();
        assert_eq!((ended.live, ended.lsn, ended.deleted_at), (None, 20, Some(NOW)));
        let again: &[KeywordChange] = &[upsert(10, "가방")];
        let delete: &[KeywordChange] = &[KeywordChange::Delete { lsn: 20 }, KeywordChange::Tombstone];
        assert_eq!(text(&[(0, again), (1, delete), (0, again)]), None, "read again");
        assert_eq!(
            text(&[(0, again), (1, delete), (3, &[upsert(30, "가방")])]).as_deref(),
            Some("가방")
        );
    }

    #[test]
    fn a_tombstone_alone_ends_what_came_before_it_and_nothing_else() {
        let created: &[KeywordChange] = &[upsert(10, "가방")];
        let tombstone: &[KeywordChange] = &[KeywordChange::Tombstone];
        assert_eq!(text(&[(0, created), (1, tombstone)]), None);
        assert_eq!(
            text(&[(0, &[upsert(10, "가방"), KeywordChange::Tombstone])]),
            None
        );
        assert!(
            text(&[(5, created), (1, tombstone)]).is_some(),
            "an old one, read again"
        );
        assert_eq!(kept(&[(1, tombstone)]), None);
        // An old delete that comes again brings its tombstone along.
        let old: &[KeywordChange] = &[KeywordChange::Delete { lsn: 5 }];
        assert!(text(&[(0, created), (1, old), (2, tombstone)]).is_some());
    }

    #[test]
    fn a_keyword_waits_since_it_was_first_had() {
        let since = |batches: &[(i64, &[KeywordChange])]| {
            let live = kept(batches).unwrap().live.unwrap();
            (live.since, live.keyword)
        };
        let first: &[KeywordChange] = &[upsert(10, "가방")];
        assert_eq!(
            since(&[(0, first), (1, &[upsert(15, "가방")])]),
            (10, "가방".into())
        );
        assert_eq!(
            since(&[(0, first), (1, &[upsert(15, "책상")])]),
            (15, "책상".into())
        );
        assert_eq!(
            since(&[(0, &[upsert(10, "가방"), upsert(15, "책상")]), (0, first)]),
            (15, "책상".into())
        );
    }

    proptest! {
        /// However the log is cut into batches, and however much of it comes again: the newest record counts.
        #[test]
        fn the_newest_change_decides(
            kinds in prop::collection::vec(0..4, 1..12),
            reads in prop::collection::vec((0usize..8, 1usize..6), 0..12),
        ) {
            let mut log = Vec::new();
            for (lsn, kind) in (1..).zip(&kinds) {
                match kind {
                    0 => log.extend([KeywordChange::Delete { lsn }, KeywordChange::Tombstone]),
                    kind => log.push(upsert(lsn, &format!("가방{kind}"))),
                }
            }
            let mut batches: Vec<(i64, &[KeywordChange])> = Vec::new();
            let mut stands = 0;
            for (back, count) in reads.into_iter().chain([(0, log.len())]) {
                let from = stands - back.min(stands);
                let to = (from + count).min(log.len());
                if from < to {
                    batches.push((i64::try_from(from).unwrap(), &log[from..to]));
                }
                stands = stands.max(to);
            }
            let expected = match kinds.last().unwrap() {
                0 => None,
                kind => Some(format!("가방{kind}")),
            };
            prop_assert_eq!(text(&batches), expected);
        }
    }
}
