//! A member is erased while chat-service is killed.

use e2e::{
    eventually::eventually,
    world::{World, stop},
};
use futures_util::{StreamExt, stream};
use local_stack::{client::Client, services};
use mongodb::bson::doc;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{BOUND, alone};

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const POSTS: i64 = 20;
const MESSAGES: u32 = 20;
const SAID: i64 = POSTS * MESSAGES as i64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_an_erasure_it_is_finished_and_counted_once() {
    let _alone = alone().await;
    World::run(async |world| {
        // One message at a time, so that there is a middle to be killed in.
        stop(&world.chat).await;
        let options = world.chat_options().env("ERASE_CHUNK", "1");
        world.chat = services::spawn_chat(world.stack, options).await.unwrap();
        let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                      SELECT $1, '글 ' || n, '본문', n, '기타' FROM generate_series(1, $2) n RETURNING id";
        let insert = sqlx::query_scalar(insert).bind(SELLER).bind(POSTS);
        let posts: Vec<i64> = insert.fetch_all(&world.sql).await.unwrap();
        world.known(&posts, BOUND).await;
        let buyer = world.member(BUYER);
        let rooms: Vec<String> = stream::iter(posts)
            .map(async |post| chat_about(&buyer, post).await)
            .buffer_unordered(4)
            .collect()
            .await;
        let seller = world.member(SELLER);
        for room in &rooms {
            seller.send(room, "answer", "네, 있어요").await.unwrap();
        }

        let asked = erasure(&seller, Method::DELETE, "").await.unwrap();
        assert_eq!(asked["state"], "pending");
        let at_kill = eventually("the erasure is under way", BOUND, async || {
            let standing = erasure(&seller, Method::GET, "/erasure").await.unwrap();
            let erased = standing["messages"].as_i64().unwrap();
            if erased > SAID / 4 {
                Ok(erased)
            } else {
                Err(standing)
            }
        })
        .await;
        world.chat.server.kill().unwrap();
        world.end_transactions().await;
        println!("killed when {at_kill} of {SAID} messages were erased");
        let texts = doc! { "sender_id": BUYER, "kind": "text" };
        let left = world.store.messages.count_documents(texts.clone()).await.unwrap();
        assert!(left > 0, "this was not the middle");
        world.chat.server.restart().await.unwrap();

        let done = eventually("the member is erased", BOUND, async || {
            let standing = erasure(&seller, Method::GET, "/erasure").await;
            let standing = standing.ok_or(Value::Null)?;
            if standing["state"] == "done" {
                Ok(standing)
            } else {
                Err(standing)
            }
        })
        .await;
        assert_eq!((&done["rooms"], &done["messages"]), (&POSTS.into(), &SAID.into()));
        assert_eq!(world.store.messages.count_documents(texts).await.unwrap(), 0);
        assert!(buyer.rooms().await.unwrap().is_empty());
        assert!(buyer.notifications().await.unwrap().is_empty());
        for room in &rooms {
            let messages = seller.messages(room).await.unwrap();
            let (theirs, own): (Vec<_>, Vec<_>) = messages
                .iter()
                .partition(|message| message.sender_id == Some(BUYER));
            assert_eq!((theirs.len(), own.len()), (MESSAGES as usize, 1));
            assert!(
                theirs
                    .iter()
                    .all(|message| message.kind == "erased" && message.body.is_none())
            );
        }
    })
    .await;
}

/// Opens the buyer's room about the post and says what there is to say. Answers the room's id.
async fn chat_about(buyer: &Client, post: i64) -> String {
    let room = buyer.open_room(post).await.unwrap().id;
    for number in 0..MESSAGES {
        let id = number.to_string();
        buyer.send(&room, &id, "안녕하세요, 아직 있나요?").await.unwrap();
    }
    room
}

/// None where the service does not answer.
async fn erasure(operator: &Client, method: Method, rest: &str) -> Option<Value> {
    let path = format!("/admin/v1/members/{BUYER}{rest}");
    let answer = operator.chat_admin(method, &path).send().await.ok()?;
    assert!(
        [StatusCode::OK, StatusCode::ACCEPTED].contains(&answer.status()),
        "{answer:?}"
    );
    answer.json().await.ok()
}
