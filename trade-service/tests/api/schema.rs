//! What the migrations leave behind for others: capture, and instances that start at the same time.

use futures_util::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use crate::service::{Service, config, new_database};

/// With a list of columns, Debezium fails at the first change after an incremental snapshot.
#[tokio::test]
async fn posts_are_published_whole_for_the_connector_to_choose_from() {
    let url = new_database("schema_publication").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let published: Vec<(String, bool)> = sqlx::query_as(
        "SELECT prrelid::regclass::text, prattrs IS NULL
         FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid WHERE pubname = 'trade_cdc'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for table in ["debezium_heartbeat", "debezium_signal", "keywords", "trade_posts"] {
        assert!(
            published.contains(&(table.to_owned(), true)),
            "{table}: {published:?}"
        );
    }
}

#[tokio::test]
async fn instances_that_start_at_once_migrate_once() {
    let url = new_database("schema_at_once").await;
    let services = join_all((0..4).map(|_| Service::start_with(config(&url)))).await;
    join_all(services.iter().map(Service::until_ready)).await;
    let id = services[0].new_post(7, &json!({})).await;
    for service in &services {
        assert_eq!(service.get(&format!("/v1/trade-posts/{id}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_post_can_be_put_back_under_its_old_id() {
    let url = new_database("schema_put_back").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    assert_eq!(service.delete(7, id).await.status, 204);
    let pool = PgPool::connect(&url).await.unwrap();
    let statement = "INSERT INTO trade_posts (id, seller_id, title, body, price, category) \
                     VALUES ($1, 7, 'back', '', 0, 'x')";
    sqlx::query(statement).bind(id).execute(&pool).await.unwrap();
    let read = service.get(&format!("/v1/trade-posts/{id}")).await.body;
    assert_eq!(
        (&read["title"], &read["status"]),
        (&json!("back"), &json!("on_sale"))
    );
}
