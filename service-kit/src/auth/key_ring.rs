//! The keys that tokens are checked with, and how they follow their issuer without a restart.
//!
//! One task reads the key set: again and again, and when a token names a key that is not known.
//! Invariants: a set that was read replaces the one before as a whole, so a key that its issuer took
//! back is gone with the next reading; a set that cannot be read changes nothing; there is one reading
//! at a time, and however many tokens name unknown keys, there is a pause between two.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keys::{Key, Keys, parse};
use super::{AuthConfig, AuthError};
use crate::clock;
use crate::health::Dependency;
use crate::metrics::Metrics;

/// Gauge: when the keys were last read.
pub const JWT_KEYS_READ_TIMESTAMP_SECONDS: &str = "jwt_keys_read_timestamp_seconds";

/// How long the fetch of a key set by URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest key set in bytes that is fetched.
const MAX_SET: usize = 1024 * 1024;
/// A file is read this often; nobody else has to be asked for it.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// Least time between two readings of a file.
const FILE_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two fetches from a URL.
const URL_PAUSE: Duration = Duration::from_secs(10);

/// How long a request waits for a key that is not known. The reading goes on without it.
const WAIT: Duration = Duration::from_secs(1);

/// What the last reading left.
#[derive(Debug)]
struct Ring {
    keys: Keys,
    read_at: Instant,
    /// Why the last reading failed.
    failed: bool,
}

/// The keys as they are now.
#[derive(Debug)]
pub(super) struct KeyRing {
    ring: watch::Receiver<Ring>,
    wanted: Arc<Notify>,
    pause: Duration,
}

/// Why there is no key of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has none.
    Unknown,
    /// The issuer may have one: its keys could not be read. Ask again after this time.
    Unread(Duration),
}

impl KeyRing {
    /// The key of that name. One that is not known makes the keys be read anew, unless they just were, and is waited
    /// for a moment.
    pub async fn key(&self, kid: &str) -> Result<Arc<Key>, NoKey> {
        if let Some(key) = self.ring.borrow().keys.get(kid) {
            return Ok(Arc::clone(key));
        }
        let mut ring = self.ring.clone();
        if ring.borrow_and_update().read_at.elapsed() >= self.pause {
            self.wanted.notify_one();
            // An error of the ring is the end of the service.
            if timeout(WAIT, ring.changed()).await.is_err() {
                return Err(NoKey::Unread(WAIT));
            }
        }
        let ring = ring.borrow();
        match ring.keys.get(kid) {
            Some(key) => Ok(Arc::clone(key)),
            None if ring.failed => Err(NoKey::Unread(self.pause)),
            None => Err(NoKey::Unknown),
        }
    }
}

/// Keeps the keys of an [`Authenticator`](super::Authenticator) up to date while it runs.
#[derive(Debug)]
#[must_use = "without it keys do not rotate"]
pub struct KeyWatch {
    config: AuthConfig,
    source: Source,
    every: Duration,
    pause: Duration,
    ring: watch::Sender<Ring>,
    wanted: Arc<Notify>,
    read_at: Gauge<u64, AtomicU64>,
    dependency: Dependency,
}

/// Reads the keys a first time. A server that is away is waited for; anything else that is wrong
/// is an error.
pub(super) async fn open(
    config: &AuthConfig,
    metrics: &Metrics,
    dependency: Dependency,
) -> Result<(KeyRing, KeyWatch), AuthError> {
    let source = Source::of(&config.jwt_jwks)?;
    let (every, pause) = match source {
        Source::File(_) => (FILE_EVERY, FILE_PAUSE),
        Source::Url(..) => (config.jwt_refresh, URL_PAUSE),
    };
    let (ring, receiver) = watch::channel(Ring {
        keys: Keys::new(),
        read_at: Instant::now(),
        failed: true,
    });
    let read_at = Gauge::default();
    metrics.register(|registry| {
        registry.register(
            JWT_KEYS_READ_TIMESTAMP_SECONDS,
            "When the keys that tokens are checked with were last read, in seconds since 1970",
            read_at.clone(),
        );
    });
    let watch = KeyWatch {
        config: config.clone(),
        source,
        every,
        pause,
        ring,
        wanted: Arc::default(),
        read_at,
        dependency,
    };
    match watch.fetch().await {
        Ok(keys) if keys.is_empty() => {
            return Err(AuthError::NoUsableKey {
                origin: config.jwt_jwks.clone(),
                algorithms: config.jwt_algorithms.clone(),
            });
        }
        Ok(keys) => watch.replace(keys),
        Err(error) if error.is_transient() => watch.keep(&error),
        Err(error) => return Err(error),
    }
    let keys = KeyRing {
        ring: receiver,
        wanted: Arc::clone(&watch.wanted),
        pause,
    };
    Ok((keys, watch))
}

