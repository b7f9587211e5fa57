//! What the migrations leave behind for others: capture, and instances that start at the same time.

use futures_util::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use crate::service::{Service, config, new_database};

/// A list of columns breaks the capture after its first incremental snapshot; what leaves Debezium's worker is
/// decided by the connector.
#[tokio::test]
async fn captured_tables_are_published_whole() {
    let url = new_database("schema_publication").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let published: Vec<(String, bool)> = sqlx::query_as(
        "SELECT prrelid::regclass::text, prattrs IS NULL FROM pg_publication_rel
         JOIN pg_publication publication ON publication.oid = prpubid
         WHERE pubname = 'trade_cdc' ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for table in ["debezium_heartbeat", "debezium_signal", "keywords", "trade_posts"] {
        assert!(
            published.contains(&(table.to_owned(), true)),
            "{table} is not published whole: {published:?}"
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
async fn the_last_release_starts_on_a_database_that_the_next_one_has_migrated() {
    let url = new_database("schema_next_release").await;
    let mut service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let next = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                VALUES (9999, 'of the next release', true, '\\x00', 1)";
    sqlx::query(next).execute(&pool).await.unwrap();
    service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    assert_eq!(service.get(&format!("/v1/trade-posts/{id}")).await.status, 200);

    // A migration of its own that was another one is no next release.
    let edited = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1";
    sqlx::query(edited).execute(&pool).await.unwrap();
    let error = Service::start_with(config(&url)).await.run.await;
    let error = format!("{:#}", error.unwrap().unwrap_err());
    assert!(error.contains("the database cannot be migrated"), "{error}");
    assert!(error.contains("migration 1"), "{error}");
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
