//! One chat-service with a database of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chat_service::{
    Listeners,
    cdc::{
        change_event::{Arrival, CaptureTimes, Change, ChangeEvent, Event, Position, Post},
        close::carry_out,
        plan::plan,
    },
    config::Config,
    run,
    store::{Store, now},
};
use clap::Parser;
use local_stack::tokens::Signer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Tests do in a second what people do in minutes; those of the limits set them.
fn unlimited<'a>(flags: &'a [&'a str]) -> impl Iterator<Item = &'a &'a str> {
    let rates = ["--send-rate=0", "--room-rate=0", "--stream-rate=0"].iter();
    rates.filter(|rate| {
        !flags
            .iter()
            .any(|flag| flag.split('=').next() == rate.split('=').next())
    })
}

/// Nothing listens there.
const REFUSED: &str = "127.0.0.1:9";

pub const SELLER: i64 = 1;
pub const BUYER: i64 = 2;
pub const STRANGER: i64 = 3;

pub struct Chat {
    pub base: String,
    pub admin: String,
    pub store: Store,
    pub http: reqwest::Client,
    pub signer: Arc<Signer>,
    mongodb_uri: String,
    erase_after: Duration,
    service: JoinHandle<anyhow::Result<()>>,
    shutdown: DropGuard,
    folder: Arc<tempfile::TempDir>,
}

/// An answer: status, headers, body as JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Chat {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_at(local_stack::testing::mongo().await.uri(), flags).await
    }

    /// The service reaches MongoDB at `mongodb_uri`, and the test at its own address.
    pub async fn start_at(mongodb_uri: &str, flags: &[&str]) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let database = format!(
            "chat_api_{}_{}",
            std::process::id(),
            DATABASES.fetch_add(1, Ordering::Relaxed)
        );
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open_or_create(folder.path()).unwrap();
        Self::launch(mongodb_uri, &database, Arc::new(signer), Arc::new(folder), flags).await
    }

    /// Another instance over the same database.
    pub async fn beside(&self, flags: &[&str]) -> Self {
        let (signer, folder) = (Arc::clone(&self.signer), Arc::clone(&self.folder));
        Self::launch(&self.mongodb_uri, self.store.db.name(), signer, folder, flags).await
    }

    async fn launch(
        mongodb_uri: &str,
        database: &str,
        signer: Arc<Signer>,
        folder: Arc<tempfile::TempDir>,
        flags: &[&str],
    ) -> Self {
        let mongo = local_stack::testing::mongo().await;
        let listeners = Listeners {
            public: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            admin: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (base, admin) = (url(&listeners.public), url(&listeners.admin));
        let registry = format!("http://{REFUSED}");
        let jwks = signer.jwks_path().display().to_string();
        let fixed = [
            "chat-service",
            "--mongodb-uri",
            mongodb_uri,
            "--mongodb-database",
            database,
            "--kafka-bootstrap-servers",
            REFUSED,
            "--schema-registry-url",
            &registry,
            "--jwt-jwks",
            &jwks,
            "--jwt-issuer",
            "local-stack",
            "--jwt-audience",
            "marketplace",
        ];
        let config = Config::try_parse_from(fixed.iter().chain(unlimited(flags)).chain(flags)).unwrap();
        let store = Store::new(mongo.uri(), database).await.unwrap();
        store
            .create_indexes(config.fence_ttl, config.notification_ttl)
            .await
            .unwrap();
        let erase_after = config.erase_after;
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(run(config, listeners, shutdown.clone()));
        Self {
            base,
            admin,
            store,
            http: reqwest::Client::new(),
            erase_after,
            signer,
            mongodb_uri: mongodb_uri.to_owned(),
            service,
            shutdown: shutdown.drop_guard(),
            folder,
        }
    }

    pub fn token(&self, member: i64) -> String {
        self.signer.token(member, Duration::from_mins(5)).unwrap()
    }

    pub async fn call(&self, member: i64, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_at(&self.base, member, method, path, body).await
    }

    /// The same at another instance.
    pub async fn call_at(
        &self,
        base: &str,
        member: i64,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method, format!("{base}{path}"))
            .bearer_auth(self.token(member));
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request).await
    }

    pub async fn get(&self, member: i64, path: &str) -> Answer {
        self.call(member, Method::GET, path, None).await
    }

    pub async fn post(&self, member: i64, path: &str, body: Value) -> Answer {
        self.call(member, Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, member: i64, path: &str, body: Value) -> Answer {
        self.call(member, Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, member: i64, path: &str) -> Answer {
        self.call(member, Method::DELETE, path, None).await
    }

    pub async fn operator(&self, path: &str) -> Answer {
        Answer::of(self.http.get(format!("{}{path}", self.admin))).await
    }

    /// An operator changes something.
    pub async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.admin));
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request).await
    }

    /// The metrics as Prometheus reads them.
    pub async fn metrics(&self) -> String {
        let answer = self.http.get(format!("{}/metrics", self.admin)).send();
        answer.await.unwrap().text().await.unwrap()
    }

    /// Opens a room of [`BUYER`] and answers its id.
    pub async fn room(&self, trade_post_id: i64) -> String {
        self.room_of(trade_post_id, BUYER).await
    }

    pub async fn room_of(&self, trade_post_id: i64, buyer: i64) -> String {
        let opened = self
            .post(buyer, "/v1/rooms", json!({ "trade_post_id": trade_post_id }))
            .await;
        assert!(opened.status.is_success(), "{opened:?}");
        opened.body["id"].as_str().unwrap().to_owned()
    }

    pub async fn send(&self, member: i64, room: &str, id: &str, body: &str) -> Answer {
        self.send_at(&self.base, member, room, id, body).await
    }

    /// The same at another instance.
    pub async fn send_at(&self, base: &str, member: i64, room: &str, id: &str, body: &str) -> Answer {
        let message = json!({ "client_message_id": id, "body": body });
        let path = format!("/v1/rooms/{room}/messages");
        self.call_at(base, member, Method::POST, &path, Some(message))
            .await
    }

    /// Carries out captured changes as the consumer does, as one batch. Answers the rooms closed.
    pub async fn capture(&self, changes: impl IntoIterator<Item = (i64, i64, Change)>) -> usize {
        self.carry_out(events(changes)).await
    }

    /// The whole table was emptied at `lsn`.
    pub async fn truncate(&self, lsn: i64) -> usize {
        self.carry_out([Event::Truncate {
            lsn,
            times: CaptureTimes::default(),
        }])
        .await
    }

    async fn carry_out(&self, events: impl IntoIterator<Item = Event>) -> usize {
        let mut rooms = 0;
        for step in plan(events) {
            rooms += carry_out(&self.store, &step, now(), self.erase_after)
                .await
                .unwrap()
                .rooms;
        }
        rooms
    }

    /// A post of [`SELLER`] was put on sale at `lsn`.
    pub async fn on_sale(&self, trade_post_id: i64, lsn: i64) {
        self.capture([(trade_post_id, lsn, upsert(lsn))]).await;
    }

    /// The service is gone from one moment to the next.
    pub async fn kill(self) {
        self.service.abort();
        assert!(self.service.await.unwrap_err().is_cancelled());
    }

    /// The service ends, and ends well.
    pub async fn stop(self) {
        let Self {
            service, shutdown, ..
        } = self;
        drop(shutdown);
        tokio::time::timeout(Duration::from_secs(10), service)
            .await
            .expect("stops")
            .unwrap()
            .unwrap();
    }
}

