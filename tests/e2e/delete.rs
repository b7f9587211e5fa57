//! A deleted post takes its chats with it, whoever deletes it, and leaves all others as they were.

use e2e::{eventually::eventually_is, reader::Reader, world::World};
use futures_util::future::join_all;
use local_stack::client::{Client, ClientError, Notification, Room};
use reqwest::StatusCode;

use crate::{BOUND, new_post};

const SELLER: i64 = 1;
const FIRST: i64 = 2;
const SECOND: i64 = 3;
const STRANGER: i64 = 4;
const MESSAGES: u16 = 10;
/// How often the seller, the buyers and the stranger are told that a room is closed.
const TOLD: [usize; 4] = [2, 1, 1, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_deleted_by_its_seller_takes_its_chats_with_it() {
    World::run(async |world| {
        let market = Market::open(world).await;
        market.members[0].delete_post(market.doomed).await.unwrap();
        market.check().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_deleted_by_sql_takes_its_chats_with_it() {
    World::run(async |world| {
        let market = Market::open(world).await;
        let delete = sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(market.doomed);
        assert_eq!(delete.execute(&world.sql).await.unwrap().rows_affected(), 1);
        market.check().await;
    })
    .await;
}

/// One post with two chats that will be deleted, another with a chat of the first buyer that will not.
struct Market<'a> {
    world: &'a World,
    /// Seller, two buyers, a stranger.
    members: [Client; 4],
    readers: Vec<Reader>,
    doomed: i64,
    rooms: [Room; 2],
    other: i64,
    kept: Room,
}

impl<'a> Market<'a> {
    async fn open(world: &'a World) -> Self {
        let members = [SELLER, FIRST, SECOND, STRANGER].map(|id| world.member(id));
        let [seller, first, second, _] = &members;
        let doomed = seller.create_post(&new_post("자전거")).await.unwrap().id;
        let other = seller.create_post(&new_post("헬멧")).await.unwrap().id;
        let rooms = tokio::join!(talk(first, seller, doomed), talk(second, seller, doomed)).into();
        let kept = talk(first, seller, other).await;
        let readers = join_all(members.iter().map(Reader::start)).await;
        Self {
            world,
            members,
            readers,
            doomed,
            rooms,
            other,
            kept,
        }
    }

    async fn check(&self) {
        let [seller, first, _, _] = &self.members;
        eventually_is("room_closed frames read", BOUND, TOLD, async || self.told()).await;
        self.world.erased(1, BOUND).await;
        let deletion = seller.deletions(self.doomed).await.unwrap().remove(0);
        assert_eq!((deletion.rooms, deletion.messages), (2, 2 * i64::from(MESSAGES)));

        self.nothing_is_left_of_it().await;
        self.others_are_untouched().await;
        self.it_is_gone_for_all().await;

        // What comes behind it in the same streams shows that nobody is told a second time.
        first
            .send(&self.kept.id, "afterwards", "헬멧도 파시나요?")
            .await
            .unwrap();
        seller.send(&self.kept.id, "afterwards", "네").await.unwrap();
        eventually_is("messages read behind it", BOUND, [true, true], async || {
            [0, 1].map(|member| {
                self.readers[member]
                    .seen()
                    .last()
                    .is_some_and(|last| last.kind == "message")
            })
        })
        .await;
        self.streams_say_it_once().await;
    }

    fn told(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|member| self.readers[member].closed_rooms().len())
    }

    async fn nothing_is_left_of_it(&self) {
        assert_eq!(self.world.chats(self.doomed).await, (vec![], vec![]));
        assert_eq!(self.world.orphans().await, (vec![], vec![]));
        assert_eq!(
            (
                self.world.count("rooms").await,
                self.world.count("messages").await
            ),
            (1, usize::from(MESSAGES))
        );
    }

    async fn others_are_untouched(&self) {
        let [seller, first, _, _] = &self.members;
        let (rooms, messages) = self.world.chats(self.other).await;
        assert_eq!(
            (rooms[0].id.to_hex(), messages.len()),
            (self.kept.id.clone(), usize::from(MESSAGES))
        );
        for member in [seller, first] {
            assert_eq!(
                member.messages(&self.kept.id).await.unwrap().len(),
                usize::from(MESSAGES)
            );
            let rooms = member.rooms().await.unwrap();
            assert_eq!(
                rooms.iter().map(|room| &room.id).collect::<Vec<_>>(),
                [&self.kept.id]
            );
        }
    }

    async fn it_is_gone_for_all(&self) {
        let [seller, first, second, stranger] = &self.members;
        for (room, buyer) in self.rooms.iter().zip([first, second]) {
            for member in [buyer, seller] {
                gone(member.room(&room.id).await);
                gone(member.messages(&room.id).await);
                gone(member.send(&room.id, "too late", "아직 있나요?").await);
            }
            let refused = stranger.room(&room.id).await.unwrap_err();
            assert_eq!(refused.status(), Some(StatusCode::NOT_FOUND), "{refused}");
            let refused = buyer.open_room(self.doomed).await.unwrap_err();
            assert_eq!(refused.status(), Some(StatusCode::GONE), "{refused}");
            assert_eq!(refused.code(), Some("trade-post-deleted"), "{refused}");
        }
        let refused = first.post(self.doomed).await.unwrap_err();
        assert_eq!(refused.status(), Some(StatusCode::NOT_FOUND), "{refused}");
    }

    async fn streams_say_it_once(&self) {
        assert_eq!(self.told(), TOLD);
        for (buyer, room) in [1, 2].into_iter().zip(&self.rooms) {
            let told = self.readers[buyer]
                .seen()
                .into_iter()
                .find(|told| told.kind == "room_closed")
                .unwrap();
            assert_eq!((&told.room_id, told.trade_post_id), (&room.id, self.doomed));
            assert_eq!(told.reason.as_deref(), Some("trade_post_deleted"));
        }
        let short = |told: Notification| (told.seq, told.kind, told.room_id);
        for (reader, member) in self.readers.iter().zip(&self.members) {
            let listed = member.notifications().await.unwrap().into_iter().rev().map(short);
            let read = reader.seen().into_iter().map(short);
            assert_eq!(
                listed.collect::<Vec<_>>(),
                read.collect::<Vec<_>>(),
                "list and stream say the same"
            );
        }
    }
}

/// A room about the post, with some messages in both directions.
async fn talk(buyer: &Client, seller: &Client, post: i64) -> Room {
    let room = buyer.open_room(post).await.unwrap();
    for number in 0..MESSAGES {
        let sender = if number % 2 == 0 { buyer } else { seller };
        sender
            .send(&room.id, &number.to_string(), "안녕하세요, 아직 있나요?")
            .await
            .unwrap();
    }
    room
}

#[track_caller]
fn gone<T: std::fmt::Debug>(answer: Result<T, ClientError>) {
    let refused = answer.unwrap_err();
    assert_eq!(
        (refused.status(), refused.code()),
        (Some(StatusCode::GONE), Some("room-closed")),
        "{refused}"
    );
    let ClientError::Refused { problem, .. } = refused else {
        unreachable!()
    };
    assert_eq!(problem["reason"], "trade_post_deleted");
}
