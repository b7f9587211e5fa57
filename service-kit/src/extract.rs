//! Axum extractors whose rejections are problems that name the field.
//!
//! A body that is not JSON is 400, one that is JSON but not what was asked for is 422 with the path of
//! the field (`image_urls[2]`); so are wrong query and path parameters.

use axum::RequestExt;
use axum::body::HttpBody;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::problem::Problem;
use crate::server::Limits;

/// A JSON request body, which is never an array, or an answer. Accepts `application/json` and `application/*+json`.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type());
        }
        let body = read(request).await?;
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The request with all of its body in memory, or an answer: whatever comes after does not wait for the client.
pub async fn with_body(request: Request) -> Result<Request, Problem> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let body = read(Request::from_parts(parts.clone(), body)).await?;
    Ok(Request::from_parts(parts, body.into()))
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let limits = request.extensions().get::<Limits>().copied().unwrap_or_default();
    timeout(limits.upload, request.extract::<Bytes, _>())
        .await
        .map_err(|_| limits.body_too_slow())?
        .map_err(|rejection| unreadable_body(limits, &rejection))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn unreadable_body(limits: Limits, rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        limits.body_too_large(None)
    } else {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "unreadable-body",
            "Unreadable request body",
        )
        .detail("The request body ended early or was not sent as its headers said.")
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take the entries for an object's fields, in their order. What comes after the bracket does not
    // matter any more.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(invalid("", "invalid type: sequence, expected an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|e| match e.inner().classify() {
            Category::Data => invalid(&e.path().to_string(), &e.inner().to_string()),
            Category::Syntax | Category::Eof | Category::Io => malformed(e.inner()),
        })?;
    deserializer.end().map_err(|e| malformed(&e))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON")
        .detail(format!("The request body is not JSON: {error}."))
}

/// What `serde_json` says, without where it was: that helps nobody who has the field's name.
pub fn without_position(message: &str) -> &str {
    message
        .rsplit_once(" at line ")
        .map_or(message, |(message, _)| message)
}

/// Turns what serde says into the field and what is wrong with it.
fn invalid(path: &str, message: &str) -> Problem {
    let message = without_position(message);
    // serde reports a missing or unknown field at the object that lacks or has it.
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.split('`').next());
    let path = if path == "." { "" } else { path };
    let field = match named {
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None if path.is_empty() => "body".to_owned(),
        None => path.to_owned(),
    };
    Problem::invalid_input().field(field, message)
}

/// Query parameters. A parameter that `T` does not know is refused if `T` denies unknown fields.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(query))
            .map(Self)
            .map_err(|e| invalid(&e.path().to_string(), &e.inner().to_string()))
    }
}

/// Path parameters.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(failure)) => {
                let names = RawPathParams::from_request_parts(parts, state).await.ok();
                let names: Vec<&str> = names.iter().flatten().map(|(name, _)| name).collect();
                Err(path_problem(failure.into_kind(), &names))
            }
            Err(rejection) => {
                tracing::error!(error = %rejection, "a handler asks for path parameters its route does not have");
                Err(Problem::internal())
            }
        }
    }
}

