//! The whole system against real servers. One stack is started for all tests; each test has a world of its
//! own in it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "figures for whoever runs the tests with --nocapture"
)]

use std::time::Duration;

use e2e::world::World;
use serde_json::{Value, json};

mod again;
mod bulk;
mod changes;
mod consumer;
mod contract;
mod delete;
mod evolution;
mod failures;
mod fixtures;
mod flood;
mod gaps;
mod heartbeat_records;
mod hostile;
mod keyword_records;
mod keywords;
mod members;
mod offsets;
mod projection;
mod race;
mod reconcile;
mod records;
mod schemas;
mod size;
mod streams;
mod table;
mod uncaptured;

/// For what takes a fraction of a second on an idle machine. On a busy one a server may try again only after a minute.
const BOUND: Duration = Duration::from_mins(2);

/// A post as its seller writes it.
fn new_post(title: &str) -> Value {
    json!({ "title": title, "body": "상태 좋아요. 직거래 원해요.", "price": 30_000, "category": "기타" })
}

/// Writes posts into the table, beside trade-service. Answers their ids.
async fn insert_posts(world: &World, seller: i64, count: i64, category: &str) -> Vec<i64> {
    let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                  SELECT $1, '글 ' || n, '본문', n, $3 FROM generate_series(1, $2) n RETURNING id";
    let insert = sqlx::query_scalar(insert).bind(seller).bind(count).bind(category);
    insert.fetch_all(&world.sql).await.unwrap()
}

/// Opens the buyer's room about the post and sends messages into it. Answers the room's id.
async fn chat_about(world: &World, post: i64, buyer: i64, messages: u32) -> String {
    let buyer = world.member(buyer);
    let room = buyer.open_room(post).await.unwrap();
    for number in 0..messages {
        buyer
            .send(&room.id, &number.to_string(), "안녕하세요, 아직 있나요?")
            .await
            .unwrap();
    }
    room.id
}
