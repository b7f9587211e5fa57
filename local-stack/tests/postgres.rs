//! PostgreSQL as tests get it: shared by a process, restarted on the same port and data.

use std::net::TcpListener;

use local_stack::testing;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn a_database_can_be_decoded_and_survives_a_kill() {
    let postgres = testing::postgres().await;
    let url = postgres.create_database("decoded").await.unwrap();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(
        "CREATE EXTENSION pg_trgm; CREATE TABLE posts (id bigint PRIMARY KEY); \
         CREATE PUBLICATION posts FOR TABLE posts; INSERT INTO posts VALUES (7)",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let trigrams: Vec<String> = sqlx::query_scalar("SELECT show_trgm('자전거')")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(trigrams.len() > 1, "Korean text has trigrams: {trigrams:?}");
    let level: String = sqlx::query_scalar("SHOW wal_level")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(level, "logical");

    postgres.server.kill().unwrap();
    assert_eq!(postgres.server.pid(), None);
    {
        let _somebody_else = TcpListener::bind(("127.0.0.1", postgres.port())).unwrap();
        let message = postgres.server.restart().await.unwrap_err().to_string();
        assert!(
            message.contains(&format!("PostgreSQL needs port {}", postgres.port())),
            "{message}"
        );
    }
    postgres.server.restart().await.unwrap();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let post: i64 = sqlx::query_scalar("SELECT id FROM posts")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(post, 7);
    // Making a database again changes nothing.
    assert_eq!(postgres.create_database("decoded").await.unwrap(), url);
}

#[tokio::test]
async fn names_that_are_more_than_a_name_are_refused() {
    let postgres = testing::postgres().await;
    for name in ["", "a b", "x; DROP DATABASE postgres", "Upper"] {
        let message = postgres.create_database(name).await.unwrap_err().to_string();
        assert!(message.contains("a database name has"), "{message}");
    }
}
