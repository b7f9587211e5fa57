//! How answers are taken that a healthy Kafka Connect does not give on demand: a server that plays back
//! fixed answers stands in its place.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use connectors::{
    Config, ConnectApi, ConnectError, Outcome, apply,
    lifecycle::{Order, Restart, order, restart},
    offsets,
    registry::{RegistryApi, RegistryError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::Instant,
};

/// What was asked for, in its order.
type Asked = Arc<Mutex<Vec<String>>>;

/// Gives each connection the next answer and closes it; the last answer is repeated.
async fn playback_at(answers: Vec<String>) -> String {
    playback_noting(answers).await.0
}

async fn playback_noting(answers: Vec<String>) -> (String, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            let request = read_request(&mut connection).await;
            noted.lock().unwrap().push(request);
            let answer = &answers[turn.min(answers.len() - 1)];
            connection.write_all(answer.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
        }
    });
    (url, asked)
}

async fn playback(answers: Vec<String>) -> ConnectApi {
    ConnectApi::new(&playback_at(answers).await).unwrap()
}

/// All of it: closing a connection with unread bytes would reset it under the answer. Answers method and path.
async fn read_request(connection: &mut tokio::net::TcpStream) -> String {
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
            let line = head.lines().next().unwrap();
            return line.trim_end_matches(" http/1.1").to_owned();
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
    // The last try, at half a second, has time to be answered, and there is none for another.
    let error = apply(&api, "x", &Config::new(), Duration::from_millis(740))
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

/// The looks at a connector that is in this state for longer than a state needs to be believed.
fn long_in(state: &str, tasks: &[&str]) -> Vec<String> {
    let status = RUNNING.replacen("RUNNING", state, 1);
    let look = tasks
        .iter()
        .map(|tasks| json("200 OK", tasks))
        .chain([json("200 OK", &status)]);
    std::iter::repeat_with(|| look.clone())
        .take(25)
        .flatten()
        .collect()
}

#[tokio::test]
async fn a_worker_may_be_busy_before_it_resumes_a_connector() {
    let mut answers = vec![json("202 Accepted", "")];
    answers.extend(long_in("PAUSED", &[]));
    answers.push(json("200 OK", RUNNING));
    let api = playback(answers).await;
    order(&api, "x", Order::Resume, Duration::from_secs(20), |_| ())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_failure_of_a_task_that_is_restarted_is_not_taken_for_the_next_one() {
    let failed = RUNNING.replace(r#""id": 0, "state": "RUNNING""#, r#""id": 0, "state": "FAILED""#);
    let mut answers = vec![json("200 OK", &failed), json("202 Accepted", "")];
    answers.extend(vec![json("200 OK", &failed); 25]);
    answers.push(json("200 OK", RUNNING));
    let api = playback(answers).await;
    let done = restart(&api, "x", true, Duration::from_secs(20), |_| ()).await;
    assert_eq!(done.unwrap(), Restart::Done);
}

#[tokio::test]
async fn a_connector_that_has_failed_itself_is_repaired_by_a_change() {
    let config = Config::from([
        ("connector.class".to_owned(), "io.example.C".to_owned()),
        ("a".to_owned(), "right".to_owned()),
    ]);
    let stored = |a: &str| format!(r#"{{"connector.class": "io.example.C", "name": "x", "a": "{a}"}}"#);
    let tasks = |a: &str| format!(r#"[{{"id": {{"connector": "x", "task": 0}}, "config": {{"a": "{a}"}}}}]"#);
    let ok = |body: &str| json("200 OK", body);
    let mut answers = vec![
        ok(&stored("wrong")),
        ok(r#"{"name": "C", "error_count": 0, "groups": [], "configs": []}"#),
        ok(&stored("wrong")),
        ok(&RUNNING.replacen("RUNNING", "FAILED", 1)),
        ok(&stored("right")),
    ];
    answers.extend(long_in("FAILED", &[&tasks("wrong")]));
    answers.extend(long_in("RUNNING", &[&tasks("right")]));
    let (url, asked) = playback_noting(answers).await;
    let api = ConnectApi::new(&url).unwrap();
    let outcome = apply(&api, "x", &config, Duration::from_secs(20)).await;
    assert_eq!(outcome.unwrap(), Outcome::Updated, "{:?}", asked.lock().unwrap());
    assert_eq!(asked.lock().unwrap()[4], "put /connectors/x/config");
}

#[tokio::test]
async fn a_connector_that_is_deleted_while_all_are_read_is_left_out() {
    let answer = r#"{"gone": {"info": null}, "x": {"info": {"config": {"a": "1"}}}}"#;
    let configs = playback(vec![json("200 OK", answer)]).await.configs().await;
    assert_eq!(configs.unwrap().into_keys().collect::<Vec<_>>(), ["x"]);
}

const STOPPED: &str = r#"{"name": "x", "connector": {"state": "STOPPED", "worker_id": "w:1"}, "tasks": []}"#;

/// Offsets of a connector that runs are to be forgotten, which is refused, and these are the answers to giving it its
/// state back.
async fn reset(giving_back: &[String]) -> (ConnectError, Vec<String>) {
    let mut answers = vec![
        json("200 OK", RUNNING),
        json("202 Accepted", ""),
        json("200 OK", STOPPED),
        json(
            "500 Internal Server Error",
            r#"{"error_code": 500, "message": "the offsets topic is away"}"#,
        ),
    ];
    answers.extend_from_slice(giving_back);
    let (url, asked) = playback_noting(answers).await;
    let api = ConnectApi::new(&url).unwrap();
    let error = offsets::reset(&api, "x", Duration::from_secs(2), |_| ())
        .await
        .unwrap_err();
    let asked = asked.lock().unwrap().clone();
    (error, asked)
}

#[tokio::test]
async fn a_connector_that_was_stopped_is_given_its_state_back_with_patience() {
    let nothing = String::new();
    let (rebalance, done) = (json("409 Conflict", REBALANCE), json("202 Accepted", ""));
    let (error, asked) = reset(&[rebalance.clone(), nothing, done]).await;
    assert!(
        matches!(error, ConnectError::Refused { status: 500, .. }),
        "{error:?}"
    );
    let resume = "put /connectors/x/resume";
    assert_eq!(asked[4..], [resume; 3], "{asked:?}");

    // Deleted by somebody meanwhile.
    let gone = json(
        "404 Not Found",
        r#"{"error_code": 404, "message": "Unknown connector x"}"#,
    );
    let (error, _) = reset(&[gone]).await;
    assert!(
        matches!(error, ConnectError::Refused { status: 500, .. }),
        "{error:?}"
    );

    let (error, _) = reset(&[rebalance]).await;
    let told = error.to_string();
    assert!(told.contains("the offsets topic is away"), "{told}");
    assert!(
        told.contains("x is left STOPPED") && told.ends_with("connectors resume x"),
        "{told}"
    );
}

#[tokio::test]
async fn what_is_in_no_state_that_can_be_given_back_is_not_stopped() {
    let unassigned = RUNNING.replacen("RUNNING", "UNASSIGNED", 1);
    let (url, asked) = playback_noting(vec![json("200 OK", &unassigned)]).await;
    let api = ConnectApi::new(&url).unwrap();
    let error = offsets::reset(&api, "x", Duration::from_secs(2), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unsettled { .. }), "{error:?}");
    assert_eq!(*asked.lock().unwrap(), ["get /connectors/x/status"]);
}

/// Two connectors; the brokers let one wait for eight seconds.
#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_once_and_not_taken_for_kafka_connect() {
    let config = r#"{"config": {"slot.name": "s", "topic.prefix": "p", "table.include.list": "public.t"}}"#;
    let status = |name: &str| RUNNING.replace("\"x\"", &format!("\"{name}\""));
    let both = |key: &str, x: &str, y: &str| format!(r#"{{"x": {{"{key}": {x}}}, "y": {{"{key}": {y}}}}}"#);
    let statuses = both("status", &status("x"), &status("y"));
    let connect = playback_at(vec![
        json("200 OK", &statuses),
        json("200 OK", &both("info", config, config)),
        json("200 OK", r#"{"offsets": []}"#),
    ])
    .await;
    let (registry, asked) = playback_noting(vec![String::new()]).await;
    let mut status = Command::new(env!("CARGO_BIN_EXE_connectors"));
    status.args(["status", "--timeout", "1", "--json", "--connect-url", &connect]);
    status.args(["--registry-url", &registry, "--kafka", "127.0.0.1:1"]);
    let begun = Instant::now();
    let ended = status.output().await.unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    let reports: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    for report in reports.as_array().unwrap() {
        let capture = &report["capture"];
        assert!(capture["topics"]["error"].is_string(), "{capture}");
        let error = capture["subjects"]["error"].as_str().unwrap();
        assert!(error.contains("cannot be reached"), "{error}");
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn properties_are_told_apart_and_never_shown() {
    let ended = async |options: &[&str], variable: &str| {
        let mut status = Command::new(env!("CARGO_BIN_EXE_connectors"));
        status.args(["status", "--connect-url", "http://127.0.0.1:1"]);
        let ended = status
            .args(options)
            .env("KAFKA_PROPERTY", variable)
            .output()
            .await;
        let ended = ended.unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!told.contains("hunter"), "{told}");
        ended.status.code()
    };
    // Both go on to Kafka Connect.
    assert_eq!(
        ended(&["--kafka-property", "sasl.password=hunter,2"], "a=1").await,
        Some(3)
    );
    assert_eq!(ended(&[], "sasl.username=a,sasl.password=hunter2").await, Some(3));
    assert_eq!(ended(&["--kafka-property", "hunter2"], "a=1").await, Some(2));
    assert_eq!(ended(&[], "sasl.username=a,hunter2").await, Some(2));
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
