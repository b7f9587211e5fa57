//! Opening and listing rooms.

use serde_json::json;

use crate::chat::{BUYER, Chat, SELLER, STRANGER, delete};

#[tokio::test]
async fn a_buyer_opens_one_room_per_post() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let opened = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await;
    assert_eq!(opened.status, 201);
    let id = opened.body["id"].as_str().unwrap();
    assert_eq!(opened.headers["location"], format!("/v1/rooms/{id}"));
    assert_eq!(
        opened.body["trade_post"],
        json!({ "id": 10, "title": "자전거 팔아요", "status": "on_sale" })
    );
    assert_eq!(
        (&opened.body["seller_id"], &opened.body["buyer_id"]),
        (&json!(SELLER), &json!(BUYER))
    );

    let again = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await;
    assert_eq!(
        (again.status.as_u16(), &again.body["id"]),
        (200, &opened.body["id"])
    );
    assert_ne!(
        chat.room_of(10, STRANGER).await,
        id,
        "another buyer has a room of their own"
    );
}

#[tokio::test]
async fn requests_at_once_open_one_room() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let rooms = futures_util::future::join_all((0..20).map(|_| chat.room(10))).await;
    assert!(rooms.iter().all(|room| *room == rooms[0]), "{rooms:?}");
}

#[tokio::test]
async fn a_post_that_is_not_there_refuses() {
    let chat = Chat::start().await;
    let unknown = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await;
    unknown.refused(404, "not-found");
    assert_eq!(unknown.headers["retry-after"], "1");

    chat.on_sale(10, 100).await;
    chat.post(SELLER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await
        .refused(409, "own-trade-post");

    chat.capture([(10, 101, delete(200))]).await;
    let gone = chat
        .post(BUYER, "/v1/rooms", json!({ "trade_post_id": 10 }))
        .await;
    assert_eq!(gone.refused(410, "trade-post-deleted")["trade_post_id"], 10);
}

#[tokio::test]
async fn a_list_shows_the_members_rooms_and_pages_through_them() {
    let chat = Chat::start().await;
    for post in 1..=5 {
        chat.on_sale(post, 100).await;
        let room = chat.room(post).await;
        chat.send(BUYER, &room, "first", &format!("{post}번 글 보고 연락드려요"))
            .await;
    }
    chat.on_sale(6, 100).await;
    let foreign = chat.room_of(6, STRANGER).await;

    let mut seen = Vec::new();
    let mut path = "/v1/rooms?limit=2".to_owned();
    loop {
        let page = chat.get(BUYER, &path).await;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(page.body["items"].as_array().unwrap().clone());
        match page.body["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/rooms?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    let posts: Vec<_> = seen
        .iter()
        .map(|room| room["trade_post"]["id"].as_i64().unwrap())
        .collect();
    assert_eq!(posts, [5, 4, 3, 2, 1], "last activity first, each once");
    assert_eq!(seen[0]["last_message"]["body"], "5번 글 보고 연락드려요");
    assert!(seen.iter().all(|room| room["id"] != foreign.as_str()));

    let sellers = chat.get(SELLER, "/v1/rooms").await;
    assert_eq!(sellers.body["items"].as_array().unwrap().len(), 6);
    assert_eq!(
        sellers.body["last_event_id"], 11,
        "six rooms were opened, five messages sent"
    );
}

#[tokio::test]
async fn a_posts_rooms_are_the_sellers_to_see() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    chat.room_of(10, BUYER).await;
    chat.room_of(10, STRANGER).await;
    let rooms = async |member| {
        let answer = chat.get(member, "/v1/trade-posts/10/rooms").await;
        answer.body["items"].as_array().unwrap().len()
    };
    assert_eq!(rooms(SELLER).await, 2);
    assert_eq!(rooms(BUYER).await, 0);
}
