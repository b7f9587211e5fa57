//! Read markers: how far a member has read a room.
//!
//! Invariant: a marker only grows. The transaction that moves it tells both members, and makes what the
//! member was told of the messages up to it read.

use mongodb::{
    ClientSession,
    bson::{DateTime, doc, oid::ObjectId, serialize_to_bson},
    error::{Error, Result},
    options::{UpdateManyModel, UpdateOneModel, WriteModel},
};

use super::{Store, notifications::Draft};
use crate::{
    notification::Kind,
    room::{Closed, Room},
};

/// What became of the wish to move a marker.
#[derive(Clone, Copy, Debug)]
pub enum Marked {
    /// The marker as it is now, which may have been further already, and the texts left unread.
    Read {
        read_up_to: i64,
        unread: i64,
    },
    /// The room has fewer messages.
    Beyond {
        last: i64,
    },
    NoRoom,
    Closed(Closed),
}

impl Marked {
    fn of(room: &Room, member: i64) -> Self {
        Self::Read {
            read_up_to: room.states(member).0.read_up_to,
            unread: room.unread(member),
        }
    }
}

impl Store {
    /// Marks the messages up to the sequence `up_to` as read by `member`.
    pub async fn read_room(&self, id: ObjectId, member: i64, up_to: i64, now: DateTime) -> Result<Marked> {
        loop {
            let Some(room) = self.room(id, member).await? else {
                let closed = self.closed(id, member).await?;
                return Ok(closed.map_or(Marked::NoRoom, Marked::Closed));
            };
            if let Some(closed) = room.closed() {
                return Ok(Marked::Closed(closed));
            }
            if up_to >= room.next_seq {
                return Ok(Marked::Beyond {
                    last: room.next_seq - 1,
                });
            }
            if up_to <= room.states(member).0.read_up_to {
                return Ok(Marked::of(&room, member));
            }
            let _turn = self.turns.take(room.members).await;
            let mut transaction = self.transaction().await?;
            let moved = loop {
                transaction.begin().await?;
                let moved = self
                    .read_in(&mut transaction.session, id, member, up_to, now)
                    .await;
                if let Some(moved) = transaction.end(moved).await? {
                    break moved;
                }
            };
            if let Some(room) = moved {
                return Ok(Marked::of(&room, member));
            }
        }
    }

    /// Moves the marker, unless it is further or the room is closed: then whoever asked has to look again.
    async fn read_in(
        &self,
        session: &mut ClientSession,
        id: ObjectId,
        member: i64,
        up_to: i64,
        now: DateTime,
    ) -> Result<Option<Room>> {
        let open = doc! { "_id": id, "members": member, "state": "open" };
        let Some(mut room) = self.rooms.find_one(open).session(&mut *session).await? else {
            return Ok(None);
        };
        let before = room.states(member).0.read_up_to;
        if up_to <= before {
            return Ok(None);
        }
        let last = doc! { "room_id": id, "seq": up_to };
        let last = self.messages.find_one(last).session(&mut *session).await?;
        // An open room has all its messages.
        let last = last.ok_or_else(|| Error::custom(format!("room {id} has no message {up_to}")))?;
        let own = room.mark_read(member, &last);
        let moved = UpdateOneModel::builder()
            .namespace(self.rooms.namespace())
            .filter(doc! { "_id": id })
            .update(
                doc! { "$set": { own: serialize_to_bson(&room.states(member).0).map_err(Error::custom)? } },
            )
            .build();
        let told = UpdateManyModel::builder()
            .namespace(self.notifications.namespace())
            .filter(doc! {
                "member_id": member,
                "room_id": id,
                "kind": "message",
                "message_seq": { "$gt": before, "$lte": up_to },
                "read_at": null,
            })
            .update(doc! { "$set": { "read_at": now } })
            .build();
        let models: [WriteModel; 2] = [moved.into(), told.into()];
        self.client.bulk_write(models).session(&mut *session).await?;
        let drafts = room.members.iter().map(|told| {
            let kind = Kind::Read {
                reader_id: member,
                up_to,
            };
            Draft::in_room(*told, kind, id, room.trade_post_id)
        });
        self.notify(drafts.collect(), now, session).await?;
        Ok(Some(room))
    }
}
