//! `/v1/me/keywords`.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service, token};

const KEYWORDS: &str = "/v1/me/keywords";

async fn keep(service: &Service, member: i64, keyword: &str) -> Answer {
    let request = service.request(Method::POST, KEYWORDS).bearer_auth(token(member));
    Answer::of(request.json(&json!({ "keyword": keyword }))).await
}

async fn forget(service: &Service, member: i64, id: &Value) -> Answer {
    let request = service.request(Method::DELETE, &format!("{KEYWORDS}/{id}"));
    Answer::of(request.bearer_auth(token(member))).await
}

async fn list(service: &Service, member: i64) -> Vec<Value> {
    let answer = Answer::of(service.request(Method::GET, KEYWORDS).bearer_auth(token(member))).await;
    assert_eq!(answer.status, 200);
    answer.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_keyword_is_kept_once_and_is_its_members_alone() {
    let service = Service::start("keywords_kept").await;
    assert_eq!(list(&service, 7).await, Vec::<Value>::new());
    let kept = keep(&service, 7, " Road BIKE ").await;
    assert_eq!((kept.status, &kept.body["keyword"]), (201, &json!("road bike")));
    let again = keep(&service, 7, "road bike").await;
    assert_eq!((again.status, &again.body), (200, &kept.body));
    let second = keep(&service, 7, "자전거").await;
    assert_eq!(list(&service, 7).await, [second.body.clone(), kept.body.clone()]);

    assert_eq!(list(&service, 8).await, Vec::<Value>::new());
    assert_eq!(keep(&service, 8, "road bike").await.status, 201);
    let id = &kept.body["id"];
    for answer in [
        forget(&service, 8, id).await,
        forget(&service, 7, &json!(0)).await,
    ] {
        answer.assert_problem(404, "not-found", "Not found", "There is no such keyword.");
    }
    assert_eq!(forget(&service, 7, id).await.status, 204);
    assert_eq!(forget(&service, 7, id).await.status, 404);
    assert_eq!(list(&service, 7).await, [second.body]);

    keep(&service, 7, "가")
        .await
        .assert_invalid(&[("keyword", "must have 2 to 30 characters, got 1")]);
    let anybody = Answer::of(service.request(Method::GET, KEYWORDS)).await;
    assert_eq!(anybody.status, 401);
}

#[tokio::test]
async fn however_many_come_at_once_thirty_are_kept() {
    let service = Service::start("keywords_at_once").await;
    let sent = (0..100).map(async |n| keep(&service, 7, &format!("낱말 {}", n % 50)).await);
    let answers = join_all(sent).await;
    let of = |status: u16| answers.iter().filter(move |answer| answer.status == status);
    assert_eq!(of(201).count(), 30);
    for refused in of(409) {
        refused.assert_problem(
            409,
            "too-many-keywords",
            "Too many keywords",
            "A member has at most 30 keywords. Delete one to keep another.",
        );
    }
    assert_eq!(of(201).count() + of(200).count() + of(409).count(), 100);
    let ids = |keywords: Vec<Value>| -> BTreeSet<i64> {
        keywords
            .iter()
            .map(|keyword| keyword["id"].as_i64().unwrap())
            .collect()
    };
    let all = list(&service, 7).await;
    assert_eq!(
        ids(all.clone()),
        ids(of(201).map(|answer| answer.body.clone()).collect())
    );
    // Who has a keyword among the thirty is answered it, full or not.
    assert_eq!(
        keep(&service, 7, all[0]["keyword"].as_str().unwrap())
            .await
            .status,
        200
    );
    assert_eq!(forget(&service, 7, &all[0]["id"]).await.status, 204);
    assert_eq!(keep(&service, 7, "새 낱말").await.status, 201);
    assert_eq!(keep(&service, 7, "또 하나").await.status, 409);
}
