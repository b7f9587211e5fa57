//! `Idempotency-Key` on `POST /v1/trade-posts`.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::proxy::Proxy;
use crate::service::{Answer, Service, config, eventually, new_database, sample, token};

async fn create(service: &Service, member: i64, key: &str, body: &Value) -> Answer {
    let request = service
        .request(Method::POST, "/v1/trade-posts")
        .bearer_auth(token(member));
    Answer::of(request.header("idempotency-key", key).json(body)).await
}

async fn count(service: &Service) -> usize {
    let all = service.get("/v1/trade-posts?limit=100").await.body;
    all["items"].as_array().unwrap().len()
}

#[track_caller]
fn assert_same(repeated: &Answer, first: &Answer) {
    assert_eq!((repeated.status, &repeated.body), (first.status, &first.body));
    for header in ["location", "etag", "content-type"] {
        assert_eq!(repeated.header(header), first.header(header));
    }
}

async fn two_instances(database: &str) -> (String, [Service; 2]) {
    let url = new_database(database).await;
    let services = [
        Service::start_with(config(&url)).await,
        Service::start_with(config(&url)).await,
    ];
    join_all(services.iter().map(Service::until_ready)).await;
    (url, services)
}

#[tokio::test]
async fn a_repetition_is_answered_as_the_first_was_at_any_instance_whatever_became_of_the_post() {
    let (_, [one, other]) = two_instances("idempotency_repeat").await;
    let body = sample(&json!({ "body": "줄\n둘 \"따옴표\" 😀" }));
    let first = create(&one, 7, "key-1", &body).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let location = first.header("location").to_owned();
    let read = one.get_as(7, &location).await;
    assert_eq!(
        (&read.body, read.header("etag")),
        (&first.body, first.header("etag"))
    );
    assert_same(&create(&one, 7, "key-1", &body).await, &first);
    assert_same(&create(&other, 7, "key-1", &body).await, &first);

    // Written in another way, it asks for the same.
    let other_way = serde_json::to_string_pretty(&body)
        .unwrap()
        .replace('원', "\\uc6d0");
    let request = other
        .request(Method::POST, "/v1/trade-posts")
        .bearer_auth(token(7));
    let request = request
        .header("content-type", "application/json")
        .header("idempotency-key", "key-1");
    assert_same(&Answer::of(request.body(other_way)).await, &first);

    let id = first.body["id"].as_i64().unwrap();
    assert_eq!(
        one.patch(7, id, &json!({ "title": "다른 제목" })).await.status,
        200
    );
    assert_same(&create(&other, 7, "key-1", &body).await, &first);
    assert_eq!(one.delete(7, id).await.status, 204);
    assert_same(&create(&other, 7, "key-1", &body).await, &first);
    other.get(&location).await.assert_no_such_post();
    assert_eq!(count(&one).await, 0, "nothing was made again");

    let metrics = other.metrics().await;
    assert!(metrics.contains("\ncreates_repeated_total 4\n"), "{metrics}");
}

