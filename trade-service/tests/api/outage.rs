//! PostgreSQL goes away and comes back, as seen through a proxy that is cut.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::proxy::Proxy;
use crate::service::{Answer, Service, config, eventually, new_database, pass};

fn assert_unavailable(answer: &Answer) {
    answer.assert_problem(
        503,
        "unavailable",
        "Temporarily unavailable",
        "A server that this service depends on does not answer. Try again later.",
    );
    assert_eq!(answer.header("retry-after"), "2");
}

async fn not_ready(service: &Service) -> bool {
    let (status, body) = service.readyz().await;
    status == 503 && body["dependencies"]["postgresql"]["up"] == false
}

#[tokio::test]
async fn an_outage_is_503_with_retry_after_and_passes() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("outage").await).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let path = format!("/v1/trade-posts/{id}");

    proxy.cut().await;
    let (new, change) = (crate::service::sample(&json!({})), json!({"price": 1}));
    let answers = tokio::join!(
        service.get(&path),
        service.get("/v1/trade-posts"),
        service.post(7, &new),
        service.patch(7, id, &change),
        service.delete(7, id),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4] {
        assert_unavailable(&answer);
    }
    eventually("readiness tells it", async || not_ready(&service).await).await;
    let live = service
        .client
        .get(format!("http://{}/livez", service.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), 200, "a restart would not help");

    proxy.restore().await;
    service.until_ready().await;
    assert_eq!(service.get(&path).await.status, 200);
    assert_eq!(service.delete(7, id).await.status, 204);
}

#[tokio::test]
async fn a_server_that_swallows_everything_is_503_within_the_bound() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("outage_swallow").await).await;
    let service = Service::start_with(config(&url)).await;
    service.until_ready().await;
    proxy.swallow().await;
    let begin = Instant::now();
    assert_unavailable(&service.get("/v1/trade-posts").await);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_start_waits_for_postgresql() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("outage_start").await).await;
    proxy.cut().await;
    let service = Service::start_with(config(&url)).await;
    let waiting = json!({"ready": false, "dependencies": {
        "jwks": {"up": true},
        "postgresql": {"up": false, "reason": "PostgreSQL does not answer"},
    }});
    eventually("it says what it waits for", async || {
        service.readyz().await == (503, waiting.clone())
    })
    .await;
    proxy.restore().await;
    service.until_ready().await;
    assert_eq!(service.get("/v1/trade-posts").await.status, 200);
}

#[tokio::test]
async fn a_start_does_not_wait_for_a_connection_that_stands_still() {
    let (proxy, url) = Proxy::in_front_of(&new_database("outage_still").await).await;
    proxy.freeze();
    let service = Service::start_with(config(&url)).await;
    let waiting = json!({"up": false, "reason": "PostgreSQL does not answer"});
    assert_ne!(service.readyz().await.1["dependencies"]["postgresql"], waiting);
    pass(Duration::from_secs(10)).await;
    eventually("it gives the connection up", async || {
        service.readyz().await.1["dependencies"]["postgresql"] == waiting
    })
    .await;
    proxy.thaw();
    // That of the next attempt may stand still as well.
    pass(Duration::from_secs(20)).await;
    service.until_ready().await;
    assert_eq!(service.get("/v1/trade-posts").await.status, 200);
}

#[tokio::test]
async fn a_start_that_waits_can_be_stopped() {
    let (mut proxy, url) = Proxy::in_front_of(&new_database("outage_stop").await).await;
    proxy.cut().await;
    let service = Service::start_with(config(&url)).await;
    eventually("it waits", async || not_ready(&service).await).await;
    service.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), service.run)
        .await
        .expect("ends")
        .unwrap()
        .unwrap();
}
