//! A client of the marketplace's REST APIs, as an app of one member would be: what the demo and the
//! system's tests speak to the services with. It knows the APIs' JSON and no code of the services.
//!
//! Invariant: an answer that is not a success is an error that keeps the status and the problem body;
//! nothing is repeated behind the caller's back but [`Client::open_room`], and that says so.

use std::time::{Duration, Instant};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{IF_MATCH, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

mod events;
mod model;
pub mod sse;

pub use events::{Event, EventStream};
pub use model::{Deletion, Message, Notification, Page, Room, RoomPost, TradePost};

const CONNECT_BOUND: Duration = Duration::from_secs(5);
const ANSWER_BOUND: Duration = Duration::from_secs(30);
/// How long the capture may be behind a new post. It is milliseconds unless a server was restarted.
const CAPTURE_BOUND: Duration = Duration::from_secs(30);
/// The answer asks for a second; a reader on the same machine need not wait so long.
const CAPTURE_PAUSE: Duration = Duration::from_millis(20);
/// The APIs' largest page.
const PAGE: usize = 100;

/// Base URLs of the services, without a slash at the end.
#[derive(Clone, Debug)]
pub struct Bases {
    pub trade: String,
    pub chat: String,
    pub chat_admin: String,
}

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    bases: Bases,
    token: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{request} was answered {status}: {problem}")]
    Refused {
        request: String,
        status: StatusCode,
        /// The problem body, or the body's text if it is no JSON.
        problem: Value,
        retry_after: Option<Duration>,
    },
    #[error("{request} was not answered")]
    Unanswered {
        request: String,
        #[source]
        source: reqwest::Error,
    },
}

impl ClientError {
    /// None if there was no answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unanswered { .. } => None,
        }
    }

    /// The last part of the problem's type, such as `room-closed`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => problem["type"].as_str()?.rsplit(':').next(),
            Self::Unanswered { .. } => None,
        }
    }
}

