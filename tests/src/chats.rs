//! What is in a world's MongoDB, looked at directly: what deletions left, who was told, what must not have
//! changed.

use std::{collections::BTreeSet, time::Duration};

use chat_service::{message::Message, notification::Notification, room::Room};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};

use crate::{eventually::eventually_is, world::World};

/// How a post's deletion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletions {
    pub done: u64,
    pub unfinished: u64,
}

impl World {
    /// Waits until `done` deletions of posts with chats are done, and no other is on its way.
    ///
    /// # Panics
    /// If they are not within `bound`.
    pub async fn erased(&self, done: u64, bound: Duration) {
        let wanted = Deletions { done, unfinished: 0 };
        eventually_is("deletions", bound, wanted, async || self.deletions().await).await;
    }

    /// # Panics
    /// If MongoDB does not answer.
    pub async fn deletions(&self) -> Deletions {
        let count = |filter| self.store.deletions.count_documents(filter).into_future();
        let done = count(doc! { "state": "done" }).await.expect("MongoDB answers");
        let all = count(doc! {}).await.expect("MongoDB answers");
        Deletions {
            done,
            unfinished: all.saturating_sub(done),
        }
    }

    /// Waits until chat-service knows these posts as live ones.
    ///
    /// # Panics
    /// If it does not within `bound`.
    pub async fn known(&self, posts: &[i64], bound: Duration) {
        let wanted = posts.len() as u64;
        eventually_is("posts that chat-service knows", bound, wanted, async || {
            let live = doc! { "_id": { "$in": posts }, "state": "live" };
            self.store
                .posts
                .count_documents(live)
                .await
                .expect("MongoDB answers")
        })
        .await;
    }

    /// The rooms of a post, whatever their state, and the messages in them.
    ///
    /// # Panics
    /// If MongoDB does not answer.
    pub async fn chats(&self, post: i64) -> (Vec<Room>, Vec<Message>) {
        let rooms = self
            .store
            .rooms
            .find(doc! { "trade_post_id": post })
            .sort(doc! { "_id": 1 });
        let rooms: Vec<Room> = rooms
            .await
            .expect("MongoDB answers")
            .try_collect()
            .await
            .expect("rooms");
        let ids: Vec<ObjectId> = rooms.iter().map(|room| room.id).collect();
        let messages = self.store.messages.find(doc! { "room_id": { "$in": ids } });
        let messages = messages
            .sort(doc! { "room_id": 1, "seq": 1 })
            .await
            .expect("MongoDB answers");
        (rooms, messages.try_collect().await.expect("messages"))
    }

    /// Rooms whose post is not live, and messages whose room is not there.
    ///
    /// # Panics
    /// If MongoDB does not answer.
    pub async fn orphans(&self) -> (Vec<Document>, Vec<Document>) {
        let rooms = [
            doc! { "$lookup": { "from": "trade_posts", "localField": "trade_post_id", "foreignField": "_id", "as": "post" } },
            doc! { "$match": { "post.state": { "$ne": "live" } } },
        ];
        let messages = [
            doc! { "$lookup": { "from": "rooms", "localField": "room_id", "foreignField": "_id", "as": "room" } },
            doc! { "$match": { "room": [] } },
        ];
        let rooms = self.store.rooms.aggregate(rooms).await.expect("MongoDB answers");
        let messages = self
            .store
            .messages
            .aggregate(messages)
            .await
            .expect("MongoDB answers");
        let (rooms, messages) = tokio::join!(rooms.try_collect(), messages.try_collect());
        (rooms.expect("rooms"), messages.expect("messages"))
    }

    /// Checks that the members of these rooms, and nobody else, were told that they are closed, each once.
    ///
    /// # Panics
    /// If not, or MongoDB does not answer.
    pub async fn told_once(&self, members_of_closed_rooms: &BTreeSet<(String, i64)>) {
        let told = self
            .store
            .notifications
            .find(doc! { "kind": "room_closed" })
            .await;
        let told: Vec<Notification> = told
            .expect("MongoDB answers")
            .try_collect()
            .await
            .expect("notifications");
        let times = told.len();
        let told: BTreeSet<(String, i64)> = told
            .into_iter()
            .filter_map(|notification| Some((notification.room_id?.to_hex(), notification.member_id)))
            .collect();
        assert_eq!(times, told.len(), "nobody is told twice");
        assert_eq!(
            &told, members_of_closed_rooms,
            "all members of all closed rooms are told"
        );
    }

    /// How many documents a collection has.
    ///
    /// # Panics
    /// If MongoDB does not answer.
    pub async fn count(&self, collection: &str) -> usize {
        let collection = self.store.db.collection::<Document>(collection);
        let count = collection.count_documents(doc! {});
        usize::try_from(count.await.expect("MongoDB answers")).expect("a count")
    }

    /// Everything in a collection, by id.
    ///
    /// # Panics
    /// If MongoDB does not answer.
    pub async fn everything(&self, collection: &str) -> Vec<Document> {
        let collection = self.store.db.collection::<Document>(collection);
        let all = collection.find(doc! {}).sort(doc! { "_id": 1 }).await;
        all.expect("MongoDB answers")
            .try_collect()
            .await
            .expect("documents")
    }
}
