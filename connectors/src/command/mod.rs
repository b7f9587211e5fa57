//! One file per command: its options, and what it does.

pub(crate) mod apply;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod lifecycle;
pub(crate) mod offsets;
pub(crate) mod reconcile;
pub(crate) mod schemas;
mod servers;
pub(crate) mod status;
pub(crate) mod watch;

use std::time::Duration;

use connectors::{ConnectApi, ConnectError, Patience, lifecycle::Order};

use crate::{
    cli::{Cli, Command},
    failure::Failure,
};

pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let api = cli.worker.api()?;
    match cli.command {
        Command::Apply(options) => apply::run(&api, &options).await,
        Command::Status(options) => status::run(&api, options).await,
        Command::Doctor(options) => doctor::run(&api, options).await,
        Command::Schemas(options) => schemas::run(options).await,
        Command::Restart(options) => lifecycle::restart(&api, &options).await,
        Command::Pause(options) => lifecycle::order(&api, &options, Order::Pause).await,
        Command::Stop(options) => lifecycle::order(&api, &options, Order::Stop).await,
        Command::Resume(options) => lifecycle::order(&api, &options, Order::Resume).await,
        Command::Offsets(offsets::Offsets::Get(options)) => offsets::get(&api, &options).await,
        Command::Offsets(offsets::Offsets::Reset(options)) => offsets::reset(&api, &options).await,
        Command::Delete(options) => delete::run(&api, options).await,
        Command::Reconcile(options) => reconcile::run(&api, options).await,
        Command::Watch(options) => watch::run(api, options).await,
    }
}

/// Bounds a request by the time that the command's `--timeout` gives; waits for a rebalance within it.
async fn within<T, F>(api: &ConnectApi, timeout: Duration, request: impl Fn() -> F) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    Patience::new(timeout).ask(api.url(), request).await
}
