//! `connectors watch`: the only command that does not end by itself, so it logs instead of printing.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use connectors::{
    ConnectApi, database,
    watch::{self, Watch, supervision::Pace},
};
use service_kit::{
    duration,
    lifecycle::shutdown_on_signal,
    telemetry::{self, LogConfig},
};
use tokio::net::TcpListener;
use tracing::info;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connectors; all that there are if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Address of /livez, /readyz and /metrics; keep it private
    #[arg(
        long,
        env = "ADMIN_LISTEN",
        default_value = "127.0.0.1:8085",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// How often to look
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = some_time)]
    interval: Duration,
    /// The minute of the pauses; make it shorter to try them
    #[arg(long, default_value = "1m", value_name = "DURATION", value_parser = some_time)]
    backoff_unit: Duration,
    /// A restart is up to so much later, at random, so that another supervisor sees it and does not
    /// restart the same failure
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration::parse)]
    jitter: Duration,
    /// The captured database, as a user who may read `debezium_heartbeat`: /metrics then tells of slots and
    /// heartbeats, too
    #[arg(long, env = "TRADE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    #[command(flatten)]
    log: LogConfig,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("give more than nothing".to_owned()),
        time => Ok(time),
    }
}

pub(crate) async fn run(api: ConnectApi, options: Options) -> Result<(), Failure> {
    if let Some(url) = &options.database_url {
        database::options(url)?;
    }
    telemetry::init(&options.log);
    let shutdown = shutdown_on_signal();
    let cannot_listen = |error| Failure::CannotListen(options.listen, error);
    let listener = TcpListener::bind(options.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    // Credentials that are refused now will not be taken later; a worker that is away can come back.
    if let Err(error) = api.statuses().await
        && !error.is_transient()
    {
        return Err(error.into());
    }
    info!(
        "watching {} every {:?}, metrics on {address}",
        api.url(),
        options.interval
    );
    let watch = Watch {
        names: options.names,
        interval: options.interval,
        pace: Pace {
            minute: options.backoff_unit,
            jitter: options.jitter,
        },
        lot: || rand::random_range(0.0..=1.0),
        database_url: options.database_url,
    };
    watch::run(api, watch, listener, shutdown).await?;
    info!("stopped");
    Ok(())
}
