//! Who asks: readers at a fixed rate, and writers as fast as they are answered.
//!
//! Invariant: a request is due at its time, whether what came before is done or not, and its time counts
//! from then. A service that stalls does not get fewer requests by that.

use std::time::{Duration, Instant};

use rand::RngExt;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    Size,
    service::{CONNECTIONS, MEMBER, Service},
};
use crate::load::Times;

/// Writers at a time, of either kind: enough to keep all connections busy.
const WRITERS: usize = 20;
const CATEGORIES: [&str; 10] = [
    "가구",
    "전자",
    "의류",
    "도서",
    "스포츠",
    "유아",
    "악기",
    "반려",
    "식물",
    "뷰티",
];
/// One in five posts has 직거래 or 상태, one in twenty each of the things, one in 5,000 the last; 없는말 is nowhere.
const WORDS: [&str; 12] = [
    "책상",
    "의자",
    "자전거",
    "아이폰",
    "macbook",
    "ipad",
    "기타",
    "원목 책상",
    "직거래",
    "상태",
    "나전칠기",
    "없는말",
];

#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Read,
    List,
    Search,
}

/// What came of requests of one kind.
#[derive(Debug)]
pub struct Answers {
    /// From when a request was due until all of its answer was read.
    pub times: Times,
    /// With 503, because the service had more to do than it could.
    pub refused: usize,
}

pub(super) async fn reading(service: &Service, kind: Request, size: Size, duration: Duration) -> Answers {
    let mut ticks = interval(Duration::from_secs(1) / size.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = JoinSet::new();
    let begun = tokio::time::Instant::now();
    for number in 0.. {
        let due = ticks.tick().await;
        if begun.elapsed() >= duration {
            break;
        }
        let request = request(service, kind, size, number);
        asked.spawn(async move {
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            assert!(
                [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
                "{status}"
            );
            answer.bytes().await.expect("all of it");
            (due.elapsed(), status)
        });
    }
    let answers = asked.join_all().await;
    Answers {
        refused: answers
            .iter()
            .filter(|(_, status)| *status != StatusCode::OK)
            .count(),
        times: answers.into_iter().map(|(took, _)| took).collect(),
    }
}

fn request(service: &Service, kind: Request, size: Size, number: usize) -> RequestBuilder {
    let list = service.client.get(&service.url);
    let category = CATEGORIES[number % CATEGORIES.len()];
    match kind {
        Request::Read => {
            let id = rand::rng().random_range(1..=size.posts);
            service.client.get(format!("{}/{id}", service.url))
        }
        Request::List => match number % 5 {
            0 | 1 => list,
            2 => list.query(&[("category", category), ("status", "on_sale")]),
            3 => list.query(&[("category", category), ("sort", "price_asc")]),
            _ => list.query(&[
                ("min_price", "100000"),
                ("max_price", "500000"),
                ("status", "on_sale"),
            ]),
        },
        Request::Search => list.query(&[("q", WORDS[number % WORDS.len()])]),
    }
}

const TITLE: &str = "원목 책상 팝니다";
const BODY: &str = "2년 사용했고 상태 좋습니다. 역 앞에서 직거래 원해요. Size 120x60, pickup only.";
const IMAGE: &str = "https://images.example/desk.jpg";

/// Posts in a second that the service creates.
pub(super) async fn creating(service: &Service, duration: Duration) -> f64 {
    let body = json!({
        "title": TITLE, "body": BODY, "price": 45_000, "category": "가구", "image_urls": [IMAGE],
    });
    writing(duration, async || {
        let request = service.client.post(&service.url).bearer_auth(&service.token);
        let answer = request.json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.bytes().await.expect("all of it");
    })
    .await
}

/// Posts in a second that come into the same table by nothing but an insert.
pub(super) async fn inserting(service: &Service, duration: Duration) -> f64 {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
    let pool = pool
        .connect(&service.database_url)
        .await
        .expect("PostgreSQL answers");
    let rate = writing(duration, async || {
        let insert = sqlx::query_scalar::<_, i64>(
            "INSERT INTO trade_posts (seller_id, title, body, price, category, image_urls)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        );
        let insert = insert
            .bind(MEMBER)
            .bind(TITLE)
            .bind(BODY)
            .bind(45_000_i64)
            .bind("가구")
            .bind([IMAGE]);
        insert.fetch_one(&pool).await.expect("PostgreSQL takes a post");
    })
    .await;
    pool.close().await;
    rate
}

async fn writing(duration: Duration, write: impl AsyncFn()) -> f64 {
    let begun = Instant::now();
    let writers = (0..WRITERS).map(async |_| {
        let mut written = 0_u32;
        while begun.elapsed() < duration {
            write().await;
            written += 1;
        }
        written
    });
    let written: u32 = futures_util::future::join_all(writers).await.iter().sum();
    f64::from(written) / begun.elapsed().as_secs_f64()
}
