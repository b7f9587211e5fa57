//! Tells the members of a post's open rooms that its title or status changed.
//!
//! Invariant: a room remembers the look that its members were told last, and is given the next one in the
//! transaction that tells them. The transaction writes the post's projection too, so it tells of the newest
//! look that is known, or conflicts with whoever makes a newer one known.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, doc, oid::ObjectId, serialize_to_bson, serialize_to_document},
    error::{Error, Result},
    options::{Hint, InsertOneModel, UpdateManyModel, UpdateOneModel, WriteModel},
};
use serde::Deserialize;

use super::{Store, indexes::rooms_by_post, notifications::Draft, now, posts::TradePost, whole};
use crate::{
    cdc::plan::PostPlan,
    message::Content,
    notification::Kind,
    room::Room,
    trade_post::{Change, Look},
};

/// Most changes that one transaction tells rooms of. More are told by several.
const CHANGES_PER_TRANSACTION: usize = 1000;

/// The looks of posts in the course of a batch.
type Looks = HashMap<i64, Vec<Look>>;

/// What tells whether a room's members have to be told.
#[derive(Debug, Deserialize)]
struct ToldRoom {
    #[serde(rename = "_id")]
    id: ObjectId,
    trade_post_id: i64,
    members: Vec<i64>,
    told: Look,
}

/// How a room's members come to know of changes.
pub(super) struct Told {
    pub models: Vec<WriteModel>,
    pub drafts: Vec<Draft>,
}

impl Store {
    /// Tells the members of open rooms how the posts of a batch have changed, which is in the projection
    /// already. It costs one command where no room is told.
    ///
    /// Nobody has a room about a row that has come to its id in the batch, unless the post is `known`: its
    /// rooms may have come before it.
    pub async fn tell_changes(&self, posts: &[PostPlan], known: &HashSet<i64>) -> Result<()> {
        let looks: Looks = posts
            .iter()
            .filter(|post| !post.has_arrived() || known.contains(&post.trade_post_id))
            .filter_map(|post| Some((post.trade_post_id, post.looks()?)))
            .collect();
        if looks.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = looks.keys().copied().collect();
        let mut rooms = self
            .rooms
            .clone_with_type::<ToldRoom>()
            .find(doc! { "trade_post_id": { "$in": ids }, "state": "open" })
            .hint(Hint::Keys(rooms_by_post()))
            .projection(doc! { "trade_post_id": 1, "members": 1, "told": 1 })
            .batch_size(whole(CHANGES_PER_TRANSACTION))
            .await?;
        let mut chunk = Vec::new();
        let mut weight = 0;
        while let Some(room) = rooms.try_next().await? {
            let changes = looks
                .get(&room.trade_post_id)
                .map_or(0, |looks| room.told.changes(looks).len());
            if changes == 0 {
                continue;
            }
            if weight + changes > CHANGES_PER_TRANSACTION {
                self.tell_chunk(&std::mem::take(&mut chunk), &looks).await?;
                weight = 0;
            }
            weight += changes;
            chunk.push(room);
        }
        self.tell_chunk(&chunk, &looks).await
    }

    async fn tell_chunk(&self, chunk: &[ToldRoom], looks: &Looks) -> Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        let ids: Vec<ObjectId> = chunk.iter().map(|room| room.id).collect();
        let _turn = self
            .turns
            .take(chunk.iter().flat_map(|room| room.members.iter().copied()))
            .await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let told = self.tell_in(&mut transaction.session, &ids, looks, now()).await;
            if transaction.end(told).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn tell_in(
        &self,
        session: &mut ClientSession,
        ids: &[ObjectId],
        looks: &Looks,
        now: DateTime,
    ) -> Result<()> {
        let rooms: Vec<Room> = self
            .rooms
            .find(doc! { "_id": { "$in": ids }, "state": "open" })
            .batch_size(whole(ids.len()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .try_collect()
            .await?;
        let post_ids: BTreeSet<i64> = rooms.iter().map(|room| room.trade_post_id).collect();
        let post_ids: Vec<i64> = post_ids.into_iter().collect();
        let posts: HashMap<i64, TradePost> = self
            .posts
            .find(doc! { "_id": { "$in": &post_ids }, "state": "live" })
            .batch_size(whole(post_ids.len()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|post| (post.id, post))
            .try_collect()
            .await?;
        let mut models: Vec<WriteModel> = Vec::new();
        let mut drafts = Vec::new();
        for room in rooms {
            // The rooms of a row that has left its id are closed or go along, whatever is there now.
            let post = posts.get(&room.trade_post_id);
            let post = post.filter(|post| !post.has_lost(room.generation));
            let Some(newest) = post.and_then(TradePost::look) else {
                continue;
            };
            let looks = match looks.get(&room.trade_post_id) {
                Some(looks) if looks.last().is_some_and(|last| last.lsn == newest.lsn) => looks,
                // Of a batch that was read again or late, only what is still true is told.
                _ => &vec![newest],
            };
            let told = self.told(room, looks, now)?;
            models.extend(told.models);
            drafts.extend(told.drafts);
        }
        if models.is_empty() {
            return Ok(());
        }
        let held = UpdateManyModel::builder()
            .namespace(self.posts.namespace())
            .filter(doc! { "_id": { "$in": post_ids } })
            .update(doc! { "$inc": { "holds": 1_i64 } })
            .build();
        models.push(held.into());
        self.client.bulk_write(models).session(&mut *session).await?;
        self.notify(drafts, now, session).await
    }

    /// What is written of a room whose members are told of `looks`, and what they are told.
    pub(super) fn told(&self, mut room: Room, looks: &[Look], now: DateTime) -> Result<Told> {
        let before = room.told.clone();
        let mut models: Vec<WriteModel> = Vec::new();
        let mut drafts = Vec::new();
        for change in before.changes(looks) {
            drafts.extend(drafts_of(&room, &change));
            let Change { look, event } = change;
            if let Some(event) = event {
                let message = room.take_in(Content::System { event }, None, now);
                let insert = InsertOneModel::builder()
                    .namespace(self.messages.namespace())
                    .document(serialize_to_document(&message).map_err(Error::custom)?)
                    .build();
                models.push(insert.into());
            }
            room.told = look.clone();
        }
        if room.told == before {
            return Ok(Told { models, drafts });
        }
        let mut update = room.taken_in()?;
        update.insert("told", serialize_to_bson(&room.told).map_err(Error::custom)?);
        let update = UpdateOneModel::builder()
            .namespace(self.rooms.namespace())
            .filter(doc! { "_id": room.id })
            .update(doc! { "$set": update })
            .build();
        models.push(update.into());
        Ok(Told { models, drafts })
    }
}

fn drafts_of(room: &Room, Change { look, .. }: &Change<'_>) -> Vec<Draft> {
    let drafts = room.members.iter().map(|member_id| {
        let kind = Kind::TradePostChanged {
            title: look.title.clone(),
            status: look.status.clone(),
        };
        Draft::in_room(*member_id, kind, room.id, room.trade_post_id)
    });
    drafts.collect()
}
