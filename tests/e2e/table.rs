//! What only an operator does to the table: emptying it, and giving a row another id.

use std::collections::BTreeSet;

use e2e::{
    eventually::{eventually, eventually_is},
    reader::Reader,
    world::World,
};
use reqwest::StatusCode;

use crate::{BOUND, chat_about, insert_posts};

const SELLER: i64 = 1;
const BUYER: i64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_table_takes_all_chats_with_it_and_none_of_later_posts() {
    World::run(async |world| {
        let posts = insert_posts(world, SELLER, 10, "doomed").await;
        world.known(&posts, BOUND).await;
        let mut members = BTreeSet::new();
        for post in &posts {
            let room = chat_about(world, *post, BUYER, 2).await;
            members.extend([SELLER, BUYER].map(|member| (room.clone(), member)));
        }
        // In one transaction: the later post's record can be read before that of the truncate.
        let mut transaction = world.sql.begin().await.unwrap();
        sqlx::query("TRUNCATE trade_posts CASCADE")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category) VALUES ($1, '나중', '', 1, 'c') RETURNING id";
        let later = sqlx::query_scalar(insert).bind(SELLER);
        let later: i64 = later.fetch_one(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();

        world.erased(posts.len() as u64, BOUND).await;
        world.known(&[later], BOUND).await;
        chat_about(world, later, BUYER, 2).await;
        assert_eq!(world.orphans().await, (vec![], vec![]));
        assert_eq!((world.count("rooms").await, world.count("messages").await), (1, 2));
        world.told_once(&members).await;
        let refused = world.member(BUYER).open_room(posts[0]).await.unwrap_err();
        assert_eq!(refused.status(), Some(StatusCode::GONE), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_follow_a_post_whose_id_was_changed() {
    World::run(async |world| {
        let (old, new) = (insert_posts(world, SELLER, 1, "moved").await[0], 77_778);
        world.known(&[old], BOUND).await;
        let room = chat_about(world, old, BUYER, 3).await;
        let buyer = world.member(BUYER);
        let reader = Reader::start(&buyer).await;
        let change = sqlx::query("UPDATE trade_posts SET id = $2 WHERE id = $1");
        change.bind(old).bind(new).execute(&world.sql).await.unwrap();
        eventually_is("the post of the room", BOUND, new, async || {
            buyer.room(&room).await.unwrap().trade_post.id
        })
        .await;
        buyer
            .send(&room, "after the change", "아직 있나요?")
            .await
            .unwrap();
        assert_eq!(buyer.messages(&room).await.unwrap().len(), 4);
        assert_eq!(world.orphans().await, (vec![], vec![]));
        assert_eq!(reader.closed_rooms(), Vec::<String>::new());

        // From here on it lives and dies with the new id.
        world.member(SELLER).delete_post(new).await.unwrap();
        world.erased(1, BOUND).await;
        world
            .told_once(&[SELLER, BUYER].map(|member| (room.clone(), member)).into())
            .await;
        eventually("the frame is read", BOUND, async || {
            let closed = reader.closed_rooms();
            if closed == [room.clone()] {
                Ok(())
            } else {
                Err(closed)
            }
        })
        .await;
        assert_eq!(
            (world.count("rooms").await, world.count("messages").await),
            (0, 0)
        );
    })
    .await;
}
