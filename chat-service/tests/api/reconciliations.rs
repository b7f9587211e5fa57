//! Repairs of missed deletes over the operators' API: what can be asked for when, and what is refused.

use chat_service::keyword::{Kept, Last, Live};
use reqwest::Method;
use serde_json::{Value, json};

use crate::chat::{Answer, Chat};

const ROUTE: &str = "/admin/v1/reconciliations";

async fn begin(chat: &Chat, id: &str) -> Answer {
    let body = json!({ "id": id, "start_lsn": 500 });
    chat.operate(Method::POST, ROUTE, Some(body)).await
}

async fn act(chat: &Chat, id: &str, what: &str, body: Option<Value>) -> Answer {
    chat.operate(Method::POST, &format!("{ROUTE}/{id}/{what}"), body)
        .await
}

#[tokio::test]
async fn one_is_begun_looked_at_and_cancelled() {
    let chat = Chat::start().await;
    for (post, lsn) in [(10, 100), (11, 110), (12, 600)] {
        chat.on_sale(post, lsn).await;
    }
    chat.room(10).await;
    for (body, field) in [
        (json!({ "id": "", "start_lsn": 500 }), "id"),
        (json!({ "id": "a b", "start_lsn": 500 }), "id"),
        (json!({ "id": "x".repeat(65), "start_lsn": 500 }), "id"),
        (json!({ "id": "r1", "start_lsn": 0 }), "start_lsn"),
    ] {
        let refused = chat.operate(Method::POST, ROUTE, Some(body)).await;
        assert_eq!(refused.refused(422, "invalid-input")["errors"][0]["field"], field);
    }
    let begun = begin(&chat, "r1").await;
    assert_eq!(
        (begun.status.as_u16(), &begun.body["state"]),
        (201, &json!("waiting"))
    );
    let other = begin(&chat, "r2").await;
    assert_eq!(other.refused(409, "reconciliation-unfinished")["id"], "r1");

    let route = format!("{ROUTE}/r1/candidates?limit=1");
    let page = chat.operator(&route).await.body;
    assert_eq!(page["items"][0]["trade_post_id"], 10);
    assert_eq!(page["items"][0]["open_rooms"], 1);
    let next = format!("{route}&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = chat.operator(&next).await.body;
    assert_eq!(page["items"][0]["trade_post_id"], 11);
    assert_eq!(
        (&page["items"][0]["open_rooms"], &page["next_cursor"]),
        (&json!(0), &Value::Null)
    );
    let back = format!("{route}&cursor={}", page["previous_cursor"].as_str().unwrap());
    assert_eq!(chat.operator(&back).await.body["items"][0]["trade_post_id"], 10);

    let early = act(&chat, "r1", "confirm", None).await;
    assert_eq!(early.refused(409, "wrong-state")["state"], "waiting");
    let early = act(&chat, "r1", "drain", Some(json!({ "end_lsn": 700 }))).await;
    assert_eq!(early.refused(409, "wrong-state")["state"], "waiting");
    assert_eq!(act(&chat, "r1", "cancel", None).await.body["state"], "cancelled");
    act(&chat, "r1", "cancel", None).await.refused(409, "wrong-state");
    begin(&chat, "r1").await.refused(409, "id-used");
    assert_eq!(begin(&chat, "r2").await.status, 201);
    let all = chat.operator(ROUTE).await.body;
    let ids: Vec<&Value> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["id"])
        .collect();
    assert_eq!(ids, ["r2", "r1"]);
    assert_eq!(
        chat.operator(&format!("{ROUTE}/r2")).await.body["state"],
        "waiting"
    );
    chat.operator(&format!("{ROUTE}/nobody"))
        .await
        .refused(404, "not-found");
    for what in ["confirm", "cancel"] {
        act(&chat, "nobody", what, None).await.refused(404, "not-found");
    }
    let metrics = chat.metrics().await;
    assert!(
        metrics.contains("reconciliations_total{outcome=\"cancelled\"} 1"),
        "{metrics}"
    );
    assert_eq!(
        chat.operator("/admin/v1/deletions").await.body["items"],
        json!([])
    );
}

/// One of keywords says nothing of posts, and has its own list.
#[tokio::test]
async fn one_of_keywords_lists_keywords() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    for id in 1..=3 {
        let kept = Kept {
            id,
            lsn: if id < 3 { 100 } else { 600 },
            last: Last {
                partition: 0,
                offset: id,
                is_delete: false,
            },
            deleted_at: None,
            live: Some(Live {
                member_id: 70 + id,
                keyword: "자전거".into(),
                gram: "자전".into(),
                since: 100,
                joined: true,
            }),
        };
        chat.store.keywords.insert_one(kept).await.unwrap();
    }
    let body = json!({ "id": "k", "table": "members", "start_lsn": 500 });
    chat.operate(Method::POST, ROUTE, Some(body))
        .await
        .refused(422, "invalid-input");
    let body = json!({ "id": "k", "table": "keywords", "start_lsn": 500 });
    let begun = chat.operate(Method::POST, ROUTE, Some(body)).await;
    assert_eq!(
        (begun.status.as_u16(), &begun.body["table"]),
        (201, &json!("keywords"))
    );
    begin(&chat, "r").await.refused(409, "reconciliation-unfinished");
    let posts = chat.operator(&format!("{ROUTE}/k/candidates")).await.body;
    assert_eq!(posts["items"], json!([]));
    let route = format!("{ROUTE}/k/keyword-candidates?limit=1");
    let page = chat.operator(&route).await.body;
    assert_eq!(
        page["items"],
        json!([{ "keyword_id": 1, "lsn": 100, "member_id": 71 }])
    );
    let next = format!("{route}&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = chat.operator(&next).await.body;
    assert_eq!(
        (&page["items"][0]["keyword_id"], &page["next_cursor"]),
        (&json!(2), &Value::Null)
    );
    chat.operator(&format!("{ROUTE}/nobody/keyword-candidates"))
        .await
        .refused(404, "not-found");
    act(&chat, "k", "cancel", None).await;
    assert_eq!(begin(&chat, "r").await.body["table"], "trade_posts");
    let keywords = chat.operator(&format!("{ROUTE}/r/keyword-candidates")).await.body;
    assert_eq!(keywords["items"], json!([]));
}