impl KeyWatch {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        shutdown.run_until_cancelled(self.follow()).await;
        Ok(())
    }

    async fn follow(&self) {
        loop {
            let (read_at, failed) = {
                let ring = self.ring.borrow();
                (ring.read_at, ring.failed)
            };
            let due = read_at + if failed { self.pause } else { self.every };
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.wanted.notified() => {
                    // Wanted while the last reading was under way: whoever asked has its outcome.
                    if read_at.elapsed() < self.pause {
                        continue;
                    }
                }
            }
            match self.fetch().await {
                Ok(keys) => self.replace(keys),
                Err(error) => self.keep(&error),
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, AuthError> {
        let json = self.source.read().await?;
        parse(&json, &self.config).map_err(|source| AuthError::Parse {
            origin: self.config.jwt_jwks.clone(),
            source,
        })
    }

    fn replace(&self, keys: Keys) {
        let origin = &self.config.jwt_jwks;
        let changed = {
            let known = &self.ring.borrow().keys;
            known.len() != keys.len() || keys.keys().any(|kid| !known.contains_key(kid))
        };
        if keys.is_empty() {
            warn!("{origin} has no usable key any more: every token is refused");
        } else if changed {
            let mut kids: Vec<&str> = keys.keys().map(String::as_str).collect();
            kids.sort_unstable();
            info!(
                jwt.kids = ?kids,
                "tokens of {} are checked with the keys of {origin}", self.config.jwt_issuer
            );
        }
        self.read_at.set(clock::now().timestamp().unsigned_abs());
        self.dependency.up();
        self.ring.send_replace(Ring {
            keys,
            read_at: Instant::now(),
            failed: false,
        });
    }

    /// The keys stay as they are: those who hold them prove as much as before.
    fn keep(&self, error: &AuthError) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        warn!(cause, "{error}; the keys read before stay in use");
        if self.ring.borrow().keys.is_empty() {
            self.dependency.down(error.to_string());
        }
        self.ring.send_modify(|ring| {
            ring.read_at = Instant::now();
            ring.failed = true;
        });
    }
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(String, reqwest::Client),
}

impl Source {
    fn of(origin: &str) -> Result<Self, AuthError> {
        let https = origin.starts_with("https://");
        if !https && !origin.starts_with("http://") {
            return Ok(Self::File(PathBuf::from(origin)));
        }
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // Also where the server redirects to.
            .https_only(https)
            .build();
        client
            .map(|client| Self::Url(origin.to_owned(), client))
            .map_err(|source| AuthError::Fetch {
                url: origin.to_owned(),
                source,
            })
    }

    async fn read(&self) -> Result<Vec<u8>, AuthError> {
        match self {
            Self::File(path) => tokio::fs::read(path).await.map_err(|source| AuthError::File {
                path: path.clone(),
                source,
            }),
            Self::Url(url, client) => {
                let failed = |source| AuthError::Fetch {
                    url: url.clone(),
                    source,
                };
                let answer = client.get(url).send().await;
                let mut answer = answer
                    .and_then(reqwest::Response::error_for_status)
                    .map_err(failed)?;
                let mut json = Vec::new();
                while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                    json.extend_from_slice(&chunk);
                    if json.len() > MAX_SET {
                        return Err(AuthError::TooLarge {
                            url: url.clone(),
                            limit: MAX_SET,
                        });
                    }
                }
                Ok(json)
            }
        }
    }
}
