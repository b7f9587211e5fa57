//! What chat-service knows of posts: nothing before the capture has brought them, then what the row says.

use std::time::Duration;

use e2e::{eventually::eventually, world::World};
use local_stack::client::ClientError;
use reqwest::StatusCode;
use serde_json::json;

use crate::{BOUND, chat_about, new_post};

const SELLER: i64 = 1;
const BUYER: i64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_refused_until_the_post_is_captured_and_opened_then() {
    World::run(async |world| {
        let buyer = world.member(BUYER);
        let post = 4_711;
        let refused = buyer.open_room_once(post).await.unwrap_err();
        let ClientError::Refused { status, retry_after, problem, .. } = refused else { panic!("{refused}") };
        assert_eq!((status, retry_after), (StatusCode::NOT_FOUND, Some(Duration::from_secs(1))));
        assert_eq!(problem["type"], "urn:marketplace:problem:not-found");

        let insert = "INSERT INTO trade_posts (id, seller_id, title, body, price, category) VALUES ($1, $2, '책상', '', 1, 'c')";
        sqlx::query(insert).bind(post).bind(SELLER).execute(&world.sql).await.unwrap();
        let body = json!({ "trade_post_id": post });
        eventually("the room is opened", BOUND, async || {
            let answer = buyer.chat(reqwest::Method::POST, "/v1/rooms").json(&body).send().await.unwrap();
            match answer.status() {
                StatusCode::CREATED => Ok(()),
                // Never any other refusal in between.
                StatusCode::NOT_FOUND if answer.headers().contains_key("retry-after") => Err(answer.status()),
                other => panic!("{other}"),
            }
        })
        .await;
        let rooms = world.member(SELLER).rooms_of_post(post).await.unwrap();
        assert_eq!(rooms.iter().map(|room| room.buyer_id).collect::<Vec<_>>(), [BUYER]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_show_title_and_status_of_their_post_as_they_become() {
    World::run(async |world| {
        let seller = world.member(SELLER);
        let post = seller.create_post(&new_post("자전거")).await.unwrap().id;
        let room = chat_about(world, post, BUYER, 1).await;
        let buyer = world.member(BUYER);
        for (changes, title, status) in [
            (Some(json!({ "price": 25_000 })), "자전거", "on_sale"),
            (None, "자전거", "reserved"),
            (
                Some(json!({ "title": "로드 자전거", "status": "sold" })),
                "로드 자전거",
                "sold",
            ),
        ] {
            match changes {
                Some(changes) => seller.patch_post(post, &changes).await,
                None => seller.choose_buyer(post, BUYER).await,
            }
            .unwrap();
            eventually("the room shows the change", BOUND, async || {
                let shown = buyer.room(&room).await.unwrap().trade_post;
                if (shown.title.as_deref(), shown.status.as_deref()) == (Some(title), Some(status)) {
                    Ok(())
                } else {
                    Err(shown)
                }
            })
            .await;
        }
        // A sold post keeps its chats: buyer and seller still have to meet.
        buyer.send(&room, "sold", "내일 어디서 만날까요?").await.unwrap();
        let messages = seller.messages(&room).await.unwrap();
        let kinds: Vec<&str> = messages.iter().map(|message| message.kind.as_str()).collect();
        assert_eq!(kinds, ["text", "system", "system", "text"]);
    })
    .await;
}
