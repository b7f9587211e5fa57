//! How often a post was looked at.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::Proxy;
use crate::service::{Answer, Service, config, eventually, new_database};

fn path(id: i64) -> String {
    format!("/v1/trade-posts/{id}")
}

/// As the seller sees it, which is no view.
async fn views(service: &Service, id: i64) -> i64 {
    service.get_as(7, &path(id)).await.body["views"].as_i64().unwrap()
}

async fn until_views(service: &Service, id: i64, count: i64) {
    let what = format!("{count} views are shown");
    eventually(&what, async || views(service, id).await == count).await;
}

#[tokio::test]
async fn a_look_by_anybody_but_the_seller_counts() {
    let service = Service::start("views_count").await;
    let id = service.new_post(7, &json!({})).await;
    let other = service.new_post(7, &json!({})).await;
    let etag = service.get_as(7, &path(id)).await.header("etag").to_owned();
    assert_eq!(service.get(&path(id)).await.status, 200);
    assert_eq!(service.get_as(8, &path(id)).await.status, 200);
    assert_eq!(service.get_as(8, &path(id)).await.status, 200);
    // Who cannot be told is anybody, and reads as anybody may.
    let stranger = service.request(Method::GET, &path(id)).bearer_auth("no token");
    assert_eq!(Answer::of(stranger).await.status, 200);
    // No looks: a question whether it is there, a list, what is not there.
    assert_eq!(
        Answer::of(service.request(Method::HEAD, &path(id))).await.status,
        200
    );
    assert_eq!(service.get("/v1/trade-posts").await.status, 200);
    assert_eq!(service.get(&path(other + 1)).await.status, 404);
    until_views(&service, id, 4).await;
    assert_eq!(views(&service, other).await, 0);
    let read = service.get_as(7, &path(id)).await;
    assert_eq!(read.header("etag"), etag, "the seller's version is the same");
    assert_eq!(read.body["updated_at"], read.body["created_at"]);
    let popular = service.get("/v1/trade-posts?sort=popular&limit=1").await.body;
    assert_eq!(
        (&popular["items"][0]["id"], &popular["items"][0]["views"]),
        (&json!(id), &json!(4))
    );
    let metrics = service.metrics().await;
    for line in ["views_written_total 4", "viewed_posts_pending 0"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_instances_add_up_whatever_else_becomes_of_the_posts() {
    let url = new_database("views_several").await;
    let services = join_all((0..3).map(|_| Service::start_with(config(&url)))).await;
    join_all(services.iter().map(Service::until_ready)).await;
    let mut posts = Vec::new();
    for _ in 0..5 {
        posts.push(services[0].new_post(7, &json!({})).await);
    }
    let gone = services[0].new_post(7, &json!({})).await;
    let looks = services
        .iter()
        .flat_map(|service| posts.iter().map(move |post| (service, *post)));
    join_all(looks.map(async |(service, post)| {
        for look in 0..10 {
            assert_eq!(service.get(&path(post)).await.status, 200);
            if look == 5 {
                // A row that is written at the same time, and one that goes.
                assert_eq!(service.favorite(Method::PUT, 8, post).await.status, 204);
                service.get(&path(gone)).await;
            }
        }
    }))
    .await;
    assert_eq!(services[1].delete(7, gone).await.status, 204);
    for post in &posts {
        until_views(&services[0], *post, 30).await;
    }
    for service in &services {
        eventually("nothing is kept of a post that is gone", async || {
            service
                .metrics()
                .await
                .lines()
                .any(|line| line == "viewed_posts_pending 0")
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_not_waited_for_and_counted_later() {
    let url = new_database("views_held").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let (held, free) = (
        service.new_post(7, &json!({})).await,
        service.new_post(7, &json!({})).await,
    );
    let pool = PgPool::connect(&url).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM post_counters WHERE trade_post_id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *holder)
        .await
        .unwrap();
    for post in [held, free, held] {
        assert_eq!(service.get(&path(post)).await.status, 200);
    }
    until_views(&service, free, 1).await;
    assert_eq!(views(&service, held).await, 0);
    holder.rollback().await.unwrap();
    until_views(&service, held, 2).await;
}

#[tokio::test]
async fn views_are_few_writes_none_of_them_of_a_post_and_the_last_is_made_at_shutdown() {
    let url = new_database("views_shutdown").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(service.get(&path(id)).await.status, 200);
    }
    // One for every two seconds, and one at the end.
    let most = i64::try_from(begun.elapsed().as_secs() / 2).unwrap() + 2;
    service.shutdown.cancel();
    timeout(Duration::from_mins(1), service.run)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let views: i64 = sqlx::query_scalar("SELECT views FROM post_counters WHERE trade_post_id = $1")
        .bind(id)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(views, 100);
    let updates = async |table: &str| -> i64 {
        sqlx::query_scalar("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = $1")
            .bind(table)
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    // Known once the service's connections have ended.
    eventually("the writes are counted", async || {
        updates("post_counters").await > 0
    })
    .await;
    let written = updates("post_counters").await;
    assert!(written <= most, "{written} writes, at most {most}");
    assert_eq!(updates("trade_posts").await, 0);
}

#[tokio::test]
async fn the_last_views_of_a_post_that_somebody_holds_are_written_once_it_is_free() {
    let url = new_database("views_held").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let pool = PgPool::connect(&url).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM post_counters FOR UPDATE")
        .execute(&mut *holder)
        .await
        .unwrap();
    assert_eq!(service.get(&path(id)).await.status, 200);
    service.shutdown.cancel();
    let free = async {
        sleep(Duration::from_millis(200)).await;
        holder.rollback().await.unwrap();
    };
    let (ended, ()) = tokio::join!(timeout(Duration::from_mins(1), service.run), free);
    ended.expect("it ends").unwrap().unwrap();
    let views: i64 = sqlx::query_scalar("SELECT views FROM post_counters")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(views, 1);
}

#[tokio::test]
async fn views_outlive_an_outage() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("views_outage").await).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    assert_eq!(service.get(&path(id)).await.status, 200);
    proxy.cut().await;
    eventually("readiness tells it", async || service.readyz().await.0 == 503).await;
    proxy.restore().await;
    service.until_ready().await;
    until_views(&service, id, 1).await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_views_that_cannot_be_written() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("views_away").await).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    assert_eq!(service.get(&path(id)).await.status, 200);
    proxy.swallow().await;
    service.shutdown.cancel();
    // Less than requests in flight would be waited for.
    timeout(Duration::from_secs(10), service.run)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
}
