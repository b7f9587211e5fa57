//! Opening and listing rooms.

use serde_json::{Value, json};

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

    let page = async |cursor: &Value| {
        let cursor = cursor.as_str().map(|cursor| format!("&cursor={cursor}"));
        let path = format!("/v1/rooms?limit=2{}", cursor.unwrap_or_default());
        let page = chat.get(BUYER, &path).await;
        assert_eq!(page.status, 200, "{page:?}");
        page.body
    };
    let posts = |page: &Value| -> Vec<i64> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|room| room["trade_post"]["id"].as_i64().unwrap())
            .collect()
    };
    let first = page(&Value::Null).await;
    let second = page(&first["next_cursor"]).await;
    let last = page(&second["next_cursor"]).await;
    assert_eq!(
        [&first, &second, &last].map(posts),
        [vec![5, 4], vec![3, 2], vec![1]],
        "last activity first, each once"
    );
    assert_eq!(
        (&first["previous_cursor"], &last["next_cursor"]),
        (&Value::Null, &Value::Null)
    );
    let back = page(&last["previous_cursor"]).await;
    assert_eq!(posts(&back), [3, 2]);
    let start = page(&back["previous_cursor"]).await;
    assert_eq!(posts(&start), [5, 4]);
    assert_eq!(start["previous_cursor"], Value::Null);
    assert_eq!(
        first["items"][0]["last_message"]["body"],
        "5번 글 보고 연락드려요"
    );
    let shown = [first, second, last].map(|page| page["items"].clone());
    assert!(!shown.iter().any(|items| items.to_string().contains(&foreign)));

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
    chat.on_sale(11, 100).await;
    let other = chat.room_of(11, BUYER).await;
    let first = chat
        .send(BUYER, &chat.room_of(10, BUYER).await, "1", "아직 있나요?")
        .await;
    let page = async |member, query: &str| {
        let page = chat
            .get(member, &format!("/v1/trade-posts/10/rooms?{query}"))
            .await;
        assert_eq!(page.status, 200, "{page:?}");
        page.body
    };
    let all = page(SELLER, "").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        all["items"][0]["id"], first.body["room_id"],
        "last activity first"
    );
    assert!(!all.to_string().contains(&other));
    assert_eq!(page(BUYER, "").await["items"], json!([]));

    let top = page(SELLER, "limit=1").await;
    let cursor = top["next_cursor"].as_str().unwrap();
    let rest = page(SELLER, &format!("limit=1&cursor={cursor}")).await;
    assert_eq!(rest["items"][0], all["items"][1]);
    // A cursor is no key to somebody else's rooms.
    let stranger = page(STRANGER, &format!("cursor={cursor}")).await;
    assert_eq!(stranger["items"], json!([]));
}

#[tokio::test]
async fn a_cursor_is_good_for_its_list_alone() {
    let chat = Chat::start().await;
    for post in [10, 11] {
        chat.on_sale(post, 100).await;
        for buyer in [BUYER, STRANGER] {
            chat.room_of(post, buyer).await;
        }
    }
    let lists = [
        "/v1/rooms",
        "/v1/trade-posts/10/rooms",
        "/v1/trade-posts/11/rooms",
    ];
    for of in lists {
        let page = chat.get(SELLER, &format!("{of}?limit=1")).await;
        let cursor = page.body["next_cursor"].as_str().unwrap();
        for list in lists {
            let answer = chat.get(SELLER, &format!("{list}?cursor={cursor}")).await;
            if list == of {
                assert_eq!(answer.status, 200, "{list} with its own cursor");
            } else {
                let error = &answer.refused(422, "invalid-input")["errors"][0];
                assert_eq!(error["field"], "cursor", "{list} with a cursor of {of}");
            }
        }
    }
}
