//! More requests than connections, and a PostgreSQL that is slow: every request is answered, and soon.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::proxy::Proxy;
use crate::service::{Answer, Service, config, eventually, new_database, token};

/// No request may take longer, whatever happens.
const BOUND: Duration = Duration::from_secs(5);
/// Longer than any test waits.
const LONG: Duration = Duration::from_mins(5);

async fn timed(request: impl Future<Output = Answer>) -> (Answer, Duration) {
    let begin = Instant::now();
    (request.await, begin.elapsed())
}

#[track_caller]
fn assert_503((answer, took): &(Answer, Duration)) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(["1", "2"].contains(&answer.header("retry-after")));
    assert!(*took < BOUND, "{took:?}");
}

/// Holds the table so that nobody reads or writes it, until it is dropped.
async fn lock_table(url: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE trade_posts IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn of_two_hundred_requests_those_that_cannot_wait_are_refused_at_once() {
    let url = new_database("pressure_queue").await;
    let mut config = config(&url);
    (config.database.connections, config.database.waiting) = (2, 20);
    // All of them are there before the first is given up.
    config.database.acquire = Duration::from_secs(3);
    (config.database.lock, config.database.statement) = (LONG, LONG);
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let path = format!("/v1/trade-posts/{id}");
    // So that the connections to the service are there.
    join_all((0..200).map(|_| service.get(&path))).await;

    let lock = lock_table(&url).await;
    let answers = join_all((0..200).map(|_| timed(service.get(&path)))).await;
    answers.iter().for_each(assert_503);
    let detail = "Too many requests wait for a server that this service depends on. Try again later.";
    let refused: Vec<_> = answers
        .iter()
        .filter(|(answer, _)| answer.body["detail"] == detail)
        .collect();
    assert_eq!(refused.len(), 200 - 22);
    // Before the first of the others was given up.
    let others = answers
        .iter()
        .filter(|(answer, _)| answer.body["detail"] != detail);
    let first_other = others.map(|(_, took)| *took).min().unwrap();
    assert!(refused.iter().all(|(_, took)| *took < first_other));

    lock.close().await.unwrap();
    eventually("requests are answered again", async || {
        service.get(&path).await.status == 200
    })
    .await;
    let calm = join_all((0..22).map(|_| service.get(&path))).await;
    assert!(calm.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn a_row_that_somebody_holds_costs_who_changes_it_a_moment_and_readers_nothing() {
    let url = new_database("pressure_row").await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM trade_posts FOR UPDATE")
        .execute(&mut other)
        .await
        .unwrap();

    let change = json!({"price": 1});
    let (changed, deleted) = tokio::join!(timed(service.patch(7, id, &change)), timed(service.delete(7, id)));
    assert_503(&changed);
    assert_503(&deleted);
    assert_eq!(service.get(&format!("/v1/trade-posts/{id}")).await.status, 200);
    other.close().await.unwrap();
    assert_eq!(service.patch(7, id, &change).await.status, 200);
}

#[tokio::test]
async fn a_statement_that_postgresql_cancels_is_503_and_readiness_tells_of_busy_connections() {
    let url = new_database("pressure_statement").await;
    let mut config = config(&url);
    config.database.connections = 2;
    config.database.statement = Duration::from_millis(200);
    config.database.lock = LONG;
    let cancelled = Service::start_with(config.clone()).await;
    config.database.statement = LONG;
    config.database.acquire = Duration::from_secs(2);
    config.database.request = LONG;
    let busy = Service::start_with(config).await;
    cancelled.until_ready().await;
    busy.until_ready().await;

    let lock = lock_table(&url).await;
    assert_503(&timed(cancelled.get("/v1/trade-posts")).await);
    assert_503(&timed(cancelled.post(7, &crate::service::sample(&json!({})))).await);

    let waiting = [busy.get("/v1/trade-posts"), busy.get("/v1/trade-posts/1")];
    let watching = async {
        eventually("readiness tells it", async || {
            let dependency = &busy.readyz().await.1["dependencies"]["postgresql"];
            *dependency == json!({"up": false, "reason": "all 2 connections are busy"})
        })
        .await;
        assert_503(&timed(busy.get("/v1/trade-posts")).await);
        lock.close().await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(waiting), watching);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 404]);
    busy.until_ready().await;
}

#[tokio::test]
async fn a_connection_that_is_gone_without_a_word_costs_a_moment_and_its_place_is_free_again() {
    let (proxy, url) = Proxy::in_front_of(&new_database("pressure_frozen").await).await;
    let mut config = config(&url);
    config.database.connections = 2;
    config.database.request = Duration::from_secs(1);
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let answers = join_all((0..4).map(|_| service.get("/v1/trade-posts"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));

    proxy.freeze();
    let frozen = join_all((0..4).map(|_| timed(service.get("/v1/trade-posts")))).await;
    frozen.iter().for_each(assert_503);
    eventually("readiness tells it", async || service.readyz().await.0 == 503).await;
    proxy.thaw();
    service.until_ready().await;
    eventually("requests are answered again", async || {
        let answers = join_all((0..4).map(|_| service.get("/v1/trade-posts"))).await;
        answers.iter().all(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn slow_answers_come_very_slow_ones_are_given_up_and_a_reset_passes() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("pressure_slow").await).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let path = format!("/v1/trade-posts/{id}");
    proxy.delay(Duration::from_millis(50));
    assert_eq!(service.get(&path).await.status, 200);
    proxy.delay(Duration::from_secs(3));
    assert_503(&timed(service.get(&path)).await);
    assert_503(&timed(service.delete(7, id)).await);
    proxy.delay(Duration::ZERO);
    eventually("requests are answered again", async || {
        [200, 404].contains(&service.get(&path).await.status)
    })
    .await;

    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    proxy.reset().await;
    // Connections are tried before they are used.
    let answer = service.get(&format!("/v1/trade-posts/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_client_that_sends_slowly_takes_nobody_the_place() {
    let mut config = config(&new_database("pressure_upload").await);
    (config.database.connections, config.database.waiting) = (1, 0);
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let mut slow = TcpStream::connect(service.public).await.unwrap();
    let head = format!(
        "POST /v1/trade-posts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        token(7)
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(service.get("/v1/trade-posts").await.status, 200);
    }
}

/// Pages of a search, up to the last one.
async fn pages(service: &Service, search: &str) -> Vec<Vec<i64>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let (answer, took) = timed(service.get(&format!("/v1/trade-posts?{search}{cursor}"))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(took < BOUND, "{took:?}");
        let items = answer.body["items"].as_array().unwrap();
        pages.push(items.iter().map(|post| post["id"].as_i64().unwrap()).collect());
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

/// A service with so many posts of member 1, of which those up to `last` have the word 책.
async fn with_posts(database: &str, posts: i64, last: i64) -> (Service, PgConnection) {
    let url = new_database(database).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category, created_at)
                  SELECT 1, CASE WHEN n <= $2 THEN '책' ELSE '의자' END, '', 1, 'x', now() - make_interval(secs => $1 - n)
                  FROM generate_series(1, $1) AS n ORDER BY n";
    let insert = sqlx::query(insert).bind(posts).bind(last);
    insert.execute(&mut connection).await.unwrap();
    (service, connection)
}

#[tokio::test]
async fn what_an_index_takes_too_long_to_find_is_found_along_the_list() {
    let (service, mut connection) = with_posts("pressure_collect", 21_000, 3).await;
    // Walking does not ask it.
    let slow = "CREATE FUNCTION slow(wanted text) RETURNS tsquery LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_sleep(60); RETURN ''::tsquery; END $$;
                CREATE OR REPLACE FUNCTION trade_post_pairs_query(wanted text) RETURNS tsquery
                    LANGUAGE sql STABLE STRICT RETURN slow(wanted)";
    sqlx::raw_sql(slow).execute(&mut connection).await.unwrap();
    let pages = pages(&service, "q=%EC%B1%85").await;
    assert_eq!(pages.concat(), [3, 2, 1]);
    assert!(pages.len() > 1 && pages[0].is_empty(), "{pages:?}");
}

#[tokio::test]
async fn a_page_ends_where_walking_on_takes_too_long() {
    let (service, mut connection) = with_posts("pressure_walk", 1_700, 1_660).await;
    // Behind the first 1,500 posts of the list is one whose look takes long.
    let slow = "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_sleep(60); RETURN true; END $$;
                CREATE POLICY slow ON trade_posts USING (id <> 100 OR slow());
                ALTER TABLE trade_posts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY";
    sqlx::raw_sql(slow).execute(&mut connection).await.unwrap();
    let search = "/v1/trade-posts?q=%EC%9D%98%EC%9E%90&limit=100";
    let (answer, took) = timed(service.get(search)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(took < BOUND, "{took:?}");
    assert_eq!(answer.body["items"].as_array().unwrap().len(), 40);
    assert!(answer.body["next_cursor"].is_string());

    sqlx::raw_sql("DROP POLICY slow ON trade_posts; CREATE POLICY fast ON trade_posts USING (true)")
        .execute(&mut connection)
        .await
        .unwrap();
    let cursor = answer.body["next_cursor"].as_str().unwrap();
    let rest = service
        .get(&format!("/v1/trade-posts?q=%EC%B1%85&cursor={cursor}"))
        .await;
    assert_eq!(
        rest.body["items"][0]["id"], 200,
        "it goes on behind the rows that were read"
    );
}
