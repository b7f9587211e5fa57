//! New posts and the keywords in their titles: what of `trade_posts` is still to be matched, and who is told.
//!
//! Invariant: a post that was created is marked for it by the statement that makes it known, so no crash can
//! come between. A member is told once of each life of a post, whatever finds it how often: what tells it
//! carries a text that is unique among all notifications.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession, Cursor,
    bson::{DateTime, Document, doc, oid::ObjectId},
    error::Result,
};
use serde::Deserialize;

use super::{
    Store, blocks::Block, notifications::Draft, posts::PostState, transaction::made_meanwhile, whole,
};
use crate::{
    cdc::{
        change_event::Arrival,
        plan::{Arrived, NewState, PostPlan, Row},
    },
    keyword::{Live, Titles},
    notification::Kind,
};

/// Most matches that one transaction tells of, or a few more.
pub const MATCHES_AT_ONCE: usize = 500;
/// Most posts that one lease is about.
const POSTS_PER_LEASE: i64 = 100;
/// How long who matches posts may be silent before somebody else takes them over.
const LEASE: Duration = Duration::from_secs(30);

/// A post that was created, and has not come from another id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Created {
    #[serde(rename = "_id")]
    pub id: i64,
    pub seller_id: i64,
    pub title: String,
    /// LSN of its creation.
    pub born: i64,
    state: PostState,
}

/// A post that has a member's keyword in its title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    member_id: i64,
    keyword: String,
    trade_post_id: i64,
    born: i64,
    seller_id: i64,
}

impl Match {
    /// `post` has `keyword`; whether that is news to the keyword's member.
    pub fn of(keyword: &Live, post: &Created) -> Option<Self> {
        let is_news = keyword.since < post.born && keyword.member_id != post.seller_id;
        is_news.then(|| Self {
            member_id: keyword.member_id,
            keyword: keyword.keyword.clone(),
            trade_post_id: post.id,
            born: post.born,
            seller_id: post.seller_id,
        })
    }

    /// The same for all keywords of a member that one life of a post has.
    fn once(&self) -> String {
        format!("{}@{}/{}", self.trade_post_id, self.born, self.member_id)
    }
}

/// The right to match some posts.
#[derive(Debug)]
pub struct Leased {
    owner: ObjectId,
    posts: Vec<Created>,
}

impl Store {
    /// How many posts are to be matched.
    pub async fn posts_to_match(&self) -> Result<u64> {
        let due = doc! { "match_at": { "$gt": DateTime::from_millis(0) } };
        self.posts.count_documents(due).await
    }

    /// Has the posts matched that a batch has seen being created, if anybody waits for any. Answers whether
    /// there are some. Where nobody does it costs one query, and nothing without such posts.
    ///
    /// It asks after the posts are known: who keeps a keyword later finds them.
    pub async fn have_matched(&self, posts: &[PostPlan], now: DateTime) -> Result<bool> {
        let created = posts.iter().filter(|post| {
            matches!(
                post.state,
                Some(NewState {
                    row: Row::Lives {
                        arrived: Some(Arrived {
                            how: Arrival::Created,
                            ..
                        }),
                        ..
                    },
                    ..
                })
            )
        });
        let ids: Vec<i64> = created.map(|post| post.trade_post_id).collect();
        if ids.is_empty() {
            return Ok(false);
        }
        let anybody = self.keywords.clone_with_type::<Document>();
        let anybody = anybody.find_one(doc! { "gram": { "$gt": "" } });
        if anybody.projection(doc! { "_id": 1 }).await?.is_none() {
            return Ok(false);
        }
        let due = doc! {
            "$set": { "matching": "due", "match_at": now },
            "$unset": { "match_owner": "" },
        };
        let marked = self
            .posts
            .update_many(doc! { "_id": { "$in": ids }, "matching": "new" }, due)
            .await?;
        Ok(marked.modified_count > 0)
    }

