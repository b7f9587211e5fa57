//! `inboxes` and `notifications`: what members are told, in an order of their own.
//!
//! Invariant: a member's sequence is raised in the same transaction as the notifications it
//! numbers are written. It has no gaps, and a reader who has seen `n` has missed nothing below.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::{IntoFuture, ready},
};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Bson, DateTime, Document, doc, oid::ObjectId},
    error::Result,
    options::{UpdateOneModel, WriteModel},
};
use tokio::try_join;

use super::{Store, Window, whole};
use crate::{
    message::Message,
    notification::{Frame, Kind, Notification, Texts},
    room::RoomKey,
};

/// A notification that has no place in its member's sequence yet.
#[derive(Clone, Debug)]
pub struct Draft {
    pub member_id: i64,
    pub kind: Kind,
    /// None where it is about no room.
    pub room_id: Option<ObjectId>,
    pub trade_post_id: i64,
    /// As of the notification.
    pub once: Option<String>,
}

impl Draft {
    /// Of what happened in a room.
    pub fn in_room(member_id: i64, kind: Kind, room_id: ObjectId, trade_post_id: i64) -> Self {
        Self {
            member_id,
            kind,
            room_id: Some(room_id),
            trade_post_id,
            once: None,
        }
    }
}

impl Store {
    /// Numbers and writes `drafts` inside the transaction: three round trips, however many.
    pub async fn notify(&self, drafts: Vec<Draft>, now: DateTime, session: &mut ClientSession) -> Result<()> {
        if drafts.is_empty() {
            return Ok(());
        }
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        for draft in &drafts {
            *counts.entry(draft.member_id).or_default() += 1;
        }
        // In the order of the members, so that two transactions do not wait for each other in a ring.
        let updates = counts.iter().map(|(member, count)| {
            let next = doc! { "$add": [{ "$ifNull": ["$next_seq", 1_i64] }, *count] };
            WriteModel::from(
                UpdateOneModel::builder()
                    .namespace(self.inboxes.namespace())
                    .filter(doc! { "_id": *member })
                    .update(vec![doc! { "$set": { "next_seq": next } }])
                    .upsert(true)
                    .build(),
            )
        });
        self.client.bulk_write(updates).session(&mut *session).await?;
        let members: Vec<i64> = counts.keys().copied().collect();
        let mut inboxes = self
            .inboxes
            .find(doc! { "_id": { "$in": members } })
            .batch_size(whole(counts.len()))
            .session(&mut *session)
            .await?;
        let mut next: HashMap<i64, i64> = HashMap::with_capacity(counts.len());
        while let Some(inbox) = inboxes.next(&mut *session).await.transpose()? {
            let (member, raised) = (read_i64(&inbox, "_id")?, read_i64(&inbox, "next_seq")?);
            next.insert(member, raised - counts.get(&member).copied().unwrap_or_default());
        }
        let notifications = drafts.into_iter().map(|draft| {
            let Draft {
                member_id,
                kind,
                room_id,
                trade_post_id,
                once,
            } = draft;
            let next = next.entry(member_id).or_insert(1);
            let seq = *next;
            *next += 1;
            Notification {
                member_id,
                seq,
                read_at: matches!(kind, Kind::Read { .. }).then_some(now),
                kind,
                room_id,
                trade_post_id,
                once,
                created_at: now,
                deleted_at: None,
            }
        });
        let notifications: Vec<Notification> = notifications.collect();
        self.notifications
            .insert_many(notifications)
            .session(session)
            .await
            .map(drop)
    }

    /// Writes the member's inbox without telling anything, so that a transaction conflicts with others that
    /// write it.
    pub(super) fn touch_inbox(&self, member: i64) -> WriteModel {
        UpdateOneModel::builder()
            .namespace(self.inboxes.namespace())
            .filter(doc! { "_id": member })
            .update(doc! { "$inc": { "holds": 1_i64 }, "$setOnInsert": { "next_seq": 1_i64 } })
            .upsert(true)
            .build()
            .into()
    }

    /// The last sequence that `member` was given; 0 before the first.
    pub async fn last_seq(&self, member: i64) -> Result<i64> {
        match self.inboxes.find_one(doc! { "_id": member }).await? {
            Some(inbox) => Ok(read_i64(&inbox, "next_seq")? - 1),
            None => Ok(0),
        }
    }

    /// The last sequences of those of `members` that were given any.
    pub async fn last_seqs(&self, members: impl Iterator<Item = i64>) -> Result<HashMap<i64, i64>> {
        let members: Vec<i64> = members.collect();
        let mut inboxes = self.inboxes.find(doc! { "_id": { "$in": members } }).await?;
        let mut last = HashMap::new();
        while let Some(inbox) = inboxes.try_next().await? {
            last.insert(read_i64(&inbox, "_id")?, read_i64(&inbox, "next_seq")? - 1);
        }
        Ok(last)
    }

