//! `keywords`: what members wait for, and the fences of what they wait for no more.
//!
//! Invariant: once a keyword is kept, a post that is matched later meets it; with the posts that were there
//! already and are younger it is compared here. A member who is erased is given none: to keep one writes the
//! member's inbox, as the request for the erasure does.

use std::collections::{BTreeSet, HashMap};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, doc, serialize_to_document},
    error::{Error, Result},
    options::{ReplaceOneModel, WriteModel},
};
use tracing::warn;

use super::{
    Store,
    matches::{Created, MATCHES_AT_ONCE, Match},
    transaction::made_meanwhile,
    whole,
};
use crate::{
    cdc::keyword_plan::{KeywordNews, KeywordPlan},
    keyword::{Kept, Titles},
};

/// Most posts that keywords which were read late are compared with: the youngest.
const LATE_POSTS: usize = 10_000;
/// Those of them that are in memory at once.
const POSTS_AT_ONCE: usize = 1000;
/// Of the newest truncate of the captured table, in `truncates`.
const TRUNCATE: &str = "keywords";

impl Store {
    /// Takes in what a batch says of keywords. Answers how many members were told of posts that were read
    /// before their keyword.
    pub async fn take_in_keywords(&self, plan: &KeywordPlan, now: DateTime) -> Result<u64> {
        if let Some(lsn) = plan.truncated {
            self.truncate_keywords(lsn, now).await?;
        }
        if plan.news.is_empty() {
            return Ok(0);
        }
        self.keep(&plan.news, now).await?;
        // A truncate may have been read from another partition before rows that it had removed.
        let mark = self.truncates.find_one(doc! { "_id": TRUNCATE }).await?;
        if let Some(mark) = mark.and_then(|mark| mark.get_i64("lsn").ok())
            && plan.lsns().any(|lsn| lsn < mark)
        {
            self.truncate_keywords(mark, now).await?;
        }
        self.join(&plan.news, now).await
    }

    async fn keep(&self, news: &[KeywordNews], now: DateTime) -> Result<()> {
        let members: BTreeSet<i64> = news.iter().filter_map(KeywordNews::member).collect();
        let members: Vec<i64> = members.into_iter().collect();
        let _turn = self.turns.take(members.iter().copied()).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let kept = self
                .keep_in(&mut transaction.session, news, &members, now)
                .await
                .map_err(made_meanwhile);
            if transaction.end(kept).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn keep_in(
        &self,
        session: &mut ClientSession,
        news: &[KeywordNews],
        members: &[i64],
        now: DateTime,
    ) -> Result<()> {
        let ids: Vec<i64> = news.iter().map(|news| news.id).collect();
        let known: HashMap<i64, Kept> = self
            .keywords
            .find(doc! { "_id": { "$in": &ids } })
            .batch_size(whole(ids.len()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|kept| (kept.id, kept))
            .try_collect()
            .await?;
        let erased = self.erased_among(members, session).await?;
        let mut models: Vec<WriteModel> = Vec::new();
        let mut writers = BTreeSet::new();
        for news in news {
            let Some(mut kept) = Kept::after(known.get(&news.id), news, now) else {
                continue;
            };
            match &kept.live {
                Some(live) if erased.contains(&live.member_id) => kept.end(now),
                Some(live) => drop(writers.insert(live.member_id)),
                None => {}
            }
            let replace = ReplaceOneModel::builder()
                .namespace(self.keywords.namespace())
                .filter(doc! { "_id": kept.id })
                .replacement(serialize_to_document(&kept).map_err(Error::custom)?)
                .upsert(true)
                .build();
            models.push(replace.into());
        }
        if models.is_empty() {
            return Ok(());
        }
        models.extend(writers.into_iter().map(|member| self.touch_inbox(member)));
        self.client.bulk_write(models).session(session).await.map(drop)
    }

    /// Remembers that the table was emptied at `lsn`, and ends every keyword that is older. The mark comes
    /// first, as with posts.
    async fn truncate_keywords(&self, lsn: i64, now: DateTime) -> Result<()> {
        self.truncates
            .update_one(doc! { "_id": TRUNCATE }, doc! { "$max": { "lsn": lsn } })
            .upsert(true)
            .await?;
        let older = doc! { "gram": { "$exists": true }, "lsn": { "$lt": lsn } };
        self.change_together(&self.keywords, older, Kept::ended(lsn, now))
            .await
            .map(drop)
    }

    /// Compares keywords of a batch with the posts that were created after them and read before them, once.
    async fn join(&self, news: &[KeywordNews], now: DateTime) -> Result<u64> {
        let ids: Vec<i64> = news.iter().map(|news| news.id).collect();
        let waiting = doc! { "_id": { "$in": ids }, "joined": false };
        let keywords: Vec<Kept> = self.keywords.find(waiting.clone()).await?.try_collect().await?;
        let keywords: Vec<_> = keywords.into_iter().filter_map(|kept| kept.live).collect();
        let Some(since) = keywords.iter().map(|keyword| keyword.since).min() else {
            return Ok(0);
        };
        let mut younger = self.younger_than(since, LATE_POSTS).await?;
        let (mut seen, mut told) = (0, 0);
        loop {
            let mut posts: Vec<Created> = Vec::new();
            while posts.len() < POSTS_AT_ONCE
                && let Some(post) = younger.try_next().await?
            {
                posts.push(post);
            }
            seen += posts.len();
            let titles = Titles::new(posts.iter().map(|post| post.title.as_str()));
            let mut matches = Vec::new();
            for keyword in &keywords {
                let found = titles.with(keyword).map(|place| &posts[place]);
                matches.extend(found.filter_map(|post| Match::of(keyword, post)));
            }
            for matches in matches.chunks(MATCHES_AT_ONCE) {
                told += self.tell_matches(matches, now).await?;
            }
            if posts.len() < POSTS_AT_ONCE {
                break;
            }
        }
        if seen == LATE_POSTS {
            warn!(
                "keywords were read so late that they are matched with the youngest {LATE_POSTS} posts alone"
            );
        }
        let joined = doc! { "$set": { "joined": true } };
        self.change_together(&self.keywords, waiting, joined).await?;
        Ok(told)
    }
}
