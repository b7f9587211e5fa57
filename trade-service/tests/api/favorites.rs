//! `PUT|DELETE /v1/trade-posts/{id}/favorite`.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::service::{Answer, Service, config, eventually, new_database};

fn path(id: i64) -> String {
    format!("/v1/trade-posts/{id}")
}

async fn favorites(service: &Service, id: i64) -> Value {
    service.get_as(7, &path(id)).await.body["favorites"].clone()
}

#[tokio::test]
async fn a_member_keeps_a_post_once_and_it_shows_by_how_many_it_is_kept() {
    let service = Service::start("favorites_once").await;
    let id = service.new_post(7, &json!({})).await;
    let etag = service.get_as(7, &path(id)).await.header("etag").to_owned();
    for (method, member, kept_by) in [
        (Method::PUT, 8, 1),
        (Method::PUT, 8, 1),
        (Method::DELETE, 9, 1),
        (Method::PUT, 9, 2),
        (Method::DELETE, 8, 1),
        (Method::DELETE, 8, 1),
        (Method::PUT, 8, 2),
    ] {
        let answer = service.favorite(method.clone(), member, id).await;
        assert_eq!(
            (answer.status, answer.body),
            (204, Value::Null),
            "{method} by {member}"
        );
        assert_eq!(favorites(&service, id).await, kept_by, "{method} by {member}");
    }
    let read = service.get_as(7, &path(id)).await;
    assert_eq!(read.header("etag"), etag, "the seller's version is the same");
    let change = service.patch_if(&etag, 7, id, &json!({ "price": 1 })).await;
    assert_eq!((change.status, &change.body["favorites"]), (200, &json!(2)));
    let listed = service.get("/v1/trade-posts").await.body;
    assert_eq!(listed["items"][0]["favorites"], 2);
}

#[tokio::test]
async fn a_post_that_is_not_there_is_nobodys_favorite() {
    let service = Service::start("favorites_gone").await;
    let id = service.new_post(7, &json!({})).await;
    for method in [Method::PUT, Method::DELETE] {
        service.favorite(method, 8, id + 1).await.assert_no_such_post();
    }
    assert_eq!(service.favorite(Method::PUT, 8, id).await.status, 204);
    assert_eq!(service.delete(7, id).await.status, 204);
    for method in [Method::PUT, Method::DELETE] {
        service.favorite(method, 8, id).await.assert_no_such_post();
    }
    let kept = service.get_as(8, "/v1/me/favorites").await.body;
    assert_eq!(kept, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_is_right_however_many_come_at_once_also_while_the_post_is_changed_and_deleted() {
    let url = new_database("favorites_race").await;
    let services = join_all((0..2).map(|_| Service::start_with(config(&url)))).await;
    join_all(services.iter().map(Service::until_ready)).await;
    let id = services[0].new_post(7, &json!({})).await;
    let sql = PgPool::connect(&url).await.unwrap();
    let at_once = async || {
        let favorites = (0..60).map(async |number: usize| {
            // Each member twice, at two instances; every third changes their mind.
            let (member, at) = (100 + i64::try_from(number / 2).unwrap(), &services[number % 2]);
            let put = at.favorite(Method::PUT, member, id).await;
            if member % 3 == 0 {
                return vec![put, at.favorite(Method::DELETE, member, id).await];
            }
            vec![put]
        });
        let changes =
            (0..10).map(async |price| vec![services[0].patch(7, id, &json!({ "price": price })).await]);
        tokio::join!(join_all(favorites), join_all(changes))
    };
    let (favorites_answers, changes) = at_once().await;
    for answer in favorites_answers.iter().flatten() {
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    for answer in changes.iter().flatten() {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let counted = "SELECT count(*), (SELECT favorites FROM post_counters WHERE trade_post_id = $1)
                   FROM favorites WHERE trade_post_id = $1";
    let (rows, count): (i64, i64) = sqlx::query_as(counted).bind(id).fetch_one(&sql).await.unwrap();
    assert_eq!((rows, count), (20, 20));

    // None of them waits for one that waits for it.
    let (more, deleted) = tokio::join!(at_once(), services[1].delete(7, id));
    assert_eq!(deleted.status, 204);
    let all = more.0.iter().chain(&more.1).flatten();
    let statuses: Vec<u16> = all.map(|answer: &Answer| answer.status).collect();
    assert!(
        statuses.iter().all(|status| [200, 204, 404].contains(status)),
        "{statuses:?}"
    );
    let left = "SELECT (SELECT count(*) FROM favorites) + (SELECT count(*) FROM post_counters)";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&sql).await.unwrap();
    assert_eq!(left, 0, "favourites and counters go with their post");
}

#[tokio::test]
async fn a_favorite_and_the_delete_of_its_post_do_not_wait_for_each_other() {
    let url = new_database("favorites_locks").await;
    let mut config = config(&url);
    let minute = Duration::from_mins(1);
    (
        config.database.lock,
        config.database.statement,
        config.database.request,
    ) = (minute, minute, minute);
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let sql = PgPool::connect(&url).await.unwrap();
    let waiting = async |count: i64| {
        eventually("a statement waits for a lock", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&sql).await.unwrap();
            waiting == count
        })
        .await;
    };
    // Stops the favourite half way, and the delete behind it.
    let mut holder = sql.begin().await.unwrap();
    sqlx::query("SELECT FROM post_counters WHERE trade_post_id = $1 FOR UPDATE")
        .bind(id)
        .execute(&mut *holder)
        .await
        .unwrap();
    let (kept, deleted, ()) = tokio::join!(
        service.favorite(Method::PUT, 8, id),
        async {
            waiting(1).await;
            service.delete(7, id).await
        },
        async {
            waiting(2).await;
            holder.rollback().await.unwrap();
        },
    );
    assert_eq!(
        (kept.status, deleted.status),
        (204, 204),
        "{} {}",
        kept.body,
        deleted.body
    );
}
