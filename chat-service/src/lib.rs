//! Chats about trade posts.
//!
//! A post's deletion arrives as a captured change (`cdc`), closes the post's rooms and tells their
//! members (`store`, `live`), and is followed by the erasure of the messages (`eraser`). Members
//! talk to `http`. This service only consumes from Kafka and never calls trade-service.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use futures_util::future::join_all;
use secrecy::ExposeSecret;
use service_kit::{
    auth::Authenticator,
    health::{Dependency, Health},
    lifecycle::Tasks,
    metrics::{HttpMetrics, Metrics},
    server::serve,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    cdc::{
        Pipeline,
        breaker::Breaker,
        consumer::Consumer,
        error::Failure,
        registry::{SchemaError, WriterSchemas},
    },
    config::Config,
    eraser::Eraser,
    http::{App, demo::Demo, rate::Rates, session::Sessions},
    live::{feed, hub::Hub, replay::Replay, sweep},
    matcher::Matcher,
    member_eraser::MemberEraser,
    metrics::{ChatMetrics, Freshness, MongoClient},
    reconciler::Reconciler,
    store::Store,
    sweeper::Sweeper,
};

pub mod cdc;
pub mod config;
pub mod eraser;
pub mod http;
pub mod keyword;
pub mod live;
pub mod matcher;
mod member_eraser;
pub mod message;
pub mod metrics;
pub mod notification;
pub mod orphan;
pub mod outbox;
mod readiness;
mod reconciler;
pub mod reconciliation;
pub mod room;
mod stock;
pub mod store;
pub mod sweeper;
pub mod trade_post;
pub mod view;

/// How long open requests may take after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// How long everything may take: less than those ten seconds that orchestrators give at least.
const ENDS_WITHIN: Duration = Duration::from_secs(7);
/// Wait between two tries to prepare MongoDB.
const PREPARE_AGAIN: Duration = Duration::from_secs(2);

/// The sockets the service listens on.
#[derive(Debug)]
pub struct Listeners {
    pub public: TcpListener,
    pub admin: TcpListener,
}

/// Runs the service until `shutdown`.
///
/// # Errors
/// On a configuration that cannot work, and when a part of the service fails for good.
pub async fn run(config: Config, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
    let demo = config.demo.as_deref().map(Demo::load).transpose()?;
    let metrics = Metrics::new();
    let health = Health::new();
    let jwks = health.dependency("jwks");
    let (authenticator, keys) = Authenticator::load(&config.auth, &metrics, jwks).await?;
    let http_metrics = HttpMetrics::new(&metrics);
    let chat_metrics = ChatMetrics::new(&metrics);
    let stores = connect(&config, &chat_metrics).await?;
    let [store, live_store] = stores.clone();

    let (mongodb, kafka, registry) = (
        health.dependency("mongodb"),
        health.dependency("kafka"),
        health.dependency("schema_registry"),
    );
    let hub = Hub::new(config.streams.clone(), chat_metrics.clone());
    let (outbox, postman) = outbox::outbox(store.clone());
    let pipeline = Arc::new(pipeline(&config, store.clone(), chat_metrics.clone())?);
    metrics.register(|registry| {
        registry.register_collector(Box::new(Freshness(Arc::clone(&pipeline.status))));
    });
    let app = Arc::new(App {
        store: store.clone(),
        outbox,
        hub: Arc::clone(&hub),
        replay: Replay::new(live_store.clone()),
        streams: config.streams.clone(),
        rates: Rates::new(&config.rates),
        sessions: Sessions::new(&config),
        pipeline: Arc::clone(&pipeline),
        metrics: chat_metrics.clone(),
    });

    let mut tasks = Tasks::new();
    let admin = http::admin(Arc::clone(&app), health.clone(), metrics, &http_metrics);
    // Answers until everything else has ended.
    let admin_shutdown = CancellationToken::new();
    let admin_server = tokio::spawn(serve(
        listeners.admin,
        admin,
        admin_shutdown.clone(),
        Duration::ZERO,
    ));

    let public = http::public(app, Arc::new(authenticator), &http_metrics, demo);
    let requests_ended = CancellationToken::new();
    let serving = {
        let (shutdown, requests_ended) = (shutdown.clone(), requests_ended.clone());
        async move {
            // Also if serving fails: the outbox would wait for ever.
            let _ended = requests_ended.drop_guard();
            serve(listeners.public, public, shutdown, DRAIN).await
        }
    };
    tasks.spawn("keys", keys.run(shutdown.clone()));
    tasks.spawn("http", serving);
    tasks.spawn("outbox", postman.run(requests_ended));
    tasks.spawn(
        "readiness",
        readiness::watch(
            store.clone(),
            config.schema_registry_url.clone(),
            mongodb,
            registry,
            shutdown.clone(),
        ),
    );
    tasks.spawn(
        "sweep",
        sweep::run(live_store.clone(), Arc::clone(&hub), shutdown.clone()),
    );
    tasks.spawn("feed", feed::run(live_store, Arc::clone(&hub), shutdown.clone()));
    tasks.spawn("stock", stock::watch(Arc::clone(&pipeline), shutdown.clone()));
    spawn_workers(&mut tasks, &config, &pipeline, &shutdown);
    tasks.spawn("schemas", watch_schemas(Arc::clone(&pipeline), shutdown.clone()));
    tasks.spawn("cdc", consume(config, pipeline, kafka, shutdown.clone()));

    let draining = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            health.draining();
            hub.close();
        }
    };
    let (ended, ()) = tokio::join!(
        async {
            let ended = tasks.run_until(shutdown.clone(), ENDS_WITHIN).await;
            shutdown.cancel();
            ended
        },
        draining,
    );
    admin_shutdown.cancel();
    admin_server.await??;
    join_all(stores.iter().map(Store::disconnect)).await;
    Ok(ended?)
}

