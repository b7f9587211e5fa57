//! RFC 9457 problem bodies: the only shape in which a service answers an error.
//!
//! `type` is `urn:marketplace:problem:<code>`; the code is stable and meant for programs, `title` and
//! `detail` are meant for people. Invariants: every 401 carries `WWW-Authenticate: Bearer`, and
//! nothing a database or a library said reaches a body unless a caller of [`Problem::detail`] put it
//! there.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

const TYPE_PREFIX: &str = "urn:marketplace:problem:";

/// An error as the client gets to see it.
#[derive(Debug, Clone)]
// Boxed so that a `Result<_, Problem>` stays small.
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    title: Cow<'static, str>,
    detail: Option<String>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    extensions: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FieldError {
    #[schema(examples("title"))]
    field: String,
    #[schema(examples("must have 1 to 100 characters, got 0"))]
    message: String,
}

impl Problem {
    /// `code` is the last part of the type URI, in kebab case; `title` is the same for every
    /// occurrence of the code.
    pub fn new(status: StatusCode, code: &'static str, title: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            title: title.into(),
            detail: None,
            errors: Vec::new(),
            retry_after: None,
            extensions: Map::new(),
        }))
    }

    /// 500. The cause belongs into the log of whoever calls this, never into the body.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
            .detail("The service failed to handle this request. The failure has been logged.")
    }

    /// 404 for a `what` ("trade post") that does not exist or is not the caller's.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found").detail(format!("There is no such {what}."))
    }

    /// 503 for a dependency that does not answer.
    pub fn unavailable(retry_after: Duration) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Temporarily unavailable",
        )
        .detail("A server that this service depends on does not answer. Try again later.")
        .retry_after(retry_after)
    }

    /// 503 for a request that was given up on the way.
    pub fn timeout(retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "No answer in time")
            .detail("The request took too long and was given up; what it asked for may have been done.")
            .retry_after(retry_after)
    }

    /// 422 for input that is well formed but not acceptable; add the fields with [`Problem::field`].
    pub fn invalid_input() -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-input", "Invalid input")
    }

    /// 401; `detail` says what is wrong with the token without repeating any of it.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Authentication required",
        )
        .detail(detail)
    }

    /// 415 for a body that is not said to be JSON.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
        )
        .detail("Send a JSON body with `Content-Type: application/json`.")
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds one entry to `errors`.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.errors.push(FieldError {
            field: field.into(),
            message: message.into(),
        });
        self
    }

    /// Sends `Retry-After`, in whole seconds, rounded up, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Adds an extension member. A key that is a member already, such as `status`, is ignored.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if !["type", "title", "status", "detail", "instance", "errors"].contains(&key) {
            self.0.extensions.insert(key.to_owned(), value.into());
        }
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The body as it is sent.
    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(self.body()).expect("a problem is JSON")
    }

    fn body(&self) -> Body<'_> {
        let Inner {
            status,
            code,
            title,
            detail,
            errors,
            extensions,
            ..
        } = &*self.0;
        Body {
            r#type: format!("{TYPE_PREFIX}{code}"),
            title,
            status: status.as_u16(),
            detail: detail.as_deref(),
            errors,
            extensions,
        }
    }
}

/// What went wrong, as RFC 9457 has it. Some kinds have further members.
// In the order in which people read it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body<'a> {
    /// The kind of problem, which is stable: `urn:marketplace:problem:` and a code.
    #[schema(examples("urn:marketplace:problem:invalid-input"))]
    r#type: String,
    /// The same for every problem of a kind.
    #[schema(examples("Invalid input"))]
    title: &'a str,
    /// That of the answer.
    #[schema(examples(422))]
    status: u16,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// The fields and parameters that are not acceptable.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    #[schema(value_type = HashMap<String, Value>)]
    extensions: &'a Map<String, Value>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status.as_u16(), self.0.title)?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.0.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
            );
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    struct Row {
        problem: Problem,
        status: u16,
        body: Value,
        retry_after: Option<&'static str>,
    }

    #[tokio::test]
    async fn every_kind_of_problem_has_its_exact_body_and_headers() {
        let table = [
            Row {
                problem: Problem::new(StatusCode::GONE, "room-closed", "Room closed"),
                status: 410,
                body: json!({"type": "urn:marketplace:problem:room-closed", "title": "Room closed", "status": 410}),
                retry_after: None,
            },
            Row {
                problem: Problem::internal(),
                status: 500,
                body: json!({
                    "type": "urn:marketplace:problem:internal", "title": "Internal error", "status": 500,
                    "detail": "The service failed to handle this request. The failure has been logged.",
                }),
                retry_after: None,
            },
            Row {
                problem: Problem::not_found("trade post").retry_after(Duration::from_millis(1)),
                status: 404,
                body: json!({
                    "type": "urn:marketplace:problem:not-found", "title": "Not found", "status": 404,
                    "detail": "There is no such trade post.",
                }),
                retry_after: Some("1"),
            },
            Row {
                problem: Problem::unavailable(Duration::from_millis(2001)),
                status: 503,
                body: json!({
                    "type": "urn:marketplace:problem:unavailable", "title": "Temporarily unavailable", "status": 503,
                    "detail": "A server that this service depends on does not answer. Try again later.",
                }),
                retry_after: Some("3"),
            },
            Row {
                problem: Problem::unauthenticated("The token has expired."),
                status: 401,
                body: json!({
                    "type": "urn:marketplace:problem:unauthenticated", "title": "Authentication required",
                    "status": 401, "detail": "The token has expired.",
                }),
                retry_after: None,
            },
            Row {
                problem: Problem::invalid_input()
                    .field("title", "too long")
                    .field("price", "negative")
                    .with("limit", 100)
                    .with("status", "extensions do not override members of the standard"),
                status: 422,
                body: json!({
                    "type": "urn:marketplace:problem:invalid-input", "title": "Invalid input", "status": 422,
                    "errors": [
                        {"field": "title", "message": "too long"},
                        {"field": "price", "message": "negative"},
                    ],
                    "limit": 100,
                }),
                retry_after: None,
            },
        ];
        for Row {
            problem,
            status,
            body,
            retry_after,
        } in table
        {
            let code = problem.code();
            let response = problem.into_response();
            assert_eq!(response.status(), status, "{code}");
            let header = |name| {
                response
                    .headers()
                    .get(name)
                    .map(|v| v.to_str().unwrap().to_owned())
            };
            assert_eq!(
                header(CONTENT_TYPE).as_deref(),
                Some("application/problem+json"),
                "{code}"
            );
            assert_eq!(header(RETRY_AFTER).as_deref(), retry_after, "{code}");
            assert_eq!(
                header(WWW_AUTHENTICATE).as_deref(),
                (status == 401).then_some("Bearer"),
                "{code}"
            );
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), body, "{code}");
        }
    }

    #[test]
    fn display_is_one_readable_line() {
        assert_eq!(
            Problem::not_found("room").to_string(),
            "404 Not found: There is no such room."
        );
    }
}
