//! The marketplace that faults happen to: who sells what, who chats about it, and what has to be left of it
//! once all posts but some are deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chat_service::{
    room::Room,
    store::{messages::Outgoing, now, posts::TradePost},
};
use e2e::{reader::Reader, world::World};
use futures_util::TryStreamExt;
use local_stack::{capture::Capture, client::Client};
use mongodb::bson::{Document, doc, oid::ObjectId};

use crate::BOUND;

/// Each of them sells, and buys from all others.
pub const MEMBERS: i64 = 20;
const POSTS: i64 = 2_200;
/// One post in so many is not deleted.
const KEPT: i64 = 11;
/// Posts that are deleted.
pub const DOOMED: u64 = 2_000;

#[derive(Clone, Copy, Debug)]
pub struct Post {
    pub id: i64,
    pub seller: i64,
}

pub struct Market {
    pub doomed: Vec<Post>,
    /// The members of the rooms about them, by room.
    closing: BTreeMap<String, [i64; 2]>,
    /// Everything about the others.
    kept: Chats,
}

#[derive(Debug, PartialEq)]
struct Chats {
    posts: Vec<Document>,
    rooms: Vec<Document>,
    messages: Vec<Document>,
}

impl Market {
    /// Posts, a room about each and one to three messages in each room.
    pub async fn open(world: &mut World) -> Self {
        let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                      SELECT 1 + n % $1, '글 ' || n, '본문', n, '기타' FROM generate_series(0, $2 - 1) n
                      RETURNING id, seller_id, price";
        let posts: Vec<(i64, i64, i64)> = sqlx::query_as(insert)
            .bind(MEMBERS)
            .bind(POSTS)
            .fetch_all(&world.sql)
            .await
            .unwrap();
        world.capture(Capture::of_database(&world.name)).await;
        let ids: Vec<i64> = posts.iter().map(|(id, ..)| *id).collect();
        world.known(&ids, BOUND).await;
        let known = known(world).await;

        let (mut rooms, mut outgoing, mut doomed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut closing, mut kept) = (BTreeMap::new(), BTreeSet::new());
        for (id, seller, n) in posts {
            let members = [seller, buyer(seller, n)];
            let post = &known[&id];
            let room = Room::new((id, post.generation), members, post.look().unwrap(), now());
            outgoing.extend((0..=n % 3).map(|number| Outgoing {
                room_id: room.id,
                sender_id: members[usize::from(number % 2 == 0)],
                client_message_id: number.to_string(),
                body: format!("아직 있나요? {number}"),
            }));
            if n % KEPT == 0 {
                kept.insert(id);
            } else {
                doomed.push(Post { id, seller });
                closing.insert(room.id.to_hex(), members);
            }
            rooms.push(room);
        }
        // At once, as chat-service leaves them: opening each would take longer than the rest of a test.
        world.store.rooms.insert_many(&rooms).await.unwrap();
        for together in outgoing.chunks(200) {
            world.store.send(together, now()).await.unwrap();
        }
        let kept = Chats::about(world, &kept).await;
        assert_eq!(kept.rooms.len() as u64 + DOOMED, rooms.len() as u64);
        Self {
            doomed,
            closing,
            kept,
        }
    }

    /// Checks that nothing is left of the deleted posts, that everything else is as it was, and that each
    /// member was told once of each closed room, in MongoDB and by its stream.
    pub async fn check(&self, world: &World, readers: &BTreeMap<i64, Reader>) {
        assert_eq!(world.orphans().await, (vec![], vec![]));
        assert_eq!(
            Chats::all(world).await,
            self.kept,
            "what was not deleted is as it was"
        );
        assert_eq!(world.count("dead_letters").await, 0);
        let told = self.closing.iter();
        let told = told.flat_map(|(room, members)| members.map(|member| (room.clone(), member)));
        world.told_once(&told.collect()).await;
        for (member, reader) in readers {
            // Also that its sequence has no gap.
            let read = reader.closed_rooms();
            let rooms: BTreeSet<&String> = read.iter().collect();
            assert_eq!(rooms.len(), read.len(), "member {member} read each of them once");
            let expected: BTreeSet<&String> = self.closing_rooms(*member).collect();
            assert_eq!(rooms, expected, "member {member}");
        }
    }

    /// How many frames these members are to read about closed rooms.
    pub fn frames(&self, members: impl Iterator<Item = i64>) -> usize {
        members.map(|member| self.closing_rooms(member).count()).sum()
    }

    /// Checks that chats about other posts go on.
    pub async fn goes_on(&self, member: &Client) {
        let rooms = member.rooms().await.unwrap();
        let sent = member.send(&rooms[0].id, "afterwards", "아직 있어요.").await;
        let sent = sent.unwrap();
        let last = member.messages(&rooms[0].id).await.unwrap().pop();
        assert_eq!(last, Some(sent));
    }

    fn closing_rooms(&self, member: i64) -> impl Iterator<Item = &String> {
        let rooms = self.closing.iter();
        rooms.filter_map(move |(room, members)| members.contains(&member).then_some(room))
    }
}

impl Chats {
    async fn all(world: &World) -> Self {
        let live: Vec<Document> = world.everything("trade_posts").await;
        Self {
            posts: live
                .into_iter()
                .filter(|post| post.get_str("state").is_ok_and(|state| state == "live"))
                .collect(),
            rooms: world.everything("rooms").await,
            messages: world.everything("messages").await,
        }
    }

    async fn about(world: &World, posts: &BTreeSet<i64>) -> Self {
        let Self {
            posts: mut live,
            mut rooms,
            mut messages,
        } = Self::all(world).await;
        live.retain(|post| posts.contains(&post.get_i64("_id").unwrap()));
        rooms.retain(|room| posts.contains(&room.get_i64("trade_post_id").unwrap()));
        let ids: BTreeSet<ObjectId> = rooms
            .iter()
            .map(|room| room.get_object_id("_id").unwrap())
            .collect();
        messages.retain(|message| ids.contains(&message.get_object_id("room_id").unwrap()));
        Self {
            posts: live,
            rooms,
            messages,
        }
    }
}

/// Somebody else, a different one for each of the seller's posts in turn.
fn buyer(seller: i64, n: i64) -> i64 {
    1 + (seller + (n / MEMBERS) % (MEMBERS - 1)) % MEMBERS
}

async fn known(world: &World) -> HashMap<i64, TradePost> {
    let posts = world.store.posts.find(doc! {}).await.unwrap();
    let posts: Vec<TradePost> = posts.try_collect().await.unwrap();
    posts.into_iter().map(|post| (post.id, post)).collect()
}
