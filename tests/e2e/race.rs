//! Messages are sent and rooms are opened while their post is deleted.
//!
//! Each round does both from before the delete until it is refused, so its last accepted request and its
//! first refused one lie on either side of the fence.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use e2e::world::World;
use futures_util::{StreamExt, TryStreamExt, stream};
use local_stack::client::{ClientError, Message, Room};
use mongodb::bson::doc;
use rand::random_range;
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::{BOUND, chat_about, insert_posts};

const SELLERS: i64 = 50;
const POSTS_EACH: i64 = 10;
const ROUNDS: usize = 500;
const AT_ONCE: usize = 6;
const FIRST_BUYER: i64 = 1_000;
/// What is still accepted by then has slipped past the fence.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// What was accepted in a round, beside the room with one message that was there before.
struct Round {
    seller: i64,
    room: String,
    opened: Vec<Room>,
    sent: Vec<Message>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_or_opened_in_a_race_with_the_delete_is_erased_or_refused() {
    World::run(async |world| {
        let mut posts = Vec::new();
        for seller in 1..=SELLERS {
            let own = insert_posts(world, seller, POSTS_EACH, "raced").await;
            posts.extend(own.into_iter().map(|post| (post, seller)));
        }
        world
            .known(&posts.iter().map(|(post, _)| *post).collect::<Vec<_>>(), BOUND)
            .await;
        let start = Instant::now();
        let rounds: Vec<Round> = stream::iter(posts)
            .map(async |(post, seller)| round(world, post, seller).await)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        assert_eq!(rounds.len(), ROUNDS);
        let opened: usize = rounds.iter().map(|round| round.opened.len()).sum();
        let sent: usize = rounds.iter().map(|round| round.sent.len()).sum();
        println!(
            "{ROUNDS} rounds in {:?}: {opened} rooms and {sent} messages were accepted",
            start.elapsed()
        );
        assert!(opened > 0 && sent > 0, "some came before the delete");

        world.erased(rounds.len() as u64, BOUND).await;
        assert_eq!(
            (world.count("rooms").await, world.count("messages").await),
            (0, 0)
        );
        let members = |round: &Round| {
            let opened = round.opened.iter().map(|room| (room.id.clone(), room.buyer_id));
            let rooms = opened.chain([(round.room.clone(), FIRST_BUYER)]);
            let seller = round.seller;
            rooms
                .flat_map(move |(room, buyer)| [(room.clone(), buyer), (room, seller)])
                .collect::<Vec<_>>()
        };
        world
            .told_once(&rounds.iter().flat_map(members).collect::<BTreeSet<_>>())
            .await;
        let deletions = world.store.deletions.find(doc! {}).await.unwrap();
        let erased = deletions
            .try_fold(0, async |sum, deletion| Ok(sum + deletion.messages))
            .await
            .unwrap();
        assert_eq!(
            usize::try_from(erased).unwrap(),
            sent + ROUNDS,
            "every accepted message was there to be erased"
        );
    })
    .await;
}

async fn round(world: &World, post: i64, seller: i64) -> Round {
    let room = chat_about(world, post, FIRST_BUYER, 1).await;
    let owner = world.member(seller);
    let delete = async {
        // At any point of the two loops.
        sleep(Duration::from_micros(random_range(0..30_000))).await;
        owner.delete_post(post).await.unwrap();
    };
    let sender = world.member(FIRST_BUYER);
    let sending = until_gone(async |number| {
        sender
            .send(&room, &format!("race {number}"), "아직 있나요?")
            .await
    });
    let opening =
        until_gone(async |number| world.member(FIRST_BUYER + 1 + number).open_room_once(post).await);
    let ((), sent, opened) = tokio::join!(delete, sending, opening);
    Round {
        seller,
        room,
        opened,
        sent,
    }
}

/// Repeats the request until it is answered 410, and answers what was accepted before.
async fn until_gone<T>(request: impl AsyncFn(i64) -> Result<T, ClientError>) -> Vec<T> {
    let deadline = Instant::now() + REFUSED_WITHIN;
    let mut accepted = Vec::new();
    for number in 0.. {
        assert!(
            Instant::now() < deadline,
            "still accepted after {REFUSED_WITHIN:?}"
        );
        match request(number).await {
            Ok(answer) => accepted.push(answer),
            Err(refused) => {
                assert_eq!(refused.status(), Some(StatusCode::GONE), "{refused}");
                break;
            }
        }
        // Another distance to the delete in every round.
        sleep(Duration::from_micros(random_range(0..20_000))).await;
    }
    accepted
}
