//! Thousands of posts deleted by one statement: all of their chats go, everything else stays, everybody is
//! told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use chat_service::{message::Message, room::Room};
use e2e::{eventually::eventually_is, reader::Reader, world::World};
use futures_util::{StreamExt, stream};
use mongodb::bson::doc;

use crate::{chat_about, insert_posts};

const DOOMED: i64 = 5_000;
const KEPT: i64 = 500;
/// One in so many posts is chatted about.
const CHATTED: usize = 20;
const MESSAGES: u32 = 3;
const SELLER: i64 = 1;
const BOUND: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_posts_deleted_by_one_statement_take_their_chats_with_them() {
    World::run(async |world| {
        let doomed = insert_posts(world, SELLER, DOOMED, "doomed").await;
        let kept = insert_posts(world, SELLER + 1, KEPT, "kept").await;
        let all: Vec<i64> = doomed.iter().chain(&kept).copied().collect();
        world.known(&all, BOUND).await;
        let start = Instant::now();
        let rooms: BTreeMap<i64, String> = stream::iter(all.into_iter().step_by(CHATTED))
            .map(async |post| (post, chat_about(world, post, buyer(post), MESSAGES).await))
            .buffer_unordered(8)
            .collect()
            .await;
        println!(
            "{} rooms with {MESSAGES} messages each in {:?}",
            rooms.len(),
            start.elapsed()
        );
        let others = chats(world, &kept).await;
        let reader = Reader::start(&world.member(SELLER)).await;
        let closed: BTreeMap<i64, String> = rooms
            .into_iter()
            .filter(|(post, _)| doomed.contains(post))
            .collect();

        let start = Instant::now();
        let delete = sqlx::query("DELETE FROM trade_posts WHERE category = 'doomed'").execute(&world.sql);
        assert_eq!(delete.await.unwrap().rows_affected(), doomed.len() as u64);
        println!("{DOOMED} posts deleted in {:?}", start.elapsed());
        eventually_is("posts fenced", BOUND, doomed.len() as u64, async || {
            world
                .store
                .posts
                .count_documents(doc! { "state": "deleted" })
                .await
                .unwrap()
        })
        .await;
        println!("all of them fenced after {:?}", start.elapsed());
        eventually_is("frames read by the seller", BOUND, closed.len(), async || {
            reader.closed_rooms().len()
        })
        .await;
        println!("all frames read after {:?}", start.elapsed());
        world.erased(closed.len() as u64, BOUND).await;
        println!("all chats erased after {:?}", start.elapsed());

        assert_eq!(world.orphans().await, (vec![], vec![]));
        assert_eq!(
            chats(world, &kept).await,
            others,
            "all other chats are as they were"
        );
        assert_eq!(
            (world.count("rooms").await, world.count("messages").await),
            (others.0.len(), others.1.len())
        );
        let members =
            |(post, room): (&i64, &String)| [SELLER, buyer(*post)].map(|member| (room.clone(), member));
        world.told_once(&closed.iter().flat_map(members).collect()).await;
        let read = reader.closed_rooms();
        assert_eq!(read.len(), closed.len(), "each frame once");
        assert_eq!(
            read.into_iter().collect::<BTreeSet<_>>(),
            closed.into_values().collect()
        );
    })
    .await;
}

fn buyer(post: i64) -> i64 {
    100 + post % 7
}

/// The rooms and messages about those of the posts that are chatted about.
async fn chats(world: &World, posts: &[i64]) -> (Vec<Room>, Vec<Message>) {
    let (mut rooms, mut messages) = (Vec::new(), Vec::new());
    for post in posts.iter().step_by(CHATTED) {
        let chats = world.chats(*post).await;
        rooms.extend(chats.0);
        messages.extend(chats.1);
    }
    let expected = posts.len() / CHATTED;
    assert_eq!(
        (rooms.len(), messages.len()),
        (expected, expected * MESSAGES as usize)
    );
    (rooms, messages)
}
