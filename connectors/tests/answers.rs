//! How answers are taken that a healthy Kafka Connect does not give on demand: a server that plays back
//! fixed answers stands in its place.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::time::Duration;

use connectors::{
    Config, ConnectApi, ConnectError, Outcome, apply,
    registry::{RegistryApi, RegistryError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Gives each connection the next answer and closes it; the last answer is repeated.
async fn playback_at(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            read_request(&mut connection).await;
            let answer = &answers[turn.min(answers.len() - 1)];
            connection.write_all(answer.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
        }
    });
    url
}

async fn playback(answers: Vec<String>) -> ConnectApi {
    ConnectApi::new(&playback_at(answers).await).unwrap()
}

/// All of it: closing a connection with unread bytes would reset it under the answer.
async fn read_request(connection: &mut tokio::net::TcpStream) {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = connection.read(&mut buffer).await.unwrap();
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return;
        }
    }
}

fn answer(status: &str, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn json(status: &str, body: &str) -> String {
    answer(status, "application/json", body)
}

async fn status_error(answer: String) -> ConnectError {
    playback(vec![answer]).await.status("x").await.unwrap_err()
}

#[tokio::test]
async fn refused_credentials_say_where_to_put_them() {
    let error = status_error(answer("401 Unauthorized", "text/plain", "User cannot access")).await;
    assert!(
        matches!(error, ConnectError::Unauthorized { status: 401, .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("http://user:password@host:8083"),
        "{error}"
    );
}

#[tokio::test]
async fn whatever_is_not_connect_is_named() {
    for strange in [
        answer("200 OK", "text/html", "<html>hello</html>"),
        answer(
            "404 Not Found",
            "text/html;charset=utf-8",
            "<html>no such page</html>",
        ),
        json("404 Not Found", r#"{"title": "no such artifact"}"#),
        json("200 OK", r#"{"hello": "world"}"#),
        json("502 Bad Gateway", "upstream is gone"),
        "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        let error = status_error(strange.clone()).await;
        assert!(
            matches!(error, ConnectError::NotConnect { .. }),
            "{strange}: {error:?}"
        );
    }
}

#[tokio::test]
async fn connects_own_words_are_passed_on() {
    let error = status_error(json(
        "500 Internal Server Error",
        r#"{"error_code": 500, "message": "the worker is out of disk"}"#,
    ))
    .await;
    assert_eq!(
        error.to_string(),
        "Kafka Connect answered HTTP 500 to GET /connectors/x/status: the worker is out of disk"
    );
}

const REBALANCE: &str = r#"{"error_code": 409, "message": "a rebalance is in process"}"#;
const REBALANCE_EXPECTED: &str = r#"{"error_code": 500,
    "message": "Request cannot be completed because a rebalance is expected"}"#;
const RUNNING: &str = r#"{"name": "x", "connector": {"state": "RUNNING", "worker_id": "w:1"},
    "tasks": [{"id": 0, "state": "RUNNING", "worker_id": "w:1"}], "type": "source"}"#;

#[tokio::test]
async fn a_rebalance_is_waited_for() {
    let config = Config::from([("connector.class".to_owned(), "io.example.C".to_owned())]);
    let stored = r#"{"connector.class": "io.example.C", "name": "x"}"#;
    let api = playback(vec![
        json("409 Conflict", REBALANCE),
        json("500 Internal Server Error", REBALANCE_EXPECTED),
        json("200 OK", stored),
        json("200 OK", RUNNING),
    ])
    .await;
    let outcome = apply(&api, "x", &config, Duration::from_secs(20)).await.unwrap();
    assert_eq!(outcome, Outcome::Unchanged);
}

#[tokio::test]
async fn a_rebalance_is_not_waited_for_without_end() {
    let api = playback(vec![json("409 Conflict", REBALANCE)]).await;
    let error = apply(&api, "x", &Config::new(), Duration::from_millis(600))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::Refused { status: 409, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = ConnectApi::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let error = apply(&api, "x", &Config::new(), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
}

async fn registry(answer: String) -> Result<Vec<u32>, RegistryError> {
    let api = RegistryApi::new(&playback_at(vec![answer]).await).unwrap();
    api.versions("x").await
}

#[tokio::test]
async fn a_registry_is_told_from_what_is_none() {
    let missing = json(
        "404 Not Found",
        r#"{"error_code": 40401, "message": "no subject"}"#,
    );
    assert_eq!(registry(missing).await.unwrap(), [0; 0]);
    let error = registry(json("401 Unauthorized", "")).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unauthorized { status: 401, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("SCHEMA_REGISTRY_URL"), "{error}");
    let busy = json(
        "500 Internal Server Error",
        r#"{"error_code": 50001, "message": "out of disk"}"#,
    );
    let error = registry(busy).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("GET /subjects/x/versions: out of disk"),
        "{error}"
    );
    for strange in [
        answer("200 OK", "text/html", "<html>hello</html>"),
        answer("404 Not Found", "text/html", "<html>no such page</html>"),
        json(
            "404 Not Found",
            r#"{"error_code": 404, "message": "no such route"}"#,
        ),
        json("200 OK", r#"{"hello": "world"}"#),
    ] {
        let error = registry(strange.clone()).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::NotRegistry { .. }),
            "{strange}: {error:?}"
        );
    }
}
