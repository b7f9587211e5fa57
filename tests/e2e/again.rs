//! A post that is created again under its old id, and a topic that is read again from its beginning.

use e2e::{
    eventually::eventually,
    topic::Topic,
    world::{World, stop},
};
use local_stack::services;
use reqwest::StatusCode;

use crate::{BOUND, chat_about, new_post};

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const OTHER_BUYER: i64 = 3;
/// Of what a replay could change.
const COLLECTIONS: [&str; 6] = [
    "rooms",
    "messages",
    "notifications",
    "inboxes",
    "deletions",
    "dead_letters",
];

async fn insert_again(world: &World, post: i64) {
    let insert = "INSERT INTO trade_posts (id, seller_id, title, body, price, category) VALUES ($1, $2, '다시', '', 1, 'c')";
    sqlx::query(insert)
        .bind(post)
        .bind(SELLER)
        .execute(&world.sql)
        .await
        .unwrap();
}

async fn delete(world: &World, post: i64) {
    sqlx::query("DELETE FROM trade_posts WHERE id = $1")
        .bind(post)
        .execute(&world.sql)
        .await
        .unwrap();
}

/// Waits until the group has consumed all there is.
pub async fn consumed(world: &World, group: &str) {
    has_passed(&world.topic(), group).await;
}

/// Waits until the group has committed the topic's end, which may still move.
pub async fn has_passed(topic: &Topic, group: &str) {
    eventually("the group is at the end", BOUND, async || {
        let (committed, ends) = (topic.committed(group).await, topic.end_offsets().await);
        if committed == ends {
            Ok(())
        } else {
            Err((committed, ends))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_created_again_keeps_its_new_rooms_also_when_the_topic_is_read_again() {
    World::run(async |world| {
        let seller = world.member(SELLER);
        let post = seller.create_post(&new_post("자전거")).await.unwrap().id;
        let old = chat_about(world, post, BUYER, 3).await;
        delete(world, post).await;
        world.erased(1, BOUND).await;
        insert_again(world, post).await;
        world.known(&[post], BOUND).await;
        let new = chat_about(world, post, BUYER, 3).await;
        assert_ne!(old, new);
        assert_eq!(
            world.member(BUYER).room(&old).await.unwrap_err().status(),
            Some(StatusCode::GONE)
        );

        // Deleted and created again while nobody looks: the consumer meets both in one batch.
        let quick = seller.create_post(&new_post("헬멧")).await.unwrap().id;
        let lost = chat_about(world, quick, BUYER, 3).await;
        stop(&world.chat).await;
        delete(world, quick).await;
        insert_again(world, quick).await;
        world.chat.server.restart().await.unwrap();
        world.erased(2, BOUND).await;
        let kept = chat_about(world, quick, OTHER_BUYER, 3).await;
        assert_eq!(
            world.member(BUYER).room(&lost).await.unwrap_err().status(),
            Some(StatusCode::GONE)
        );

        // And one that stays deleted, so that the replay ends with a fence.
        let gone = seller.create_post(&new_post("장갑")).await.unwrap().id;
        chat_about(world, gone, BUYER, 3).await;
        seller.delete_post(gone).await.unwrap();
        world.erased(3, BOUND).await;
        consumed(world, &world.name).await;

        let before = snapshot(world).await;
        stop(&world.chat).await;
        let group = format!("{}_replay", world.name);
        let options = world.chat_options().env("KAFKA_GROUP_ID", &group);
        world.chat = services::spawn_chat(world.stack, options).await.unwrap();
        consumed(world, &group).await;
        assert_eq!(snapshot(world).await, before, "a replay changes nothing");

        for (buyer, room) in [(BUYER, new), (OTHER_BUYER, kept)] {
            let app = world.member(buyer);
            assert_eq!(app.messages(&room).await.unwrap().len(), 3);
            app.send(&room, "after the replay", "아직 있나요?").await.unwrap();
        }
        let refused = world.member(OTHER_BUYER).open_room(gone).await.unwrap_err();
        assert_eq!(refused.status(), Some(StatusCode::GONE), "{refused}");
    })
    .await;
}

/// All that a replay could change.
pub async fn snapshot(world: &World) -> Vec<(&'static str, Vec<mongodb::bson::Document>)> {
    let mut all = Vec::new();
    for collection in COLLECTIONS {
        all.push((collection, world.everything(collection).await));
    }
    all
}