    /// Takes over posts that are to be matched and that nobody works on. `None` if there are none.
    pub async fn lease_matching(&self, now: DateTime) -> Result<Option<Leased>> {
        let mut due = doc! { "match_at": { "$lte": now } };
        let found: Vec<Document> = self
            .posts
            .clone_with_type::<Document>()
            .find(due.clone())
            .sort(doc! { "match_at": 1 })
            .limit(POSTS_PER_LEASE)
            .projection(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await?;
        if found.is_empty() {
            return Ok(None);
        }
        let ids: Vec<i64> = found.iter().filter_map(|post| post.get_i64("_id").ok()).collect();
        let owner = ObjectId::new();
        due.insert("_id", doc! { "$in": &ids });
        let take = doc! { "$set": { "match_at": leased_until(now), "match_owner": owner } };
        self.posts.update_many(due, take).await?;
        let posts = self
            .posts
            .clone_with_type::<Created>()
            .find(doc! { "_id": { "$in": ids }, "match_owner": owner })
            .await?
            .try_collect()
            .await?;
        Ok(Some(Leased { owner, posts }))
    }

    /// Tells whoever waits for one of the posts, and marks them done. Answers how many were told.
    pub async fn match_leased(&self, leased: &Leased, now: impl Fn() -> DateTime) -> Result<u64> {
        // One that is gone needs nobody to come.
        let there = leased.posts.iter().filter(|post| post.state == PostState::Live);
        let posts: Vec<&Created> = there.collect();
        let titles = Titles::new(posts.iter().map(|post| post.title.as_str()));
        let mut keywords = self
            .keywords
            .clone_with_type::<Live>()
            .find(doc! { "gram": { "$in": titles.grams() } })
            .batch_size(whole(MATCHES_AT_ONCE))
            .await?;
        let mut told = 0;
        let mut matches = Vec::new();
        while let Some(keyword) = keywords.try_next().await? {
            let found = titles.with(&keyword).map(|place| posts[place]);
            matches.extend(found.filter_map(|post| Match::of(&keyword, post)));
            if matches.len() >= MATCHES_AT_ONCE {
                told += self.tell_matches(&std::mem::take(&mut matches), now()).await?;
                let kept = doc! { "$set": { "match_at": leased_until(now()) } };
                self.posts.update_many(leased.owned(), kept).await?;
            }
        }
        told += self.tell_matches(&matches, now()).await?;
        let done = doc! {
            "$set": { "matching": "done" },
            "$unset": { "match_at": "", "match_owner": "" },
        };
        self.posts.update_many(leased.owned(), done).await?;
        Ok(told)
    }

    /// Live posts that were created after `since`, the youngest first.
    pub(super) async fn younger_than(&self, since: i64, limit: usize) -> Result<Cursor<Created>> {
        self.posts
            .clone_with_type::<Created>()
            .find(doc! { "born": { "$gt": since }, "state": "live" })
            .sort(doc! { "born": -1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .await
    }

    /// Tells the members of `matches` that were not told, and may be. Answers how many.
    pub(super) async fn tell_matches(&self, matches: &[Match], now: DateTime) -> Result<u64> {
        if matches.is_empty() {
            return Ok(0);
        }
        let matches: BTreeMap<String, &Match> = matches.iter().map(|found| (found.once(), found)).collect();
        let members: BTreeSet<i64> = matches.values().map(|found| found.member_id).collect();
        let members: Vec<i64> = members.into_iter().collect();
        let _turn = self.turns.take(members.iter().copied()).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let told = self
                .tell_matches_in(&mut transaction.session, &matches, &members, now)
                .await
                .map_err(made_meanwhile);
            if let Some(told) = transaction.end(told).await? {
                return Ok(told);
            }
        }
    }

    async fn tell_matches_in(
        &self,
        session: &mut ClientSession,
        matches: &BTreeMap<String, &Match>,
        members: &[i64],
        now: DateTime,
    ) -> Result<u64> {
        let once: Vec<&String> = matches.keys().collect();
        let told: HashSet<String> = self
            .notifications
            .clone_with_type::<Document>()
            .find(doc! { "once": { "$in": once } })
            .projection(doc! { "once": 1 })
            .batch_size(whole(matches.len()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|told| told.get_str("once").map(ToOwned::to_owned).unwrap_or_default())
            .try_collect()
            .await?;
        if told.len() == matches.len() {
            return Ok(0);
        }
        let posts: BTreeSet<i64> = matches.values().map(|found| found.trade_post_id).collect();
        let posts: Vec<i64> = posts.into_iter().collect();
        let living: HashMap<i64, i64> = self
            .posts
            .clone_with_type::<Created>()
            .find(doc! { "_id": { "$in": &posts }, "state": "live", "born": { "$gt": 0 } })
            .batch_size(whole(posts.len()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|post| (post.id, post.born))
            .try_collect()
            .await?;
        let erased = self.erased_among(members, session).await?;
        let apart = self.apart(matches, members, session).await?;
        let drafts = matches.iter().filter_map(|(once, found)| {
            let may_know = living.get(&found.trade_post_id) == Some(&found.born)
                && !told.contains(once)
                && !erased.contains(&found.member_id)
                && !apart.contains(&(found.member_id, found.seller_id));
            may_know.then(|| Draft {
                member_id: found.member_id,
                kind: Kind::TradePostMatched {
                    keyword: found.keyword.clone(),
                },
                room_id: None,
                trade_post_id: found.trade_post_id,
                once: Some(once.clone()),
            })
        });
        let drafts: Vec<Draft> = drafts.collect();
        let told = drafts.len() as u64;
        self.notify(drafts, now, session).await?;
        Ok(told)
    }

    /// The pairs of a member and a seller of whom one blocks the other.
    async fn apart(
        &self,
        matches: &BTreeMap<String, &Match>,
        members: &[i64],
        session: &mut ClientSession,
    ) -> Result<HashSet<(i64, i64)>> {
        let sellers: BTreeSet<i64> = matches.values().map(|found| found.seller_id).collect();
        let sellers: Vec<i64> = sellers.into_iter().collect();
        let either_way = doc! { "$or": [
            { "blocker_id": { "$in": &sellers }, "member_id": { "$in": members } },
            { "blocker_id": { "$in": members }, "member_id": { "$in": &sellers } },
        ] };
        let blocks: Vec<Block> = self
            .blocks
            .find(either_way)
            .session(&mut *session)
            .await?
            .stream(session)
            .try_collect()
            .await?;
        let pairs = blocks.iter().flat_map(|block| {
            let (one, other) = (block.blocker_id, block.member_id);
            [(one, other), (other, one)]
        });
        Ok(pairs.collect())
    }
}

impl Leased {
    fn owned(&self) -> Document {
        let ids: Vec<i64> = self.posts.iter().map(|post| post.id).collect();
        doc! { "_id": { "$in": ids }, "match_owner": self.owner }
    }
}

fn leased_until(now: DateTime) -> DateTime {
    let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(now.timestamp_millis().saturating_add(lease))
}
