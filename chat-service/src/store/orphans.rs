//! `orphans`: looking for rooms and messages without their parents, and what was found of them.
//!
//! Invariant: a look at rooms reads them and their parents in one transaction, so it never mixes two moments.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Bson, DateTime, Document, doc, oid::ObjectId, serialize_to_bson},
    error::{Error, Result},
    options::{UpdateOneModel, WriteModel},
};
use serde::{Deserialize, Serialize};

use super::{Store, deletions::DeletionState, posts::TradePost, whole};
use crate::{
    orphan::{OrphanKind, Parents, RoomFacts, judge},
    room::DeletionId,
};

/// An orphan, and when it was found. It is identified by its room, or by the room that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    #[serde(rename = "_id")]
    pub room_id: ObjectId,
    pub kind: OrphanKind,
    /// Unknown of messages.
    pub trade_post_id: Option<i64>,
    pub found_at: DateTime,
    /// When the last sweep that found it began.
    pub seen_at: DateTime,
}

/// Something that one look took for an orphan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub room_id: ObjectId,
    pub kind: OrphanKind,
    pub trade_post_id: Option<i64>,
    pub generation: i64,
    pub closed_by: Option<DeletionId>,
}

/// What a look saw.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// All rooms, in the order of their ids.
    pub rooms: Vec<ObjectId>,
    pub suspects: Vec<Suspect>,
}

#[derive(Deserialize)]
struct DeletionFacts {
    #[serde(rename = "_id")]
    id: DeletionId,
    state: DeletionState,
}

impl Store {
    /// Looks at the next rooms behind `after` in the order of their ids.
    pub async fn look_on(&self, after: Option<ObjectId>, limit: i64) -> Result<Looked> {
        self.look(doc! { "_id": { "$gt": after.unwrap_or(FIRST) } }, limit)
            .await
    }

    /// Looks again at what was suspected, and answers what still is, and in the same way.
    pub async fn look_again(&self, suspects: &[Suspect]) -> Result<Vec<Suspect>> {
        let (messages, rooms): (Vec<&Suspect>, Vec<&Suspect>) = suspects
            .iter()
            .partition(|suspect| suspect.kind == OrphanKind::Messages);
        let ids: Vec<ObjectId> = rooms.iter().map(|suspect| suspect.room_id).collect();
        let limit = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        let mut still = Vec::new();
        if !ids.is_empty() {
            let looked = self.look(doc! { "_id": { "$in": ids } }, limit).await?;
            let again = looked.suspects.into_iter();
            still.extend(again.filter(|suspect| rooms.contains(&suspect)));
        }
        // The room first: with an eraser at work its messages go before it.
        let ids: Vec<ObjectId> = messages.iter().map(|suspect| suspect.room_id).collect();
        let there = self.rooms_among(&ids).await?;
        for suspect in messages {
            let room_id = suspect.room_id;
            if !there.contains(&room_id)
                && self
                    .messages
                    .find_one(doc! { "room_id": room_id })
                    .await?
                    .is_some()
            {
                still.push(suspect.clone());
            }
        }
        Ok(still)
    }

    async fn rooms_among(&self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms
            .find(doc! { "_id": { "$in": ids } })
            .projection(doc! { "_id": 1 })
            .await?;
        found
            .try_filter_map(async |room| Ok(room.get_object_id("_id").ok()))
            .try_collect()
            .await
    }

