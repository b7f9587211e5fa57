//! `DELETE /v1/trade-posts/{id}`.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::service::Service;

fn path(id: i64) -> String {
    format!("/v1/trade-posts/{id}")
}

#[tokio::test]
async fn a_deleted_post_is_gone_and_no_other() {
    let service = Service::start("delete_ok").await;
    let (id, other) = (
        service.new_post(7, &json!({})).await,
        service.new_post(7, &json!({})).await,
    );
    let deleted = service.delete(7, id).await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    service.get(&path(id)).await.assert_no_such_post();
    service.delete(7, id).await.assert_no_such_post();
    assert_eq!(service.get(&path(other)).await.status, 200);
}

#[tokio::test]
async fn only_the_seller_deletes() {
    let service = Service::start("delete_foreign").await;
    let id = service.new_post(7, &json!({})).await;
    let detail = "Only the seller of a trade post may change or delete it.";
    service
        .delete(8, id)
        .await
        .assert_problem(403, "not-the-seller", "Not the seller", detail);
    assert_eq!(service.get(&path(id)).await.status, 200);
    service.delete(8, id + 1).await.assert_no_such_post();
}

#[tokio::test]
async fn if_match_protects_from_deleting_what_was_not_seen() {
    let service = Service::start("delete_if_match").await;
    let id = service.new_post(7, &json!({})).await;
    let seen = service.get(&path(id)).await.header("etag").to_owned();
    let current = service
        .patch(7, id, &json!({"price": 1}))
        .await
        .header("etag")
        .to_owned();
    assert_eq!(service.delete_if(&seen, 7, id).await.status, 412);
    assert_eq!(service.delete_if(&current, 7, id).await.status, 204);
    service.delete_if(&current, 7, id).await.assert_no_such_post();
}

#[tokio::test]
async fn a_post_that_somebody_waits_for_is_deleted_only_knowingly() {
    let service = Service::start("delete_buyer").await;
    let detail = "A buyer was chosen for the trade post. To delete it all the same, send its current ETag in If-Match.";
    let reserved = async || {
        let id = service.new_post(7, &json!({})).await;
        let etag = service.get(&path(id)).await.header("etag").to_owned();
        let chosen = service.choose_buyer(7, id, 8).await;
        assert_eq!(chosen.status, 200);
        (id, etag, chosen.header("etag").to_owned())
    };
    let (id, old, current) = reserved().await;
    service
        .delete(7, id)
        .await
        .assert_problem(428, "precondition-required", "Precondition required", detail);
    // Neither is it anybody else's to delete, nor enough to have seen it before.
    assert_eq!(service.delete(8, id).await.status, 403);
    assert_eq!(service.delete_if(&old, 7, id).await.status, 412);
    assert_eq!(service.get(&path(id)).await.status, 200);
    assert_eq!(service.delete_if(&current, 7, id).await.status, 204);

    let (id, ..) = reserved().await;
    assert_eq!(service.patch(7, id, &json!({"status": "sold"})).await.status, 200);
    assert_eq!(service.delete(7, id).await.status, 428, "also of a sold one");
    assert_eq!(service.delete_if("*", 7, id).await.status, 204);

    let (id, ..) = reserved().await;
    assert_eq!(
        service.patch(7, id, &json!({"status": "on_sale"})).await.status,
        200
    );
    assert_eq!(service.delete(7, id).await.status, 204, "nobody waits any more");
}

#[tokio::test]
async fn of_deletes_at_once_one_wins() {
    let service = Service::start("delete_race").await;
    for round in 0..20 {
        let id = service.new_post(7, &json!({})).await;
        let answers = join_all((0..8).map(async |_| service.delete(7, id).await.status)).await;
        let mut answers = answers.clone();
        answers.sort_unstable();
        assert_eq!(answers, [204, 404, 404, 404, 404, 404, 404, 404], "round {round}");
    }
}
