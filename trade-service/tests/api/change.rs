//! `PATCH /v1/trade-posts/{id}`.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::service::Service;

const FOREIGN: (&str, &str, &str) = (
    "not-the-seller",
    "Not the seller",
    "Only the seller of a trade post may change or delete it.",
);

fn path(id: i64) -> String {
    format!("/v1/trade-posts/{id}")
}

#[tokio::test]
async fn only_the_fields_named_change() {
    let service = Service::start("change_ok").await;
    let id = service.new_post(7, &json!({})).await;
    let before = service.get_as(7, &path(id)).await;
    for change in [
        json!({"title": "책상 급처"}),
        json!({"body": ""}),
        json!({"price": 0}),
        json!({"category": "생활"}),
        json!({"image_urls": []}),
        json!({"status": "on_sale"}),
        json!({"title": "책상", "price": 1}),
    ] {
        let current = service.get_as(7, &path(id)).await;
        let changed = service.patch(7, id, &change).await;
        assert_eq!(changed.status, 200, "{}", changed.body);
        assert_ne!(changed.header("etag"), current.header("etag"));

        let mut expected = current.body.clone();
        for (field, value) in change.as_object().unwrap() {
            expected[field] = value.clone();
        }
        expected["updated_at"] = changed.body["updated_at"].clone();
        assert_eq!(changed.body, expected);
        assert_ne!(changed.body["updated_at"], current.body["updated_at"]);

        let read = service.get_as(7, &path(id)).await;
        assert_eq!(
            (&read.body, read.header("etag")),
            (&changed.body, changed.header("etag"))
        );
    }
    let after = service.get_as(7, &path(id)).await;
    assert_eq!(after.body["created_at"], before.body["created_at"]);
}

#[tokio::test]
async fn a_foreign_post_is_403_and_an_unknown_one_404() {
    let service = Service::start("change_foreign").await;
    let id = service.new_post(7, &json!({})).await;
    let before = service.get_as(7, &path(id)).await.body;
    let (code, title, detail) = FOREIGN;
    service
        .patch(8, id, &json!({"price": 1}))
        .await
        .assert_problem(403, code, title, detail);
    assert_eq!(service.get_as(7, &path(id)).await.body, before);

    service
        .patch(7, id + 1, &json!({"price": 1}))
        .await
        .assert_no_such_post();
    assert_eq!(service.delete(7, id).await.status, 204);
    service
        .patch(7, id, &json!({"price": 1}))
        .await
        .assert_no_such_post();
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_by_name() {
    let service = Service::start("change_invalid").await;
    let id = service.new_post(7, &json!({})).await;
    let before = service.get_as(7, &path(id)).await.body;
    let known = "expected one of `title`, `body`, `price`, `category`, `status`, `image_urls`";
    let unknown = |field| format!("unknown field `{field}`, {known}");
    let cases: &[(Value, &str, String)] = &[
        (
            json!({}),
            "body",
            "must have at least one field to change".to_owned(),
        ),
        (json!({"seller_id": 8}), "seller_id", unknown("seller_id")),
        (json!({"buyer_id": 8}), "buyer_id", unknown("buyer_id")),
        (json!({"titel": "x"}), "titel", unknown("titel")),
        (
            json!({"title": null}),
            "title",
            "invalid type: null, expected a string".to_owned(),
        ),
        (
            json!({"status": "gone"}),
            "status",
            "unknown variant `gone`, expected one of `on_sale`, `reserved`, `sold`".to_owned(),
        ),
        (
            json!({"price": -1}),
            "price",
            "must be 0 to 10000000000, got -1".to_owned(),
        ),
        (
            json!({"title": "가".repeat(101)}),
            "title",
            "must have 1 to 100 characters, got 101".to_owned(),
        ),
        (
            json!({"body": "\u{0}"}),
            "body",
            "must not contain the character U+0000".to_owned(),
        ),
        (
            json!({"image_urls": ["x"]}),
            "image_urls[0]",
            "must be an absolute https URL, got `x`".to_owned(),
        ),
    ];
    for (change, field, message) in cases {
        service
            .patch(7, id, change)
            .await
            .assert_invalid(&[(field, message)]);
    }
    assert_eq!(service.get_as(7, &path(id)).await.body, before);
}

#[tokio::test]
async fn if_match_lets_only_the_version_read_be_changed() {
    let service = Service::start("change_if_match").await;
    let id = service.new_post(7, &json!({})).await;
    let first = service.get(&path(id)).await;
    let second = service
        .patch_if(first.header("etag"), 7, id, &json!({"price": 1}))
        .await;
    assert_eq!(second.status, 200);
    for stale in [first.header("etag"), "\"0\"", "W/\"1\"", "not a tag", ""] {
        service.patch_if(stale, 7, id, &json!({"price": 2})).await.assert_problem(
            412,
            "version-mismatch",
            "Version mismatch",
            "The trade post is not of the version that If-Match names. Read it again and repeat the change \
             with its current ETag.",
        );
    }
    let either = format!("\"0\", {}", second.header("etag"));
    assert_eq!(
        service
            .patch_if(&either, 7, id, &json!({"price": 3}))
            .await
            .status,
        200
    );
    assert_eq!(
        service.patch_if("*", 7, id, &json!({"price": 4})).await.status,
        200
    );
    // Whose post it is matters more than its version.
    assert_eq!(
        service
            .patch_if("\"0\"", 8, id, &json!({"price": 5}))
            .await
            .status,
        403
    );
    assert_eq!(
        service
            .patch_if("\"0\"", 7, id + 1, &json!({"price": 5}))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn of_changes_to_the_same_version_at_once_one_wins() {
    let service = Service::start("change_race").await;
    for round in 0..20 {
        let id = service.new_post(7, &json!({})).await;
        let etag = service.get(&path(id)).await.header("etag").to_owned();
        let changes = (0..8).map(async |n| {
            let answer = service.patch_if(&etag, 7, id, &json!({"price": n})).await;
            (n, answer.status)
        });
        let answers = join_all(changes).await;
        let won: Vec<_> = answers
            .iter()
            .filter(|(_, status)| *status == 200)
            .map(|(n, _)| *n)
            .collect();
        assert!(
            answers.iter().all(|(_, status)| [200, 412].contains(status)),
            "{answers:?}"
        );
        assert_eq!(won.len(), 1, "round {round}: {answers:?}");
        assert_eq!(service.get(&path(id)).await.body["price"], won[0]);
    }
}

#[tokio::test]
async fn a_change_from_outside_of_the_service_changes_the_version_too() {
    let url = crate::service::new_database("change_outside").await;
    let service = Service::start_with(crate::service::config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let etag = service.get(&path(id)).await.header("etag").to_owned();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let statement = "UPDATE trade_posts SET title = 'by hand' WHERE id = $1";
    tokio::time::timeout(
        Duration::from_secs(10),
        sqlx::query(statement).bind(id).execute(&pool),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(
        service.patch_if(&etag, 7, id, &json!({"price": 1})).await.status,
        412
    );
}
