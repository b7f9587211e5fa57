//! The trade-service command: parse, start logging, bind, run.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use service_kit::{lifecycle, telemetry};
use tokio::net::TcpListener;
use tracing::{error, info};
use trade_service::config::Config;
use trade_service::{Listeners, run};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    telemetry::init(&config.log);
    match start(config).await {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(e) => {
            error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(config: Config) -> anyhow::Result<()> {
    let shutdown = lifecycle::shutdown_on_signal();
    let public = bind(config.listen, "LISTEN").await?;
    let admin = bind(config.admin_listen, "ADMIN_LISTEN").await?;
    run(config, Listeners { public, admin }, shutdown).await
}

async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}; choose another address with {setting}"))
}
