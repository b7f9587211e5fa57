//! Keys that change at a real HTTP server or in a file while tokens are checked.

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::issuer::{Log, Server, bound, eventually};
use super::*;

const KEYS_UNREAD: &str = "503 Temporarily unavailable: The keys that tokens are checked with cannot be read at \
                           the moment. Try again later.";

/// A service that checks tokens, with its keys kept up to date.
struct Service {
    authenticator: Arc<Authenticator>,
    health: Health,
    metrics: Metrics,
    _stop: DropGuard,
}

impl Service {
    async fn start(jwks: &str) -> Self {
        let (health, metrics) = (Health::new(), Metrics::new());
        let (authenticator, keys) = Authenticator::load(&config(jwks), &metrics, health.dependency("jwks"))
            .await
            .unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(keys.run(stop.clone()));
        Self {
            authenticator: Arc::new(authenticator),
            health,
            metrics,
            _stop: stop.drop_guard(),
        }
    }

    async fn takes(&self, issuer: &Issuer) -> bool {
        self.authenticator.verify(&issuer.token()).await.is_ok()
    }
}

/// Moves the clock of timers; what is sent and received goes on in real time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

const PAUSE: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_mins(5);
const ALMOST: Duration = Duration::from_secs(299);

/// An issuer that listens as long as its guard lives, with these keys, and a service that has read them.
async fn served(keys: &[&Issuer]) -> (Arc<Server>, DropGuard, Service) {
    let server = Server::new(keys);
    let (listener, url) = bound().await;
    let listening = server.listen(listener);
    (server, listening, Service::start(&url).await)
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let (server, _listening, service) = served(&[&old]).await;
    assert!(service.takes(&old).await);

    server.publish(&[&old, &new]);
    assert!(!service.takes(&new).await, "the keys were read just now");
    assert_eq!(server.asked(), 1);
    pass(PAUSE).await;
    assert!(service.takes(&old).await);
    assert_eq!(server.asked(), 1, "a known key needs no fetch");
    assert!(service.takes(&new).await);
    assert!(service.takes(&old).await);
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn any_number_of_unknown_keys_cause_one_fetch() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let (server, _listening, service) = served(&[&old]).await;
    server.publish(&[&old, &new]);
    pass(PAUSE).await;

    server.gate.forget_permits(Semaphore::MAX_PERMITS);
    let unknown: Vec<Issuer> = (0..50).map(|i| Issuer::new(&format!("unknown {i}"))).collect();
    let tokens = (0..50)
        .map(|_| new.token())
        .chain(unknown.iter().map(Issuer::token));
    let asking: Vec<_> = tokens
        .map(|token| {
            let authenticator = Arc::clone(&service.authenticator);
            tokio::spawn(async move { authenticator.verify(&token).await.is_ok() })
        })
        .collect();
    server.was_asked(2).await;
    // While the issuer is slow, whose key is known does not wait for it.
    assert!(service.takes(&old).await);
    assert!(asking.iter().all(|asking| !asking.is_finished()));
    server.gate.add_permits(1);
    let taken: Vec<bool> = join_all(asking).await.into_iter().map(Result::unwrap).collect();
    assert!(taken[..50].iter().all(|taken| *taken), "{taken:?}");
    assert!(taken[50..].iter().all(|taken| !taken), "{taken:?}");

    for issuer in &unknown {
        assert!(!service.takes(issuer).await);
    }
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_fetch_does_not_depend_on_the_request_that_caused_it() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let (server, _listening, service) = served(&[&old]).await;
    server.publish(&[&new]);
    pass(PAUSE).await;

    server.gate.forget_permits(Semaphore::MAX_PERMITS);
    let (authenticator, token) = (Arc::clone(&service.authenticator), new.token());
    let gone = tokio::spawn(async move { authenticator.verify(&token).await.is_ok() });
    server.was_asked(2).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    server.gate.add_permits(1);
    eventually("the new key is known", async || service.takes(&new).await).await;
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_waited_for_a_moment() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let (server, _listening, service) = served(&[&old]).await;
    server.publish(&[&old, &new]);
    pass(PAUSE).await;

    server.gate.forget_permits(Semaphore::MAX_PERMITS);
    let (authenticator, token) = (Arc::clone(&service.authenticator), new.token());
    let refused = tokio::spawn(async move { authenticator.refusal(&token).await });
    server.was_asked(2).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(refused.await.unwrap(), KEYS_UNREAD);
    // The fetch goes on.
    server.gate.add_permits(1);
    eventually("the new key is known", async || service.takes(&new).await).await;
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_key_that_was_taken_back_stops_working_with_the_next_fetch() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let (server, _listening, service) = served(&[&old, &new]).await;
    server.publish(&[&new]);
    pass(ALMOST).await;
    assert!(service.takes(&old).await);
    assert_eq!(server.asked(), 1);
    pass(REFRESH.saturating_sub(ALMOST)).await;
    eventually("the old key is refused", async || !service.takes(&old).await).await;
    assert!(service.takes(&new).await);

    // An issuer that takes all of them back is believed, too.
    server.publish(&[]);
    pass(REFRESH).await;
    eventually("the last key is refused", async || !service.takes(&new).await).await;
}

