//! A running trade-service with a database of its own, and the requests that tests send to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use clap::Parser;
use local_stack::tokens::{AUDIENCE, ISSUER, Signer};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use trade_service::Listeners;
use trade_service::config::Config;

static SIGNER: LazyLock<Signer> =
    LazyLock::new(|| Signer::open_or_create(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap());

/// Long enough for a loaded machine; nothing waits for all of it unless it fails.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn token(member: i64) -> String {
    SIGNER.token(member, Duration::from_mins(10)).unwrap()
}

/// The keys that tokens are checked with, as their issuer serves them.
pub(crate) fn jwks() -> String {
    SIGNER.jwks_json()
}

/// What every start needs besides the database: names of flags without the dashes, and values.
pub(crate) fn auth_settings() -> [(&'static str, String); 3] {
    [
        ("jwt-jwks", SIGNER.jwks_path().display().to_string()),
        ("jwt-issuer", ISSUER.to_owned()),
        ("jwt-audience", AUDIENCE.to_owned()),
    ]
}

pub(crate) fn config(database_url: &str) -> Config {
    let database = ("database-url", database_url.to_owned());
    let flags = auth_settings().into_iter().chain([database]);
    let flags = flags.map(|(name, value)| format!("--{name}={value}"));
    Config::parse_from(["trade-service".to_owned()].into_iter().chain(flags))
}

/// The URL of a new, empty database.
pub(crate) async fn new_database(name: &str) -> String {
    local_stack::testing::postgres()
        .await
        .create_database(name)
        .await
        .unwrap()
}

pub(crate) struct Service {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) client: Client,
    pub(crate) run: JoinHandle<anyhow::Result<()>>,
    pub(crate) shutdown: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Service {
    /// Ready to be asked. `database` names the test.
    pub(crate) async fn start(database: &str) -> Self {
        let service = Self::start_with(config(&new_database(database).await)).await;
        service.until_ready().await;
        service
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners {
            public: bind().await,
            admin: bind().await,
        };
        let (public, admin) = (
            listeners.public.local_addr().unwrap(),
            listeners.admin.local_addr().unwrap(),
        );
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(trade_service::run(config, listeners, shutdown.clone()));
        let stop_on_drop = shutdown.clone().drop_guard();
        Self {
            public,
            admin,
            client: Client::new(),
            run,
            shutdown,
            _stop_on_drop: stop_on_drop,
        }
    }

    pub(crate) async fn until_ready(&self) {
        eventually("the service is ready", async || self.readyz().await.0 == 200).await;
    }

    pub(crate) async fn readyz(&self) -> (u16, Value) {
        let answer = self
            .client
            .get(format!("http://{}/readyz", self.admin))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.public))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, member: i64, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/v1/trade-posts");
        Answer::of(request.bearer_auth(token(member)).json(body)).await
    }

    pub(crate) async fn patch(&self, member: i64, id: i64, body: &Value) -> Answer {
        let request = self.request(Method::PATCH, &format!("/v1/trade-posts/{id}"));
        Answer::of(request.bearer_auth(token(member)).json(body)).await
    }

    pub(crate) async fn patch_if(&self, etag: &str, member: i64, id: i64, body: &Value) -> Answer {
        let request = self.request(Method::PATCH, &format!("/v1/trade-posts/{id}"));
        Answer::of(
            request
                .bearer_auth(token(member))
                .header("if-match", etag)
                .json(body),
        )
        .await
    }

    pub(crate) async fn delete(&self, member: i64, id: i64) -> Answer {
        let request = self.request(Method::DELETE, &format!("/v1/trade-posts/{id}"));
        Answer::of(request.bearer_auth(token(member))).await
    }

    pub(crate) async fn get_as(&self, member: i64, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).bearer_auth(token(member))).await
    }

    pub(crate) async fn choose_buyer(&self, member: i64, id: i64, buyer: i64) -> Answer {
        let request = self.request(Method::PUT, &format!("/v1/trade-posts/{id}/buyer"));
        Answer::of(
            request
                .bearer_auth(token(member))
                .json(&json!({ "buyer_id": buyer })),
        )
        .await
    }

    pub(crate) async fn choose_buyer_if(&self, etag: &str, member: i64, id: i64, buyer: i64) -> Answer {
        let request = self.request(Method::PUT, &format!("/v1/trade-posts/{id}/buyer"));
        let request = request.bearer_auth(token(member)).header("if-match", etag);
        Answer::of(request.json(&json!({ "buyer_id": buyer }))).await
    }

    pub(crate) async fn delete_if(&self, etag: &str, member: i64, id: i64) -> Answer {
        let request = self.request(Method::DELETE, &format!("/v1/trade-posts/{id}"));
        Answer::of(request.bearer_auth(token(member)).header("if-match", etag)).await
    }

    /// PUT or DELETE.
    pub(crate) async fn favorite(&self, method: Method, member: i64, id: i64) -> Answer {
        let request = self.request(method, &format!("/v1/trade-posts/{id}/favorite"));
        Answer::of(request.bearer_auth(token(member))).await
    }

    /// What operators read.
    pub(crate) async fn metrics(&self) -> String {
        let request = self.client.get(format!("http://{}/metrics", self.admin));
        request.send().await.unwrap().text().await.unwrap()
    }

    /// A post with the sample's fields except for `change`; answers its id.
    pub(crate) async fn new_post(&self, member: i64, change: &Value) -> i64 {
        let answer = self.post(member, &sample(change)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["id"].as_i64().unwrap()
    }
}

/// A valid body of `POST /v1/trade-posts` with some fields replaced.
pub(crate) fn sample(change: &Value) -> Value {
    let mut body = json!({
        "title": "원목 책상 팝니다",
        "body": "2년 사용했고 상태 좋습니다. Size 120x60, pickup only.",
        "price": 45_000,
        "category": "가구",
        "image_urls": ["https://images.example/desk.jpg"],
    });
    for (field, value) in change.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// Null if there was no body.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap()
        };
        Self {
            status,
            headers,
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The whole problem, and that it is one.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str, title: &str, detail: &str) {
        let body = json!({
            "type": format!("urn:marketplace:problem:{code}"), "title": title, "status": status, "detail": detail,
        });
        assert_eq!((self.status, &self.body), (status, &body));
        assert_eq!(self.header("content-type"), "application/problem+json");
    }

    /// That exactly these fields are refused, with these messages.
    #[track_caller]
    pub(crate) fn assert_invalid(&self, errors: &[(&str, &str)]) {
        let errors: Vec<_> = errors
            .iter()
            .map(|(field, message)| json!({"field": field, "message": message}))
            .collect();
        let body = json!({
            "type": "urn:marketplace:problem:invalid-input", "title": "Invalid input", "status": 422,
            "errors": errors,
        });
        assert_eq!((self.status, &self.body), (422, &body));
        assert_eq!(self.header("content-type"), "application/problem+json");
    }

    #[track_caller]
    pub(crate) fn assert_no_such_post(&self) {
        self.assert_problem(404, "not-found", "Not found", "There is no such trade post.");
    }
}

/// Waits until `holds`, and fails if that takes too long.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Moves the clock of timers; what is sent and received goes on in real time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