impl Answer {
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        };
        Self {
            status,
            headers,
            body,
        }
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(
            self.body["type"],
            format!("urn:marketplace:problem:{code}"),
            "{self:?}"
        );
        assert_eq!(self.body["status"], status);
        &self.body
    }
}

/// Posts' changes, with the offsets that they have in one partition.
pub fn events(changes: impl IntoIterator<Item = (i64, i64, Change)>) -> impl Iterator<Item = Event> {
    changes.into_iter().map(|(trade_post_id, offset, change)| {
        let position = Position { partition: 0, offset };
        Event::Post(ChangeEvent {
            trade_post_id,
            position,
            change,
        })
    })
}

pub fn upsert(lsn: i64) -> Change {
    Change::Upsert {
        lsn,
        arrival: None,
        post: Post {
            seller_id: SELLER,
            title: "자전거 팔아요".into(),
            status: "on_sale".into(),
        },
    }
}

pub fn create(lsn: i64) -> Change {
    coming(upsert(lsn), Arrival::Created)
}

/// The row comes from another id.
pub fn arrive(lsn: i64) -> Change {
    coming(upsert(lsn), Arrival::Moved)
}

/// The same row, coming to its id in that way.
pub fn coming(change: Change, arrival: Arrival) -> Change {
    match change {
        Change::Upsert { lsn, post, .. } => Change::Upsert {
            lsn,
            post,
            arrival: Some(arrival),
        },
        other => other,
    }
}

pub fn delete(lsn: i64) -> Change {
    Change::Delete {
        lsn,
        times: CaptureTimes {
            committed_ms: 1_000,
            captured_ms: 2_000,
        },
    }
}

/// Waits until `probe` answers something.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "not within 20 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
