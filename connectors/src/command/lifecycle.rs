//! `connectors restart`, `pause`, `stop` and `resume`

use std::{collections::BTreeSet, time::Duration};

use anstream::println;
use clap::Args;
use connectors::{
    ConnectApi, ConnectError,
    lifecycle::{self, Order, Restart},
};

use crate::{
    cli::seconds,
    command::within,
    failure::{Failure, Failures},
    progress::Progress,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connectors
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Seconds that one connector may take to be in the state that was asked for
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RestartOptions {
    /// Restart only what has failed: the connector itself, or those of its tasks
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    common: Options,
}

pub(crate) async fn restart(api: &ConnectApi, options: &RestartOptions) -> Result<(), Failure> {
    each(api, &options.common, async |name, timeout, progress| {
        let restarted =
            lifecycle::restart(api, name, options.failed, timeout, |status| progress.show(status)).await;
        Ok(match restarted? {
            Restart::Done => "restarted, RUNNING".to_owned(),
            Restart::NothingFailed(status) => format!("nothing has failed ({status})"),
        })
    })
    .await
}

pub(crate) async fn order(api: &ConnectApi, options: &Options, order: Order) -> Result<(), Failure> {
    each(api, options, async |name, timeout, progress| {
        lifecycle::order(api, name, order, timeout, |status| progress.show(status)).await?;
        Ok(match order {
            Order::Pause => "PAUSED; PostgreSQL keeps its log for the slot meanwhile".to_owned(),
            Order::Stop => "STOPPED; PostgreSQL keeps its log for the slot meanwhile".to_owned(),
            Order::Resume => "resumed, RUNNING".to_owned(),
        })
    })
    .await
}

/// Does it to each connector, if all of them exist.
async fn each(
    api: &ConnectApi,
    options: &Options,
    act: impl AsyncFn(&str, Duration, &Progress) -> Result<String, ConnectError>,
) -> Result<(), Failure> {
    let existing = within(api, options.timeout, || api.statuses()).await?;
    let existing: BTreeSet<String> = existing.into_iter().map(|status| status.name).collect();
    if let Some(missing) = options.names.iter().find(|name| !existing.contains(*name)) {
        let connector = missing.clone();
        return Err(ConnectError::NotFound { connector }.into());
    }
    let mut failures = Failures::default();
    for name in &options.names {
        let progress = Progress::new(name);
        let done = act(name, options.timeout, &progress).await;
        drop(progress);
        match done {
            Ok(done) => println!("{name}: {done}"),
            Err(error) => failures.add(error.into())?,
        }
    }
    failures.end()
}
