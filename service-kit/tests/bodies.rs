//! Bodies that are too long, too slow or broken, sent over a real connection: each is answered, the
//! answer is read, and the server goes on.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use serde_json::Value;
use service_kit::extract::Json;
use service_kit::metrics::{HttpMetrics, Metrics};
use service_kit::server::{Limits, api, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

const LIMIT: usize = 32 * 1024;
const TEN_MIB: usize = 10 * 1024 * 1024;

async fn start(upload: Duration) -> (SocketAddr, DropGuard) {
    let router = Router::new()
        .route("/", post(async |Json(body): Json<Value>| Json(body)))
        .route("/unread", post("the body does not matter"));
    let limits = Limits {
        body: LIMIT,
        upload,
        head: upload * 2,
    };
    let app = api(router, &HttpMetrics::new(&Metrics::new()), limits, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, app, stop.clone(), Duration::ZERO));
    (address, stop.drop_guard())
}

fn head(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{framing}\r\n\r\n")
}

/// The answer's status and body, as a client reads it that sends first and listens then.
async fn answer(connection: &mut TcpStream) -> (u16, Value) {
    let mut text = Vec::new();
    connection.read_to_end(&mut text).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_body_of_ten_mebibytes_is_refused_with_the_limit() {
    let (address, _server) = start(Duration::from_secs(10)).await;
    for path in ["/", "/unread"] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let announced = head(path, &format!("content-length: {TEN_MIB}"));
        connection.write_all(announced.as_bytes()).await.unwrap();
        connection.write_all(&vec![b' '; TEN_MIB]).await.unwrap();
        let (status, problem) = answer(&mut connection).await;
        assert_eq!((status, &problem["limit"]), (413, &LIMIT.into()), "{problem}");
        assert_eq!(
            problem["detail"],
            "The request body may have 32768 bytes; it has 10485760 bytes."
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_say_its_length_is_read_up_to_the_limit() {
    let (address, _server) = start(Duration::from_secs(10)).await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    let begun = head("/", "transfer-encoding: chunked");
    connection.write_all(begun.as_bytes()).await.unwrap();
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    for _ in 0..TEN_MIB / 0x4000 {
        connection.write_all(&chunk).await.unwrap();
    }
    let (status, problem) = answer(&mut connection).await;
    assert_eq!((status, &problem["limit"]), (413, &LIMIT.into()), "{problem}");
}

#[tokio::test]
async fn a_client_library_reads_the_refusal_too() {
    let (address, _server) = start(Duration::from_secs(10)).await;
    let request = reqwest::Client::new()
        .post(format!("http://{address}/"))
        .header("content-type", "application/json")
        .body(vec![b' '; TEN_MIB]);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.json::<Value>().await.unwrap()["limit"], LIMIT);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let (address, _server) = start(Duration::from_millis(200)).await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    let begun = head("/", "content-length: 100");
    connection.write_all(begun.as_bytes()).await.unwrap();
    connection.write_all(b"{\"half\": ").await.unwrap();
    let (status, problem) = answer(&mut connection).await;
    assert_eq!(
        (status, &problem["type"]),
        (408, &"urn:marketplace:problem:body-too-slow".into())
    );
    assert_eq!(
        problem["detail"],
        "The request body has to arrive within 200ms; send it again."
    );
}
