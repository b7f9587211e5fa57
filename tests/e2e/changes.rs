//! A post is reserved and sold, and the members of its rooms hear of it: the whole way from PostgreSQL to the
//! event stream.

use std::collections::BTreeMap;

use e2e::{
    eventually::eventually,
    reader::Reader,
    world::{World, stop},
};
use local_stack::{client::Notification, services};
use serde_json::json;

use crate::{
    BOUND,
    again::{consumed, snapshot},
    chat_about, new_post,
};

const SELLER: i64 = 1;
const FIRST: i64 = 2;
const SECOND: i64 = 3;
const STRANGER: i64 = 4;

/// Room, title and status of each change of a post.
fn changes(seen: Vec<Notification>) -> Vec<(String, String, String)> {
    let seen = seen.into_iter();
    let changed = seen.filter(|notification| notification.kind == "trade_post_changed");
    changed
        .map(|told| (told.room_id, told.title.unwrap(), told.status.unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserved_and_sold_are_told_in_the_room_and_in_the_stream() {
    World::run(async |world| {
        let seller = world.member(SELLER);
        let post = seller.create_post(&new_post("자전거")).await.unwrap().id;
        let other = seller.create_post(&new_post("책상")).await.unwrap().id;
        let rooms = [
            chat_about(world, post, FIRST, 1).await,
            chat_about(world, post, SECOND, 1).await,
        ];
        let elsewhere = chat_about(world, other, STRANGER, 1).await;
        let mut readers = Vec::new();
        for member in [SELLER, FIRST, SECOND, STRANGER] {
            readers.push(Reader::start(&world.member(member)).await);
        }

        // A price is nobody's business; a status is, however it came into the table.
        seller
            .patch_post(post, &json!({ "price": 25_000 }))
            .await
            .unwrap();
        seller.choose_buyer(post, FIRST).await.unwrap();
        seller
            .patch_post(post, &json!({ "title": "로드 자전거" }))
            .await
            .unwrap();
        let sold = "UPDATE trade_posts SET status = 'sold' WHERE id = $1";
        sqlx::query(sold).bind(post).execute(&world.sql).await.unwrap();

        let expected = |room: &String| {
            [
                ("자전거", "reserved"),
                ("로드 자전거", "reserved"),
                ("로드 자전거", "sold"),
            ]
            .map(|(title, status)| (room.clone(), title.to_owned(), status.to_owned()))
            .to_vec()
        };
        for (reader, room) in readers[1..3].iter().zip(&rooms) {
            let told = eventually("a buyer is told of each change", BOUND, async || {
                let told = changes(reader.seen());
                if told.len() >= 3 { Ok(told) } else { Err(told) }
            });
            assert_eq!(told.await, expected(room));
        }
        let mut told = eventually("the seller is told of each change", BOUND, async || {
            let told = changes(readers[0].seen());
            if told.len() >= 6 { Ok(told) } else { Err(told) }
        })
        .await;
        // Of each room in order; the rooms among each other in any.
        told.sort_by_key(|(room, ..)| rooms.iter().position(|known| known == room));
        assert_eq!(told, rooms.iter().flat_map(expected).collect::<Vec<_>>());
        assert_eq!(changes(readers[3].seen()), []);

        for room in &rooms {
            let messages = seller.messages(room).await.unwrap();
            let events: Vec<_> = messages
                .iter()
                .filter_map(|message| message.event.as_deref())
                .collect();
            assert_eq!(events, ["trade_post_reserved", "trade_post_sold"]);
            let system = &messages[1];
            assert_eq!((system.seq, system.kind.as_str()), (2, "system"));
            assert_eq!(
                (system.sender_id, &system.body, &system.client_message_id),
                (None, &None, &None)
            );
        }
        assert_eq!(seller.messages(&elsewhere).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_is_not_told_again_when_the_topic_is_read_again() {
    World::run(async |world| {
        let post = world
            .member(SELLER)
            .create_post(&new_post("자전거"))
            .await
            .unwrap()
            .id;
        let room = chat_about(world, post, FIRST, 1).await;
        let mut expected = Vec::new();
        tell(world, post, &room, "reserved", &mut expected).await;
        tell(world, post, &room, "sold", &mut expected).await;
        consumed(world, &world.name).await;
        let ends = world.topic().end_offsets().await;
        // From the beginning, and so many records before the end.
        for (number, back) in [None, Some(1), Some(2)].into_iter().enumerate() {
            let before = snapshot(world).await;
            stop(&world.chat).await;
            let group = format!("{}_{number}", world.name);
            if let Some(back) = back {
                let earlier = ends
                    .iter()
                    .map(|(partition, end)| (*partition, (end - back).max(0)));
                world
                    .topic()
                    .commit(&group, earlier.collect::<BTreeMap<_, _>>())
                    .await;
            }
            let options = world.chat_options().env("KAFKA_GROUP_ID", &group);
            world.chat = services::spawn_chat(world.stack, options).await.unwrap();
            consumed(world, &group).await;
            assert_eq!(snapshot(world).await, before, "a replay changes nothing");
        }
        tell(world, post, &room, "on_sale", &mut expected).await;
    })
    .await;
}

/// Gives the post that status by SQL, and waits until it is told, once, and said in the room, once.
async fn tell(world: &World, post: i64, room: &str, status: &str, expected: &mut Vec<String>) {
    let update = "UPDATE trade_posts SET status = $2 WHERE id = $1";
    let update = sqlx::query(update).bind(post).bind(status);
    update.execute(&world.sql).await.unwrap();
    expected.push(status.to_owned());
    for member in [SELLER, FIRST] {
        let member = world.member(member);
        let reader = Reader::start(&member).await;
        let told = eventually("the member is told of the status", BOUND, async || {
            let told = changes(reader.seen());
            if told.last().is_some_and(|(.., last)| last == status) {
                Ok(told)
            } else {
                Err(told)
            }
        });
        let told = told.await.into_iter();
        let expected: Vec<_> = expected
            .iter()
            .map(|status| (room.to_owned(), "자전거".to_owned(), status.clone()))
            .collect();
        assert_eq!(told.collect::<Vec<_>>(), expected);
        let events = member.messages(room).await.unwrap().into_iter();
        let events: Vec<String> = events.filter_map(|message| message.event).collect();
        let statuses = expected.iter().map(|(.., status)| format!("trade_post_{status}"));
        assert_eq!(events, statuses.collect::<Vec<_>>());
    }
}