#[tokio::test]
async fn a_key_means_one_request_of_one_member() {
    let service = Service::start("idempotency_reused").await;
    let body = sample(&json!({}));
    let first = create(&service, 7, "key-1", &body).await;
    for change in [
        json!({ "price": 45_001 }),
        json!({ "title": "" }),
        json!({ "image_urls": [] }),
    ] {
        let reused = create(&service, 7, "key-1", &sample(&change)).await;
        if change["title"] == "" {
            reused.assert_invalid(&[("title", "must have 1 to 100 characters, got 0")]);
        } else {
            reused.assert_problem(
                422,
                "idempotency-key-reused",
                "Idempotency key reused",
                "Another trade post was created under this Idempotency-Key. Send each new request with a key of \
                 its own, and repeat a request with the body that it had.",
            );
        }
    }
    let others = create(&service, 8, "key-1", &body).await;
    let next = create(&service, 7, "key-2", &body).await;
    // Upper and lower case are different keys.
    let upper = create(&service, 7, "KEY-1", &body).await;
    let without = service.post(7, &body).await;
    let mut ids: Vec<i64> = [&first, &others, &next, &upper, &without]
        .map(|answer| answer.body["id"].as_i64().unwrap())
        .to_vec();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(count(&service).await, 5);
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_name() {
    let service = Service::start("idempotency_key").await;
    let long = "k".repeat(256);
    for (key, message) in [
        ("", "must have 1 to 255 characters, got 0"),
        (&long, "must have 1 to 255 characters, got 256"),
        (
            "a b",
            "must have visible ASCII characters only, got the byte 0x20",
        ),
        (
            "열쇠",
            "must have visible ASCII characters only, got the byte 0xEC",
        ),
    ] {
        let answer = create(&service, 7, key, &sample(&json!({}))).await;
        answer.assert_invalid(&[("Idempotency-Key", message)]);
    }
    let twice = service
        .request(Method::POST, "/v1/trade-posts")
        .bearer_auth(token(7));
    let twice = twice
        .header("idempotency-key", "a")
        .header("idempotency-key", "a");
    let answer = Answer::of(twice.json(&sample(&json!({ "price": -1 })))).await;
    answer.assert_invalid(&[
        ("price", "must be 0 to 10000000000, got -1"),
        ("Idempotency-Key", "must be sent once, got 2"),
    ]);
    assert_eq!(count(&service).await, 0);
    for key in [
        &long[..255],
        "'; DROP TABLE trade_posts; --".replace(' ', "_").as_str(),
    ] {
        assert_eq!(create(&service, 7, key, &sample(&json!({}))).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_creates_and_all_are_answered_alike() {
    let (url, services) = two_instances("idempotency_race").await;
    let bodies = [sample(&json!({})), sample(&json!({ "price": 1 }))];
    for round in 0..5 {
        let key = format!("key-{round}");
        let answers = join_all((0..20).map(async |number: usize| {
            let body = usize::from(number % 5 == 4);
            (body, create(&services[number % 2], 7, &key, &bodies[body]).await)
        }))
        .await;
        let (won, first) = answers.iter().find(|(_, answer)| answer.status == 201).unwrap();
        for (body, answer) in &answers {
            if body == won {
                assert_same(answer, first);
            } else {
                assert_eq!(answer.status, 422, "{}", answer.body);
            }
        }
    }
    assert_eq!(count(&services[0]).await, 5);
    let pool = PgPool::connect(&url).await.unwrap();
    let agree = "SELECT count(*) FROM idempotency_keys k JOIN trade_posts p
                 ON p.id = k.trade_post_id AND p.xmin::text = k.version AND p.created_at = k.created_at";
    let agree: i64 = sqlx::query_scalar(agree).fetch_one(&pool).await.unwrap();
    assert_eq!(agree, 5);
}

#[tokio::test]
async fn a_client_that_was_not_answered_repeats_without_harm() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("idempotency_outage").await).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let body = sample(&json!({}));
    proxy.cut().await;
    assert_eq!(create(&service, 7, "key", &body).await.status, 503);
    proxy.restore().await;
    service.until_ready().await;
    let first = create(&service, 7, "key", &body).await;
    assert_eq!(first.status, 201);
    assert_same(&create(&service, 7, "key", &body).await, &first);
    assert_eq!(count(&service).await, 1);
}

#[tokio::test]
async fn keys_are_forgotten_after_a_day_and_not_before() {
    let (url, [service, _]) = two_instances("idempotency_age").await;
    let body = sample(&json!({}));
    let old = create(&service, 7, "old", &body).await;
    let young = create(&service, 7, "young", &body).await;
    let pool = PgPool::connect(&url).await.unwrap();
    let age = "UPDATE idempotency_keys SET created_at = now() - make_interval(secs => $2) WHERE key = $1";
    for (key, hours) in [("old", 24.01), ("young", 23.9)] {
        let age = sqlx::query(age).bind(key).bind(hours * 3600.0);
        age.execute(&pool).await.unwrap();
    }
    // They are looked for now and then, and at every start.
    let started = Service::start_with(config(&url)).await;
    started.until_ready().await;
    eventually("the old key is forgotten", async || {
        let left: Vec<String> = sqlx::query_scalar("SELECT key FROM idempotency_keys")
            .fetch_all(&pool)
            .await
            .unwrap();
        left == ["young"]
    })
    .await;
    let again = create(&service, 7, "old", &body).await;
    assert_eq!(again.status, 201);
    assert_ne!(again.body["id"], old.body["id"]);
    let id = |answer: &Answer| answer.body["id"].clone();
    assert_eq!(id(&create(&service, 7, "young", &body).await), id(&young));
    let metrics = started.metrics().await;
    assert!(
        metrics.contains("\nidempotency_keys_removed_total 1\n"),
        "{metrics}"
    );
}
