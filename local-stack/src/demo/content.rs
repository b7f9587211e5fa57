//! What MongoDB holds of rooms, byte by byte, to compare before and after.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use mongodb::{
    Database,
    bson::{Bson, RawDocumentBuf, doc, oid::ObjectId},
};

use super::load::LoadedRoom;
use crate::digest;

/// A room with all its messages as MongoDB holds it, by room.
pub(super) type Content = BTreeMap<String, String>;

/// The content of `rooms`: the number of messages, and a digest of every byte.
pub(super) async fn content<'a>(
    chat: &Database,
    rooms: impl Iterator<Item = &'a LoadedRoom>,
) -> Result<Content> {
    let ids = object_ids(rooms)?;
    let mut bytes: BTreeMap<String, (usize, Vec<u8>)> = BTreeMap::new();
    let mut rooms = chat
        .collection::<RawDocumentBuf>("rooms")
        .find(doc! { "_id": { "$in": &ids } })
        .await?;
    while let Some(room) = rooms.try_next().await? {
        let id = room.get_object_id("_id")?.to_hex();
        bytes.insert(id, (0, room.as_bytes().to_vec()));
    }
    let mut messages = chat
        .collection::<RawDocumentBuf>("messages")
        .find(doc! { "room_id": { "$in": &ids } })
        .sort(doc! { "room_id": 1, "seq": 1 })
        .await?;
    while let Some(message) = messages.try_next().await? {
        let id = message.get_object_id("room_id")?.to_hex();
        let (count, bytes) = bytes.entry(id).or_default();
        *count += 1;
        bytes.extend_from_slice(message.as_bytes());
    }
    let shown = |(id, (count, bytes)): (String, (usize, Vec<u8>))| {
        (id, format!("{count} messages, digest {}", digest(&bytes)))
    };
    Ok(bytes.into_iter().map(shown).collect())
}

/// The rooms' ids for a filter.
pub(super) fn object_ids<'a>(rooms: impl Iterator<Item = &'a LoadedRoom>) -> Result<Vec<Bson>> {
    rooms
        .map(|room| ObjectId::from_str(&room.id).map(Bson::from))
        .collect::<Result<_, _>>()
        .context("chat-service has answered an id that is no ObjectId")
}
