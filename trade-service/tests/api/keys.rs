//! The server of the keys that tokens are checked with stops answering.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use futures_util::future::join_all;
use local_stack::tokens::Signer;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::service::{Answer, Service, config, eventually, jwks, new_database, pass};

/// Answers once, and lets everybody after that wait. Counts who asks.
async fn key_server() -> (String, Arc<AtomicUsize>) {
    async fn keys(State(asked): State<Arc<AtomicUsize>>) -> String {
        if asked.fetch_add(1, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        jwks()
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .route("/jwks", get(keys))
        .with_state(Arc::clone(&asked));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

#[tokio::test]
async fn who_waits_for_a_key_takes_nobody_a_place_and_does_not_wait_long() {
    let (jwks, asked) = key_server().await;
    let mut config = config(&new_database("keys_silent").await);
    config.auth.jwt_jwks = jwks;
    (config.database.connections, config.database.waiting) = (2, 0);
    let service = Service::start_with(config).await;
    service.until_ready().await;
    let id = service.new_post(7, &json!({})).await;
    let path = format!("/v1/trade-posts/{id}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger");
    std::fs::create_dir_all(&folder).unwrap();
    let stranger = Signer::open_or_create(&folder).unwrap();
    let stranger = stranger.token(8, Duration::from_mins(10)).unwrap();

    // After the last reading there is a pause.
    pass(Duration::from_secs(10)).await;
    let begin = Instant::now();
    let show = || service.request(Method::GET, &path).bearer_auth(&stranger);
    let waiting = join_all((0..20).map(|_| async {
        let answer = Answer::of(show()).await;
        (answer.status, begin.elapsed())
    }));
    let others = async {
        eventually("the keys are asked for", async || {
            asked.load(Ordering::SeqCst) == 2
        })
        .await;
        for _ in 0..3 {
            assert_eq!(service.get("/v1/trade-posts").await.status, 200);
        }
        assert_eq!(service.get_as(7, "/v1/me/posts").await.status, 200);
        begin.elapsed()
    };
    let (waiting, others) = tokio::join!(waiting, others);
    // Nobody needs a token to look at a post. Twenty that come back at once are more than there are places.
    assert!(waiting.iter().all(|(status, _)| [200, 503].contains(status)));
    assert!(waiting.iter().any(|(status, _)| *status == 200), "{waiting:?}");
    let took = waiting.iter().map(|(_, took)| *took).max().unwrap();
    assert!(
        others < took && took < Duration::from_secs(3),
        "{others:?} {took:?}"
    );

    let refused = Answer::of(service.request(Method::DELETE, &path).bearer_auth(&stranger)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
}