impl Client {
    /// A client that sends `token` with every request.
    ///
    /// # Errors
    /// If the machine's TLS settings cannot be read.
    pub fn new(bases: Bases, token: impl Into<String>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_BOUND)
            // The services are on this machine, whatever proxy its environment names.
            .no_proxy()
            .build()?;
        let token = token.into();
        Ok(Self { http, bases, token })
    }

    /// The same for another member; both share their connections.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            ..self.clone()
        }
    }

    /// The same at another instance of chat-service.
    #[must_use]
    pub fn at_chat(mut self, chat: impl Into<String>, chat_admin: impl Into<String>) -> Self {
        self.bases.chat = chat.into();
        self.bases.chat_admin = chat_admin.into();
        self
    }

    /// A request to trade-service that carries the token, for what no method here does.
    pub fn trade(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &self.bases.trade, path)
    }

    /// The same to chat-service.
    pub fn chat(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &self.bases.chat, path)
    }

    /// The same to chat-service's admin listener.
    pub fn chat_admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &self.bases.chat_admin, path)
    }

    /// `post` is the JSON body: title, body, price, category, `image_urls`.
    pub async fn create_post(&self, post: &Value) -> Result<TradePost, ClientError> {
        json_of(self.trade(Method::POST, "/v1/trade-posts").json(post)).await
    }

    pub async fn post(&self, id: i64) -> Result<TradePost, ClientError> {
        json_of(self.trade(Method::GET, &post_path(id))).await
    }

    /// A page of posts, newest first; `query` is the list's query, such as `("seller_id", "7")`.
    pub async fn posts(&self, query: &[(&str, &str)]) -> Result<Page<TradePost>, ClientError> {
        json_of(self.trade(Method::GET, "/v1/trade-posts").query(query)).await
    }

    pub async fn patch_post(&self, id: i64, changes: &Value) -> Result<TradePost, ClientError> {
        json_of(self.trade(Method::PATCH, &post_path(id)).json(changes)).await
    }

    /// Which reserves the post for them.
    pub async fn choose_buyer(&self, id: i64, buyer: i64) -> Result<TradePost, ClientError> {
        let path = format!("{}/buyer", post_path(id));
        json_of(self.trade(Method::PUT, &path).json(&json!({ "buyer_id": buyer }))).await
    }

    /// Whatever version it has, and also if a buyer was chosen.
    pub async fn delete_post(&self, id: i64) -> Result<(), ClientError> {
        let request = self.trade(Method::DELETE, &post_path(id)).header(IF_MATCH, "*");
        answer(request.timeout(ANSWER_BOUND)).await.map(drop)
    }

    /// Opens a room as a buyer, or answers the one there is. A post that was made a moment ago may not
    /// be known to chat-service yet: asks again while the answer says so.
    pub async fn open_room(&self, trade_post_id: i64) -> Result<Room, ClientError> {
        let deadline = Instant::now() + CAPTURE_BOUND;
        loop {
            match self.open_room_once(trade_post_id).await {
                Err(ClientError::Refused {
                    status: StatusCode::NOT_FOUND,
                    retry_after: Some(_),
                    ..
                }) if Instant::now() < deadline => tokio::time::sleep(CAPTURE_PAUSE).await,
                answer => return answer,
            }
        }
    }

    /// The same, asking once.
    pub async fn open_room_once(&self, trade_post_id: i64) -> Result<Room, ClientError> {
        let body = json!({ "trade_post_id": trade_post_id });
        json_of(self.chat(Method::POST, "/v1/rooms").json(&body)).await
    }

    /// All rooms of the member, last activity first.
    pub async fn rooms(&self) -> Result<Vec<Room>, ClientError> {
        self.all("/v1/rooms").await
    }

    /// All rooms of a post that is the member's own.
    pub async fn rooms_of_post(&self, trade_post_id: i64) -> Result<Vec<Room>, ClientError> {
        self.all(&format!("/v1/trade-posts/{trade_post_id}/rooms")).await
    }

    pub async fn room(&self, room_id: &str) -> Result<Room, ClientError> {
        json_of(self.chat(Method::GET, &format!("/v1/rooms/{room_id}"))).await
    }

    /// All messages of a room, oldest first.
    pub async fn messages(&self, room_id: &str) -> Result<Vec<Message>, ClientError> {
        let mut all: Vec<Message> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.seq);
            let page = self.messages_after(room_id, after).await?;
            let full = page.items.len() == PAGE;
            all.extend(page.items);
            if !full {
                return Ok(all);
            }
        }
    }

    /// A page of messages behind that sequence, oldest first.
    pub async fn messages_after(&self, room_id: &str, seq: i64) -> Result<Page<Message>, ClientError> {
        let path = format!("/v1/rooms/{room_id}/messages?after={seq}&limit={PAGE}");
        json_of(self.chat(Method::GET, &path)).await
    }

    /// Sending the same `client_message_id` again answers the first message.
    pub async fn send(
        &self,
        room_id: &str,
        client_message_id: &str,
        body: &str,
    ) -> Result<Message, ClientError> {
        let message = json!({ "client_message_id": client_message_id, "body": body });
        let path = format!("/v1/rooms/{room_id}/messages");
        json_of(self.chat(Method::POST, &path).json(&message)).await
    }

    /// All kept notifications of the member, newest first.
    pub async fn notifications(&self) -> Result<Vec<Notification>, ClientError> {
        let mut all: Vec<Notification> = Vec::new();
        loop {
            let before = all.last().map_or(i64::MAX, |last| last.seq);
            let path = format!("/v1/notifications?before={before}&limit={PAGE}");
            let page: Page<Notification> = json_of(self.chat(Method::GET, &path)).await?;
            let full = page.items.len() == PAGE;
            all.extend(page.items);
            if !full {
                return Ok(all);
            }
        }
    }

    /// What became of a post's deletions, newest first. A post without chats has none.
    pub async fn deletions(&self, trade_post_id: i64) -> Result<Vec<Deletion>, ClientError> {
        let path = format!("/admin/v1/deletions/{trade_post_id}");
        let page: Page<Deletion> = json_of(self.chat_admin(Method::GET, &path)).await?;
        Ok(page.items)
    }

    /// Opens the member's event stream: from now on, or behind `last_event_id`.
    pub async fn events(&self, last_event_id: Option<i64>) -> Result<EventStream, ClientError> {
        EventStream::open(self.clone(), last_event_id).await
    }

    async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request = self.chat(Method::GET, path).query(&[("limit", PAGE)]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Page<T> = json_of(request).await?;
            all.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    fn request(&self, method: Method, base: &str, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{base}{path}"))
            .bearer_auth(&self.token)
    }
}

fn post_path(id: i64) -> String {
    format!("/v1/trade-posts/{id}")
}

/// The JSON of a successful answer.
pub async fn json_of<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ClientError> {
    let (name, response) = answer(request.timeout(ANSWER_BOUND)).await?;
    response.json().await.map_err(|source| ClientError::Unanswered {
        request: name,
        source,
    })
}

/// The request's name for messages, and its successful answer. Its body has no time limit of its own.
async fn answer(request: RequestBuilder) -> Result<(String, Response), ClientError> {
    let (http, request) = request.build_split();
    let request = request.map_err(|source| ClientError::Unanswered {
        request: "a request".to_owned(),
        source,
    })?;
    let name = format!("{} {}", request.method(), request.url());
    let unanswered = |source| ClientError::Unanswered {
        request: name.clone(),
        source,
    };
    let response = http.execute(request).await.map_err(unanswered)?;
    let status = response.status();
    if status.is_success() {
        return Ok((name, response));
    }
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let text = response.text().await.map_err(unanswered)?;
    let problem = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Err(ClientError::Refused {
        request: name,
        status,
        problem,
        retry_after,
    })
}
