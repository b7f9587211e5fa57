//! `connectors reconcile`, told to end at each of its steps. A chat-service that has missed a delete of each table
//! stands in for the real one, which would not hold still.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    run::interrupted_on_a_terminal,
    world::{World, eventually},
};

/// Reconciliations by id, with their state, and whether one that is confirmed comes to its end.
#[derive(Debug, Default)]
struct Chat {
    states: Mutex<BTreeMap<String, &'static str>>,
    finishes: bool,
    /// Whether it ends one that is to be cancelled.
    is_busy: AtomicBool,
}

impl Chat {
    async fn start(finishes: bool) -> (Arc<Self>, SocketAddr) {
        let chat = Arc::new(Self {
            finishes,
            ..Self::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = Arc::clone(&chat);
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let chat = Arc::clone(&answering);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&chat), request));
                    let http = http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(connection), service).await;
                });
            }
        });
        (chat, address)
    }

    /// What became of those that were begun, in their order: ids begin with a time.
    fn states(&self) -> Vec<&'static str> {
        self.states.lock().unwrap().values().copied().collect()
    }
}

async fn answer(chat: Arc<Chat>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let rest = path.strip_prefix("/admin/v1/reconciliations").unwrap();
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    let mut states = chat.states.lock().unwrap();
    let id = match parts.first() {
        Some(id) => (*id).to_owned(),
        None => serde_json::from_slice::<Value>(&body).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned(),
    };
    let state = states.entry(id.clone()).or_insert("ready");
    let page = |item: Value| json!({"items": [item], "next_cursor": null});
    let mut code = StatusCode::OK;
    let body = match (method, parts.get(1).copied()) {
        (Method::GET, Some("candidates")) => {
            page(json!({"trade_post_id": 999_999, "title": "a", "status": "on_sale", "open_rooms": 1}))
        }
        (Method::GET, Some("keyword-candidates")) => page(json!({"keyword_id": 999_999, "member_id": 7})),
        (Method::POST, Some("cancel")) if chat.is_busy.load(Ordering::Relaxed) => {
            code = StatusCode::SERVICE_UNAVAILABLE;
            json!({"type": "urn:marketplace:problem:unavailable", "title": "it is busy"})
        }
        (Method::POST, Some("cancel")) if *state != "ready" => {
            code = StatusCode::CONFLICT;
            json!({"type": "urn:marketplace:problem:conflict", "title": "it is closing"})
        }
        (_, step) => {
            match step {
                Some("confirm") => *state = if chat.finishes { "done" } else { "closing" },
                Some("cancel") => *state = "cancelled",
                _ => (),
            }
            json!({"id": id, "state": *state, "rows": 0, "candidates": 1, "posts_closed": 1, "rooms_closed": 1,
                "keywords_ended": 0})
        }
    };
    let response = Response::builder().status(code);
    Ok(response.body(Full::from(body.to_string())).unwrap())
}

#[tokio::test]
async fn a_reconciliation_can_be_interrupted_at_every_step() {
    let mut world = World::new("interrupted").await;
    world.set(
        "notification.sink.topic.name",
        "__debezium-notification.interrupted",
    );
    world.apply().await.unwrap();
    let (connect, database) = (
        world.stack.connect.url().to_owned(),
        world.stack.postgres.superuser_url("interrupted"),
    );
    let reconcile = async |address: SocketAddr, typed: &'static str, at: &str| {
        let chat = format!("http://{address}");
        let environment = [
            ("CONNECT_URL", connect.as_str()),
            ("TRADE_DATABASE_URL", database.as_str()),
            ("CHAT_ADMIN_URL", chat.as_str()),
        ];
        let (code, shown) =
            interrupted_on_a_terminal(&environment, &["reconcile", "interrupted"], typed, at).await;
        assert_eq!(code, Some(7), "{shown}");
        shown
    };
    let (posts, keywords) = ("Close these 1 posts", "End these 1 keywords");

    // While it waits, there is nothing that has to be ended.
    let (chat, address) = Chat::start(true).await;
    world.execute("BEGIN; SELECT pg_current_xact_id()").await;
    let shown = reconcile(address, "", "posts: waiting").await;
    assert!(shown.contains("interrupted: no post is closed\r\n"), "{shown}");
    assert_eq!(chat.states(), [""; 0]);
    world.execute("ROLLBACK").await;

    let shown = reconcile(address, "", posts).await;
    assert!(shown.contains("interrupted: no post is closed\r\n"), "{shown}");
    assert_eq!(chat.states(), ["cancelled"]);

    // At the second table, with the first one done.
    let (chat, address) = Chat::start(true).await;
    eventually("the snapshot is over", async || {
        match world
            .api
            .offsets("interrupted")
            .await
            .unwrap()
            .unwrap()
            .snapshot()
        {
            None => Ok(()),
            Some(id) => Err(id),
        }
    })
    .await;
    let shown = reconcile(address, "y\n", keywords).await;
    let told = "no keyword is ended; before that: closed 1 posts and 1 rooms\r\n";
    assert!(shown.contains(&format!("interrupted: {told}")), "{shown}");
    assert_eq!(chat.states(), ["done", "cancelled"]);
    let shown = reconcile(address, "y\nn\n", "").await;
    assert!(shown.contains(told), "{shown}");
    assert!(!shown.contains("nothing was done"), "{shown}");
    assert_eq!(chat.states()[2..], ["done", "cancelled"]);

    let (chat, address) = Chat::start(false).await;
    let shown = reconcile(address, "y\n", "closing: ").await;
    assert!(
        shown.contains("was confirmed, and chat-service finishes it by itself"),
        "{shown}"
    );
    assert_eq!(chat.states(), ["closing"]);

    chat.is_busy.store(true, Ordering::Relaxed);
    let shown = reconcile(address, "", posts).await;
    assert!(
        shown.contains("interrupted: no post is closed; reconcile-") && shown.contains("--cancel reconcile-"),
        "{shown}"
    );
    world.end().await;
}
