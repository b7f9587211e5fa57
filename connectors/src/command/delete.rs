//! `connectors delete`: a connector goes; what it leaves behind in PostgreSQL is named.

use std::time::Duration;

use clap::Args;
use connectors::{ConnectApi, ConnectError};

use crate::{ask::confirm, cli::seconds, command::within, failure::Failure, present::left_behind};

#[derive(Debug, Args)]
pub(crate) struct Options {
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Seconds to wait for each answer
    #[arg(long, default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

pub(crate) async fn run(api: &ConnectApi, options: Options) -> Result<(), Failure> {
    let Options { name, yes, timeout } = options;
    let not_found = || ConnectError::NotFound {
        connector: name.clone(),
    };
    let config = within(api, timeout, api.config(&name))
        .await?
        .ok_or_else(not_found)?;
    if !yes {
        confirm(&format!(
            "Delete connector {name}? Changes are not captured until it is applied again."
        ))?;
    }
    if !within(api, timeout, api.delete(&name)).await? {
        return Err(not_found().into());
    }
    println!("{name}: deleted");
    print!("{}", left_behind(&config));
    Ok(())
}
