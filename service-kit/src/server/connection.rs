//! One connection: what its socket and hyper are told, and how it ends.
//!
//! Invariants: an idle or silent connection costs little memory and ends; a client that is answered can
//! read the answer.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::stall::{Impatient, Patience};

/// The smallest read buffer that hyper accepts; it bounds the head of a request, too (431 beyond it).
pub const MAX_BUFFER: usize = 8192;

/// How long a client may take to send a request's head, and how long a kept-alive connection may idle.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take nothing of what is sent to it.
pub const PATIENCE: Patience = Patience {
    usual: Duration::from_secs(30),
    at_shutdown: Duration::from_millis(500),
};

/// What the kernel may hold for a client that reads nothing (it takes twice as much for bookkeeping).
/// Left to itself it grows to megabytes.
const SEND_BUFFER: usize = 64 * 1024;

/// How long the kernel tries to get through to a client.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// How long a client that was answered may go on sending.
const LINGER: Duration = Duration::from_secs(10);

/// Serves requests until one side ends the connection.
pub async fn connection(
    stream: TcpStream,
    app: Router,
    shutdown: CancellationToken,
    cut: CancellationToken,
    patience: Patience,
) {
    if let Err(e) = tune(&stream) {
        debug!(error = %e, "cannot tune a connection");
    }
    let stream = Impatient::new(TokioIo::new(stream), patience, shutdown.clone());
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(stream, TowerToHyperService::new(app));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => match ended {
                Ok(()) => break,
                Err(e) => {
                    debug!(error = %e, "connection ended by an error");
                    return;
                }
            },
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = cut.cancelled() => return,
        }
    }
    let stream = connection.into_parts().io.into_inner().into_inner();
    // Boxed: an open stream does not keep room for it.
    shutdown.run_until_cancelled(Box::pin(linger(stream))).await;
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // Without it small writes, such as one event, wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER)?;
    // A client that vanished acknowledges nothing; left to itself the kernel tries for a quarter of an hour.
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    Ok(())
}

/// Says that nothing more comes and waits for the client to say so, too.
///
/// A client that was refused while it sends its body listens only after that. To close now would make
/// its system throw the answer away.
async fn linger(mut stream: TcpStream) {
    let mut rest = vec![0; MAX_BUFFER];
    let read_on = async {
        stream.shutdown().await?;
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    if let Ok(Err(e)) = timeout(LINGER, read_on).await {
        debug!(error = %e, "connection ended by an error");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Only a network that swallows packets would show it, so that the socket is asked.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_client_that_vanished_is_given_up_soon() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tune(&stream).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNACKNOWLEDGED_MS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_its_head_slowly_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = Router::new();
        for head in ["", "GET / HTTP/1.1\r\nhost: x\r\nx: "] {
            let (mut client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let client = client.as_mut().unwrap();
            client.write_all(head.as_bytes()).await.unwrap();
            let begun = tokio::time::Instant::now();
            let (stream, stop) = (accepted.unwrap().0, stop.clone());
            let served = tokio::spawn(connection(stream, app.clone(), stop.clone(), stop, PATIENCE));
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(
                begun.elapsed().as_secs(),
                HEADER_READ_TIMEOUT.as_secs(),
                "{head:?}"
            );
            served.await.unwrap();
        }
    }
}
