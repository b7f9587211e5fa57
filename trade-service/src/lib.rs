//! trade-service: trade posts over HTTP, kept in PostgreSQL.
//!
//! It knows nothing about chats, and about capture no more than the publication that its migrations
//! create: deleting a post is one `DELETE`, and whoever cares reads the change from the write-ahead
//! log.
//!
//! The way of a request: `http` (who asks, what is valid) → `store` (one statement) → an answer, or
//! a problem from `http::error`. `post`, `status` and `keyword` hold the rules, `database` the way to
//! PostgreSQL. What no request waits for is written by tasks: `views`, and the removal of old keys in
//! `idempotency`.

pub mod config;
mod database;
mod http;
mod idempotency;
pub mod keyword;
mod metrics;
pub mod post;
pub mod status;
mod store;
mod views;

use std::sync::Arc;
use std::time::Duration;

use service_kit::auth::Authenticator;
use service_kit::health::{Health, admin_router};
use service_kit::lifecycle::Tasks;
use service_kit::metrics::{HttpMetrics, Metrics};
use service_kit::server::{Limits, api, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::http::Admission;
use crate::metrics::TradeMetrics;
use crate::store::Store;
use crate::views::Views;

/// How long connections to PostgreSQL may take to close, once no request is open.
const CLOSE: Duration = Duration::from_secs(2);

/// Two bound sockets; bound by the caller, so that a test can take any free port.
#[derive(Debug)]
pub struct Listeners {
    pub public: TcpListener,
    pub admin: TcpListener,
}

/// Serves until `shutdown` is cancelled and everything has ended, or something failed.
///
/// The admin listener answers from the first moment to the last. The public one accepts when the
/// database is migrated.
pub async fn run(config: Config, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let http_metrics = HttpMetrics::new(&metrics);
    let trade_metrics = Arc::new(TradeMetrics::new(&metrics));
    let health = Health::new();
    let postgresql = health.dependency("postgresql");
    let jwks = health.dependency("jwks");

    let mut tasks = Tasks::new();
    let admin_stop = CancellationToken::new();
    // However this function is left, the admin listener ends with it.
    let admin_guard = admin_stop.clone().drop_guard();
    let admin = admin_router(health.clone(), metrics.clone());
    tasks.spawn(
        "admin listener",
        serve(listeners.admin, admin, admin_stop, Duration::from_secs(1)),
    );

    let (authenticator, keys) = Authenticator::load(&config.auth, &metrics, jwks).await?;
    tasks.spawn("keys", keys.run(shutdown.clone()));
    let opened = database::open(&config.database_url, config.database, &postgresql);
    if let Some(pool) = shutdown.run_until_cancelled(opened).await.transpose()? {
        tasks.spawn(
            "readiness",
            database::watch(pool.clone(), postgresql, shutdown.clone()),
        );
        let store = Store::new(pool.clone(), config.database);
        let views = Arc::new(Views::new(store.clone(), Arc::clone(&trade_metrics)));
        tasks.spawn("views", Arc::clone(&views).run(shutdown.clone()));
        let keys = idempotency::sweep(store.clone(), Arc::clone(&trade_metrics), shutdown.clone());
        tasks.spawn("idempotency keys", keys);
        let app = http::App {
            store,
            authenticator: Arc::new(authenticator),
            admission: Admission::new(config.database),
            views: Arc::clone(&views),
            metrics: trade_metrics,
        };
        let cors = config.origins.cors(false);
        let app = api(http::router(app), &http_metrics, Limits::default(), cors);
        info!("serving trade posts on {}", listeners.public.local_addr()?);
        let (public, drain, stop) = (listeners.public, config.drain, shutdown.clone());
        tasks.spawn("public listener", async move {
            let _admin_goes_last = admin_guard;
            let drained = serve(public, app, stop, drain).await;
            views.write_last().await;
            pool.close().await;
            drained
        });
        let draining = shutdown.clone();
        tasks.spawn("draining", async move {
            draining.cancelled().await;
            health.draining();
            anyhow::Ok(())
        });
    } else {
        drop(admin_guard);
    }
    Ok(tasks.run_until(shutdown, config.drain + CLOSE).await?)
}

/// The OpenAPI document of the public API, as it is served.
pub fn openapi() -> String {
    service_kit::openapi::text(&http::document())
}