    async fn look(&self, filter: Document, limit: i64) -> Result<Looked> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let looked = self.look_in(&mut transaction.session, &filter, limit).await;
            if let Some(looked) = transaction.end(looked).await? {
                return Ok(looked);
            }
        }
    }

    async fn look_in(&self, session: &mut ClientSession, filter: &Document, limit: i64) -> Result<Looked> {
        let rooms: Vec<RoomFacts> = self
            .rooms
            .clone_with_type::<RoomFacts>()
            .find(filter.clone())
            .projection(
                doc! { "trade_post_id": 1, "generation": 1, "state": 1, "closed_by": 1, "erasing": 1 },
            )
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .batch_size(whole(usize::try_from(limit).unwrap_or_default()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .try_collect()
            .await?;
        let open = rooms.iter().filter(|room| room.closed_by.is_none());
        let posts: HashSet<i64> = open.map(|room| room.trade_post_id).collect();
        let posts = self.posts_in(session, posts).await?;
        let deletions = rooms.iter().filter_map(|room| room.closed_by).collect();
        let deletions = self.deletions_in(session, deletions).await?;
        let members = rooms
            .iter()
            .flat_map(|room| room.erasing.iter().copied())
            .collect();
        let at_work = self.erasures_at_work_in(session, members).await?;
        let suspects = rooms.iter().filter_map(|room| {
            let parents = Parents {
                post: posts.get(&room.trade_post_id),
                deletion: room.closed_by.and_then(|id| deletions.get(&id).copied()),
                is_being_erased: room.erasing.iter().any(|member| at_work.contains(member)),
            };
            Some(Suspect {
                kind: judge(room, parents)?,
                room_id: room.id,
                trade_post_id: Some(room.trade_post_id),
                generation: room.generation,
                closed_by: room.closed_by,
            })
        });
        Ok(Looked {
            suspects: suspects.collect(),
            rooms: rooms.iter().map(|room| room.id).collect(),
        })
    }

    async fn posts_in(
        &self,
        session: &mut ClientSession,
        ids: HashSet<i64>,
    ) -> Result<HashMap<i64, TradePost>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        self.posts
            .find(doc! { "_id": { "$in": ids } })
            .session(&mut *session)
            .await?
            .stream(session)
            .map_ok(|post| (post.id, post))
            .try_collect()
            .await
    }

    async fn deletions_in(
        &self,
        session: &mut ClientSession,
        ids: HashSet<DeletionId>,
    ) -> Result<HashMap<DeletionId, DeletionState>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<Bson> = ids.into_iter().map(Bson::from).collect();
        self.deletions
            .clone_with_type::<DeletionFacts>()
            .find(doc! { "_id": { "$in": ids } })
            .projection(doc! { "state": 1 })
            .session(&mut *session)
            .await?
            .stream(session)
            .map_ok(|deletion| (deletion.id, deletion.state))
            .try_collect()
            .await
    }

    async fn erasures_at_work_in(
        &self,
        session: &mut ClientSession,
        members: HashSet<i64>,
    ) -> Result<HashSet<i64>> {
        if members.is_empty() {
            return Ok(HashSet::new());
        }
        let members: Vec<i64> = members.into_iter().collect();
        self.erasures
            .find(doc! { "_id": { "$in": members }, "due_at": { "$exists": true } })
            .session(&mut *session)
            .await?
            .stream(session)
            .map_ok(|erasure| erasure.member_id)
            .try_collect()
            .await
    }

    /// The first room id behind `after`, and not behind `to`, that messages have and that is none of `rooms`,
    /// which are all rooms in between. The index by room tells; no message is read.
    pub async fn stray(
        &self,
        after: Option<ObjectId>,
        to: Option<ObjectId>,
        rooms: &[ObjectId],
    ) -> Result<Option<ObjectId>> {
        let mut between = doc! { "$gt": after.unwrap_or(FIRST) };
        if let Some(to) = to {
            between.insert("$lte", to);
        }
        if !rooms.is_empty() {
            between.insert("$nin", rooms);
        }
        let stray = self
            .messages
            .clone_with_type::<Document>()
            .find_one(doc! { "room_id": between })
            .sort(doc! { "room_id": 1, "seq": 1 })
            .projection(doc! { "_id": 0, "room_id": 1 })
            .await?;
        Ok(stray.and_then(|message| message.get_object_id("room_id").ok()))
    }

    /// Keeps what the sweep that began at `begun_at` has found.
    pub async fn keep_orphans(&self, found: &[Suspect], begun_at: DateTime, now: DateTime) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let mut models: Vec<WriteModel> = Vec::new();
        for orphan in found {
            let kind = serialize_to_bson(&orphan.kind).map_err(Error::custom)?;
            let seen = doc! { "kind": kind, "trade_post_id": orphan.trade_post_id, "seen_at": begun_at };
            let model = UpdateOneModel::builder()
                .namespace(self.orphans.namespace())
                .filter(doc! { "_id": orphan.room_id })
                .update(doc! { "$set": seen, "$setOnInsert": { "found_at": now } })
                .upsert(true)
                .build();
            models.push(model.into());
        }
        self.client.bulk_write(models).await.map(drop)
    }

    /// Forgets what the sweep that began at `begun_at`, and looked everywhere, has not found again.
    pub async fn forget_orphans(&self, begun_at: DateTime) -> Result<()> {
        let earlier = doc! { "seen_at": { "$lt": begun_at } };
        self.orphans.delete_many(earlier).await.map(drop)
    }

    /// Forgets one that was set right.
    pub async fn forget_orphan(&self, room_id: ObjectId) -> Result<()> {
        self.orphans.delete_one(doc! { "_id": room_id }).await.map(drop)
    }

    /// Those that were found, the first first.
    pub async fn orphans(&self, limit: i64) -> Result<Vec<Orphan>> {
        self.orphans
            .find(doc! {})
            .sort(doc! { "found_at": 1, "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// How many there are of each kind.
    pub async fn count_orphans(&self) -> Result<Vec<(OrphanKind, u64)>> {
        let mut counts = Vec::new();
        for kind in OrphanKind::ALL {
            let of_kind = doc! { "kind": kind.name() };
            counts.push((kind, self.orphans.count_documents(of_kind).await?));
        }
        Ok(counts)
    }
}

/// No id is before it.
const FIRST: ObjectId = ObjectId::from_bytes([0; 12]);