/// `names` are the route's parameters in order: a tuple or a single one is deserialized without them.
fn path_problem(kind: ErrorKind, names: &[&str]) -> Problem {
    let name = |index: usize| names.get(index).copied().unwrap_or("path").to_owned();
    let (field, value, expected) = match kind {
        ErrorKind::ParseErrorAtKey {
            key,
            value,
            expected_type,
        } => (key, value, expected_type.to_owned()),
        ErrorKind::ParseErrorAtIndex {
            index,
            value,
            expected_type,
        } => (name(index), value, expected_type.to_owned()),
        ErrorKind::ParseError { value, expected_type } => (name(0), value, expected_type.to_owned()),
        ErrorKind::DeserializeError { key, value, message } => (key, value, message),
        ErrorKind::InvalidUtf8InPathParam { key } => {
            return Problem::invalid_input().field(key, "is not UTF-8");
        }
        other => return Problem::invalid_input().field("path", other.to_string()),
    };
    Problem::invalid_input().field(field, format!("expected {expected}, got `{value}`"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use serde::Deserialize;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        #[expect(dead_code, reason = "only its deserialization is tested")]
        title: String,
        #[expect(dead_code, reason = "only its deserialization is tested")]
        #[serde(default)]
        tags: Vec<Tag>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tag {
        #[expect(dead_code, reason = "only its deserialization is tested")]
        name: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        limit: Option<u32>,
    }

    fn router() -> Router {
        Router::new()
            .route("/", post(async |Json(input): Json<Input>| drop(input)))
            .route(
                "/",
                get(async |Query(page): Query<Page>| format!("{:?}", page.limit)),
            )
            .route("/posts/{id}", get(async |Path(id): Path<i64>| id.to_string()))
            .route(
                "/posts/{id}/{seq}",
                get(async |Path((id, seq)): Path<(i64, i64)>| format!("{id} {seq}")),
            )
            .layer(axum::extract::DefaultBodyLimit::max(100))
    }

    async fn send(request: Request) -> (u16, Value) {
        let response = router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn send_json(body: impl AsRef<[u8]>) -> (u16, Value) {
        let request = Request::post("/").header(CONTENT_TYPE, "application/json; charset=utf-8");
        send(request.body(Body::from(body.as_ref().to_vec())).unwrap()).await
    }

    #[tokio::test]
    async fn a_wrong_field_is_named_by_its_path() {
        for (body, field, message) in [
            (
                r#"{"title": 7}"#,
                "title",
                "invalid type: integer `7`, expected a string",
            ),
            ("{}", "title", "missing field `title`"),
            (
                r#"{"title": "a", "x": 1}"#,
                "x",
                "unknown field `x`, expected `title` or `tags`",
            ),
            (
                r#"{"title": "a", "title": "b"}"#,
                "title",
                "duplicate field `title`",
            ),
            (
                r#"{"title": "a", "tags": [{"name": "a"}, {}]}"#,
                "tags[1].name",
                "missing field `name`",
            ),
            (
                r#"{"title": "a", "tags": [{"name": null}]}"#,
                "tags[0].name",
                "invalid type: null, expected a string",
            ),
            (
                r#"{"title": "a", "tags": [{"nam": 1}]}"#,
                "tags[0].nam",
                "unknown field `nam`, expected `name`",
            ),
            ("[]", "body", "invalid type: sequence, expected an object"),
            (
                " [\"a\", [{\"name\": \"b\"}]]",
                "body",
                "invalid type: sequence, expected an object",
            ),
            ("7", "body", "invalid type: integer `7`, expected struct Input"),
        ] {
            let (status, problem) = send_json(body).await;
            assert_eq!(status, 422, "{body}");
            assert_eq!(
                problem["errors"],
                json!([{"field": field, "message": message}]),
                "{body}"
            );
        }
        assert_eq!(send_json(r#"{"title": "a"}"#).await.0, 200);
    }

    #[tokio::test]
    async fn what_is_not_a_json_body_is_told_apart() {
        for body in [
            &b""[..],
            b"{",
            br#"{"title": "a"} x"#,
            b"\xef\xbb\xbf{}",
            // Not UTF-8: a lone byte, an overlong form, half of a character, a surrogate.
            b"{\"title\": \"\xff\"}",
            b"{\"title\": \"\xc0\xaf\"}",
            b"{\"title\": \"\xed\x95\"}",
            br#"{"title": "\ud800"}"#,
        ] {
            let (status, problem) = send_json(body).await;
            assert_eq!(
                (status, &problem["type"]),
                (400, &json!("urn:marketplace:problem:malformed-json")),
                "{body:?}"
            );
        }
        let (status, problem) = send_json(&format!(r#"{{"title": "{}"}}"#, "a".repeat(100))).await;
        assert_eq!(
            (status, &problem["type"]),
            (413, &json!("urn:marketplace:problem:body-too-large"))
        );
        for content_type in ["text/plain", "application/jsonx", "text/json+json"] {
            let request = Request::post("/")
                .header(CONTENT_TYPE, content_type)
                .body(Body::from("{}"))
                .unwrap();
            let (status, problem) = send(request).await;
            assert_eq!(
                (status, &problem["type"]),
                (415, &json!("urn:marketplace:problem:unsupported-media-type"))
            );
        }
        let request = Request::post("/").header(CONTENT_TYPE, "application/merge-patch+json");
        assert_eq!(
            send(request.body(Body::from(r#"{"title": "a"}"#)).unwrap())
                .await
                .0,
            200
        );
    }

    #[tokio::test]
    async fn wrong_parameters_are_named() {
        for (uri, field) in [
            ("/?limit=many", "limit"),
            ("/?limit=-1", "limit"),
            ("/?limti=1", "limti"),
            ("/?limit=1&limit=2", "limit"),
            ("/posts/x", "id"),
            ("/posts/99999999999999999999", "id"),
            ("/posts/%ff", "id"),
            ("/posts/1/x", "seq"),
        ] {
            let (status, problem) = send(Request::get(uri).body(Body::empty()).unwrap()).await;
            assert_eq!(
                (status, &problem["errors"][0]["field"]),
                (422, &json!(field)),
                "{uri} {problem}"
            );
        }
        for uri in ["/", "/?limit=5", "/posts/7", "/posts/7/8"] {
            assert_eq!(
                send(Request::get(uri).body(Body::empty()).unwrap()).await.0,
                200,
                "{uri}"
            );
        }
    }
}