    /// The member's notifications behind `seq`, oldest first.
    pub async fn notifications_after(&self, member: i64, seq: i64, limit: i64) -> Result<Vec<Notification>> {
        self.notifications
            .find(doc! { "member_id": member, "seq": { "$gt": seq } })
            .sort(doc! { "seq": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// A page of the member's list.
    pub async fn notifications(
        &self,
        member: i64,
        unread: bool,
        window: Window,
        limit: i64,
    ) -> Result<Vec<Notification>> {
        let (seq, order) = window.of_seq();
        let mut filter = listed(member);
        filter.insert("seq", seq);
        if unread {
            filter.insert("read_at", Bson::Null);
        }
        self.notifications
            .find(filter)
            .sort(order)
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Marks one notification as read, if it is in the member's list.
    pub async fn read_notification(&self, member: i64, seq: i64, now: DateTime) -> Result<bool> {
        let mut filter = listed(member);
        filter.insert("seq", seq);
        let read = vec![doc! { "$set": { "read_at": first("$read_at", now) } }];
        let read = self.notifications.update_one(filter, read).await?;
        Ok(read.matched_count > 0)
    }

    /// Marks the member's notifications up to `seq` as read.
    pub async fn read_notifications(&self, member: i64, seq: i64, now: DateTime) -> Result<()> {
        let unread = doc! { "member_id": member, "read_at": null, "seq": { "$lte": seq } };
        let read = doc! { "$set": { "read_at": now } };
        self.change_together(&self.notifications, unread, read)
            .await
            .map(drop)
    }

    /// Takes a notification out of the member's list. Answers whether it was ever there.
    pub async fn delete_notification(&self, member: i64, seq: i64, now: DateTime) -> Result<bool> {
        let filter = doc! { "member_id": member, "seq": seq, "kind": { "$ne": "read" } };
        let deleted = vec![doc! { "$set": {
            "read_at": first("$read_at", now),
            "deleted_at": first("$deleted_at", now),
        } }];
        let deleted = self.notifications.update_one(filter, deleted).await?;
        Ok(deleted.matched_count > 0)
    }

    /// What is shown beside `notifications`.
    pub async fn texts_of(&self, notifications: &[Notification]) -> Result<Texts> {
        let (messages, titles) = try_join!(self.messages_of(notifications), self.titles_of(notifications))?;
        Ok(Texts { messages, titles })
    }

    /// The titles of the posts that were found by a keyword, as they are now.
    async fn titles_of(&self, notifications: &[Notification]) -> Result<HashMap<i64, String>> {
        let found: HashSet<i64> = notifications
            .iter()
            .filter(|notification| matches!(notification.kind, Kind::TradePostMatched { .. }))
            .map(|notification| notification.trade_post_id)
            .collect();
        if found.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<i64> = found.into_iter().collect();
        self.posts
            .find(doc! { "_id": { "$in": ids }, "state": "live" })
            .await?
            .try_filter_map(|post| ready(Ok(post.title.map(|title| (post.id, title)))))
            .try_collect()
            .await
    }

    /// The messages that `notifications` are about, by room and sequence: those that are there and whose room
    /// is open. What is kept of a closed room is for nobody to read.
    async fn messages_of(&self, notifications: &[Notification]) -> Result<HashMap<(ObjectId, i64), Message>> {
        let wanted: Vec<(ObjectId, i64)> = notifications
            .iter()
            .filter_map(|notification| match notification.kind {
                Kind::Message { message_seq } => Some((notification.room_id?, message_seq)),
                _ => None,
            })
            .collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let rooms: HashSet<ObjectId> = wanted.iter().map(|(room, _)| *room).collect();
        let messages = wanted
            .into_iter()
            .map(|(room_id, seq)| doc! { "room_id": room_id, "seq": seq });
        let messages = self
            .messages
            .find(doc! { "$or": messages.collect::<Vec<Document>>() });
        let (open, messages) = try_join!(self.open_among(rooms), messages.into_future())?;
        messages
            .try_filter(|message| ready(open.contains(&message.room_id)))
            .map_ok(|message| ((message.room_id, message.seq), message))
            .try_collect()
            .await
    }

    async fn open_among(&self, rooms: impl IntoIterator<Item = ObjectId>) -> Result<HashSet<ObjectId>> {
        let ids: Vec<ObjectId> = rooms.into_iter().collect();
        let open = self
            .rooms
            .clone_with_type::<RoomKey>()
            .find(doc! { "_id": { "$in": ids }, "state": "open" })
            .projection(RoomKey::fields())
            .await?;
        open.map_ok(|room| room.id).try_collect().await
    }

    /// `notifications` as stream events.
    pub async fn frames(&self, notifications: &[Notification]) -> Result<Vec<Frame>> {
        let texts = self.texts_of(notifications).await?;
        Ok(notifications
            .iter()
            .map(|notification| notification.frame(&texts))
            .collect())
    }
}

/// What lists show of a member's notifications.
fn listed(member: i64) -> Document {
    doc! { "member_id": member, "kind": { "$ne": "read" }, "deleted_at": null }
}

/// The time that is there already, or `now`.
fn first(field: &str, now: DateTime) -> Document {
    doc! { "$ifNull": [field, now] }
}

fn read_i64(document: &Document, field: &str) -> Result<i64> {
    document.get_i64(field).map_err(mongodb::error::Error::custom)
}
