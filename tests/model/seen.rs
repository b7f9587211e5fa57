//! What a round has left: in PostgreSQL, in MongoDB, and in the hands of its members.

use std::collections::{BTreeMap, BTreeSet};

use chat_service::{
    message::Message, notification::Notification, room::Room, store::deletions::Deletion,
    store::posts::TradePost,
};
use e2e::world::World;
use futures_util::TryStreamExt;
use local_stack::client;
use mongodb::{
    Collection,
    bson::{Document, doc, oid::ObjectId},
};
use serde::de::DeserializeOwned;

use crate::{operation::Instance, run::Round};

/// Everything about the posts and members of one round.
#[derive(Debug)]
pub struct Seen {
    pub posts: BTreeMap<i64, TradePost>,
    pub rooms: BTreeMap<String, Room>,
    pub messages: Vec<Message>,
    /// By member, in order.
    pub notifications: BTreeMap<i64, Vec<Notification>>,
    /// The next sequence of each member who has one.
    pub inboxes: BTreeMap<i64, i64>,
    pub deletions: Vec<Deletion>,
    /// What each member's app was told by its event stream, in order.
    pub frames: BTreeMap<i64, Vec<client::Event>>,
    /// The rooms that each member is shown, and the notifications, oldest first.
    pub shown: BTreeMap<i64, (Vec<client::Room>, Vec<client::Notification>)>,
    pub others: Others,
}

/// How much there is that does not belong to the round, and of what should never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Others {
    rooms: u64,
    messages: u64,
    notifications: u64,
    dead_letters: u64,
}

impl Others {
    /// `rooms` are those of the round.
    pub async fn count(world: &World, ids: &[i64], members: &[i64], rooms: &[ObjectId]) -> Self {
        let store = &world.store;
        let not_members = doc! { "$nin": members };
        // Nobody sends system messages.
        let messages = doc! { "sender_id": not_members.clone(), "room_id": { "$nin": rooms } };
        Self {
            rooms: count(&store.rooms, doc! { "trade_post_id": { "$nin": ids } }).await,
            messages: count(&store.messages, messages).await,
            notifications: count(&store.notifications, doc! { "member_id": not_members }).await,
            dead_letters: count(&store.dead_letters, doc! {}).await,
        }
    }
}

impl Seen {
    pub async fn collect(world: &World, round: &Round<'_>) -> Self {
        let store = &world.store;
        let (ids, members) = (round.ids(), round.members());
        let in_ids = doc! { "$in": &ids };
        let in_members = doc! { "$in": &members };
        let posts = all(&store.posts, doc! { "_id": in_ids.clone() }, doc! {}).await;
        let rooms = all(&store.rooms, doc! { "members": in_members.clone() }, doc! {}).await;
        let to_members = doc! { "member_id": in_members.clone() };
        let told = all(
            &store.notifications,
            to_members,
            doc! { "member_id": 1, "seq": 1 },
        );
        let mut notifications: BTreeMap<i64, Vec<Notification>> = BTreeMap::new();
        for notification in told.await {
            notifications
                .entry(notification.member_id)
                .or_default()
                .push(notification);
        }
        let room_ids = rooms_known(round, &rooms, &notifications);
        let in_round = [
            doc! { "sender_id": in_members.clone() },
            doc! { "room_id": { "$in": &room_ids } },
        ];
        let by_seq = doc! { "room_id": 1, "seq": 1 };
        let messages = all(&store.messages, doc! { "$or": in_round.to_vec() }, by_seq).await;
        let inboxes = all(&store.inboxes, doc! { "_id": in_members }, doc! {}).await;
        let inboxes = inboxes.into_iter().map(|inbox: Document| {
            let number = |field| inbox.get_i64(field).expect("a number");
            (number("_id"), number("next_seq"))
        });
        let (mut shown, mut frames) = (BTreeMap::new(), BTreeMap::new());
        for (number, id) in members.iter().enumerate() {
            frames.insert(*id, round.apps[number].read());
            let member = round.client(number, Instance::First);
            let rooms = member.rooms().await.expect("the member's rooms");
            let mut told = member.notifications().await.expect("the member's notifications");
            told.reverse();
            shown.insert(*id, (rooms, told));
        }
        Self {
            posts: posts.into_iter().map(|post| (post.id, post)).collect(),
            rooms: rooms.into_iter().map(|room| (room.id.to_hex(), room)).collect(),
            messages,
            notifications,
            inboxes: inboxes.collect(),
            deletions: all(&store.deletions, doc! { "trade_post_id": in_ids }, doc! {}).await,
            frames,
            shown,
            others: Others::count(world, &ids, &members, &room_ids).await,
        }
    }
}

/// Of the round, those that are gone too.
fn rooms_known(
    round: &Round<'_>,
    rooms: &[Room],
    notifications: &BTreeMap<i64, Vec<Notification>>,
) -> Vec<ObjectId> {
    let there = rooms.iter().map(|room| room.id);
    let told = notifications.values().flatten().filter_map(|told| told.room_id);
    let history = round.history();
    let answered = history.rooms().into_keys().filter_map(|room| room.parse().ok());
    let known: BTreeSet<ObjectId> = there.chain(told).chain(answered).collect();
    known.into_iter().collect()
}

async fn all<T: DeserializeOwned + Send + Sync>(
    collection: &Collection<T>,
    filter: Document,
    order: Document,
) -> Vec<T> {
    let found = collection
        .find(filter)
        .sort(order)
        .await
        .expect("MongoDB answers");
    found.try_collect().await.expect("documents")
}

async fn count<T: Send + Sync>(collection: &Collection<T>, filter: Document) -> u64 {
    collection.count_documents(filter).await.expect("MongoDB answers")
}
