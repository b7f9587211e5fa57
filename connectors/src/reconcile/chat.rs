//! chat-service's admin API, as far as reconciliations go.

use std::{fmt, time::Duration};

use reqwest::{Method, StatusCode, Url, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::ReconcileError;
use crate::{lsn::Lsn, schemas::Table};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// As many as a page may have.
const PAGE: &str = "100";

/// The admin listener of any instance.
#[derive(Clone)]
pub struct ChatAdmin {
    http: reqwest::Client,
    base: Url,
}

/// How far a reconciliation is; see chat-service's `reconciliation.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Scanning,
    Scanned,
    Draining,
    Ready,
    Closing,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scanning => "scanning",
            Self::Scanned => "scanned",
            Self::Draining => "draining",
            Self::Ready => "ready",
            Self::Closing => "closing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reconciliation {
    pub id: String,
    pub state: State,
    pub reason: Option<String>,
    pub last_key: Option<String>,
    pub maximum_key: Option<String>,
    pub rows: Option<i64>,
    pub candidates: Option<i64>,
    pub posts_closed: i64,
    pub rooms_closed: i64,
    pub keywords_ended: i64,
}

/// A row that lives in chat-service and was not shown.
pub trait Candidate: DeserializeOwned {
    const TABLE: Table;
    /// Where chat-service lists them.
    const PATH: &str;

    fn id(&self) -> i64;
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PostCandidate {
    pub trade_post_id: i64,
    pub title: Option<String>,
    pub status: Option<String>,
    pub open_rooms: i64,
}

impl Candidate for PostCandidate {
    const TABLE: Table = Table::TradePosts;
    const PATH: &str = "candidates";

    fn id(&self) -> i64 {
        self.trade_post_id
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeywordCandidate {
    pub keyword_id: i64,
    pub member_id: Option<i64>,
}

impl Candidate for KeywordCandidate {
    const TABLE: Table = Table::Keywords;
    const PATH: &str = "keyword-candidates";

    fn id(&self) -> i64 {
        self.keyword_id
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Page<C> {
    pub(super) items: Vec<C>,
    pub(super) next_cursor: Option<String>,
}

impl ChatAdmin {
    /// # Errors
    /// If `url` is no address of a server.
    pub fn new(url: &str) -> Result<Self, ReconcileError> {
        let invalid = |reason: String| ReconcileError::ChatUrl {
            url: url.to_owned(),
            reason,
        };
        let base = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid("it does not begin with http:// or https://".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { http, base })
    }

    pub(super) async fn begin(&self, id: &str, table: Table, start: Lsn) -> Result<(), ReconcileError> {
        let body = json!({ "id": id, "table": table, "start_lsn": start.0 });
        self.call::<Reconciliation>(Method::POST, &[], &[], Some(body))
            .await
            .map(drop)
    }

    pub(super) async fn show(&self, id: &str) -> Result<Reconciliation, ReconcileError> {
        self.call(Method::GET, &[id], &[], None).await
    }

    pub(super) async fn candidates<C: Candidate>(
        &self,
        id: &str,
        cursor: Option<&str>,
    ) -> Result<Page<C>, ReconcileError> {
        let mut query = vec![("limit", PAGE)];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.call(Method::GET, &[id, C::PATH], &query, None).await
    }

    pub(super) async fn drain(&self, id: &str, end: Lsn) -> Result<(), ReconcileError> {
        let body = json!({ "end_lsn": end.0 });
        self.call::<Reconciliation>(Method::POST, &[id, "drain"], &[], Some(body))
            .await
            .map(drop)
    }

    pub(super) async fn confirm(&self, id: &str) -> Result<(), ReconcileError> {
        self.call::<Reconciliation>(Method::POST, &[id, "confirm"], &[], None)
            .await
            .map(drop)
    }

    /// Ends a reconciliation with nothing closed.
    ///
    /// # Errors
    /// If it is closing, or has ended, or there is none of that id.
    pub async fn cancel(&self, id: &str) -> Result<(), ReconcileError> {
        self.call::<Reconciliation>(Method::POST, &[id, "cancel"], &[], None)
            .await
            .map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<T, ReconcileError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(["admin", "v1", "reconciliations"])
                .extend(path);
        }
        let request = format!("{method} {}", url.path());
        let mut sent = self.http.request(method, url).query(query);
        if let Some(body) = body {
            sent = sent.json(&body);
        }
        let failed = |error: reqwest::Error| ReconcileError::NoChat {
            url: self.base.to_string(),
            source: error.without_url(),
        };
        let answer = sent.send().await.map_err(failed)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(failed)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| ReconcileError::NotChat {
                url: self.base.to_string(),
                found: format!("its answer to {request} is unknown: {error}"),
            });
        }
        Err(self.refusal(request, status, &body))
    }

    fn refusal(&self, request: String, status: StatusCode, body: &[u8]) -> ReconcileError {
        #[derive(Deserialize)]
        struct Problem {
            r#type: String,
            title: String,
            detail: Option<String>,
            id: Option<String>,
        }
        let problem = serde_json::from_slice::<Problem>(body);
        let of_ours = |problem: &Problem| problem.r#type.starts_with("urn:marketplace:problem:");
        let Some(problem) = problem.ok().filter(of_ours) else {
            return ReconcileError::NotChat {
                url: self.base.to_string(),
                found: format!("HTTP {status}"),
            };
        };
        match (problem.r#type.ends_with(":reconciliation-unfinished"), problem.id) {
            (true, Some(id)) => ReconcileError::Unfinished { id },
            _ => ReconcileError::Refused {
                request,
                status: status.as_u16(),
                detail: problem.detail.unwrap_or(problem.title),
            },
        }
    }
}

impl fmt::Debug for ChatAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChatAdmin").field(&self.base.as_str()).finish()
    }
}
