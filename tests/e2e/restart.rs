//! chat-service is killed in the middle of its work and started again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use e2e::{chats::Deletions, eventually::eventually, reader::Reader, world::World};
use futures_util::{StreamExt, future::join_all, stream};

use crate::{BOUND, chat_about, insert_posts};

const SELLERS: i64 = 5;
const POSTS_EACH: i64 = 100;
const POSTS: u64 = 500;
const BUYER: i64 = 100;
/// The group has to notice the death of a member, an eraser's lease has to run out, and the database has to
/// give up the transactions that were open.
const RECOVERY_BOUND: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_five_hundred_deletes_it_loses_nothing_and_tells_once() {
    World::run_apart(async |world| {
        let mut posts = Vec::new();
        for seller in 1..=SELLERS {
            posts.extend(insert_posts(world, seller, POSTS_EACH, "doomed").await);
        }
        world.known(&posts, BOUND).await;
        let rooms: BTreeMap<i64, String> = stream::iter(posts)
            .map(async |post| (post, chat_about(world, post, BUYER + post, 2).await))
            .buffer_unordered(8)
            .collect()
            .await;
        let readers =
            join_all((1..=SELLERS).map(async |seller| Reader::start(&world.member(seller)).await)).await;

        for deleted_at_kill in [150, 350] {
            tokio::join!(
                delete_up_to(world, deleted_at_kill + 50),
                kill_after(world, deleted_at_kill - 100)
            );
            world.chat.server.restart().await.unwrap();
        }
        delete_up_to(world, POSTS).await;

        world.erased(POSTS, RECOVERY_BOUND).await;
        assert_eq!(
            (world.count("rooms").await, world.count("messages").await),
            (0, 0)
        );
        // Posts were inserted seller by seller.
        let members = rooms.iter().zip(0..).flat_map(|((post, room), place)| {
            [BUYER + post, 1 + place / POSTS_EACH].map(|member| (room.clone(), member))
        });
        world.told_once(&members.collect()).await;
        let read = eventually("all frames are read", RECOVERY_BOUND, async || {
            let read: Vec<String> = readers.iter().flat_map(Reader::closed_rooms).collect();
            if read.len() >= rooms.len() {
                Ok(read)
            } else {
                Err(read.len())
            }
        })
        .await;
        assert_eq!(read.len(), rooms.len(), "each once");
        assert_eq!(
            read.into_iter().collect::<BTreeSet<_>>(),
            rooms.into_values().collect()
        );
    })
    .await;
}

/// Deletes posts one by one until that many are gone.
async fn delete_up_to(world: &World, gone: u64) {
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM trade_posts")
            .fetch_one(&world.sql)
            .await
            .unwrap();
        if POSTS - left.unsigned_abs() >= gone {
            return;
        }
        sqlx::query("DELETE FROM trade_posts WHERE id = (SELECT min(id) FROM trade_posts)")
            .execute(&world.sql)
            .await
            .unwrap();
    }
}

/// Kills chat-service as soon as it has closed the chats of that many posts.
async fn kill_after(world: &World, posts: u64) {
    let at_work = eventually("chat-service is at work", RECOVERY_BOUND, async || {
        let Deletions { done, unfinished } = world.deletions().await;
        if done + unfinished > posts {
            Ok(done + unfinished)
        } else {
            Err(done + unfinished)
        }
    })
    .await;
    world.chat.server.kill().unwrap();
    let found = world.deletions().await;
    println!("killed when {at_work} of {POSTS} posts were closed; left behind: {found:?}");
    assert!(
        found.done + found.unfinished < POSTS,
        "this was not the middle: {found:?}"
    );
}
