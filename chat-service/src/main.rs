//! The chat-service binary: configuration, logging, sockets, and nothing else.

use anyhow::Context;
use chat_service::{Listeners, config::Config, run};
use clap::Parser;
use service_kit::{lifecycle::shutdown_on_signal, telemetry};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    telemetry::init(&config.log);
    let bind = async |address| {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))
    };
    let listeners = Listeners {
        public: bind(config.listen).await?,
        admin: bind(config.admin_listen).await?,
    };
    run(config, listeners, shutdown_on_signal()).await
}
