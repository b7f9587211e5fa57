//! What the registry answers, and how often it was asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use chat_service::{cdc::registry::WriterSchemas, store::Store};
use serde_json::{Value as Json, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A registry, and a database for what is kept of it.
pub struct World {
    pub store: Store,
    answers: Answers,
    url: String,
    server: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Answers(Arc<Mutex<HashMap<u32, Answer>>>);

#[derive(Clone)]
struct Answer {
    status: u16,
    body: String,
    asked: u32,
}

impl World {
    pub async fn start() -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("registry_{}_{number}", std::process::id());
        let mongo = local_stack::testing::mongo().await;
        let answers = Answers::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ccompat/", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/ccompat/schemas/ids/{id}", get(answer))
            .with_state(answers.clone());
        Self {
            store: Store::new(mongo.uri(), &name).await.unwrap(),
            answers,
            url,
            server: tokio::spawn(async { axum::serve(listener, app).await.unwrap() }),
        }
    }

    /// What a process of chat-service begins with.
    pub fn schemas(&self) -> WriterSchemas {
        WriterSchemas::new(&self.url, self.store.clone()).unwrap()
    }

    /// Nothing is behind the registry's address any more.
    pub async fn stop_registry(&mut self) {
        self.server.abort();
        // The socket is closed with the task.
        (&mut self.server).await.unwrap_err();
    }

    pub fn registers(&self, id: u32, schema: &str) {
        let answer = json!({ "schema": schema, "references": [] });
        self.answers(id, 200, answer.to_string());
    }

    pub fn forgets(&self, id: u32) {
        self.answers.0.lock().unwrap().remove(&id);
    }

    pub fn answers(&self, id: u32, status: u16, body: impl Into<String>) {
        let answer = Answer {
            status,
            body: body.into(),
            asked: 0,
        };
        self.answers.0.lock().unwrap().insert(id, answer);
    }

    /// How often this answer was given.
    pub fn asked(&self, id: u32) -> u32 {
        self.answers.0.lock().unwrap()[&id].asked
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(answers): State<Answers>, Path(id): Path<u32>) -> Response {
    let (status, body) = match answers.0.lock().unwrap().get_mut(&id) {
        Some(answer) => {
            answer.asked += 1;
            (answer.status, answer.body.clone())
        }
        None => (404, not_found(id).to_string()),
    };
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn not_found(id: u32) -> Json {
    json!({ "error_code": 40_403, "message": format!("No content with id/hash '{id}' was found.") })
}
