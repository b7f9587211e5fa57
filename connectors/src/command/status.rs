//! `connectors status`

use std::time::Duration;

use clap::Args;
use connectors::{
    ConnectApi, ConnectError,
    status::{Standing, Status},
};

use crate::{cli::seconds, command::within, failure::Failure, present::table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connectors; all if none is named
    names: Vec<String>,
    /// Print JSON, with whole stack traces
    #[arg(long)]
    json: bool,
    /// Seconds to wait for the answer
    #[arg(long, default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

pub(crate) async fn run(api: &ConnectApi, options: Options) -> Result<(), Failure> {
    let Options { names, json, timeout } = options;
    let mut statuses = within(api, timeout, || api.statuses()).await?;
    if let Some(missing) = names
        .iter()
        .find(|name| statuses.iter().all(|status| status.name != **name))
    {
        let connector = missing.clone();
        return Err(ConnectError::NotFound { connector }.into());
    }
    statuses.retain(|status| names.is_empty() || names.contains(&status.name));
    if json {
        println!("{:#}", serde_json::json!(statuses));
    } else if statuses.is_empty() {
        println!("Kafka Connect has no connectors; `connectors apply` creates them");
    } else {
        println!("{}", table(&statuses));
    }
    let running = |status: &Status| Standing::of(status) == Standing::Running;
    if statuses.is_empty() || !statuses.iter().all(running) {
        return Err(Failure::NotRunning);
    }
    Ok(())
}