/// One client for requests and captured changes, and one for live delivery: however many streams come
/// back at once, requests do not wait for their connections.
async fn connect(config: &Config, metrics: &ChatMetrics) -> anyhow::Result<[Store; 2]> {
    let uri = config.mongodb_uri.expose_secret();
    let store = |client| Store::counted(uri, &config.mongodb_database, metrics.checked_out(client));
    Ok([
        store(MongoClient::Requests)
            .await
            .context("MONGODB_URI cannot be used")?,
        store(MongoClient::Live).await?,
    ])
}

fn pipeline(config: &Config, store: Store, metrics: ChatMetrics) -> anyhow::Result<Pipeline> {
    Ok(Pipeline {
        schemas: WriterSchemas::new(&config.schema_registry_url, store.clone())?,
        store,
        erase_after: config.erase_after,
        breaker: Mutex::new(Breaker::new(config.flood.limits())),
        status: Arc::default(),
        metrics,
        closed: Arc::default(),
        to_match: Arc::default(),
        beginnings: Mutex::default(),
    })
}

fn spawn_workers(tasks: &mut Tasks, config: &Config, pipeline: &Arc<Pipeline>, shutdown: &CancellationToken) {
    let eraser = Eraser {
        store: pipeline.store.clone(),
        chunk: config.erase_chunk,
        rate: config.erase_rate,
        closed: Arc::clone(&pipeline.closed),
        metrics: pipeline.metrics.clone(),
    };
    tasks.spawn("eraser", eraser.run(shutdown.clone()));
    let member_eraser = MemberEraser {
        store: pipeline.store.clone(),
        chunk: config.erase_chunk,
        metrics: pipeline.metrics.clone(),
    };
    tasks.spawn("member_eraser", member_eraser.run(shutdown.clone()));
    let matcher = Matcher {
        store: pipeline.store.clone(),
        to_match: Arc::clone(&pipeline.to_match),
        metrics: pipeline.metrics.clone(),
    };
    tasks.spawn("matcher", matcher.run(shutdown.clone()));
    let sweeper = Sweeper {
        pipeline: Arc::clone(pipeline),
        config: config.sweeps,
    };
    tasks.spawn("sweeper", sweeper.run(shutdown.clone()));
    let reconciler = Reconciler {
        pipeline: Arc::clone(pipeline),
        kafka: config.kafka.clone(),
    };
    tasks.spawn("reconciler", reconciler.run(shutdown.clone()));
}

async fn watch_schemas(pipeline: Arc<Pipeline>, shutdown: CancellationToken) -> Result<(), SchemaError> {
    pipeline.schemas.watch(shutdown).await
}

/// Consumes once MongoDB is prepared: without its unique indexes nothing may be written.
async fn consume(
    config: Config,
    pipeline: Arc<Pipeline>,
    kafka: Dependency,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    if !prepare(&pipeline.store, &config, &shutdown).await {
        return Ok(());
    }
    let status = Arc::clone(&pipeline.status);
    let consumer = Consumer::subscribe(&config.kafka, kafka, status, pipeline.metrics.clone())?;
    cdc::run(consumer, pipeline, shutdown).await
}

/// Creates the indexes, waiting for MongoDB as long as it takes. Answers whether it was done before
/// the shutdown.
async fn prepare(store: &Store, config: &Config, shutdown: &CancellationToken) -> bool {
    loop {
        match store
            .create_indexes(config.fence_ttl, config.notification_ttl)
            .await
        {
            Ok(()) => {
                info!("collections are ready");
                return true;
            }
            Err(error) => warn!(%error, "MongoDB is not ready, waiting for it"),
        }
        if shutdown
            .run_until_cancelled(tokio::time::sleep(PREPARE_AGAIN))
            .await
            .is_none()
        {
            return false;
        }
    }
}

/// The OpenAPI document of the public API, as it is served.
pub fn openapi() -> String {
    service_kit::openapi::text(&http::document::public())
}

/// The same of the operators' API.
pub fn operators_openapi() -> String {
    service_kit::openapi::text(&http::document::operators())
}
