//! What the tests of rotation need: an issuer's server, time that passes, and what was logged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

/// Serves a key set by HTTP, as told.
pub struct Server {
    answer: Mutex<(StatusCode, String)>,
    asked: AtomicUsize,
    /// One permit lets one request be answered.
    pub gate: Semaphore,
}

impl Server {
    pub fn new(keys: &[&Issuer]) -> Arc<Self> {
        let server = Self {
            answer: Mutex::default(),
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        };
        server.publish(keys);
        Arc::new(server)
    }

    pub fn publish(&self, keys: &[&Issuer]) {
        let keys: Vec<&Value> = keys.iter().map(|issuer| &issuer.jwk).collect();
        self.answer(StatusCode::OK, jwks(&keys));
    }

    pub fn answer(&self, status: StatusCode, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub async fn was_asked(&self, times: usize) {
        eventually("the server is asked", async || self.asked() >= times).await;
        assert_eq!(self.asked(), times);
    }

    /// Listens until the guard is dropped.
    pub fn listen(self: &Arc<Self>, listener: TcpListener) -> DropGuard {
        async fn answer(State(server): State<Arc<Server>>) -> (StatusCode, String) {
            server.asked.fetch_add(1, Ordering::SeqCst);
            server.gate.acquire().await.unwrap().forget();
            server.answer.lock().unwrap().clone()
        }
        let app = Router::new()
            .route("/jwks", get(answer))
            .with_state(Arc::clone(self));
        let stop = CancellationToken::new();
        tokio::spawn(crate::server::serve(listener, app, stop.clone(), Duration::ZERO));
        stop.drop_guard()
    }
}

pub async fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    (listener, url)
}

pub async fn eventually(what: &str, happened: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(5), async {
        while !happened().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// What this thread logs.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn start() -> LogGuard {
        let log = Self::default();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer({
            let log = log.clone();
            move || log.clone()
        });
        let guard = tracing::subscriber::set_default(lines.finish());
        LogGuard {
            log,
            _guard: guard,
            _second: tracing::Dispatch::new(tracing_subscriber::registry()),
        }
    }
}

pub struct LogGuard {
    log: Log,
    _guard: tracing::subscriber::DefaultGuard,
    /// With a single one, tracing takes what the thread of another test wants for what all want.
    _second: tracing::Dispatch,
}

impl LogGuard {
    pub fn text(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    pub fn lines(&self, with: &str) -> usize {
        self.text().lines().filter(|line| line.contains(with)).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