#[tokio::test]
async fn a_fetch_that_fails_leaves_the_keys_as_they_are_and_is_logged() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let server = Server::new(&[&old]);
    let (listener, url) = bound().await;
    let _server = server.listen(listener);
    let service = Service::start(&url).await;
    let log = Log::start();
    for (failures, (status, body)) in [
        (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        (StatusCode::NOT_FOUND, jwks(&[])),
        (StatusCode::OK, "<html>Sign in</html>".to_owned()),
        (StatusCode::OK, r#"{"keys": [{"kid""#.to_owned()),
        (StatusCode::OK, " ".repeat(2 * 1024 * 1024)),
    ]
    .into_iter()
    .enumerate()
    {
        server.answer(status, body);
        // The first comes with the clock, the others because of the token.
        pass(if failures == 0 { REFRESH } else { PAUSE }).await;
        server.was_asked(failures + 2).await;
        eventually("the failure is logged", async || {
            log.lines("stay in use") == failures + 1
        })
        .await;
        assert!(service.takes(&old).await);
        assert_eq!(service.authenticator.refusal(&new.token()).await, KEYS_UNREAD);
        assert!(service.health.is_ready());
    }
    assert!(log.text().contains(&url), "{}", log.text());

    server.publish(&[&new]);
    pass(PAUSE).await;
    eventually("the new key is known", async || service.takes(&new).await).await;
    assert!(!service.takes(&old).await);
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let issuer = Issuer::new("k1");
    let server = Server::new(&[&issuer]);
    let (listener, url) = bound().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let service = Service::start(&url).await;
    assert!(!service.health.is_ready());
    assert_eq!(service.authenticator.refusal(&issuer.token()).await, KEYS_UNREAD);

    let _server = server.listen(TcpListener::bind(address).await.unwrap());
    pass(PAUSE).await;
    eventually("the key is known", async || service.takes(&issuer).await).await;
    assert!(service.health.is_ready());
    let metrics = service.metrics.encode().unwrap();
    let prefix = format!("{JWT_KEYS_READ_TIMESTAMP_SECONDS} ");
    let read_at = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap();
    let age = clock::now().timestamp() - read_at.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
}

#[tokio::test]
async fn an_address_that_has_no_keys_is_an_error_at_the_start() {
    let server = Server::new(&[]);
    let (listener, url) = bound().await;
    let _server = server.listen(listener);
    assert!(matches!(
        load(&config(&url)).await,
        Err(AuthError::NoUsableKey { .. })
    ));
    server.answer(StatusCode::NOT_FOUND, "");
    assert!(matches!(load(&config(&url)).await, Err(AuthError::Fetch { .. })));
    server.answer(StatusCode::OK, "<html>");
    assert!(matches!(load(&config(&url)).await, Err(AuthError::Parse { .. })));
    let error = load(&config("/nowhere/jwks.json")).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/jwks.json"), "{error}");
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changed() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(&[&old.jwk])).unwrap();
    let service = Service::start(file.to_str().unwrap()).await;

    std::fs::write(&file, jwks(&[&old.jwk, &new.jwk])).unwrap();
    pass(Duration::from_secs(1)).await;
    assert!(service.takes(&new).await, "a token names the new key");

    // Half of a file that somebody is writing is no key set.
    std::fs::write(&file, &jwks(&[&new.jwk])[..40]).unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(
        service.authenticator.refusal(&Issuer::new("other").token()).await,
        KEYS_UNREAD
    );
    assert!(service.takes(&old).await);

    std::fs::write(&file, jwks(&[&new.jwk])).unwrap();
    pass(Duration::from_secs(5)).await;
    eventually("the old key is refused", async || !service.takes(&old).await).await;
    assert!(service.takes(&new).await);
}
