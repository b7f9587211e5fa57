//! The indexes that the collections rely on.
//!
//! Invariant: no unique index has a field that is ever changed; see docs/decisions/0001.

use std::time::Duration;

use mongodb::{
    Collection, IndexModel,
    bson::{Document, doc},
    error::{Error, ErrorKind, Result},
    options::IndexOptions,
};

use super::{Store, dead_letters::IDENTITY};

impl Store {
    /// Creates the indexes where they are missing, and those of another TTL anew.
    pub async fn create_indexes(&self, fence_ttl: Duration, notification_ttl: Duration) -> Result<()> {
        // Only fences have `deleted_at`.
        expire(&self.posts, "deleted_at", fence_ttl).await?;
        self.posts
            .create_indexes([sparse(doc! { "match_at": 1 }), sparse(doc! { "born": 1 })])
            .await?;
        self.keywords
            .create_indexes([sparse(doc! { "gram": 1 }), sparse(doc! { "member_id": 1 })])
            .await?;
        expire(&self.keywords, "deleted_at", fence_ttl).await?;
        self.rooms
            .create_indexes([
                // A room is closed when its post's generation ends, so this makes open rooms unique.
                unique(rooms_by_post()),
                plain(doc! { "trade_post_id": 1, "state": 1, "last_activity_at": -1, "_id": -1 }),
                // For what concerns a member's rooms whether they are listed or not.
                plain(doc! { "members": 1, "buyer_id": 1 }),
                sparse(doc! { "erasing": 1 }),
                plain(doc! { "listed_for": 1, "state": 1, "last_activity_at": -1, "_id": -1 }),
            ])
            .await?;
        self.messages
            .create_indexes([
                unique(doc! { "room_id": 1, "seq": 1 }),
                // Not beginning with the room: what erases a room's messages has one index to choose.
                unique_where(
                    doc! { "sender_id": 1, "room_id": 1, "client_message_id": 1 },
                    // Not of system messages, which nobody sends.
                    doc! { "client_message_id": { "$exists": true } },
                ),
            ])
            .await?;
        self.notifications
            .create_indexes([
                unique(doc! { "member_id": 1, "seq": 1 }),
                plain(doc! { "member_id": 1, "read_at": 1, "seq": -1 }),
                plain(doc! { "member_id": 1, "room_id": 1, "kind": 1, "message_seq": 1 }),
                // Of what is told once for good.
                unique_where(doc! { "once": 1 }, doc! { "once": { "$exists": true } }),
            ])
            .await?;
        expire(&self.notifications, "created_at", notification_ttl).await?;
        self.deletions
            .create_indexes([
                plain(doc! { "state": 1, "erase_at": 1 }),
                // Deletions that are done have no lease.
                sparse(doc! { "lease.until": 1 }),
                plain(doc! { "trade_post_id": 1, "closed_at": -1 }),
                plain(doc! { "closed_at": -1 }),
            ])
            .await?;
        self.blocks
            .create_indexes([
                unique(doc! { "blocker_id": 1, "member_id": 1 }),
                plain(doc! { "blocker_id": 1, "_id": -1 }),
            ])
            .await?;
        // Erasures that are done are not due.
        self.erasures.create_index(sparse(doc! { "due_at": 1 })).await?;
        self.dead_letters
            .create_index(unique(
                IDENTITY
                    .iter()
                    .map(|field| ((*field).to_owned(), 1.into()))
                    .collect(),
            ))
            .await
            .map(drop)
    }
}

/// The index that whoever looks for all rooms of posts reads along. No send changes its keys, so no room can
/// move behind the reader before it is read, as it can in one by last activity.
pub(super) fn rooms_by_post() -> Document {
    doc! { "trade_post_id": 1, "buyer_id": 1, "generation": 1 }
}

fn plain(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

/// Of the documents that have one of the fields.
fn sparse(keys: Document) -> IndexModel {
    let options = IndexOptions::builder().sparse(true).build();
    IndexModel::builder().keys(keys).options(options).build()
}

fn unique(keys: Document) -> IndexModel {
    let options = IndexOptions::builder().unique(true).build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// Unique among the documents that match `filter`.
fn unique_where(keys: Document, filter: Document) -> IndexModel {
    let options = IndexOptions::builder()
        .unique(true)
        .partial_filter_expression(filter)
        .build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// Lets documents expire `ttl` after the time in `field`. An index of another TTL is in the way of the
/// new one, and goes.
async fn expire<T: Send + Sync>(collection: &Collection<T>, field: &str, ttl: Duration) -> Result<()> {
    let name = format!("{field}_1");
    let options = IndexOptions::builder()
        .name(name.clone())
        .expire_after(ttl)
        .build();
    let index = IndexModel::builder()
        .keys(doc! { field: 1 })
        .options(options)
        .build();
    match collection.create_index(index.clone()).await {
        Err(error) if is_other_options(&error) => {
            collection.drop_index(name).await?;
            collection.create_index(index).await.map(drop)
        }
        created => created.map(drop),
    }
}

/// Whether an index of that name or key is there with other options.
fn is_other_options(error: &Error) -> bool {
    const INDEX_OPTIONS_CONFLICT: i32 = 85;
    const INDEX_KEY_SPECS_CONFLICT: i32 = 86;
    matches!(&*error.kind, ErrorKind::Command(error)
        if matches!(error.code, INDEX_OPTIONS_CONFLICT | INDEX_KEY_SPECS_CONFLICT))
}
