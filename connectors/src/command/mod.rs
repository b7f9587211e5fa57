//! One file per command: its options, and what it does.

pub(crate) mod apply;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod schemas;
mod servers;
pub(crate) mod status;

use std::time::Duration;

use connectors::{ConnectApi, ConnectError};

use crate::{
    cli::{Cli, Command},
    failure::Failure,
};

pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let api = ConnectApi::new(&cli.connect_url)?;
    match cli.command {
        Command::Apply(options) => apply::run(&api, options).await,
        Command::Status(options) => status::run(&api, options).await,
        Command::Doctor(options) => doctor::run(&api, options).await,
        Command::Schemas(options) => schemas::run(options).await,
        Command::Delete(options) => delete::run(&api, options).await,
    }
}

/// Bounds a request by the time that the command's `--timeout` gives.
async fn within<T>(
    api: &ConnectApi,
    timeout: Duration,
    request: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(timeout, request).await.unwrap_or_else(|_| {
        Err(ConnectError::NoAnswer {
            url: api.url().to_owned(),
            waited: timeout,
        })
    })
}
