//! `connectors delete`: a connector goes; what it leaves behind in PostgreSQL is named.

use std::time::Duration;

use anstream::println;
use clap::Args;
use connectors::{Config, ConnectApi, ConnectError};

use crate::{
    ask::confirm,
    cli::seconds,
    command::within,
    failure::Failure,
    present::{left_behind, slot_and_publication},
};

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
    let config = within(api, timeout, || api.config(&name))
        .await?
        .ok_or_else(not_found)?;
    confirm(&question(&name, &config), yes)?;
    if !within(api, timeout, || api.delete(&name)).await? {
        return Err(not_found().into());
    }
    println!("{name}: deleted");
    println!("{}", left_behind(&config).trim_end());
    Ok(())
}

/// Names what stays behind, because that is what has to be thought of.
fn question(name: &str, config: &Config) -> String {
    let stays = match slot_and_publication(config) {
        Some((slot, publication)) => {
            format!(" The slot {slot} and the publication {publication} stay in PostgreSQL.")
        }
        None => String::new(),
    };
    format!("Delete connector {name}? Changes are not captured until it is applied again.{stays}")
}
