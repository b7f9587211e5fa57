//! `connectors offsets`: how far a connector has got, and forgetting it.

use std::time::Duration;

use anstream::println;
use clap::{Args, Subcommand};
use connectors::{
    Config, ConnectApi, ConnectError,
    offsets::{self, Position},
};

use crate::{
    ask::confirm, cli::seconds, command::within, failure::Failure, present::positions, progress::Progress,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Offsets {
    /// Show how far a connector has got
    Get(GetOptions),
    /// Forget how far a connector has got, so that it begins anew as its snapshot.mode says
    ///
    /// The connector is stopped, its offsets are forgotten, and it gets the state back that it had. Deletes
    /// that happened before it captures again are in no snapshot: find them with `connectors reconcile`.
    Reset(ResetOptions),
}

#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    name: String,
    /// Print JSON: Connect's answer, with positions of the write-ahead log as PostgreSQL writes them
    #[arg(long)]
    json: bool,
    /// Seconds to wait for the answer
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ResetOptions {
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Seconds that each step may take
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    timeout: Duration,
}

pub(crate) async fn get(api: &ConnectApi, options: &GetOptions) -> Result<(), Failure> {
    let GetOptions { name, json, timeout } = options;
    let found = ask(api, name, *timeout).await?;
    if *json {
        let found: Vec<_> = found.iter().map(Position::json).collect();
        println!("{:#}", serde_json::json!(found));
    } else {
        show(name, &found);
    }
    Ok(())
}

pub(crate) async fn reset(api: &ConnectApi, options: &ResetOptions) -> Result<(), Failure> {
    let ResetOptions { name, yes, timeout } = options;
    let config = within(api, *timeout, || api.config(name)).await?;
    let config = config.ok_or_else(|| ConnectError::NotFound {
        connector: name.clone(),
    })?;
    show(name, &ask(api, name, *timeout).await?);
    println!("{}", consequence(&config));
    confirm(&format!("Forget how far {name} has got?"), *yes)?;
    let progress = Progress::new(name);
    let done = offsets::reset(api, name, *timeout, |status| progress.show(status)).await;
    drop(progress);
    done?;
    println!("{name}: its offsets are forgotten, and it has the state again that it had");
    Ok(())
}

async fn ask(api: &ConnectApi, name: &str, timeout: Duration) -> Result<Vec<Position>, ConnectError> {
    let found = within(api, timeout, || api.offsets(name)).await?;
    let found = found.ok_or_else(|| ConnectError::NotFound {
        connector: name.to_owned(),
    })?;
    Ok(found.positions)
}

fn show(name: &str, found: &[Position]) {
    if found.is_empty() {
        println!("{name} has no offsets: it has captured nothing yet, or they were forgotten");
    } else {
        println!("{}", positions(found));
    }
}

/// What comes after the offsets are gone.
fn consequence(config: &Config) -> String {
    let mode = config.get("snapshot.mode").map_or("initial", String::as_str);
    let begins = match mode {
        "initial" | "always" | "when_needed" | "initial_only" => {
            format!("It will begin with a snapshot of all rows (snapshot.mode {mode}), then capture changes.")
        }
        "no_data" | "never" => format!(
            "It will take no snapshot of rows (snapshot.mode {mode}) and capture what comes from now on."
        ),
        mode => format!("It will begin as its snapshot.mode {mode} says."),
    };
    format!(
        "{begins}\nRows that were deleted before that are in no snapshot: if their deletes were not captured \
         yet, their chats stay until `connectors reconcile` has found them."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_a_reset_means() {
        let config = |mode: &str| Config::from([("snapshot.mode".to_owned(), mode.to_owned())]);
        assert!(consequence(&Config::new()).contains("snapshot of all rows (snapshot.mode initial)"));
        assert!(consequence(&config("no_data")).contains("no snapshot of rows"));
        assert!(consequence(&config("custom")).contains("snapshot.mode custom"));
        assert!(consequence(&config("no_data")).contains("`connectors reconcile`"));
    }
}
