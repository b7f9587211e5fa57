//! Serving HTTP: the accept loop with its connections, and the layers around every API.
//!
//! axum's own loop has no settings; this one keeps the memory of an idle connection small, which is
//! what ten thousand open event streams cost, and bounds how long shutdown can take. Invariant: no
//! client can end the loop, and no connection outlives [`serve`].

mod api;
mod connection;
mod stall;

use std::io;
use std::time::Duration;

pub use api::{Limits, api};
use axum::Router;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use self::connection::{PATIENCE, connection};
use self::stall::Patience;

/// The pause after an accept that failed for a reason that lasts, such as no free file descriptor.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// Serves `app` until `shutdown` is cancelled, then stops accepting, lets requests in flight finish and
/// returns after `drain` at the latest, cutting the connections that are left.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    serve_with(listener, app, shutdown, drain, PATIENCE).await
}

async fn serve_with(
    listener: TcpListener,
    app: Router,
    shutdown: CancellationToken,
    drain: Duration,
    patience: Patience,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let connections = TaskTracker::new();
    // Cancelled when this function returns or is dropped, so that nothing it spawned is left behind.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();

    // A lack of file descriptors lasts many attempts; it is told once.
    let mut failing = false;
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                connections.spawn(connection(
                    stream,
                    app.clone(),
                    shutdown.clone(),
                    cut.clone(),
                    patience,
                ));
            }
            // The client gave up before it was accepted.
            Err(e) if is_client_error(&e) => debug!(error = %e, "connection lost before it was accepted"),
            Err(e) => {
                if !failing {
                    error!(error = %e, "cannot accept connections on {address}, trying again until it works");
                }
                failing = true;
                shutdown.run_until_cancelled(sleep(ACCEPT_BACKOFF)).await;
            }
        }
    }

    drop(listener);
    connections.close();
    if timeout(drain, connections.wait()).await.is_err() {
        warn!(
            "{} connections on {address} were still open after {drain:?} and are cut",
            connections.len()
        );
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

fn is_client_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use axum::body::{Body, Bytes};
    use axum::routing::{MethodRouter, get};
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::connection::MAX_BUFFER;
    use super::*;

    async fn start(
        app: Router,
        drain: Duration,
    ) -> (SocketAddr, CancellationToken, JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, app, shutdown.clone(), drain));
        (address, shutdown, server)
    }

    /// A response whose body starts and never ends.
    fn endless() -> MethodRouter {
        let body = || stream::iter([Ok::<_, Infallible>(Bytes::from("first"))]).chain(stream::pending());
        get(async move || Body::from_stream(body()))
    }

    #[tokio::test]
    async fn an_idle_connection_ends_at_shutdown_without_waiting_for_the_drain() {
        let (address, shutdown, server) =
            start(Router::new().route("/", get("hello")), Duration::from_mins(1)).await;
        let client = reqwest::Client::new();
        let answer = client.get(format!("http://{address}/")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hello");
        shutdown.cancel();
        timeout(Duration::from_secs(5), server)
            .await
            .expect("ends at once")
            .unwrap()
            .unwrap();
        assert!(client.get(format!("http://{address}/")).send().await.is_err());
    }

    #[tokio::test]
    async fn a_request_in_flight_is_answered_after_shutdown() {
        let (arrived, release) = (CancellationToken::new(), CancellationToken::new());
        let handler = {
            let (arrived, release) = (arrived.clone(), release.clone());
            async move || {
                arrived.cancel();
                release.cancelled().await;
                "late"
            }
        };
        let (address, shutdown, server) =
            start(Router::new().route("/", get(handler)), Duration::from_mins(1)).await;
        let request = tokio::spawn(reqwest::get(format!("http://{address}/")));
        arrived.cancelled().await;
        shutdown.cancel();
        release.cancel();
        assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "late");
        timeout(Duration::from_secs(5), server)
            .await
            .expect("ends")
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_does_not_end_is_cut_when_the_drain_is_over() {
        let drain = Duration::from_millis(100);
        let (address, shutdown, server) = start(Router::new().route("/", endless()), drain).await;
        let mut answer = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
        let begin = Instant::now();
        shutdown.cancel();
        timeout(Duration::from_secs(5), server)
            .await
            .expect("ends")
            .unwrap()
            .unwrap();
        assert!(begin.elapsed() >= drain);
        assert!(answer.chunk().await.is_err(), "the connection was cut");
    }

    /// Whoever reads nothing gets this much.
    fn flood() -> Router {
        let body = || stream::repeat(Ok::<_, Infallible>(Bytes::from(vec![b'.'; 4096])));
        Router::new().route("/", get(async move || Body::from_stream(body())))
    }

    /// A client that has read the head of the answer and then reads nothing.
    async fn reads_nothing(address: SocketAddr) -> TcpStream {
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        client.read_exact(&mut [0; 64]).await.unwrap();
        client
    }

    /// The connection was cut in the middle of the answer.
    async fn is_cut(mut client: TcpStream) {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await;
        assert!(read.expect("the connection has ended").is_err() || !rest.ends_with(b"0\r\n\r\n"));
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_and_one_that_is_sent_nothing_is_not() {
        let patience = Patience {
            usual: Duration::from_millis(200),
            at_shutdown: Duration::from_mins(1),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = flood().route("/quiet", endless());
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_with(
            listener,
            app,
            shutdown.clone(),
            Duration::ZERO,
            patience,
        ));
        let mut quiet = reqwest::get(format!("http://{address}/quiet")).await.unwrap();
        assert_eq!(quiet.chunk().await.unwrap().unwrap(), "first");
        let client = reads_nothing(address).await;
        // Longer than the patience, and then it would read on if it could.
        sleep(5 * patience.usual).await;
        is_cut(client).await;
        assert!(
            timeout(patience.usual, quiet.chunk()).await.is_err(),
            "silence of the server is none of the client's"
        );
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_does_not_hold_a_shutdown_up() {
        let patience = Patience {
            usual: Duration::from_mins(1),
            at_shutdown: Duration::from_millis(200),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let drain = Duration::from_mins(1);
        let server = tokio::spawn(serve_with(listener, flood(), shutdown.clone(), drain, patience));
        let client = reads_nothing(address).await;
        shutdown.cancel();
        timeout(Duration::from_secs(5), server)
            .await
            .expect("ends without waiting for the drain")
            .unwrap()
            .unwrap();
        is_cut(client).await;
    }

    #[tokio::test]
    async fn a_head_over_the_buffer_is_refused_and_the_server_goes_on() {
        let (address, _shutdown, _server) =
            start(Router::new().route("/", get("hello")), Duration::ZERO).await;
        let mut raw = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "a".repeat(2 * MAX_BUFFER)
        );
        // The server may close before it has read everything.
        let _ = raw.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        raw.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
        assert_eq!(
            reqwest::get(format!("http://{address}/")).await.unwrap().status(),
            200
        );
    }
}
