//! A notification of a new post that has a keyword, in the stream and in lists.

use chat_service::{
    cdc::{
        change_event::{Event, Keyword, KeywordChange, KeywordEvent, Position},
        keyword_plan::plan,
    },
    store::now,
};
use mongodb::bson::doc;
use reqwest::Method;
use serde_json::json;

use crate::{
    chat::{BUYER, Chat, STRANGER, create, delete, eventually},
    events::{next, open},
};

#[tokio::test]
async fn who_waits_for_a_word_is_told_and_sees_the_title_while_the_post_is_there() {
    let chat = Chat::start().await;
    let keyword = Keyword {
        member_id: BUYER,
        text: "자전거".into(),
    };
    let kept = Event::Keyword(KeywordEvent {
        keyword_id: 1,
        position: Position {
            partition: 0,
            offset: 0,
        },
        change: KeywordChange::Upsert { lsn: 10, keyword },
    });
    chat.store.take_in_keywords(&plan([kept]), now()).await.unwrap();
    let mut stream = open(&chat, BUYER, Some(0)).await;
    chat.capture([(10, 100, create(100))]).await;
    let (seq, name, data) = next(&mut stream).await;
    assert_eq!((seq, name.as_str()), (1, "trade_post_matched"));
    let shown = json!({
        "seq": 1, "kind": "trade_post_matched", "keyword": "자전거", "trade_post_id": 10,
        "title": "자전거 팔아요", "created_at": data["created_at"], "read_at": null,
    });
    assert_eq!(data, shown);

    let list = async |query: &str| {
        let list = chat.get(BUYER, &format!("/v1/notifications{query}")).await;
        list.body["items"].as_array().unwrap().clone()
    };
    assert_eq!(list("?unread=true").await, [shown]);
    assert_eq!(
        chat.call(BUYER, Method::PUT, "/v1/notifications/1/read", None)
            .await
            .status,
        204
    );
    assert!(list("?unread=true").await.is_empty());

    // Whoever looks later sees that it has gone.
    chat.capture([(10, 200, delete(200))]).await;
    let gone = &list("").await[0];
    assert_eq!((&gone["keyword"], gone.get("title")), (&json!("자전거"), None));
    let mut again = open(&chat, BUYER, Some(0)).await;
    assert_eq!(&next(&mut again).await.2, gone);
    // Nobody else's.
    assert_eq!(chat.delete(STRANGER, "/v1/notifications/1").await.status, 404);
    assert_eq!(chat.delete(BUYER, "/v1/notifications/1").await.status, 204);
    assert!(list("").await.is_empty());
    // Deleted by the member, it is not told anew when the post is read again.
    chat.store
        .posts
        .update_one(
            doc! { "_id": 10 },
            doc! { "$set": { "state": "live", "matching": "due", "match_at": now() } },
        )
        .await
        .unwrap();
    eventually("it is matched again", async || {
        (chat.store.posts_to_match().await.unwrap() == 0).then_some(())
    })
    .await;
    assert_eq!(
        chat.get(BUYER, "/v1/notifications").await.body["last_event_id"],
        1
    );
    assert!(chat.metrics().await.contains("trade_post_matches_told_total 1"));
}
